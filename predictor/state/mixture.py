"""Kernels of the online correction: a mixture of experts, shifted by the scores of ended jobs.

`OnlineCorrection` is their face and says what they compute.
"""

from __future__ import annotations

import numpy as np

from plancast.predictor.jit import inner, kernel
from plancast.predictor.sorted_window import insert
from plancast.predictor.state.learned import (
    MIN_COHORT,
    SENIORITIES,
    Asked,
    Floats,
    Ints,
    Issued,
    Settings,
    State,
)
from plancast.predictor.state.repeats import (
    IDLE,
    TAKEN,
    costly,
    learn_cost,
    learn_gain,
    part_of_way,
    repeats,
    within,
)

EQUAL = 1e-9
"""Log run times that lie no further apart are one value: a logarithm and its inverse round."""


@inner
def _ranked(ordered: Floats, kept: int, level: float) -> float:
    """The score of rank (kept + 1) level, linear between ranks."""
    position = min(max(level * (kept + 1) - 1.0, 0.0), kept - 1.0)
    low = int(position)
    high = min(low + 1, kept - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


@inner
def _weighted_median(values: Floats, weights: Floats, total: float) -> float:
    """The smallest value below or at which half of the weight lies."""
    order = np.argsort(values)
    passed = 0.0
    for place in order:
        passed += weights[place]
        if passed >= 0.5 * total:
            return values[place]
    return values[order[-1]]


@inner
def _seniority(state: State, owner: int) -> int:
    """By how many of the owner's jobs had ended, in classes."""
    ended = state.owner_ended[owner] if owner >= 0 else 0
    senior = 0
    for bound in SENIORITIES:
        if ended >= bound:
            senior += 1
    return senior


@inner
def _pull_window(state: State, settings: Settings) -> float:
    """Over how many jobs the excess of misses is a mean."""
    return max(min(state.ended[-1] + 1.0, settings.pull_memory), 1000.0)


@inner
def _blend(
    state: State, settings: Settings, levels: Floats, asked: Asked, i: int, mixed: Floats
) -> None:
    """Fill in the mixture of the experts' quantiles."""
    size, experts = levels.shape[0], asked.logs.shape[1]
    owner, cohort = asked.owner[i], asked.cohort[i]
    own = 0.0
    if owner >= 0:
        own = min(float(state.owner_ended[owner]), settings.owner_memory)
    own = own / (own + settings.owner_prior)
    loss, weight = np.empty(experts), np.empty(experts)
    middle = int(np.argmin(np.abs(levels - 0.5)))
    for k in range(size):
        for e in range(experts):
            loss[e] = (1.0 - own) * state.loss[cohort, k, e]
            if own > 0.0:
                loss[e] += own * state.owner_loss[owner, k, e]
        best = loss.min()
        total, value = 0.0, 0.0
        for e in range(experts):
            excess = (loss[e] - best) / max(best, 1e-9)
            weight[e] = np.exp(-settings.sharpness * excess)
            total += weight[e]
            value += weight[e] * asked.logs[i, e, k]
        mixed[k] = value / total
        if k == middle:
            mixed[k] = _weighted_median(asked.logs[i, :, k], weight, total)
        if k > 0:
            mixed[k] = max(mixed[k], mixed[k - 1])


@inner
def _doubt(state: State, settings: Settings, k: int) -> float:
    """How far level k is left uncalibrated, from 0 to 1."""
    cost = 1.0 - state.plain_loss[0, k] / max(state.plain_loss[1, k], 1e-9)
    return part_of_way(cost, settings.doubt_from, settings.doubt_to)


@kernel
def issue(
    state: State, settings: Settings, levels: Floats, asked: Asked, issued: Issued, i: int
) -> None:
    """Forecast job `i`."""
    size = levels.shape[0]
    owner, cohort = asked.owner[i], asked.cohort[i]
    corrected, mixed = issued.corrected[i], issued.mixed[i]
    middle = int(np.argmin(np.abs(levels - 0.5)))
    high = int(np.argmin(np.abs(levels - 0.9)))
    _blend(state, settings, levels, asked, i, mixed)
    spread = mixed[high] - mixed[middle]
    spread = min(max(spread, settings.spread_from), settings.spread_to)
    senior = _seniority(state, owner)
    everyone = state.ended.shape[0] - 1
    # How far a forecast may rise: a little, and as far as everybody's median has risen.
    highest = settings.raise_to
    if state.ended[everyone] > 0:
        kept = min(state.ended[everyone], state.ring.shape[2])
        risen = spread * _ranked(state.ordered[everyone, middle], kept, 0.5)
        highest += max(risen, 0.0)
    group = cohort if state.ended[cohort] >= MIN_COHORT else everyone
    seen = state.ended[group]
    kept = min(seen, state.ring.shape[2])
    # While many jobs run the excess tells of old forecasts: leaning harder than in proportion
    # would swing.
    pending = settings.pull * np.sum(state.pending) / _pull_window(state, settings)
    strength = settings.pull / (1.0 + pending)
    promised = 0
    for k in range(size):
        p = levels[k]
        if (seen + 1) * p > seen:
            corrected[k] = np.inf
        else:
            promised = k + 1
            lift = state.lift[cohort, k]
            if owner >= 0:
                lift += state.owner_lift[owner, k]
            lift += state.senior_lift[senior, k]
            pull = strength * state.excess[k]
            lift += min(max(pull, -settings.pull_reach), settings.pull_reach)
            level = min(max(p + lift, max(p - settings.slack, 0.5 * p)), p + 0.75 * (1.0 - p))
            shift = _ranked(state.ordered[group, k], kept, level)
            shift = min(max(shift, -6.0 / spread), highest / spread)
            shifted = min(mixed[k] + spread * shift, state.longest[0])
            issued.shifted[i, k] = shifted
            corrected[k] = shifted + _doubt(state, settings, k) * (mixed[k] - shifted)
        corrected[k] = min(max(corrected[k], 0.0), asked.limit[i])
    for k in range(1, size):
        corrected[k] = max(corrected[k], corrected[k - 1])
    issued.spread[i], issued.promised[i], issued.senior[i] = spread, promised, senior
    plain = corrected[middle]
    issued.plain[i] = plain
    issued.same[i] = within(settings, levels, asked, i, corrected, middle)
    issued.repeats[i] = 0
    if repeats(state, settings, asked, i, plain):
        same = issued.same[i]
        same += costly(state, settings, asked, i, plain, same) * (plain - same)
        issued.repeats[i] = TAKEN if same != plain else IDLE
        for k in range(promised):
            if levels[k] <= 0.5:
                corrected[k] = min(corrected[k], same)
            if levels[k] >= 0.5:
                corrected[k] = max(corrected[k], same)


@kernel
def await_end(state: State, asked: Asked, issued: Issued, i: int, by: int) -> None:
    """Count job `i` among those not yet ended (`by` 1), or no longer (-1)."""
    state.pending[asked.cohort[i]] += by
    state.owner_pending[asked.owner[i]] += by
    state.senior_pending[issued.senior[i]] += by


@inner
def missed_share(corrected: Floats, levels: Floats, k: int, log_run: float) -> float:
    """Whether a run time lies above the quantile of level k; a share of 1 where it is an atom.

    Where the levels from a to b share a value and the run time is that value, the level p covers
    the share ``(p - a) / (b - a)`` of it.
    """
    if log_run > corrected[k] + EQUAL:
        return 1.0
    if log_run < corrected[k] - EQUAL:
        return 0.0
    low, high = k, k
    while low > 0 and corrected[k] - corrected[low - 1] <= EQUAL:
        low -= 1
    while high + 1 < levels.shape[0] and corrected[high + 1] - corrected[k] <= EQUAL:
        high += 1
    if low == high:
        return 0.0
    return 1.0 - (levels[k] - levels[low]) / (levels[high] - levels[low])


@kernel
def settle(
    state: State,
    settings: Settings,
    levels: Floats,
    asked: Asked,
    issued: Issued,
    i: int,
    log_run: float,
) -> None:
    """Learn from job `i`, which has ended; NaN: it never ran."""
    await_end(state, asked, issued, i, -1)
    if np.isnan(log_run):
        return
    owner, cohort, senior = asked.owner[i], asked.cohort[i], issued.senior[i]
    everyone = state.ended.shape[0] - 1
    state.longest[0] = max(state.longest[0], log_run)
    step = 1.0 / min(state.ended[cohort] + 1.0, settings.memory)
    own_step = 1.0 / min(state.owner_ended[owner] + 1.0, settings.owner_memory)
    for k in range(levels.shape[0]):
        p = levels[k]
        for e in range(asked.logs.shape[1]):
            error = log_run - asked.logs[i, e, k]
            loss = max(p * error, (p - 1.0) * error)
            state.loss[cohort, k, e] += step * (loss - state.loss[cohort, k, e])
            state.owner_loss[owner, k, e] += own_step * (loss - state.owner_loss[owner, k, e])
        score = (log_run - issued.mixed[i, k]) / issued.spread[i]
        for group in (cohort, everyone):
            insert(state.ring[group, k], state.ordered[group, k], state.ended[group], score)
        if k < issued.promised[i]:
            every = 1.0 / min(state.ended[everyone] + 1.0, settings.memory)
            for place in range(2):
                value = issued.mixed[i, k] if place == 0 else issued.shifted[i, k]
                error = log_run - value
                loss = max(p * error, (p - 1.0) * error)
                state.plain_loss[place, k] += every * (loss - state.plain_loss[place, k])
        if k >= issued.promised[i] or (p == 0.5 and issued.repeats[i] == TAKEN):
            continue
        missed = missed_share(issued.corrected[i], levels, k, log_run)
        move = missed - (1.0 - p)
        reach = min(settings.reach, p, 1.0 - p)
        lift = state.lift[cohort, k] + settings.rate * move / (1.0 + 0.01 * state.pending[cohort])
        state.lift[cohort, k] = min(max(lift, -reach), reach)
        own = state.owner_lift[owner, k]
        own += settings.owner_rate * move / (1.0 + 0.1 * state.owner_pending[owner])
        state.owner_lift[owner, k] = min(max(own, -reach), reach)
        reach = min(settings.senior_reach, p, 1.0 - p)
        lift = state.senior_lift[senior, k]
        lift += settings.senior_rate * move / (1.0 + 0.01 * state.senior_pending[senior])
        state.senior_lift[senior, k] = min(max(lift, -reach), reach)
        state.excess[k] += (move - state.excess[k]) / _pull_window(state, settings)
    learn_gain(state, settings, asked, issued, i, log_run)
    learn_cost(state, settings, asked, issued, i, log_run)
    state.owner_ended[owner] += 1
    state.ended[cohort] += 1
    state.ended[everyone] += 1


@kernel
def replay(
    state: State,
    settings: Settings,
    levels: Floats,
    asked: Asked,
    issued: Issued,
    log_run: Floats,
    issue_s: Floats,
    known_s: Floats,
    order: Ints,
) -> None:
    """Forecast each job in turn; those that ended before, in `order`, are learned from first."""
    e = 0
    for i in range(log_run.shape[0]):
        while e < order.shape[0] and known_s[order[e]] <= issue_s[i] and order[e] < i:
            settle(state, settings, levels, asked, issued, order[e], log_run[order[e]])
            e += 1
        issue(state, settings, levels, asked, issued, i)
        await_end(state, asked, issued, i, 1)
    # What ends after the last forecast is learned from too, up to the end of the log.
    while e < order.shape[0] and known_s[order[e]] < np.inf:
        settle(state, settings, levels, asked, issued, order[e], log_run[order[e]])
        e += 1

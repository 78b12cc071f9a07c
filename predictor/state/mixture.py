"""Kernels of the online correction: a mixture of experts, shifted by the scores of ended jobs.

`OnlineCorrection` is their face and says what they compute.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plancast.predictor.jit import inner, kernel
from plancast.predictor.sorted_window import insert

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SENIORITIES: tuple[int, ...] = (10, 40, 150)
"""Numbers of an owner's ended jobs at which the owner's seniority changes."""

MIN_COHORT = 100
"""Ended jobs of a cohort below which it is corrected with everyone's scores."""

EQUAL = 1e-9
"""Log run times that lie no further apart are one value: a logarithm and its inverse round."""


class Settings(NamedTuple):
    """How the correction learns; see docs/notes/forecasts.md for how it was chosen.

    Parameters
    ----------
    window : int
        Latest ended jobs whose scores calibrate a cohort.
    memory : float
        Jobs over which an expert's loss is averaged.
    sharpness : float
        How strongly a smaller loss is preferred.
    rate, owner_rate, senior_rate : float
        Step of the adaptive level for a cohort, for one owner (user), and for all owners of
        like seniority.
    reach, senior_reach : float
        How far the lift of a cohort or an owner, and that of a seniority, may go.
    slack : float
        How far the adaptive level may stray below the nominal one.
    pull, pull_memory, pull_reach : float
        How strongly a level leans against the excess of misses over the last jobs of all; over
        how many jobs; and by how much at most.
    raise_to : float
        How far the calibration may raise a forecast beyond what everybody's median misses,
        log seconds.
    owner_memory, owner_prior : float
        Jobs over which an owner's own losses are averaged, and the number of the cohort's jobs
        that they are weighed against.
    agree : float
        How near the last two run times of jobs like one must lie to count as a repeat, log
        seconds (a quarter).
    gain_memory, gain_prior : float
        The last run time is compared with the median over so many of an owner's latest jobs,
        weighed against so many of everybody's.
    gain_least, gain_delay, gain_cap : float
        By how much a repeat must beat the median, log seconds: the least, and more with the
        number of jobs not yet ended for each one ended. No error counts for more than ``gain_cap``.
    long_from, long_cap : float
        A repeat is long where it or the median is longer than the first, log seconds (an hour);
        unless the last two agree, its errors count up to the second.
    doubt_from, doubt_to : float
        A level is left as the mixture has it, in part or whole, where the calibration has lately
        cost such a share of the loss.
    spread_from, spread_to : float
        Bounds of the unit in which scores are measured, log seconds.
    """

    window: int = 2000
    memory: float = 1000.0
    sharpness: float = 30.0
    rate: float = 0.005
    owner_rate: float = 0.02
    senior_rate: float = 0.002
    reach: float = 0.05
    senior_reach: float = 0.15
    slack: float = 0.1
    pull: float = 12.0
    pull_memory: float = 20_000.0
    pull_reach: float = 0.08
    raise_to: float = 0.25
    owner_memory: float = 200.0
    owner_prior: float = 100.0
    agree: float = 0.2231
    gain_memory: float = 50.0
    gain_prior: float = 20.0
    gain_least: float = 0.01
    gain_delay: float = 0.3
    gain_cap: float = 0.7
    long_cap: float = 2.0
    long_from: float = 8.2
    doubt_from: float = 0.02
    doubt_to: float = 0.04
    spread_from: float = 0.3
    spread_to: float = 1.0


class State(NamedTuple):
    """What was learned: plain arrays, changed in place.

    ``loss`` (cohorts, levels, experts); ``ended`` (cohorts + 1), the last being everyone;
    ``ring`` and ``ordered`` (cohorts + 1, levels, window): the latest scores by arrival and by
    size; ``lift`` (cohorts, levels) and ``owner_lift`` (owners, levels): what is added to the
    nominal levels; ``pending`` (cohorts) and ``owner_pending`` (owners): jobs not yet ended;
    ``owner_loss`` (owners, levels, experts) and ``owner_ended`` (owners);
    ``senior_lift`` (seniorities, levels) and ``senior_pending`` (seniorities);
    ``plain_loss`` (2, levels): mean loss of everybody's quantiles before and after calibration;
    ``gain`` (4) and ``owner_gain`` (owners, 4): by how much the last run time of a job like this
    one misses by less than the median does, log seconds, a mean over the last jobs: of short
    ones, of long ones, and of each where the last two agree; ``gains`` and ``owner_gains``: over
    how many;
    ``excess`` (levels): misses beyond 1 - p, a mean over the last jobs;
    ``longest`` (1): the largest log run time that has ended.
    """

    loss: Floats
    ended: Ints
    ring: Floats
    ordered: Floats
    lift: Floats
    owner_lift: Floats
    pending: Ints
    owner_pending: Ints
    owner_loss: Floats
    owner_ended: Ints
    senior_lift: Floats
    senior_pending: Ints
    plain_loss: Floats
    owner_gain: Floats
    owner_gains: Floats
    gain: Floats
    gains: Floats
    excess: Floats
    longest: Floats


class Asked(NamedTuple):
    """What is known of jobs when they are forecast; row i of each is job i.

    ``logs`` (n, experts, levels): log quantiles by every expert; ``same`` (n): the log run time
    of the last job like this one, NaN where there is none, and ``gap`` (n) how far the one before
    lay from it, infinity where there is none; ``owner`` (n): slot, -1 where nobody knows the
    owner; ``cohort`` (n); ``limit`` (n): log of the kill limit or infinity.
    """

    logs: Floats
    same: Floats
    gap: Floats
    owner: Ints
    cohort: Ints
    limit: Floats


class Issued(NamedTuple):
    """What was forecast; row i of each is job i.

    ``corrected``, ``mixed`` (n, levels): log quantiles after and before the calibration;
    ``shifted`` (n, levels): calibrated in full; ``plain`` (n): the median as it was before a
    repeated run time took its place; ``repeats`` (n): 1 where one did; ``spread`` (n): the unit
    of their scores; ``senior`` (n): the owner's seniority; ``promised`` (n): how many levels,
    from the lowest, have a finite quantile.
    """

    corrected: Floats
    mixed: Floats
    shifted: Floats
    plain: Floats
    repeats: Ints
    spread: Floats
    senior: Ints
    promised: Ints


def nothing_issued(rows: int, levels: int) -> Issued:
    """Room for the forecasts of so many jobs."""
    return Issued(
        np.empty((rows, levels)),
        np.empty((rows, levels)),
        np.empty((rows, levels)),
        np.empty(rows),
        np.zeros(rows, np.int64),
        np.empty(rows),
        np.zeros(rows, np.int64),
        np.zeros(rows, np.int64),
    )


def empty_state(levels: int, experts: int, cohorts: int, window: int, owners: int) -> State:
    """What is known before any job has ended."""
    return State(
        loss=np.zeros((cohorts, levels, experts)),
        ended=np.zeros(cohorts + 1, np.int64),
        ring=np.zeros((cohorts + 1, levels, window)),
        ordered=np.zeros((cohorts + 1, levels, window)),
        lift=np.zeros((cohorts, levels)),
        owner_lift=np.zeros((owners, levels)),
        pending=np.zeros(cohorts, np.int64),
        owner_pending=np.zeros(owners, np.int64),
        owner_loss=np.zeros((owners, levels, experts)),
        owner_ended=np.zeros(owners, np.int64),
        senior_lift=np.zeros((len(SENIORITIES) + 1, levels)),
        senior_pending=np.zeros(len(SENIORITIES) + 1, np.int64),
        plain_loss=np.zeros((2, levels)),
        owner_gain=np.zeros((owners, 4)),
        owner_gains=np.zeros((owners, 4)),
        gain=np.zeros(4),
        gains=np.zeros(4),
        excess=np.zeros(levels),
        longest=np.zeros(1),
    )


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
    share = (cost - settings.doubt_from) / (settings.doubt_to - settings.doubt_from)
    return min(max(share, 0.0), 1.0)


@inner
def _gain(state: State, settings: Settings, owner: int, kind: int) -> float:
    """By how much the last run time of the same beats the median for an owner, log seconds."""
    gain, weight = settings.gain_prior * state.gain[kind], settings.gain_prior
    if owner >= 0:
        own = min(state.owner_gains[owner, kind], settings.gain_memory)
        gain, weight = gain + own * state.owner_gain[owner, kind], weight + own
    return gain / weight


@inner
def _kind(settings: Settings, asked: Asked, i: int, plain: float) -> int:
    """0 where the last run and the median are short, 1 where either is long."""
    return 1 if max(asked.same[i], plain) > settings.long_from else 0


@inner
def _repeats(state: State, settings: Settings, asked: Asked, i: int, plain: float) -> bool:
    """Whether the run time of the last job like this one is the median."""
    if np.isnan(asked.same[i]):
        return False
    # Of jobs that are awaited for long the short ones have ended, which favours short forecasts.
    ended = min(float(state.ended[-1]), settings.pull_memory)
    least = settings.gain_least + settings.gain_delay * np.sum(state.pending) / max(ended, 1.0)
    kind = _kind(settings, asked, i, plain)
    if _gain(state, settings, asked.owner[i], kind) > least:
        return True
    agree = asked.gap[i] <= settings.agree
    return bool(agree and _gain(state, settings, asked.owner[i], 2 + kind) > least)


@inner
def _learn_gain(
    state: State, settings: Settings, asked: Asked, issued: Issued, i: int, log_run: float
) -> None:
    """Compare the last run time of the same with the median that stood before it."""
    if np.isnan(asked.same[i]) or not np.isfinite(issued.plain[i]):
        return
    owner = asked.owner[i]
    ours = abs(log_run - issued.plain[i])
    last = abs(log_run - min(asked.same[i], asked.limit[i]))
    length = _kind(settings, asked, i, issued.plain[i])
    for kind in range(length, 4, 2):
        cap = settings.gain_cap
        if kind >= 2 and asked.gap[i] > settings.agree:
            return
        if kind == 1:
            cap = settings.long_cap
        gain = min(ours, cap) - min(last, cap)
        state.gains[kind] += 1.0
        state.owner_gains[owner, kind] += 1.0
        step = 1.0 / min(state.owner_gains[owner, kind], settings.gain_memory)
        state.owner_gain[owner, kind] += step * (gain - state.owner_gain[owner, kind])
        step = 1.0 / min(state.gains[kind], settings.memory)
        state.gain[kind] += step * (gain - state.gain[kind])


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
    issued.plain[i] = corrected[middle]
    issued.repeats[i] = 1 if _repeats(state, settings, asked, i, corrected[middle]) else 0
    if issued.repeats[i] == 1:
        same = min(max(asked.same[i], 0.0), asked.limit[i])
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
        if k >= issued.promised[i] or (p == 0.5 and issued.repeats[i] == 1):
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
    _learn_gain(state, settings, asked, issued, i, log_run)
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

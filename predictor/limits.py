"""Which time limit to request: a site's risk of cutting jobs, spent where it frees most.

A limit is chosen for each job from what similar jobs have run, at its submission. Every limit
below the request has a chance to cut the job; the promise is that of all jobs that would have
finished within their requests no more than a share (the risk) is cut, month by month. One job
in a hundred may be cut: the choice is *which*. The hours that requests waste lie on few jobs,
so the risk is spent by one price a cut job on those, and bounded for each job as well.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.jit import inner, kernel
from plancast.predictor.schema import BadLog, canonical
from plancast.predictor.sorted_window import insert
from plancast.predictor.splits import known_at_s

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_NUMBERS = ("requested_s", "cpus")

GROUP: tuple[str, ...] = ("user", "requested_s", "cpus", "queue", "app")
"""What jobs of one group have in common; a log without applications has the other four."""

CHAIN: tuple[tuple[str, ...], ...] = (GROUP, ("user",), ())
"""Groups from fine to coarse: the sample of each is filled up from the next."""


@dataclass(frozen=True)
class LimitSettings:
    """How limits are chosen; the defaults come from the first third of SDSC-BLUE.

    Parameters
    ----------
    window : int
        Latest ended jobs of a group that are its sample.
    prior : float
        Jobs of a group at which its own sample weighs as much as the coarser groups'.
    worst : float
        Greatest chance to be cut that any one job is given. Above a half a limit is a probe:
        short beside the request, for jobs of which many end at once and some run for long.
    loss : float
        Price of a core-hour of a run that is cut, in excess core-hours: a lost run keeps others
        waiting, a long request only misleads the backfill.
    round_s : int
        Limits are multiples of so many seconds, rounded up: Slurm counts minutes.
    price_jobs, price_every : int
        The price of a cut job is that at which the latest jobs would have spent the risk; it
        is set anew after so many submissions.
    burst : float
        Cuts that may come at once, in standard deviations of those of a month.
    cautious : float
        How many times its own chance a job's limit takes from the allowance until it has ended.
    crowd : float
        A limit takes at least 1 / crowd for each job of its user that still has a lower limit:
        who runs something new may run it a hundred times.
    """

    window: int = 100
    prior: float = 80.0
    worst: float = 0.8
    loss: float = 10.0
    round_s: int = 60
    price_jobs: int = 2000
    price_every: int = 100
    burst: float = 1.0
    cautious: float = 2.0
    crowd: float = 20.0


@dataclass(frozen=True)
class Limits:
    """Limits of the jobs of a log, each from what had ended before its submission.

    Parameters
    ----------
    limit_s : array, shape (n,)
        Seconds; the request where no other limit is worth its risk.
    chance : array, shape (n,)
        Forecast chance that the job runs longer than its limit; 0 where that is the request.
    price : float
        Core-hours that a cut job must save at the end of the log.
    optimism : float
        Cut jobs over those forecast, among the lowered that have ended; at least 1.
    groups : DataFrame
        A row a group (``GROUP``): jobs that have ``ended`` in its window, and the ``limit_s``
        and ``chance`` that its next job would be advised at the end of the log.
    """

    limit_s: Floats
    chance: Floats
    price: float
    optimism: float
    groups: pd.DataFrame


@kernel
def _sample(ordered, ptr, counts, places, prior, values, weights):
    """Merge the samples of a job's groups, fine to coarse, by size; how many there are.

    A group of c jobs takes ``c / (c + prior)`` of the weight that the finer ones left, the
    coarsest all of it. Values are shares of the request.
    """
    levels = places.shape[0]
    left, total = 1.0, 0.0
    share = np.zeros(levels)
    at, end = ptr[places].copy(), ptr[places].copy()
    for g in range(levels):
        held = min(counts[places[g]], ptr[places[g] + 1] - ptr[places[g]])
        end[g] += held
        if held > 0:
            taken = left if g == levels - 1 else left * held / (held + prior)
            share[g] = taken / held
            left -= taken
            total += taken
    count = 0
    while True:
        best, least = -1, np.inf
        for g in range(levels):
            if at[g] < end[g] and ordered[at[g]] < least:
                best, least = g, ordered[at[g]]
        if best < 0:
            return count
        at[best] += 1
        values[count], weights[count] = least, share[best] / total
        count += 1


@kernel
def choose(values, weights, count, request, cores, rules):
    """The limit of one job: (limit, chance, saved core-hours, knee, chance at the knee).

    Parameters
    ----------
    values, weights : array
        Sorted shares of the request, and their probabilities; the first `count` of them.
    request, cores : float
        Seconds; processors.
    rules : array
        (price, worst, loss, round_s).

    Notes
    -----
    With R the run time, a limit L saves
    ``cores (E[(request - R)+] - E[(L - R)+] - loss L P(R > L))``: excess at the request, less
    the excess that stays and the run that is lost where the job is cut. L maximises
    ``saved - price x P(R > L)`` among sample values, rounded up, with ``P(R > L) <= worst``.
    The knee is the greatest price at which any such limit is worth it.
    """
    price, worst, loss, round_s = rules
    mean = 0.0
    for k in range(count):
        mean += weights[k] * min(values[k], 1.0) * request
    excess = request - mean
    best, limit, chance, saved = 0.0, request, 0.0, 0.0
    knee, knee_chance = 0.0, 0.0
    below, sum_below = 0.0, 0.0
    for k in range(count):
        at = min(values[k], 1.0) * request
        below += weights[k]
        sum_below += weights[k] * at
        tried = np.ceil(at / round_s) * round_s
        if tried >= request:
            break
        if k + 1 < count and values[k + 1] * request <= tried:
            continue
        # A sample says nothing of what lies beyond its largest value.
        over = max(1.0 - below, 0.5 / (count + 1.0))
        if over > worst:
            continue
        left = tried * below - sum_below
        gain = cores * (excess - left - loss * over * tried) / 3600.0
        if gain > knee * over:
            knee, knee_chance = gain / over, over
        if gain - price * over > best:
            best, limit, chance, saved = gain - price * over, tried, over, gain
    return limit, chance, saved, knee, knee_chance


@inner
def _price_of(knees, chances, count, risk):
    """The price at which the latest jobs spend the risk: those with higher knees pay it."""
    order = np.argsort(-knees[:count])
    spent = 0.0
    for k in order:
        spent += chances[k]
        if spent > risk * count:
            return float(knees[k])
    return 0.0


@kernel
def _walk(submit, ended_order, known, run, request, cores, groups, ptr, risk, settings):
    """Limits of all jobs in order of submission; see ``advise_limits``."""
    window, prior, worst, loss, round_s, price_jobs, price_every, burst, cautious, crowd = settings
    window, price_jobs = int(window), int(price_jobs)
    levels, n = groups.shape
    open_limits = np.zeros(len(ptr) - 1)
    ordered, ring = np.zeros(ptr[-1]), np.zeros(ptr[-1])
    counts = np.zeros(len(ptr) - 1, np.int64)
    values, weights = np.empty(levels * window), np.empty(levels * window)
    knees, chances = np.zeros(price_jobs), np.zeros(price_jobs)
    limit, chance, held = request.copy(), np.zeros(n), np.zeros(n)
    price, allowance, cut, forecast, next_end, since = np.inf, 0.0, 5.0, 5.0, 0, 0
    rules = np.array([price, worst, loss, round_s])
    for job in range(n):
        while next_end < n and known[ended_order[next_end]] <= submit[job]:
            other = ended_order[next_end]
            next_end += 1
            if not request[other] > 0.0:
                continue
            for place in groups[:, other]:
                first, end = ptr[place], ptr[place + 1]
                share = run[other] / request[other]
                insert(ring[first:end], ordered[first:end], counts[place], share)
                counts[place] += 1
            if chance[other] > 0.0:
                # What was held back for it comes free, unless it was cut.
                open_limits[groups[1, other]] -= 1.0
                was_cut = run[other] > limit[other]
                allowance += held[other] - (1.0 if was_cut else 0.0)
                forecast += chance[other] - 0.002 * forecast
                cut += (1.0 if was_cut else 0.0) - 0.002 * cut
        while since < job and submit[since] < submit[job] - 30 * 86400.0:
            since += 1
        most = max(1.0, burst * np.sqrt(risk * (job - since + 1)))
        allowance = min(most, allowance + risk)
        if not request[job] > 0.0:
            continue
        count = _sample(ordered, ptr, counts, groups[:, job], prior, values, weights)
        if count == 0:
            continue
        optimism = max(cut / forecast, 1.0)
        if job % int(price_every) == 0 and job >= int(price_every):
            price = _price_of(knees, chances * optimism, min(job, price_jobs), risk)
        rules[0] = price * optimism
        found = choose(values, weights, count, request[job], cores[job], rules)
        knees[job % price_jobs], chances[job % price_jobs] = found[3] / optimism, found[4]
        user = groups[1, job]
        wanted = min(1.0, max(cautious * optimism * found[1], open_limits[user] / crowd))
        if found[1] > 0.0 and wanted <= allowance:
            limit[job], chance[job], held[job] = found[0], found[1], wanted
            allowance -= wanted
            open_limits[user] += 1.0
    return limit, chance, price, max(cut / forecast, 1.0), ordered, counts


def advise_limits(log: pd.DataFrame, risk: float, settings: LimitSettings | None = None) -> Limits:
    """Advise a limit for every job of a log, each from what had ended before its submission.

    Parameters
    ----------
    log : DataFrame
        Any subset of the canonical columns; ``requested_s`` at least on some rows.
    risk : float
        Share of the jobs that may be cut, in (0, 0.5].
    settings : LimitSettings, optional

    Returns
    -------
    Limits
        In order of submission; a job without a request, or without a run time, keeps its own.

    Raises
    ------
    BadLog
        Where no job has a request.
    ValueError
        Where the risk is impossible.

    Notes
    -----
    The chance that a job outlasts a limit is that of a weighted sample: the job's group, filled
    up by its user's jobs and by all jobs, as shares of the request. ``choose`` has the formula
    of a limit, ``_walk`` the accounts: each submission adds the risk to an allowance, each limit
    takes several times its own chance from it until the job has ended, and a cut takes one. A
    burst of one user's jobs, of which none has ended yet, pays more the longer it gets.
    """
    if not 0 < risk <= 0.5:
        raise ValueError(f"the risk is {risk:g}; it must lie in (0, 0.5]")
    rules = settings or LimitSettings()
    jobs = canonical(log)
    request, run, cores = (
        np.nan_to_num(jobs[name].to_numpy(np.float64, copy=True))
        for name in ("requested_s", "run_s", "cpus")
    )
    if not (request > 0).any():
        raise BadLog("the log names no requested times, so there is no limit to lower")
    cores = np.where(cores > 0, cores, 1.0)
    groups, ptr, first = _groups_of(jobs, rules.window)
    known = np.where(run > 0, known_at_s(jobs), np.inf)
    found = _walk(
        jobs["submit_s"].to_numpy(np.float64, copy=True),
        np.argsort(known, kind="stable"),
        known,
        run,
        request,
        cores,
        groups,
        ptr,
        float(risk),
        np.array(astuple(rules), np.float64),
    )
    limit, chance, price, optimism, ordered, counts = found
    limit = np.where(request > 0, limit, np.nan)
    table = _table(jobs, groups, first, (ordered, ptr, counts), (price * optimism, rules))
    return Limits(limit, chance, float(price), float(optimism), table)


def _groups_of(jobs: pd.DataFrame, window: int) -> tuple[Ints, Ints, Ints]:
    """Numbers of each job's groups, where their windows begin, and the finest one's last job."""
    groups: list[Ints] = []
    sizes: list[Ints] = []
    for columns in CHAIN:
        if columns:
            keys = [jobs[name].fillna(-1.0) if name in _NUMBERS else jobs[name] for name in columns]
            number = jobs.groupby(keys, sort=False).ngroup().to_numpy(np.int64)
        else:
            number = np.zeros(len(jobs), np.int64)
        groups.append(number + sum(len(s) for s in sizes))
        sizes.append(np.minimum(np.bincount(number), window))
    last = np.full(len(sizes[0]), -1, np.int64)
    last[groups[0]] = np.arange(len(jobs))
    ptr = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return np.array(groups), ptr, last


def _table(
    jobs: pd.DataFrame, groups: Ints, last: Ints, samples: tuple[Any, ...], terms: tuple[Any, ...]
) -> pd.DataFrame:
    """The limit that a next job of each group would be advised at the end of the log."""
    (ordered, ptr, counts), (price, rules) = samples, terms
    request = np.nan_to_num(jobs["requested_s"].to_numpy(np.float64))[last]
    cores = np.nan_to_num(jobs["cpus"].to_numpy(np.float64), nan=1.0)[last]
    values = np.empty(len(CHAIN) * rules.window)
    weights, limit, chance = values.copy(), request.copy(), np.zeros(len(last))
    asked = np.array([price, rules.worst, rules.loss, rules.round_s])
    for row, job in enumerate(last.tolist()):
        if request[row] > 0:
            count = _sample(ordered, ptr, counts, groups[:, job], rules.prior, values, weights)
            if count:
                found = choose(values, weights, count, request[row], cores[row], asked)
                limit[row], chance[row] = found[:2]
    result = jobs.loc[last, list(GROUP)].reset_index(drop=True)
    ended = counts[groups[0, last]]
    return result.assign(ended=ended, limit_s=limit, chance=chance)


# -- rules to compare with -------------------------------------------------------------------

RULE_LASTS: tuple[int, ...] = (1, 2, 3, 5, 10, 20, 50, 100, 1 << 40)
"""Of how many last run times the rules take the maximum; the last one is all of them."""


@kernel
def _rule_limits(submit, ended_order, known, run, request, group, lasts):
    """Limits by the maximum of a group's last k run times, shape (n, lasts, 2).

    The second kind waits until k jobs (at most 100) have ended, the first for one.
    """
    n, keep = len(submit), 100
    groups = group.max() + 1
    ring, count, longest = np.zeros((groups, keep)), np.zeros(groups, np.int64), np.zeros(groups)
    result = np.empty((n, len(lasts), 2))
    next_end = 0
    for job in range(n):
        while next_end < n and known[ended_order[next_end]] <= submit[job]:
            other = ended_order[next_end]
            g = group[other]
            ring[g, count[g] % keep] = run[other]
            count[g] += 1
            longest[g] = max(longest[g], run[other])
            next_end += 1
        g = group[job]
        most, back = 0.0, 0
        for place in range(len(lasts)):
            while back < min(lasts[place], count[g], keep):
                back += 1
                most = max(most, ring[g, (count[g] - back) % keep])
            found = longest[g] if lasts[place] > keep else most
            for kind in range(2):
                enough = 1 if kind == 0 else min(lasts[place], keep)
                known_now = count[g] >= enough
                result[job, place, kind] = min(found, request[job]) if known_now else request[job]
    return result


def rule_limits(log: pd.DataFrame) -> dict[str, Floats]:
    """Limits by every rule "the longest of the last k", walk-forward, seconds, by name.

    Parameters
    ----------
    log : DataFrame
        As of ``advise_limits``.
    """
    jobs = canonical(log)
    request = np.nan_to_num(jobs["requested_s"].to_numpy(np.float64, copy=True))
    run = np.nan_to_num(jobs["run_s"].to_numpy(np.float64, copy=True))
    known = np.where(run > 0, known_at_s(jobs), np.inf)
    submit, order = jobs["submit_s"].to_numpy(np.float64, copy=True), np.argsort(known)
    groups, _, _ = _groups_of(jobs, 1)
    result = {}
    for level, whose in ((0, "group"), (1, "user")):
        group = groups[level] - groups[level].min()
        limits = _rule_limits(submit, order, known, run, request, group, np.array(RULE_LASTS))
        for place, last in enumerate(RULE_LASTS):
            for kind, waits in enumerate(("", ", from the first on")[::-1]):
                many = "all" if last > 100 else str(last)
                result[f"longest of the {whose}'s last {many}{waits}"] = limits[:, place, kind]
    return result

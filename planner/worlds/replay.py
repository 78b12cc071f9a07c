"""Replay of a whole job log on one pool of processors, under any dispatcher and estimates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds import replay_kernel as kernel
from plancast.planner.worlds.dispatchers import BACKFILLS, ORDERS, PLANNING, Dispatcher

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TIMED_PASSES = 200_000


class Estimator(Protocol):
    """Whoever forecasts run times while a log is replayed; it knows what it has been given."""

    levels: tuple[float, ...]
    """Quantile levels of its forecasts; one level alone is a point forecast."""

    def at_submit(self, job: int, now_s: int) -> Floats:
        """Quantiles of a job that is submitted now, seconds, shape (levels,), rising."""

    def finished(self, job: int, run_s: int, now_s: int) -> None:
        """A job has ended now, after running for `run_s`."""


@runtime_checkable
class Renewing(Protocol):
    """An estimator that changes its mind of jobs that wait, by what has ended since."""

    def renewed(self, waiting: Ints, now_s: int) -> Iterable[tuple[int, Floats]]:
        """Waiting jobs whose forecasts are new, with the new quantiles as of ``at_submit``."""


@runtime_checkable
class Watching(Protocol):
    """An estimator that hears which jobs run before new ones are submitted."""

    def watch(self, running: Ints, start_s: Ints) -> None:
        """The jobs that run now, and when each of them started, seconds."""


class Given(Protocol):
    """What estimators are asked and informed by, of ``Jobs`` of any replay."""

    @property
    def run(self) -> Any:
        """True run times, seconds, shape (n,)."""

    @property
    def levels(self) -> Any:
        """Quantile levels of the forecasts, shape (levels,)."""

    @property
    def settings(self) -> Any:
        """Of a planner; empty for others."""


class Changing(Protocol):
    """The same of ``Live``; the places of the clock are those of ``replay_machine``."""

    @property
    def clock(self) -> Any:
        """Shape (at least ``CLOCK``,)."""

    @property
    def start(self) -> Any:
        """Seconds, shape (n,)."""

    @property
    def end(self) -> Any:
        """Seconds, shape (n,)."""

    @property
    def estimate(self) -> Any:
        """Seconds, shape (n,)."""

    @property
    def quantile(self) -> Any:
        """Seconds, shape (n, levels)."""

    @property
    def queue(self) -> Any:
        """Jobs that wait, in the first places."""

    @property
    def running(self) -> Any:
        """Jobs that run, in the first places."""

    @property
    def ended(self) -> Any:
        """Jobs that have ended, in the first places."""


@dataclass(frozen=True)
class ReplayLog:
    """Jobs in order of submission, and the machine they ran on.

    Parameters
    ----------
    name : str
    procs : int
        Processors of the machine.
    submit_s, run_s, width, requested_s : array of int64, shape (n,)
        Submission (non-decreasing), true run time, processors, requested time; seconds.
    user : array of int64, shape (n,)
        Number of the user, from 0.

    Raises
    ------
    BadRequest
        Where a job is wider than the machine, or a number is impossible.
    """

    name: str
    procs: int
    submit_s: Ints
    run_s: Ints
    width: Ints
    requested_s: Ints
    user: Ints

    def __post_init__(self) -> None:
        for name in ("submit_s", "run_s", "width", "requested_s", "user"):
            value = np.ascontiguousarray(getattr(self, name), dtype=np.int64)
            object.__setattr__(self, name, value)
            if len(value) != len(self.submit_s):
                raise BadRequest(f"{self.name}: {name} has {len(value)} jobs, not {len(self)}")
        rules = (
            ("submit_s falls", np.diff(self.submit_s, prepend=self.submit_s[:1]) < 0),
            ("run_s is below 0", self.run_s < 0),
            ("width is below 1", self.width < 1),
            (f"width exceeds the machine's {self.procs} processors", self.width > self.procs),
            ("requested_s is below 1", self.requested_s < 1),
            ("user is below 0", self.user < 0),
        )
        for text, broken in rules:
            if broken.any():
                raise BadRequest(f"{self.name}: job {int(np.argmax(broken))}: {text}")

    def __len__(self) -> int:
        """Number of jobs."""
        return len(self.submit_s)

    def cut_to_request(self) -> ReplayLog:
        """The log in which the machine kills jobs at their requested time."""
        return replace(self, run_s=np.minimum(self.run_s, self.requested_s))

    def part(self, rows: slice) -> ReplayLog:
        """Some consecutive jobs, on the same machine."""
        names = ("submit_s", "run_s", "width", "requested_s", "user")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


@dataclass(frozen=True)
class Outages:
    """When parts of the machine are away: failures (jobs die) and drains (jobs end first).

    Parameters
    ----------
    begin_s, lasts_s, procs : array of int64, shape (k,)
        In order of begin.
    kills : array of bool, shape (k,)
        A failure queues the jobs that started last again until its processors are free; a
        drain takes processors as they come free.
    """

    begin_s: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    lasts_s: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    procs: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    kills: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))


def seeded_outages(
    log: ReplayLog, mean_between_s: float, mean_lasts_s: float, share: float, seed: int
) -> Outages:
    """Failures of a share of the machine: exponential gaps and lengths, by seed.

    Parameters
    ----------
    log : ReplayLog
    mean_between_s, mean_lasts_s : float
        Mean time between failures, and until repair, seconds.
    share : float
        Of the processors, in (0, 1].
    seed : int
    """
    rng = np.random.default_rng(seed)
    span = float(log.submit_s[-1] - log.submit_s[0])
    count = max(1, int(3 * span / mean_between_s))
    begin = log.submit_s[0] + np.cumsum(rng.exponential(mean_between_s, count))
    begin = np.ceil(begin[begin <= log.submit_s[-1]]).astype(np.int64)
    lasts = np.ceil(rng.exponential(mean_lasts_s, len(begin))).astype(np.int64)
    procs = np.full(len(begin), max(1, int(share * log.procs)), np.int64)
    # Failures do not overlap: the machine is never asked for more than it has.
    apart = np.ones(len(begin), dtype=bool)
    until = -1
    for k in range(len(begin)):
        apart[k] = begin[k] > until
        until = begin[k] + lasts[k] if apart[k] else until
    return Outages(begin[apart], lasts[apart], procs[apart], np.ones(int(apart.sum()), np.bool_))


def joined_outages(first: Outages, second: Outages) -> Outages:
    """Both in order of begin; of the second only those that meet none of the first."""
    ends = second.begin_s + second.lasts_s
    apart = np.array(
        [
            not ((first.begin_s <= end) & (begin <= first.begin_s + first.lasts_s)).any()
            for begin, end in zip(second.begin_s, ends, strict=True)
        ],
        dtype=bool,
    )
    names = ("begin_s", "lasts_s", "procs", "kills")
    columns = [
        np.concatenate([getattr(first, name), getattr(second, name)[apart]]) for name in names
    ]
    order = np.argsort(columns[0], kind="mergesort")
    return Outages(*(column[order] for column in columns))


@dataclass(frozen=True)
class Replay:
    """What came of each job of a replayed log.

    Parameters
    ----------
    log : ReplayLog
    start_s, end_s : array of int64, shape (n,)
    estimate_s : array of int64, shape (n,)
        The dispatcher's forecast of the run time, seconds.
    promise_s : array of int64, shape (n,)
        The start that was promised at submission (for a backfilling its conservative start); -1
        where none was asked for or none was possible.
    passes, corrections, killed : int
        Scheduling passes, overrun estimates that were corrected, runs lost to failures.
    put_off : int, optional
        How often a new plan had a waiting job start more than a minute later than the plan
        before; None of disciplines that plan no starts.
    lost_s : array of int64, shape (n,)
        Seconds of runs lost to failures, and to limits that cut them short.
    decision_us : array of int64
        Processor time of each of the first passes, microseconds.
    """

    log: ReplayLog
    start_s: Ints
    end_s: Ints
    estimate_s: Ints
    promise_s: Ints
    passes: int
    corrections: int
    killed: int
    put_off: int | None
    lost_s: Ints
    decision_us: Ints


def replay(
    log: ReplayLog,
    dispatcher: Dispatcher,
    estimates: Ints | Estimator | str = "requested",
    *,
    level: float = 0.5,
    promises: bool = False,
    outages: Outages | None = None,
    limits: Ints | None = None,
    progress: Callable[[float], None] | None = None,
) -> Replay:
    """Run every job of a log under a dispatcher.

    Parameters
    ----------
    log : ReplayLog
        The machine begins empty.
    dispatcher : Dispatcher
    estimates : array of int64 shape (n,), Estimator, or str
        Seconds; ``requested`` or ``last_two`` (the mean of the user's two latest run times,
        known on the replay's own clock, floored and at most the request; else the request).
    level : float
        The quantile of an estimator's forecast that a backfilling reserves.
    promises : bool
        Whether each job is promised a start at its submission.
    outages : Outages, optional
    limits : array of int64, shape (n,), optional
        Kill limits at the first submission, seconds, at least 1 and at most the request; only
        with ``requested``, whose estimate they then are, and without `outages`. A job cut
        there is submitted again that instant, behind all that wait, with its own request.
    progress : callable, optional
        Called with the share of the jobs that have been submitted.

    Notes
    -----
    At one instant ends come before arrivals, then one scheduling pass. An estimate that is
    overrun becomes the requested time, and a minute more beyond that; a correction triggers
    no pass. A ``Renewing`` estimator may change the forecasts of waiting jobs at arrivals.
    """
    jobs, live = _arrays(log, dispatcher, estimates, outages or Outages())
    if limits is not None:
        if not (isinstance(estimates, str) and estimates == "requested") or outages is not None:
            raise ValueError("limits go with estimates 'requested' and without outages")
        jobs = _limited(log, jobs, limits)
    source = kernel.ASKED
    if isinstance(estimates, str):
        if estimates not in ("requested", "last_two"):
            raise ValueError(f"estimates {estimates!r} is none of requested, last_two")
        source = kernel.GIVEN if estimates == "requested" else kernel.LAST_TWO
        live.estimate[:] = log.requested_s if limits is None else limits
    elif isinstance(estimates, np.ndarray):
        source = kernel.GIVEN
        live.estimate[:] = estimates
        if live.estimate.min(initial=1) < 0:
            raise ValueError("an estimate is below 0")
    live.quantile[:] = np.maximum(live.estimate, 1)[:, None]
    settings = (
        ORDERS[dispatcher.head],
        ORDERS[dispatcher.fill or dispatcher.head],
        BACKFILLS[dispatcher.backfill_with(len(jobs.levels))],
        source,
        promises,
    )
    passes = -1 if progress is None else max(1, len(log) // 50)
    found, clock = 0, live.clock
    while True:
        state = kernel.advance(jobs, live, *settings, passes)
        if state == kernel.ARRIVALS:
            assert not isinstance(estimates, str | np.ndarray)
            found = tell_ended(estimates, jobs, live, found)
            if isinstance(estimates, Renewing):
                renew_waiting(estimates, log, jobs, live, level)
            ask_arrivals(estimates, log, live, level)
        elif progress is not None:
            progress(float(clock[kernel.ENDED]) / max(len(log), 1))
        if state == kernel.OVER:
            plans = dispatcher.backfill in PLANNING
            return _outcome(log, live, plans)


def _limited(log: ReplayLog, jobs: kernel.Jobs, limits: Ints) -> kernel.Jobs:
    """The jobs as limits cut them; what is cut runs to its end, or its request, afterwards."""
    if limits.shape != log.run_s.shape or (limits < 1).any() or (limits > log.requested_s).any():
        raise ValueError("limits must be one a job, at least 1 and at most its request")
    whole = np.minimum(log.run_s, log.requested_s)
    cut = (whole > limits).astype(np.int64)
    return jobs._replace(run=np.minimum(whole, limits), again=whole * cut)


def tell_ended(estimator: Estimator, jobs: Given, live: Changing, known: int) -> int:
    """Inform an estimator of the jobs that have ended since; how many it knows now."""
    ended = int(live.clock[kernel.ENDED])
    for job in live.ended[known:ended].tolist():
        estimator.finished(job, int(jobs.run[job]), int(live.end[job]))
    if isinstance(estimator, Watching):
        running = live.running[: live.clock[kernel.RUNNING]]
        # Outages follow the jobs.
        running = running[running < len(live.estimate)]
        estimator.watch(running.copy(), live.start[running])
    return ended


def ask_arrivals(estimator: Estimator, log: ReplayLog, live: Changing, level: float) -> None:
    """Fill in the forecasts of the jobs that are submitted now."""
    now, job = int(live.clock[kernel.NOW]), int(live.clock[kernel.NEXT])
    levels = np.asarray(estimator.levels)
    while job < len(log) and log.submit_s[job] <= now:
        _take(log, live, levels, level, job, estimator.at_submit(job, now))
        job += 1


def renew_waiting(
    estimator: Renewing, log: ReplayLog, jobs: Given, live: Changing, level: float
) -> bool:
    """Take the new forecasts of jobs that wait; whether there are any."""
    found = False
    waiting = live.queue[: live.clock[kernel.WAITING]].copy()
    for job, quantiles in estimator.renewed(waiting, int(live.clock[kernel.NOW])):
        _take(log, live, jobs.levels, level, job, quantiles)
        found = True
        if len(jobs.settings):
            kernel.derive(jobs, live, job)
    return found


def _take(
    log: ReplayLog, live: Changing, levels: Floats, level: float, job: int, quantiles: Floats
) -> None:
    limit = float(log.requested_s[job])
    # No promise of a finite quantile (infinity) leaves the kill limit.
    live.quantile[job] = np.maximum(np.minimum(np.maximum.accumulate(quantiles), limit), 1.0)
    point = kernel.quantile_at(levels, live.quantile[job], level)
    live.estimate[job] = int(min(max(point, 1.0), limit))


def _arrays(
    log: ReplayLog,
    dispatcher: Dispatcher,
    estimates: Ints | Estimator | str,
    outages: Outages,
) -> tuple[kernel.Jobs, kernel.Live]:
    n, more = len(log), len(outages.begin_s)
    levels = (0.5,) if isinstance(estimates, str | np.ndarray) else estimates.levels
    jobs = kernel.Jobs(
        submit=np.concatenate([log.submit_s, outages.begin_s]),
        run=np.concatenate([log.run_s, outages.lasts_s]),
        procs=np.concatenate([log.width, outages.procs]),
        request=np.concatenate([log.requested_s, outages.lasts_s]),
        user=log.user,
        kills=outages.kills,
        again=np.empty(0, np.int64),
        levels=np.array(levels, np.float64),
        settings=dispatcher.settings(),
    )
    clock = np.zeros(kernel.CLOCK, np.int64)
    clock[kernel.NOW] = min(jobs.submit, default=0)
    clock[kernel.FREE] = log.procs
    clock[kernel.COMMITTED] = -1
    users = int(log.user.max(initial=0)) + 1
    live = kernel.Live(
        clock=clock,
        start=np.full(n + more, -1, np.int64),
        end=np.full(n + more, -1, np.int64),
        estimate=np.ones(n, np.int64),
        expected=np.zeros(n + more, np.int64),
        promise=np.full(n, -1, np.int64),
        planned=np.full(n, -1, np.int64),
        queue=np.zeros(n + 1, np.int64),
        running=np.zeros(log.procs + more + 1, np.int64),
        heap=np.zeros(log.procs + more + 1, np.int64),
        heap_end=np.zeros(log.procs + more + 1, np.int64),
        ended=np.zeros(n, np.int64),
        last=np.full((users, 2), -1, np.int64),
        cpu_us=np.zeros(min(TIMED_PASSES, 2 * (n + more)), np.int64),
        score=np.zeros(n + 1),
        lost=np.zeros(n, np.int64),
        quantile=np.ones((n, len(levels))),
        mean=np.zeros(n),
        weight=np.zeros(n),
        square=np.zeros(n),
    )
    return jobs, live


def _outcome(log: ReplayLog, live: kernel.Live, plans: bool) -> Replay:
    n, clock = len(log), live.clock
    start, promise = live.start[:n].copy(), live.promise.copy()
    at_once = (promise < 0) & (start == log.submit_s)
    promise[at_once] = start[at_once]
    promise[promise >= kernel.FAR] = -1
    return Replay(
        log=log,
        start_s=start,
        end_s=live.end[:n].copy(),
        estimate_s=live.estimate.copy(),
        promise_s=promise,
        passes=int(clock[kernel.PASSES]),
        corrections=int(clock[kernel.CORRECTIONS]),
        killed=int(clock[kernel.KILLED]),
        put_off=int(clock[kernel.PUT_OFF]) if plans else None,
        lost_s=live.lost.copy(),
        decision_us=live.cpu_us[: clock[kernel.PASSES]].copy(),
    )


def bounded_slowdown(replayed: Replay, threshold_s: float = 10.0) -> Floats:
    """``max(1, (wait + run) / max(run, 10 s))`` of each job, shape (n,)."""
    run = replayed.log.run_s.astype(np.float64)
    turnaround = (replayed.end_s - replayed.log.submit_s).astype(np.float64)
    return np.maximum(1.0, turnaround / np.maximum(run, threshold_s))

"""Seeded job logs of a shared machine, and their Standard Workload Format.

The same arguments and seed give the same log; nothing here reads a clock.
"""

from __future__ import annotations

import gzip
import math
from bisect import insort
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plancast.planner.model.domain import DAY_S, BadRequest

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

HOUR_S = 3600
EPOCH_S = 1_700_438_400
"""Start of generated logs: Monday, 20 November 2023, 00:00 UTC."""

LIMITS_S = np.array([300, 900, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400, 172_800])
"""What humans ask for when they must name a time limit, seconds."""

_BY_HOUR = np.array(
    [3, 2, 2, 2, 2, 2, 3, 4, 7, 10, 11, 11, 9, 10, 11, 11, 10, 9, 7, 6, 5, 5, 4, 4], dtype=float
)
_BY_WEEKDAY = np.array([1.0, 1.05, 1.05, 1.0, 0.9, 0.4, 0.35])

COMPLETED, FAILED, CANCELLED = 1, 0, 5
"""Status codes of the Standard Workload Format."""


@dataclass(frozen=True)
class GeneratedLog:
    """A job log as arrays, one element a job, in order of submission.

    Parameters
    ----------
    procs_total : int
        Size of the machine, processors.
    start_s : int
        Epoch second that submissions count from.
    seed : int
    submit_s, wait_s, run_s, requested_s : int array (jobs,)
        Seconds; run_s is -1 for jobs that were cancelled before they started.
    procs, mem_kib, status, user, group, app, queue : int array (jobs,)
        Processors asked for; memory per processor; SWF status; numbers from 1.
    """

    procs_total: int
    start_s: int
    seed: int
    submit_s: Ints
    wait_s: Ints
    run_s: Ints
    requested_s: Ints
    procs: Ints
    mem_kib: Ints
    status: Ints
    user: Ints
    group: Ints
    app: Ints
    queue: Ints

    def __len__(self) -> int:
        return len(self.submit_s)


def generate_log(
    jobs: int = 6000,
    users: int = 40,
    procs: int = 128,
    seed: int = 0,
    days: float | None = None,
    load: float = 0.75,
) -> GeneratedLog:
    """A plausible job log of a shared machine, consistent with itself.

    Parameters
    ----------
    jobs, users : int
        How many, at least 1.
    procs : int
        Processors of the machine, at least 2.
    seed : int
    days : float, optional
        Length of the log in days; without it, the length that gives `load`.
    load : float
        Work submitted over capacity, used where `days` is not given.

    Returns
    -------
    GeneratedLog

    Notes
    -----
    Each user has a few applications; run times of one (user, application) are log-normal
    with a median and spread of its own, a common factor per session, and now and then a
    lasting shift of regime. Requested times come from a ladder of round limits, usually
    2 to 10 times too long, and do not follow the shifts: so history tells much, and the
    request little. Jobs past their limit are killed there, some fail early, some are
    withdrawn from the queue. Sessions arrive in a daily and weekly rhythm. Waits come from
    a replay under EASY backfilling.

    References
    ----------
    Feitelson (2015), "Workload Modeling for Computer Systems Performance Evaluation",
    doi:10.1017/CBO9781139939690: log-normal run times, sessions, rhythms, modal requests.
    """
    _check(jobs, users, procs, days, load)
    rng = np.random.default_rng(seed)

    apps = _applications(rng, users, procs)

    # Sessions, and the jobs in them; `place` is the position in the log, in [0, 1).
    sizes = rng.geometric(0.2, jobs)
    sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), jobs)) + 1]
    session = np.repeat(np.arange(len(sizes)), sizes)[:jobs]
    place = np.sort(rng.random(len(sizes)))[session]
    app = rng.choice(len(apps.user), len(sizes), p=apps.share / apps.share.sum())[session]
    regime = (apps.shift_at[app] <= place[:, None]).sum(axis=1)
    log_run = (
        apps.log_median[app]
        + apps.shift[app, regime]
        + rng.normal(0, 0.2, len(sizes))[session]
        + apps.spread[app] * rng.normal(size=jobs)
    )
    run_s = np.clip(np.exp(log_run), 1, 2 * DAY_S).astype(np.int64)
    ladder_step = apps.limit[app] + (rng.random(jobs) < 0.15)
    requested_s = LIMITS_S[np.minimum(ladder_step, len(LIMITS_S) - 1)]
    width = np.clip(
        apps.width[app] + rng.choice([-1, 0, 1], jobs, p=[0.1, 0.8, 0.1]), 0, _widest(procs)
    )
    job_procs = np.where(apps.is_odd[app], np.maximum(1, (2**width * 5) // 8), 2**width)

    status = np.full(jobs, COMPLETED)
    fails = rng.random(jobs) < 0.05
    run_s = np.where(fails, np.maximum(1, run_s * rng.uniform(0, 0.15, jobs)), run_s)
    run_s = run_s.astype(np.int64)
    killed = run_s >= requested_s
    run_s = np.minimum(run_s, requested_s)
    status[fails | killed] = FAILED

    work_s = float((run_s * job_procs).sum())
    length_s = work_s / (procs * load) if days is None else days * DAY_S
    submit_s = np.floor(_in_rhythm(place, length_s) + _within_s(rng, session)).astype(np.int64)
    order = np.argsort(submit_s, kind="stable")
    submit_s -= submit_s[order[0]]

    patience_s = np.where(
        rng.random(jobs) < 0.05, rng.lognormal(math.log(1800), 1.0, jobs).astype(np.int64), -1
    )
    wait_s = _EasyQueue(
        submit_s[order],
        run_s[order],
        requested_s[order],
        job_procs[order],
        patience_s[order],
        procs,
    ).waited_s()
    withdrawn = wait_s < 0
    user = apps.user[app]
    return GeneratedLog(
        procs_total=procs,
        start_s=EPOCH_S,
        seed=seed,
        submit_s=submit_s[order],
        wait_s=np.where(withdrawn, patience_s[order], wait_s),
        run_s=np.where(withdrawn, -1, run_s[order]),
        requested_s=requested_s[order],
        procs=job_procs[order],
        mem_kib=apps.mem_kib[app][order],
        status=np.where(withdrawn, CANCELLED, status[order]),
        user=user[order] + 1,
        group=user[order] % 7 + 1,
        app=app[order] + 1,
        queue=np.searchsorted([3600, 14_400], requested_s[order]) + 1,
    )


def _check(jobs: int, users: int, procs: int, days: float | None, load: float) -> None:
    for name, value, least in (("jobs", jobs, 1), ("users", users, 1), ("procs", procs, 2)):
        if value < least:
            raise BadRequest(f"generate log: {name} is {value}; it must be {least} or more")
    if not 0 < load < 1:
        raise BadRequest(f"generate log: load is {load}; it must lie in (0, 1)")
    if days is not None and not days > 0:
        raise BadRequest(f"generate log: days is {days}; it must be more than 0")


class Applications(NamedTuple):
    """Applications, each of one user; an array each."""

    user: Ints
    share: Floats
    """How often it is run, relative."""
    log_median: Floats
    spread: Floats
    width: Ints
    """Logarithm of its processors."""
    is_odd: NDArray[np.bool_]
    """Whether it takes five eighths of that."""
    mem_kib: Ints
    shift_at: Floats
    """When its run times shift, as a share of the log."""
    shift: Floats
    limit: Ints
    """Step of the ladder of limits that is requested."""


def _widest(procs: int) -> int:
    """Logarithm of the most processors that a job takes."""
    return int(math.log2(procs)) - 1


def _applications(rng: np.random.Generator, users: int, procs: int) -> Applications:
    """Draw what the users run."""
    apps_of_user = np.minimum(1 + rng.poisson(2.0, users), 6)
    user_of_app = np.repeat(np.arange(users), apps_of_user)
    apps = len(user_of_app)
    user_share = rng.permutation(1.0 / np.arange(1, users + 1) ** 0.8)
    app_share = user_share[user_of_app] * rng.gamma(1.0, 1.0, apps)
    log_median = np.clip(rng.normal(math.log(1500), 1.4, apps), math.log(15), math.log(30_000))
    spread = rng.uniform(0.1, 0.6, apps)
    width_of_app = np.minimum(rng.geometric(0.35, apps) - 1, _widest(procs))
    odd_width = rng.random(apps) < 0.1
    mem_of_app = 2 ** rng.integers(17, 22, apps)
    shift_at = np.where(
        np.arange(3) < rng.poisson(0.8, apps)[:, None], rng.random((apps, 3)), 2.0
    )  # a shift at 2, twice the log's length, never comes
    shift = np.hstack([np.zeros((apps, 1)), np.cumsum(rng.normal(0, 0.6, (apps, 3)), axis=1)])
    lazy_limit = np.where(rng.random(users) < 0.15, rng.choice(LIMITS_S[4:8], users), 0)
    wanted = np.exp(log_median) * np.clip(rng.lognormal(math.log(2.5), 0.6, apps), 1.2, 10)
    limit = np.searchsorted(LIMITS_S, np.maximum(wanted, lazy_limit[user_of_app]))
    return Applications(
        user_of_app, app_share, log_median, spread, width_of_app, odd_width, mem_of_app, shift_at,
        shift, limit,
    )  # fmt: skip


def _within_s(rng: np.random.Generator, session: Ints) -> Floats:
    """Seconds from the first job of each job's session to its own submission."""
    jobs = len(session)
    gap_s = np.where(
        (rng.random(session[-1] + 1) < 0.4)[session],  # a script submits, or a person thinks
        rng.lognormal(math.log(4), 0.7, jobs),
        rng.lognormal(math.log(400), 1.0, jobs),
    )
    first = np.r_[True, session[1:] != session[:-1]]
    gap_s[first] = 0
    passed_s = np.cumsum(gap_s)
    return passed_s - passed_s[first][session]


def _in_rhythm(place: Floats, length_s: float) -> Floats:
    """Positions in [0, 1) as seconds into the log, denser at working hours."""
    hours = np.arange(math.ceil(length_s / HOUR_S) + 1)
    intensity = _BY_HOUR[hours % 24] * _BY_WEEKDAY[hours // 24 % 7]
    passed = np.concatenate([[0.0], np.cumsum(intensity)])
    edges_s = np.append(hours, hours[-1] + 1) * float(HOUR_S)
    share_at_end = np.interp(length_s, edges_s, passed)
    return np.interp(place * share_at_end, passed, edges_s)


class _EasyQueue:
    """Jobs that wait for a machine under EASY backfilling with the requested times.

    A job whose patience is 0 s or more leaves the queue when it has waited so long.
    """

    def __init__(
        self, submit_s: Ints, run_s: Ints, requested_s: Ints, procs: Ints, patience_s: Ints,
        total: int,
    ) -> None:  # fmt: skip
        self.submits, self.runs, self.limits, self.widths, self.patience = (
            a.tolist() for a in (submit_s, run_s, requested_s, procs, patience_s)
        )
        self.waits = [-1] * len(self.submits)
        self.free, self.now = total, 0
        self.queue: list[int] = []
        self.ends: list[tuple[int, int, int]] = []  # true end, job, expected end
        self.leaves: list[tuple[int, int]] = []  # time, job
        self.expected: list[tuple[int, int]] = []  # expected end, job; sorted

    def waited_s(self) -> Ints:
        """Waits in seconds; -1 for jobs that gave up."""
        upcoming, submits, queue = 0, self.submits, self.queue
        while upcoming < len(submits) or self.ends:
            nexts = [q[0][0] for q in (self.ends, self.leaves) if q]
            if upcoming < len(submits):
                nexts.append(submits[upcoming])
            self.now = min(nexts)
            self._end()
            while upcoming < len(submits) and submits[upcoming] == self.now:
                queue.append(upcoming)
                if self.patience[upcoming] >= 0:
                    heappush(self.leaves, (self.now + self.patience[upcoming], upcoming))
                upcoming += 1
            while queue and self.widths[queue[0]] <= self.free:
                self._start(queue.pop(0))
            if queue and self.free:
                self._backfill()
            while self.leaves and self.leaves[0][0] == self.now:
                _, job = heappop(self.leaves)
                if self.waits[job] < 0:
                    queue.remove(job)
        return np.array(self.waits, dtype=np.int64)

    def _end(self) -> None:
        while self.ends and self.ends[0][0] == self.now:
            _, job, expected_s = heappop(self.ends)
            self.free += self.widths[job]
            self.expected.remove((expected_s, job))

    def _start(self, job: int) -> None:
        now, limit_s = self.now, self.limits[job]
        self.waits[job] = now - self.submits[job]
        self.free -= self.widths[job]
        heappush(self.ends, (now + self.runs[job], job, now + limit_s))
        insort(self.expected, (now + limit_s, job))

    def _backfill(self) -> None:
        """Start what does not delay the first of the queue."""
        first, now = self.widths[self.queue[0]], self.now
        shadow_s, spare = now, self.free
        for expected_s, job in self.expected:
            if spare >= first:
                break
            shadow_s, spare = expected_s, spare + self.widths[job]
        spare -= first
        stay = [self.queue[0]]
        for job in self.queue[1:]:
            in_time = now + self.limits[job] <= shadow_s
            if self.widths[job] <= self.free and (in_time or self.widths[job] <= spare):
                spare -= 0 if in_time else self.widths[job]
                self._start(job)
            else:
                stay.append(job)
        self.queue[:] = stay


def swf_text(log: GeneratedLog) -> str:
    """A log in the Standard Workload Format, version 2.2.

    References
    ----------
    https://www.cs.huji.ac.il/labs/parallel/workload/swf.html
    """
    header = [
        "Version: 2.2",
        "Computer: none, generated by plancast",
        f"Note: seed {log.seed}; a replay under EASY backfilling gave the waits",
        f"MaxJobs: {len(log)}",
        f"MaxRecords: {len(log)}",
        "Preemption: No",
        f"UnixStartTime: {log.start_s}",
        "TimeZoneString: Etc/UTC",
        f"MaxNodes: {log.procs_total}",
        f"MaxProcs: {log.procs_total}",
        f"MaxRuntime: {LIMITS_S[-1]}",
        "MaxQueues: 3",
        "Queues: 1 short (up to 1 h), 2 medium (up to 4 h), 3 long",
    ]
    ran = log.run_s >= 0
    unknown = np.full(len(log), -1)
    columns = [
        np.arange(1, len(log) + 1),
        log.submit_s,
        log.wait_s,
        log.run_s,
        np.where(ran, log.procs, -1),
        unknown,
        unknown,
        log.procs,
        log.requested_s,
        log.mem_kib,
        log.status,
        log.user,
        log.group,
        log.app,
        log.queue,
        unknown,
        unknown,
        unknown,
    ]
    rows = [" ".join(map(str, row)) for row in np.column_stack(columns).tolist()]
    return "".join(f"; {line}\n" for line in header) + "\n".join(rows) + "\n"


def write_swf(log: GeneratedLog, path: str | Path) -> None:
    """Write a log as SWF, whole or not at all; gzip where the name ends in ``.gz``."""
    path = Path(path)
    content = swf_text(log).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)

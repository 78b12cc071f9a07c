"""A problem as the arrays of ``kernels.ruin``, and schedules into and out of them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.graph import dues
from plancast.planner.arrays.packing import Words, words_of, words_of_counted
from plancast.planner.arrays.problem import Floats, Ints, Problem, Profile, Schedule, offsets
from plancast.planner.arrays.rates import prices_deadlines
from plancast.planner.arrays.schedule import (
    BEFORE,
    BEYOND_CHOICE,
    FIRST_CHOICE,
    LAG,
    MOST_HERE,
    MOST_WORKERS,
    SINCE,
    WHOLE,
)
from plancast.planner.bounds.relaxation import Relaxation
from plancast.planner.model.domain import HOUR_S
from plancast.planner.solvers.greedy.priority_rules import priorities, waiting_costs
from plancast.planner.solvers.lns import ruin
from plancast.planner.solvers.lns.ruin import FAR, Fixed, Shared, State

PLACES = 256
"""Workers in the pool of each kind."""
SPARE = 64
"""Pieces for which each row of a fresh state has room; it grows."""
SLICE_S = 0.02
"""A call of the kernel lasts about this long, so that a deadline is kept."""
CALL_S = 4e-6
"""Least seconds of one for each task: it sums up what all of them cost anew."""
MOST_FASTER = 4.0
"""From one call to the next no more than so many times as many moves are trusted."""
RANKS = ("slack", "area", "tail", "smith", "latest", "scarce")
"""Orders of ``priorities`` in which ruined tasks are put back, besides a random one."""
ODDS = np.cumsum([0.3, 0.2, 0.15, 0.15, 0.1, 0.1, 0.0])
"""Cumulated chances of ``ruin``'s rules."""
ODDS_OF_GANGS = np.cumsum([0.15, 0.1, 0.075, 0.075, 0.05, 0.05, 0.5])
"""The same where gangs wait: no other move makes room for one on many workers at once."""
FEW_WITH_GANGS = 500
"""Tasks up to which that pays."""
LEVELLED = 0.95
"""Workers that end later than so many of them are charged for it by ``Walk.level``."""


@dataclass(frozen=True)
class Shape:
    """What a move looks like: parameters of ``ruin.search``."""

    most: int
    looked_at: int
    blink: float
    tie: float


def fixed_arrays(problem: Problem) -> Fixed:
    """What does not change during a search over a problem.

    Its ``pool`` is empty; ``with_pool`` makes one.
    """
    ti = np.zeros((len(problem.tasks), ruin.TASK_INTS), np.int64)
    succ_ptr, succ = _followers(problem)
    for column, values in (
        (ruin.RELEASE, problem.release), (ruin.RAW_RELEASE, problem.raw_release),
        (ruin.DEADLINE, problem.deadline), (ruin.HARD_END, problem.hard_end),
        (ruin.LAST_START, problem.last_start), (ruin.OWNER, problem.owner),
        (ruin.KIND, problem.kind), (ruin.SHARDS, problem.shards),
        (ruin.FIRST, problem.shard_ptr[:-1]), (ruin.BEYOND, problem.shard_ptr[1:]),
        (ruin.MOVED_AFTER, problem.moved_after), (ruin.MINE, np.int64(1)),
        (ruin.COUNTED, problem.takes.any(axis=1)),
        (ruin.PER_WORKER, problem.gang[:, MOST_HERE]),
        (ruin.ON_WORKERS, problem.gang[:, MOST_WORKERS]),
        (ruin.CHOICE, problem.gang[:, FIRST_CHOICE]),
        (ruin.BEYOND_CHOICE, problem.gang[:, BEYOND_CHOICE]), (ruin.LONE, np.int64(-1)),
        (ruin.PRED, problem.link_ptr[:-1]), (ruin.BEYOND_PRED, problem.link_ptr[1:]),
        (ruin.SUCC, succ_ptr[:-1]), (ruin.BEYOND_SUCC, succ_ptr[1:]),
    ):  # fmt: skip
        ti[:, column] = values
    words = words_of(problem)
    lone = np.flatnonzero(problem.gang[:, WHOLE])
    if len(lone):
        ti[lone, ruin.LONE] = words.word[-1]
        ti[lone, ruin.LONE_ALL] = problem.gang[lone, WHOLE] // words.unit[-1] << words.shift[-1]
        ti[lone, ruin.LONE_EACH] = problem.demand[lone, -1] // words.unit[-1] << words.shift[-1]
    ti = np.concatenate([ti, words.needs(problem.demand)], axis=1)
    due, due_weight, rest = dues(
        problem.deadline, problem.weight, problem.shortest, problem.pred_ptr, problem.pred
    )
    ti[:, ruin.DUE], ti[:, ruin.REST] = due, rest
    rates = problem.rates
    scalars = np.zeros(ruin.MOVE + 1)
    for place, value in (
        (ruin.END_S, rates.end), (ruin.LATE_S, rates.late), (ruin.MISS, rates.miss),
        (ruin.WAIT_S, rates.wait), (ruin.SLOWDOWN, rates.slowdown), (ruin.OWNER_S, rates.owner),
        (ruin.LOAD_S, rates.load), (ruin.FAIL, rates.fail), (ruin.MOVE, rates.move),
    ):  # fmt: skip
        scalars[place] = value
    every = [np.flatnonzero(row) for row in problem.allowed]
    piece_task = np.repeat(np.arange(len(problem.tasks)), problem.shards)
    return Fixed(
        ti=ti,
        tf=np.column_stack([problem.weight, due_weight, 1.0 / problem.owner_tasks[problem.owner]]),
        wi=_worker_ints(problem),
        wf=_worker_floats(problem),
        pi=np.column_stack([piece_task, problem.was_on]),
        run_s=problem.duration,
        room=_room(problem),
        share=problem.share,
        link=np.concatenate([problem.link, succ]),
        every_ptr=np.concatenate([[0], np.cumsum([len(e) for e in every])]),
        every=np.concatenate(every),
        pool=np.zeros((len(every), 1), np.int64),
        active=np.arange(len(problem.tasks)),
        rates=scalars,
        owner_tasks=problem.owner_tasks,
        base_wait_s=problem.owner_wait_h * HOUR_S,
        max_stretch=float(problem.max_stretch),
        base_cost=rates.fixed + rates.move * problem.gone,
        hours=problem.hours_or_none,
    )


def _room(problem: Problem) -> Ints:
    """Most pieces of each kind that an empty worker may hold. Shape (kinds, workers)."""
    room: Ints = problem.allowed * np.int64(FAR)
    gangs = np.flatnonzero(problem.shards > 1)
    for i in gangs[np.unique(problem.kind[gangs], return_index=True)[1]]:
        kinds = [problem.kind[i], *range(*problem.gang[i, [FIRST_CHOICE, BEYOND_CHOICE]])]
        fits = (problem.capacity // np.maximum(problem.demand[i], 1))[:, problem.demand[i] > 0]
        room[kinds] = problem.allowed[kinds] * fits.min(axis=1, initial=FAR)
    return room


def _followers(problem: Problem) -> tuple[Ints, Ints]:
    """``Problem.link`` turned round: who waits for each task, and as there since when.

    Its row pointers count on from the rows of ``Problem.link``, below which it stands.
    """
    tasks = len(problem.tasks)
    by_before = np.argsort(problem.before, kind="stable")
    succ = problem.link[by_before]
    succ[:, BEFORE] = np.repeat(np.arange(tasks), np.diff(problem.link_ptr))[by_before]
    return len(succ) + offsets(np.bincount(problem.before, minlength=tasks)), succ


def _worker_ints(problem: Problem) -> Ints:
    result = np.zeros((len(problem.workers), 6), np.int64)
    result[:, ruin.CLASS] = problem.worker_class
    result[:, ruin.FREE_FROM] = problem.free_from
    result[:, ruin.BASE_END] = problem.last_end
    result[:, ruin.BASE_ON] = problem.on
    result[:, ruin.OURS] = 1
    result[:, ruin.TARGET] = FAR
    return result


def _worker_floats(problem: Problem) -> Floats:
    result = np.zeros((len(problem.workers), 6))
    result[:, ruin.IDLE] = problem.rates.idle
    result[:, ruin.BUSY] = problem.rates.busy
    result[:, ruin.BOOT] = problem.rates.boot
    result[:, ruin.HEALTH] = problem.health
    result[:, ruin.BASE_LOAD] = problem.load_h * HOUR_S
    return result


def with_pool(fixed: Fixed, relaxation: Relaxation | None, rng: np.random.Generator) -> Fixed:
    """The same with a pool: half of it all workers alike, half as the relaxation shares."""
    half = PLACES // 2
    pool = np.zeros((len(fixed.every_ptr) - 1, PLACES), np.int64)
    if relaxation is not None:
        group = relaxation.worker_group
        of_worker = (relaxation.share / np.bincount(group))[:, group]
    for kind in range(len(pool)):
        workers = fixed.every[fixed.every_ptr[kind] : fixed.every_ptr[kind + 1]]
        if not len(workers):
            continue
        pool[kind, :half] = np.resize(rng.permutation(workers), half)
        sums = None if relaxation is None else np.cumsum(of_worker[kind, workers])
        if sums is not None and sums[-1] > 0:
            # What ``rng.choice`` with chances does, without all its checks.
            drawn = np.searchsorted(sums / sums[-1], rng.random(PLACES - half), side="right")
            pool[kind, half:] = workers[drawn]
        else:
            pool[kind, half:] = rng.choice(workers, PLACES - half)
    return fixed._replace(pool=pool)


def state_arrays(problem: Problem, schedule: Schedule | None) -> tuple[State, Ints]:
    """A state with the times and workers of a schedule (or nothing placed), and its profile.

    ``kernels.ruin.load`` makes the rest of it.
    """
    times, free, count = problem.profile()
    workers, pieces = len(problem.workers), int(problem.shard_ptr[-1])
    ts = np.full((len(problem.tasks), 2), FAR, np.int64)
    ps = np.full((pieces, 3 if problem.tells_apart else 2), -1, np.int64)
    ps[:, ruin.MASK :] = 0
    if schedule is not None:
        ts[:, ruin.START], ts[:, ruin.END] = schedule.start, schedule.end
        # Pieces of a task are alike: those on one worker stand side by side.
        task = np.repeat(np.arange(len(problem.tasks)), problem.shards)
        side_by_side = np.lexsort((schedule.worker, task))
        ps[:, ruin.ON] = schedule.worker[side_by_side]
        if problem.tells_apart and schedule.devices is not None:
            ps[:, ruin.MASK] = schedule.devices[side_by_side]
    ws = np.zeros((workers, 3), np.int64)
    state = State(ts, ps, ws, np.zeros(workers), np.zeros(len(problem.owners)), _shared(problem))
    profile, ws[:, ruin.COUNT] = packed_profile(words_of(problem), (times, free, count))
    return state, profile


def _shared(problem: Problem) -> Shared | None:
    """``State.shared`` before anything is placed; as ``Problem.spare_profile``."""
    if problem.is_plain:
        return None
    words = words_of_counted(problem)
    profile, count = packed_profile(words, problem.spare)
    ws = np.zeros((1, 3), np.int64)
    ws[:, ruin.COUNT] = count
    ti = np.zeros((len(problem.tasks), ruin.TASK_INTS), np.int64)
    ti[:, ruin.LONE] = -1
    ti = np.concatenate([ti, words.needs(problem.takes)], axis=1)
    # A task that is put where another one was for a moment has two segments more.
    more = 2 * (int(problem.takes.any(axis=1).sum()) + 2)
    profile = np.pad(profile, ((0, 0), (0, more), (0, 0)))
    return Shared(profile, ws, ti, problem.device_state())


def packed_profile(words: Words, profile: Profile) -> tuple[Ints, Ints]:
    """A profile as ``kernels.ruin`` has it, and its number of segments on each worker."""
    times, free, count = profile
    packed = words.free(free)
    # Amounts that differ too little to matter are alike in words: such segments are one.
    keep = np.arange(times.shape[1]) < count[:, None]
    keep[:, 1:] &= (packed[:, 1:] != packed[:, :-1]).any(axis=2)
    worker, segment = np.nonzero(keep)
    place = keep.cumsum(axis=1)[worker, segment] - 1
    result = np.zeros((*times.shape, 1 + packed.shape[2]), np.int64)
    result[worker, place, 0] = times[worker, segment]
    result[worker, place, 1:] = packed[worker, segment]
    return result, keep.sum(axis=1)


def schedule_of(ts: Ints, ps: Ints) -> Schedule:
    """The schedule in a state's arrays."""
    devices = ps[:, ruin.MASK].copy() if ps.shape[1] > ruin.MASK else None
    return Schedule(
        ts[:, ruin.START].copy(), ts[:, ruin.END].copy(), ps[:, ruin.ON].copy(), devices=devices
    )


def ranks(problem: Problem, makespan_s: float | None = None) -> Floats:
    """Priority values for the order of reinsertion. Shape (orders, tasks)."""
    keys = priorities(problem, makespan_s)
    return np.array([keys[name] for name in RANKS])


class Walk:
    """One simulated annealing over the schedules of a problem; the state of ``ruin.search``.

    Parameters
    ----------
    problem : Problem
    fixed : Fixed
        With a pool; its ``wf`` is this walk's own.
    start : Schedule
    rank : float64 (orders, tasks)
        Of ``ranks``.
    seed : int
    """

    def __init__(
        self, problem: Problem, fixed: Fixed, start: Schedule, rank: Floats, seed: int
    ) -> None:
        self.problem, self.fixed, self.rank = problem, fixed, rank
        self.rng = np.random.default_rng(seed)
        self.idle, self.busy = fixed.wf[:, ruin.IDLE].copy(), fixed.wf[:, ruin.BUSY].copy()
        self.best, self.best_cost = start, full_cost(problem, start)
        self.restart(start)
        self.moves = 0
        self.odds = ODDS_OF_GANGS if gangs_wait(problem) else ODDS
        self._moves_a_second = 0.0

    def restart(self, schedule: Schedule) -> None:
        """Go on from another schedule."""
        self.state, profile = state_arrays(self.problem, schedule)
        self.profile, self.items = ruin.load(self.fixed, self.state, profile, SPARE)

    def now(self) -> Schedule:
        """The schedule where the walk is."""
        return schedule_of(self.state.ts, self.state.ps)

    def level(self, part: float) -> None:
        """Charge the workers that end last for it, beside the makespan that only the latest makes.

        Otherwise that all of them have to end sooner before the makespan does is a plateau.

        Parameters
        ----------
        part : float
            What a second sooner of all of them saves, as a part of the makespan's price.
        """
        last = self.state.ws[:, ruin.LAST]
        used = last[(self.state.ws[:, ruin.NUMBER] > 0) & (self.fixed.wi[:, ruin.OURS] == 1)]
        target = int(np.quantile(used, LEVELLED)) if len(used) else FAR
        price = part * self.fixed.rates[ruin.END_S] / max(1, int((used > target).sum()))
        self.fixed.wi[:, ruin.TARGET], self.fixed.wf[:, ruin.OVER] = target, price

    def step(
        self, moves: int, heat: float, rent: float, shape: Shape, odds: Floats | None = None
    ) -> None:
        """Make so many moves at one temperature.

        Parameters
        ----------
        moves : int
        heat : float
            Temperature, in units of cost.
        rent : float
            Part of a worker's idle power that is charged for its use by the second, beside the
            on-time itself: otherwise only the last task on a worker seems to cost anything.
        shape : Shape
        odds : float64 (ruin rules,), optional
            Their cumulated chances; the walk's own without them.
        """
        self.fixed.wf[:, ruin.BUSY] = self.busy + rent * self.idle
        self.profile, self.items, ts, ps, _, _ = ruin.search(
            self.fixed, self.state, self.profile, self.items, self.rank,
            self.odds if odds is None else odds, moves, heat,
            shape.most, shape.looked_at, shape.blink, shape.tie, int(self.rng.integers(1 << 31)),
        )  # fmt: skip
        self.moves += moves
        self.offer(schedule_of(ts, ps))

    def step_until(self, until: float, heat: float, rent: float, shape: Shape) -> None:
        """Make moves until ``time.perf_counter`` says `until`, in calls of some 20 ms or more."""
        slice_s = max(SLICE_S, CALL_S * len(self.problem.tasks))
        while (left := until - time.perf_counter()) > 0 and not interruption.asked():
            moves = max(4, int(min(left, slice_s) * self._moves_a_second))
            began = time.perf_counter()
            self.step(moves, heat, rent, shape)
            # A coarse clock may say that a call took no time at all.
            rate = moves / max(1e-6, time.perf_counter() - began)
            self._moves_a_second = min(rate, MOST_FASTER * moves / slice_s)

    def offer(self, schedule: Schedule) -> None:
        """Keep a schedule if it is the best so far."""
        cost = full_cost(self.problem, schedule)
        if cost < self.best_cost:
            self.best, self.best_cost = schedule, cost


def gangs_wait(problem: Problem) -> bool:
    """Whether there are gangs in a batch that is not large, and when tasks run has a price."""
    priced = waiting_costs(problem) or prices_deadlines(problem.rates)
    few = len(problem.tasks) <= FEW_WITH_GANGS
    return bool(few and priced and (problem.shards > 1).any())


def order_tells_all(problem: Problem) -> bool:
    """Whether time has a price, and who goes first is all that decides what it costs.

    Orders and rows know what workers have, not what the cluster has; no lags, devices that are told
    apart, or later starts for cheaper energy.
    """
    more = problem.counted or problem.is_related or problem.tells_apart
    priced = waiting_costs(problem) or prices_deadlines(problem.rates)
    return bool(priced and not more and problem.hours is None)


def full_cost(problem: Problem, schedule: Schedule) -> float:
    """Price of a schedule, moves against the incumbent included."""
    cost = problem.cost(schedule)
    if problem.rates.move > 0:
        cost += problem.rates.move * problem.moved(schedule)
    return cost


def split(
    fixed: Fixed, schedule: Schedule, group: Ints, rng: np.random.Generator
) -> tuple[Fixed, Fixed]:
    """Two searches over one schedule that cannot meet: each has half of the workers of each group.

    A task belongs to a half if all its workers do. Where one half's task comes before the
    other's, a moment between its end and the other's start is drawn that neither may pass. Each
    half pays half of the makespan's price for its own latest end: with the other half's in
    sight neither would gain from ending sooner.

    Parameters
    ----------
    fixed : Fixed
    schedule : Schedule
    group : int64 (workers,)
    rng : numpy Generator
    """
    workers = len(group)
    shuffled = np.lexsort((rng.random(workers), group))
    half = np.zeros(workers, np.int64)
    half[shuffled[int(rng.integers(2)) :: 2]] = 1
    tasks = len(fixed.ti)
    of_piece = half[schedule.worker]
    low, high = np.full(tasks, 2), np.full(tasks, -1)
    np.minimum.at(low, fixed.pi[:, ruin.TASK], of_piece)
    np.maximum.at(high, fixed.pi[:, ruin.TASK], of_piece)
    side = np.where(low == high, low, -1)
    link = fixed.link[: len(fixed.link) // 2]
    after = np.repeat(np.arange(tasks), fixed.ti[:, ruin.BEYOND_PRED] - fixed.ti[:, ruin.PRED])
    before = link[:, BEFORE]
    apart = (side[after] != side[before]) | (side[after] < 0)
    after, before, lag = after[apart], before[apart], link[apart, LAG]
    ends = link[apart, SINCE] == 1
    reached = np.where(ends, schedule.end[before], schedule.start[before])
    between = np.where(rng.random(len(reached)) < 0.5, reached, schedule.start[after] - lag)
    halves = []
    for mine in range(2):
        ti, wi = fixed.ti.copy(), fixed.wi.copy()
        ti[:, ruin.MINE] = side == mine
        wi[:, ruin.OURS] = half == mine
        np.maximum.at(ti[:, ruin.RELEASE], after, between + lag)
        np.minimum.at(ti[:, ruin.HARD_END], before[ends], between[ends])
        np.minimum.at(ti[:, ruin.LAST_START], before[~ends], between[~ends])
        active = np.flatnonzero(side == mine)
        rates = fixed.rates.copy()
        rates[ruin.END_S] /= 2.0
        halves.append(fixed._replace(ti=ti, wi=wi, wf=fixed.wf.copy(), active=active, rates=rates))
    return halves[0], halves[1]


def join(schedule: Schedule, parts: list[tuple[Fixed, Schedule]]) -> Schedule:
    """A schedule with the tasks of each part as that part has them."""
    start, end, worker = schedule.start.copy(), schedule.end.copy(), schedule.worker.copy()
    for fixed, part in parts:
        mine = fixed.active
        start[mine], end[mine] = part.start[mine], part.end[mine]
        pieces = fixed.ti[fixed.pi[:, ruin.TASK], ruin.MINE] == 1
        worker[pieces] = part.worker[pieces]
    return Schedule(start, end, worker)

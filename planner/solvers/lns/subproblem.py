"""What is left to place where the rest of a plan stays: a problem of its own, and back.

The tasks that stay hold their workers over their times, as closed windows do; their cost is
part of the base. The engines that solve a problem solve this one as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plancast.planner.arrays.cost import own_costs
from plancast.planner.arrays.hours import extra_of_pieces
from plancast.planner.arrays.problem import Bools, Ints, Problem, Profile, Schedule, offsets
from plancast.planner.arrays.rates import Rates
from plancast.planner.arrays.schedule import occupy, with_room
from plancast.planner.model.domain import HOUR_S
from plancast.planner.solvers.lns import ruin
from plancast.planner.solvers.lns.local_search import SPARE, state_arrays
from plancast.planner.solvers.lns.ruin import Fixed


@dataclass(frozen=True, eq=False)
class Rest(Problem):
    """A problem on workers of which tasks that are not its own hold a part.

    Parameters
    ----------
    held : Profile
        What is free before anything of this problem is placed.
    whole : Problem
    places : int64 (tasks,)
        Index of each task in `whole`.
    kept : Schedule
        Of `whole`; tasks of this problem have any times.
    """

    held: Profile = field(kw_only=True)
    whole: Problem = field(kw_only=True)
    places: Ints = field(kw_only=True)
    kept: Schedule = field(kw_only=True)

    def profile(self) -> Profile:
        """A copy of what is free before anything of this problem is placed."""
        times, free, count = self.held
        return times.copy(), free.copy(), count.copy()

    def pieces(self) -> Ints:
        """Index in `whole` of each piece. Shape (pieces,)."""
        first = self.whole.shard_ptr
        return np.concatenate([np.arange(first[i], first[i + 1]) for i in self.places])

    def joined(self, schedule: Schedule) -> Schedule:
        """The schedule of `whole` in which these tasks are placed so."""
        start, end, worker = self.kept.start.copy(), self.kept.end.copy(), self.kept.worker.copy()
        start[self.places], end[self.places] = schedule.start, schedule.end
        worker[self.pieces()] = schedule.worker
        return Schedule(start, end, worker)

    def part_of(self, schedule: Schedule) -> Schedule:
        """These tasks as a schedule of `whole` has them."""
        return Schedule(
            schedule.start[self.places].copy(), schedule.end[self.places].copy(),
            schedule.worker[self.pieces()].copy(),
        )  # fmt: skip


def rest_of(problem: Problem, fixed: Fixed, schedule: Schedule, out: Bools) -> Rest:
    """The problem of placing the tasks `out` anew where all others stay as they are.

    Parameters
    ----------
    problem : Problem
    fixed : Fixed
        Of ``local_search.fixed_arrays``.
    schedule : Schedule
        Valid.
    out : bool (tasks,)

    Raises
    ------
    ValueError
        Where ``problem.is_related``: what stays would bind in ways that a problem cannot say.

    Notes
    -----
    A schedule of the rest costs what the joined one does, but for ``moves`` and for the boots
    of workers on which something stays: those are the same in every schedule.
    """
    if problem.is_related:
        raise ValueError("what stays binds in ways that a problem cannot say")
    places, stay = np.flatnonzero(out), np.flatnonzero(~out)
    piece_out = np.repeat(out, problem.shards)
    state, profile = state_arrays(problem, schedule)
    state.ts[places] = ruin.FAR
    ruin.load(fixed, state, profile, SPARE)
    place = np.full(len(out), -1, np.int64)
    place[places] = np.arange(len(places))
    preds = [[place[b] for b in problem.predecessors(int(i)) if out[b]] for i in places]
    release, hard_end = _bounds(problem, fixed, schedule, out)
    on_workers = np.zeros(len(problem.workers), np.bool_)
    on_workers[schedule.worker[~piece_out]] = True
    columns: dict[str, Any] = {
        name: getattr(problem, name)[places]
        for name in ("demand", "raw_release", "deadline", "last_start", "weight", "shards",
                     "owner", "kind", "duration", "moved_after", "gang")
    }  # fmt: skip
    inherited = {name: getattr(problem, name) for name in _AS_THEY_ARE}
    return Rest(
        **inherited,
        **columns,
        tasks=tuple(problem.tasks[i] for i in places),
        release=release[places],
        hard_end=hard_end[places],
        shard_ptr=offsets(columns["shards"]),
        pred_ptr=offsets([len(p) for p in preds]),
        pred=np.array([b for row in preds for b in row], np.int64),
        link_ptr=offsets([len(p) for p in preds]),
        link=np.array([(b, 1, 0) for row in preds for b in row], np.int64).reshape(-1, 3),
        was_on=problem.was_on[piece_out],
        last_end=state.ws[:, ruin.LAST].copy(),
        on=problem.on | on_workers,
        load_h=state.load_s / HOUR_S,
        owner_wait_h=state.wait_s / HOUR_S,
        rates=_with_kept(problem, schedule, stay),
        held=_held(problem, schedule, stay),
        takes=problem.takes[places],
        spare=_spare(problem, schedule, stay),
        whole=problem,
        places=places,
        kept=schedule,
    )


_AS_THEY_ARE = (
    "request", "unplanned", "infeasible", "resources", "classes", "owners", "max_stretch",
    "allowed", "share", "gone", "capacity", "worker_class", "free_from", "until", "health",
    "busy_worker", "busy_end", "busy_demand", "shut_worker",
    "shut_start", "shut_end", "owner_tasks", "counted", "hours",
)  # fmt: skip
"""Fields that the rest has as the whole has them."""


def _held(problem: Problem, schedule: Schedule, stay: Ints) -> Profile:
    """What is free beside the tasks that stay."""
    times, free, count = problem.profile()
    for i in stay:
        for p in range(problem.shard_ptr[i], problem.shard_ptr[i + 1]):
            w = schedule.worker[p]
            times, free = with_room(times, free, count, w)
            occupy(times, free, count, w, schedule.start[i], schedule.end[i], problem.demand[i])
    return times, free, count


def _spare(problem: Problem, schedule: Schedule, stay: Ints) -> Profile:
    """What is free of counted resources beside the tasks that stay."""
    spare = problem.spare_profile()
    if spare is None:
        return problem.spare
    for i in stay[problem.takes[stay].any(axis=1)]:
        occupy(*spare[:3], 0, schedule.start[i], schedule.end[i], problem.takes[i])
    used = int(spare.segments[0])
    return spare.times[:, :used].copy(), spare.free[:, :used].copy(), spare.segments


def _bounds(problem: Problem, fixed: Fixed, schedule: Schedule, out: Bools) -> tuple[Ints, Ints]:
    """Earliest start and latest end that the tasks which stay leave. Shapes (tasks,)."""
    release, hard_end = problem.release.copy(), problem.hard_end.copy()
    after = np.repeat(np.arange(len(out)), np.diff(problem.pred_ptr))
    before = problem.pred
    stays_before = out[after] & ~out[before]
    np.maximum.at(release, after[stays_before], schedule.end[before[stays_before]])
    stays_after = ~out[after] & out[before]
    np.minimum.at(hard_end, before[stays_after], schedule.start[after[stays_after]])
    return release, hard_end


def _with_kept(problem: Problem, schedule: Schedule, stay: Ints) -> Rates:
    """The coefficients, with what stays among what costs the same in every schedule.

    Power of workers, loads and waits of owners are kept by worker and by owner.
    """
    first = problem.shard_ptr
    pieces = np.concatenate(
        [np.zeros(0, np.int64), *(np.arange(first[i], first[i + 1]) for i in stay)]
    ).astype(np.int64)
    by_task = ("raw_release", "deadline", "weight", "owner", "kind")
    part = problem.priced._replace(
        **{name: getattr(problem, name)[stay] for name in by_task},
        shard_ptr=offsets(problem.shards[stay]),
    )
    start, end, worker = schedule.start[stay], schedule.end[stay], schedule.worker[pieces]
    cost = own_costs(problem.rates, part, start, end, worker)
    if problem.hours is not None:
        cost += extra_of_pieces(problem.hours, part, start, end, worker)
    return problem.rates._replace(fixed=problem.rates.fixed + float(cost))

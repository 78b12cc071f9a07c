"""A batch on one machine, or few alike, executed in a closed loop over the order of its tasks.

Whenever room comes free or is taken, the order in which tasks are served is searched anew from
where it is, over scenarios of a common level of what is believed by then; then every task takes
a reservation in that order, and those whose reservation begins now start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plancast.planner.arrays.packing import words_of
from plancast.planner.arrays.problem import Ints
from plancast.planner.arrays.schedule import build_profile
from plancast.planner.model.domain import Plan
from plancast.planner.solvers.lns import order_kernel as kernel
from plancast.planner.solvers.lns import orders, ruin
from plancast.planner.solvers.lns.local_search import packed_profile
from plancast.planner.solvers.lns.order_kernel import Futures
from plancast.planner.worlds.dispatch import ENDED, FAR, RUNNING, WAITING, Live, copy_of
from plancast.planner.worlds.dispatch_arrays import Arena
from plancast.planner.worlds.shrinkage import Forecasts


@dataclass(frozen=True)
class Search:
    """How an order is searched when something has happened.

    Parameters
    ----------
    moves : int
        Moves each time; 0: the order of the plan stays.
    heat : orders.Heat
        Temperatures, as shares of the cost over the tasks that wait.
    """

    moves: int = orders.WARM_MOVES
    heat: orders.Heat = orders.WARM


class PoolLoop:
    """One execution; of the arena it reads everything but the truth.

    Parameters
    ----------
    arena : Arena
        Of a problem that ``orders.suits``.
    plan : Plan
        Of every task that can be planned; its order is where the search begins.
    levels : sequence of float
        Scenarios over which an order is priced; none: the policy's level alone.
    search : Search
    seed : int
    """

    def __init__(
        self, arena: Arena, plan: Plan, levels: Sequence[float], search: Search, seed: int
    ) -> None:
        self.arena, self.search = arena, search
        self.live: Live = copy_of(arena.start)
        problem = arena.problem
        self.tasks = len(problem.tasks)
        self.forecasts = Forecasts(arena, learn=bool(levels))
        self.level = arena.request.policy.level
        self.levels = tuple(levels) or (self.level,)
        self.words = words_of(problem)
        futures = orders.futures_of([problem])
        # What a plan promises, an execution may break: no bounds, but lateness has its price.
        ti = futures.ti.copy()
        ti[:, :, ruin.HARD_END] = FAR
        ti[:, :, ruin.LAST_START] = FAR
        ti[:, :, ruin.MOVED_AFTER] = FAR
        self.base = futures._replace(ti=ti, max_stretch=0.0)
        arena.homes(plan)  # refuses a plan that leaves out a task
        rows = sorted(plan.assignments, key=lambda a: (a.start_s, a.end_s, a.task))
        place = {task.id: i for i, task in enumerate(problem.tasks)}
        line = np.array([place[a.task] for a in rows if a.task in place], np.int64)
        self.order = orders.in_topological_order(problem, line)
        self.rng = np.random.default_rng(seed)
        self.thought = 0
        self.clock = self._known_moments()

    def execute(self) -> Live:
        """Go through all that happens; tasks that find no time any more stay as they are."""
        now, happened = 0, False
        while True:
            if self._happens(now) or not happened:
                happened = True
                self._start_what_may(now, think=self.search.moves > 0)
            ends = self.live.end[(self.live.state == RUNNING) & (self.live.end > now)]
            later = [int(ends.min())] if len(ends) else []
            later += [m for m in self.clock if m > now][:1]
            if not later or not (self.live.state != ENDED).any():
                return self.live
            now = min(later)

    # ------------------------------------------------------------------ inside

    def _known_moments(self) -> list[int]:
        """Releases, and when workers take tasks again."""
        cluster = self.arena.cluster
        moments = {int(m) for m in (*cluster.release[: self.tasks], *cluster.shut_end)}
        return sorted(m for m in moments if 0 <= m < FAR)

    def _happens(self, now: int) -> bool:
        """Let tasks end; whether anything freed room or arrived at this moment."""
        live = self.live
        ended = (live.state == RUNNING) & (live.end <= now)
        live.state[ended] = ENDED
        return bool(ended.any()) or now in self.clock

    def _start_what_may(self, now: int, think: bool) -> None:
        waiting = self.live.state[: self.tasks] == WAITING
        self.order = self.order[waiting[self.order]]
        if not len(self.order):
            return
        self.forecasts.learn(self.live, now)
        running = np.flatnonzero(self.live.state == RUNNING)
        if think and len(self.order) > 1:
            self.order = self._searched(now, running)
            self.thought += 1
        reserved = self._futures(now, running, (self.level,))
        placed = self.order
        while True:
            ts, ps, cost = kernel.lay_out(reserved, 0, placed, orders.nowhere(reserved))
            if np.isfinite(cost):
                break
            # A task that finds no time any more does not hold up the others.
            lost = next(i for i in placed if ts[i, ruin.START] >= FAR)
            placed = placed[placed != lost]
            if not len(placed):
                return
        for i in placed[ts[placed, ruin.START] == now]:
            self._start(int(i), now, ps)

    def _start(self, i: int, now: int, ps: Ints) -> None:
        live, ptr = self.live, self.arena.cluster.shard_ptr
        on = ps[ptr[i] : ptr[i + 1], ruin.ON]
        live.worker[ptr[i] : ptr[i + 1]] = on
        run_s = int(self.arena.actual[i, self.arena.cluster.worker_class[on]].max())
        live.state[i], live.start[i], live.end[i] = RUNNING, now, now + run_s

    def _searched(self, now: int, running: Ints) -> Ints:
        """The order after some moves, priced over the scenarios."""
        futures = self._futures(now, running, self.levels)
        before = orders.cost_of(futures, self.order)
        scale = before / len(self.order) if np.isfinite(before) else 0.0
        every = max(4, -(-len(self.order) // orders.STAGES))
        best, *_ = kernel.search(
            futures, self.order, orders.nowhere(futures), self.search.moves,
            self.search.heat.hot * scale, self.search.heat.cold * scale, orders.ODDS, 0.0, every,
            int(self.rng.integers(1 << 31)),
        )  # fmt: skip
        return best

    def _futures(self, now: int, running: Ints, levels: Sequence[float]) -> Futures:
        """What is believed now, at each level: run times, and when what runs ends."""
        arena, live, base, problem = self.arena, self.live, self.base, self.arena.problem
        cluster = arena.cluster
        pieces = np.concatenate(
            [np.arange(cluster.shard_ptr[i], cluster.shard_ptr[i + 1]) for i in running]
            or [np.zeros(0, np.int64)]
        )
        on, of = live.worker[pieces], arena.task_of[pieces]
        profiles, counts, ti, run_s, ws, base_end = [], [], [], [], [], []
        after = np.repeat(np.arange(self.tasks), np.diff(problem.pred_ptr))
        for level in levels:
            ends = self.forecasts.ends(running, live, now, level)
            end_of = np.zeros(len(live.state), np.int64)
            end_of[running] = ends
            profile = build_profile(
                problem.capacity, on, end_of[of], cluster.demand[of], problem.shut_worker,
                problem.shut_start, problem.shut_end,
            )  # fmt: skip
            packed, count = packed_profile(self.words, profile)
            profiles.append(packed)
            counts.append(count)
            columns = base.ti[0].copy()
            ready = np.maximum(columns[:, ruin.RAW_RELEASE], now)
            np.maximum.at(ready, after, end_of[problem.pred])
            columns[:, ruin.RELEASE] = ready
            ti.append(columns)
            run_s.append(self.forecasts.whole(level)[: self.tasks])
            last = np.zeros(len(problem.workers), np.int64)
            np.maximum.at(last, on, end_of[of])
            ws.append(last)
            base_end.append(float(last.max(initial=now)))
        room = max(p.shape[1] for p in profiles) + 2 * int(problem.shard_ptr[-1]) + 2
        workers = np.zeros((len(levels), len(problem.workers), 3), np.int64)
        workers[:, :, ruin.LAST] = np.array(ws)
        workers[:, :, ruin.COUNT] = np.array(counts)
        started = np.flatnonzero(live.state[: self.tasks] != WAITING)
        wait_s = base.wait_s[0].copy()
        np.add.at(
            wait_s, problem.owner[started], live.start[started] - problem.raw_release[started]
        )
        worker_base = np.zeros((len(levels), 2))
        worker_base[:, 1] = base_end
        return base._replace(
            ti=np.array(ti),
            run_s=np.array(run_s),
            profile=np.array([orders.widened(p, room) for p in profiles]),
            ws=workers,
            load_s=np.repeat(base.load_s, len(levels), axis=0),
            wait_s=np.repeat(wait_s[None], len(levels), axis=0),
            base=worker_base,
        )

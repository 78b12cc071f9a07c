"""CP-SAT as a prover beside a search for a short makespan; no ortools beyond here and cpsat.

The search finds, the prover closes: it is asked for a schedule that is shorter than the
best one known, and its "there is none" is the proof of optimality. Its bound is shared
while it runs, and what it finds goes back to the search.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Floats, Ints, Problem, Schedule
from plancast.planner.bounds.lower_bound import heads_tails


class Prover:
    """One CP-SAT search in a thread of its own, for makespans in whole seconds.

    Parameters
    ----------
    problem : Problem
        Of single-shard tasks, without hard bounds, on workers that are always open.
    lower_s : int
        A makespan that nothing beats.
    seed : int
    decide : bool
        Ask only whether there is a shorter schedule, without an objective: another way
        through the same search, for a second prover beside the first.
    choices : Choices, optional
        Where tasks have modes: `problem` is its ``base`` then.

    Notes
    -----
    One CP-SAT worker without a linear relaxation: on the hard projects of 30 activities it
    proves within seconds what two workers with it do not prove in twice the time.
    Each task has an interval on every worker it may use, and starts between its head and
    what its tail leaves of the makespan asked for. Workers that run one task at a time are
    disjunctive, others a cumulative for each resource.
    """

    def __init__(
        self,
        problem: Problem,
        lower_s: int,
        seed: int,
        decide: bool = False,
        choices: Choices | None = None,
    ) -> None:
        self._choices = choices
        self.lower_s = lower_s
        self.found: Schedule | None = None
        self.upper_s = 0
        self._problem = problem
        self._seed = seed
        self._decide = decide
        self._thread: threading.Thread | None = None
        self._solver: Any = None
        self._ended = False

    @property
    def is_running(self) -> bool:
        """Whether the thread searches."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, best: Schedule, seconds: float) -> None:
        """Look for a schedule that ends before `best` does, in the background."""
        self.stop()
        self._ended = False
        self.found, self.upper_s = None, int(best.end.max())
        solver: Any = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.catch_sigint_signal = False  # Ctrl-C is heard in Python
        solver.parameters.random_seed = self._seed
        solver.parameters.max_time_in_seconds = max(0.01, seconds)
        solver.parameters.linearization_level = 0
        solver.parameters.use_strong_propagation_in_disjunctive = True
        if not self._decide:
            solver.best_bound_callback = self._tighten
        self._solver = solver
        self._thread = threading.Thread(target=self._search, args=(solver, best), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the search, if there is one, and wait for its end."""
        if self._thread is not None:
            self._ended = True
            while self._thread.is_alive():
                self._solver.stop_search()
                self._thread.join(0.01)
            self._thread = None

    def _tighten(self, bound: float) -> None:
        self.lower_s = max(self.lower_s, min(self.upper_s, round(bound)))

    def _search(self, solver: Any, best: Schedule) -> None:
        model = _Makespan(self._problem, self.upper_s - 1, self.lower_s, best, self._choices)
        if self._decide:
            model.model.clear_objective()
        if self._ended:
            return
        status = solver.solve(model.model)
        if status == cp_model.INFEASIBLE:
            self.lower_s = self.upper_s
        elif status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            self.found = model.schedule(solver)
            if status == cp_model.OPTIMAL and not self._decide:
                self.lower_s = max(self.lower_s, int(self.found.end.max()))


class _Makespan:
    """The model of a schedule that ends by `upper_s`."""

    def __init__(
        self,
        problem: Problem,
        upper_s: int,
        lower_s: int,
        hint: Schedule,
        choices: Choices | None = None,
    ) -> None:
        self.model: Any = cp_model.CpModel()
        self._choices = choices
        self._ways = problem if choices is None else choices.ways
        self._capacities = problem.capacity
        head, tail = heads_tails(problem if choices is None else choices.relaxed)
        self._start: list[Any] = []
        self._modes: list[list[tuple[int, int, int, Any]]] = []
        here: list[list[tuple[int, Any]]] = [[] for _ in problem.workers]
        ends = []
        for i in range(len(problem.tasks)):
            latest = upper_s - int(tail[i])
            # An empty range would be an invalid model, not an infeasible one.
            start = self.model.new_int_var(int(head[i]), max(int(head[i]), latest), "")
            if latest < head[i]:
                self.model.add_bool_or([])
            self.model.add_hint(start, int(hint.start[i]))
            row = i if hint.mode is None else int(hint.mode[i])
            ends.append(self._add_modes(i, start, here, (row, int(hint.worker[i]))))
            self._start.append(start)
        for i, start in enumerate(self._start):
            for before in problem.predecessors(i):
                self.model.add(start >= ends[before])
        for w, intervals in enumerate(here):
            self._add_capacity(w, intervals)
        self._add_budgets()
        makespan = self.model.new_int_var(lower_s, max(lower_s, upper_s), "")
        self.model.add(makespan <= upper_s)
        for end in ends:
            self.model.add(makespan >= end)
        self.model.minimize(makespan)

    def _add_modes(
        self, i: int, start: Any, here: list[list[tuple[int, Any]]], hinted: tuple[int, int]
    ) -> Any:
        """The end of a task; its intervals are added to its workers', each with its row."""
        choices = self._choices
        rows = [i] if choices is None else range(*choices.ptr[i : i + 2].tolist())
        able = [
            (row, int(w), int(on_worker[w]))
            for row in rows
            for on_worker in [self._ways.durations_on(row)]
            for w in np.flatnonzero(on_worker)
        ]
        if len(able) == 1:
            row, w, duration = able[0]
            interval = self.model.new_fixed_size_interval_var(start, duration, "")
            here[w].append((row, interval))
            self._modes.append([(row, w, duration, True)])
            return start + duration
        modes: list[tuple[int, int, int, Any]] = []
        end = self.model.new_int_var(0, 1 << 40, "")
        for row, w, duration in able:
            present = self.model.new_bool_var("")
            self.model.add_hint(present, (row, w) == hinted)
            interval = self.model.new_optional_fixed_size_interval_var(start, duration, present, "")
            here[w].append((row, interval))
            modes.append((row, w, duration, present))
        self.model.add_exactly_one(present for *_, present in modes)
        self.model.add(end == start + sum(d * present for _, _, d, present in modes))
        self._modes.append(modes)
        return end

    def _add_capacity(self, w: int, intervals: list[tuple[int, Any]]) -> None:
        if not intervals:
            return
        demand = self._ways.demand[[row for row, _ in intervals]]
        capacity = self._capacities[w]
        if (2 * demand.min(axis=0) > capacity).any():
            self.model.add_no_overlap([interval for _, interval in intervals])
            return
        for r in np.flatnonzero(demand.sum(axis=0) > capacity):
            busy = [(x, int(d)) for (_, x), d in zip(intervals, demand[:, r], strict=True) if d]
            self.model.add_cumulative([x for x, _ in busy], [d for _, d in busy], int(capacity[r]))

    def _add_budgets(self) -> None:
        """What the modes consume is no more than there is."""
        if self._choices is None:
            return
        consumed = self._choices.consumed
        for b, left in enumerate(self._choices.left.tolist()):
            self.model.add(
                sum(int(consumed[row, b]) * on for modes in self._modes for row, _, _, on in modes)
                <= max(0, left)
            )

    def schedule(self, solver: Any) -> Schedule:
        """What the solver found."""
        start = np.array([solver.value(v) for v in self._start], np.int64)
        end, worker, row_of = np.zeros_like(start), np.zeros_like(start), np.zeros_like(start)
        for i, modes in enumerate(self._modes):
            for row, w, duration, present in modes:
                if present is True or solver.boolean_value(present):
                    worker[i], end[i], row_of[i] = w, start[i] + duration, row
        return Schedule(start, end, worker, None if self._choices is None else row_of)


def affordable_exactly(choices: Choices, score: Floats, seconds: float) -> Ints | None:
    """The choice of least summed score that keeps to the budgets; None where none is found."""
    model: Any = cp_model.CpModel()
    taken = [model.new_bool_var("") for _ in choices.mode]
    for begin, end in zip(choices.ptr[:-1].tolist(), choices.ptr[1:].tolist(), strict=True):
        model.add_exactly_one(taken[begin:end])
    for b, left in enumerate(choices.left.tolist()):
        amounts = choices.consumed[:, b].tolist()
        model.add(sum(a * x for a, x in zip(amounts, taken, strict=True)) <= max(0, left))
    largest = max(float(score.max()), 1e-9)
    whole = np.rint(score * (1e6 / largest)).astype(np.int64).tolist()
    model.minimize(sum(a * x for a, x in zip(whole, taken, strict=True)))
    solver: Any = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = max(0.01, seconds)
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return np.array([k for k, x in enumerate(taken) if solver.boolean_value(x)], np.int64)

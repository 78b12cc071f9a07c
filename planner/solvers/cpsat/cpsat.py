"""Google OR-Tools' CP-SAT on the whole problem: first by classes of workers, then by worker."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from ortools.sat.python import cp_model

from plancast.planner.arrays import interruption
from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Ints, Problem, Schedule, device_masks
from plancast.planner.arrays.rates import ALL_BUT_MOVES
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.messages import Budget, Status
from plancast.planner.solvers.base import Observe, Solution, at_least, within
from plancast.planner.solvers.cpsat.coarse import coarse, in_ticks, retimed
from plancast.planner.solvers.cpsat.facts import TooLarge
from plancast.planner.solvers.cpsat.model import Model
from plancast.planner.solvers.cpsat.worker_classes import classes_of, in_order, spread

STEPS_PER_DETERMINISTIC_S = 1000
PROBED_INTERVALS = 1_000
"""Most intervals whose literals are probed one by one before the search: with 6,000 that
took 3.5 s of 4, and the search did not begin."""
CLASS_PART = 0.4
"""Part of the budget that the model by classes may take."""
PLACE_PART = 0.1
"""Part of it to place on single workers what that model found."""
COARSE_PART = 0.4
"""Part of it that the model in coarser ticks may take."""
TICKS = 500
LONG_S = 20_000
"""Horizons beyond this are first planned in ticks: of ten days CP-SAT made 13 to 16% better
plans in 2 s than by the second; of a quarter of an hour it did not."""
TICKED_TASKS = 20
"""With fewer tasks the proof by the second takes no longer."""
WORTH_CLASSES = 0.7
"""Classes are modelled where that leaves no more than this part of the intervals."""
MOST_DEVICE_PAIRS = 10_000
"""Most pairs of a task and a device that are told apart in a model; of more, GPUs are amounts."""
EXACTLY = 1e-9
"""Relative difference of two sums of the same costs."""


@dataclass(frozen=True)
class CpSat:
    """Google OR-Tools' CP-SAT on a model of optional intervals.

    Parameters
    ----------
    threads : int
        Search threads under a budget in seconds; a budget in steps takes one, for only one
        thread searches alike from run to run.
    max_intervals : int
        Task-worker pairs beyond which no model is built. Nor is there a plan of a model whose
        sums exceed 64 bits; a bound that is known without it is given all the same.
    by_class : bool
        Whether interchangeable workers are first modelled together. What that finds is then
        placed on single ones, exactly where it fits, else by a list schedule; its bound holds
        for all plans.
    tick_s : int
        More than 1: first a model in ticks of so many seconds, whose plan is timed anew to the
        second; it proves nothing. 0: where the horizon is long, and for as long ticks as leave
        it 500 of them. 1: never.

    Notes
    -----
    A step is a thousandth of the solver's deterministic time. Cost coefficients are scaled
    to integers; what the rounding may amount to is taken off the solver's bound.

    References
    ----------
    Perron, Didier, CP-SAT, https://developers.google.com/optimization/cp/cp_solver.
    """

    name: ClassVar[str] = "cpsat"
    exact_terms: ClassVar[frozenset[str]] = ALL_BUT_MOVES
    threads: int = 2
    max_intervals: int = 60_000
    by_class: bool = True
    tick_s: int = 0

    def __post_init__(self) -> None:
        at_least(self, 1, "threads", "max_intervals")
        at_least(self, 0, "tick_s")
        within(self, 0, 1, "by_class")

    def solve(
        self,
        problem: Problem,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``Solver.solve``; building the models counts towards the seconds."""
        return _Search(self, problem, budget, rng, incumbent, observe).run()

    def solve_modes(
        self,
        choices: Choices,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``ModeSolver.solve_modes``: the whole problem, each worker for itself."""
        return _Search(self, choices.base, budget, rng, incumbent, observe, choices).run()


class _Search:
    """One call: the models in turn, the best schedule and the best bound so far."""

    def __init__(
        self,
        settings: CpSat,
        problem: Problem,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None,
        observe: Observe | None,
        choices: Choices | None = None,
    ) -> None:
        self.choices = choices
        self.settings, self.problem, self.budget = settings, problem, budget
        self.seed, self.observe = int(rng.integers(2**31 - 1)), observe
        self.began = time.perf_counter()
        seconds = budget.seconds
        self.stop_at = math.inf if seconds is None else self.began + seconds
        self.best = incumbent
        """Known, but only an answer once it was found here."""
        self.found: Solution | None = None
        self.bound = -math.inf
        self.deterministic_s = 0.0

    def run(self) -> Solution:
        """Coarse ticks, classes, single workers: each as far as it is asked for and pays."""
        if self.choices is not None:
            return self._run_modes(self.choices)
        problem, settings = self.problem, self.settings
        on = problem.allowed.sum(axis=1)[problem.kind].sum()
        alone = [np.array([w]) for w in range(len(problem.capacity))]
        # Who holds which device of a class is not said by sums over its workers.
        classes = classes_of(problem) if settings.by_class and not problem.tells_apart else alone
        first = [int(members[0]) for members in classes]
        by_class = int(problem.allowed[:, first].sum(axis=1)[problem.kind].sum())
        try:
            if self._tick_s() > 1 and int(on) <= settings.max_intervals:
                self._in_ticks(self._tick_s())
            if by_class <= min(settings.max_intervals, WORTH_CLASSES * int(on)):
                self._by_class(classes, int(on) <= settings.max_intervals)
            if int(on) <= settings.max_intervals and not self._is_settled():
                if device_pairs(problem) > MOST_DEVICE_PAIRS:
                    self._without_devices()
                else:
                    self._by_worker(classes)
        except (TimeoutError, TooLarge):
            pass
        if self.found is not None:
            return self.found
        return Solution(Status.NO_PLAN_IN_TIME, lower_bound=self.bound, steps=self._steps())

    def _run_modes(self, choices: Choices) -> Solution:
        try:
            ways = choices.ways
            if int(ways.allowed.sum(axis=1)[ways.kind].sum()) <= self.settings.max_intervals:
                self._by_worker(classes_of(ways))
        except (TimeoutError, TooLarge):
            pass
        if self.found is not None:
            return self.found
        return Solution(Status.NO_PLAN_IN_TIME, lower_bound=self.bound, steps=self._steps())

    def _is_settled(self) -> bool:
        return self.found is not None and self.found.status in (Status.OPTIMAL, Status.INFEASIBLE)

    # ------------------------------------------------------------------ the models

    def _tick_s(self) -> int:
        """Seconds of a tick: as asked for, or such that the horizon has `TICKS` of them."""
        if self.settings.tick_s:
            return self.settings.tick_s
        long = self.best is not None and len(self.problem.tasks) >= TICKED_TASKS
        horizon_s = int(self.best.end.max()) if self.best is not None and long else 0
        return horizon_s // TICKS if horizon_s > LONG_S else 1

    def _in_ticks(self, tick_s: int) -> None:
        """A plan in coarser time, timed anew."""
        rough = coarse(self.problem, tick_s)
        if rough is None:
            return
        hint = None if self.best is None else in_ticks(rough, self.best, tick_s)
        model = Model(rough, hint, self.stop_at)
        solver, status = self._solve(model.model, model, COARSE_PART)
        if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            self._offer(retimed(self.problem, model.schedule(solver), tick_s))

    def _by_class(self, classes: list[Ints], may_place_exactly: bool) -> None:
        """A relaxation of the problem; its plan placed on single workers."""
        self.bound = lower_bound(self.problem)
        model = Model(self.problem, self.best, self.stop_at, classes, self.bound)
        solver, status = self._solve(model.model, model, CLASS_PART)
        if status == cp_model.INFEASIBLE:
            self.found = Solution(Status.INFEASIBLE, steps=self._steps())
            return
        self.bound = max(self.bound, model.bound_of(solver.best_objective_bound))
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return
        together = model.schedule(solver)
        least = model.cost_of(solver.objective_value) + model.error + model.unit_error
        placed = self._placed(together, classes) if may_place_exactly else None
        self._offer(placed or spread(self.problem, together, classes))
        if self.found is not None and status == cp_model.OPTIMAL:
            cost = self.problem.cost(self.found.schedule)  # type: ignore[arg-type]
            if cost <= least + EXACTLY * abs(cost):
                self.found = Solution(
                    Status.OPTIMAL, self.found.schedule, min(self.bound, cost), cost, self._steps()
                )

    def _placed(self, together: Schedule, classes: list[Ints]) -> Schedule | None:
        """The cheapest way to keep every start and class; None where there is none."""
        model = Model(self.problem, None, self.stop_at, least=self.bound)
        solver, status = self._solve(model.fixed_to(together, classes), model, PLACE_PART)
        return model.schedule(solver) if status in (cp_model.OPTIMAL, cp_model.FEASIBLE) else None

    def _by_worker(self, classes: list[Ints]) -> None:
        """The whole problem."""
        hint = self.best and in_order(self._as_placed(self.best), self.best, classes)
        relaxed = self.problem if self.choices is None else self.choices.relaxed
        least = max(self.bound, lower_bound(relaxed))
        model = Model(self.problem, hint, self.stop_at, least=least, choices=self.choices)
        model.keep_in_order(classes)
        solver, status = self._solve(model.model, model, 1.0, observed=True)
        if status == cp_model.INFEASIBLE:
            self.found = Solution(Status.INFEASIBLE, steps=self._steps())
            return
        self.bound = max(self.bound, model.bound_of(solver.best_objective_bound))
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            if self.found is not None:
                self._offer(self.found.schedule)
            return
        schedule = model.schedule(solver)
        claimed = model.claimed(schedule)
        proven = Status.OPTIMAL if status == cp_model.OPTIMAL else Status.FEASIBLE
        self.found = Solution(proven, schedule, min(self.bound, claimed), claimed, self._steps())

    def _without_devices(self) -> None:
        """GPUs as amounts: a bound, and the plan where devices can be given to it."""
        assert self.problem.devices is not None
        relaxed = replace(self.problem, devices=None)
        self.bound = lower_bound(relaxed)
        model = Model(relaxed, self.best, self.stop_at, least=self.bound)
        solver, status = self._solve(model.model, model, 1.0)
        if status == cp_model.INFEASIBLE:
            self.found = Solution(Status.INFEASIBLE, steps=self._steps())
            return
        self.bound = max(self.bound, model.bound_of(solver.best_objective_bound))
        if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            schedule = model.schedule(solver)
            masks = device_masks(self.problem, schedule, self.problem.devices)
            self._offer(None if masks is None else replace(schedule, devices=masks))

    def _as_placed(self, schedule: Schedule) -> Problem:
        """The plain problem that a schedule is of."""
        if self.choices is None or schedule.mode is None:
            return self.problem
        return self.choices.fixed(schedule.mode)

    # ------------------------------------------------------------------ one solve

    def _solve(self, model: Any, of: Model, part: float, observed: bool = False) -> tuple[Any, Any]:
        """Solve a model within a part of what is left; the solver and its status."""
        solver: Any = cp_model.CpSolver()
        solver.parameters.random_seed = self.seed
        solver.parameters.catch_sigint_signal = False  # Ctrl-C is heard in Python
        budget = self.budget
        solver.parameters.num_workers = self.settings.threads if budget.steps is None else 1
        # With demands that are variables, OR-Tools 9.15 loses schedules when it probes literals.
        gangs = int(self.problem.shards.max()) > 1
        if gangs or sum(len(pieces) for pieces in of.pieces) > PROBED_INTERVALS:
            solver.parameters.cp_model_probing_level = 0
        if self.problem.hours is not None:
            # OR-Tools 9.15 loses schedules, and proves others optimal, when it looks for linear
            # constraints within others (google/or-tools#5293).
            solver.parameters.presolve_inclusion_work_limit = 0
        if budget.steps is not None:
            left = budget.steps / STEPS_PER_DETERMINISTIC_S - self.deterministic_s
            solver.parameters.max_deterministic_time = max(1e-9, part * left)
        stop_at = self.stop_at
        if interruption.asked():
            raise TimeoutError
        if budget.seconds is not None:
            # The solver ends a little after its limit, the more so the larger the model.
            left_s = stop_at - time.perf_counter() - 0.01 - 0.05 * budget.seconds
            if left_s <= 0:
                raise TimeoutError
            solver.parameters.max_time_in_seconds = part * left_s
        watch = _Watch(of, self.observe if observed else None, stop_at)
        if observed and self.observe is not None:
            solver.best_bound_callback = watch.on_bound
        with interruption.stops(solver.stop_search):
            status = solver.solve(model, watch)
        self.deterministic_s += solver.deterministic_time
        if status == cp_model.MODEL_INVALID:
            fault = model.validate()
            if "overflow" in fault:
                raise TooLarge(fault)
            raise RuntimeError(f"the CP-SAT model is invalid: {fault}")
        return solver, status

    def _steps(self) -> int:
        return math.ceil(self.deterministic_s * STEPS_PER_DETERMINISTIC_S)

    def _offer(self, schedule: Schedule | None) -> None:
        """Keep a schedule where none is known to be cheaper."""
        if schedule is None:
            return
        cost = self.problem.cost(schedule)
        if self.best is not None and self.problem.cost(self.best) < cost:
            return
        self.best = schedule
        bound = min(self.bound, cost)
        self.found = Solution(Status.FEASIBLE, schedule, bound, cost, self._steps())
        if self.observe is not None:
            self.observe(cost, bound)


def device_pairs(problem: Problem) -> int:
    """Pairs of a task and a device that it may hold, where devices are told apart."""
    use = problem.devices
    if use is None or not use.told_apart:
        return 0
    devices = np.where(use.apart, use.count, 0)
    kinds = problem.kind[use.number > 0]
    return int((problem.allowed[kinds] * devices).sum())


class _Watch(cp_model.CpSolverSolutionCallback):
    """Tells of better schedules, and stops the solver when it is late."""

    def __init__(self, model: Model, observe: Observe | None, stop_at: float) -> None:
        super().__init__()
        self._model = model
        self._observe = observe
        self._stop_at = stop_at
        self._cost = math.inf

    def on_solution_callback(self) -> None:
        if self._observe is not None:
            self._cost = self._model.cost_of(self.objective_value)
            bound = min(self._cost, self._model.bound_of(self.best_objective_bound))
            if self._observe(self._cost, bound):
                self.stop_search()
        if time.perf_counter() > self._stop_at:
            self.stop_search()

    def on_bound(self, objective: float) -> None:
        """Tell of a better bound, which may prove the plan of an engine beside."""
        if self._observe is not None and self._cost < math.inf:
            bound = min(self._cost, self._model.bound_of(objective))
            if self._observe(self._cost, bound):
                self.stop_search()

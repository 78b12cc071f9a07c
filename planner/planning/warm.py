"""Kernels compiled before a clock starts, once per version, family by family.

numba compiles a kernel when it is first called, which takes seconds. ``plan`` and ``repair`` make
sure of the families that a request can need before their clocks start, so that compilation never
counts against a budget; a service and a master do so when they start. What is compiled is kept by
``arrays.jit``; a file beside it says which families are whole.
"""

from __future__ import annotations

import gc
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
from numba.core.registry import cpu_target

from plancast.planner.arrays.cost import own_costs
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.graph import successors
from plancast.planner.arrays.hours import extra_cost, has_hours
from plancast.planner.arrays.jit import cache_folder, interpreted
from plancast.planner.arrays.modes import Choices, encode_choices
from plancast.planner.arrays.problem import Problem, decode
from plancast.planner.arrays.schedule import earliest_start, occupy, with_room
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.bounds.relaxation import relax
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.instances.jobshop import parse_jobshop
from plancast.planner.model.domain import (
    ANY_CLASS,
    DEVICE,
    GPU,
    TERMS,
    CountedResource,
    Dependency,
    DurationEstimate,
    Hourly,
    Mode,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.partial_order import partial_order
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.base import ModeSolver
from plancast.planner.solvers.lns.home_orders import suits_home
from plancast.planner.solvers.lns.orders import cost_of, futures_of, suits
from plancast.planner.solvers.lns.relaxed_starts import guided_schedules
from plancast.planner.solvers.lns.rows import suits_rows
from plancast.planner.solvers.lns.scenario_rows import ScenarioWalk, name_ranks, scenarios_of

Report = Callable[[str], None]
MAKESPAN_ALONE = Policy(Prices.for_makespan())
STEPS = 40
"""Of each search: enough to meet every kind of move."""
_lock = threading.RLock()
_warm: set[str] = set()
_busy = threading.local()


def _small(workers: int = 4, seed: int = 0) -> PlanRequest:
    """A request with gangs, precedence, deadlines and machine classes."""
    return generate_batch(12, generate_cluster(workers, seed), seed, gang_share=0.2)


def _solve(request: PlanRequest, solver: str, **parameters: object) -> Problem:
    problem = encode(request)
    greedy = SOLVERS["greedy"]().solve(problem, budget=Budget(None, 1), rng=_rng())
    SOLVERS[solver](**parameters).solve(
        problem, budget=Budget(None, STEPS), rng=_rng(), incumbent=greedy.schedule
    )
    return problem


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _with_licences(request: PlanRequest, capacity: int = 2) -> PlanRequest:
    """The request where every other task takes a licence."""
    tasks = tuple(
        replace(task, counted={"licence": 1} if k % 2 else {})
        for k, task in enumerate(request.snapshot.pending)
    )
    snapshot = request.snapshot.evolved(
        pending=tasks, counted=(CountedResource("licence", capacity),)
    )
    return replace(request, snapshot=snapshot)


def _with_shares(request: PlanRequest) -> PlanRequest:
    """The request where tasks take GPUs, and every third one a share of one."""
    workers = tuple(
        replace(w, capacity={**w.capacity, GPU: 4 * DEVICE}, devices=True)
        for w in request.snapshot.workers
    )
    tasks = tuple(
        replace(task, demand={**task.demand, GPU: DEVICE if k % 3 else DEVICE // 2})
        for k, task in enumerate(request.snapshot.pending)
    )
    return replace(request, snapshot=request.snapshot.evolved(workers=workers, pending=tasks))


def _by_the_hour(request: PlanRequest) -> PlanRequest:
    """The request where energy has a price that is higher by day."""
    tariff = Hourly((0, 6 * 3600, 22 * 3600), (0.1, 0.3, 0.1))
    workers = tuple(
        replace(w, idle_w=50.0, busy_w=150.0, price_per_kwh=tariff)
        for w in request.snapshot.workers
    )
    return replace(
        request, snapshot=request.snapshot.evolved(workers=workers),
        policy=replace(request.policy, prices=Prices(**dict.fromkeys(TERMS, 1.0))),
    )  # fmt: skip


def _in_full(request: PlanRequest) -> PlanRequest:
    return _by_the_hour(_with_shares(_with_licences(request)))


def _lists() -> None:
    for request in (replace(_small(), policy=MAKESPAN_ALONE), _small()):
        problem = _solve(request, "greedy")
        lower_bound(problem, timed=True)
    _brief(problem)
    encode(_with_shares(_small())).device_state()
    schedule = SOLVERS["greedy"]().solve(problem, budget=Budget(None, 1), rng=_rng()).schedule
    assert schedule is not None
    successors(problem.pred_ptr, problem.pred)
    own_costs(problem.rates, problem.priced, schedule.start, schedule.end, schedule.worker)
    times, free, count = problem.profile()
    earliest_start(times[0], free[0], count[0], problem.demand[0], 0, 1)
    times, free = with_room(times, free, count, 0)
    occupy(times, free, count, 0, 0, 1, problem.demand[0])
    cost_of(futures_of([problem]), np.arange(len(problem.tasks)))
    followed = partial_order(problem.request, decode(problem, schedule))
    followed.executed(followed.planned)


def _brief(problem: Problem) -> None:
    """What is brief of ruin and recreate."""
    relaxation = relax(problem)
    assert relaxation is not None
    next(guided_schedules(problem, relaxation, until=np.inf, passes=1))


def _lists_in_full() -> None:
    problem = _solve(_in_full(_small()), "greedy")
    lower_bound(problem, timed=True)
    _brief(problem)
    assert problem.hours is not None
    extra_cost(problem.hours, 0, 1.0, 0, 1)


def _loose(request: PlanRequest) -> PlanRequest:
    """The request where no task waits for another one, and there are no gangs."""
    tasks = tuple(replace(task, after=(), shards=1) for task in request.snapshot.pending)
    return replace(request, snapshot=request.snapshot.evolved(pending=tasks))


def _lagging(request: PlanRequest) -> PlanRequest:
    """The request where a task begins a second after another one: no orders are searched then."""
    first, second, *others = request.snapshot.pending
    second = replace(second, depends=(Dependency(first.id, lag_s=1),))
    return replace(request, snapshot=request.snapshot.evolved(pending=(first, second, *others)))


def _moves() -> None:
    _solve(_loose(_small()), "lns")
    _solve(_lagging(_small()), "lns")
    _solve(replace(_small(), policy=MAKESPAN_ALONE), "lns")


def _moves_in_full() -> None:
    _solve(_in_full(_small()), "lns")
    # Rows are searched where no licence can run short.
    _solve(_with_licences(_loose(_small()), len(_small().snapshot.pending)), "lns")


def _orders() -> None:
    _solve(_small(workers=1), "lns")


def _scenarios() -> None:
    problem = encode(_small())
    greedy = SOLVERS["greedy"]().solve(problem, budget=Budget(None, 1), rng=_rng())
    assert greedy.schedule is not None
    futures = scenarios_of(problem, [problem, problem])
    walk = ScenarioWalk(futures, name_ranks(problem), greedy.schedule, 0)
    walk.step_all(STEPS)
    walk.schedule()


def _astar() -> None:
    _solve(generate_batch(4, generate_cluster(3)), "astar")
    _solve(generate_batch(5, generate_cluster(2), 1), "astar", form="anytime", weight=1.5)
    _unmet("best", 1.0, 2 * STEPS)  # until its tables grow


def _astar_guided() -> None:
    _solve(generate_batch(4, generate_cluster(3)), "astar", form="guided", weight=1.1)
    for form in GUIDED_FORMS:
        _unmet(form, 1.1, STEPS)


def _unmet(form: str, weight: float, steps: int) -> None:
    """Search where no rule meets the bound: a search that is done at once compiles nothing."""
    problem = encode(generate_batch(8, generate_cluster(3, 1), 1, gang_share=0.2))
    solver = SOLVERS["astar"](form=form, weight=weight)
    solver.solve(problem, budget=Budget(None, steps), rng=_rng())


def _project() -> None:
    tasks = tuple(
        Task(f"t{k}", {"cpu": 1 + k % 3}, after=(f"t{k - 3}",) if k > 2 else ()) for k in range(9)
    )
    estimates = {
        t.id: {ANY_CLASS: DurationEstimate((0.5,), (1 + k % 4,))} for k, t in enumerate(tasks)
    }
    snapshot = Snapshot(0, 0, (Worker("w", {"cpu": 4}),), tasks)
    _solve(PlanRequest("warm", snapshot, estimates, MAKESPAN_ALONE), "project")


def _modes() -> None:
    modes = tuple(Mode(f"m{k}", {"cpu": 3 - k, "gold": 2 * k}) for k in range(3))
    tasks = tuple(
        Task(f"t{k}", {}, after=(f"t{k - 3}",) if k > 2 else (), modes=modes) for k in range(9)
    )
    by_mode = {m.id: {ANY_CLASS: DurationEstimate((0.5,), (2 + k,))} for k, m in enumerate(modes)}
    snapshot = Snapshot(0, 0, (Worker("w", {"cpu": 4}),), tasks, budgets={"gold": 20})
    request = PlanRequest("warm", snapshot, {t.id: by_mode for t in tasks}, MAKESPAN_ALONE)
    engine = cast(ModeSolver, SOLVERS["project"]())
    engine.solve_modes(encode_choices(request), budget=Budget(None, STEPS), rng=_rng())


def _shop() -> None:
    rng = _rng()
    jobs = [zip(rng.permutation(4), rng.integers(1, 20, 4), strict=True) for _ in range(5)]
    lines = [" ".join(f"{machine} {seconds}" for machine, seconds in job) for job in jobs]
    request = parse_jobshop("warm", "\n".join(["5 4", *lines]))
    _solve(request, "shop")
    _solve(request, "shop", patience=1, elites=2)  # until a search begins between two schedules


def _repair(request: PlanRequest | None = None) -> None:
    request = request or _small()
    problem = encode(request)
    greedy = SOLVERS["greedy"]().solve(problem, budget=Budget(None, 1), rng=_rng())
    assert greedy.schedule is not None
    made = decode(problem, greedy.schedule)
    snapshot = request.snapshot
    lost = replace(snapshot, version=1, workers=snapshot.workers[1:])
    _solve(replace(request, snapshot=lost, incumbent=made), "repair")


FAMILIES: dict[str, Callable[[], None]] = {
    "list schedules and bounds": _lists,
    "ruin and recreate": _moves,
    "orders": _orders,
    "A*": _astar,
    "projects": _project,
    "projects with modes": _modes,
    "shops": _shop,
    "repair": _repair,
    "scenarios of clusters": _scenarios,
    "list schedules in full": _lists_in_full,
    "ruin and recreate in full": _moves_in_full,
    "repair in full": lambda: _repair(_in_full(_small())),
    "A* with a guide or a weight": _astar_guided,
}
"""Name to what compiles the family; higher rooms add their own."""
LISTS, MOVES, ORDERS, ASTAR, PROJECTS, MODES, SHOPS, REPAIR, SCENARIOS, *_FULL, GUIDED = FAMILIES
IN_FULL = dict(zip((LISTS, MOVES, REPAIR), _FULL, strict=True))
"""Family to that of the same kernels where something is counted, energy has hours, or tasks share
GPUs that are devices: compiled once for all of that."""
GUIDED_FORMS = ("focal", "beam", "guided")
"""Those of A* that need ``GUIDED`` as well."""
NEEDS = {
    "astar": (ASTAR,), "lns": (MOVES, ORDERS), "project": (PROJECTS, MODES), "shop": (SHOPS, MOVES),
    "repair": (REPAIR, MOVES, ASTAR),
}  # fmt: skip
"""Solver to the families that it can call beside ``LISTS``, where there are any."""


def needs(solvers: Iterable[str], problem: Problem | Choices) -> set[str]:
    """The families that solvers call for a problem, beside ``LISTS``."""
    found = {family for name in solvers for family in NEEDS.get(name, ())}
    if "lns" in solvers and isinstance(problem, Problem) and not suits_home(problem):
        if not suits(problem):
            found.discard(ORDERS)
        elif not suits_rows(problem):
            found.discard(MOVES)
    return found


_ALL_LISTS = {LISTS, IN_FULL[LISTS]}

FEW = 2_000
"""Of so many pairs of tasks, times workers, lists and bounds take less than they do to compile."""


def prepared(request: PlanRequest, families: set[str]) -> AbstractContextManager[object]:
    """Compile families of kernels for a request; the context in which to plan it.

    Where few tasks meet few workers, and nothing has compiled them yet, lists and bounds are made
    uncompiled, with the same results.
    """
    seconds, tasks = request.budget.seconds, len(request.snapshot.pending)
    few = tasks**2 * len(request.snapshot.workers) <= FEW and (seconds is None or seconds >= 0.5)
    wanted = for_request(request, families | {LISTS})
    if not few or _is_warm(LISTS):
        warm(wanted)
        return nullcontext()
    warm(wanted - _ALL_LISTS)
    return interpreted()


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector of reference cycles, which walks all objects again and again.

    Where ten thousands of small objects are made that stay, and no cycles.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def for_request(request: PlanRequest, families: Iterable[str]) -> set[str]:
    """Those families in the form that a request needs."""
    snapshot = request.snapshot
    if not (snapshot.counted or snapshot.shares_devices or has_hours(request)):
        return set(families)
    # Bounds are compiled once for all.
    return {LISTS, *(IN_FULL.get(name, name) for name in families)}


def on_stderr(text: str) -> None:
    """Say something to whoever waits, on standard error."""
    print(text, file=sys.stderr, flush=True)


def warm(families: Iterable[str] = (), report: Report = on_stderr) -> list[str]:
    """Compile what of some families of kernels is not compiled yet; all without a name.

    Parameters
    ----------
    families : iterable of str
        Of ``FAMILIES``.
    report : callable
        Called with a line before each family that has to be compiled; nothing is said otherwise.

    Returns
    -------
    list of str
        The families that were compiled.
    """
    _load()
    wanted = list(FAMILIES) if families == () else list(families)
    if all(name in _warm for name in wanted) or getattr(_busy, "now", False):
        return []
    with _lock:
        cold = [name for name in wanted if not _is_warm(name)]
        _busy.now = True
        try:
            for number, name in enumerate(cold, 1):
                count = f" {number} of {len(cold)}" if len(cold) > 1 else ""
                report(f"compiling kernels (once per version){count}: {name} ...")
                # What is brief is compiled with the lists, once these are needed.
                with uncollected(), nullcontext() if name in _ALL_LISTS else interpreted():
                    FAMILIES[name]()
                _warm.add(name)
                if (folder := cache_folder()) is not None:
                    _mark(folder, name).touch(mode=0o600)
        finally:
            _busy.now = False
        return cold


@cache
def _load() -> None:
    """Load what numba reads in the first call of any kernel, and what bounds are solved with."""
    import scipy.optimize  # noqa: F401

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


def compiled() -> list[str]:
    """The families that are compiled already."""
    return [name for name in FAMILIES if _is_warm(name)]


def _is_warm(name: str) -> bool:
    folder = cache_folder()
    if name not in _warm and folder is not None and _mark(folder, name).exists():
        _warm.add(name)
    return name in _warm


def _mark(folder: Path, name: str) -> Path:
    """The file that says that a family is compiled."""
    return folder / f"whole-{re.sub(r'[^a-z]+', '-', name.lower())}"

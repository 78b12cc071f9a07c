"""Engines for small and medium problems at equal CPU: what ``auto`` could choose, and gain by it.

``python -m benchmarks.choice run FILE [--set SET] [--minutes N]`` plans every case of a set in
every way that suits it, one row of JSON a line, and goes on where an earlier run stopped.
``python -m benchmarks.choice table FILE [--set SET]`` prints what each way gives against the first.
Limits count CPU: a second is that of the busiest thread, and half of what all threads take
together, as on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

from plancast.pipelines.bench.bench import read_set
from plancast.pipelines.bench.peers import metered
from plancast.planner.arrays.encode import encode
from plancast.planner.bounds.relaxation import relax
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import Policy, Prices
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning import plan as planning
from plancast.planner.planning.choice import FEW_WAIT, Chosen, choose, once_begun, waiting_part
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.cpsat import cpsat as engine
from plancast.planner.solvers.lns.relaxed_starts import guided_schedules

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "benchmarks"
CORES = 2
AT_ONCE_S = 0.1
LONG_STEPS = 20_000
"""Of ruin and recreate."""
Row = dict[str, Any]

NO_WAIT = Prices(makespan_h=1.0, late_h=10.0, misses=1.0, wait_h=0.0)
ENERGY = Prices(makespan_h=1.0, late_h=3.0, misses=0.0, wait_h=0.0, kwh=2.0)
FAMILIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "gangs": {"gang_share": 0.3},
    "classes": {"by_class_share": 1.0, "workflow_share": 0.0},
    "chains": {"workflow_share": 1.0},
    "deadlines": {"due_share": 0.8, "policy": Policy(NO_WAIT)},
    "makespan": {"policy": Policy(Prices.for_makespan())},
    "energy": {"policy": Policy(ENERGY)},
    "releases": {"release_spread_s": 3600, "workflow_share": 0.0},
}
"""Name to arguments of the generator."""
HARD = ("plain", "gangs", "classes", "energy", "releases")
"""Of these CP-SAT does not prove everything at once."""
TASKS_A_WORKER = 6
PUBLISHED = {
    "j30": ("psplib_j30_j60.tar.xz", "rcpsp", "j30"),
    "j60": ("psplib_j30_j60.tar.xz", "rcpsp", "j60"),
    "jsp": ("jsp_dev.tar.xz", "jsp", ""),
    "fjsp": ("fjsp_dev.tar.xz", "fjsp", ""),
    "j10 modes": ("psplib_mm_j10_j16.tar.xz", "mmrcpsp", "j10"),
    "mmlib50": ("mmlib_dev.tar.xz", "mmrcpsp", "J50"),
}
"""Family to archive, kind and how names begin."""


@dataclass(frozen=True)
class Way:
    """One way to plan: engines with parameters, and what of CP-SAT is changed."""

    chosen: Chosen | None = None
    """None: what ``auto`` chooses."""
    settings: Any = None
    """CP-SAT's parameters by name."""
    hint: str = "first"
    """What CP-SAT begins with: the first plan, ``none``, the best list schedule that the
    ``relaxation`` steers, or the ``best`` plan of a long search, which costs nothing here."""
    order: bool = False
    """Whether it decides the starts in the order of that plan."""
    most: int = 10_000
    """Up to so many tasks."""


def _chosen(**engines: dict[str, Any]) -> Chosen:
    return Chosen(engines, "measured")


ONE: dict[str, Any] = {"threads": 1}
PROVER: dict[str, Any] = {"threads": 1, "tick_s": 1}
ENGINES = {
    "lns, cpsat 2": Way(_chosen(lns=ONE, cpsat={"tick_s": 1})),
    "lns": Way(_chosen(lns={})),
    "lns, cpsat 1": Way(_chosen(lns=ONE, cpsat=PROVER)),
    "cpsat": Way(_chosen(cpsat={})),
    "astar": Way(_chosen(astar={}), most=14),
}


def _ways(*names: str) -> dict[str, Way]:
    return {name: ENGINES[name] for name in names}


FOLLOW = {"search_branching": "HINT_SEARCH"}
CPSAT = {
    "cpsat": Way(_chosen(cpsat={})),
    "no hint": Way(_chosen(cpsat={}), hint="none"),
    "relaxation's plan": Way(_chosen(cpsat={}), hint="relaxation"),
    "order of the plan": Way(_chosen(cpsat={}), order=True),
    "order, fixed": Way(_chosen(cpsat={}), {"search_branching": "FIXED_SEARCH"}, order=True),
    "best plan": Way(_chosen(cpsat={}), hint="best"),
    "best plan, its order": Way(_chosen(cpsat={}), hint="best", order=True),
    "best plan, followed": Way(_chosen(cpsat={}), FOLLOW, "best"),
    "follow hint": Way(_chosen(cpsat={}), FOLLOW),
    "linearization 0": Way(_chosen(cpsat={}), {"linearization_level": 0}),
    "linearization 2": Way(_chosen(cpsat={}), {"linearization_level": 2}),
    "no symmetry": Way(_chosen(cpsat={}), {"symmetry_level": 0}),
    "no probing": Way(_chosen(cpsat={}), {"cp_model_probing_level": 0}),
}


@dataclass(frozen=True)
class Case:
    """A problem, how long it is planned, and its family."""

    name: str
    family: str
    limit_s: float
    read: Callable[[], PlanRequest]


@dataclass(frozen=True)
class Set:
    """Cases, and the ways in which each is planned; the first is compared with."""

    cases: Callable[[], list[Case]]
    ways: dict[str, Way]


def generated(family: str, tasks: int, seed: int) -> PlanRequest:
    """A batch of a family."""
    cluster = generate_cluster(max(2, tasks // TASKS_A_WORKER), seed)
    return generate_batch(tasks, cluster, seed, **FAMILIES[family])


def few_wait(request: PlanRequest) -> bool:
    """Whether ``auto`` takes CP-SAT as well, though the batch is large; else nothing is new."""
    problem = encode(request)
    first = first_plan(problem)
    return first is not None and waiting_part(problem, first) <= FEW_WAIT


def mixed(number: int) -> PlanRequest:
    """A batch of 31 to 100 tasks whose every property is drawn: what a choice is learned on."""
    rng = np.random.default_rng([7, number])
    tasks = int(rng.integers(31, 101))
    workers = max(2, tasks // int(rng.choice([3, 6, 6, 10])))
    prices = [Prices(), Prices(), NO_WAIT, Prices.for_makespan(), ENERGY][int(rng.integers(5))]
    return generate_batch(
        tasks, generate_cluster(workers, 5000 + number), 5000 + number,
        due_share=float(rng.choice([0.0, 0.2, 0.8])),
        workflow_share=float(rng.choice([0.0, 0.3, 1.0])),
        gang_share=float(rng.choice([0.0, 0.0, 0.3])),
        by_class_share=float(rng.choice([0.3, 1.0])),
        release_spread_s=int(rng.choice([0, 0, 3600])),
        policy=Policy(prices),
    )  # fmt: skip


def generated_cases(
    sizes: tuple[int, ...], seeds: range, limit_s: float, families: tuple[str, ...] = ()
) -> list[Case]:
    """Each family at each size, with its own seed each; one of every family before the next."""
    return [
        Case(f"{family}-{tasks}-{seed}", family, limit_s,
             lambda f=family, t=tasks, s=seed: generated(f, t, 1000 * t + s))
        for seed in seeds for tasks in sizes for family in families or FAMILIES
    ]  # fmt: skip


@cache
def _archive(name: str, kind: str) -> Any:
    return read_set(DATA / name, kind)


def published_cases(count: int, seed: int, limit_s: float) -> list[Case]:
    """Some of every published set."""
    cases = []
    for family, (archive, kind, begins) in PUBLISHED.items():
        found = _archive(archive, kind)
        names = [n for n in found.names if n.startswith(begins)]
        rng = np.random.default_rng([seed, len(names)])
        cases += [
            Case(str(name), family, limit_s, lambda s=found, n=str(name): s.read(n).request)
            for name in sorted(rng.choice(names, count, replace=False))
        ]
    return cases


SETS = {
    "engines": Set(lambda: generated_cases((8, 14, 20, 30, 45, 60), range(2), 1.0), ENGINES),
    "small": Set(
        lambda: generated_cases((16, 20, 25, 30), range(30, 31), 1.0),
        _ways("lns, cpsat 2", "lns, cpsat 1", "cpsat"),
    ),
    "medium": Set(
        lambda: generated_cases((45, 60, 80), range(40, 42), 1.0), _ways("lns", "lns, cpsat 1")
    ),
    "mixed": Set(
        lambda: [Case(f"mixed-{k}", "mixed", 1.0, lambda k=k: mixed(k)) for k in range(80)],
        _ways("lns", "lns, cpsat 1"),
    ),
    "cpsat": Set(
        lambda: [
            *generated_cases((14, 20), range(20, 21), 1.0),
            *generated_cases((18, 24), range(21, 23), 1.0, HARD),
        ],
        CPSAT,
    ),
    "follow": Set(
        lambda: generated_cases((12, 16, 20, 25, 30), range(90, 92), 1.0),
        {
            **_ways("lns, cpsat 2"),
            "lns, cpsat 2 follows": Way(ENGINES["lns, cpsat 2"].chosen, FOLLOW),
        },
    ),
    "published": Set(
        lambda: published_cases(5, 0, 1.0), {"auto": Way(), **_ways("cpsat", "lns, cpsat 1")}
    ),
    "confirm": Set(
        lambda: [
            case
            for case in generated_cases((40, 65, 95), range(70, 74), 1.0)
            if few_wait(case.read())
        ],
        {**_ways("lns"), "auto": Way()},
    ),
    "confirm 4 s": Set(
        lambda: [
            case for case in generated_cases((80, 100), range(80, 83), 4.0) if few_wait(case.read())
        ],
        {**_ways("lns"), "auto": Way()},
    ),
    "larger": Set(
        lambda: [
            case
            for case in generated_cases((150, 200), range(90, 92), 4.0)
            if few_wait(case.read())
        ],
        _ways("lns", "lns, cpsat 1"),
    ),
    "4 s": Set(
        lambda: generated_cases((20, 60, 100), range(50, 51), 4.0),
        _ways("lns, cpsat 2", "lns, cpsat 1", "lns"),
    ),
}


# --------------------------------------------------------------------------- one row


class TwoCores(metered.BusiestThread):
    """The clock of two idle cores: the busiest thread's, and half of all together."""

    def __init__(self) -> None:
        self._began = time.process_time()
        super().__init__()

    def __call__(self) -> float:
        """Seconds since it was made."""
        return max(super().__call__(), (time.process_time() - self._began) / CORES)


def long_search(request: PlanRequest) -> Any:
    """The plan that ruin and recreate has after many moves: of few tasks, the best."""
    problem, rng = encode(request), np.random.default_rng(0)
    first = first_plan(problem)
    budget = Budget(None, LONG_STEPS)
    return SOLVERS["lns"]().solve(problem, budget=budget, rng=rng, incumbent=first).schedule


def first_plan(problem: Any) -> Any:
    """The greedy plan."""
    rng = np.random.default_rng(0)
    return SOLVERS["greedy"]().solve(problem, budget=Budget(None, 1), rng=rng).schedule


@contextmanager
def as_told(way: Way, request: PlanRequest) -> Iterator[None]:
    """Let ``auto`` take these engines, and CP-SAT these ways."""
    best = long_search(request) if way.hint == "best" else None
    known_init, known_model, known_solve = (
        cp_model.CpSolver.__init__, engine.Model, engine.CpSat.solve
    )  # fmt: skip

    def init(solver: Any) -> None:
        known_init(solver)
        for name, value in (way.settings or {}).items():
            if isinstance(value, str):
                value = getattr(cp_model, value)
            setattr(solver.parameters, name, value)

    def model(problem: Any, incumbent: Any, *more: Any, **named: Any) -> Any:
        built = known_model(problem, incumbent, *more, **named)
        if way.order and incumbent is not None:
            line = np.lexsort((incumbent.end, incumbent.start)).tolist()
            built.model.add_decision_strategy(
                [built.start[i] for i in line], cp_model.CHOOSE_FIRST, cp_model.SELECT_MIN_VALUE
            )
        return built

    def solve(self: Any, problem: Any, *, incumbent: Any = None, **named: Any) -> Any:
        if way.hint == "none":
            incumbent = None
        elif way.hint == "best":
            incumbent = best
        elif way.hint == "relaxation" and (relaxation := relax(problem)) is not None:
            until = time.perf_counter() + 0.1
            made = list(guided_schedules(problem, relaxation, until=until))
            incumbent = min([*made, incumbent], key=problem.cost)
        return known_solve(self, problem, incumbent=incumbent, **named)

    taken, kept = choose, once_begun
    if way.chosen is not None:
        taken, kept = (lambda *_: way.chosen), (lambda chosen, *_: chosen)
    with (
        patch.object(planning, "choose", taken),
        patch.object(planning, "once_begun", kept),
        patch.object(cp_model.CpSolver, "__init__", init),
        patch.object(engine, "Model", model),
        patch.object(engine.CpSat, "solve", solve),
        patch.object(metered, "BusiestThread", TwoCores),
    ):
        yield


def row_of(case: Case, request: PlanRequest, name: str, way: Way) -> Row:
    """What one way makes of a case."""
    asked = replace(request, budget=Budget(case.limit_s), seed=0)
    trace: list[tuple[float, float, float]] = []
    with as_told(way, request), metered.cpu_seconds() as clock:
        cpu_s = time.process_time()
        response = planning.plan(
            asked, observe=lambda cost, bound: trace.append((round(clock(), 4), cost, bound))
        )
        took_s = clock()
        cpu_s = time.process_time() - cpu_s
    kept = [one for k, one in enumerate(trace) if k in (0, len(trace) - 1) or
            one[1] < trace[k - 1][1] or one[2] > trace[k - 1][2]]  # fmt: skip
    return {
        "case": case.name, "family": case.family, "limit_s": case.limit_s, "way": name,
        "tasks": len(request.snapshot.pending), "cost": response.cost,
        "bound": response.lower_bound, "proved": response.status.value == "optimal",
        "took_s": took_s, "cpu_s": cpu_s, "by": response.solver,
        "warning": response.warning, "trace": kept[-40:],
    }  # fmt: skip


def run(file: Path, names: list[str], minutes: float) -> None:
    """Plan what is not in the file yet."""
    rows = rows_of(file)
    done = {(row["set"], row["case"], row["limit_s"], row["way"]) for row in rows}
    for family in FAMILIES:  # what is loaded at a first call is no engine's work
        for way in _ways("lns, cpsat 2", "lns").values():
            row_of(Case(family, family, 0.3, lambda: None), generated(family, 20, 0), "", way)
    until = time.monotonic() + 60 * minutes
    with file.open("a") as out:
        for name in names:
            for case in SETS[name].cases():
                for way, how in SETS[name].ways.items():
                    if (name, case.name, case.limit_s, way) in done:
                        continue
                    if time.monotonic() > until:
                        return
                    request = case.read()
                    if len(request.snapshot.pending) > how.most:
                        continue
                    row = {"set": name, **row_of(case, request, way, how)}
                    print(json.dumps(row), file=out, flush=True)


def rows_of(file: Path) -> list[Row]:
    """The rows so far."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and its 95% interval, by bootstrap."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(2_000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def table(rows: list[Row], name: str) -> None:
    """Print what each way of a set comes to against the first, case by case and by family."""
    ways = list(SETS[name].ways)
    cases: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["set"] == name and row["way"] in ways:
            cases.setdefault(row["case"], {})[row["way"]] = row
    print(f"{name}: {len(cases)} cases")
    for way in ways:
        pairs = [(c[ways[0]], c[way]) for c in cases.values() if {ways[0], way} <= c.keys()]
        if not pairs:
            continue
        extra = np.array([100 * (b["cost"] / a["cost"] - 1) for a, b in pairs])
        # What the bound of the first plan proves is the same work for all.
        longer = [b["took_s"] / a["took_s"] for a, b in pairs if a["took_s"] > AT_ONCE_S]
        ratio = np.exp(interval(np.log(longer or [1.0])))
        of: dict[str, list[float]] = {}
        for (a, _), more in zip(pairs, extra, strict=True):
            of.setdefault(a["family"], []).append(more)
        worst, family = max((float(np.mean(some)), name) for name, some in of.items())
        print(
            f"  {way:22s} {len(pairs):3d}: cost {{:+.3f}}% [{{:+.3f}}, {{:+.3f}}], ".format(
                *interval(extra)
            )
            + f"worst family {worst:+.3f} ({family}), proved {sum(b['proved'] for _, b in pairs)}"
            + f" ({sum(a['proved'] for a, _ in pairs)}), time of {len(longer)} "
            + "x{:.2f} [{:.2f}, {:.2f}]".format(*ratio)
        )


def main() -> None:
    """Run or print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--set", choices=SETS, action="append")
    parser.add_argument("--minutes", type=float, default=60.0)
    asked = parser.parse_args()
    names = asked.set or list(SETS)
    if asked.what == "run":
        run(asked.file, names, asked.minutes)
    else:
        for name in names:
            table(rows_of(asked.file), name)


if __name__ == "__main__":
    main()

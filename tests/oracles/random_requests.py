"""Small requests that try to be awkward, for comparing solvers with slow twins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from plancast.planner.instances.generate import pieces_that_fit
from plancast.planner.model.domain import (
    ANY_CLASS,
    DAY_S,
    AmountWindow,
    Assignment,
    CountedResource,
    Dependency,
    DependencyKind,
    DurationEstimate,
    Finished,
    Hourly,
    Mode,
    Outcome,
    Plan,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Window,
    Worker,
    find_cycle,
)
from plancast.planner.model.messages import PlanRequest


def random_request(
    seed: int | np.random.Generator,
    max_tasks: int = 5,
    max_workers: int = 3,
    *,
    now_s: int = 1_000_000,
    max_duration_s: int = 4,
    classes: bool = True,
    labels: bool = True,
    precedence: bool = True,
    releases: bool = True,
    deadlines: bool = True,
    gangs: bool = True,
    drains: bool = True,
    blocked: bool = True,
    free_from: bool = True,
    running: bool = True,
    preemption: bool = True,
    finished: bool = True,
    weights: bool = True,
    power: bool = True,
    carbon: bool = True,
    health: bool = True,
    spread: bool = True,
    incumbent: bool = True,
    bounds: bool = True,
    misfits: bool = True,
    modes: bool = False,
    counted: bool = False,
    hours: bool = False,
) -> PlanRequest:
    """A small request that tries to be awkward, for comparing solvers with brute force.

    Parameters
    ----------
    seed : int or numpy Generator
    max_tasks, max_workers : int
        Pending tasks and workers; at least one of each.
    now_s : int
        Time of planning, seconds since the epoch.
    max_duration_s : int
        Planned durations lie in ``[1, max_duration_s]``.
    classes : bool
        Up to three machine classes with their own durations, some of them not eligible.
    labels, precedence, releases, deadlines, gangs, drains, blocked, free_from, running : bool
        Whether the request may have them; releases lie before and after now.
    preemption : bool
        Whether running tasks may be preemptible.
    finished : bool
        Whether predecessors may have ended already (some not completed, with `misfits`).
    weights : bool
        Weights other than 1, zero among them.
    carbon : bool
        Whether the grid behind some workers emits carbon, and its weight has a price.
    power, health : bool
        Whether workers have powers and boot energies, and a health below 1.
    spread : bool
        Estimates of several levels, rather than certain ones.
    incumbent : bool
        Whether there may be a plan in force and a price on moves.
    bounds : bool
        Whether deadlines may be hard, and waits and stretches bounded.
    misfits : bool
        Whether some tasks may fit no worker; without them, drains and bounds every task can
        be planned.
    modes : bool
        Whether tasks may have several modes, and there may be a budget; nothing is preemptible
        then.
    counted : bool
        Whether the cluster counts licences and running tasks of owners. Where there may be
        `misfits`, some tasks take more than there is, or than there is for long.
    hours : bool
        What energy costs, and the grid's intensity, change within a few seconds on most workers.

    Returns
    -------
    PlanRequest
        Prices over every term, many of them zero. As seconds are tiny, terms in hours are
        priced at thousands an hour, so that a second of any term can tip the balance.
    """
    rng = np.random.default_rng(seed)

    def coin(chance: float, allowed: bool = True) -> bool:
        return allowed and bool(rng.random() < chance)

    def pick(low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return int(rng.integers(low, high + 1))

    class_names = ["a", "b", "c"][: pick(1, 3) if classes else 1]
    resources = ["cpu", "mem"][: pick(1, 2)]
    workers: list[Worker] = []
    for k in range(pick(1, max_workers)):
        if workers and coin(0.3):  # an identical twin: solvers break such symmetries
            workers.append(replace(workers[-1], id=f"w{k}"))
            continue
        start_s = now_s + pick(-1, 6)
        windows = [Window(start_s, start_s + pick(1, 3))] if coin(0.25, blocked) else []
        if windows and coin(0.2):
            later_s = windows[0].end_s + pick(0, 3)
            windows.append(Window(later_s, later_s + pick(1, 2)))
        workers.append(
            Worker(
                id=f"w{k}",
                capacity={name: 1000 * pick(1, 4) for name in resources},
                labels=frozenset(x for x in "xyz" if coin(0.5)) if labels else frozenset(),
                machine_class=class_names[pick(0, len(class_names) - 1)],
                free_from_s=now_s + pick(-2, 4) if coin(0.3, free_from) else None,
                until_s=now_s + pick(2, 12) if coin(0.2, drains) else None,
                blocked=tuple(windows),
                idle_w=60.0 * pick(0, 3) if power else 0.0,
                busy_w=60.0 * pick(0, 6) if power else 0.0,
                boot_kwh=1e-4 * pick(0, 3) if power else 0.0,
                health=(1.0, 0.9, 0.5, 0.01)[pick(0, 3)] if health else 1.0,
            )
        )

    level = (0.5, 0.7, 0.9)[pick(0, 2)] if spread else 0.5
    estimates: dict[str, dict[str, DurationEstimate]] = {}

    def estimate() -> DurationEstimate:
        planned_s = pick(1, max_duration_s)
        if not coin(0.5, spread):
            return DurationEstimate.certain(planned_s, "random")
        return DurationEstimate(
            (0.1, level, 0.95),
            (pick(1, planned_s), planned_s, planned_s + pick(0, 2)),
            "random",
        )

    def running_estimate(elapsed_s: int) -> DurationEstimate:
        if elapsed_s and level < 0.9 and coin(0.15):
            return DurationEstimate.certain(elapsed_s, "refuted")
        longest_s = elapsed_s + pick(1, max_duration_s)
        if not coin(0.5, spread):
            return DurationEstimate.certain(longest_s, "random")
        return DurationEstimate((0.1, level, 0.95), (1, max(1, longest_s - 1), longest_s), "random")

    def estimates_of() -> dict[str, DurationEstimate]:
        if len(class_names) == 1 or coin(0.3):
            return {ANY_CLASS: estimate()}
        chosen = {c: estimate() for c in class_names if coin(0.8)}
        if not chosen or coin(0.15):
            chosen[ANY_CLASS] = estimate()
        return chosen

    def task(name: str, after: tuple[str, ...], host: Worker, misfit: bool) -> Task:
        demand = {
            r: 500 * pick(1, 2 * host.capacity[r] // 1000) if coin(0.85) else 0 for r in resources
        }
        groups: list[str] = []
        if host.labels and coin(0.35, labels):
            mine = sorted(host.labels)[pick(0, len(host.labels) - 1)]
            groups.append("|".join(sorted({mine, "xyz"[pick(0, 2)]})) if coin(0.5) else mine)
        if misfit and coin(0.5):
            groups.append("nowhere")
        elif misfit:
            demand[resources[0]] = 9000
        release_s = now_s + (pick(-5, 4) if releases else 0)
        earliest_s = max(release_s, now_s)
        return Task(
            id=name,
            demand=demand,
            release_s=release_s,
            deadline_s=earliest_s + pick(0, 10) if coin(0.5, deadlines) else None,
            weight=float((0, 0.5, 1, 1, 2, 3)[pick(0, 5)]) if weights else 1.0,
            owner=("ann", "bob", "eve")[pick(0, 2)],
            requires=tuple(groups),
            after=after,
            shards=pick(2, 3) if coin(0.25, gangs) else 1,
        )

    ended: list[Finished] = []
    if coin(0.3, finished):
        bad = coin(0.15, misfits)
        ended.append(Finished("f0", now_s - 3, Outcome.FAILED if bad else Outcome.COMPLETED))

    runs: list[Running] = []
    left = {w.id: dict(w.capacity) for w in workers}
    for k in range(pick(0, 2) if running else 0):
        host = workers[pick(0, len(workers) - 1)]
        drawn = task(f"r{k}", (), host, misfit=False)
        places = [host.id] + [
            workers[pick(0, len(workers) - 1)].id for _ in range(drawn.shards - 1)
        ]
        need = {(w, r): drawn.demand[r] * places.count(w) for w in places for r in resources}
        if any(amount > left[w][r] for (w, r), amount in need.items()) and not coin(0.05):
            continue  # seldom over capacity, as real logs are
        for (w, r), amount in need.items():
            left[w][r] -= amount
        start_s = now_s - pick(0, 3)
        drawn = replace(
            drawn,
            release_s=min(drawn.release_s, start_s),
            preemptible=coin(0.4, preemption),
            requested_s=now_s - start_s + pick(1, 3) if coin(0.2) else None,
        )
        runs.append(Running(drawn, tuple(places), start_s))
        estimates[drawn.id] = {ANY_CLASS: running_estimate(now_s - start_s)}

    pending: list[Task] = []
    for k in range(pick(1, max_tasks)):
        before = [t.id for t in (*pending, *(r.task for r in runs))] + [f.id for f in ended]
        after: tuple[str, ...] = ()
        if before and coin(0.35, precedence):
            chosen = rng.choice(before, min(len(before), pick(1, 2)), replace=False)
            after = tuple(sorted(str(name) for name in chosen))
        host = workers[pick(0, len(workers) - 1)]
        drawn = task(f"t{k}", after, host, misfit=coin(0.08, misfits))
        own = estimates_of()
        if not misfits and host.machine_class not in own and ANY_CLASS not in own:
            own[host.machine_class] = estimate()
        if not misfits:
            eligible = [w for w in workers if w.machine_class in own or ANY_CLASS in own]
            room = pieces_that_fit(eligible, drawn.demand, drawn.requires)
            drawn = replace(drawn, shards=min(drawn.shards, room))
        pending.append(drawn)
        estimates[drawn.id] = own
    order = rng.permutation(len(pending))

    in_force = None
    if coin(0.4, incumbent):
        in_force = Plan(
            tuple(
                Assignment(
                    t.id,
                    tuple(workers[pick(0, len(workers) - 1)].id for _ in range(t.shards)),
                    (start_s := now_s + pick(0, 6)),
                    start_s + pick(1, max_duration_s),
                )
                for t in pending
                if coin(0.8)
            ),
            made_at_s=now_s - 1,
            snapshot_version=2,
        )

    per_hour = 3600.0
    prices = Prices(
        makespan_h=per_hour * pick(0, 3),
        late_h=per_hour * pick(0, 3) if deadlines else 0.0,
        misses=float(pick(0, 4)) if deadlines else 0.0,
        wait_h=per_hour * pick(0, 2),
        stretch=float(pick(0, 4)) if coin(0.4) else 0.0,
        kwh=18_000.0 * pick(0, 3) if coin(0.5, power) else 0.0,
        unfair_h=per_hour * pick(1, 3) if coin(0.3) else 0.0,
        imbalance_h=per_hour * pick(1, 3) if coin(0.3) else 0.0,
        failures=1000.0 * pick(1, 3) if coin(0.3, health) else 0.0,
        moves=float(pick(0, 3)) if incumbent else 0.0,
    )
    bounds_drawn = (
        coin(0.15, bounds and deadlines),
        pick(0, 12) if coin(0.1, bounds) else None,
        float(pick(1, 4)) if coin(0.1, bounds) else None,
        pick(0, 2) if incumbent else 0,
    )
    # Drawn last: a request without these or counted resources is the one that its seed always
    # gave.
    if coin(0.3, carbon and power):
        prices = replace(prices, carbon_kg=18_000.0 * pick(1, 3))
        grid = [0.3 * pick(0, 2) for _ in workers]
        workers = [replace(w, carbon_kg_per_kwh=g) for w, g in zip(workers, grid, strict=True)]
        if coin(0.5):
            prices = replace(prices, energy_cost=18_000.0 * pick(1, 3))
            rates = [0.3 * pick(0, 2) for _ in workers]
            workers = [replace(w, price_per_kwh=r) for w, r in zip(workers, rates, strict=True)]
    if hours:
        workers, prices = _by_the_hour(rng, workers, prices, now_s)
    if counted:
        pending, runs, resources = with_counted(rng, pending, runs, now_s, misfits)
    else:
        resources = ()
    drawn_request = PlanRequest(
        request_id="random",
        snapshot=Snapshot(
            counted=resources,
            version=3,
            now_s=now_s,
            workers=tuple(workers),
            pending=tuple(pending[i] for i in order),
            running=tuple(runs),
            finished=tuple(ended),
        ),
        estimates=estimates,
        policy=Policy(
            prices=prices,
            level=level,
            hard_deadlines=bounds_drawn[0],
            max_wait_s=bounds_drawn[1],
            max_stretch=bounds_drawn[2],
            move_tolerance_s=bounds_drawn[3],
        ),
        incumbent=in_force,
        seed=0,
    )
    return _with_modes(drawn_request, rng, max_duration_s) if modes else drawn_request


def _by_the_hour(
    rng: np.random.Generator, workers: list[Worker], prices: Prices, now_s: int
) -> tuple[list[Worker], Prices]:
    """Rates that change within a few seconds, and are at their least for the rest of the day."""

    def rate() -> float | Hourly:
        if rng.random() < 0.2:
            return float(rng.integers(3)) / 10
        offset_s = int(rng.integers(-12, 13)) * 3600
        second = (now_s + offset_s) % DAY_S
        times = sorted({int(t) for t in second + rng.integers(1, 16, int(rng.integers(1, 5)))})
        values = [float(v) / 10 for v in rng.integers(0, 5, len(times))]
        return Hourly((0, *times), (*values, min(values)), offset_s)

    tariff, grid = rate(), rate()
    changed = [
        replace(
            w,
            idle_w=w.idle_w or float(rng.integers(3)),
            busy_w=w.busy_w or float(rng.integers(1, 4)),
            price_per_kwh=tariff if rng.random() < 0.7 else rate(),
            carbon_kg_per_kwh=grid if rng.random() < 0.7 else rate(),
        )
        for w in workers
    ]
    costly = 3.6e6 * float(rng.integers(1, 30)), 1.8e6 * float(rng.integers(0, 10))
    return changed, replace(prices, energy_cost=costly[0], carbon_kg=costly[1])


def _with_modes(request: PlanRequest, rng: np.random.Generator, max_duration_s: int) -> PlanRequest:
    """The same with modes for most tasks, the first as they are, and half the time a budget."""
    snapshot = request.snapshot
    estimates: dict[str, Any] = dict(request.estimates)
    budgeted = bool(rng.random() < 0.5)

    def price(mode: Mode) -> Mode:
        if not budgeted or rng.random() < 0.4:
            return mode
        return replace(mode, demand={**mode.demand, "gold": int(rng.integers(0, 4))})

    def widened(task: Task) -> Task:
        first = Mode("own", task.demand, task.shards, task.requires, task.requested_s)
        if rng.random() < 0.3:
            if not budgeted:
                return task
            return replace(task, demand=price(first).demand)
        modes, by_mode = [price(first)], {"own": estimates[task.id]}
        for k in range(int(rng.integers(0, 3))):
            scale = float(rng.choice([0.5, 1.0, 2.0]))
            demand = {r: 500 * round(a * scale / 500) for r, a in task.demand.items()}
            shards = int(rng.choice([1, 1, 2])) if task.shards == 1 else int(rng.integers(1, 4))
            labels = task.requires if rng.random() < 0.7 else ()
            modes.append(price(Mode(f"m{k}", demand, shards, labels)))
            known = {c: e for c, e in by_mode["own"].items() if rng.random() < 0.9}
            by_mode[f"m{k}"] = {
                c: DurationEstimate.certain(int(rng.integers(1, max_duration_s + 1)), "random")
                for c in known
            }
        estimates[task.id] = by_mode
        way = {"demand": {}, "shards": 1, "requires": (), "requested_s": None}
        return replace(task, **way, modes=tuple(modes))

    pending = tuple(widened(task) for task in snapshot.pending)
    running = []
    for run in snapshot.running:
        calm = replace(run.task, preemptible=False)
        task = widened(calm)
        running.append(Running(task, run.workers, run.start_s, "own" if task.modes else ""))
    most = sum(max(m.demand.get("gold", 0) for m in t.modes or (t,)) for t in pending)
    ran = sum(run.done.demand.get("gold", 0) for run in running)
    gold = {"gold": ran + int(rng.integers(most // 3, most + 2))} if budgeted else {}
    incumbent = request.incumbent
    if incumbent is not None:
        by_id = {task.id: task for task in pending}
        moved = []
        for assignment in incumbent.assignments:
            names = [m.id for m in by_id[assignment.task].modes] or [""]
            moved.append(replace(assignment, mode=str(rng.choice(names))))
        incumbent = replace(incumbent, assignments=tuple(moved))
    return replace(
        request,
        snapshot=replace(snapshot, pending=pending, running=tuple(running), budgets=gold),
        estimates=estimates,
        incumbent=incumbent,
    )


def with_counted(
    rng: np.random.Generator,
    pending: list[Task],
    runs: list[Running],
    now_s: int,
    misfits: bool,
) -> tuple[list[Task], list[Running], tuple[CountedResource, ...]]:
    """The tasks with licences and a limit of running tasks of one owner, and what is counted."""

    def pick(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    kinds = [f"licence{k}" for k in range(pick(1, 2))]
    amount_of = {name: pick(1, 3) for name in kinds}
    resources = []
    for name in kinds:
        windows = []
        if rng.random() < 0.4:
            start_s = now_s + pick(-1, 6)
            least = 0 if misfits else 1
            windows.append(AmountWindow(start_s, start_s + pick(1, 4), pick(least, 4)))
        resources.append(CountedResource(name, amount_of[name], tuple(windows)))
    if rng.random() < 0.5:
        resources.append(CountedResource("user ann", pick(1, 2)))

    def taking(task: Task) -> Task:
        takes = {
            name: pick(1, amount_of[name] + int(misfits and rng.random() < 0.05))
            for name in kinds
            if rng.random() < 0.6
        }
        if task.owner == "ann" and len(resources) > len(kinds):
            takes["user ann"] = 1
        return replace(task, counted=takes)

    return (
        [taking(task) for task in pending],
        [replace(run, task=taking(run.task)) for run in runs],
        tuple(resources),
    )


EXPRESSIONS = ("x&y", "x|y", "!z", "(x|y)&!z", "[x|y]", "[x|(y&z)]", "x,!y z")


def related(
    request: PlanRequest,
    seed: int,
    *,
    labels: bool = True,
    exclusive: bool = True,
    gangs: bool = True,
    dependencies: bool = True,
) -> PlanRequest:
    """The same request with label expressions, exclusive tasks, shaped gangs and dependencies.

    Parameters
    ----------
    request : PlanRequest
    seed : int
    labels, exclusive, gangs, dependencies : bool
        Which of them it may have.
    """
    rng = np.random.default_rng((seed, 18))
    snapshot = request.snapshot
    ids = [task.id for task in snapshot.pending]
    outside = [r.task.id for r in snapshot.running] + [f.id for f in snapshot.finished]
    pending: list[Task] = []
    for k, task in enumerate(snapshot.pending):
        changes: dict[str, object] = {}
        if labels and task.modes:
            changes["modes"] = tuple(
                replace(mode, requires=(EXPRESSIONS[int(rng.integers(len(EXPRESSIONS)))],))
                if rng.random() < 0.5 else mode
                for mode in task.modes
            )  # fmt: skip
        elif labels and rng.random() < 0.5:
            changes["requires"] = (EXPRESSIONS[int(rng.integers(len(EXPRESSIONS)))],)
        if exclusive and rng.random() < 0.35:
            changes["exclusive"] = True
        if gangs and rng.random() < 0.5:
            shards = task.shards if task.shards > 1 else int(rng.integers(1, 4))
            each = (None, 1, 2)[int(rng.integers(3))]
            least = 1 if each is None else -(-shards // each)
            most = None if rng.random() < 0.5 else int(rng.integers(least, shards + 1))
            changes |= {"shards": shards, "most_per_worker": each, "most_workers": most}
        if dependencies:
            kept = [b for b in task.after if rng.random() < 0.4]
            loose = [b for b in task.after if b not in kept]
            loose += [b for b in (*ids[:k], *outside) if b not in task.after and rng.random() < 0.2]
            changes |= {"after": tuple(kept), "depends": tuple(_depends(loose, snapshot, rng))}
        pending.append(replace(task, **changes))  # type: ignore[arg-type]
    running = tuple(
        replace(r, task=replace(r.task, exclusive=bool(exclusive and rng.random() < 0.3)))
        for r in snapshot.running
    )
    if find_cycle({task.id: task.predecessors for task in pending}):
        pending = [replace(t, depends=()) for t in pending]
    incumbent = request.incumbent
    if incumbent is not None:
        # A gang of another size was never planned as it is.
        same = {t.id for t, was in zip(pending, snapshot.pending, strict=True)
                if t.shards == was.shards}  # fmt: skip
        kept = tuple(a for a in incumbent.assignments if a.task in same)
        incumbent = replace(incumbent, assignments=kept)
    changed = replace(snapshot, pending=tuple(pending), running=running)
    return replace(request, snapshot=changed, incumbent=incumbent)


def _depends(names: list[str], snapshot: Snapshot, rng: np.random.Generator) -> list[Dependency]:
    found = []
    for name in names:
        kinds = [DependencyKind.AFTEROK, DependencyKind.AFTERANY, DependencyKind.AFTER]
        if name in snapshot.finished_by_id:
            kinds.append(DependencyKind.AFTERNOTOK)
        kind = kinds[int(rng.integers(len(kinds)))]
        lag_s = int(rng.integers(1, 5)) if rng.random() < 0.5 else 0
        found.append(Dependency(name, kind, lag_s))
    return found

"""The dull truth: the cheapest plan over all integer starts and all worker multisets.

Shares nothing with the product but its types and its evaluator. Nothing is assumed about
left-shifted or active schedules, or about which worker is better: every start up to a safe
horizon is tried on every multiset of workers. Two things alone are cut: a partial plan
that already costs (with the least that each missing task adds by itself) as much as the
best whole plan; and starts that some rule forbids the task even alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement

from plancast.planner.arrays.encode import encode
from plancast.planner.model.devices import held_devices
from plancast.planner.model.domain import (
    DAY_S,
    GPU,
    HOUR_S,
    MIN_STRETCH_S,
    WATT_SECONDS_PER_KWH,
    Assignment,
    DependencyKind,
    Hourly,
    Plan,
    Prices,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import (
    evaluate,
    unplanned_weight,
)
from plancast.planner.model.judge_placement import shape_violations
from plancast.planner.model.messages import PlanRequest, to_json
from plancast.planner.model.spans import fastest_mode_s, planned_duration_s, running_end_s
from tests.oracles.plain_devices import Stay, all_given


@dataclass(frozen=True)
class Optimum:
    """A cheapest plan and its cost, the price of ``moves`` left out."""

    cost: float
    plan: Plan


@dataclass(frozen=True)
class _Place:
    """One way to place a task: where, when, and what it costs whatever the others do."""

    workers: tuple[str, ...]
    start: int
    end: int
    alone: float
    done: Task
    """The task in the mode that is chosen."""
    mode: str


def without_moves(request: PlanRequest) -> PlanRequest:
    """The request with ``moves`` for free."""
    prices = replace(request.policy.prices, moves=0.0)
    return replace(request, policy=replace(request.policy, prices=prices))


def safe_horizon(request: PlanRequest, tasks: Collection[Task]) -> int:
    """A time by which some cheapest plan has ended, if there is a plan at all.

    Once everything is released, free, unblocked and what runs has ended, a second in which
    nothing runs could be cut out of a plan, and every later task would start a second
    earlier: no term gets costlier, no rule is broken. Where rates go by the hour, so it is once
    they are at their least for the rest of the day (as ``random_request`` draws them).
    """
    snapshot = request.snapshot
    calm = [snapshot.now_s]
    calm += [t.release_s for t in tasks]
    calm += [running_end_s(request, run) for run in snapshot.running]
    longest = 0
    for worker in snapshot.workers:
        calm.append(worker.free_at(snapshot.now_s))
        calm += [window.end_s for window in worker.blocked]
        for rate in (worker.price_per_kwh, worker.carbon_kg_per_kwh):
            if isinstance(rate, Hourly):
                assert rate.values[-1] == min(rate.values)
                midnight_s = snapshot.now_s - (snapshot.now_s + rate.utc_offset_s) % DAY_S
                calm.append(midnight_s + rate.at_s[-1])
    for resource in snapshot.counted:
        calm += [window.end_s for window in resource.windows]
    for task in tasks:
        durations = [
            planned_duration_s(request, task.id, [w], mode)
            for w in snapshot.workers
            for mode in modes_of(task)
        ]
        longest += max((d for d in durations if d is not None), default=0)
    lags = sum(on.lag_s for task in tasks for on in task.depends)
    return max(calm) + longest + lags


def modes_of(task: Task) -> list[str]:
    """Its modes; one of no name where it has none."""
    return [mode.id for mode in task.modes] or [""]


def energy_price(prices: Prices, worker: Worker, at_s: int) -> float:
    """What a kilowatt-hour costs on a worker at a second, its carbon included."""
    carbon, price = (
        rate.at(at_s) if isinstance(rate, Hourly) else rate
        for rate in (worker.carbon_kg_per_kwh, worker.price_per_kwh)
    )
    return prices.kwh + prices.carbon_kg * carbon + prices.energy_cost * price


def energy_paid(prices: Prices, worker: Worker, watts: float, start_s: int, end_s: int) -> float:
    """What so many watts cost, second by second where rates go by the hour."""
    if isinstance(worker.carbon_kg_per_kwh, Hourly) or isinstance(worker.price_per_kwh, Hourly):
        per_kwh = sum(energy_price(prices, worker, second) for second in range(start_s, end_s))
    else:
        per_kwh = max(0, end_s - start_s) * energy_price(prices, worker, start_s)
    return watts * per_kwh / WATT_SECONDS_PER_KWH


_found: dict[tuple[bytes, frozenset[str]], Optimum | None] = {}
"""Every solver is compared with the same optima."""


def optimum(request: PlanRequest, unplanned: Collection[str] = ()) -> Optimum | None:
    """The cheapest valid plan of all pending tasks but `unplanned`, None if there is none."""
    asked = to_json(request), frozenset(unplanned)
    if asked not in _found:
        _found[asked] = _cheapest(request, unplanned)
    return _found[asked]


def _cheapest(request: PlanRequest, unplanned: Collection[str]) -> Optimum | None:
    request = without_moves(request)
    snapshot, prices = request.snapshot, request.policy.prices
    tasks = _predecessors_first([t for t in snapshot.pending if t.id not in unplanned])
    horizon = safe_horizon(request, tasks)
    places = [_places(request, task, horizon) for task in tasks]
    if not all(places):
        return None
    least = [0.0] * (len(tasks) + 1)
    for k in reversed(range(len(tasks))):
        least[k] = least[k + 1] + places[k][0].alone

    now = snapshot.now_s
    workers = snapshot.worker_by_id
    # in_use[worker][second][resource], and what no task placed later can change any more.
    in_use: dict[str, dict[int, dict[str, int]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(int))
    )
    # held[resource][second] of what the whole cluster counts.
    held: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    base_plan = Plan((), (), now, snapshot.version)
    base = evaluate(request, base_plan, unplanned=[t.id for t in snapshot.pending]).terms
    stays: dict[str, list[tuple[int, int, bool]]] = defaultdict(list)
    last_end: dict[str, int] = {}
    load: dict[str, float] = defaultdict(float)
    waited: dict[str, float] = defaultdict(float)
    owned: dict[str, int] = defaultdict(int)
    makespan = now
    for task in snapshot.pending:
        owned[task.owner] += 1
    for run in snapshot.running:
        end_s = running_end_s(request, run)
        makespan = max(makespan, end_s)
        owned[run.task.owner] += 1
        waited[run.task.owner] += run.start_s - run.task.release_s
        for name in set(run.workers):
            stays[name].append((run.start_s, end_s, run.task.exclusive))
        for name in run.workers:
            last_end[name] = max(last_end.get(name, end_s), end_s)
            load[name] += workers[name].dominant_share(run.done.demand) * (end_s - now)
            for second in range(now, end_s):
                for resource, amount in run.done.demand.items():
                    in_use[name][second][resource] += amount
        for resource, amount in run.task.counted.items():
            for second in range(now, end_s):
                held[resource][second] += amount
    on = set(last_end)
    constant = sum(
        prices.of(term) * base[term]
        for term in ("late_h", "misses", "wait_h", "stretch", "failures", "kwh", "carbon_kg",
                     "energy_cost")
    ) - sum(
        _idle_paid(prices, workers[name], now, end_s) for name, end_s in last_end.items()
    )  # fmt: skip

    left = dict(snapshot.budgets)
    for run in snapshot.running:
        for resource, amount in run.done.demand.items():
            if resource in left:
                left[resource] -= amount
    chosen: list[_Place] = []
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    best_cost, best = float("inf"), None

    def joint_cost() -> float:
        """What depends on several tasks at once: the terms that are a max, and idle power."""
        cost = prices.makespan_h * max([makespan, *(p.end for p in chosen)])
        cost -= prices.makespan_h * now
        cost += prices.unfair_h * max((w / owned[o] for o, w in waited.items()), default=0.0)
        cost += prices.imbalance_h * max(load.values(), default=0.0)
        cost /= HOUR_S
        for name, end_s in last_end.items():
            worker = workers[name]
            cost += _idle_paid(prices, worker, now, end_s)
            booted = worker.boot_kwh * (name not in on)
            cost += energy_price(prices, worker, worker.free_at(now)) * booted
        return cost

    def extend(k: int, alone: float) -> None:
        nonlocal best_cost, best
        if k == len(tasks):
            cost = alone + joint_cost()
            if cost < best_cost:
                best_cost, best = cost, tuple(chosen)
            return
        task = tasks[k]
        not_before = max((ends[b] for b in task.after if b in ends), default=now)
        for on in task.depends:
            if on.task in ends:
                since = starts[on.task] if on.kind is DependencyKind.AFTER else ends[on.task]
                not_before = max(not_before, since + on.lag_s)
        for place in places[k]:
            if alone + place.alone + least[k + 1] >= best_cost:
                break  # the places are in order of what they cost alone
            if place.start < not_before:
                continue
            wanted = place.done.demand.items()
            demand = [(r, a) for r, a in wanted if a > 0 and r not in left]
            spends = [(r, a) for r, a in wanted if a > 0 and r in left]
            if any(amount > left[resource] for resource, amount in spends):
                continue
            before = {name: last_end.get(name) for name in place.workers}
            fits = not any(
                (task.exclusive or alone) and place.start < until and since < place.end
                for name in before
                for since, until, alone in stays[name]
            )
            for n, name in enumerate(place.workers):
                if not fits:
                    break
                capacity, used = workers[name].capacity, in_use[name]
                pieces = 1 + place.workers[:n].count(name)
                for second in range(place.start, place.end):
                    for resource, amount in demand:
                        if used[second][resource] + pieces * amount > capacity[resource]:
                            fits = False
                            break
                    if not fits:
                        break
                if not fits:
                    break
            if not fits:
                continue
            if snapshot.has_devices and _devices_of(request, [*chosen, place]) is None:
                continue
            if not all(
                held[resource][second] + amount <= snapshot.counted_by_id[resource].at(second)
                for resource, amount in task.counted.items()
                for second in range(place.start, place.end)
                if amount > 0
            ):
                continue
            share = {name: workers[name].dominant_share(place.done.demand) for name in before}
            for name in place.workers:
                load[name] += share[name] * (place.end - place.start)
                last_end[name] = max(last_end.get(name, place.end), place.end)
            waited[task.owner] += place.start - task.release_s
            chosen.append(place)
            if alone + place.alone + least[k + 1] + joint_cost() < best_cost:
                for name in place.workers:
                    for second in range(place.start, place.end):
                        for resource, amount in demand:
                            in_use[name][second][resource] += amount
                for resource, amount in task.counted.items():
                    for second in range(place.start, place.end):
                        held[resource][second] += amount
                starts[task.id], ends[task.id] = place.start, place.end
                for resource, amount in spends:
                    left[resource] -= amount
                for name in before:
                    stays[name].append((place.start, place.end, task.exclusive))
                extend(k + 1, alone + place.alone)
                for name in before:
                    stays[name].pop()
                for resource, amount in spends:
                    left[resource] += amount
                del starts[task.id], ends[task.id]
                for resource, amount in task.counted.items():
                    for second in range(place.start, place.end):
                        held[resource][second] -= amount
                for name in place.workers:
                    for second in range(place.start, place.end):
                        for resource, amount in demand:
                            in_use[name][second][resource] -= amount
            chosen.pop()
            waited[task.owner] -= place.start - task.release_s
            for name in place.workers:
                load[name] -= share[name] * (place.end - place.start)
            for name, end in before.items():
                if end is None:
                    del last_end[name]
                else:
                    last_end[name] = end

    extend(0, constant)
    if best is None:
        return None
    devices = _devices_of(request, best) if snapshot.has_devices else [()] * len(best)
    assert devices is not None
    plan = Plan(
        tuple(
            Assignment(t.id, p.workers, p.start, p.end, p.mode, held)
            for t, p, held in zip(tasks, best, devices, strict=True)
        ),
        (),
        now,
        snapshot.version,
    )
    found = evaluate(request, plan, unplanned=unplanned)
    assert found.valid, found.violations
    assert abs(found.cost - best_cost) <= 1e-9 * max(1.0, abs(found.cost)), (found, best_cost)
    return Optimum(found.cost, plan)


def _devices_of(
    request: PlanRequest, places: list[_Place]
) -> list[tuple[tuple[int, ...], ...]] | None:
    """Devices for the pieces of each place beside what runs; None where there are none."""
    snapshot = request.snapshot
    have = {w.id: w.device_count for w in snapshot.workers}
    known = held_devices(snapshot)
    stays = [
        Stay(
            name, snapshot.now_s, running_end_s(request, run), run.done.demand.get(GPU, 0),
            known[run.task.id][k] if run.task.id in known else (),
        )
        for run in snapshot.running
        for k, name in enumerate(run.workers)
    ]  # fmt: skip
    ran = len(stays)
    stays += [Stay(n, p.start, p.end, p.done.demand.get(GPU, 0)) for p in places for n in p.workers]
    found = all_given(stays, have)
    if found is None:
        return None
    rest = iter(found[ran:])
    named = [tuple(next(rest) for _ in place.workers) for place in places]
    return [held if any(held) else () for held in named]


def optimum_with_preemption(request: PlanRequest) -> tuple[tuple[float, float], Plan] | None:
    """Least (weight left out, cost) over all sets of preemptible running tasks, with its plan.

    For requests without an incumbent: there ``moves`` counts preempted tasks alone. What a set
    of tasks leaves out is taken from ``encode``; besides, it may leave out tasks that have no place
    if nothing is preempted, where there is no plan with more of them.
    """
    assert request.incumbent is None
    snapshot = request.snapshot
    known = {*snapshot.pending_by_id, *snapshot.running_by_id, *(f.id for f in snapshot.finished)}
    loose = [
        r for r in snapshot.running if r.task.preemptible and known.issuperset(r.task.predecessors)
    ]
    best: tuple[tuple[float, float], Plan] | None = None
    homeless = encode(request).unplanned
    for number in range(len(loose) + 1):
        for stopped in combinations(loose, number):
            names = {r.task.id for r in stopped}
            on = {w for r in stopped for w in r.workers}
            asked = replace(
                request,
                snapshot=replace(
                    snapshot,
                    pending=snapshot.pending + tuple(r.task for r in stopped),
                    running=tuple(r for r in snapshot.running if r.task.id not in names),
                    workers=tuple(
                        replace(w, boot_kwh=0.0) if w.id in on else w for w in snapshot.workers
                    ),
                ),
            )
            lone = encode(asked)
            if not names.isdisjoint(lone.unplanned):
                continue
            more = sorted(homeless.keys() - lone.unplanned.keys())
            planned: list[set[str]] = []
            for size in range(len(more) + 1):
                for some in combinations(more, size):
                    out = _with_followers(asked, {*lone.unplanned, *some})
                    if not out.isdisjoint(names) or not lone.infeasible.keys() <= out:
                        continue
                    if any(less <= out for less in planned):
                        continue
                    found = optimum(asked, out)
                    if found is None:
                        continue
                    planned.append(out)
                    plan = replace(found.plan, preempted=tuple(sorted(names)))
                    judged = evaluate(request, plan, unplanned=out)
                    assert judged.valid, judged.violations
                    rank = (unplanned_weight(request, plan), judged.cost)
                    if best is None or rank < best[0]:
                        best = rank, plan
    return best


def _with_followers(request: PlanRequest, names: set[str]) -> set[str]:
    """Tasks and all that follow them."""
    result = set(names)
    while (
        more := {t.id for t in request.snapshot.pending if not result.isdisjoint(t.predecessors)}
        - result
    ):
        result |= more
    return result


def _idle_paid(prices: Prices, worker: Worker, now: int, end_s: int) -> float:
    return energy_paid(prices, worker, worker.idle_w, worker.free_at(now), end_s)


def _predecessors_first(tasks: list[Task]) -> list[Task]:
    names = {t.id for t in tasks}
    placed: list[Task] = []
    while len(placed) < len(tasks):
        done = {t.id for t in placed}
        placed += [
            t
            for t in tasks
            if t.id not in done and all(b in done or b not in names for b in t.predecessors)
        ][:1]
    return placed


def _places(request: PlanRequest, task: Task, horizon: int) -> list[_Place]:
    """Every place in every mode that no rule forbids the task alone, least own cost first."""
    places = [p for mode in modes_of(task) for p in _places_in(request, task, mode, horizon)]
    return sorted(places, key=lambda place: (place.alone, place.end))


def _places_in(request: PlanRequest, of: Task, mode: str, horizon: int) -> list[_Place]:
    task, fastest_s = of.in_mode(mode), fastest_mode_s(request, of)
    snapshot, policy, prices = request.snapshot, request.policy, request.policy.prices
    finished = {f.id: f for f in snapshot.finished}
    assert all(finished[b].outcome.value == "completed" for b in task.after if b in finished)
    earliest = max(snapshot.now_s, task.release_s)
    for on in task.dependencies:
        starts, since = on.kind is DependencyKind.AFTER, snapshot.now_s
        if on.task in snapshot.running_by_id:
            run = snapshot.running_by_id[on.task]
            since = run.start_s if starts else running_end_s(request, run)
        elif on.task in finished and on.lag_s:
            ended = finished[on.task]
            since = ended.start_s if starts and ended.start_s is not None else ended.end_s
        else:
            continue
        earliest = max(earliest, since + on.lag_s)
    result = []
    for workers in combinations_with_replacement(snapshot.workers, task.shards):
        if any(True for _ in shape_violations(task, workers)):
            continue
        duration = planned_duration_s(request, task.id, workers, mode)
        if duration is None or not all(w.satisfies(task.requires) for w in workers):
            continue
        if any(
            amount > worker.capacity.get(resource, 0)
            for worker in workers
            for resource, amount in task.demand.items()
            if resource not in snapshot.budgets
        ):
            continue
        for start in range(earliest, horizon - duration + 1):
            end = start + duration
            late = task.deadline_s is not None and end > task.deadline_s
            stretch = (end - task.release_s) / max(fastest_s or duration, MIN_STRETCH_S)
            waits = start - max(task.release_s, snapshot.now_s)
            if (
                (policy.hard_deadlines and late)
                or (policy.max_wait_s is not None and waits > policy.max_wait_s)
                or (policy.max_stretch is not None and stretch > policy.max_stretch * (1 + 1e-12))
                or any(_closed(w, start, end) for w in workers)
            ):
                continue
            cost = prices.wait_h * task.weight * (start - task.release_s) / HOUR_S
            cost += prices.stretch * task.weight * stretch
            if task.deadline_s is not None and late:
                cost += prices.late_h * task.weight * (end - task.deadline_s) / HOUR_S
                cost += prices.misses * task.weight
            for worker in workers:
                watts = worker.busy_w * worker.dominant_share(task.demand)
                cost += energy_paid(prices, worker, watts, start, end)
                cost += prices.failures * (1.0 - worker.health ** (duration / HOUR_S))
            result.append(_Place(tuple(w.id for w in workers), start, end, cost, task, mode))
    return result


def _closed(worker: Worker, start: int, end: int) -> bool:
    return (
        (worker.free_from_s is not None and start < worker.free_from_s)
        or (worker.until_s is not None and end > worker.until_s)
        or any(start < b.end_s and b.start_s < end for b in worker.blocked)
    )

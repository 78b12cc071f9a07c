"""The replay on nodes: its plain twin, capacities at every instant, and that nothing leaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.planner.model.domain import BadRequest, Task, Worker
from plancast.planner.worlds import node_machine as machine
from plancast.planner.worlds.dispatchers import LookAhead
from plancast.planner.worlds.node_replay import (
    NODE_DISPATCHERS,
    NodeDispatcher,
    NodeLog,
    NodeReplay,
    cluster_of,
    has_place,
    pressure,
    replay_nodes,
)
from plancast.planner.worlds.replay import ReplayLog
from tests.conftest import scaled
from tests.oracles.plain_nodes import PlainNodes


def toy(
    seed: int, jobs: int = 14, workers: int = 4, gpus: bool = True
) -> tuple[NodeLog, list[int]]:
    """A few jobs on a few workers, and point estimates that are often wrong."""
    rng = np.random.default_rng(seed)
    machines = tuple(
        Worker(
            f"w{k}",
            {"cpu": int(rng.integers(2, 9)) * 1000, "mem": int(rng.integers(2, 9)) * 512}
            | ({"gpu": 1000 * int(rng.integers(0, 4))} if gpus else {}),
            labels=frozenset(rng.choice(["a", "b", "c"], int(rng.integers(0, 3)))),
        )
        for k in range(workers)
    )
    kinds = []
    while len(kinds) < 6:
        demand = {"cpu": int(rng.integers(1, 6)) * 500, "mem": int(rng.integers(0, 6)) * 256}
        if gpus:
            demand["gpu"] = int(rng.choice([0, 250, 300, 500, 700, 1000, 2000]))
        requires = (str(rng.choice(["a", "a|b", "!c"])),) if rng.random() < 0.3 else ()
        task = Task("job", demand, shards=int(rng.choice([1, 1, 2, 3])), requires=requires)
        if has_place(cluster_of(machines, [task]))[0] and task not in kinds:
            kinds.append(task)
        elif rng.random() < 0.02:  # hardly anything fits these workers
            machines = (
                *machines,
                Worker(f"w{len(machines)}", {"cpu": 8000, "mem": 4096, "gpu": 2000 * gpus}),
            )
    run = rng.integers(1, 60, jobs)
    # Distinct, so that no two jobs are believed to end together.
    estimate = [int(s) for s in 3 + 7 * rng.permutation(3 * jobs)[:jobs]]
    log = ReplayLog(
        "toy", 8, np.cumsum(rng.integers(0, 12, jobs)), run, np.ones(jobs, np.int64),
        np.array(estimate) + rng.integers(0, 900, jobs), rng.integers(0, 3, jobs),
    )  # fmt: skip
    kind = rng.integers(0, len(kinds), jobs)
    return NodeLog(log, machines, tuple(kinds), kind, cluster_of(machines, kinds)), estimate


def places(
    nodes: NodeLog, found: NodeReplay
) -> dict[int, tuple[int, list[tuple[int, tuple[int, ...]]]]]:
    """Start and places of every job that ran, as the twin has them."""
    result = {}
    for j in np.flatnonzero(found.replay.start_s >= 0).tolist():
        rows = range(found.ptr[j], found.ptr[j + 1])
        bits = [tuple(d for d in range(63) if int(found.bits[p]) >> d & 1) for p in rows]
        where = found.worker[found.ptr[j] : found.ptr[j + 1]].tolist()
        result[j] = (int(found.replay.start_s[j]), list(zip(where, bits, strict=True)))
    return result


def check_capacity(nodes: NodeLog, found: NodeReplay) -> int:
    """No worker, and no device, over its capacity at any start; how many starts there are."""
    start, end = found.replay.start_s, found.replay.end_s
    ran, where = np.flatnonzero(start >= 0), places(nodes, found)
    for at in start[ran].tolist():
        used: dict[tuple[int, str], int] = {}
        for j in ran[(start[ran] <= at) & (at < end[ran])].tolist():
            task = nodes.kinds[nodes.kind[j]]
            assert found.ptr[j + 1] - found.ptr[j] == task.shards
            for w, devices in where[j][1]:
                assert nodes.workers[w].satisfies(task.requires)
                gpu = task.demand.get("gpu", 0)
                assert len(devices) == (gpu > 0) * max(1, gpu // 1000)
                for name, amount in task.demand.items():
                    if name != "gpu":
                        used[w, name] = used.get((w, name), 0) + amount
                for d in devices:
                    used[w, f"device {d}"] = used.get((w, f"device {d}"), 0) + min(gpu, 1000)
        for (w, name), amount in used.items():
            has = nodes.workers[w].capacity
            if name.startswith("device"):
                assert int(name.split()[1]) < has["gpu"] // 1000
                assert amount <= 1000
            else:
                assert amount <= has[name]
    return len(ran)


@settings(max_examples=scaled(50), deadline=None, derandomize=True)
@given(
    st.integers(0, 1 << 30),
    st.sampled_from(sorted(NODE_DISPATCHERS)),
    st.booleans(),
    st.integers(0, 4),
)
def test_starts_are_those_of_the_plain_twin(seed: int, name: str, drops: bool, gpus: int) -> None:
    """A job would start elsewhere, or at another time, than the rules say."""
    nodes, estimate = toy(seed, gpus=gpus > 0)
    dispatcher = NODE_DISPATCHERS[name]
    if dispatcher.rules is not None:
        dispatcher = replace(dispatcher, rules=LookAhead(patience_s=40.0))
    found = replay_nodes(nodes, dispatcher, np.array(estimate), drops=drops)
    assert places(nodes, found) == PlainNodes(nodes, dispatcher, estimate, drops).go()
    check_capacity(nodes, found)


@pytest.mark.parametrize("name", NODE_DISPATCHERS)
def test_no_worker_is_over_capacity_and_everybody_runs(name: str) -> None:
    """A device would be given to two pieces, or a job forgotten."""
    nodes, estimate = toy(7, jobs=150, workers=9)
    found = replay_nodes(nodes, NODE_DISPATCHERS[name], np.array(estimate))
    assert check_capacity(nodes, found) == 150
    assert (found.replay.end_s - found.replay.start_s).tolist() == nodes.log.run_s.tolist()
    assert (found.replay.start_s >= nodes.log.submit_s).all()


@pytest.mark.parametrize("name", NODE_DISPATCHERS)
def test_the_future_changes_nothing_before_it(name: str) -> None:
    """A run time not yet seen, or what a job asks that has not come, would have moved a start."""
    nodes, estimate = toy(11, jobs=80, workers=5)
    first = replay_nodes(nodes, NODE_DISPATCHERS[name], np.array(estimate)).replay
    moment = int(np.median(nodes.log.submit_s))
    known = nodes.log.submit_s <= moment
    run = np.where(first.end_s > moment, nodes.log.run_s * 3 + 1, nodes.log.run_s)
    run[first.start_s > moment] = 5
    longer = np.where((first.end_s > moment) & (first.start_s <= moment), run, nodes.log.run_s)
    kind = np.where(known, nodes.kind, (nodes.kind + 1) % len(nodes.kinds))
    other = replace(nodes, log=replace(nodes.log, run_s=np.where(known, longer, 9)), kind=kind)
    second = replay_nodes(other, NODE_DISPATCHERS[name], np.array(estimate)).replay
    before = first.start_s <= moment
    assert 10 < before.sum() < 80
    assert second.start_s[before].tolist() == first.start_s[before].tolist()
    assert (second.start_s[~before] > moment).all()


def test_easy_keeps_the_head_and_kube_does_not() -> None:
    """A wide job would starve behind small ones, which EASY exists to prevent."""
    workers = (Worker("w", {"cpu": 4000}),)
    kinds = (Task("job", {"cpu": 2000}), Task("job", {"cpu": 4000}))
    kind = np.array([0, 1, 0, 0, 0])
    log = ReplayLog(
        "toy", 4, np.arange(5), np.array([10, 10, 30, 30, 30]), np.ones(5, np.int64),
        np.full(5, 100), np.zeros(5, np.int64),
    )  # fmt: skip
    nodes = NodeLog(log, workers, kinds, kind, cluster_of(workers, kinds))
    easy = replay_nodes(nodes, NODE_DISPATCHERS["easy"], log.run_s).replay.start_s
    kube = replay_nodes(nodes, NODE_DISPATCHERS["kube-least"], log.run_s).replay.start_s
    assert easy.tolist()[:2] == [0, 10]
    assert kube.tolist()[1] > 10


def test_a_worker_with_half_a_gpu_and_a_job_without_a_place_are_refused() -> None:
    """A device would be lost in silence, or a job wait without end."""
    with pytest.raises(BadRequest, match=r"worker w has 1\.5 GPUs; a replay needs whole ones"):
        cluster_of([Worker("w", {"gpu": 1500})], [])
    nodes, estimate = toy(1)
    wide = (*nodes.kinds, Task("job", {"cpu": 10**6}))
    kind = np.where(np.arange(14) == 3, len(nodes.kinds), nodes.kind)
    other = replace(nodes, kinds=wide, kind=kind, cluster=cluster_of(nodes.workers, wide))
    with pytest.raises(BadRequest, match=r"toy: job 3 fits no worker; leave it out"):
        replay_nodes(other, NODE_DISPATCHERS["easy"], np.array(estimate))


def test_pressure_is_what_others_cannot_do_without() -> None:
    """Who may go anywhere would take the devices of those who may not."""
    workers = [
        Worker("rare", {"gpu": 2000}, labels=frozenset({"rare"})), Worker("w", {"gpu": 2000}),
    ]  # fmt: skip
    kinds = [Task("job", {"gpu": 1000}), Task("job", {"gpu": 1000}, requires=("rare",))]
    price = pressure(cluster_of(workers, kinds), np.array([1, 1]))
    # Half of all goes to the rare worker alone, the other half to both: loads 1.5 and 0.5.
    assert price.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_random_places_differ_by_seed_alone() -> None:
    """A peer's mean over seeds would be of one and the same placement."""
    nodes, estimate = toy(3, jobs=40)
    dispatcher = NodeDispatcher(machine.RANDOM)
    one, same, other = (
        replay_nodes(nodes, dispatcher, np.array(estimate), seed=seed).worker.tolist()
        for seed in (1, 1, 2)
    )
    assert one == same != other

"""Every registered engine keeps the contract of ``pipelines.engines.base``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.engines import ENGINES, Beginning, EngineKind
from plancast.pipelines.engines.base import Ended, Engine, Order, Started
from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    DurationEstimate,
    Outcome,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import PlanRequest

ELSEWHERE = {"slurm": "a real Slurm is brought up by tests/pipelines/engines/test_slurm_real.py"}
"""Engines that cannot be had on any machine: where their promises are tested instead."""
PATIENCE_S = 60.0
MEMBERS = [name for name in vars(Engine) if not name.startswith("_")]


def two_tasks() -> PlanRequest:
    """Two workers, and two tasks: one that ends soon and one that has to be stopped."""
    tasks = tuple(Task(name, {"cpu": 1000}) for name in ("short", "long"))
    machines = tuple(Worker(name, {"cpu": 2000, "mem": 1024}) for name in ("w1", "w2"))
    seconds = {"short": 1, "long": 500}
    estimates = {name: {ANY_CLASS: DurationEstimate((0.5,), (s,))} for name, s in seconds.items()}
    return PlanRequest("contract", Snapshot(0, int(time.time()), machines, tasks), estimates)


def order(engine: Engine, task: str, attempt: int = 1) -> Order:
    """A task on the engine's first worker, as a program that takes so long."""
    sleep = {"short": "0.1", "long": "500"}[task]
    program = (sys.executable, "-c", f"import time; time.sleep({sleep})")
    return Order((task, attempt), (engine.workers()[0].id,), {"cpu": 1000}, argv=program)


def next_event(engine: Engine, key: tuple[str, int], kind: type) -> Any:
    """The first message of a kind about an order; other messages are passed over."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        for message in engine.events(min(engine.step_s, 1.0) if engine.name != "sim" else 60.0):
            if isinstance(message, kind) and message.key == key:
                return message
    raise AssertionError(f"{engine.name}: no {kind.__name__} of {key}")


@pytest.fixture(
    params=[
        pytest.param(
            name,
            marks=[
                *([pytest.mark.slow] if kind.real else []),
                *([pytest.mark.skip(ELSEWHERE[name])] if name in ELSEWHERE else []),
            ],
        )
        for name, kind in ENGINES.items()
    ]
)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Each engine of the registry, brought up as the command line does."""
    name = request.param
    kind = ENGINES[name]
    kind.require(name)
    at = Beginning(two_tasks(), (), "contract", 0, tmp_path, None, 5.0, print)
    found, _, _ = kind.begin(at)
    yield found
    found.stop()


def test_it_has_the_face_and_the_name_of_its_entry(engine: Engine) -> None:
    """The master would call what is not there, or the account name another engine."""
    assert [name for name in MEMBERS if not hasattr(engine, name)] == []
    assert engine.name in ENGINES
    assert {worker.id for worker in engine.workers()} == {"w1", "w2"}
    assert engine.closed() <= {"w1", "w2"}
    assert engine.step_s > 0


def test_what_it_never_heard_of_is_unknown(engine: Engine) -> None:
    """The master would take an order that was lost for one that runs."""
    assert engine.status([("short", 7)])[("short", 7)].state == "unknown"


def test_an_order_runs_once_however_often_it_is_sent(engine: Engine) -> None:
    """An order whose acknowledgement was lost would run twice."""
    sent = order(engine, "short")
    engine.start(sent)
    engine.start(sent)
    began = next_event(engine, sent.key, Started)
    ended = next_event(engine, sent.key, Ended)
    engine.start(sent)
    stands = engine.status([sent.key])[sent.key]
    assert ended.outcome is Outcome.COMPLETED
    assert (stands.state, stands.outcome) == ("ended", Outcome.COMPLETED)
    assert began.at_s <= ended.at_s
    assert (stands.start_s, stands.end_s) == (ended.start_s, ended.at_s)


def test_a_cancelled_run_ends_and_says_so(engine: Engine) -> None:
    """A plan that stops a task would wait for its worker without end."""
    sent = order(engine, "long")
    engine.start(sent)
    next_event(engine, sent.key, Started)
    assert engine.status([sent.key])[sent.key].state == "running"
    engine.cancel(sent.key)
    assert next_event(engine, sent.key, Ended).outcome is Outcome.CANCELLED
    assert engine.status([sent.key])[sent.key].state == "ended"


def test_every_engine_is_tested_here_or_says_where() -> None:
    """An engine would be registered whose promises nobody has looked at."""
    assert set(ELSEWHERE) <= set(ENGINES)
    for where in ELSEWHERE.values():
        assert (Path(__file__).parents[2] / where.split(" by ")[1]).exists()


@pytest.mark.parametrize(("name", "kind"), ENGINES.items())
def test_off_linux_an_engine_runs_or_is_refused(
    name: str, kind: EngineKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch would end in a traceback when the first process is to be known again."""
    monkeypatch.setattr(sys, "platform", "darwin")
    if not kind.on_linux:
        kind.require(name)
        return
    with pytest.raises(BadRequest, match=f"--engine {name}: needs Linux"):
        kind.require(name)

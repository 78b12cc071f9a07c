"""A whole batch on an engine: from the request to the account of what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from plancast.pipelines.engines.base import PREEMPT, Engine
from plancast.pipelines.master.commands import Command, Invocation
from plancast.pipelines.master.joblog import append_log
from plancast.pipelines.master.loop import Ask, Master, Options
from plancast.pipelines.master.outcome import failures, outputs
from plancast.pipelines.master.state import State
from plancast.pipelines.master.view import facts
from plancast.planner.arrays.rates import without_moves
from plancast.planner.model.domain import Plan
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest
from plancast.planner.planning.controller import Controller, ControlPolicy

LOG_EVERY_S = 60.0
"""Seconds of the world between two writings of the log."""

Show = Callable[[Master], None]


def carry_out(
    request: PlanRequest,
    engine: Engine,
    state: State | Path,
    *,
    control: ControlPolicy,
    ask: Ask | None = None,
    command: Command | None = None,
    options: Options | None = None,
    output: Path | None = None,
    log: Path | None = None,
    show: Show | None = None,
    on_step: Callable[[Master], None] | None = None,
) -> dict[str, Any]:
    """Carry a batch out to its end.

    Parameters
    ----------
    request : PlanRequest
        Of a new batch. If `state` holds one already, that one is resumed.
    engine : Engine
    state : State or Path
        The master's state; closed at the end in either case.
    control, ask, command, options, output
        As in ``master_of``.
    log : Path, optional
        Canonical log that finished tasks are added to.
    show : callable, optional
        Called with the master after each step.
    on_step : callable, optional
        The same, for whoever has something to do in the meantime.

    Returns
    -------
    dict
        Of ``view.facts``, with planned and realised cost, failures, and output files.
    """
    if isinstance(state, Path):
        state = State(state)
    try:
        master = master_of(
            state, engine, request, control, ask=ask, command=command, options=options,
            output=output,
        )  # fmt: skip
        written, logged = time.monotonic(), 0
        while not master.done:
            master.step(engine.step_s)
            if show is not None:
                show(master)
            if on_step is not None:
                on_step(master)
            if log is not None and time.monotonic() - written > LOG_EVERY_S:
                logged += append_log(master, log)
                written = time.monotonic()
        found = {
            **facts(master), **account(master), "failures": failures(master),
            "outputs": outputs(master),
        }  # fmt: skip
        if log is not None:
            found["logged"] = logged + append_log(master, log)
        return found
    finally:
        state.close()


def account(master: Master) -> dict[str, Any]:
    """What the first plan promised, and what the batch cost as it really ran.

    Notes
    -----
    The realised batch is priced by the evaluator under the request that it began with, over
    the tasks that ran to an end; ``planned_cost`` is the first plan's, of the same evaluator.
    """
    first = master.state.first_request()
    snapshot = first.snapshot
    ran = master.realised()
    rows = tuple(ran[t.id] for t in snapshot.pending if t.id in ran)
    realised = Plan(rows, (), snapshot.now_s, snapshot.version)
    priced = replace(first, policy=without_moves(first.policy))
    missing = [t.id for t in snapshot.pending if t.id not in ran]
    found = evaluate(priced, realised, unplanned=missing, realised=True)
    plans = master.state.plans()
    return {
        "planned_cost": plans[0].cost if plans else None,
        "realised_cost": found.cost,
        "realised_terms": dict(found.terms),
    }


def master_of(
    state: State,
    engine: Engine,
    request: PlanRequest,
    control: ControlPolicy,
    *,
    ask: Ask | None = None,
    command: Command | None = None,
    options: Options | None = None,
    output: Path | None = None,
) -> Master:
    """A master for a batch: a new one, or the one whose file this is.

    Parameters
    ----------
    state : State
    engine : Engine
    request : PlanRequest
        Of a new batch; a file that has one continues it. Where the engine cannot preempt
        its tasks count as not preemptible: no plan must count on it.
    control : ControlPolicy
    ask, command, options, output
        As in ``Master``.
    """
    options = options or Options()
    mind = state.restored(control)
    if mind is None:
        if PREEMPT not in engine.capabilities or options.stops == 0:
            pending = tuple(replace(t, preemptible=False) for t in request.snapshot.pending)
            request = replace(request, snapshot=replace(request.snapshot, pending=pending))
        with state.together():
            state.begin(request)
        mind = Controller(request, control)
    runs = command or (lambda task: Invocation())
    master = Master(state, engine, mind, ask, runs, options, output)
    master.recover()
    return master

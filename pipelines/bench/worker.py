"""What one process of a benchmark does: answer instances with one solver, until asked to end."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Collection
from contextlib import nullcontext, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from plancast.pipelines.bench.peers import PEERS, Rules, in_modes
from plancast.pipelines.bench.peers.metered import cpu_seconds
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.modes import Choices, decode_choices, encode_choices
from plancast.planner.arrays.problem import Problem, decode
from plancast.planner.instances.base import Instance
from plancast.planner.model.domain import RELATIVE_TOLERANCE, BadRequest, Plan
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.plan import plan

TRIAL_S = 1.0
"""Limit of a run, not counted, that loads libraries and compiles kernels."""
TRIALS = 4
"""Most of them: a solver that compiles past its limit does not come to its last kernel."""

Row = dict[str, Any]
Found = tuple[str, Plan | None, float, Collection[str]]
"""Status, plan, lower bound, and the tasks that no plan can hold."""


def serve(
    pipe: Connection, solver: str, limit_s: float, threads: int, seed: int, cpu_normalised: bool
) -> None:
    """Answer each instance that comes through the pipe with a row, until the pipe is closed."""
    tried = False
    while True:
        try:
            instance: Instance = pipe.recv()
        except EOFError:
            return
        if not tried:
            _try_out(instance, solver, min(limit_s, TRIAL_S), threads, seed)
            tried = True
        pipe.send(answer(instance, solver, limit_s, threads, seed, cpu_normalised))


def _try_out(instance: Instance, solver: str, limit_s: float, threads: int, seed: int) -> None:
    """Answer without being counted, until nothing has to be compiled any more."""
    for _ in range(TRIALS):
        began = time.perf_counter()
        answer(instance, solver, limit_s, threads, seed, cpu_normalised=False)
        if time.perf_counter() - began < limit_s + TRIAL_S:
            return


def answer(
    instance: Instance, solver: str, limit_s: float, threads: int, seed: int, cpu_normalised: bool
) -> Row:
    """One row of a benchmark.

    Parameters
    ----------
    instance : Instance
    solver : str
        ``auto``, a name of ``SOLVERS`` or of ``PEERS``.
    limit_s : float
    threads, seed : int
    cpu_normalised : bool
        See ``peers.metered``.

    Returns
    -------
    dict
        The plan's objective is the evaluator's price; ``trace`` has [seconds, cost, bound] of
        each better plan that the solver reported; ``gap`` is to the best known cost.
    """
    trace: list[tuple[float, float, float | None]] = []
    best_bound = -math.inf
    _reset_peak()
    with cpu_seconds() if cpu_normalised else nullcontext():
        began = time.perf_counter()

        def observe(cost: float, bound: float) -> None:
            nonlocal best_bound
            best = trace[-1][1] if trace else math.inf
            if cost < best or bound > best_bound:
                best_bound = max(bound, best_bound)
                at_s = time.perf_counter() - began
                trace.append((at_s, min(cost, best), _finite(best_bound)))

        try:
            if solver in PEERS:
                found = _of_peer(instance.request, solver, Rules(limit_s, threads, seed, observe))
            else:
                found = _of_ours(instance.request, solver, limit_s, seed, observe)
        except BadRequest as error:
            found = ("not_suited", None, -math.inf, ())
            reason: str | None = str(error)
        else:
            reason = None
        wall_s = time.perf_counter() - began
    return {
        **_judged(instance, solver, found),
        "trace": trace,
        "first_s": trace[0][0] if trace else None,
        "wall_s": wall_s,
        "peak_mb": _peak_mb(),
        **({} if reason is None else {"reason": reason}),
        **({} if instance.reference_10s is None else {"reference_10s": instance.reference_10s}),
    }


def _of_ours(request: PlanRequest, solver: str, limit_s: float, seed: int, observe: Any) -> Found:
    asked = replace(request, budget=Budget(limit_s), seed=seed)
    response = plan(asked, solver, observe=observe)
    bound = response.lower_bound
    bound = -math.inf if bound is None else bound
    return response.status.value, response.plan, bound, response.unplanned


def _of_peer(request: PlanRequest, solver: str, rules: Rules) -> Found:
    problem: Problem | Choices
    if request.snapshot.has_modes:
        problem = encode_choices(request)
        found = in_modes(problem, solver, rules)
        made = None if found.schedule is None else decode_choices(problem, found.schedule)
    else:
        problem = encode(request)
        found = PEERS[solver](problem, rules)
        made = None if found.schedule is None else decode(problem, found.schedule)
    status = "feasible" if made else "no_plan_in_time"
    return status, made, found.lower_bound, problem.unplanned


def _judged(instance: Instance, solver: str, found: Found) -> Row:
    """The evaluator's word, whatever the solver says of itself."""
    status, made, bound, unplanned = found
    row: Row = {
        "instance": instance.name, "solver": solver, "objective": None,
        "lower_bound": _finite(bound), "best_known": instance.best_known, "gap": None,
        "status": status, "proved": False, "valid": None, "terms": {},
    }  # fmt: skip
    if made is None:
        return row
    verdict = evaluate(instance.request, made, unplanned=unplanned)
    row["valid"], row["terms"] = verdict.valid, dict(verdict.terms)
    if verdict.valid:
        cost = row["objective"] = verdict.cost
        row["proved"] = bool(bound >= cost - RELATIVE_TOLERANCE * abs(cost))
        if row["proved"]:
            row["status"] = "optimal"
        if instance.best_known:
            row["gap"] = (cost - instance.best_known) / abs(instance.best_known)
    return row


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _reset_peak() -> None:
    """Let the peak of this process's memory count from now (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float | None:
    """Peak resident memory since the reset, MB; libraries and the instance are in it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) / 1000 if found else None

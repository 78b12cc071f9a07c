"""What forecast errors do to a batch: plan on forecasts, execute with the truth, several ways."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from plancast.pipelines.inputs.files import read_bytes
from plancast.planner.instances.cluster import read_cluster
from plancast.planner.model.domain import BadRequest, DurationEstimate, Plan, estimate_for
from plancast.planner.model.evaluate import evaluate, unplanned_weight
from plancast.planner.model.messages import Budget, PlanRequest, from_json
from plancast.planner.planning.plan import plan
from plancast.planner.worlds.executors import EXECUTORS

SIGMAS = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Spreads of the log error at which a sweep is made by default."""

Truth = dict[str, dict[str, int]]
"""Task to machine class to true run time, seconds."""


@dataclass(frozen=True)
class Sweep:
    """What is swept.

    Parameters
    ----------
    sigmas : tuple of float
    executors : tuple of str
        Names of ``execution.EXECUTORS``.
    seeds : int
        Draws of the errors at each sigma above 0.
    solver : str
    budget : Budget
        Of each plan.
    """

    sigmas: tuple[float, ...] = SIGMAS
    executors: tuple[str, ...] = tuple(EXECUTORS)
    seeds: int = 2
    solver: str = "auto"
    budget: Budget = field(default_factory=lambda: Budget(seconds=None, steps=20_000))

    def __post_init__(self) -> None:
        for sigma in self.sigmas:
            if not (math.isfinite(sigma) and sigma >= 0):
                raise BadRequest(f"--sigma {sigma}: must be a finite number, 0 or more")
        for name in self.executors:
            if name not in EXECUTORS:
                raise BadRequest(
                    f"--policy {name!r}: there is no such executor; choose of "
                    f"{', '.join(EXECUTORS)}"
                )
        if not self.sigmas or not self.executors or self.seeds < 1:
            raise BadRequest("a sweep needs a sigma, an executor and a seed at least")


def read_batch(path: Path) -> PlanRequest:
    """A batch from a cluster file, or from a request (JSON)."""
    content = read_bytes(path)
    # Known by what is in it: both may be packed, and have any name.
    if b'"snapshot"' not in content and b'"best_known"' in content:
        return read_cluster(path).request
    return from_json(PlanRequest, content, source=str(path))


def truth_of(request: PlanRequest) -> Truth:
    """The medians of a request's estimates, taken for the truth. Running tasks end as estimated."""
    request.snapshot.refuse_modes("backtest batches")
    request.snapshot.refuse_counted("backtest batches")
    if bounds := request.policy.hard_bounds:
        raise BadRequest(
            f"request {request.request_id}: policy has {bounds[0]}, which no execution can promise "
            "where run times are not as forecast; leave it out, prices say what lateness costs"
        )
    classes = sorted({w.machine_class for w in request.snapshot.workers})
    truth: Truth = {}
    for task in request.snapshot.pending:
        truth[task.id] = {
            name: estimate.at(0.5)
            for name in classes
            if (estimate := estimate_for(request.estimates, task.id, name)) is not None
        }
    return truth


def with_errors(request: PlanRequest, truth: Truth, sigma: float, seed: int) -> PlanRequest:
    """The request as a forecaster with errors of size sigma would hand it over.

    Notes
    -----
    ``forecast = truth x exp(sigma z - sigma^2 / 2)`` with z standard normal, one for each
    task: right on average, and the same error on every machine class.
    """
    rng = np.random.default_rng([seed, 17])
    estimates = dict(request.estimates)
    z = rng.standard_normal(len(request.snapshot.pending))
    for task, error in zip(request.snapshot.pending, np.exp(sigma * z - sigma**2 / 2), strict=True):
        estimates[task.id] = {
            name: DurationEstimate.certain(max(1, round(seconds * float(error))))
            for name, seconds in truth[task.id].items()
        }
    return replace(request, estimates=estimates, incumbent=None)


def sweep(
    request: PlanRequest, asked: Sweep, tell: Callable[[int, int, str], None] | None = None
) -> dict[str, Any]:
    """Execute a batch at every size of error, every way.

    Parameters
    ----------
    request : PlanRequest
        Its medians are the truth.
    asked : Sweep
    tell : callable, optional
        Called with (done, all, text) before each execution.

    Returns
    -------
    dict
        ``base_cost``: of the static plan made with perfect forecasts; ``rows``: sigma, policy,
        seed, cost, relative (to the base), terms, spread believed, seconds. Costs are those of
        the evaluator, under the truth.
    """
    truth = truth_of(request)
    cells = [(s, seed) for s in asked.sigmas for seed in range(asked.seeds if s > 0 else 1)]
    perfect = _planned(with_errors(request, truth, 0.0, 0), asked)
    base, _ = _judged(request, EXECUTORS["static"](*perfect, truth, ()).plan)
    rows = []
    for done, (sigma, seed) in enumerate(cells):
        made = perfect
        if sigma > 0:
            if tell is not None:
                tell(done, len(cells), f"sigma {sigma:g}: planning")
            made = _planned(with_errors(request, truth, sigma, seed), asked)
        for name in asked.executors:
            if tell is not None:
                tell(done, len(cells), f"sigma {sigma:g}: {name}")
            began = time.perf_counter()
            ran = EXECUTORS[name](made[0], made[1], truth, ())
            took_s = time.perf_counter() - began
            cost, terms = _judged(request, ran.plan)
            rows.append(
                {
                    "sigma": sigma, "policy": name, "seed": seed, "cost": cost,
                    "relative": cost / base if base > 0 else 1.0, "terms": terms,
                    "thought": ran.thought, "followed": dict(ran.followed or {}),
                    "spread": ran.spread, "wall_s": took_s,
                }
            )  # fmt: skip
    return {"request_id": request.request_id, "base_cost": base, "solver": asked.solver,
            "rows": rows}  # fmt: skip


def means(found: dict[str, Any]) -> dict[str, dict[float, float]]:
    """Mean relative cost of each policy at each sigma."""
    grouped: dict[str, dict[float, list[float]]] = {}
    for row in found["rows"]:
        cell = grouped.setdefault(row["policy"], {}).setdefault(row["sigma"], [])
        cell.append(row["relative"])
    return {
        name: {sigma: float(np.mean(v)) for sigma, v in by_sigma.items()}
        for name, by_sigma in grouped.items()
    }


def _planned(request: PlanRequest, asked: Sweep) -> tuple[PlanRequest, Plan]:
    request = replace(request, budget=asked.budget)
    response = plan(request, asked.solver)
    if response.plan is None:
        raise BadRequest(
            f"request {request.request_id}: no plan was found ({response.status.value}); "
            "raise --steps or repair the request"
        )
    return request, response.plan


def _judged(request: PlanRequest, ran: Plan) -> tuple[float, dict[str, float]]:
    """Cost and terms of what ran, by the evaluator."""
    left_out = [t.id for t in request.snapshot.pending if t.id not in ran.by_task]
    found = evaluate(request, ran, unplanned=left_out, realised=True)
    if not found.valid:
        raise AssertionError(f"an execution broke a rule: {found.violations[0].text}")
    if unplanned_weight(request, ran) > 0:
        return float("inf"), dict(found.terms)
    return found.cost, dict(found.terms)


def policies(names: Sequence[str]) -> tuple[str, ...]:
    """Executor names without blanks or repetitions."""
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))

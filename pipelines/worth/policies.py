"""Ways to plan and execute a backlog, by name: an executor and whose estimates it believes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.pipelines.bridge import certain_estimates, estimates_of, machines_of_log, task_of_job
from plancast.pipelines.inputs.past_plans import AUTO_WAYS, RESERVED
from plancast.pipelines.worth.batches import Backlog, Stretch
from plancast.planner.model.domain import (
    SCENARIOS,
    Assignment,
    BadRequest,
    Estimates,
    Plan,
    Policy,
    Running,
    Snapshot,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.plan import plan
from plancast.planner.worlds.executors import ClosedLoop
from plancast.planner.worlds.pool_loop import Search

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EVALUATIONS = 5_000
"""Orders tried for a plan."""
STRONG_EVALUATIONS = 50_000
"""The same of the strong oracle."""
RULES = ("requested", "last_two", "last_same", "app_median")
"""Estimates without a model."""
DUE_SHARE = 0.5
DUE_H = (1.0, 2.0, 4.0)
TIERS = (1.5, 3.0, 6.0)
EARLY = 4.0
"""A job ends early where its median forecast is more than so many times its run time."""


@dataclass(frozen=True)
class Way:
    """An estimate and how it is planned and executed.

    Parameters
    ----------
    source : str
        Key of a batch's estimates.
    level : float
        The quantile that is reserved.
    scenarios : tuple of float
        Levels over which an order is priced; none: the reserved one.
    closed : bool
        Whether the order is searched anew as room comes free.
    evaluations : int
        Orders tried for the first plan.
    """

    source: str
    level: float = RESERVED
    scenarios: tuple[float, ...] = ()
    closed: bool = False
    evaluations: int = EVALUATIONS


def ways(rules: Sequence[str]) -> dict[str, Way]:
    """Every way to be compared, by name, where these rules are known."""
    found = {f"open_{rule}": Way(rule) for rule in rules}
    found |= {
        "open_p50": Way("model", 0.5),
        "open_p80": Way("model"),
        "open_scenarios": Way("model", scenarios=SCENARIOS),
    }
    found |= {
        name: Way(source, scenarios=scenarios, closed=True)
        for name, (source, scenarios) in AUTO_WAYS.items()
        if source in (*rules, "model")
    }
    found |= {
        # What the leaks are differences of.
        "closed_scenarios_known_early_ends": Way("known_ends", scenarios=SCENARIOS, closed=True),
        "oracle": Way("oracle"),
        "strong_oracle": Way("oracle", evaluations=STRONG_EVALUATIONS),
    }
    return found


@dataclass(frozen=True)
class Batch:
    """A backlog as requests, with the truth.

    Parameters
    ----------
    backlog : Backlog
    request : PlanRequest
        Without estimates.
    estimates : dict of str to Estimates
    run_s : dict of str to int
        The truth, of running jobs too.
    quantiles_s : float64 (jobs, levels)
        The model's, of the queued and then of the running jobs.
    """

    backlog: Backlog
    request: PlanRequest
    estimates: Mapping[str, Estimates]
    run_s: Mapping[str, int]
    quantiles_s: Floats

    @property
    def ids(self) -> list[str]:
        """Tasks in the order of ``Backlog.rows``."""
        snapshot = self.request.snapshot
        return [t.id for t in snapshot.pending] + [r.task.id for r in snapshot.running]


def deadlines(number: int, medians_s: Floats, now_s: int) -> list[int | None]:
    """Deadlines by a seeded rule that favours no estimator.

    Notes
    -----
    By turns: none; half of the jobs in 1, 2 or 4 hours; half of them in a tier times the
    application's median in the training stretch.
    """
    rng = np.random.default_rng([number, 22])
    due = rng.random(len(medians_s)) < DUE_SHARE
    hours, tier = rng.choice(DUE_H, len(medians_s)), rng.choice(TIERS, len(medians_s))
    if number % 3 == 0:
        return [None] * len(medians_s)
    ahead = hours * 3600.0 if number % 3 == 1 else tier * medians_s
    at = now_s + np.maximum(1, np.ceil(ahead)).astype(np.int64)
    return [int(a) if d else None for a, d in zip(at, due, strict=True)]


def app_medians(train: pd.DataFrame, jobs: pd.DataFrame) -> Floats:
    """Median run time in training of each job's application, else user, else queue, else of all."""
    ran = train[train["run_s"] > 0]
    result = pd.Series(np.nan, index=jobs.index)
    for column in ("app", "user", "queue"):
        named = ran[ran[column] != ""]
        result = result.fillna(jobs[column].map(named.groupby(column)["run_s"].median()))
    everyone = float(ran["run_s"].median()) if len(ran) else 60.0
    medians: Floats = result.fillna(everyone).to_numpy(np.float64)
    return medians


def batch_of(
    stretch: Stretch,
    backlog: Backlog,
    medians_s: Floats,
    points: Mapping[str, Floats],
    quantiles_s: Floats,
    levels: Sequence[float],
    policy: Policy,
) -> Batch:
    """A backlog as requests.

    Parameters
    ----------
    stretch : Stretch
    backlog : Backlog
    medians_s : float64 (jobs of the stretch,)
        Of ``app_medians``.
    points : dict of str to float64 (jobs of the stretch,)
        Point estimates of the rules.
    quantiles_s : float64 (jobs of the stretch, levels)
    levels : sequence of float
    policy : Policy
    """
    rows, now = backlog.rows, backlog.now_s
    jobs = stretch.jobs.iloc[rows]
    jobs = jobs.assign(job_id=[f"j{row}" for row in rows.tolist()])
    machines = machines_of_log(stretch.procs, 1, stretch.resource)
    due = deadlines(backlog.number, medians_s[backlog.queued], now)
    due += [None] * len(backlog.running)
    tasks = [
        replace(
            task_of_job(job, machines, stretch.resource, release_s=now, deadline_s=at),
            demand={stretch.resource: int(width) * 1000},
            requested_s=int(limit) if limit > 0 else None,
        )
        for job, at, width, limit in zip(
            jobs.itertuples(), due, stretch.width[rows], stretch.requested_s[rows], strict=True
        )
    ]
    waiting, at_work = tasks[: len(backlog.queued)], tasks[len(backlog.queued) :]
    running = tuple(
        Running(replace(task, release_s=int(start)), ("pool",), int(start))
        for task, start in zip(at_work, backlog.start_s, strict=True)
    )
    ids = [task.id for task in tasks]
    truth = stretch.run_s[rows]
    estimates: dict[str, Estimates] = {
        name: certain_estimates(ids, value[rows], name) for name, value in points.items()
    }
    estimates["oracle"] = certain_estimates(ids, truth.astype(np.float64), "oracle")
    found = _capped(quantiles_s[rows], stretch.requested_s[rows])
    estimates["model"] = estimates_of(ids, found, levels, "model")
    early = found[:, int(np.argmin(np.abs(np.asarray(levels) - 0.5)))] > EARLY * truth
    estimates["known_ends"] = {
        task: estimates["oracle" if is_early else "model"][task]
        for task, is_early in zip(ids, early, strict=True)
    }
    request = PlanRequest(
        request_id=f"backlog-{backlog.number}",
        snapshot=Snapshot(backlog.number, now, machines, tuple(waiting), running),
        estimates=estimates["oracle"],
        policy=policy,
        budget=Budget(None, EVALUATIONS),
        seed=backlog.number,
    )
    run_s = dict(zip(ids, truth.tolist(), strict=True))
    return Batch(backlog, request, estimates, run_s, found)


def _capped(quantiles_s: Floats, requested_s: Ints) -> Floats:
    """Quantiles no longer than the request, where it is known."""
    limit = np.where(requested_s > 0, requested_s, np.inf)
    return np.minimum(quantiles_s, limit[:, None])


def carried_out(
    batch: Batch, way: Way, run_s: Mapping[str, int] | None = None, base: Any = None
) -> float:
    """What a batch costs when it is planned and executed in one way.

    Parameters
    ----------
    batch : Batch
    way : Way
    run_s : mapping of str to int, optional
        Another truth than the batch's.
    base : Plan, optional
        The plan to start from, where it has been made already.

    Raises
    ------
    BadRequest
        Where there is no plan of every task, or what ran is not valid.
    """
    request, made = planned(batch, way) if base is None else base
    moves = Search().moves if way.closed else 0
    loop = ClosedLoop(scenarios=way.scenarios, search=Search(moves=moves), seed=request.seed)
    ran = loop(request, made, run_s or batch.run_s).plan
    found = evaluate(request, ran, realised=True)
    if not found.valid:
        raise BadRequest(f"{request.request_id}: {found.violations[0].text}")
    return found.cost


def unavoidable(batch: Batch) -> float:
    """What a batch costs where every job starts at once, as if there were room for all of them.

    Notes
    -----
    No order can save this part: deadlines that a job cannot keep by itself, and the longest job.
    """
    snapshot, now = batch.request.snapshot, batch.request.snapshot.now_s
    begun = [(t.id, max(now, t.release_s)) for t in snapshot.pending]
    begun += [(r.task.id, r.start_s) for r in snapshot.running]
    rows = [Assignment(task, ("pool",), at, at + batch.run_s[task]) for task, at in begun]
    # It overfills the pool, of course: only its price is looked at.
    return evaluate(batch.request, Plan(tuple(rows), made_at_s=now), realised=True).cost


def planned(batch: Batch, way: Way) -> tuple[PlanRequest, Any]:
    """The request and the first plan of one way."""
    policy = replace(batch.request.policy, level=way.level, scenarios=way.scenarios)
    request = replace(
        batch.request, estimates=batch.estimates[way.source], policy=policy,
        budget=Budget(None, way.evaluations),
    )  # fmt: skip
    made = plan(request, "lns")
    if made.plan is None or made.unplanned:
        raise BadRequest(f"{request.request_id}: no plan of every job: {made.status.value}")
    return request, made.plan

"""Stage 4: whether a better forecast makes a better plan.

Batches are cut from the test stretch of a log; each is planned with each kind of
estimate, executed work-conserving in plan order with the true run times, and priced by
the planner's evaluator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from plancast.pipelines.bridge import certain_estimates, estimates_of, machines_of_log, task_of_job
from plancast.pipelines.inputs.config import Config, TrialConfig
from plancast.pipelines.inputs.policy_files import read_policy
from plancast.pipelines.stages.stage import main, write_facts
from plancast.pipelines.stages.train import split_of
from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    Plan,
    Policy,
    Snapshot,
    estimate_for,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse
from plancast.planner.planning.plan import plan
from plancast.planner.worlds.simulate import execute
from plancast.predictor import ESTIMATORS, RuntimePredictor
from plancast.predictor.logs.table import read_jobs
from plancast.predictor.metrics import mae_s, median_abs_log2
from plancast.predictor.schema import machine_size
from plancast.wording import counted

Floats = NDArray[np.float64]
RULES = ("requested", "last_two")
ORACLE = "oracle"
RESAMPLES = 2000


@dataclass(frozen=True)
class Batch:
    """Jobs that are planned together, as if all waited at one moment.

    Parameters
    ----------
    name : str
    requests : dict of str to PlanRequest
        Kind of estimate to the request with it; all else is alike.
    run_s : dict of str to int
        The truth.
    errors : dict of str to dict
        Forecast errors on this batch by kind.
    """

    name: str
    requests: dict[str, PlanRequest]
    run_s: dict[str, int]
    errors: dict[str, dict[str, float]]


def kinds_of(level: float) -> dict[str, tuple[str, float]]:
    """The kinds of estimate that a trial compares: name to source and reserved quantile."""
    kinds = {name: (name, 0.5) for name in RULES}
    kinds["model_p50"] = ("model", 0.5)
    kinds[f"model_p{100 * level:g}"] = ("model", level)
    kinds[ORACLE] = (ORACLE, 0.5)
    return kinds


def cut_rows(test: Any, batches: int, size: int, widest: float) -> list[NDArray[np.int64]]:
    """Row numbers of `batches` stretches of `size` consecutive jobs, evenly over the test.

    Parameters
    ----------
    test : DataFrame
        Canonical.
    batches, size : int
    widest : float
        Jobs wider than the machine, or without a run time, cannot be replayed and are
        passed over.

    Raises
    ------
    BadRequest
        Where the test stretch has too few jobs.
    """
    width = test["cpus"].fillna(test["gpus"]).fillna(1.0)
    fit = np.flatnonzero(((test["run_s"] > 0) & (width <= widest)).to_numpy())
    if len(fit) < batches * size:
        most = f"batches to {len(fit) // size}"
        if len(fit) < size:
            most = f"batch_size to {max(len(fit) // batches, 1)}"
        raise BadRequest(
            f"the test stretch has {counted(len(fit), 'job')} that can be replayed, "
            f"{batches} batches of {size} need {batches * size}; lower trial.{most} in params.yaml "
            "(`plancast trial`: --batches, --batch-size), or give a longer log"
        )
    starts = np.linspace(0, len(fit) - size, batches).astype(np.int64)
    return [fit[start : start + size] for start in starts]


def deadlines(
    requested_s: Floats, queue_median_s: Floats, now_s: int, trial: TrialConfig, seed: int
) -> list[int | None]:
    """Deadlines by a seeded rule that reveals no run time.

    Notes
    -----
    ``now + tier x (request, else the queue's median so far)`` for a share of the tasks, the
    tier drawn evenly from `trial.tiers`.
    """
    rng = np.random.default_rng(seed)
    due = rng.random(len(requested_s)) < trial.due_share
    tier = rng.choice(trial.tiers, len(requested_s))
    basis = np.where(requested_s > 0, requested_s, queue_median_s)
    at = now_s + np.maximum(1, np.ceil(tier * basis))
    return [int(a) if d else None for a, d in zip(at, due, strict=True)]


def cut_batches(config: Config, jobs: Any, model: RuntimePredictor) -> list[Batch]:
    """The batches of a trial, with every kind of estimate for each.

    Parameters
    ----------
    config : Config
    jobs : DataFrame
        Canonical.
    model : RuntimePredictor
        Trained on the part of `jobs` before the test stretch.

    Notes
    -----
    A batch is handed over when its last job has been submitted. Its forecasts use what had
    ended before its *first* submission: an end inside the batch belongs to a job that,
    in the trial, has not started yet.
    """
    trial = config.trial
    train, test = split_of(config, jobs)
    size = machine_size(jobs)
    resource = "gpu" if jobs["cpus"].isna().all() and jobs["gpus"].notna().any() else "cpu"
    count = trial.workers or (8 if config.log is None else 1)
    machines = machines_of_log(size, count, resource)
    policy = read_policy(config.policy) if config.policy else Policy()
    rows = cut_rows(test, trial.batches, trial.batch_size, size)
    forecasts = _forecasts(train, test, rows, model)
    queue_median = _queue_medians(train, test)

    result = []
    for number, batch in enumerate(rows):
        picked = test.iloc[batch]
        picked = picked.assign(job_id=task_names(picked["job_id"].tolist()))
        now_s = int(np.ceil(picked["submit_s"].iloc[-1]))
        seed = config.seed * 1_000_003 + number
        due = deadlines(picked["requested_s"].to_numpy(), queue_median[batch], now_s, trial, seed)
        tasks = tuple(
            task_of_job(job, machines, resource, release_s=now_s, deadline_s=deadline)
            for job, deadline in zip(picked.itertuples(), due, strict=True)
        )
        ids = [task.id for task in tasks]
        truth = np.maximum(1, np.ceil(picked["run_s"].to_numpy()))
        base = PlanRequest(
            request_id=f"{config.name}-{number + 1}",
            snapshot=Snapshot(number, now_s, machines, tasks),
            estimates={},
            policy=policy,
            budget=Budget(None, trial.steps),
            seed=seed,
        )
        found = {name: certain_estimates(ids, forecasts[name][batch, 0], name) for name in RULES}
        found[ORACLE] = certain_estimates(ids, truth, ORACLE)
        found["model"] = estimates_of(ids, forecasts["model"][batch], model.levels, "model")
        requests = {
            kind: replace(base, estimates=found[source], policy=replace(policy, level=level))
            for kind, (source, level) in kinds_of(trial.level).items()
        }
        run_s = dict(zip(ids, truth.astype(int).tolist(), strict=True))
        errors = {kind: _errors(request, ids, truth) for kind, request in requests.items()}
        result.append(Batch(f"batch {number + 1}", requests, run_s, errors))
    return result


def task_names(job_ids: Sequence[str]) -> list[str]:
    """Names that tell the jobs of a batch apart: their ids where a log has them, once each."""
    seen: set[str] = set()
    names = []
    for place, job_id in enumerate(job_ids, 1):
        name = job_id
        while not name or name in seen:
            name = f"{name}#{place}"
        seen.add(name)
        names.append(name)
    return names


def _forecasts(
    train: Any, test: Any, rows: Sequence[NDArray[np.int64]], model: RuntimePredictor
) -> dict[str, Floats]:
    """Quantiles of every test job by the rules and the model, those of a batch as of its cut."""
    submit_s = test["submit_s"].to_numpy()
    as_of = submit_s.copy()
    for batch in rows:
        as_of[batch] = submit_s[batch[0]]
    estimators: dict[str, Any] = {name: ESTIMATORS[name]((0.5,)).fit(train) for name in RULES}
    estimators["model"] = model
    return {name: made.forecast_log(test, as_of_s=as_of) for name, made in estimators.items()}


def _queue_medians(train: Any, test: Any) -> Floats:
    """Median run time of each test job's queue before the test stretch, else of all jobs."""
    ran = train[train["run_s"] > 0]
    of_queue = test["queue"].map(ran.groupby("queue")["run_s"].median())
    result: Floats = of_queue.fillna(ran["run_s"].median()).to_numpy()
    return result


def _errors(request: PlanRequest, ids: Sequence[str], truth: Floats) -> dict[str, float]:
    known = [estimate_for(request.estimates, task, ANY_CLASS) for task in ids]
    said = [estimate.at(request.policy.level) for estimate in known if estimate is not None]
    return {"mae_s": mae_s(truth, said), "median_abs_log2": median_abs_log2(truth, said)}


def plan_whole(request: PlanRequest, solver: str, kind: str) -> tuple[PlanResponse, Plan]:
    """The response with a plan of every task of a batch, and the plan itself.

    Raises
    ------
    BadRequest
        Where there is none, with the reason.
    """
    response = plan(request, solver)
    if response.plan is None or response.unplanned:
        reasons = response.unplanned or response.why
        task, reason = next(iter(reasons.items()), ("", response.status.value))
        raise BadRequest(
            f"{request.request_id} with {kind}: no whole plan: {task and f'task {task}: '}{reason}"
        )
    return response, response.plan


def try_batch(batch: Batch, solver: str) -> dict[str, dict[str, Any]]:
    """Plan and execute one batch with each kind of estimate.

    Returns
    -------
    dict
        Kind to ``planned`` and ``realised`` cost, realised ``terms``, ``status``, ``solver``,
        and the forecast errors.

    Raises
    ------
    BadRequest
        Where a batch cannot be planned or what ran is not valid.
    """
    result: dict[str, dict[str, Any]] = {}
    for kind, request in batch.requests.items():
        response, whole = plan_whole(request, solver, kind)
        ran = execute(request, whole, batch.run_s)
        # What a plan promises, reality may break; late_h, misses and wait_h price that.
        lenient = replace(request.policy, hard_deadlines=False, max_wait_s=None, max_stretch=None)
        found = evaluate(replace(request, policy=lenient), ran, realised=True)
        if not found.valid:
            raise BadRequest(f"{request.request_id} with {kind}: {found.violations[0].text}")
        result[kind] = {
            "planned": response.cost,
            "realised": found.cost,
            "terms": dict(found.terms),
            "status": response.status.value,
            "solver": response.solver,
            **batch.errors[kind],
        }
    return result


def summarise(rows: Sequence[dict[str, dict[str, Any]]], seed: int) -> dict[str, Any]:
    """Means over the batches, and the regret against the oracle with its interval.

    Notes
    -----
    Regret is ``sum(cost) / sum(cost with oracle) - 1``; its 95% interval is a bootstrap over
    batches, paired: both sums use the same resampled batches; resamples in which the oracle
    (or who goes by the requested times) pays nothing have no ratio and are left out.

    Raises
    ------
    BadRequest
        Where one of these two pays nothing in all batches.
    """
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(rows), (RESAMPLES, len(rows)))
    oracle, asked = (np.array([row[k]["realised"] for row in rows]) for k in (ORACLE, RULES[0]))
    if not min(oracle.sum(), asked.sum()) > 0:
        raise BadRequest(
            f"plans with perfect run times, or with {RULES[0]} ones, cost nothing under this "
            "policy, so that no other can be compared with them; price what every plan must "
            "pay, such as makespan_h"
        )
    draws = draws[(oracle[draws].sum(axis=1) > 0) & (asked[draws].sum(axis=1) > 0)]
    result: dict[str, Any] = {}
    for kind in rows[0]:
        cost = np.array([row[kind]["realised"] for row in rows])
        regret, regret_ci = _excess(cost, oracle, draws)
        saved, saved_ci = _excess(cost, asked, draws)
        terms = {
            term: float(np.mean([row[kind]["terms"][term] for row in rows]))
            for term in rows[0][kind]["terms"]
        }
        result[kind] = {
            "planned_cost": float(np.mean([row[kind]["planned"] for row in rows])),
            "realised_cost": float(cost.mean()),
            "regret": regret,
            "regret_ci": regret_ci,
            "against_requested": saved,
            "against_requested_ci": saved_ci,
            "mae_s": float(np.mean([row[kind]["mae_s"] for row in rows])),
            "median_abs_log2": float(np.mean([row[kind]["median_abs_log2"] for row in rows])),
            "terms": terms,
        }
    return result


def _excess(cost: Floats, peer: Floats, draws: NDArray[np.int64]) -> tuple[float, list[float]]:
    """``sum(cost) / sum(peer) - 1`` and its paired 95% interval."""
    resampled = cost[draws].sum(axis=1) / peer[draws].sum(axis=1) - 1
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(cost.sum() / peer.sum() - 1), [float(low), float(high)]


def trial(
    config: Config,
    jobs: Any,
    model: RuntimePredictor,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Cut, plan, execute and price the batches of a log.

    Parameters
    ----------
    config : Config
    jobs : DataFrame
        Canonical.
    model : RuntimePredictor
        Trained on the part of `jobs` before the test stretch.
    progress : callable, optional
        Called with (batches done, all batches).
    """
    batches = cut_batches(config, jobs, model)
    work = (delayed(try_batch)(batch, config.trial.solver) for batch in batches)
    rows = []
    for row in Parallel(n_jobs=2, return_as="generator")(work):
        rows.append(row)
        if progress is not None:
            progress(len(rows), len(batches))
    return {
        "batches": len(batches),
        "batch_size": config.trial.batch_size,
        "workers": len(batches[0].requests[ORACLE].snapshot.workers),
        "level": config.trial.level,
        # Where nothing waits every plan is alike, and the trial tells nothing.
        "batches_that_wait": sum(row[ORACLE]["terms"]["wait_h"] > 0 for row in rows),
        "kinds": summarise(rows, config.seed),
        "rows": rows,
    }


def run(config: Config, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """The configured trial; the report's stage hands its figures to MLflow."""
    paths = config.paths
    jobs = read_jobs(paths.jobs)
    facts = trial(config, jobs, RuntimePredictor.load(paths.model), progress)
    write_facts(paths.trial_facts, facts)
    return facts


if __name__ == "__main__":
    main(run)

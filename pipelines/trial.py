"""Stage 4: whether a better forecast makes a better plan.

Batches are cut from the test stretch of a log; each is planned with each kind of
estimate, executed work-conserving in plan order with the true run times, and priced by
the planner's evaluator.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from pipelines.bridge import certain_estimates, estimates_of, machines_of_log, task_of_job
from pipelines.config import Config, TrialConfig, load_config
from pipelines.files import write_text_atomic
from pipelines.inputs import read_policy
from pipelines.train import split_of
from planner.domain import BadRequest, Estimates, Policy, Snapshot
from planner.evaluate import evaluate
from planner.messages import Budget, PlanRequest
from planner.plan import plan
from planner.simulate import execute
from predictor import ESTIMATORS, RuntimePredictor
from predictor.logs.table import read_jobs
from predictor.metrics import mae_s, median_abs_log2
from predictor.schema import machine_size

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


def kinds_of(level: float) -> tuple[str, ...]:
    """The kinds of estimate that a trial compares, the oracle last."""
    return (*RULES, "model_p50", f"model_p{100 * level:g}", ORACLE)


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
        raise BadRequest(
            f"the test stretch has {len(fit)} jobs that can be replayed, "
            f"{batches} batches of {size} need {batches * size}; lower trial.batches or batch_size"
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
    rows = cut_rows(test, trial.batches, trial.batch_size, size)

    submit_s = test["submit_s"].to_numpy()
    as_of = submit_s.copy()
    for batch in rows:
        as_of[batch] = submit_s[batch[0]]
    rules = {name: ESTIMATORS[name]((0.5,)).fit(train) for name in RULES}
    seconds = {name: rule.forecast_log(test, as_of_s=as_of)[:, 0] for name, rule in rules.items()}
    quantiles = model.forecast_log(test, as_of_s=as_of)
    by_queue = train[train["run_s"] > 0].groupby("queue")["run_s"].median()
    overall = float(train.loc[train["run_s"] > 0, "run_s"].median())
    queue_median = test["queue"].map(by_queue).fillna(overall).to_numpy()
    policy = read_policy(config.policy) if config.policy else Policy()
    result = []
    for number, batch in enumerate(rows):
        now_s = int(np.ceil(submit_s[batch[-1]]))
        seed = config.seed * 1_000_003 + number
        picked = test.iloc[batch]
        due = deadlines(picked["requested_s"].to_numpy(), queue_median[batch], now_s, trial, seed)
        tasks = tuple(
            task_of_job(job, machines, resource, release_s=now_s, deadline_s=deadline)
            for job, deadline in zip(picked.itertuples(), due, strict=True)
        )
        ids = [task.id for task in tasks]
        truth = np.maximum(1, np.ceil(picked["run_s"].to_numpy()))
        estimates: dict[str, tuple[Estimates, float]] = {
            name: (certain_estimates(ids, values[batch], name), 0.5)
            for name, values in seconds.items()
        }
        told = estimates_of(ids, quantiles[batch], model.levels, "model")
        estimates["model_p50"] = (told, 0.5)
        estimates[f"model_p{100 * trial.level:g}"] = (told, trial.level)
        estimates[ORACLE] = (certain_estimates(ids, truth, ORACLE), 0.5)
        base = PlanRequest(
            request_id=f"{config.name}-{number}",
            snapshot=Snapshot(number, now_s, machines, tasks),
            estimates={},
            policy=policy,
            budget=Budget(None, trial.steps),
            seed=seed,
        )
        requests = {
            kind: replace(base, estimates=told, policy=replace(policy, level=level))
            for kind, (told, level) in estimates.items()
        }
        result.append(
            Batch(
                f"batch {number + 1}",
                requests,
                dict(zip(ids, truth.astype(int).tolist(), strict=True)),
                {kind: _errors(request, ids, truth) for kind, request in requests.items()},
            )
        )
    return result


def _errors(request: PlanRequest, ids: Sequence[str], truth: Floats) -> dict[str, float]:
    said = [request.estimates[task]["*"].at(request.policy.level) for task in ids]
    return {"mae_s": mae_s(truth, said), "median_abs_log2": median_abs_log2(truth, said)}


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
        response = plan(request, solver)
        if response.plan is None or response.unplanned:
            reason = next(iter(response.unplanned.values()), response.status.value)
            raise BadRequest(f"{request.request_id} with {kind}: no whole plan: {reason}")
        ran = execute(request, response.plan, batch.run_s)
        found = evaluate(request, ran, realised=True)
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
    Regret is ``sum(cost) / sum(cost with oracle) - 1``; its 95 % interval is a bootstrap over
    batches, paired: both sums use the same resampled batches.
    """
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(rows), (RESAMPLES, len(rows)))
    oracle = np.array([row[ORACLE]["realised"] for row in rows])
    result: dict[str, Any] = {}
    for kind in rows[0]:
        cost = np.array([row[kind]["realised"] for row in rows])
        regrets = cost[draws].sum(axis=1) / oracle[draws].sum(axis=1) - 1
        terms = {
            term: float(np.mean([row[kind]["terms"][term] for row in rows]))
            for term in rows[0][kind]["terms"]
        }
        result[kind] = {
            "planned_cost": float(np.mean([row[kind]["planned"] for row in rows])),
            "realised_cost": float(cost.mean()),
            "regret": float(cost.sum() / oracle.sum() - 1),
            "regret_ci": [float(q) for q in np.quantile(regrets, (0.025, 0.975))],
            "mae_s": float(np.mean([row[kind]["mae_s"] for row in rows])),
            "median_abs_log2": float(np.mean([row[kind]["median_abs_log2"] for row in rows])),
            "terms": terms,
        }
    return result


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
        Told (batches done, all batches).
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
        "kinds": summarise(rows, config.seed),
        "rows": rows,
    }


def run(config: Config, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """The configured trial, its figures tied in MLflow to the model and the test data."""
    from pipelines import tracking
    from predictor.runtime import data_digest

    paths = config.paths
    jobs = read_jobs(paths.jobs)
    facts = trial(config, jobs, RuntimePredictor.load(paths.model), progress)
    write_text_atomic(paths.trial_facts, json.dumps(facts, indent=1))
    _, test = split_of(config, jobs)
    run_id = json.loads(Path(paths.ingest_facts).read_text())["mlflow_run"]
    model_id = json.loads(paths.train_facts.read_text())["model_id"]
    with tracking.continued(run_id):
        dataset = tracking.dataset_of(
            test, f"{config.name}-test", data_digest(test)[:12], str(paths.jobs)
        )
        for kind, found in facts["kinds"].items():
            values = {
                f"plan/{kind}/{key}": found[key]
                for key in ("realised_cost", "regret", "mae_s", "median_abs_log2")
            }
            values |= {f"plan/{kind}/{t}": v for t, v in found["terms"].items()}
            mine = model_id if kind.startswith("model") else None
            tracking.log_metrics(values, model_id=mine, dataset=dataset)
    return facts


if __name__ == "__main__":
    run(load_config())

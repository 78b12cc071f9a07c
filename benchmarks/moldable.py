"""What choosing the size of moldable jobs saves: Spark C3O, sizes by a learned speed-up.

``python -m benchmarks.moldable`` writes ``docs/benchmarks/moldable.json`` and its table on standard
output. Half of the log's configurations (application, machines, data) train a run-time model; of
the others batches are drawn. Each job was run on 2 to 12 machines, five times each: its modes are
these sizes, their estimates the model's quantiles, the truth the median of the five. Plans are
made by ``lns`` with the same steps, executed with the truth, and priced by the evaluator.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plancast.pipelines.inputs.forecast import forecast_by_class
from plancast.pipelines.inputs.modes import flat, nested
from plancast.pipelines.verbs import read_log, train
from plancast.planner.model.domain import (
    ANY_CLASS,
    DurationEstimate,
    Mode,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.plan import plan
from plancast.planner.worlds.simulate import execute

ROOT = Path(__file__).parents[1]
LOG = ROOT.parent / "shared" / "data" / "tasks" / "spark-c3o.csv.gz"
COLUMNS = ROOT / "data" / "columns" / "spark-c3o.yaml"
OUT = ROOT / "docs" / "benchmarks" / "moldable.json"
MACHINES, CORES = 24, 8
"""Of the cluster, and of a machine in the log."""
SIZES = (2, 4, 6, 8, 10, 12)
POLICY = Policy(Prices())
RESAMPLES = 2000
Row = dict[str, float]


def configurations(jobs: pd.DataFrame) -> list[pd.DataFrame]:
    """The runs of each application on the same machines and data, where all sizes were run."""
    columns = [c for c in jobs.columns if c.startswith("num_") and c != "num_machines"]
    keys = [jobs[c].fillna(-1) for c in ["app", "partition", *columns]]
    found = [runs for _, runs in jobs.groupby(keys, sort=True)]
    return [runs for runs in found if set(runs["num_machines"]) >= set(SIZES)]


def batch_of(
    drawn: list[pd.DataFrame], rng: np.random.Generator
) -> tuple[pd.DataFrame, dict[tuple[str, str], int], dict[str, str]]:
    """A row for each job and size; the true seconds of each; the size that its user chose."""
    rows, truth, asked = [], {}, {}
    for k, runs in enumerate(drawn):
        asked[f"j{k}"] = str(rng.choice(SIZES))
        for size in SIZES:
            mine = runs[runs["num_machines"] == size]
            truth[f"j{k}", str(size)] = max(1, round(float(mine["run_s"].median())))
            rows.append(mine.iloc[0].to_dict() | {"job_id": f"j{k}", "mode": str(size)})
    return pd.DataFrame(rows), truth, asked


def request_of(estimates: Mapping[tuple[str, str], Any], modes: Mapping[str, list[str]]) -> Any:
    """The jobs with these of their modes; a job with one has no modes but its size."""
    tasks, known = [], {}
    for job, names in modes.items():
        ways = [Mode(m, {"cpu": 1000 * CORES}, int(m)) for m in names]
        if len(ways) == 1:
            tasks.append(Task(job, ways[0].demand, shards=ways[0].shards))
            known[job, ""] = estimates[job, names[0]]
        else:
            tasks.append(Task(job, {}, modes=tuple(ways)))
            known |= {(job, m): estimates[job, m] for m in names}
    workers = tuple(Worker(f"m{k}", {"cpu": 1000 * CORES}) for k in range(MACHINES))
    return PlanRequest("moldable", Snapshot(0, 0, workers, tuple(tasks)), nested(known), POLICY)


def realised(request: PlanRequest, truth: Mapping[tuple[str, str], int], steps: int) -> Row:
    """Cost of the plan when it is carried out, and the mean time from release to end, hours."""
    made = plan(replace(request, budget=Budget(None, steps)), "lns").plan
    assert made is not None
    size = {a.task: str(len(a.workers)) for a in made.assignments}
    fixed = request_of(
        {key: by for key, by in flat(request.estimates).items() if key[1]}
        | {(t, size[t]): by for (t, m), by in flat(request.estimates).items() if not m},
        {task: [m] for task, m in size.items()},
    )
    plain = replace(made, assignments=tuple(replace(a, mode="") for a in made.assignments))
    ran = execute(fixed, plain, {task: truth[task, m] for task, m in size.items()})
    cost = evaluate(fixed, ran, realised=True).cost
    ends = [a.end_s / 3600 for a in ran.assignments]
    return {"cost": cost, "response_h": float(np.mean(ends))}


def run(batches: int, jobs: int, steps: int, seed: int) -> dict[str, Any]:
    """All ways of choosing sizes, on the same batches."""
    log = pd.DataFrame(read_log(LOG, str(COLUMNS)))
    rng = np.random.default_rng(seed)
    found = configurations(log)
    order = rng.permutation(len(found))
    half = len(order) // 2
    model = train(pd.concat([found[k] for k in order[:half]]), seed=seed)
    rows: dict[str, list[Row]] = {}
    for _ in range(batches):
        drawn = [found[k] for k in rng.choice(order[half:], jobs, replace=False)]
        frame, truth, asked = batch_of(drawn, rng)
        believed = flat(forecast_by_class(model, frame))
        certain = {k: {ANY_CLASS: DurationEstimate.certain(s)} for k, s in truth.items()}
        every = {job: [str(s) for s in SIZES] for job in asked}
        ways = {"as submitted": {job: [m] for job, m in asked.items()}}
        ways |= {f"all on {s}": {job: [str(s)] for job in asked} for s in SIZES}
        for name, modes in ways.items():
            rows.setdefault(name, []).append(realised(request_of(believed, modes), truth, steps))
        rows.setdefault("modes", []).append(realised(request_of(believed, every), truth, steps))
        oracle = realised(request_of(certain, every), truth, steps)
        rows.setdefault("modes, true run times", []).append(oracle)
    return {
        "batches": batches, "jobs": jobs, "steps": steps, "seed": seed, "machines": MACHINES,
        "rows": summary(rows, rng),
    }  # fmt: skip


def summary(rows: Mapping[str, list[Row]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Mean cost of each way, and of its ratio to what was submitted the 95% interval."""
    base = np.array([row["cost"] for row in rows["as submitted"]])
    picks = rng.integers(0, len(base), (RESAMPLES, len(base)))
    result = []
    for name, mine in rows.items():
        cost = np.array([row["cost"] for row in mine])
        ratios = cost[picks].sum(axis=1) / base[picks].sum(axis=1) - 1
        result.append(
            {
                "sizes": name,
                "mean_cost": float(cost.mean()),
                "over_submitted": float(cost.sum() / base.sum() - 1),
                "interval": [float(x) for x in np.quantile(ratios, (0.025, 0.975))],
                "mean_response_h": float(np.mean([row["response_h"] for row in mine])),
            }
        )
    return result


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("batches", 30), ("jobs", 12), ("steps", 3000), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    report = run(**vars(parser.parse_args()))
    OUT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for row in report["rows"]:
        low, high = row["interval"]
        print(
            f"{row['sizes']:24}{row['mean_cost']:9.2f}{row['over_submitted']:+9.1%} "
            f"[{100 * low:+.1f}, {100 * high:+.1f}]{row['mean_response_h']:8.2f} h"
        )


if __name__ == "__main__":
    main()

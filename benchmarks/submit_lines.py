"""What directories and command lines are worth to forecasts: synthetic checks.

No public log has WorkDir and SubmitLine. Two stand-ins: a log that is drawn here, in which the
script and an argument decide the run time, and a real log whose applications are written into
lines and directories. The control for both: texts drawn without regard to anything, which must do
no harm.

    python -m benchmarks.submit_lines [LOG ...] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from plancast.predictor import walk_forward
from plancast.predictor.logs import read_log
from plancast.predictor.metrics import median_abs_log2, pinball
from plancast.predictor.schema import canonical

SCRIPTS = ("align", "assemble", "call", "fit", "fold", "index", "merge", "relax", "render", "sweep")
SIZES = ("small", "medium", "large")


def made_log(seed: int, jobs: int = 6000) -> pd.DataFrame:
    """Jobs whose run times depend on script, size and project, which their texts alone name.

    Twelve users with three scripts and two projects each. All request a day and a processor and
    are named ``job.sh``; runs are numbered, and so are samples.
    """
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 12, jobs)
    own = np.array([rng.choice(len(SCRIPTS), 3, replace=False) for _ in range(12)])
    script = own[user, rng.integers(0, 3, jobs)]
    size, project = rng.integers(0, 3, jobs), rng.integers(0, 2, jobs)
    takes, of_project = rng.normal(0.0, 1.2, len(SCRIPTS)), rng.normal(0.0, 0.5, (12, 2))
    log_run = np.log(120.0) + takes[script] + np.log(4.0) * size + of_project[user, project]
    run = np.minimum(np.exp(log_run + rng.normal(0.0, 0.25, jobs)), 86_400.0)
    submit = np.cumsum(rng.exponential(600.0, jobs))
    number = rng.integers(0, 100_000, jobs)
    return canonical(pd.DataFrame(
        {"job_id": [f"{k}" for k in range(jobs)], "submit_s": submit, "start_s": submit + 60.0,
         "end_s": submit + 60.0 + run, "run_s": run, "requested_s": 86_400.0, "cpus": 1.0,
         "user": [f"u{u}" for u in user], "app": "job.sh", "outcome": "completed",
         "work_dir": [f"/scratch/u{u}/{'ab'[p]}_project/run_{k:05d}"
                      for u, p, k in zip(user, project, number, strict=True)],
         "submit_line": [f"sbatch -t 1-0 {SCRIPTS[s]}.sh --size {SIZES[z]} --in sample_{k}.fq"
                         for s, z, k in zip(script, size, number, strict=True)]}
    ))  # fmt: skip


def written_into_texts(log: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A log whose applications stand in directories and command lines, and nowhere else."""
    number = np.random.default_rng(seed).integers(0, 100_000, len(log))
    rows = list(zip(log["user"], log["app"], number, strict=True))
    word = {app: "app-" + "".join(chr(97 + int(d)) for d in app) for app in set(log["app"]) - {""}}
    return log.assign(
        app="",
        work_dir=[f"/home/{u}/{word.get(a, 'any')}/run_{k}" for u, a, k in rows],
        submit_line=[f"sbatch {word.get(a, 'any')}.sh --in case_{k}.dat" for _, a, k in rows],
    )


def with_random_texts(log: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A log with directories and command lines that say nothing: 40 and 20 for each user."""
    rng = np.random.default_rng(seed)
    words = np.array(["".join(rng.choice(list("abcdefghij"), 6)) for _ in range(200)])
    a, b = (words[rng.integers(0, n, len(log))] for n in (40, 20))
    return log.assign(
        work_dir=[f"/home/{u}/{w}" for u, w in zip(log["user"], a, strict=True)],
        submit_line=[f"sbatch {w}.sh" for w in b],
    )


def without_texts(log: pd.DataFrame) -> pd.DataFrame:
    """A log as it was before these columns were read."""
    return log.assign(work_dir="", submit_line="")


def figures(log: pd.DataFrame, seed: int) -> tuple[float, float, float]:
    """Median abs log2, pinball (seconds, mean over the levels), CPU seconds of a walk.

    Of the jobs after the first 30%.
    """
    began = time.process_time()
    walk = walk_forward(log, seed=seed)
    spent = time.process_time() - began
    run = walk.jobs["run_s"].to_numpy()[walk.begin :]
    found = walk.quantiles_s[walk.begin :]
    scored = (run > 0) & np.isfinite(found).all(axis=1)
    run, found = run[scored], found[scored]
    middle = found[:, walk.levels.index(0.5)]
    return (
        median_abs_log2(run, middle),
        float(pinball(run, found, walk.levels).mean()),
        spent,
    )


def cases(log: pd.DataFrame | None, seed: int) -> dict[str, pd.DataFrame]:
    """The variants of a log (none: the made one) that are compared."""
    if log is None:
        made = made_log(seed)
        return {
            "without": without_texts(made),
            "directory": made.assign(submit_line=""),
            "line": made.assign(work_dir=""),
            "both": made,
            "random": with_random_texts(made, seed),
        }
    plain = without_texts(log)
    found = {"without": plain, "random": with_random_texts(log, seed)}
    if log["app"].nunique() > 1:
        found["no application"] = plain.assign(app="")
        found["application in texts"] = written_into_texts(log, seed)
    return found


def main() -> None:
    """Print a line for each log, variant and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", nargs="*", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=10_000, help="of a log, from its beginning")
    asked = parser.parse_args()
    for path in [None, *asked.logs]:
        log = None if path is None else read_log(path).head(asked.rows)
        where = "made" if path is None else path.name.split("-2")[0]
        for seed in asked.seeds:
            for name, frame in cases(log, seed).items():
                log2, loss, spent = figures(frame, seed)
                print(
                    f"{where:12s} seed {seed} {name:20s} log2 {log2:.3f} pinball {loss:9.2f} s "
                    f"cpu {spent:5.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()

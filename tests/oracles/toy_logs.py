"""Small job logs for tests: wild ones from hypothesis, and one that can be learned from."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from plancast.predictor.schema import OUTCOMES, canonical

WILD_TEXTS = {
    "work_dir": st.sampled_from(["", "/a/run_1", "/a/run_2", "/b"]),
    "submit_line": st.sampled_from(["", "sbatch x.sh 1", "sbatch x.sh 2", "y"]),
}


@st.composite
def wild_logs(draw: st.DrawFn, max_jobs: int = 14, texts: bool = False) -> pd.DataFrame:
    """Few users, few moments (so that ties abound), unknown cells, rows that never ran."""
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "job_id": st.integers(0, 40).map(str),
                    "submit_s": st.integers(0, 12).map(float),
                    "wait": st.integers(0, 4),
                    "run_s": st.sampled_from([np.nan, 0.0, 1.0, 2.0, 3.0, 5.5, 17.0]),
                    "requested_s": st.sampled_from([np.nan, 5.0, 60.0]),
                    "cpus": st.sampled_from([np.nan, 1.0, 2.0]),
                    "gpus": st.sampled_from([np.nan, 0.0, 1.0]),
                    "partition": st.sampled_from(["", "p"]),
                    "user": st.sampled_from(["", "ann", "bob"]),
                    "group": st.sampled_from(["", "g"]),
                    "app": st.sampled_from(["", "x", "y"]),
                    "queue": st.sampled_from(["q", "r"]),
                    "outcome": st.sampled_from(OUTCOMES),
                    **(WILD_TEXTS if texts else {}),
                }
            ),
            min_size=1,
            max_size=max_jobs,
        )
    )
    frame = pd.DataFrame(rows)
    frame["start_s"] = frame["submit_s"] + frame["wait"]
    frame["end_s"] = frame["start_s"] + frame["run_s"]
    return canonical(frame.drop(columns="wait"))


def toy_log(jobs: int = 600, seed: int = 0) -> pd.DataFrame:
    """A log of eight users with habits: each has two sizes of job, and requests too much."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 8, jobs)
    size = rng.integers(0, 2, jobs)
    submit = np.cumsum(rng.exponential(300.0, jobs))
    run = np.exp(4.0 + 0.4 * user + 1.5 * size + rng.normal(0.0, 0.3, jobs))
    requested = np.exp(np.ceil(np.log(run) + rng.uniform(0.2, 1.5, jobs)))
    wait = rng.exponential(200.0, jobs)
    frame = pd.DataFrame(
        {
            "job_id": [str(i) for i in range(jobs)],
            "submit_s": submit,
            "start_s": submit + wait,
            "end_s": submit + wait + run,
            "run_s": run,
            "requested_s": requested,
            "cpus": 2.0 ** (1 + size),
            "user": [f"u{u}" for u in user],
            "group": [f"g{u % 3}" for u in user],
            "app": [f"a{s}" for s in size],
            "queue": ["batch"] * jobs,
            "outcome": rng.choice(["completed", "failed", "timeout"], jobs, p=[0.8, 0.15, 0.05]),
            "cat_site": rng.choice(["east", "west"], jobs),
            "num_bytes": rng.integers(1, 1000, jobs).astype(float),
        }
    )
    return canonical(frame)

# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a log to a plan, and to a verdict
#
# A job log teaches a model how long jobs run. A planner reserves machines by its forecasts. A
# trial executes the plans with the true run times and says what the forecasts were worth.
#
# The log is the generated one of `make run`. For another, name it: `LOG=my-log.swf.gz jupyter lab`.
# Needs the extra `notebooks` (`pip install -e '.[notebooks]'`); every name used is public.

# %%
import os
import tempfile
from pathlib import Path

import pandas as pd
from IPython.display import HTML, SVG, display

from plancast.pipelines.inputs.config import Config, TrialConfig, name_of_log
from plancast.pipelines.stages.ingest import ingest_log
from plancast.pipelines.stages.report import regret_chart
from plancast.pipelines.stages.train import judge, split_of
from plancast.pipelines.stages.trial import cut_batches, trial
from plancast.planner.instances.generate import generate_log, write_swf
from plancast.planner.model.evaluate import evaluate
from plancast.planner.planning.plan import plan
from plancast.planner.planning.plot import gantt_svg
from plancast.planner.worlds.simulate import execute
from plancast.predictor import ESTIMATORS, RuntimePredictor

LEVELS = (0.1, 0.5, 0.8, 0.9, 0.95)
LOG = os.environ.get("LOG")


def path_of_log() -> str:
    """The log that was asked for, else a new one in a temporary folder."""
    if LOG:
        return LOG
    path = Path(tempfile.mkdtemp()) / "generated.swf"
    write_swf(generate_log(jobs=8000, users=40, procs=128, seed=0), path)
    return str(path)


# %% [markdown]
# ## The log
#
# Whatever its format, a log becomes one canonical table: a row per job, seconds, NaN for unknown.

# %%
jobs, facts = ingest_log(path_of_log())
display(
    pd.Series(
        {
            "file": facts["log"],
            "jobs": facts["rows"],
            "with a run time": facts["kept"],
            "users": facts["users"],
            "processors": facts["machine_size"],
            **{f"ended: {name}": count for name, count in facts["outcomes"].items()},
        },
        name="the log",
    ).to_frame()
)
jobs[["submit_s", "run_s", "requested_s", "cpus", "user", "app", "outcome"]].head()

# %% [markdown]
# The requested time is a poor guess of the run time. How much too long is it?

# %%
ratio = (jobs["requested_s"] / jobs["run_s"]).where(jobs["run_s"] > 0)
ratio.quantile([0.1, 0.5, 0.9]).rename("requested / run time").to_frame().round(1)

# %% [markdown]
# ## Forecasts against rules of thumb
#
# Learn from the first 70 % of the log, judge on the rest. A job of the training stretch that had
# not ended when the test stretch begins is left out: its run time was not known. Each test job is
# forecast with what had ended by its own submission.

# %%
config = Config(
    name=name_of_log(LOG) if LOG else "generated",
    log=LOG,
    trial=TrialConfig(batches=12, batch_size=60),
)
train, test = split_of(config, jobs)
model = RuntimePredictor(LEVELS, seed=0).fit(train)
rules = ("requested", "last_two", "user_median", "global_median")
estimators = {"model": model} | {name: ESTIMATORS[name](LEVELS).fit(train) for name in rules}
scores = pd.DataFrame(judge(estimators, test, LEVELS)).T
scores[["mae_s", "median_abs_log2", "within_2x", "accuracy_minmax", "under_rate"]].rename(
    columns={
        "mae_s": "mean error, s",
        "median_abs_log2": "typical factor, log2",
        "within_2x": "within 2x",
        "accuracy_minmax": "min/max",
        "under_rate": "too short",
    }
).round(2).astype({"mean error, s": int})

# %% [markdown]
# ## Calibration
#
# A plan reserves a quantile. A quantile at level 90 % is worth planning on if 90 % of the jobs end
# by it. Measured on the test stretch:

# %%
covered = pd.DataFrame(
    {
        name: {f"{level:.0%}": scores.loc[name, f"coverage_p{100 * level:g}"] for level in LEVELS}
        for name in scores.index
    }
)
covered.index.name = "promised"
covered.map("{:.1%}".format)

# %% [markdown]
# ## One plan
#
# A batch of jobs of the test stretch is handed to the planner at once. Nothing that ended after
# the batch's first submission was known to the forecasts. The plan reserves the median.

# %%
batch = cut_batches(config, jobs, model)[0]
request = batch.requests["model_p50"]
response = plan(request, "greedy")
print(
    f"{response.status.value}: cost {response.cost:.2f}, "
    f"no plan costs less than {response.lower_bound:.2f}"
)
assert response.plan is not None
SVG(gantt_svg(request, response.plan, title="As planned"))

# %% [markdown]
# Why does a task wait? The response says so for every task that starts later than it might.

# %%
reasons = pd.Series(response.why, name="why").rename_axis("task").to_frame()
print(f"{len(reasons)} of {len(request.snapshot.pending)} tasks wait")
reasons.head(8)

# %% [markdown]
# Executed with the true run times, in plan order, the same plan becomes this:

# %%
ran = execute(request, response.plan, batch.run_s)
verdict = evaluate(request, ran, realised=True)
assert verdict.valid
print(f"planned cost {response.cost:.2f}, realised cost {verdict.cost:.2f}")
SVG(gantt_svg(request, ran, title="As it ran"))

# %% [markdown]
# ## The verdict
#
# The same for several batches and each kind of estimate. Regret is the realised cost against that
# of plans with perfect run times (`oracle`), over the same batches; its interval is a paired
# bootstrap over the batches.

# %%
found = trial(config, jobs, model)
rows = {
    kind: {
        "mean error, s": round(row["mae_s"]),
        "planned cost": round(row["planned_cost"], 2),
        "realised cost": round(row["realised_cost"], 2),
        "regret": f"{row['regret']:+.1%}",
        "95 % interval": "{:+.1%} to {:+.1%}".format(*row["regret_ci"]),
        "wait_h": round(row["terms"]["wait_h"], 2),
        "late_h": round(row["terms"]["late_h"], 2),
    }
    for kind, row in found["kinds"].items()
}
verdicts = pd.DataFrame(rows).T
verdicts.index.name = "estimate"
display(HTML(regret_chart(found["kinds"])))
verdicts

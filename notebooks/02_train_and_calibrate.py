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
# # 2. Train: is it calibrated?
#
# **If the model says that 90% of such jobs end within an hour, do they?**
#
# A forecast is a distribution: quantiles, each with a promise. `pc.evaluate` walks through the log
# as production would live it, forecasts each job from what had ended by its submission, and counts.

# %%
import plancast as pc
from plancast.pipelines.charts import forecasts as charts
from plancast.planner.instances.generate import generate_log, write_swf

write_swf(generate_log(jobs=3000, users=30, procs=64, seed=0), "site.swf")
log = pc.read_log("site.swf")
found = pc.evaluate(log, levels=(0.1, 0.25, 0.5, 0.8, 0.9, 0.95))
estimators = found.report["estimators"]

# %% [markdown]
# ## Reliability
#
# The share of jobs that ended by each quantile, against the share that should have. The diagonal
# is calibrated. A rule that gives one number has no quantiles: its line is flat.

# %%
charts.reliability(
    {name: {float(q): s for q, s in one["coverage"].items()} for name, one in estimators.items()}
)

# %% [markdown]
# ## Sharpness
#
# A forecast can be calibrated and useless: "between a second and a week". The typical factor
# between forecast and run time says how sharp it is.

# %%
charts.ranking(
    {name: charts.factor(one["median_abs_log2"]) for name, one in estimators.items()}, charts.FACTOR
)

# %% [markdown]
# ## A model to keep
#
# `pc.train` learns from the whole log; `save` writes LightGBM's text, a JSON card and Parquet.

# %%
model = pc.train(log)
model.save("model")
model

# %% [markdown]
# ## Exercise
#
# Calibrated on average may hide too long forecasts of short jobs and too short ones of long jobs.
# `estimators["model"]["by_decile"]` has the coverage for each tenth of the forecasts. Is the 90%
# quantile right in each of them?

# %% [markdown]
# ### Solution
#
# One line for each tenth, the shortest forecasts first: all should lie on the diagonal.

# %%
deciles = estimators["model"]["by_decile"]
rows = deciles.items() if isinstance(deciles, dict) else enumerate(deciles, 1)
charts.reliability(
    {f"tenth {k}": {float(q): s for q, s in one["coverage"].items()} for k, one in rows},
    main="tenth 1",
)

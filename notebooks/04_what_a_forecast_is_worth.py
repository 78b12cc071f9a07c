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
# # 4. What is a forecast worth?
#
# **Would jobs have waited less, had the scheduler known the forecasts?**
#
# A replay runs the whole log again, on the same machine, under another discipline. EASY backfilling
# lets small jobs overtake where they do no harm, and needs run times to know where that is:
# requested ones, the model's, or (nobody has them) the true ones.

# %%
import altair as alt

import plancast as pc
from plancast.planner.instances.generate import generate_log, write_swf

alt.renderers.enable("svg")
write_swf(generate_log(jobs=1500, users=20, procs=64, load=0.85, seed=0), "site.swf")
log = pc.read_log("site.swf")
found = pc.replay(
    log, dispatchers=["easy", "easy-sjbf", "planner"], estimates=["requested", "model", "oracle"]
)
found

# %% [markdown]
# ## Slowdown, with its interval
#
# Time in the system over run time, the mean over jobs; lines are 95% intervals over weeks. Where
# they overlap much, do not believe the order.

# %%
cells = found.to_frame()
cells["low"], cells["high"] = cells.bsld_ci.str[0], cells.bsld_ci.str[1]
alt.layer(
    alt.Chart().mark_rule(strokeWidth=3).encode(
        x=alt.X("low:Q", title="mean bounded slowdown"), x2="high:Q", y="estimates:N",
        color=alt.Color("estimates:N", legend=None)),
    alt.Chart().mark_point(filled=True, size=90).encode(
        x="bsld_mean:Q", y=alt.Y("estimates:N", title=None),
        color=alt.Color("estimates:N", legend=None)),
    data=cells[["dispatcher", "estimates", "bsld_mean", "low", "high"]],
).properties(width=520).facet(row=alt.Row("dispatcher:N", title=None))  # fmt: skip

# %% [markdown]
# ## Exercise
#
# How exact must a forecast be? `oracle:1` is the true run time times a random factor, with a
# standard deviation of 1 in the natural logarithm. Replay `easy-sjbf` with `oracle:0.25`,
# `oracle:0.5`, `oracle:1` and `oracle:2`, and find where the gain is gone.

# %% [markdown]
# ### Solution

# %%
sigmas = (0.25, 0.5, 1, 2)
noisy = pc.replay(log, ["easy-sjbf"], ["requested", *(f"oracle:{s}" for s in sigmas)]).to_frame()
alt.Chart(noisy[["estimates", "bsld_mean"]]).mark_bar().encode(
    x=alt.X("bsld_mean:Q", title="mean bounded slowdown"), y=alt.Y("estimates:N", sort=None)
).properties(width=520)

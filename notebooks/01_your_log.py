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
# # 1. Your log: what is in it?
#
# **How far are users' requested times from what their jobs take, and who fills the machine?**
#
# A job log is all that plancast learns from. This one is generated, so that the page can be run
# anywhere; put the path of yours in `LOG`: Slurm's `sacct`, SWF, PBS, workflow traces or a CSV.

# %%
import altair as alt

import plancast as pc
from plancast.planner.instances.generate import generate_log, write_swf

alt.renderers.enable("svg")
LOG = None

# %%
if LOG is None:
    LOG = "site.swf"
    write_swf(generate_log(jobs=3000, users=30, procs=64, seed=0), LOG)
log = pc.read_log(LOG)
log

# %% [markdown]
# ## Requested against real run times
#
# Whoever asks for more than a job takes is safe from being killed, and makes every plan by requests
# wrong. Jobs on the dashed line use all they asked for.

# %%
ran = log[log.run_s > 0]
cells = (
    alt.Chart(ran[["run_s", "requested_s"]].dropna())
    .transform_calculate(run="log(datum.run_s) / LN10", asked="log(datum.requested_s) / LN10")
    .transform_bin(["x", "x2"], "run", bin=alt.Bin(step=0.125))
    .transform_bin(["y", "y2"], "asked", bin=alt.Bin(step=0.125))
    .transform_aggregate(jobs="count()", groupby=["x", "x2", "y", "y2"])
    .mark_rect()
    .encode(
        x=alt.X("x:Q", title="run time, 10^x seconds"),
        x2="x2:Q",
        y=alt.Y("y:Q", title="requested time, 10^x seconds"),
        y2="y2:Q",
        color=alt.Color("jobs:Q", scale=alt.Scale(type="log", scheme="viridis")),
    )
)
line = alt.Chart(alt.Data(values=[{"a": 1}, {"a": 5}])).mark_line(strokeDash=[4, 4])
(cells + line.encode(x="a:Q", y="a:Q")).properties(width=460, height=300)

# %% [markdown]
# ## Who fills the machine
#
# Processor hours of the ten largest users, by what became of their jobs.

# %%
used = ran.assign(hours=ran.run_s * ran.cpus.fillna(1) / 3600)
largest = used.groupby("user").hours.sum().nlargest(10).index
alt.Chart(used[used.user.isin(largest)]).mark_bar().encode(
    x=alt.X("sum(hours):Q", title="processor hours"),
    y=alt.Y("user:N", sort="-x"),
    color=alt.Color("outcome:N", title="ended"),
).properties(width=560)

# %% [markdown]
# ## When jobs come, and how long they wait

# %%
waits = ran.assign(hour=(ran.submit_s // 3600 % 24), wait_min=(ran.start_s - ran.submit_s) / 60)
base = alt.Chart(waits).encode(x=alt.X("hour:O", title="hour of submission (UTC)"))
arrivals = base.mark_bar(opacity=0.5).encode(y=alt.Y("count():Q", title="jobs"))
wait = base.mark_line(color="#d9603b", strokeWidth=3).encode(
    y=alt.Y("mean(wait_min):Q", title="mean wait, minutes")
)
alt.layer(arrivals, wait).resolve_scale(y="independent").properties(width=560)

# %% [markdown]
# ## Exercise
#
# Which users could ask for much less without a single job being killed? Plot, for each of the ten
# largest, the share of the requested time that their *longest* job in 20 used.

# %% [markdown]
# ### Solution

# %%
share = (ran.run_s / ran.requested_s).groupby(ran.user).quantile(0.95).loc[largest]
alt.Chart(share.rename("share").reset_index()).mark_bar().encode(
    x=alt.X("share:Q", title="used of its request, 19 of 20 jobs", axis=alt.Axis(format="%")),
    y=alt.Y("user:N", sort="x"),
).properties(width=560)

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
# # 5. When does my job start?
#
# **A queue of forty jobs: what can an honest answer to each of their owners be?**
#
# Not a moment, for run times are not known: a span. Run times are drawn from the forecasts a
# hundred times, the queue is carried out for each draw, and the starts of each job are counted.

# %%
import altair as alt

import plancast as pc
from plancast.pipelines.operators.eta import eta_of_request

alt.renderers.enable("svg")

# %%
tasks = [
    {"id": f"job-{k:02}", "cpus": (4, 8, 16, 32)[k * 7 % 4], "requested_s": (1 + k * 5 % 6) * 3600,
     "owner": ("ann", "bob", "eve")[k % 3]}
    for k in range(40)
]  # fmt: skip
levels = (0.1, 0.25, 0.5, 0.75, 0.9)
shares = (0.1, 0.25, 0.4, 0.6, 0.9)
usual = {
    t["id"]: pc.DurationEstimate(levels, tuple(round(t["requested_s"] * s) for s in shares))
    for t in tasks
}
plan = pc.plan(tasks, {"nodes": 1, "cpus": 64}, estimates=usual, steps=300)
answer = eta_of_request(plan.request, samples=100)


# %%
def spans(answer, title):
    """The span in which each job starts with a chance of 80%, its middle as a tick."""
    now = answer["made_at_s"]
    rows = [
        {"job": job["id"], "why": job["reason"],
         **{q: (job[f"{q}_s"] - now) / 3600 for q in ("p10", "p50", "p90")}}
        for job in answer["jobs"]
    ]  # fmt: skip
    base = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("job:N", title=None, sort="x"))
    bar = base.mark_bar(height=7, opacity=0.5).encode(
        x=alt.X("p10:Q", title="hours from now"), x2="p90:Q"
    )
    tick = base.mark_tick(thickness=3, color="#1f2328").encode(x="p50:Q")
    return (bar + tick).properties(width=560, title=title)


spans(answer, "When each job starts")

# %% [markdown]
# The later a job is in the queue, the wider its span: the errors of all before it add up.

# %% [markdown]
# ## Exercise
#
# Half of the machine is to be taken out for maintenance. Who would hear what?

# %% [markdown]
# ### Solution

# %%
half = pc.plan(tasks, {"nodes": 1, "cpus": 32}, estimates=usual, steps=300)
spans(eta_of_request(half.request, samples=100), "With half of the machine")

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
# # 3. Plan a batch of your own CSV
#
# **Ten jobs, two machines, three deadlines: what runs where, and when?**

# %%
import pandas as pd

import plancast as pc

# %% [markdown]
# A table with your own column names, and machines that are alike. Lengths of time are seconds or
# text ("90min"), moments are ISO 8601, memory is MiB or text ("4G"). It is Monday, eight o'clock.

# %%
jobs = pd.DataFrame(
    {
        "Job": [f"sim-{k}" for k in range(1, 9)] + ["merge", "report"],
        "Cores": [8, 8, 4, 4, 16, 2, 2, 2, 8, 1],
        "Limit": ["2h", "2h", "1h", "1h", "3h", "30min", "30min", "30min", "20min", "10min"],
        "User": ["ann"] * 4 + ["bob"] * 4 + ["ann", "ann"],
        "Waits for": [""] * 8 + ["sim-1 sim-2", "merge"],
        "Due": ["", "", "09:30", "", "", "", "09:00", "", "", "12:00"],
    }
)
columns = {
    "id": "Job", "cpus": "Cores", "requested_s": "Limit", "owner": "User", "after": "Waits for",
    "deadline_s": "Due",
}  # fmt: skip
jobs["Due"] = [time and f"2026-05-04T{time}:00Z" for time in jobs["Due"]]
monday = {"now_s": "2026-05-04T08:00:00Z"}
cluster = monday | {"workers": [{"id": "node", "count": 2, "cpus": 16}]}
plan = pc.plan(jobs, cluster, columns=columns, steps=500)
plan

# %% [markdown]
# ## The plan, and why it is so
#
# `plan.gantt("plan.html")` writes a page that can be searched and zoomed; here it is as an image.

# %%
plan.gantt("plan.html")
plan.gantt()

# %%
for task in ("sim-7", "merge", "report"):
    print(plan.explain(task))

# %% [markdown]
# `plan.to_frame()` is the plan as a table, `plan.save("plan.csv")` writes it, and `plan.cost`,
# `plan.gap`, `plan.greedy_cost` say what it costs, by how much at most it could be cheaper, and
# what the list schedule costs that every plan starts from.

# %% [markdown]
# ## Exercise
#
# A third machine costs money. How much earlier would the last job end with it, and would a machine
# with 8 cores do as well? Draw the three plans.

# %% [markdown]
# ### Solution

# %%
clusters = {
    "two of 16": [{"id": "node", "count": 2, "cpus": 16}],
    "three of 16": [{"id": "node", "count": 3, "cpus": 16}],
    "two of 16, one of 8": [{"id": "big", "count": 2, "cpus": 16}, {"id": "small", "cpus": 8}],
}
plans = {
    name: pc.plan(jobs, monday | {"workers": workers}, columns=columns, steps=500)
    for name, workers in clusters.items()
}
for name, made in plans.items():
    print(f"{name}: the last job ends after {made.terms['makespan_h']:.2f} h")
    display(made.gantt())

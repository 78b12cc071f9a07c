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
from pathlib import Path

import plancast as pc

# %% [markdown]
# A table with column names of its own, as a CSV file: a small one is written here, and `jobs.csv`
# of yours, if it lies beside the notebook, is taken in its place. Lengths of time are seconds or
# text ("90min"), moments are ISO 8601, memory is MiB or text ("4G").

# %%
csv = Path("jobs.csv")
if not csv.exists():
    csv.write_text("""Job,Cores,Limit,User,Waits for,Due
sim-1,8,2h,ann,,
sim-2,8,2h,ann,,
sim-3,4,1h,ann,,2026-05-04T09:30:00Z
sim-4,4,1h,ann,,
sim-5,16,3h,bob,,
sim-6,2,30min,bob,,
sim-7,2,30min,bob,,2026-05-04T09:00:00Z
sim-8,2,30min,bob,,
merge,8,20min,ann,sim-1 sim-2,
report,1,10min,ann,merge,2026-05-04T12:00:00Z
""")

# %% [markdown]
# Which column means what, and machines that are alike. It is Monday, eight o'clock.

# %%
columns = {
    "id": "Job", "cpus": "Cores", "requested_s": "Limit", "owner": "User", "after": "Waits for",
    "deadline_s": "Due",
}  # fmt: skip
monday = {"now_s": "2026-05-04T08:00:00Z"}
cluster = monday | {"workers": [{"id": "node", "count": 2, "cpus": 16}]}
plan = pc.plan(csv, cluster, columns=columns, steps=500)
plan

# %% [markdown]
# ## The plan, and why it is so
#
# `plan.gantt("plan.html")` writes a page that can be searched and zoomed; here it is as an image.

# %%
plan.gantt("plan.html")
plan.gantt()

# %%
for task in plan.to_frame()["task"].tail(3):
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
    name: pc.plan(csv, monday | {"workers": workers}, columns=columns, steps=500)
    for name, workers in clusters.items()
}
for name, made in plans.items():
    print(f"{name}: the last job ends after {made.terms['makespan_h']:.2f} h")
    display(made.gantt())

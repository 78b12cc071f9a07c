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
# # 6. When a worker dies
#
# **A machine is lost in the middle of a plan. What moves, and what is left alone?**
#
# Planning anew may shuffle everything; people and systems have begun to rely on the old plan.
# Repair keeps what still holds, and never costs more than planning from scratch.

# %%
from dataclasses import replace

import plancast as pc
from plancast.planner.model import events, messages

# %%
tasks = [
    {"id": f"T{k:02}", "cpus": 2 + 2 * (k % 3), "requested_s": 1200 + 600 * (k * 7 % 5)}
    for k in range(30)
]
before = pc.plan(tasks, {"nodes": 4, "cpus": 8}, policy={"prices": {"moves": 0.05}}, steps=500)
before.gantt()

# %% [markdown]
# ## The machine is lost
#
# Each event makes a new snapshot of the cluster. The plan in force goes along as the incumbent.

# %%
request = before.request
lost = request.snapshot.workers[1].id
now_s = request.snapshot.now_s
snapshot = events.apply(request.snapshot, messages.WorkerLost(now_s, lost))
request = replace(request, snapshot=snapshot, incumbent=before.response.plan)
after = replace(before, request=request, response=pc.repair(request))
after.gantt()

# %%
print(f"{lost} is lost: {len(after.response.moved)} of {len(tasks)} tasks move.")
print(after.summary())

# %% [markdown]
# ## Exercise
#
# What does calm cost? Plan the same snapshot from scratch, count how many tasks would have moved,
# and compare the costs.

# %% [markdown]
# ### Solution

# %%
scratch = pc.plan(replace(request, incumbent=None), budget=pc.Budget(None, 500))
old = before.response.plan.by_task
new = scratch.response.plan.by_task
moved = sum((old[t].workers, old[t].start_s) != (new[t].workers, new[t].start_s) for t in new)
print(f"from scratch {moved} tasks move; {scratch.summary()}")
scratch.gantt()

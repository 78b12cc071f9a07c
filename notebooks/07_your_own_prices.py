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
# # 7. Your own prices
#
# **What does an hour of lateness buy, in kilowatt-hours?**
#
# A plan is as good as its price. Each term of the cost (time, lateness, waiting, energy, ...) has
# a price that you set; what is not for sale is a promise, not a price.

# %%
import altair as alt

import plancast as pc

alt.renderers.enable("svg")

# %% [markdown]
# The old machines are many and draw much; the new ones do the same with a third of the power.

# %%
cluster = {
    "now_s": 0,
    "workers": [
        {"id": "old", "count": 3, "cpus": 16, "idle_w": 120, "busy_w": 380},
        {"id": "new", "count": 2, "cpus": 16, "idle_w": 40, "busy_w": 110},
    ],
}
tasks = [
    {"id": f"T{k:02}", "cpus": 4 + 4 * (k % 3), "requested_s": 1800 + 900 * (k * 5 % 7),
     "deadline_s": 7200 + 1800 * (k % 5)}
    for k in range(30)
]  # fmt: skip


def planned(price):
    """The plan where a kilowatt-hour costs `price`, and a late hour 10."""
    prices = {"makespan_h": 0.1, "late_h": 10, "misses": 0, "wait_h": 0, "kwh": price}
    return pc.plan(tasks, cluster, policy={"prices": prices}, steps=3000, seed=1)


plans = {price: planned(price) for price in (0, 10, 20, 40, 80, 160)}

# %% [markdown]
# ## The front
#
# Each point is the best plan found for one price of energy. Left is punctual, down is thrifty.

# %%
points = [
    {"price": price, "late": plan.terms["late_h"], "kwh": plan.terms["kwh"]}
    for price, plan in plans.items()
]
base = alt.Chart(alt.Data(values=points)).encode(
    x=alt.X("late:Q", title="lateness, hours"),
    y=alt.Y("kwh:Q", title="energy, kWh", scale=alt.Scale(zero=False)),
)
dots = base.mark_line(point=alt.OverlayMarkDef(size=90)).encode(order="price:Q")
(dots + base.mark_text(dx=8, dy=-10, align="left").encode(text="price:Q")).properties(width=560)

# %% [markdown]
# ## Two plans of these

# %%
display(plans[0].gantt(), plans[160].gantt())

# %% [markdown]
# ## Exercise
#
# Energy is cheap, but nobody may wait long: price each hour of waiting with 1, then with 10. Does
# the longest wait get shorter, or only the mean?

# %% [markdown]
# ### Solution


# %%
def waits(price):
    """Waits of all tasks in hours, where an hour of waiting costs `price`."""
    found = pc.plan(tasks, cluster, policy={"prices": {"wait_h": price}}, steps=3000, seed=1)
    start = found.to_frame().start_s - found.request.snapshot.now_s
    return [{"price": f"waiting costs {price}", "wait": hours} for hours in start / 3600]


rows = [row for price in (0, 1, 10) for row in waits(price)]
alt.Chart(alt.Data(values=rows)).mark_boxplot(extent="min-max").encode(
    x=alt.X("wait:Q", title="wait, hours"), y=alt.Y("price:N", title=None)
).properties(width=560)

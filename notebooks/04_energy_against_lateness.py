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
# # Energy against lateness
#
# A plan is priced: an hour of lateness costs this, a kilowatt-hour that. What does a batch cost
# in energy if nobody may be late, and what in lateness if energy is dear? Prices trace the
# answer: one plan for each price of energy, and of those the ones that no other beats in both.
#
# Needs the extra `notebooks` (`pip install -e '.[notebooks]'`); every name used is public.

# %%
from dataclasses import replace

import pandas as pd
from IPython.display import SVG, display

from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import Policy, Prices
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget
from plancast.planner.planning.plan import plan
from plancast.planner.planning.plot import gantt_svg

# %% [markdown]
# ## A batch and a cluster
#
# Eight kinds of machines, from small to GPU servers, each with its power when idle and when busy,
# and what it takes to switch it on. Four of five tasks have deadlines; they are halved here, so
# that not all can be met.

# %%
cluster = generate_cluster(16, seed=2)
batch = generate_batch(120, cluster, seed=2, due_share=0.8)
now_s = batch.snapshot.now_s
tasks = tuple(
    task
    if task.deadline_s is None
    else replace(task, deadline_s=now_s + (task.deadline_s - now_s) // 2)
    for task in batch.snapshot.pending
)
batch = replace(batch, snapshot=replace(batch.snapshot, pending=tasks))
machines = pd.DataFrame(
    [(w.machine_class, w.idle_w, w.busy_w, w.boot_kwh) for w in cluster],
    columns=["machine", "idle, W", "busy, W more", "boot, kWh"],
)
machines.groupby("machine").first().assign(machines=machines.groupby("machine").size())

# %% [markdown]
# ## One plan for each price
#
# A late hour costs 10 and an hour of the whole batch 0.1, whatever energy costs. The price of a
# kilowatt-hour rises from nothing. Every plan is judged by the evaluator; a step budget and a
# seed make the page the same on every run.

# %%
KWH_PRICES = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


def planned(price_kwh: float):
    """The request with this price of energy, and its plan."""
    prices = Prices(makespan_h=0.1, late_h=10.0, misses=0.0, wait_h=0.0, kwh=price_kwh)
    request = replace(batch, policy=Policy(prices), budget=Budget(seconds=None, steps=1500), seed=1)
    response = plan(request, "lns")
    assert response.plan is not None
    return request, response.plan


plans = {price: planned(price) for price in KWH_PRICES}
rows = {}
for price, (request, made) in plans.items():
    found = evaluate(request, made)
    assert found.valid
    used = {worker for a in made.assignments for worker in a.workers}
    rows[price] = {
        "kwh": found.terms["kwh"],
        "late_h": found.terms["late_h"],
        "makespan_h": found.terms["makespan_h"],
        "workers used": len(used),
    }
front = pd.DataFrame(rows).T.rename_axis("price of a kWh")


def beaten(row: pd.Series) -> bool:
    """Whether another plan is no worse in both, and better in one."""
    no_worse = (front.kwh <= row.kwh) & (front.late_h <= row.late_h)
    better = (front.kwh < row.kwh) | (front.late_h < row.late_h)
    return bool((no_worse & better).any())


front["on the front"] = [not beaten(row) for _, row in front.iterrows()]
front.round(3)

# %% [markdown]
# ## The front
#
# Down is less energy, left is less lateness. Filled points are the plans that no other beats in
# both: everything else is bought too costly. Read from left to right, it says what an hour of
# lateness saves.


# %%
def scatter(points: pd.DataFrame, width: int = 620, height: int = 340) -> SVG:
    """Energy over lateness, with the price of energy beside each point."""
    left, top, right, bottom = 60, 20, width - 30, height - 50
    room = max(points.late_h.max() - points.late_h.min(), 1e-9) * 0.1
    least_late, most_late = points.late_h.min() - room, points.late_h.max() + room
    low, high = points.kwh.min() * 0.97, points.kwh.max() * 1.03

    def at(late_h: float, kwh: float) -> tuple[float, float]:
        x = left + (right - left) * (late_h - least_late) / (most_late - least_late)
        return x, bottom - (bottom - top) * (kwh - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#444"/>',
        f'<text x="{(left + right) / 2}" y="{height - 12}" text-anchor="middle">'
        "lateness, weighted hours</text>",
        f'<text transform="translate(16,{(top + bottom) / 2}) rotate(-90)" '
        'text-anchor="middle">energy, kWh</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        late_h = least_late + (most_late - least_late) * share
        kwh = low + (high - low) * share
        x, y = at(late_h, kwh)
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{late_h:.2f}</text>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{kwh:.2f}</text>')
    best = points[points["on the front"]].sort_values("late_h")
    line = " ".join("{:.1f},{:.1f}".format(*at(r.late_h, r.kwh)) for r in best.itertuples())
    parts.append(f'<polyline points="{line}" fill="none" stroke="#2a6f97"/>')
    for price, row in points.iterrows():
        x, y = at(row.late_h, row.kwh)
        shown = row["on the front"]
        fill, side, anchor = ("#2a6f97", 9, "start") if shown else ("white", -9, "end")
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="#2a6f97"/>')
        parts.append(
            f'<text x="{x + side:.1f}" y="{y - 7:.1f}" text-anchor="{anchor}">{price:g}</text>'
        )
    return SVG("".join([*parts, "</svg>"]))


display(scatter(front))

# %% [markdown]
# ## The two ends
#
# Where energy is free, every machine works at once. Where it is dear, the thrifty machines work
# longer and the others stay off.

# %%
for price in (KWH_PRICES[0], KWH_PRICES[-1]):
    request, made = plans[price]
    display(SVG(gantt_svg(request, made, title=f"A kilowatt-hour costs {price:g}")))

# %%
saved = 1 - front.kwh.iloc[-1] / front.kwh.iloc[0]
paid = front.late_h.iloc[-1] - front.late_h.iloc[0]
print(f"the costliest energy saves {saved:.0%} of it and costs {paid:.1f} weighted late hours")
assert saved > 0

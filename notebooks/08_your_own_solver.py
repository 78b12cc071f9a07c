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
# # 8. Your own solver in 30 lines
#
# **Can a few lines of random search beat the list schedule?**
#
# A solver takes a problem as arrays and gives back a schedule. It never judges itself: the
# evaluator validates and prices every plan, and no answer costs more than the list schedule.

# %%
import altair as alt

import plancast as pc
from plancast.planner.solvers.greedy import greedy

alt.renderers.enable("svg")


# %%
class Shuffled:
    """List schedules of orders that are shaken a little more each time nothing is gained."""

    name, exact_terms = "shuffled", frozenset()

    def solve(self, problem, *, budget, rng, incumbent=None, observe=None):
        """The best schedule of `budget.steps` orders."""
        keys = greedy.priorities(problem)["latest"]
        best, best_cost, shake = None, float("inf"), 0.05
        for step in range(budget.steps):
            tried = keys * rng.normal(1, shake if step else 0, len(keys))
            order = greedy.priority_order(tried, problem.pred_ptr, problem.pred)
            schedule = greedy.schedule_in_order(problem, order, greedy.LEAST_COST)
            if schedule is not None and (cost := problem.cost(schedule)) < best_cost:
                best, best_cost, keys, shake = schedule, cost, tried, 0.05
                if observe is not None:
                    observe(cost, float("-inf"))
            else:
                shake = min(0.5, shake * 1.02)
        if best is None:
            return greedy.Solution(greedy.Status.NO_PLAN_IN_TIME)
        return greedy.Solution(greedy.Status.FEASIBLE, best, claimed=best_cost, steps=budget.steps)


pc.SOLVERS["shuffled"] = Shuffled

# %% [markdown]
# ## A contest

# %%
tasks = [
    {"id": f"T{k:02}", "cpus": 1 + k * 5 % 8, "requested_s": 300 + 700 * (k * 11 % 9),
     "after": f"T{k - 10:02}" if k % 3 == 0 and k > 10 else ""}
    for k in range(60)
]  # fmt: skip
cluster = {"nodes": 4, "cpus": 8}
found = [
    {"solver": name, "seed": seed,
     "cost": pc.plan(tasks, cluster, solver=name, steps=400, seed=seed).cost}
    for name in ("greedy", "shuffled", "lns")
    for seed in range(3)
]  # fmt: skip
alt.Chart(alt.Data(values=found)).mark_point(filled=True, size=90).encode(
    x=alt.X("cost:Q", scale=alt.Scale(zero=False)), y=alt.Y("solver:N", title=None, sort="x"),
    color="seed:N",
).properties(width=560, height=140)  # fmt: skip

# %% [markdown]
# ## Exercise
#
# Give `Shuffled` a memory: return to the best order after ten tries without a gain. Is it better?

# %% [markdown]
# ### Solution
#
# It already is: `keys` is replaced only where a try gained something, so that each try begins from
# the best order. Try the opposite, a walk that accepts every order:


# %%
class Walk(Shuffled):
    """As ``Shuffled``, from a new random order each time."""

    name = "walk"

    def solve(self, problem, *, budget, rng, incumbent=None, observe=None):
        """The best of single orders, each forgotten."""
        found = [
            super(Walk, self).solve(problem, budget=pc.Budget(None, 1 + (k > 0)), rng=rng)
            for k in range(budget.steps // 2)
        ]
        return min((s for s in found if s.schedule is not None), key=lambda s: s.claimed)


pc.SOLVERS["walk"] = Walk
found += [
    {"solver": "walk", "seed": seed,
     "cost": pc.plan(tasks, cluster, solver="walk", steps=400, seed=seed).cost}
    for seed in range(3)
]  # fmt: skip
alt.Chart(alt.Data(values=found)).mark_point(filled=True, size=90).encode(
    x=alt.X("cost:Q", scale=alt.Scale(zero=False)), y=alt.Y("solver:N", title=None, sort="x"),
    color="seed:N",
).properties(width=560, height=160)  # fmt: skip

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
# # What the guide learned
#
# A* plans small batches. A guide, trees learned from solved problems, tells it which states to look
# at first; the bound still proves what the plan is worth. Which facts of a state does the guide go
# by, and what does the search do with it?
#
# Needs the extra `notebooks` (`pip install -e '.[notebooks]'`); every name used is public.

# %%
import math
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import SVG, display

from plancast.pipelines.guide.collect import Settings, collect, read_states
from plancast.pipelines.guide.problems import source_of
from plancast.pipelines.guide.train import guide_of, lessons
from plancast.planner.arrays.problem import encode
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.messages import Budget
from plancast.planner.solvers.astar.astar import AStar, Limits, Search
from plancast.planner.solvers.astar.space import FEATURES, search_space
from plancast.predictor.value_model import QUANTILE, TreeSettings, ValueModel

# %% [markdown]
# ## Lessons
#
# Generated problems of 7 to 9 tasks, each solved; the states along the best plan, and along a wrong
# turn from each of them, with the cost of the best plan that continues them.

# %%
source = source_of("generated")
settings = Settings(problems=60, tasks=(7, 9), workers=(3, 3), steps=300)
card = collect([source], Path("lessons"), settings, processes=1)
states, _ = read_states("lessons")
pd.Series({key: card[key] for key in ("problems", "without_lesson", "states", "exact_share")})

# %% [markdown]
# ## Importances
#
# Share of the gain of all splits. `barred_share`: tasks of one start are placed in the order of
# their index; a later one that went first has barred the others, which the bound does not see.

# %%
features, excess, siblings = lessons(states)
model = ValueModel(TreeSettings(QUANTILE, alpha=0.3, least=30)).fit(features, excess, siblings)
gain = pd.Series(model.booster.feature_importance("gain"), index=FEATURES)
importances = (gain / gain.sum()).sort_values(ascending=False)
importances.head(8).to_frame("share of gain").style.format("{:.0%}")

# %% [markdown]
# ## A search with and without it
#
# Larger problems than it was trained on, to within 1.1 of the least cost. Each column counts the
# states that a search expanded.

# %%
guide = guide_of(model, {})


def expanded(problem, **parameters):
    """States that a search expands."""
    solver = AStar(**parameters)
    return solver.solve(problem, budget=Budget(None, 20_000), rng=np.random.default_rng(0)).steps


rows = []
for number in range(100, 116):
    problem = encode(source.problem(number, 1, range(10, 12), range(3, 4)))
    rows.append(
        {
            "exact A*": expanded(problem),
            "weighted 1.1": expanded(problem, weight=1.1),
            "dives by the bound": expanded(problem, weight=1.1, form="guided"),
            "dives by the guide": expanded(problem, weight=1.1, form="guided", guide=guide),
        }
    )
found = pd.DataFrame(rows)
found

# %% [markdown]
# ## Two search trees
#
# The problem of these on which the guide saved most. A dot is a partial plan that was expanded, a
# row lower for each task placed; the line leads to a plan that it continues. In orange: parts of
# the plan that was found.


# %%
def search_tree(problem, width=720, row=34, **parameters):
    """The expanded states of a guided search, as SVG."""
    search = Search(
        AStar(form="guided", weight=1.1, **parameters), search_space(problem),
        lower_bound(problem), math.inf, None, Limits(math.inf, 20_000),
    )  # fmt: skip
    search.guided()
    shut = np.flatnonzero(search.nodes.shut)
    placed = search.nodes.placed[shut]
    keys = [tuple(zip(search.nodes.edge[k], search.nodes.end[k], strict=True)) for k in shut]
    at = {}
    for depth in range(placed.max() + 1):
        mine = np.flatnonzero(placed == depth)
        for k, node in enumerate(mine):
            at[keys[node]] = width * (k + 0.5) / len(mine), 30 + row * depth
    found = tuple(zip(search.best_edge, search.best_end, strict=True))
    marks = []
    for key, (x, y) in at.items():
        best = all(k[0] < 0 or k == f for k, f in zip(key, found, strict=True))
        colour = "#e07b39" if best else "#7a8ea5"
        for i, (edge, _) in enumerate(key):
            before = at.get((*key[:i], (-1, 0), *key[i + 1 :])) if edge >= 0 else None
            if before:
                line = f'<path d="M{before[0]:.1f} {before[1]:.1f}L{x:.1f} {y:.1f}"'
                marks.append(f'{line} stroke="{colour}" stroke-opacity="0.5"/>')
                break
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4 if best else 2}" fill="{colour}"/>')
    name = "by the guide" if parameters else "by the bound"
    height = 50 + row * placed.max()
    return SVG(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="13"><text x="4" y="15">dives {name}: '
        f"{len(shut)} states expanded</text>{''.join(marks)}</svg>"
    )


saved = found["dives by the bound"] / found["dives by the guide"]
shown = encode(source.problem(100 + int(saved.idxmax()), 1, range(10, 12), range(3, 4)))
display(search_tree(shown), search_tree(shown, guide=guide))

# %%
mean = np.exp(np.log(found.clip(lower=1)).mean())
print("expanded on (geometric) average:", ", ".join(f"{k} {v:,.0f}" for k, v in mean.items()))

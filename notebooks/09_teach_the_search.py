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
# # 9. Teach the search
#
# **Can trees that have seen solved problems tell A\* where to look first?**
#
# A\* proves what a plan is worth, and pays with the states that it has to look at. A guide, learned
# from solved problems, orders them; the bound still proves, so that no guide can make a plan worse
# than promised.

# %%
import altair as alt
import numpy as np

from plancast.pipelines.guide import collect, problems, train

alt.renderers.enable("svg")

# %% [markdown]
# ## Lessons
#
# Generated problems of 7 to 9 tasks, each solved: the states along the best plan, and along a wrong
# turn from each of them, with the cost of the best plan that continues them.

# %%
source = problems.source_of("generated")
settings = collect.Settings(problems=60, tasks=(7, 9), workers=(3, 3), steps=300)
card = collect.collect([source], train.Path("lessons"), settings, processes=1)
states, _ = collect.read_states("lessons")
features, excess, siblings = train.lessons(states)
model = train.ValueModel(train.TreeSettings(train.QUANTILE, alpha=0.3, least=30))
guide = train.guide_of(model.fit(features, excess, siblings), {})

# %% [markdown]
# ## A search with and without it
#
# Larger problems than it was trained on, to within 1.1 of the least cost.


# %%
def expanded(number, **parameters):
    """States that a search looks at before it has a plan within 1.1 of the least cost."""
    request = source.problem(number, 1, range(10, 12), range(3, 4))
    solver = train.AStar(**parameters)
    chance = np.random.default_rng(0)
    return solver.solve(train.encode(request), budget=train.Budget(None, 20_000), rng=chance).steps


ways = {
    "exact": {},
    "weighted 1.1": {"weight": 1.1},
    "dives by the bound": {"weight": 1.1, "form": "guided"},
    "dives by the guide": {"weight": 1.1, "form": "guided", "guide": guide},
}
rows = [
    {"way": way, "problem": number, "states": expanded(number, **parameters)}
    for number in range(100, 112)
    for way, parameters in ways.items()
]


# %%
def dots(rows):
    """States of each problem in each way, on a logarithmic axis, with the median."""
    base = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("way:N", title=None, sort=list(ways)))
    one = base.mark_circle(size=50, opacity=0.5).encode(
        x=alt.X("states:Q", title="states looked at", scale=alt.Scale(type="symlog"))
    )
    middle = base.mark_tick(thickness=3, height=22, color="#d9603b").encode(x="median(states):Q")
    return (one + middle).properties(width=560, height=170)


dots(rows)

# %% [markdown]
# ## What it goes by
#
# Share of the gain of all splits. `barred_share`: tasks of one start are placed in the order of
# their index; a later one that went first has barred the others, which the bound does not see.

# %%
gain = model.booster.feature_importance("gain")
shares = [{"fact": f, "share": g / gain.sum()} for f, g in zip(train.FEATURES, gain, strict=True)]
alt.Chart(alt.Data(values=sorted(shares, key=lambda r: -r["share"])[:10])).mark_bar().encode(
    x=alt.X("share:Q", axis=alt.Axis(format="%")), y=alt.Y("fact:N", title=None, sort="-x")
).properties(width=560)

# %% [markdown]
# ## Exercise
#
# Is it the trees, or would any order of the states do? Replace the guide by one that has learned
# from shuffled answers, and count again.

# %% [markdown]
# ### Solution

# %%
shuffled = np.random.default_rng(1).permutation(excess)
fooled = train.ValueModel(train.TreeSettings(train.QUANTILE, alpha=0.3, least=30))
ways["dives by a fooled guide"] = ways["dives by the guide"] | {
    "guide": train.guide_of(fooled.fit(features, shuffled, siblings), {})
}
rows += [
    {"way": "dives by a fooled guide", "problem": number,
     "states": expanded(number, **ways["dives by a fooled guide"])}
    for number in range(100, 112)
]  # fmt: skip
dots(rows)

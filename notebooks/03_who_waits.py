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
# # Who waits?
#
# A mean slowdown says nothing of the one who waits for a day. Orders that favour short jobs have
# the best means, and may starve long or wide ones. Who pays for the mean?
#
# For a log of your own: `LOG=my-log.swf.gz jupyter lab`. Needs the extra `notebooks`; every name
# used is public.

# %%
import os
import tempfile
from pathlib import Path

import pandas as pd

from plancast.pipelines.backtest.backtest import backtest, open_backtest
from plancast.pipelines.backtest.estimates import cells_of, parse_estimates
from plancast.planner.instances.generate import generate_log, write_swf
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.replay import replay

LOG = os.environ.get("LOG")


def path_of_log() -> str:
    """The log that was asked for, else a new one in a temporary folder."""
    if LOG:
        return LOG
    path = Path(tempfile.mkdtemp()) / "generated.swf"
    write_swf(generate_log(jobs=450, users=15, procs=64, seed=4), path)
    return str(path)


test = open_backtest(path_of_log(), cut_to_request=True)
print(f"{test.log.name}: {len(test.log):,} jobs on {test.log.procs} processors")

# %% [markdown]
# ## Means and worst cases
#
# First come first served with EASY, the shortest first, least work first, and the planner, which
# lets nobody wait forever. All with the learned median, from what had ended in the replay.

# %%
NAMES = ("easy", "sjf-easy", "run2procs-saf", "planner")
cells = cells_of(NAMES, [parse_estimates("model")], (0,))
told = backtest(test, cells)["cells"]
found = pd.DataFrame(told).set_index("dispatcher")
found[["bsld_mean", "bsld_p99", "bsld_max", "wait_mean_s", "wait_max_s"]].round(1)

# %% [markdown]
# ## Users
#
# Jain's index is 1 where every user waits alike, and falls towards 1 / users where one waits for
# all. The worst tenth are the users who wait longest.

# %%
users = pd.DataFrame({cell["dispatcher"]: cell["fairness"] for cell in told}).T
users.columns = ["users", "mean wait of the worst tenth, s", "Jain's index"]
users.round(2)

# %% [markdown]
# ## Wide jobs
#
# A wide job needs many processors free at once. Where narrow ones may always start, it waits. Mean
# wait in seconds by processors:

# %%
SIZES = ((1, 1), (2, 4), (5, 16), (17, None))


def wait_by_size(name: str) -> dict[str, float]:
    """Mean wait of each class of width, with known run times so that only the order differs."""
    ran = replay(test.log, DISPATCHERS[name], test.log.run_s)
    wait_s, width = ran.start_s - test.log.submit_s, test.log.width
    means = {}
    for low, high in SIZES:
        here = (width >= low) & (width <= (high or width.max()))
        label = f"{low} to {high}" if high else f"{low} and more"
        means[label] = float(wait_s[here].mean()) if here.any() else float("nan")
    return means


widths = pd.DataFrame({name: wait_by_size(name) for name in ("fcfs", *NAMES[:3])}).T
widths.round(0)

# %% [markdown]
# ## The ten who waited longest under the order with the best mean
#
# Replayed with known run times: they wait because of the order, not because of an error.

# %%
best = found["bsld_mean"].idxmin()
ran = replay(test.log, DISPATCHERS[best], test.log.run_s)
jobs = pd.DataFrame(
    {
        "wait, s": ran.start_s - test.log.submit_s,
        "run, s": test.log.run_s,
        "processors": test.log.width,
        "user": test.log.user,
    }
)
print(f"best mean: {best}")
jobs.nlargest(10, "wait, s")

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
# # What is a forecast worth?
#
# A forecast is a means. What counts is the schedule that is made with it. Two answers: a queue
# replayed under several dispatchers with better and worse estimates, and a batch planned on
# forecasts with errors of known size and executed with the truth.
#
# For a log of your own: `LOG=my-log.swf.gz jupyter lab`. Needs the extra `notebooks`; every name
# used is public.

# %%
import os
import tempfile
from pathlib import Path

import pandas as pd

from plancast.pipelines.backtest.backtest import backtest, open_backtest
from plancast.pipelines.backtest.estimates import Cell, cells_of, parse_estimates
from plancast.pipelines.backtest.execute_batch import Sweep, means, sweep
from plancast.planner.instances.generate import (
    generate_batch,
    generate_cluster,
    generate_log,
    write_swf,
)
from plancast.planner.model.messages import Budget

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
# ## Dispatchers side by side
#
# The whole log is replayed: arrivals, true run times, kills at the requested time. `easy` starts
# jobs in order of arrival and lets others overtake who do not delay the first; `easy-sjbf` lets
# the shortest overtake first; `run2procs-saf` orders the queue itself by forecasts. The oracle
# knows every run time; nobody has it.

# %%
dispatchers = ("easy", "easy-sjbf", "run2procs-saf")
estimates = [parse_estimates(name) for name in ("requested", "last_two", "model", "oracle")]
cells = cells_of(dispatchers, estimates, (0,))
found = pd.DataFrame(backtest(test, cells)["cells"])
slowdown = found.pivot(index="dispatcher", columns="estimates", values="bsld_mean")
slowdown = slowdown.loc[list(dispatchers), [e.kind for e in estimates]]
slowdown.round(2)

# %% [markdown]
# Mean bounded slowdown, less is better. Left to right the forecast gets better, top to bottom the
# dispatcher uses it more. Beside it the worst job of each: averages hide starvation.

# %%
worst = found.pivot(index="dispatcher", columns="estimates", values="bsld_max")
worst.loc[slowdown.index, slowdown.columns].round(0).astype(int)

# %% [markdown]
# ## Error and schedule
#
# The same queue with errors of a known size: estimate = run time x exp(sigma z - sigma^2 / 2).
# Real forecasts have a sigma of 0.7 to 1.5.

# %%
SIGMAS = (0.0, 0.3, 0.6, 1.0)
noisy = [Cell("run2procs-saf", parse_estimates(f"oracle:{s:g}" if s else "oracle")) for s in SIGMAS]
curve = pd.DataFrame(backtest(test, noisy)["cells"]).set_index("sigma")
curve[["bsld_mean", "bsld_p95", "bsld_max", "wait_mean_s"]].round(1)

# %% [markdown]
# ## Error and plan
#
# A batch on many machines is planned at once. Carried out as it stands, the plan suffers from every
# error; without a plan, errors do little harm, but so does a good forecast little good. In a closed
# loop the plan is followed as long as it pays. Costs are relative to the plan with perfect
# forecasts.

# %%
batch = generate_batch(50, generate_cluster(6, 1), 1)
executed = sweep(batch, Sweep(sigmas=(0.0, 0.3, 1.0), seeds=1, budget=Budget(None, 200)))
relative = pd.DataFrame(means(executed)).T
relative.columns = [f"sigma {sigma:g}" for sigma in relative.columns]
relative.round(3)

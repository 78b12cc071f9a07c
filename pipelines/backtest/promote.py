"""The contest of two models: whose forecasts make the better schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from plancast.pipelines.backtest.cell import run_cell
from plancast.pipelines.backtest.estimates import Cell, Estimate
from plancast.pipelines.backtest.opened import Backtest
from plancast.pipelines.backtest.records import Record
from plancast.planner.worlds.metrics import weekly_interval
from plancast.planner.worlds.replay import ReplayLog


def contest(
    test: Backtest,
    champion: Any | None,
    challenger: Any,
    *,
    dispatcher: str = "planner",
    progress: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Replay a log with each model's forecasts and judge by a paired test.

    Parameters
    ----------
    test : Backtest
    champion, challenger : Contestant
        What makes each model: its trees, levels and seed. Both are refitted on the replay's
        clock, so that neither knows a run time early.
    dispatcher : str
    progress : callable, optional
        Called with the share that is done and what comes next.

    Returns
    -------
    dict
        ``promoted``, ``why`` in words, and the numbers: mean bounded slowdown of each, their
        difference (challenger less champion) and its 95% interval over weeks.

    Notes
    -----
    The challenger wins where the whole interval lies below 0 and it keeps promises no worse
    (late share within a tenth of a point, or less).
    """
    names = {
        "champion": None if champion is None else champion.version,
        "challenger": challenger.version,
        "dispatcher": dispatcher,
    }
    if champion is None:
        why = f"version {challenger.version} has no rival and becomes champion"
        return {**names, "promoted": True, "why": why}
    if champion.version == challenger.version:
        why = f"version {challenger.version} is champion already: there is no rival"
        return {**names, "promoted": False, "why": why}
    cell = Cell(dispatcher, Estimate("model"))
    found = []
    for place, one in enumerate((champion, challenger)):
        if progress is not None:
            progress(place / 2, f"version {one.version}")
        settings = {"trees": dict(one.trees), "levels": one.levels, "seed": one.seed}
        found.append(run_cell(test, cell, settings))
    old, new = found
    return {**names, **verdict_of(old, new, test.log.submit_s)}


def judged(
    log: ReplayLog, champion: Record, challenger: Record, *, dispatcher: str = "planner"
) -> dict[str, Any]:
    """Judge two models by what they forecast at submission, as ``contest`` does.

    Parameters
    ----------
    log : ReplayLog
        Jobs that none of the two knew the end of when it forecast them.
    champion, challenger : Record
    dispatcher : str

    Returns
    -------
    dict
        Of ``verdict_of``.
    """
    test = Backtest(log.name, log, pd.DataFrame(), 0, (), "", has_requests=True)
    cell = Cell(dispatcher, Estimate("model"))
    old, new = (run_cell(test, cell, records=[record]) for record in (champion, challenger))
    return verdict_of(old, new, log.submit_s)


def verdict_of(old: Mapping[str, Any], new: Mapping[str, Any], submit_s: Any) -> dict[str, Any]:
    """Whether the second of two replays is better beyond chance; see ``contest``.

    Parameters
    ----------
    old, new : mapping
        Of ``run_cell``.
    submit_s : array, shape (n,)
    """
    difference = new["_slowdown"] - old["_slowdown"]
    low, high = weekly_interval(difference, submit_s)
    mean = float(difference.mean())
    late = (new["late_share"] or 0.0) - (old["late_share"] or 0.0)
    better, keeps = high < 0, late <= 0.001
    why = f"mean bounded slowdown {old['bsld_mean']:.2f} -> {new['bsld_mean']:.2f}, difference "
    why += f"{mean:+.2f} (95% {low:+.2f} to {high:+.2f} over weeks): "
    if better and keeps:
        why += "better beyond chance"
    elif better:
        why += f"better, but {100 * late:.2f} points more starts come later than promised"
    elif low > 0:
        why += "worse beyond chance"
    else:
        why += "no difference that chance would not make"
    return {
        "promoted": better and keeps,
        "why": why,
        "bsld_mean": {"champion": old["bsld_mean"], "challenger": new["bsld_mean"]},
        "late_share": {"champion": old["late_share"], "challenger": new["late_share"]},
        "difference": mean,
        "difference_ci": [low, high],
    }

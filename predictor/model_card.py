"""What a model's card says of the log that it learned from."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.censoring import CENSORED
from plancast.predictor.model_files import data_digest
from plancast.predictor.schema import OUTCOMES
from plancast.predictor.state.history import History
from plancast.wording import counted


def card_of_log(
    jobs: pd.DataFrame,
    attrs: Mapping[Any, Any],
    usable: NDArray[np.bool_],
    history: History,
    grace_s: float,
) -> dict[str, Any]:
    """What a log is, and what to know before trusting a model of it.

    Parameters
    ----------
    jobs : DataFrame
        Canonical.
    attrs : mapping
        Of the log as it was read.
    usable : array of bool, shape (n,)
        The rows that may train.
    history : History
        That has seen the log.
    grace_s : float
        How long after its request a job may run, seconds.
    """
    submit, outcomes = jobs["submit_s"].to_numpy(np.float64), jobs["outcome"].to_numpy()
    return {
        "training_window_s": [float(submit[0]), float(submit[-1])],
        "data": {
            "rows": len(jobs),
            "submitted_from_s": float(submit[0]),
            "submitted_until_s": float(submit[-1]),
            "sha256": data_digest(jobs),
            "attrs": _plain(dict(attrs)),
        },
        "counts": {
            "outcomes": {name: int((outcomes == name).sum()) for name in OUTCOMES},
            "excluded_from_training": int((~usable).sum()),
            "excluded_from_history": history.excluded,
            "censored_in_history": history.censored,
            "ended_in_history": len(history),
        },
        "known_weaknesses": _weaknesses(jobs, usable, grace_s),
        "versions": _versions(),
    }


def _weaknesses(jobs: pd.DataFrame, usable: NDArray[np.bool_], grace_s: float) -> list[str]:
    """What a reader of the card should know before trusting the model, one sentence each."""
    said = []
    users = set(jobs["user"]) - {""}
    if not users:
        said.append("The log names no users: jobs are distinguished by queue, size and time alone.")
    if not (jobs["requested_s"] > 0).any():
        said.append("No requested times are known: no kill limit caps a quantile.")
    elif not math.isfinite(grace_s):
        said.append("Jobs of this log run past their requested time, which caps nothing.")
    if jobs["start_s"][usable].isna().any():
        said.append("Some starts are unknown: their jobs count as started when submitted.")
    cut = np.isin(jobs["outcome"].to_numpy()[usable].astype(str), CENSORED).mean()
    if cut > 0.01:
        said.append(
            f"{cut:.0%} of the runs were cut short (timeout, cancelled) and count as "
            "they ran: the model forecasts how long a job holds its machine, not what it needs."
        )
    said.append("A burst submitted at once shares one error: coverage holds over days, not within.")
    return said


def _plain(value: Any) -> Any:
    """Attributes of a log (its terms, whom to acknowledge) as JSON values."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _versions() -> dict[str, str]:
    """Of Python and of the packages that a model depends on."""
    result = {"python": platform.python_version()}
    for package in ("plancast", "numpy", "pandas", "lightgbm"):
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = "not installed"
    return result


def card_html(card: Mapping[str, Any]) -> str:
    """What a model learned from, for a notebook."""
    if not card:
        return "<div><b>Run-time model</b><div>has learned nothing yet; call fit</div></div>"
    counts, data = card["counts"], card["data"]
    levels = ", ".join(f"{100 * level:g}%" for level in card["levels"])
    lines = [
        f"learned from {counts['trained']:,} of {counted(data['rows'], 'job')}, calibrated on "
        f"{counts['calibrated']:,}; quantiles at {levels}",
        *card["known_weaknesses"],
    ]
    if found := card["metrics_before_correction"]:
        lines.append(
            f"on the last stretch of the log, before it was calibrated there: half of the medians "
            f"within a factor of {2 ** found['median_abs_log2']:.2f}, "
            f"{found['within_2x']:.0%} within 2"
        )
    said = "".join(f"<div>{escape(line)}</div>" for line in lines)
    return f"<div><b>Run-time model</b>{said}</div>"

"""``plancast advise``: which time limits to request, and what they would be worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

from plancast.pipelines.backtest.backtest import open_backtest
from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.operators.months import months_of
from plancast.pipelines.results import card
from plancast.pipelines.stages.ingest import AS_IT_IS
from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.metrics import weekly_interval
from plancast.planner.worlds.replay import Replay, ReplayLog, replay
from plancast.predictor.limits import GROUP, Limits, LimitSettings, advise_limits, rule_limits

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RISKS: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05)
"""Risks of the curve."""

SHOWN_GROUPS = 10
DISPATCHER_NAMES = ("easy", "easy-sjbf")
SURE = 0.99
"""How sure a month's test is, all months together."""


@dataclass(frozen=True)
class Advice:
    """All that is found of a log's limits.

    Parameters
    ----------
    facts : dict
        The report, JSON values.
    groups : DataFrame
        A row a group: its next job's limit and chance, and what limits saved it, most first.
    """

    facts: dict[str, Any]
    groups: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """The groups."""
        return self.groups

    def _repr_html_(self) -> str:
        first = self.groups.head(SHOWN_GROUPS).to_html(index=False)
        return card(f"Advice for {self.facts['log']}", [self.facts["verdict"]], first)


@dataclass(frozen=True)
class _Jobs:
    """What limits are judged by: arrays over the jobs, seconds and processors."""

    submit: Floats
    run: Floats
    request: Floats
    width: Floats
    finishing: NDArray[np.bool_]
    month: NDArray[Any]

    def cut(self, limit: Floats) -> NDArray[np.bool_]:
        """Which jobs would have finished within their requests, and are cut."""
        return np.asarray(self.finishing & (self.run > limit), dtype=bool)

    def share(self, limit: Floats) -> float:
        """Share of the finishing jobs that are cut."""
        return float(self.cut(limit).sum() / max(int(self.finishing.sum()), 1))

    def lowered(self, limit: Floats) -> int:
        """How many finishing jobs have a limit below their request."""
        return int((self.finishing & (limit < self.request)).sum())

    def excess_h(self, limit: Floats) -> float:
        """``sum (limit - run) x processors`` over finishing jobs that are not cut, core-hours."""
        unused = np.maximum(limit - self.run, 0.0) * self.width
        return float(unused[self.finishing].sum() / 3600.0)

    def lost_h(self, limit: Floats) -> float:
        """Core-hours of the runs that are cut."""
        return float((limit * self.width)[self.cut(limit)].sum() / 3600.0)


def advise(
    path: str | Path | pd.DataFrame,
    *,
    risk: float = 0.01,
    worst: float = LimitSettings.worst,
    dispatchers: Sequence[str] = DISPATCHER_NAMES,
    reading: Reading = AS_IT_IS,
    procs: int | None = None,
    window: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Advice:
    """Advise time limits for a log, and say what they would have been worth.

    Parameters
    ----------
    path : path-like or DataFrame
        A log in any form that ingest takes, or a canonical one; it must name requested times.
    risk : float
        Promised share of the finishing jobs that limits cut, in (0, 0.5].
    worst : float
        Greatest chance to be cut that any one job is given, in (0, 1).
    dispatchers : sequence of str
        Disciplines of the replays; the first one's stands under ``replay``.
    reading, procs, window
        As of ``open_backtest``.
    progress : callable, optional
        Called with what is being done.

    Raises
    ------
    BadRequest
        Where the risk is impossible, or the log names no requested times.
    """
    tell = progress or (lambda text: None)
    if not 0 < risk <= 0.5:
        raise BadRequest(f"--risk {risk:g}: write a share above 0 and at most 0.5, as in 0.01")
    if not 0 < worst < 1:
        raise BadRequest(f"--worst {worst:g}: write a chance above 0 and below 1, as in 0.2")
    for name in dispatchers:
        if name not in DISPATCHERS or DISPATCHERS[name].estimates:
            raise BadRequest(f"--dispatcher {name!r}: name a discipline that reserves by requests")
    test = open_backtest(path, reading=reading, procs=procs, window=window)
    if not test.has_requests:
        raise BadRequest(
            f"{test.log.name}: names no requested times, so there is no limit to lower"
        )
    # Every job must have a limit; of those without a request nothing is judged.
    frame = test.jobs.assign(requested_s=_whole_requests(test.jobs))
    part = slice(test.before, None)
    jobs = _judged(frame, test.jobs, part)
    if not jobs.finishing.any():
        raise BadRequest(f"{test.log.name}: no job finished within its request; nothing to judge")
    found: dict[float, Limits] = {}
    for level in sorted({risk, *RISKS}):
        tell(f"limits at {100 * level:g}%")
        found[level] = advise_limits(frame, level, LimitSettings(worst=worst))
    tell("rules")
    rules = {name: limits[part] for name, limits in rule_limits(frame).items()}
    asked = found[risk].limit_s[part]
    best = _best_rule(jobs, rules, risk)
    facts: dict[str, Any] = {
        "log": test.name,
        "source": test.log.name,
        "risk": risk,
        "worst": worst,
        "jobs": len(jobs.run),
        "finishing_jobs": int(jobs.finishing.sum()),
        "lowered_share": jobs.lowered(asked) / int(jobs.finishing.sum()),
        "cut_share": jobs.share(asked),
        "lowered_cut_share": int(jobs.cut(asked).sum()) / max(jobs.lowered(asked), 1),
        **_months(jobs, asked, risk),
        "curve": [_point(jobs, rules, level, found[level].limit_s[part]) for level in RISKS],
        "excess_core_h": {
            "user": jobs.excess_h(jobs.request),
            "best_rule": best["excess_core_h"],
            "advised": jobs.excess_h(asked),
        },
        "lost_core_h": jobs.lost_h(asked),
        "best_rule": best,
    }
    log = test.log.cut_to_request()
    replays = []
    for name in dispatchers:
        tell(f"replay under {name}")
        replays.append(_replays(log, name, asked, jobs.finishing))
    facts["replay"], facts["replays"] = (replays[0] if replays else None), replays
    facts["verdict"] = verdict(facts)
    return Advice(facts, _groups(frame[part], jobs, found[risk], part))


def _whole_requests(jobs: pd.DataFrame) -> Floats:
    # Whole seconds, as the replay counts them.
    return np.asarray(np.ceil(jobs["requested_s"].to_numpy(np.float64)), dtype=np.float64)


def _judged(frame: pd.DataFrame, original: pd.DataFrame, part: slice) -> _Jobs:
    run, request, submit = (
        frame[name].to_numpy(np.float64)[part] for name in ("run_s", "requested_s", "submit_s")
    )
    width = original["cpus"].to_numpy(np.float64)[part]
    width = np.where(width > 0, width, 1.0)
    finishing = (run > 0) & (run <= request)
    return _Jobs(submit, run, request, width, finishing, months_of(submit))


def _months(jobs: _Jobs, limit: Floats, risk: float) -> dict[str, Any]:
    """Cut shares by month, and whether an exact binomial test holds the promise in each.

    Bonferroni: a month of m breaks the promise where so many cuts or more had a probability
    below ``(1 - SURE) / m`` if each finishing job were cut with the promised risk.
    """
    cut = jobs.cut(limit)
    months = np.unique(jobs.month[jobs.finishing])
    shares, broken = {}, []
    for name in months.tolist():
        inside = jobs.finishing & (jobs.month == name)
        count, cuts = int(inside.sum()), int((cut & inside).sum())
        shares[name] = cuts / count
        if binom.sf(cuts - 1, count, risk) < (1 - SURE) / len(months):
            broken.append(name)
    return {"cut_share_by_month": shares, "months_broken": broken, "promise_kept": not broken}


def _point(jobs: _Jobs, rules: dict[str, Floats], risk: float, limit: Floats) -> dict[str, Any]:
    return {
        "risk": risk,
        "cut_share": jobs.share(limit),
        "excess_core_h": jobs.excess_h(limit),
        "lost_core_h": jobs.lost_h(limit),
        "promise_kept": _months(jobs, limit, risk)["promise_kept"],
        "best_rule": _best_rule(jobs, rules, risk),
    }


def _best_rule(jobs: _Jobs, rules: dict[str, Floats], risk: float) -> dict[str, Any]:
    """The rule with the least excess among those that cut no more than the risk.

    It is chosen in hindsight on the very jobs that are judged, which favours the rule.
    """
    best: dict[str, Any] = {
        "name": "request",
        "cut_share": 0.0,
        "excess_core_h": jobs.excess_h(jobs.request),
    }
    for name, limit in rules.items():
        share, excess = jobs.share(limit), jobs.excess_h(limit)
        if share <= risk and excess < best["excess_core_h"]:
            best = {"name": name, "cut_share": share, "excess_core_h": excess}
    best["lost_core_h"] = jobs.lost_h(rules.get(best["name"], jobs.request))
    return best


# -- replays ---------------------------------------------------------------------------------


def _replays(
    log: ReplayLog, name: str, advised: Floats, finishing: NDArray[np.bool_]
) -> dict[str, Any]:
    """Waits under a discipline with users' limits, the advised and perfect ones."""
    requested = log.requested_s
    # A job without a request keeps the kill limit that the replay gives it.
    limit = np.where(np.isfinite(advised), np.ceil(advised), requested)
    perfect = np.where(finishing, np.clip(log.run_s, 1, requested), requested)
    limits = {
        "user": requested,
        "advised": np.clip(limit, 1, requested).astype(np.int64),
        "perfect": perfect.astype(np.int64),
    }
    runs = {k: replay(log, DISPATCHERS[name], limits=v) for k, v in limits.items()}
    waits = {k: wait_min(run) for k, run in runs.items()}
    result: dict[str, Any] = {
        "dispatcher": name,
        "wait_mean_min": {k: float(v.mean()) for k, v in waits.items()},
        "lost_core_h": float((runs["advised"].lost_s * log.width).sum() / 3600.0),
    }
    for kind in ("advised", "perfect"):
        difference = waits[kind] - waits["user"]
        low, high = weekly_interval(difference, log.submit_s)
        mean = float(difference.mean())
        result[f"{kind}_against_user"] = {"mean": mean, "lo": low, "hi": high}
    return result


def wait_min(replayed: Replay) -> Floats:
    """Last start less first submission less lost run, minutes, shape (n,)."""
    seconds = replayed.start_s - replayed.log.submit_s - replayed.lost_s
    return np.asarray(seconds / 60.0, dtype=np.float64)


# -- in words --------------------------------------------------------------------------------


def verdict(facts: dict[str, Any]) -> str:
    """What the figures say, in a few sentences."""
    excess, lost = facts["excess_core_h"], facts["lost_core_h"]
    saved = 1.0 - excess["advised"] / excess["user"] if excess["user"] else 0.0
    net = saved - lost / excess["user"] if excess["user"] else 0.0
    said = [
        f"At a risk of {100 * facts['risk']:g}% the advised limits cut "
        f"{facts['cut_share']:.2%} of the jobs that would have finished"
        + (
            ", and keep the promise in every month."
            if facts["promise_kept"]
            else f"; the promise is broken in {', '.join(facts['months_broken'])}."
        )
    ]
    if net <= 0.01:
        said.append(
            "Nothing is to be won in requested hours: what the limits free is lost again in cut "
            "runs."
        )
    else:
        said.append(
            f"They free {saved:.0%} of the {excess['user']:,.0f} core-hours that requests "
            f"hold beyond the runs ({net:.0%} after the runs that are cut), by lowering "
            f"{facts['lowered_share']:.0%} of the requests."
        )
    if facts["lowered_cut_share"] > 0.2:
        said.append(
            f"{facts['lowered_cut_share']:.0%} of the lowered jobs are cut: such limits "
            "are probes, for sites where a job that is cut is submitted again at once; --worst "
            "bounds each job's chance."
        )
    said += [_waits_said(found) for found in facts["replays"]]
    return " ".join(said)


def _waits_said(found: dict[str, Any]) -> str:
    advised, perfect = found["advised_against_user"], found["perfect_against_user"]
    interval = f"{advised['mean']:+.1f} min [{advised['lo']:+.1f}, {advised['hi']:+.1f}]"
    name = found["dispatcher"]
    if advised["hi"] < 0:
        return f"Mean waits under {name} fall: {interval}."
    if advised["lo"] > 0:
        return f"Mean waits under {name} rise: {interval}; do not lower limits for their sake."
    limit = f"{perfect['mean']:+.1f} min [{perfect['lo']:+.1f}, {perfect['hi']:+.1f}]"
    return (
        f"For waits under {name} nothing is to be won for certain: {interval}; limits that knew "
        f"every run time would change them by {limit}."
    )


def _groups(frame: pd.DataFrame, jobs: _Jobs, limits: Limits, part: slice) -> pd.DataFrame:
    """Each group's limit from now on, and what limits would have saved it, most first."""
    limit = limits.limit_s[part]
    unused = (jobs.request - jobs.run) - np.maximum(limit - jobs.run, 0.0)
    cut = jobs.cut(limit)
    saved = np.where(jobs.finishing, unused, 0.0) - np.where(cut, limit, 0.0)
    keys = [frame[name].fillna(-1.0) if name in ("requested_s", "cpus") else frame[name]
            for name in GROUP]  # fmt: skip
    found = pd.DataFrame(
        {
            "jobs": 1,
            "cut": cut.astype(np.int64),
            "saved_core_h": saved * jobs.width / 3600.0,
            **{name: key.to_numpy() for name, key in zip(GROUP, keys, strict=True)},
        }
    )
    sums = found.groupby(list(GROUP), sort=False).sum().reset_index()
    table = limits.groups.assign(
        **{n: limits.groups[n].fillna(-1.0) for n in ("requested_s", "cpus")}
    )
    result = table.merge(sums, on=list(GROUP), how="inner")
    return result.sort_values("saved_core_h", ascending=False, kind="stable", ignore_index=True)


# -- for Slurm -------------------------------------------------------------------------------


def slurm_time(seconds: float) -> str:
    """A limit as ``--time`` takes it: ``[days-]hours:minutes:00``, rounded up to minutes."""
    minutes = int(np.ceil(seconds / 60.0))
    days, rest = divmod(minutes, 1440)
    clock = f"{rest // 60:02d}:{rest % 60:02d}:00"
    return f"{days}-{clock}" if days else clock


def slurm_text(advice: Advice) -> str:
    """``--time`` lines for people, and a table for ``job_submit.lua``, as one text.

    Only groups whose limit is lowered; minutes, as Slurm counts limits.
    """
    facts, lowered = advice.facts, advice.groups
    lowered = lowered[lowered["limit_s"] < lowered["requested_s"]]
    lines = [
        f"-- Limits advised for {facts['log']} at a risk of {100 * facts['risk']:g}%.",
        f"-- {facts['verdict']}",
        "-- For people:",
    ]
    for row in lowered.to_dict("records"):
        where = f" queue {row['queue']}" if row["queue"] else ""
        what = f" {row['app']}" if row["app"] else ""
        lines.append(
            f"--   user {_plain(row['user'])}{_plain(where)}{_plain(what)}, {row['cpus']:g} "
            f"processors, instead of --time={slurm_time(row['requested_s'])}: "
            f"--time={slurm_time(row['limit_s'])} (chance to be cut {row['chance']:.1%})"
        )
    lines += [
        "",
        "-- For job_submit.lua: user / processors / queue / job name / requested minutes.",
        "local plancast_limits = {",
    ]
    for row in lowered.to_dict("records"):
        minutes = int(np.ceil(row["requested_s"] / 60.0))
        key = f"{row['user']}/{row['cpus']:g}/{row['queue']}/{row['app']}/{minutes}"
        lines.append(f"  [{_lua(key)}] = {int(np.ceil(row['limit_s'] / 60.0))},")
    lines += ["}", "return plancast_limits", ""]
    return "\n".join(lines)


def _plain(text: Any) -> str:
    """A name without anything that could end the comment it stands in."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def _lua(text: str) -> str:
    """A text as a quoted string of Lua."""
    escaped = "".join(
        c if c.isascii() and c.isprintable() and c not in '"\\' else
        "".join(f"\\{byte:03d}" for byte in c.encode("utf-8"))
        for c in text
    )  # fmt: skip
    return f'"{escaped}"'

"""What a pipeline run found, in words: three sentences, what to do next, how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Facts = Mapping[str, Any]

MODEL, REQUESTED = "model_p50", "requested"
RESAMPLES = 2000

WAYS = {
    "requested": "requested times",
    "last_two": "last two runs",
    "last_same": "last similar run",
    "app_median": "program's median",
    "p50": "model's median",
    "p80": "model's 80% quantile",
    "scenarios": "model's scenarios",
}
"""What a way of planning goes by, in people's words."""


@dataclass(frozen=True)
class Verdict:
    """What stands at the top of a report.

    Parameters
    ----------
    sentences : tuple of str
        Three: what the forecasts are like, what they change in plans, what is left to win.
    next_steps : tuple of str
        What to do; commands between backquotes.
    how_sure : tuple of str
    """

    sentences: tuple[str, str, str]
    next_steps: tuple[str, ...]
    how_sure: tuple[str, ...]


def verdict_of(
    name: str, train: Facts, trial: Facts, worth: Facts, log: str, model: str
) -> Verdict:
    """The verdict of a run.

    Parameters
    ----------
    name : str
        Of the log.
    train, trial, worth : mapping
        Facts of these stages.
    log, model : str
        Paths of the log and of the model, for the commands to go on with.
    """
    sentences = (_forecasts(train), _plans(trial, worth), _left(trial, worth))
    return Verdict(sentences, _next(trial, worth, log, model), _sure(train, trial, worth))


def way_name(way: str) -> str:
    """A way of planning in people's words: ``closed_p80`` and the like."""
    special = {
        "oracle": "true run times",
        "strong_oracle": "true run times, long search",
        "oracle_order": "order of true run times",
        "auto": "plancast's choice (auto)",
        "closed_best_rule": "best rule, replanned",
        "closed_scenarios_told_early_ends": "scenarios and early ends",
    }
    kind, _, source = way.partition("_")
    plain = WAYS.get(source, source) + (", replanned" if kind == "closed" else "")
    return special.get(way, plain)


def kind_name(kind: str) -> str:
    """A kind of estimate in people's words: ``model_p80`` and the like."""
    return (
        "the model's median"
        if kind == MODEL
        else WAYS.get(
            kind, f"the model's {kind.rpartition('_p')[2]}% quantile" if "_p" in kind else kind
        )
    )


def change(share: float, *, digits: int = 1) -> str:
    """A difference of costs in words."""
    size = f"{abs(share):.{digits}%}"
    if float(size.rstrip("%")) == 0:
        return "as much"
    return f"{size} {'less' if share < 0 else 'more'}"


def interval(low: float, high: float) -> str:
    """A 95% interval of a difference of costs."""
    return f"95%: {low:+.1%} to {high:+.1%}"


def tied(trial: Facts, seed: int = 0) -> set[str]:
    """Kinds of estimate whose plans the trial cannot tell from the cheapest ones.

    Notes
    -----
    A paired bootstrap over the batches of the difference of realised costs; the oracle is no
    contestant.
    """
    kinds = [kind for kind in trial["kinds"] if kind != "oracle"]
    cost = {k: np.array([row[k]["realised"] for row in trial["rows"]]) for k in kinds}
    best = min(kinds, key=lambda kind: float(cost[kind].sum()))
    draws = np.random.default_rng(seed).integers(0, len(cost[best]), (RESAMPLES, len(cost[best])))
    result = {best}
    for kind in kinds:
        low = np.quantile((cost[kind] - cost[best])[draws].sum(axis=1), 0.025)
        if low <= 0:
            result.add(kind)
    return result


def _forecasts(train: Facts) -> str:
    found = train["estimators"]
    model, asked = found["model"], found.get(REQUESTED)
    sentence = (
        f"Half of {train['scored_jobs']:,} later jobs are forecast within a factor of "
        f"{2 ** model['median_abs_log2']:.2f} of their run time"
    )
    if asked is not None and np.isfinite(asked["median_abs_log2"]):
        sentence += f" (by requested times: {2 ** asked['median_abs_log2']:.2f})"
    if "coverage_p90" in model:
        sentence += f", and {model['coverage_p90']:.1%} ended by their 90% quantile"
    return sentence + "."


def _plans(trial: Facts, worth: Facts) -> str:
    if worth["queues"]:
        auto = worth["auto_against_best_rule"]
        return (
            f"On {worth['n']} queues of this log, plans made the way plancast chooses "
            f"(by {way_name(worth['chosen_by_auto']['usual'])}) cost {change(auto['mean'])} than "
            f"those by the best simple rule ({interval(auto['lo'], auto['hi'])})."
        ).replace("as much than", "as much as")
    if trial["batches_that_wait"] == 0:
        return (
            "Nothing waits in this log, neither as jobs arrived nor in whole batches, "
            "so that every plan is alike."
        )
    model = trial["kinds"][MODEL]
    words = change(model["against_requested"])
    return (
        "As jobs arrived, three or more seldom queued at once; planned in whole batches of "
        f"{trial['batch_size']} they cost {words} with the model's median than with requested "
        f"times ({interval(*model['against_requested_ci'])})."
    ).replace("as much with the model's median than", "as much with the model's median as")


def _left(trial: Facts, worth: Facts) -> str:
    if worth["queues"]:
        exact, perfect = worth["attainable_by_calibrated"], worth["oracle_against_baseline"]
        sentence = (
            f"Perfect forecasts would save {max(0.0, -perfect):.1%}, exactly calibrated "
            f"ones of this kind {max(0.0, -exact['mean']):.1%}"
        )
        waits = worth.get("replays") or []
        if len(waits) >= 3:
            before, after = waits[0]["mean_wait_s"], waits[2]["mean_wait_s"]
            sentence += (
                f"; with the forecasts in backfilling the mean wait goes from {_time(before)} "
                f"to {_time(after)}"
            )
        return sentence + "."
    if trial["batches_that_wait"] == 0:
        return "A plan could win something only where jobs have to wait for one another."
    regret = trial["kinds"][MODEL]["regret"]
    saved = regret / (1 + regret)
    return f"Plans that know every run time would cost {saved:.1%} less than these."


def _next(trial: Facts, worth: Facts, log: str, model: str) -> tuple[str, ...]:
    steps = []
    best = sorted(tied(trial)) if trial["batches_that_wait"] else []
    model_ties = any(kind.startswith("model") for kind in best)
    if worth["queues"]:
        usual = worth["chosen_by_auto"]["usual"]
        by = "" if usual.endswith("requested") else f" --model {model}"
        anew = " whenever a task ends or arrives (`plancast master` does so)"
        steps.append(f"Plan by {WAYS.get(usual.partition('_')[2], usual)}"
                     f"{anew if usual.startswith('closed') else ''}: "
                     f"`plancast plan --tasks TASKS --cluster CLUSTER{by}`.")  # fmt: skip
    elif best and model_ties:
        steps.append(f"Plan batches with the model: `plancast plan --tasks TASKS --cluster "
                     f"CLUSTER --model {model}`.")  # fmt: skip
    elif best:
        steps.append("Go on planning by requested times: in batches of this log no forecast beats "
                     "them yet.")  # fmt: skip
    steps.append(f"See what tighter limits would free: `plancast advise {log}`.")
    if not worth["queues"]:
        steps.append("If the machine is smaller than the log says, give its size to `plancast "
                     "worth --procs`: then jobs queue, and plans can win.")  # fmt: skip
    return tuple(steps)


def _sure(train: Facts, trial: Facts, worth: Facts) -> tuple[str, ...]:
    said = []
    if worth["queues"]:
        auto, own = worth["auto_against_best_rule"], worth["closed_scenarios_against_closed_first"]
        said.append(f"The saving is {_proof(auto)} on {worth['n']} queues"
                    f"{_more(auto, worth['n'])}.")  # fmt: skip
        said.append(f"The forecasts' own part in it, {own['mean']:+.1%} "
                    f"({interval(own['lo'], own['hi'])}), is {_proof(own)}.")  # fmt: skip
    if trial["batches_that_wait"]:
        names = [kind_name(kind) for kind in sorted(tied(trial))]
        found = (
            f"{' and '.join(names)} are tied: the difference is within chance"
            if len(names) > 1
            else f"{names[0]} are cheapest, beyond chance"
        )
        said.append(f"In {trial['batches']} whole batches plans by {found}.")
    learned, judged = train["train_jobs"], train["scored_jobs"]
    said.append(
        f"One log, one split in time: learned from {learned:,} jobs, judged on {judged:,} later."
    )
    return tuple(said)


def _proof(found: Facts) -> str:
    if found["hi"] < 0:
        return "beyond chance (95%)"
    return "a loss beyond chance (95%)" if found["lo"] > 0 else "not proven: it may be chance"


def _more(found: Facts, n: int) -> str:
    """How many more batches would be needed, where the interval holds 0."""
    if found["hi"] < 0 or found["lo"] > 0 or not found["mean"]:
        return ""
    needed = n * ((found["hi"] - found["lo"]) / 2 / abs(found["mean"])) ** 2
    return f"; about {needed:,.0f} would be needed to tell" if needed < 100 * n else ""


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def priced_terms(trial: Facts, prices: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Price times mean amount of each term, for each kind of estimate."""
    return {
        kind: {term: prices[term] * amount for term, amount in found["terms"].items()}
        for kind, found in trial["kinds"].items()
    }


def batch_regrets(trial: Facts) -> list[dict[str, float]]:
    """Regret of each kind in each batch; batches that cost nothing with true times left out."""
    rows: Sequence[Facts] = trial["rows"]
    return [
        {k: row[k]["realised"] / row["oracle"]["realised"] - 1 for k in row if k != "oracle"}
        for row in rows
        if row["oracle"]["realised"] > 0
    ]

"""What a pipeline run found, in words: three sentences, what to do next, how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plancast.pipelines.inputs.past_plans import LEAST_PAST, USUAL

Facts = Mapping[str, Any]

MODEL, REQUESTED = "model_p50", "requested"
RESAMPLES = 2000

WORDS = {
    "quantile": "The 90% quantile of a forecast is the time by which 90 of 100 such jobs have "
    "ended; the median is the 50% quantile.",
    "requested times": "The time limits that users gave: what planners go by without forecasts.",
    "last two, last similar": "Rules of thumb: the mean of a user's last two run times; the last "
    "run of a job like this one.",
    "scenarios": "Plans priced over several levels of all forecasts at once, from short to long.",
    "replanned": "The order is searched anew whenever a task ends; other plans keep their order.",
    "EASY backfilling": "Small jobs overtake where, by the times that are believed, they delay "
    "nobody at the head of the queue.",
    "regret": "Cost above that of plans that know every run time (oracle).",
    "95%: from .. to ..": "Where the true difference lies, but for chance; an interval that holds "
    "0 proves nothing.",
}
"""Words of a report that not everybody knows."""

WAYS = {
    "requested": "requested times",
    "oracle": "true run times",
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
        "oracle": WAYS["oracle"],
        "strong_oracle": "true run times, long search",
        "oracle_order": "order of true run times",
        "auto": "plancast's choice (auto)",
        "closed_best_rule": "best rule, replanned",
        "closed_scenarios_known_early_ends": "scenarios and early ends",
    }
    kind, _, source = way.partition("_")
    plain = WAYS.get(source, source) + (", replanned" if kind == "closed" else "")
    return special.get(way, plain)


def _the(name: str) -> str:
    """A way's name within a sentence."""
    return name if name.endswith("times") else f"the {name}"


def kind_name(kind: str) -> str:
    """A kind of estimate in people's words: ``model_p80`` and the like."""
    return (
        "the model's median"
        if kind == MODEL
        else WAYS.get(
            kind, f"the model's {kind.rpartition('_p')[2]}% quantile" if "_p" in kind else kind
        )
    )


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def change_from(share: float, other: str) -> str:
    """A difference of costs in words: "5.0% less than ..." or "as much as ..."."""
    size = f"{abs(share):.1%}"
    if float(size.rstrip("%")) == 0:
        return f"as much as {other}"
    return f"{size} {'less' if share < 0 else 'more'} than {other}"


def interval(low: float, high: float) -> str:
    """A 95% interval of a difference of costs."""
    return f"95%: {low:+.1%} to {high:+.1%}"


@dataclass(frozen=True)
class Saving:
    """The difference of costs that a report speaks of.

    Parameters
    ----------
    plans, against : str
        Of which plans to which others.
    found : mapping
        Its ``mean``, ``lo`` and ``hi``.
    """

    plans: str
    against: str
    found: Facts

    def __str__(self) -> str:
        mean, low, high = (self.found[key] for key in ("mean", "lo", "hi"))
        return f"{self.plans} cost {change_from(mean, self.against)} ({interval(low, high)})"


def chooses(worth: Facts) -> bool:
    """Whether there are enough queues for plancast to choose a way by those before."""
    return len(worth["earlier"]["ended_s"]) + int(worth["n"]) > LEAST_PAST


def saving_of(worth: Facts) -> Saving:
    """Of the way that plancast chooses, or of the model's where too few queues are known."""
    if chooses(worth):
        usual, found = worth["chosen_by_auto"]["usual"], worth["auto_against_best_rule"]
        plans = f"plans made the way plancast chooses (by {_the(way_name(usual))})"
        return Saving(plans, "those by the best simple rule", found)
    against = f"plans by {_the(way_name(worth['baseline']))}"
    found = worth["policies"][USUAL]["against_baseline"]
    return Saving(f"plans by {_the(way_name(USUAL))},", against, found)


def _cheapest(trial: Facts, kinds: Sequence[str]) -> str:
    """The kind whose plans cost least in all batches together."""
    return min(kinds, key=lambda kind: sum(row[kind]["realised"] for row in trial["rows"]))


def tied(trial: Facts, seed: int = 0) -> set[str]:
    """Kinds of estimate whose plans the trial cannot tell from the cheapest ones.

    Notes
    -----
    A paired bootstrap over the batches of the difference of realised costs; the oracle is no
    contestant.
    """
    kinds = [kind for kind in trial["kinds"] if kind != "oracle"]
    cost = {k: np.array([row[k]["realised"] for row in trial["rows"]]) for k in kinds}
    best = _cheapest(trial, kinds)
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
        return f"On {worth['n']} queues of this log, {saving_of(worth)}."
    if trial["batches_that_wait"] == 0:
        return (
            "Nothing waits in this log, neither as jobs arrived nor in whole batches, "
            "so that every plan is alike."
        )
    model = trial["kinds"][MODEL]
    words = change_from(model["against_requested"], "with requested times")
    return (
        "As jobs arrived, three or more seldom queued at once; planned in whole batches of "
        f"{trial['batch_size']} with the model's median they cost {words} "
        f"({interval(*model['against_requested_ci'])})."
    )


def _left(trial: Facts, worth: Facts) -> str:
    if worth["queues"]:
        exact, perfect = worth["attainable_by_calibrated"], worth["oracle_against_baseline"]
        sentence = (
            f"Against plans by {_the(way_name(worth['baseline']))}, perfect forecasts would save "
            f"{max(0.0, -perfect):.1%}, forecasts of this kind whose quantiles hold exactly "
            f"{max(0.0, -exact['mean']):.1%}"
        )
        waits = worth.get("replays") or []
        if len(waits) >= 3:
            before, after = waits[0]["mean_wait_s"], waits[2]["mean_wait_s"]
            sentence += (
                f"; with the forecasts in backfilling the mean wait goes from "
                f"{_times(before, after)}"
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
        usual, given = worth["chosen_by_auto"]["usual"], f" --model {model}"
        own = worth["closed_scenarios_against_closed_first"]
        if not chooses(worth) and saving_of(worth).found["hi"] < 0 and own["mean"] < 0:
            usual, given = USUAL, f"{given} --source model"
        by = "" if usual.endswith("requested") else given
        anew = " whenever a task ends or arrives (`plancast master` does so)"
        steps.append(f"Plan by {_the(WAYS.get(usual.partition('_')[2], usual))}"
                     f"{anew if usual.startswith('closed') else ''}: "
                     f"`plancast plan --tasks TASKS --cluster CLUSTER{by}`.")  # fmt: skip
    elif model_ties and _cheapest(trial, best) == REQUESTED:
        steps.append("Go on planning by requested times: their plans cost less, if within chance, "
                     "than those by the model.")  # fmt: skip
    elif model_ties:
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
        saving, own = saving_of(worth).found, worth["closed_scenarios_against_closed_first"]
        said.append(f"The saving is {_proof(saving)} on {worth['n']} queues"
                    f"{_more(saving, worth['n'])}.")  # fmt: skip
        model, other = (
            f"plans by {_the(way_name(way).removesuffix(', replanned'))}"
            for way in (USUAL, worth["closed_first"])
        )
        said.append(f"The forecasts' own part: where both are replanned, {model} cost "
                    f"{change_from(own['mean'], other)} "
                    f"({interval(own['lo'], own['hi'])}), {_proof(own)}. The "
                    f"{'rest' if own['mean'] < 0 else 'saving'} comes from searching the order "
                    "anew.")  # fmt: skip
        if not chooses(worth):
            first = _the(way_name(worth["baseline"]))
            if worth["closed_first"] != "closed_requested":
                first = "the rule that has cost least"
            said.append(f"plancast itself chooses among ways once {LEAST_PAST} past queues are "
                        f"known; until then it plans by {first}.")  # fmt: skip
    if trial["batches_that_wait"]:
        names = [kind_name(kind) for kind in sorted(tied(trial))]
        found = (
            f"{listed(names)} are tied: the differences are within chance"
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


def _times(before_s: float, after_s: float) -> str:
    """From one length of time to another, in the unit that fits the longer."""
    longer_s = max(before_s, after_s)
    units = (("h", 3600, 1), ("min", 60, 0), ("s", 1, 0))
    unit, unit_s, digits = next((one for one in units if longer_s >= 2 * one[1]), units[-1])
    return f"{before_s / unit_s:.{digits}f} to {after_s / unit_s:.{digits}f} {unit}"


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

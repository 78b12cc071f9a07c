"""What forecasts are worth on one log: plans with and without them, executed with the truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from plancast.pipelines.inputs.config import name_of_log
from plancast.pipelines.inputs.past_plans import AUTO_WAYS, RESERVED, USUAL, PastPlans
from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.worth.auto import Choices, chosen, past_plans
from plancast.pipelines.worth.batches import (
    LEAST_BATCHES,
    Backlog,
    Stretch,
    cut,
    has_waits,
    moments,
    stretch_of,
)
from plancast.pipelines.worth.calibrated import coverage, drawn, same_user_rho
from plancast.pipelines.worth.policies import (
    RULES,
    Batch,
    Way,
    app_medians,
    batch_of,
    carried_out,
    planned,
    unavoidable,
    ways,
)
from plancast.planner.model.domain import BadRequest, Policy
from plancast.predictor import ESTIMATORS, RuntimePredictor, split_by_share
from plancast.predictor.schema import check_log, machine_size, replayed_ends, stated_size

Floats = NDArray[np.float64]

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""What the model learns: enough of them to draw truths from."""
SHARE = 0.7
DRAWS, LEAST_DRAWS, FULL_QUEUE = 20, 4, 60
"""Truths drawn for a batch; fewer where more jobs than the last wait on average, as an execution
takes the longer with their square."""
DRAWN_BATCHES = 20
"""Batches in which truths are drawn, evenly over all."""
LEAST_DRAWN, DRAWN_JOBS = 5, 200
"""No fewer than so many of them, else so few that about so many jobs wait in them together."""
RESAMPLES = 2000
FIRST = ("requested", "last_same", "last_two", "app_median")
"""Of the first of these that a log has ``auto`` takes the closed plans until its past tells."""
CALIBRATED = ("closed_requested", "closed_best_rule", "closed_p80", "closed_scenarios")
"""Ways carried out in drawn truths, besides the baseline and what ``auto`` takes."""

PAST_BATCHES = 20
"""Batches of the training rows that ``auto`` knows at the first one."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Material:
    """A log cut into training rows and batches, before anything is learned.

    Parameters
    ----------
    name : str
    train : DataFrame
    stretch : Stretch
    backlogs : list of Backlog
    before : Material, optional
        The training rows cut once more: the past that ``auto`` knows at the first batch.
    """

    name: str
    train: pd.DataFrame
    stretch: Stretch
    backlogs: list[Backlog]
    before: Material | None = None

    @property
    def queues(self) -> bool:
        """Whether enough batches wait to say anything."""
        return len(self.backlogs) >= LEAST_BATCHES


def material_of(
    log: str, *, reading: Reading | None = None, procs: float | None = None, batches: int = 60
) -> Material:
    """Read a log and cut batches from its test stretch.

    Parameters
    ----------
    log : str
    reading : Reading, optional
    procs : float, optional
        Processors of the machine, where the log does not tell.
    batches : int
        Most of them.

    Raises
    ------
    BadLog, BadRequest
        Where the log cannot be read.
    """
    read = (reading or Reading()).read(log)
    check_log(read).raise_errors(read.attrs["source"])
    return material(
        name_of_log(log), replayed_ends(read), waits=has_waits(read), procs=procs, batches=batches
    )


def material(
    name: str, jobs: pd.DataFrame, *, waits: bool, procs: float | None, batches: int,
    share: float = SHARE,
) -> Material:  # fmt: skip
    """The same from a canonical log."""
    if procs is not None and procs < 1:
        raise BadRequest(f"--procs {procs:g}: must be 1 or more")

    def cut_again(jobs: pd.DataFrame, most: int) -> Material:
        split = split_by_share(jobs, share)
        train, test = (jobs.iloc[rows].reset_index(drop=True) for rows in (split.train, split.test))
        stretch = stretch_of(test, size, waits, stated=stated, sized=procs is not None)
        return Material(name, train, stretch, cut(stretch, most))

    size, stated = procs or machine_size(jobs), stated_size(jobs) is not None
    found = cut_again(jobs, batches)
    return replace(found, before=cut_again(found.train, min(batches, PAST_BATCHES)))


def batches_of(
    found: Material, model: RuntimePredictor, policy: Policy, tell: Progress | None = None
) -> list[Batch]:
    """The batches of a log with every estimate, each as of its backlog's moment."""
    stretch, as_of = found.stretch, moments(found.stretch, found.backlogs)
    points: dict[str, Floats] = {}
    for rule in RULES:
        if rule not in ESTIMATORS or (rule == "requested" and not stretch.has_requests):
            continue
        if tell is not None:
            tell(0.3, f"estimates of {rule}")
        made = ESTIMATORS[rule]((0.5,)).fit(found.train)
        points[rule] = _capped(made.forecast_log(stretch.jobs, as_of_s=as_of)[:, 0], stretch)
    if tell is not None:
        tell(0.32, "estimates of the model")
    quantiles = model.forecast_log(stretch.jobs, as_of_s=as_of)
    medians = app_medians(found.train, stretch.jobs)
    return [
        batch_of(stretch, backlog, medians, points, quantiles, model.levels, policy)
        for backlog in found.backlogs
    ]


def _capped(forecast_s: Floats, stretch: Stretch) -> Floats:
    limit = np.where(stretch.requested_s > 0, stretch.requested_s, np.inf)
    capped: Floats = np.maximum(1.0, np.minimum(np.nan_to_num(forecast_s, nan=60.0), limit))
    return capped


def worth(
    found: Material,
    model: RuntimePredictor | None = None,
    *,
    policy: Policy | None = None,
    seed: int = 0,
    tell: Progress | None = None,
    cells: MutableMapping[str, Any] | None = None,
    processes: int | None = None,
    draws: int | None = None,
) -> dict[str, Any]:
    """What forecasts are worth to the plans of one site.

    Parameters
    ----------
    found : Material
    model : RuntimePredictor, optional
        Trained on ``found.train``; by default one with ``LEVELS`` is.
    policy : Policy, optional
        Prices; the default ones without.
    seed : int
    tell : callable, optional
        Called with (share done, what is done).
    cells : mutable mapping of str, optional
        What single batches cost, as values of JSON: what is in it is not run again, what is found
        is put in. Of the same log, model, policy and seed.
    processes : int, optional
        Side by side; by default as many as there are cores, at most two.
    draws : int, optional
        Truths drawn for a batch at most; ``DRAWS`` by default.

    Returns
    -------
    dict
        As ``plancast worth --json`` writes it. Without queues only that, at once.
    """
    if not found.queues:
        return nothing_queues(found)
    if model is None:
        if tell is not None:
            tell(0.02, f"learning from {len(found.train):,} jobs")
        model = RuntimePredictor(LEVELS, seed=seed).fit(found.train)
    policy = policy or Policy()
    batches = batches_of(found, model, policy, tell)
    rules = [rule for rule in RULES if rule in batches[0].estimates]
    asked = ways(rules)
    work = _Work({} if cells is None else cells, processes or cores(), tell)
    costs = _all_costs(batches, asked, work)
    best = best_rule(costs, rules)
    baseline = "open_requested" if "requested" in rules else f"open_{best}"
    costs["closed_best_rule"] = costs[f"closed_{best}"]
    asked["closed_best_rule"] = asked[f"closed_{best}"]
    first = next(f"closed_{rule}" for rule in FIRST if rule in rules)
    earlier = _earlier(found, rules, policy, seed, work)
    choice = chosen(found.backlogs, costs, first, earlier)
    costs["auto"] = choice.costs
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(batches), (RESAMPLES, len(batches)))
    attainable = _attainable(
        found, batches, asked, baseline, choice, model.levels, seed, work, draws or DRAWS
    )
    against = {name: excess(cost, costs[baseline], picks) for name, cost in costs.items()}
    result: dict[str, Any] = {
        "log": found.name,
        "n": len(batches),
        "verdict": "",
        "queues": True,
        "baseline": baseline,
        "best_rule": f"open_{best}",
        "oracle_against_baseline": against["strong_oracle"]["mean"],
        "attainable_by_calibrated": attainable,
        "chosen_by_auto": choice.facts(),
        "leaks": leaks(costs, baseline),
        "policies": {
            name: {"cost": float(np.mean(cost)), "against_baseline": against[name]}
            for name, cost in costs.items()
        },
        "auto_against_best_rule": excess(costs["auto"], costs[f"open_{best}"], picks),
        "closed_scenarios_against_closed_first": excess(
            costs["closed_scenarios"], costs[first], picks
        ),
        "closed_first": first,
        "unavoidable": float(
            np.sum([unavoidable(batch) for batch in batches]) / np.sum(costs[baseline])
        ),
        "replayed": found.stretch.replayed,
        "procs": found.stretch.procs,
        "jobs": {
            "queued": float(np.mean([len(b.queued) for b in found.backlogs])),
            "running": float(np.mean([len(b.running) for b in found.backlogs])),
            "trained_on": len(found.train),
        },
        "costs": {name: [float(c) for c in cost] for name, cost in costs.items()},
        "earlier": earlier.facts(),
    }
    result["verdict"] = verdict(result)
    return result


def past_of(found: Material, facts: Mapping[str, Any]) -> PastPlans:
    """What ``plan --model`` may go by, of the facts that ``worth`` found.

    Notes
    -----
    Where nothing queues no plans of the past speak against the model.
    """
    if not facts["queues"]:
        return PastPlans(found.name, (), {USUAL: ()})
    known = past_plans(found.name, found.backlogs, facts["costs"], facts["closed_first"])
    return PastPlans.of_facts(found.name, facts["earlier"]).then(known)


def nothing_queues(found: Material) -> dict[str, Any]:
    """What is said where nothing waits."""
    n = len(found.backlogs)
    return {
        "log": found.name,
        "n": n,
        "verdict": (
            f"On {found.name} nothing queues: of moments a day apart, only {n} had three "
            "or more jobs waiting. Where jobs start at once every plan is alike, and forecasts are "
            "worth nothing to plans as they arrive. If the log names more processors than there "
            "are, give their number by --procs."
        ),
        "queues": False,
        "baseline": None,
        "oracle_against_baseline": None,
        "attainable_by_calibrated": None,
        "chosen_by_auto": None,
        "leaks": None,
        "policies": {},
    }


def best_rule(costs: Mapping[str, Floats], rules: Sequence[str]) -> str:
    """The rule whose open plans cost least on odd batches."""
    return min(rules, key=lambda rule: float(costs[f"open_{rule}"][1::2].sum()))


def excess(cost: Floats, peer: Floats, draws: NDArray[np.int64]) -> dict[str, float]:
    """``sum(cost) / sum(peer) - 1`` with its paired 95% bootstrap interval over batches."""
    cost, peer = np.asarray(cost), np.asarray(peer)
    if not peer.sum() > 0:
        return {"mean": 0.0, "lo": 0.0, "hi": 0.0}
    sums = peer[draws].sum(axis=1)
    resampled = cost[draws].sum(axis=1)[sums > 0] / sums[sums > 0] - 1
    low, high = np.quantile(resampled, (0.025, 0.975))
    return {"mean": float(cost.sum() / peer.sum() - 1), "lo": float(low), "hi": float(high)}


def leaks(costs: Mapping[str, Floats], baseline: str) -> dict[str, float]:
    """Where the cost above the strong oracle's goes, over the baseline's cost.

    Notes
    -----
    From ``closed_scenarios`` to ``strong_oracle``, in differences of cells: ``early_ends`` to the
    same with the jobs that end early known; ``order`` on to the oracle's order with the model's
    reservations; ``residual`` on to the oracle (reservations); ``search`` on to the oracle
    with ten times the search.
    """
    base = float(np.sum(costs[baseline])) or 1.0
    names = (
        "closed_scenarios", "closed_scenarios_known_early_ends", "oracle_order", "oracle",
        "strong_oracle",
    )  # fmt: skip
    total = [float(np.sum(costs[name])) / base for name in names]
    keys = ("early_ends", "order", "residual", "search")
    steps = {key: total[k] - total[k + 1] for k, key in enumerate(keys)}
    return {key: steps[key] for key in ("search", "order", "early_ends", "residual")}


def cores() -> int:
    """Processes that carry batches out side by side."""
    return max(1, min(2, len(os.sched_getaffinity(0))))


@dataclass(frozen=True)
class _Work:
    """How single batches are worked through: what is known of them, by how many, who hears."""

    cells: MutableMapping[str, Any]
    processes: int
    tell: Progress | None

    def each(self, calls: Mapping[str, Any], what: str, begin: float, end: float) -> list[Any]:
        """Results of delayed calls by key; what is in the cells is not called."""
        missing = [key for key in calls if key not in self.cells]
        done = len(calls) - len(missing)
        made = Parallel(n_jobs=self.processes, return_as="generator")(calls[k] for k in missing)
        for key, result in zip(missing, made, strict=True):
            self.cells[key] = result
            done += 1
            if self.tell is not None:
                part = begin + (end - begin) * done / len(calls)
                self.tell(part, f"{what} {done} of {len(calls)}")
        return [self.cells[key] for key in calls]


def _all_costs(
    batches: Sequence[Batch], asked: Mapping[str, Way], work: _Work
) -> dict[str, Floats]:
    """Cost of every batch in every way."""
    calls = {f"batch {b.backlog.number}": delayed(_costs_of)(b, asked) for b in batches}
    rows = work.each(calls, "batch", 0.4, 0.65)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _earlier(
    found: Material, rules: Sequence[str], policy: Policy, seed: int, work: _Work
) -> PastPlans:
    """What plans cost before the first batch, by a model that knew only what was before them."""
    before = found.before
    asked = {way: one for way, one in ways(rules).items() if way in AUTO_WAYS}
    nothing = PastPlans(found.name, (), dict.fromkeys(asked, ()))
    if before is None or not before.queues:
        return nothing
    keys = [f"earlier {backlog.number}" for backlog in before.backlogs]
    calls: dict[str, Any] = dict.fromkeys(keys)
    if any(key not in work.cells for key in keys):
        model = RuntimePredictor(LEVELS, seed=seed).fit(before.train)
        batches = batches_of(before, model, policy)
        if not set(rules) <= batches[0].estimates.keys():
            return nothing
        calls = {key: delayed(_costs_in)(b, asked) for key, b in zip(keys, batches, strict=True)}
    rows = work.each(calls, "earlier batch", 0.65, 0.75)
    costs = {way: tuple(float(row[way]) for row in rows) for way in asked}
    return PastPlans(found.name, tuple(float(b.ended_s) for b in before.backlogs), costs)


def _costs_in(batch: Batch, asked: Mapping[str, Way]) -> dict[str, float]:
    return {name: carried_out(batch, way) for name, way in asked.items()}


def _costs_of(batch: Batch, asked: Mapping[str, Way]) -> dict[str, float]:
    result = _costs_in(batch, asked)
    # The oracle's order with the reservations of the model.
    _, order = planned(batch, asked["oracle"])
    found = replace(
        batch.request, estimates=batch.estimates["model"],
        policy=replace(batch.request.policy, level=RESERVED),
    )  # fmt: skip
    result["oracle_order"] = carried_out(batch, Way("model"), base=(found, order))
    return result


def _attainable(
    found: Material,
    batches: Sequence[Batch],
    asked: Mapping[str, Way],
    baseline: str,
    choice: Choices,
    levels: Sequence[float],
    seed: int,
    work: _Work,
    most_draws: int,
) -> dict[str, Any]:
    """The best of some ways, where truths are drawn from the forecasts themselves."""
    names = [name for name in CALIBRATED if name in asked]
    taken = choice.usual
    # A way that has two names is carried out once.
    tried = list({asked[name]: name for name in (*reversed(names), taken, baseline)}.values())
    waiting = float(np.mean([len(b.backlog.queued) for b in batches]))
    count = min(len(batches), DRAWN_BATCHES, max(LEAST_DRAWN, round(DRAWN_JOBS / waiting)))
    draws = min(most_draws, max(LEAST_DRAWS, round(DRAWS * (FULL_QUEUE / waiting) ** 2)))
    rows = np.unique(np.linspace(0, len(batches) - 1, count).round().astype(int))
    rule = "last_two" if "last_two" in batches[0].estimates else "app_median"
    points = ESTIMATORS[rule]((0.5,)).fit(found.train.iloc[:1])
    rho = same_user_rho(found.train, points.forecast_log(found.train)[:, 0])
    ways_tried = {name: asked[name] for name in tried}
    calls = {
        f"drawn {batches[k].backlog.number}, {' '.join(tried)}": delayed(_in_drawn)(
            batches[k], ways_tried, levels, rho, seed, draws
        )
        for k in rows
    }
    found_costs = work.each(calls, "drawn truths", 0.75, 1.0)
    costs = [{n: np.array(c) for n, c in cell.items()} for cell in found_costs]
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(rows), (RESAMPLES, len(rows)))
    by_way: dict[str, dict[str, float]] = {}
    for kind, part in (("all", slice(None)), ("independent", slice(0, None, 2)),
                       ("same_user", slice(1, None, 2))):  # fmt: skip
        sums = {n: np.array([c[n][part].mean() for c in costs]) for n in tried}
        result = {n: excess(sums[n], sums[baseline], picks) for n in tried if n != baseline}
        if kind == "all":
            by_way = result
        else:
            by_way |= {f"{n}~{kind}": v for n, v in result.items()}
    plain = {n: v for n, v in by_way.items() if "~" not in n}
    best = min(plain, key=lambda n: plain[n]["mean"])
    return {
        **plain[best],
        "way": best,
        "auto": taken,
        "draws": draws,
        "batches": len(rows),
        "rho": rho,
        "ways": by_way,
        "coverage": coverage(batches, levels, {"p50": 0.5, "p80": 0.8, "p95": 0.95}),
    }


def _in_drawn(
    batch: Batch,
    asked: Mapping[str, Way],
    levels: Sequence[float],
    rho: float,
    seed: int,
    draws: int,
) -> dict[str, list[float]]:
    """Cost of a batch in drawn truths: odd draws independent, even ones alike for a user."""
    truths = [
        drawn(batch, levels, rho if k % 2 else 0.0, 1000 * seed + k) for k in range(draws)
    ]  # fmt: skip
    result = {}
    for name, way in asked.items():
        base = planned(batch, way)
        result[name] = [carried_out(batch, way, run_s, base) for run_s in truths]
    return result


def verdict(facts: Mapping[str, Any]) -> str:
    """Three sentences: what ``auto`` wins, what could be won, what to do."""
    best, auto = facts["best_rule"], facts["auto_against_best_rule"]
    exact, oracle = facts["attainable_by_calibrated"], facts["oracle_against_baseline"]
    first = (
        f"On {facts['n']} batches of {facts['log']} `auto` is {_cheaper(auto['mean'])} than the "
        f"best rule ({best}; 95%: {auto['lo']:+.1%} to {auto['hi']:+.1%})."
    )
    second = (
        f"Against {facts['baseline']}, exact forecasts of this kind could win about "
        f"{max(0.0, -exact['mean']):.1%}, perfect ones {max(0.0, -oracle):.1%}."
    )
    usual, own = facts["chosen_by_auto"]["usual"], facts["closed_scenarios_against_closed_first"]
    proven = "proven" if own["hi"] < 0 or own["lo"] > 0 else "not proven"
    if usual == "closed_scenarios" and own["hi"] < 0:
        third = (
            "Plan with the model over scenarios and search the order anew as room comes free: that "
            f"is {_cheaper(own['mean'])} than {facts['closed_first']}, the forecasts' own part."
        )
    elif usual.startswith("closed"):
        third = (
            f"Search the order anew as room comes free ({usual}); the forecasts' own part: "
            f"closed_scenarios is {_cheaper(own['mean'])} than {facts['closed_first']} (95%: "
            f"{own['lo']:+.1%} to {own['hi']:+.1%}), {proven} here."
        )
    else:
        third = f"Go on with {usual}: nothing tried was cheaper on past batches."
    return f"{first} {second} {third}"


def _cheaper(share: float) -> str:
    return f"{abs(share):.1%} {'cheaper' if share <= 0 else 'costlier'}"

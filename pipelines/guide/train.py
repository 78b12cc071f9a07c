"""Guides trained on collected states, and the one of them that searches best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plancast.pipelines.guide.collect import read_problem, read_states
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import Budget
from plancast.planner.solvers.astar.astar import AStar
from plancast.planner.solvers.astar.guides import EXCESS, LearnedGuide, TreeEnsemble
from plancast.planner.solvers.astar.guides import RANK as ORDERS
from plancast.planner.solvers.astar.space import FEATURES
from plancast.predictor.value_model import MEAN, QUANTILE, RANK, TreeSettings, ValueModel

Progress = Callable[[int, int, str], None]
CANDIDATES: Mapping[str, TreeSettings] = {
    "mean": TreeSettings(MEAN),
    "quantile 0.2": TreeSettings(QUANTILE, alpha=0.2),
    "quantile 0.3": TreeSettings(QUANTILE, alpha=0.3),
    "rank": TreeSettings(RANK),
}
UNGUIDED = "none"
WEIGHTS = (1.05, 1.1)
"""At which the candidates search."""
FEWEST = 4
"""Problems that are needed to train, and to judge."""
MOST_STEPS = 20_000
"""Expansions after which a search of the contest is stopped."""


@dataclass(frozen=True)
class Trained:
    """The best guide, and what is known of all candidates.

    Parameters
    ----------
    guide : LearnedGuide
    facts : dict
        What ``plancast guide train --json`` prints.
    """

    guide: LearnedGuide
    facts: dict[str, Any]


def guide_of(model: ValueModel, card: Mapping[str, Any]) -> LearnedGuide:
    """A trained model as the planner walks it, without LightGBM."""
    trees = TreeEnsemble(**model.trees())
    return LearnedGuide(trees, ORDERS if model.settings.loss == RANK else EXCESS, card)


def split_problems(
    states: pd.DataFrame, share: float, held_out: Sequence[str], seed: int
) -> tuple[list[str], list[str]]:
    """Problems to train on, and to judge by: a share of them, or all of some sources.

    Raises
    ------
    BadRequest
        Where a source is unknown, or either side has too few.
    """
    names = states[["problem", "source"]].drop_duplicates()
    for source in held_out:
        if source not in set(names["source"]):
            known = ", ".join(sorted(set(names["source"])))
            raise BadRequest(f"--hold-out {source}: no states come from it; there are {known}")
    if held_out:
        mine = names["source"].isin(held_out)
        judge = sorted(names.loc[mine, "problem"])
    else:
        every = sorted(names["problem"])
        drawn = np.random.default_rng(seed).permutation(len(every))
        judge = sorted(every[k] for k in drawn[: round(share * len(every))])
    chosen = set(judge)
    train = sorted(n for n in names["problem"] if n not in chosen)
    _must_suffice(train, judge)
    return train, judge


def _must_suffice(train: Sequence[str], judge: Sequence[str]) -> None:
    """``BadRequest`` where there are too few problems to train on, or to judge by."""
    if min(len(train), len(judge)) < FEWEST:
        raise BadRequest(
            f"{len(train)} problems to train on and {len(judge)} to judge by; {FEWEST} are needed "
            "of each: collect more of them"
        )


def lessons(states: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, excess and siblings of the states that teach something."""
    known = states[(states["bound"] > 0) & states["exact"]]
    siblings = pd.factorize(known["problem"] + "/" + known["parent"].astype(int).astype(str))[0]
    order = np.argsort(siblings, kind="stable")
    known, siblings = known.iloc[order], siblings[order]
    excess = np.log((known["cost"] / known["bound"]).to_numpy(float))
    return known[list(FEATURES)].to_numpy(float), excess, siblings.astype(np.int64)


def losses(model: ValueModel, states: pd.DataFrame) -> dict[str, float]:
    """How good a model is at its own game, on states it was not trained on.

    Returns
    -------
    dict
        ``first_is_best``: share of expanded states of whose successors it likes a best one most;
        ``regret``: by how much, relative and on average, the plans that continue the one it
        likes most are costlier than those of the best; and of those that tell the excess ``mae``.
    """
    features, excess, siblings = lessons(states)
    said = model.predict(features)
    result = {}
    likes = said
    if model.settings.loss != RANK:
        result["mae"] = float(np.mean(np.abs(said - excess)))
        likes = features[:, 0] * np.exp(np.maximum(said, 0.0))
    cost = features[:, 0] * np.exp(excess)
    frame = pd.DataFrame({"siblings": siblings, "likes": likes, "cost": cost})
    taken = frame.loc[frame.groupby("siblings")["likes"].idxmin(), "cost"].to_numpy()
    least = frame.groupby("siblings")["cost"].min().to_numpy()
    result["first_is_best"] = float(np.mean(taken <= least * (1 + 1e-9)))
    result["regret"] = float(np.mean(taken / np.maximum(least, 1e-300) - 1.0))
    return result


def contest(
    guides: Mapping[str, LearnedGuide | None],
    problems: Mapping[str, Problem],
    best: Mapping[str, float],
    weights: Sequence[float] = WEIGHTS,
    progress: Callable[[], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Search all problems with each guide, side by side.

    Parameters
    ----------
    guides : mapping of str to LearnedGuide or None
    problems : mapping of str to Problem
    best : mapping of str to float
        Cost of the best plan known of each.
    weights : sequence of float
    progress : callable, optional
        Called after each problem.

    Returns
    -------
    dict
        For each guide, geometric means over the problems: at each weight ``expansions_W``,
        ``cpu_s_W`` (CPU seconds, the guide's included) and ``cost_W`` over the best known; of the
        first dive of one state a depth ``dive_cost``; ``score``, CPU seconds x cost over all
        weights, relative to the search without a guide.
    """
    logs: dict[str, dict[str, list[float]]] = {name: {} for name in guides}
    for key, problem in problems.items():
        for name, guide in guides.items():
            log = logs[name]
            dive = AStar(form="guided", weight=weights[-1], guide=guide, dive=1)
            first = dive.solve(
                problem, budget=Budget(None, len(problem.tasks)), rng=np.random.default_rng(0)
            )
            if first.claimed is not None:
                log.setdefault("dive_cost", []).append(math.log(first.claimed / best[key]))
            for weight in weights:
                solver = AStar(form="guided", weight=weight, guide=guide)
                began = time.process_time()
                found = solver.solve(
                    problem, budget=Budget(None, MOST_STEPS), rng=np.random.default_rng(0)
                )
                spent = time.process_time() - began
                cost = best[key] * COSTLIEST if found.claimed is None else found.claimed
                for what, value in (
                    ("expansions", found.steps), ("cpu_s", spent), ("cost", cost / best[key]),
                ):  # fmt: skip
                    log.setdefault(f"{what}_{weight:g}", []).append(math.log(max(value, 1e-9)))
        if progress is not None:
            progress()
    result = {
        name: {what: math.exp(float(np.mean(values))) for what, values in log.items()}
        for name, log in logs.items()
    }
    base = result.get(UNGUIDED)
    for entry in result.values():
        ratios = [
            math.log(entry[f"{what}_{w:g}"] / (base or entry)[f"{what}_{w:g}"])
            for w in weights
            for what in ("cpu_s", "cost")
        ]
        entry["score"] = math.exp(2.0 * float(np.mean(ratios)))
    return result


COSTLIEST = 2.0
"""Of the best known cost: what a search that found nothing is said to have found."""


def train(
    folder: str | Path,
    *,
    share: float = 0.25,
    held_out: Sequence[str] = (),
    judge_by: str | Path | None = None,
    judged: int = 60,
    candidates: Mapping[str, TreeSettings] = CANDIDATES,
    weights: Sequence[float] = WEIGHTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Trained:
    """Train the candidates and let them search; who needs least time wins.

    Parameters
    ----------
    folder : path
        Of ``guide_collect.collect``.
    share : float
        Of the problems to judge by.
    held_out : sequence of str
        Sources to judge by, instead.
    judge_by : path, optional
        Another folder whose problems, larger ones perhaps, to judge by; then all of the first
        one's are trained on.
    judged : int
        Most problems of the contest.
    candidates : mapping of str to TreeSettings
    weights : sequence of float
        Of the contest's searches.
    seed : int
    progress : callable, optional
        Called with (done, all, what).
    """
    states, card = read_states(folder)
    if judge_by is None:
        judges = folder
        to_train, to_judge = split_problems(states, share, held_out, seed)
        train_states = states[states["problem"].isin(set(to_train))]
        judge_states = states[states["problem"].isin(set(to_judge))]
    else:
        judges, train_states = judge_by, states
        judge_states, _ = read_states(judge_by)
        to_train, to_judge = (sorted(set(s["problem"])) for s in (train_states, judge_states))
        _must_suffice(to_train, to_judge)
    judged_names = sorted(
        np.random.default_rng(seed).permutation(np.array(to_judge, object))[:judged].tolist()
    )
    total = len(candidates) + len(judged_names)
    guides: dict[str, LearnedGuide | None] = {UNGUIDED: None}
    result: dict[str, dict[str, Any]] = {UNGUIDED: {"settings": {}, "loss": {}}}
    features, excess, siblings = lessons(train_states)
    for done, (name, settings) in enumerate(candidates.items()):
        if progress is not None:
            progress(done, total, f"training {name}")
        model = ValueModel(settings, seed).fit(features, excess, siblings)
        guides[name] = guide_of(
            model,
            {
                "name": name, "settings": model.card, "trained_on": sorted(card["sources"]),
                "problems": len(to_train), "states": len(features),
                "importances": _importances(model),
            },
        )  # fmt: skip
        result[name] = {"settings": model.card, "loss": losses(model, judge_states)}
    best = dict(judge_states.groupby("problem")["best"].first())
    problems = {name: encode(read_problem(judges, name)) for name in judged_names}
    done = len(candidates)

    def one_more() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, "searching")

    found = contest(guides, problems, best, weights, one_more)
    for name in result:
        result[name]["search"] = found[name]
    winner = min((name for name in candidates), key=lambda name: found[name]["score"])
    chosen = guides[winner]
    assert chosen is not None
    facts = {
        "states": len(states),
        "train_problems": len(to_train),
        "judge_problems": len(judged_names),
        "judge_tasks": [int(judge_states["tasks"].min()), int(judge_states["tasks"].max())],
        "held_out": list(held_out),
        "weights": list(weights),
        "seed": seed,
        "candidates": result,
        "best": winner,
        "wins": found[winner]["score"] < 1.0,
    }
    shown = {k: v for k, v in facts.items() if k != "candidates"} | result[winner]
    return Trained(LearnedGuide(chosen.trees, chosen.meaning, {**chosen.card, **shown}), facts)


def _importances(model: ValueModel) -> dict[str, float]:
    """Share of the trees' gain by feature, largest first."""
    assert model.booster is not None
    gain = model.booster.feature_importance("gain")
    share = gain / max(gain.sum(), 1e-300)
    return {FEATURES[k]: float(share[k]) for k in np.argsort(-share, kind="stable")}

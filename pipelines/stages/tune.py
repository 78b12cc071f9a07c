"""Settings of the model, chosen by time-ordered cross-validation before the test stretch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from plancast.pipelines.inputs.yaml_files import yaml_text
from plancast.planner.model.domain import BadRequest
from plancast.predictor import RuntimePredictor
from plancast.predictor.forecaster import FIRST_ROWS
from plancast.predictor.metrics import median_abs_log2, pinball
from plancast.predictor.model_files import data_digest
from plancast.predictor.splits import rolling_origin, split_by_share
from plancast.predictor.training import trainable

Settings = dict[str, Any]
"""``window``, ``decay`` and ``trees``, as ``RuntimePredictor`` takes them; absent: its default."""

Progress = Callable[[int, int], None]

DEFAULT: Settings = {}
"""The first trial: what the model does untuned. It stands unless another wins on every fold."""


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely."""

    values: tuple[float, ...]

    def draw(self, rng: np.random.Generator) -> float:
        """A value."""
        return self.values[int(rng.integers(len(self.values)))]


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, even on its logarithm, to three digits."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """A value."""
        return float(f"{math.exp(rng.uniform(math.log(self.low), math.log(self.high))):.3g}")


HISTORY_SPACE: Mapping[str, Choice | Between] = {
    "window": Choice((5, 10, 20, 40)),
    "decay": Between(0.05, 0.8),
}
TREE_SPACE: Mapping[str, Choice | Between] = {
    "n_estimators": Choice((75, 150, 300)),
    "learning_rate": Between(0.02, 0.15),
    "num_leaves": Choice((7, 15, 31, 63)),
    "min_child_samples": Choice((20, 50, 100, 200)),
    "colsample_bytree": Between(0.2, 0.9),
    "subsample": Between(0.5, 0.95),
    "reg_lambda": Between(0.1, 10.0),
}
"""What is searched, and how; all else is left as the model has it."""


def draw_settings(trials: int, seed: int) -> list[Settings]:
    """The settings of all trials: the default first, then random ones of the space.

    Parameters
    ----------
    trials : int
    seed : int
        The first n of more trials are the n trials of the same seed.
    """
    rng = np.random.default_rng(seed)
    drawn: list[Settings] = [dict(DEFAULT)]
    for _ in range(trials - 1):
        settings: Settings = {name: prior.draw(rng) for name, prior in HISTORY_SPACE.items()}
        settings["trees"] = {name: prior.draw(rng) for name, prior in TREE_SPACE.items()}
        drawn.append(settings)
    return drawn


def before_test(jobs: Any, share: float) -> Any:
    """The jobs that had ended when the test stretch begins: all that tuning may look at.

    Parameters
    ----------
    jobs : DataFrame
        Canonical.
    share : float
        Share of the log, by submission, before the test stretch.
    """
    known = split_by_share(jobs, share).train
    past = jobs.iloc[known].reset_index(drop=True)
    past.attrs = jobs.attrs
    return past


def judge_fold(
    past: Any,
    train: Any,
    test: Any,
    settings: Settings,
    levels: Sequence[float],
    seed: int,
) -> dict[str, float]:
    """Fit on one stretch and forecast the next, each job with what had ended by its submission.

    Returns
    -------
    dict
        ``pinball_s``, the mean over the levels, and ``median_abs_log2``.
    """
    model = RuntimePredictor(levels, seed=seed, **settings).fit(past.iloc[train])
    later = past.iloc[test].reset_index(drop=True)
    asked = sorted({*levels, 0.5})
    found = model.forecast_log(later, levels=asked)
    ran = trainable(later)
    truth = later["run_s"].to_numpy(dtype=np.float64)[ran]
    # Where the model promises no finite quantile a loss needs a number, the same in all trials.
    longest = float(np.nanmax(past["run_s"].to_numpy(dtype=np.float64)[train]))
    found = np.where(np.isinf(found), longest, found)[ran]
    wanted = found[:, [asked.index(level) for level in levels]]
    return {
        "pinball_s": float(np.mean(pinball(truth, wanted, levels))),
        "median_abs_log2": median_abs_log2(truth, found[:, asked.index(0.5)]),
    }


def relative_loss(
    found: Sequence[Mapping[str, float]], default: Sequence[Mapping[str, float]]
) -> float:
    """How much worse than the default some settings are: below 1 is better.

    Parameters
    ----------
    found, default : sequence of mapping
        The metrics of each fold.

    Notes
    -----
    The geometric mean, over folds and both metrics, of the ratios to the default: so that no
    fold with long jobs outweighs the others, and neither the median nor the tails go unseen.
    """
    ratios = [
        math.log(max(mine[metric], 1e-12) / max(usual[metric], 1e-12))
        for mine, usual in zip(found, default, strict=True)
        for metric in usual
    ]
    return math.exp(float(np.mean(ratios)))


def wins_everywhere(
    found: Sequence[Mapping[str, float]], default: Sequence[Mapping[str, float]]
) -> bool:
    """Whether some settings beat the default on every fold; arguments as of ``relative_loss``.

    Notes
    -----
    Asked of what is chosen: later folds train on more jobs and lie nearer to the test. Small
    trees win the first fold of a log by 10% and lose the last, and then all that follows.
    """
    return all(
        relative_loss([mine], [usual]) < 1 for mine, usual in zip(found, default, strict=True)
    )


def tune(
    jobs: Any,
    *,
    trials: int = 20,
    share: float = 0.3,
    folds: int = 3,
    levels: Sequence[float] = (0.1, 0.5, 0.8, 0.9, 0.95),
    seed: int = 0,
    processes: int = 2,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search settings on the past of a log by seeded random search.

    Parameters
    ----------
    jobs : DataFrame
        Canonical.
    trials : int
        Settings to try, the default among them.
    share : float
        Share of the log before the test stretch, in (0, 1); the rest is not looked at. The
        default leaves out what ``plancast evaluate`` judges by.
    folds : int
        Stretches of the past's later half that are forecast in turn.
    levels : sequence of float
        Quantile levels.
    seed : int
    processes : int
        Folds judged at once, each with one thread.
    progress : callable, optional
        Called with (folds done, all folds).

    Returns
    -------
    dict
        ``best`` (settings), ``loss`` (relative to the default), ``trials`` (settings, loss,
        whether they win on every fold, and metrics of each fold), ``jobs``, ``past`` (rows
        looked at), ``test_from_s``, ``digest`` of the past.

    Raises
    ------
    BadRequest
        Where there are too few jobs before the test stretch.
    """
    past = before_test(jobs, share)
    splits = (
        [
            (split.train, split.test)
            for split in rolling_origin(past, folds)
            if trainable(past.iloc[split.test]).any()
        ]
        if len(past)
        else []
    )
    fewest = min((int(trainable(past.iloc[train]).sum()) for train, _ in splits), default=0)
    # The model keeps a part of its training rows for the calibration.
    needed = 2 * FIRST_ROWS
    if fewest < needed:
        raise BadRequest(
            f"{jobs.attrs.get('source', 'the log')}: {fewest} jobs had ended before the first fold "
            f"of the {len(past)} before the test stretch, {needed} are needed; raise --share or "
            "give a longer log"
        )
    tried = draw_settings(trials, seed)
    work = (
        delayed(judge_fold)(past, train, test, settings, levels, seed)
        for settings in tried
        for train, test in splits
    )
    found: list[dict[str, float]] = []
    for metrics in Parallel(n_jobs=processes, return_as="generator")(work):
        found.append(metrics)
        if progress is not None:
            progress(len(found), trials * len(splits))
    by_trial = [found[k : k + len(splits)] for k in range(0, len(found), len(splits))]
    losses = [relative_loss(metrics, by_trial[0]) for metrics in by_trial]
    wins = [wins_everywhere(metrics, by_trial[0]) for metrics in by_trial]
    best = min((k for k in range(trials) if k == 0 or wins[k]), key=lambda k: losses[k])
    return {
        "log": jobs.attrs.get("source", ""),
        "jobs": len(jobs),
        "past": len(past),
        "test_from_s": split_by_share(jobs, share).test_from_s,
        "digest": data_digest(past),
        "share": share,
        "folds": len(splits),
        "levels": list(levels),
        "seed": seed,
        "best": tried[best],
        "best_trial": best,
        "loss": losses[best],
        "trials": [
            {"settings": settings, "loss": loss, "wins": won, "folds": metrics}
            for settings, loss, won, metrics in zip(tried, losses, wins, by_trial, strict=True)
        ],
    }


def params_text(facts: Mapping[str, Any]) -> str:
    """The best settings as a parameter file of the pipeline (``--params``)."""
    found = (
        f"# Settings by plancast tune on {facts['past']} jobs of {facts['log'] or 'a log'}, all\n"
        f"# ended before its test stretch: trial {facts['best_trial']} of {len(facts['trials'])}, "
        f"loss {facts['loss']:.4f} of the default's.\n"
    )
    return found + yaml_text({"train": facts["best"]})

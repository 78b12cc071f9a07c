"""What the rest of a plan will cost: boosted trees over features of search states.

It knows nothing of planning: features in, a number out, and the trees as plain arrays for
whoever walks them without LightGBM.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MEAN, QUANTILE, RANK = "mean", "quantile", "rank"
LOSSES = (MEAN, QUANTILE, RANK)
GRADES = (0.0, 0.005, 0.02, 0.05, 0.1)
"""A state whose plan is costlier than its best sibling's by no more than this, relative, gets one
grade less than the one before it, from five down; costlier ones get none."""
RIGHT, LEFT, ZERO = range(3)
"""Where a NaN goes at a node: right, left, or as if the feature were 0."""


@dataclass(frozen=True)
class TreeSettings:
    """How the trees are grown.

    Parameters
    ----------
    loss : str
        ``mean``: squared error of the excess; ``quantile``: its quantile `alpha` (low ones
        rarely promise too little); ``rank``: order among siblings, by lambdarank.
    alpha : float
        In (0, 1); of ``quantile``.
    trees, leaves, depth : int
        Boosting rounds; most leaves and depth of each.
    rate : float
        Learning rate.
    least : int
        Fewest states in a leaf.
    """

    loss: str = MEAN
    alpha: float = 0.3
    trees: int = 100
    leaves: int = 16
    depth: int = 5
    rate: float = 0.1
    least: int = 40

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss {self.loss!r}: choose {', '.join(LOSSES)}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha {self.alpha}: must lie in (0, 1)")


class ValueModel:
    """Trees that tell the cost of the best plan that continues a state, over its bound.

    Parameters
    ----------
    settings : TreeSettings
    seed : int
    """

    def __init__(self, settings: TreeSettings | None = None, seed: int = 0) -> None:
        self.settings, self.seed = settings or TreeSettings(), seed
        self.booster: lgb.Booster | None = None

    def fit(self, features: Floats, excess: Floats, siblings: Ints) -> ValueModel:
        """Train.

        Parameters
        ----------
        features : float64 (n, features)
        excess : float64 (n,)
            Natural logarithm of cost over bound.
        siblings : int64 (n,)
            Equal for the successors of one state, which stand together.
        """
        settings = self.settings
        objective = {MEAN: "regression", QUANTILE: "quantile", RANK: "lambdarank"}[settings.loss]
        parameters = {
            "objective": objective, "alpha": settings.alpha, "num_leaves": settings.leaves,
            "max_depth": settings.depth, "learning_rate": settings.rate,
            "min_data_in_leaf": settings.least, "lambda_l2": 1.0, "seed": self.seed,
            "num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1,
            "label_gain": [2.0**k - 1.0 for k in range(len(GRADES) + 1)],
        }  # fmt: skip
        target: NDArray[Any] = excess
        group = None
        if settings.loss == RANK:
            target, group = grades(excess, features[:, 0], siblings), _sizes(siblings)
        data = lgb.Dataset(features, target, group=group, free_raw_data=True)
        self.booster = lgb.train(parameters, data, num_boost_round=settings.trees)
        return self

    def predict(self, features: Floats) -> Floats:
        """The excess, or with ``rank`` a number that is less for better siblings. Shape (n,)."""
        assert self.booster is not None, "fit first"
        said: Floats = self.booster.predict(features, num_threads=1)
        return -said if self.settings.loss == RANK else said

    def trees(self) -> dict[str, NDArray[Any]]:
        """The trees as arrays, whose sum is what ``predict`` says.

        ``root`` (trees,); per node ``left``, ``right`` (-1 at leaves), ``feature``,
        ``threshold``, ``value`` and ``nan``.
        """
        assert self.booster is not None, "fit first"
        return tree_arrays(self.booster, -1.0 if self.settings.loss == RANK else 1.0)

    @property
    def card(self) -> dict[str, Any]:
        """Its settings."""
        return {**asdict(self.settings), "seed": self.seed}


def grades(excess: Floats, bound: Floats, siblings: Ints) -> Ints:
    """How good each state is among its siblings, by ``GRADES``. Shape (n,).

    Parameters
    ----------
    excess, bound : float64 (n,)
        The cost is bound x exp(excess), in any unit.
    siblings : int64 (n,)
    """
    cost = bound * np.exp(excess)
    _, place = np.unique(siblings, return_inverse=True)
    least = np.full(place.max(initial=-1) + 1, np.inf)
    np.minimum.at(least, place, cost)
    costlier = cost / np.maximum(least[place], 1e-300) - 1.0
    edges = np.array(GRADES) + 1e-9
    return (len(GRADES) - np.searchsorted(edges, costlier, side="left")).astype(np.int64)


def _sizes(siblings: Ints) -> Ints:
    """Sizes of the runs of equal values."""
    starts = np.flatnonzero(np.diff(siblings, prepend=siblings[:1] - 1))
    return np.diff(np.append(starts, len(siblings))).astype(np.int64)


def tree_arrays(booster: lgb.Booster, sign: float = 1.0) -> dict[str, NDArray[Any]]:
    """The trees of a booster as arrays; see ``ValueModel.trees``.

    Parameters
    ----------
    booster : lightgbm.Booster
        Numeric splits only.
    sign : float
        What its values are multiplied with.

    Raises
    ------
    ValueError
        For splits on categories, trees with linear leaves, and zeros taken as missing.
    """
    model = booster.dump_model()
    columns: dict[str, list[Any]] = {
        name: [] for name in ("left", "right", "feature", "threshold", "value", "nan")
    }
    roots = []
    for tree in model["tree_info"]:
        roots.append(len(columns["left"]))
        _add_tree(tree["tree_structure"], columns, sign)
    kinds = {"threshold": np.float64, "value": np.float64}
    result: dict[str, NDArray[Any]] = {
        name: np.array(column, kinds.get(name, np.int64)) for name, column in columns.items()
    }
    return {"root": np.array(roots, np.int64), **result}


def _add_tree(node: dict[str, Any], columns: dict[str, list[Any]], sign: float) -> int:
    """Write a subtree down, its root first; the root's place."""
    place = len(columns["left"])
    if "leaf_value" in node:
        if "leaf_coeff" in node:
            raise ValueError("trees with linear leaves cannot be walked as plain trees")
        row = (-1, -1, 0, 0.0, sign * float(node["leaf_value"]), RIGHT)
    else:
        if node["decision_type"] != "<=":
            raise ValueError("a tree that splits on categories cannot be walked as numbers")
        if node["missing_type"] == "Zero":
            raise ValueError("trees that take zeros as missing cannot be walked")
        nan = ZERO
        if node["missing_type"] == "NaN":
            nan = LEFT if node["default_left"] else RIGHT
        row = (-1, -1, int(node["split_feature"]), float(node["threshold"]), 0.0, nan)
    for name, value in zip(columns, row, strict=True):
        columns[name].append(value)
    if "leaf_value" not in node:
        columns["left"][place] = _add_tree(node["left_child"], columns, sign)
        columns["right"][place] = _add_tree(node["right_child"], columns, sign)
    return place

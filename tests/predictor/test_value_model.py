"""The model behind a guide: what it learns, and its trees as arrays."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest

from plancast.planner.solvers.astar.guides import TreeEnsemble
from plancast.predictor.value_model import (
    LOSSES,
    MEAN,
    RANK,
    TreeSettings,
    ValueModel,
    grades,
    tree_arrays,
)


def toy(rows: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of which the second and the third make the excess; siblings in fours."""
    chance = np.random.default_rng(seed)
    features = chance.random((rows, 22))
    features[:, 0] += 1.0
    excess = 0.3 * features[:, 1] * features[:, 2]
    return features, excess, np.repeat(np.arange(rows // 4), 4)


@pytest.mark.parametrize("loss", LOSSES)
def test_trees_say_what_lightgbm_says(loss: str) -> None:
    """The planner would search by other numbers than those that were trained."""
    features, excess, siblings = toy()
    model = ValueModel(TreeSettings(loss, trees=30)).fit(features, excess, siblings)
    trees = TreeEnsemble(**model.trees())
    fresh = np.random.default_rng(1).random((500, 22)) * 3.0 - 0.5
    fresh[0] = 0.0
    # What it was trained on has no gaps: LightGBM then takes a NaN for zero.
    fresh[1, :] = np.nan
    fresh[2, 1] = np.nan
    assert np.array_equal(trees(fresh), model.predict(fresh))


@pytest.mark.parametrize("seed", range(4))
def test_trees_go_where_lightgbm_goes_with_gaps(seed: int) -> None:
    """A NaN would take the other branch than LightGBM's default direction."""
    chance = np.random.default_rng(seed)
    features = chance.normal(size=(1500, 16))
    features[chance.random(features.shape) < 0.2] = np.nan
    target = np.where(np.isnan(features[:, 0]), 1.0, features[:, 1] > 0) + 0.1 * features[:, 2]
    target = np.nan_to_num(target) + np.isnan(features[:, 3])
    data = lgb.Dataset(features, target)
    booster = lgb.train({"verbosity": -1, "num_threads": 1, "seed": seed}, data, 20)
    arrays = tree_arrays(booster)
    assert {0, 1} <= set(arrays["nan"][arrays["left"] >= 0].tolist())
    fresh = chance.normal(size=(800, 16))
    fresh[chance.random(fresh.shape) < 0.3] = np.nan
    assert np.array_equal(TreeEnsemble(**arrays)(fresh), booster.predict(fresh, num_threads=1))


def test_what_cannot_be_walked_is_refused() -> None:
    """Trees of another kind would be walked as if they were plain ones."""
    chance = np.random.default_rng(0)
    features, target = chance.integers(0, 5, (500, 3)).astype(float), chance.random(500)
    target += features[:, 0] == 3
    settings = {"verbosity": -1, "num_threads": 1, "min_data_per_group": 5}
    by_category = lgb.train(settings, lgb.Dataset(features, target, categorical_feature=[0]), 3)
    with pytest.raises(ValueError, match="categories"):
        tree_arrays(by_category)
    zeros = lgb.train({**settings, "zero_as_missing": True}, lgb.Dataset(features, target), 3)
    with pytest.raises(ValueError, match="zeros"):
        tree_arrays(zeros)
    linear = lgb.train({**settings, "linear_tree": True}, lgb.Dataset(features, target), 3)
    with pytest.raises(ValueError, match="linear"):
        tree_arrays(linear)


@pytest.mark.parametrize("loss", LOSSES)
def test_it_likes_the_better_sibling(loss: str) -> None:
    """The model would learn nothing, or the sign of a ranking be turned round."""
    model = ValueModel(TreeSettings(loss, trees=40)).fit(*toy())
    features, excess, _ = toy(400, seed=9)
    said = model.predict(features)
    if loss != RANK:
        said = features[:, 0] * np.exp(said)
    cost = features[:, 0] * np.exp(excess)
    first = said.reshape(-1, 4).argmin(axis=1)
    chosen = cost.reshape(-1, 4)[np.arange(100), first]
    assert np.mean(chosen / cost.reshape(-1, 4).min(axis=1) - 1.0) < 0.02
    assert np.mean(cost.reshape(-1, 4).mean(axis=1) / cost.reshape(-1, 4).min(axis=1) - 1.0) > 0.2


def test_grades_fall_with_what_a_sibling_costs_more() -> None:
    """A ranking would be taught that a dear state is as good as the best."""
    excess = np.log([1.0, 1.004, 1.03, 1.5, 1.2])
    siblings = np.array([7, 7, 7, 7, 9])
    assert grades(excess, np.ones(5), siblings).tolist() == [5, 4, 2, 0, 5]


@pytest.mark.parametrize(
    ("change", "fault"), [({"loss": "luck"}, "loss"), ({"alpha": 1.0}, "alpha")]
)
def test_settings_are_checked(change: dict[str, object], fault: str) -> None:
    """A misspelt loss would be trained as something else."""
    with pytest.raises(ValueError, match=fault):
        TreeSettings(**{"loss": MEAN, **change})  # type: ignore[arg-type]

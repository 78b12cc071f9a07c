"""What a model looks at: the gain of each feature over all its trees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import lightgbm
import numpy as np


def gain_shares(boosters: Sequence[lightgbm.Booster], names: Sequence[str]) -> dict[str, float]:
    """Share of each feature in the gain of all trees, the mean over the boosters.

    Parameters
    ----------
    boosters : sequence of lightgbm.Booster
        One for each level; all of the same features.
    names : sequence of str
        Of their features, in order.

    Returns
    -------
    dict of str to float
        Shares in [0, 1], the largest first; features that no tree looks at are left out.
    """
    total = np.zeros(len(names))
    for booster in boosters:
        gain = booster.feature_importance("gain")
        total += gain / max(gain.sum(), 1e-300) / len(boosters)
    ranked = np.argsort(-total, kind="stable")
    return {names[k]: float(total[k]) for k in ranked if total[k] > 0}


def importances_of(folder: Path) -> dict[str, float]:
    """``gain_shares`` of a saved ``RuntimePredictor``: its LightGBM text files and its card."""
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    files = sorted(name for name in card["files"] if name.endswith(".txt"))
    texts = [(folder / name).read_text(encoding="utf-8") for name in files]
    return gain_shares([lightgbm.Booster(model_str=text) for text in texts], card["features"])

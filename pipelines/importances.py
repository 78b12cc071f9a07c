"""What a saved model looks at: the gain of each feature over all its trees."""

from __future__ import annotations

import json
from pathlib import Path

import lightgbm
import numpy as np


def importances_of(folder: Path) -> dict[str, float]:
    """Share of each feature in the gain of a model's trees, the mean over its boosters.

    Parameters
    ----------
    folder : Path
        Of a saved ``RuntimePredictor``: LightGBM text files and a card that names the features.

    Returns
    -------
    dict of str to float
        Shares in [0, 1], the largest first; features that no tree looks at are left out.
    """
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    names: list[str] = card["features"]
    total = np.zeros(len(names))
    files = sorted(name for name in card["files"] if name.endswith(".txt"))
    for name in files:
        text = (folder / name).read_text(encoding="utf-8")
        gain = lightgbm.Booster(model_str=text).feature_importance("gain")
        total += gain / max(gain.sum(), 1e-300) / len(files)
    ranked = np.argsort(-total, kind="stable")
    return {names[k]: float(total[k]) for k in ranked if total[k] > 0}

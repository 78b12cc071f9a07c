"""How long a running job still needs, from the quantiles of its whole run time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def tail_scores(levels: Sequence[float]) -> Floats:
    """Standard logistic quantiles of the levels, in which log run times are about linear."""
    p = np.asarray(levels, dtype=np.float64)
    return np.log(p / (1.0 - p))


def conditional_quantiles(
    quantiles_s: Floats, levels: Sequence[float], elapsed_s: Floats, wanted: Sequence[float]
) -> Floats:
    """Quantiles of the time that remains after an elapsed one.

    Parameters
    ----------
    quantiles_s : array, shape (n, levels)
        Seconds, non-decreasing.
    levels : sequence of float
    elapsed_s : array, shape (n,)
        How long each job has run, seconds.
    wanted : sequence of float

    Returns
    -------
    array, shape (n, wanted)
        Seconds, at least 0.5.

    Notes
    -----
    ``Q(F(e) + p (1 - F(e))) - e``. Between the levels log Q is linear in the logit of the
    level, beyond them it goes on as between the two nearest ones (a log-logistic tail), with a
    slope of at least 0.1.
    """
    scores = tail_scores(levels)
    logs = np.log(np.maximum(quantiles_s, 0.5))
    slopes = np.maximum(np.diff(logs, axis=1) / np.diff(scores), 0.1)
    # Rebuilt with the least slope, so that Q has an inverse.
    knots = logs[:, :1] + np.concatenate(
        [np.zeros((len(logs), 1)), np.cumsum(slopes * np.diff(scores), axis=1)], axis=1
    )
    x = np.log(np.maximum(elapsed_s, 0.5))
    place = np.clip((x[:, None] >= knots).sum(axis=1) - 1, 0, len(scores) - 2)
    row = np.arange(len(logs))
    at = scores[place] + (x - knots[row, place]) / slopes[row, place]
    columns = []
    for p in wanted:
        # logit(F + p (1 - F)) with F = 1 / (1 + exp(-at)), written so that F may round to 1.
        odds = (np.exp(np.minimum(at, 500.0)) + p) / (1.0 - p)
        z = np.log(odds)
        k = np.clip((z[:, None] >= scores).sum(axis=1) - 1, 0, len(scores) - 2)
        log_q = knots[row, k] + (z - scores[k]) * slopes[row, k]
        columns.append(np.maximum(np.exp(np.minimum(log_q, 40.0)) - elapsed_s, 0.5))
    return np.column_stack(columns)

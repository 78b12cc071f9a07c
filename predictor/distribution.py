"""A distribution of run times by quantiles: other levels, the median, and the remaining time.

``Q`` is known at some levels. Between them it is linear in seconds (``between_levels``), and for
the time that remains log-linear in the logit of the level (``conditional_quantiles``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def between_levels(values: Floats, known: Sequence[float], wanted: Sequence[float]) -> Floats:
    """Values at the `wanted` levels, linear between the `known` ones.

    Parameters
    ----------
    values : array, shape (n, len(known))
        Non-decreasing along the second axis.
    known, wanted : sequence of float
        Increasing levels.

    Returns
    -------
    array, shape (n, len(wanted))

    Raises
    ------
    ValueError
        Where a wanted level lies outside the known ones: a tail is not invented.
    """
    levels = np.asarray(known, dtype=np.float64)
    columns = []
    for level in wanted:
        if not levels[0] <= level <= levels[-1]:
            raise ValueError(
                f"level {level:g} lies outside the trained levels {levels[0]:g} to {levels[-1]:g}; "
                "train with it among the levels"
            )
        k = int(np.searchsorted(levels, level))
        if levels[k] == level:
            columns.append(values[:, k])
            continue
        share = (level - levels[k - 1]) / (levels[k] - levels[k - 1])
        columns.append(values[:, k - 1] + share * (values[:, k] - values[:, k - 1]))
    result = np.column_stack(columns)
    # Interpolation rounds; a running maximum keeps the order exact.
    return np.asarray(np.maximum.accumulate(result, axis=1), dtype=np.float64)


def between_levels_or_middle(quantiles: Floats, levels: Sequence[float]) -> Floats:
    """The median from quantiles, shape (n,); the nearest level where 0.5 lies outside them."""
    nearest = min(max(0.5, levels[0]), levels[-1])
    return between_levels(quantiles, levels, (nearest,))[:, 0]


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

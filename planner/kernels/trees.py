"""Sums of regression trees, walked row by row."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def tree_sums(rows, root, left, right, feature, threshold, value):
    """Sum over trees of the leaf that each row falls into.

    Parameters
    ----------
    rows : float64 (rows, features)
        A row goes left where its feature is at most the threshold; NaN goes right.
    root : int64 (trees,)
        Node of each tree's root.
    left, right : int64 (nodes,)
        Children; -1 at a leaf.
    feature : int64 (nodes,)
    threshold, value : float64 (nodes,)

    Returns
    -------
    float64 (rows,)
    """
    result = np.zeros(rows.shape[0])
    for k in range(rows.shape[0]):
        total = 0.0
        for tree in root:
            node = tree
            while left[node] >= 0:
                goes_left = rows[k, feature[node]] <= threshold[node]
                node = left[node] if goes_left else right[node]
            total += value[node]
        result[k] = total
    return result

"""Sums of regression trees, walked tree by tree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel

RIGHT, LEFT, ZERO = range(3)
"""Where a NaN goes at a node: right, left, or as if the feature were 0."""


class Forest(NamedTuple):
    """Trees as the kernel walks them.

    ``root`` and ``depth`` (trees,): a tree is left after ``depth`` steps, for a leaf leads to
    itself. ``child`` (2 x nodes,): where a node leads if its feature is at most, or above, its
    threshold. ``nan`` (nodes,) is one of the above.
    """

    root: np.ndarray
    depth: np.ndarray
    child: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray
    nan: np.ndarray


@kernel
def forest_of(root, left, right, feature, threshold, value, nan):
    """The trees with leaves that lead to themselves, and their depths.

    Parameters
    ----------
    root : int64 (trees,)
        Node of each tree's root.
    left, right : int64 (nodes,)
        Children, after their parent; -1 at a leaf.
    feature : int64 (nodes,)
    threshold, value : float64 (nodes,)
    nan : int64 (nodes,)
    """
    nodes = left.shape[0]
    child = np.zeros(2 * nodes, np.uint32)
    which = np.zeros(nodes, np.uint32)
    bar = np.full(nodes, np.inf)
    below = np.zeros(nodes, np.int32)
    for k in range(nodes - 1, -1, -1):
        child[2 * k] = child[2 * k + 1] = k
        if left[k] >= 0:
            child[2 * k], child[2 * k + 1] = left[k], right[k]
            which[k], bar[k] = feature[k], threshold[k]
            below[k] = 1 + max(below[left[k]], below[right[k]])
    depth = np.zeros(root.shape[0], np.int32)
    for t in range(root.shape[0]):
        depth[t] = below[root[t]]
    return root.astype(np.uint32), depth, child, which, bar, value.copy(), nan.astype(np.int8)


@inner
def _leaf_with_gaps(row, forest, node):
    """The leaf of a row in which some features are NaN."""
    while forest.child[2 * node] != node:
        x = row[forest.feature[node]]
        goes_right = x > forest.threshold[node]
        if np.isnan(x):
            if forest.nan[node] == ZERO:
                goes_right = forest.threshold[node] < 0.0
            else:
                goes_right = forest.nan[node] == RIGHT
        node = forest.child[2 * node + goes_right]
    return node


@kernel
def add_sums(rows, count, forest, result):
    """Sum over trees of the leaf that each of the first `count` rows falls into.

    Parameters
    ----------
    rows : float64 (rows, features)
        A row goes left where its feature is at most the threshold.
    count : int
    forest : Forest
    result : float64 (rows,)
        Filled. Trees are added up in their order.

    Notes
    -----
    A tree is walked by all rows before the next, in as many steps for each and four rows abreast:
    nothing is branched on, and the four walks overlap in the processor.
    """
    gaps = False
    for row in range(count):
        result[row] = 0.0
        for j in range(rows.shape[1]):
            gaps = gaps or np.isnan(rows[row, j])
    feature, threshold, child = forest.feature, forest.threshold, forest.child
    two = np.uint32(2)  # unsigned all through: numba asks of a signed index whether it is negative
    in_fours = 0 if gaps else count - count % 4
    for t in range(forest.root.shape[0]):
        root, steps = forest.root[t], forest.depth[t]
        for first in range(0, in_fours, 4):
            k = np.uint64(first)
            k1, k2, k3 = k + np.uint64(1), k + np.uint64(2), k + np.uint64(3)
            a = b = c = d = np.uint64(root)
            for _ in range(steps):
                a = np.uint64(child[two * a + np.uint32(rows[k, feature[a]] > threshold[a])])
                b = np.uint64(child[two * b + np.uint32(rows[k1, feature[b]] > threshold[b])])
                c = np.uint64(child[two * c + np.uint32(rows[k2, feature[c]] > threshold[c])])
                d = np.uint64(child[two * d + np.uint32(rows[k3, feature[d]] > threshold[d])])
            result[k] += forest.value[a]
            result[k1] += forest.value[b]
            result[k2] += forest.value[c]
            result[k3] += forest.value[d]
        for row in range(in_fours, count):
            node = root
            if gaps:
                node = _leaf_with_gaps(rows[row], forest, node)
            else:
                for _ in range(steps):
                    node = child[2 * node + (rows[row, feature[node]] > threshold[node])]
            result[row] += forest.value[node]

"""Guides of the search: what a learned value may do, and a tree ensemble as arrays.

A guide gives each state a number; less is better. It orders equals, the focal list or the
beam, and never enters a bound: whatever it says, what is proven stays true. NaN orders last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.domain import BadRequest
from planner.kernels.trees import tree_sums

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Guide = Callable[[Floats], Floats]
"""Features of states, float64 (n, features) as ``search.FEATURES`` names them, to float64 (n,)."""


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    """A sum of regression trees; a ``Guide``.

    Parameters
    ----------
    root : int64 (trees,)
        Node of each tree's root.
    left, right : int64 (nodes,)
        Children, after their parent; -1 at a leaf.
    feature : int64 (nodes,)
        A row goes left where this feature is at most the threshold.
    threshold, value : float64 (nodes,)
        Value of each leaf.

    Raises
    ------
    BadRequest
        Where the arrays do not make trees.
    """

    root: Ints
    left: Ints
    right: Ints
    feature: Ints
    threshold: Floats
    value: Floats

    def __post_init__(self) -> None:
        nodes = len(self.left)
        for name in ("right", "feature", "threshold", "value"):
            if len(getattr(self, name)) != nodes:
                raise BadRequest(
                    f"tree ensemble: {name} has {len(getattr(self, name))} nodes, left {nodes}"
                )
        inner = self.left >= 0
        if (inner != (self.right >= 0)).any():
            raise BadRequest("tree ensemble: a node has one child; it must have two or none")
        place = np.arange(nodes)
        for child in (self.left, self.right):
            # Children after their parents: every walk ends.
            if (child[inner] <= place[inner]).any() or (child >= nodes).any():
                raise BadRequest("tree ensemble: a child must come after its parent")
        if len(self.root) and (self.root.min() < 0 or self.root.max() >= nodes):
            raise BadRequest("tree ensemble: a root is no node")
        if (self.feature[inner] < 0).any():
            raise BadRequest("tree ensemble: feature must be 0 or more")

    def __call__(self, features: Floats) -> Floats:
        """Value of each row. Shape (n,)."""
        most = int(self.feature.max(initial=-1))
        if most >= features.shape[1]:
            raise BadRequest(
                f"tree ensemble: it splits on feature {most}; there are {features.shape[1]}"
            )
        result: Floats = tree_sums(
            features, self.root, self.left, self.right, self.feature, self.threshold, self.value
        )
        return result

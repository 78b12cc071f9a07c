"""Guides of the search: what a learned value may do, and a tree ensemble as arrays.

A guide gives each state a number; less is better. It orders equals, the focal list, the dives
or the beam, and never enters a bound: whatever it says, what is proven stays true. NaN orders
last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plancast.planner.model.domain import BadRequest
from plancast.planner.solvers.astar.space import FEATURES
from plancast.planner.solvers.astar.trees import LEFT, RIGHT, ZERO, Forest, add_sums, forest_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Guide = Callable[[Floats], Floats]
"""Features of states, float64 (n, features) as ``search.FEATURES`` names them, to float64 (n,)."""

EXCESS, RANK = "excess", "rank"
MEANINGS = (EXCESS, RANK)
"""What the trees say of a state: the natural logarithm of the cost of the best plan that continues
it over its bound; or a number that is only good for comparing states of one depth."""
FORMAT = "plancast guide 1"


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
    nan : int64 (nodes,), optional
        Where a NaN goes: ``kernels.trees.RIGHT`` (also if not given), ``LEFT`` or ``ZERO``.

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
    nan: Ints | None = None

    def __post_init__(self) -> None:
        nodes = len(self.left)
        for name in ("right", "feature", "threshold", "value", "nan"):
            column = getattr(self, name)
            if column is not None and len(column) != nodes:
                raise BadRequest(f"tree ensemble: {name} has {len(column)} nodes, left {nodes}")
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
        if self.nan is not None and not np.isin(self.nan, (RIGHT, LEFT, ZERO)).all():
            raise BadRequest(f"tree ensemble: nan must be {RIGHT}, {LEFT} or {ZERO}")

    @cached_property
    def forest(self) -> Forest:
        """The trees as the kernels walk them."""
        nan = np.zeros(len(self.left), np.int64) if self.nan is None else self.nan
        return Forest(
            *forest_of(
                self.root, self.left, self.right, self.feature, self.threshold, self.value, nan
            )
        )

    def must_fit(self, features: int) -> None:
        """``BadRequest`` where a tree splits on a feature beyond so many."""
        most = int(self.feature[self.left >= 0].max(initial=-1))
        if most >= features:
            raise BadRequest(f"tree ensemble: it splits on feature {most}; there are {features}")

    def as_lists(self) -> dict[str, list[float] | None]:
        """The arrays by name, for a file."""
        return {
            name: None if column is None else column.tolist()
            for name, column in asdict(self).items()
        }

    def __call__(self, features: Floats) -> Floats:
        """Value of each row. Shape (n,)."""
        self.must_fit(features.shape[1])
        result: Floats = np.zeros(len(features))
        add_sums(np.ascontiguousarray(features), len(features), self.forest, result)
        return result


@dataclass(frozen=True, eq=False)
class LearnedGuide:
    """Trees, and what they say of a state; a ``Guide``.

    Parameters
    ----------
    trees : TreeEnsemble
    meaning : str
        One of ``MEANINGS``.
    card : mapping
        What it was trained on and how good it was, for people.

    Raises
    ------
    BadRequest
        For another meaning, or trees that split on features that are not there.
    """

    trees: TreeEnsemble
    meaning: str = EXCESS
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.meaning not in MEANINGS:
            raise BadRequest(f"guide: meaning is {self.meaning!r}; choose {' or '.join(MEANINGS)}")
        self.trees.must_fit(len(FEATURES))

    def __call__(self, features: Floats) -> Floats:
        """The guide's number for each state. Shape (n,).

        Notes
        -----
        Of trees that tell the excess it is the estimate of the whole plan's cost, over the
        root's bound: ``bound_rise x exp(max(excess, 0))``.
        """
        said = self.trees(features)
        if self.meaning == RANK:
            return said
        return features[:, 0] * np.exp(np.maximum(said, 0.0))

    def to_text(self) -> str:
        """The guide as JSON, for ``guide_from_text``."""
        whole = {
            "format": FORMAT, "meaning": self.meaning, "features": list(FEATURES),
            "card": dict(self.card), "trees": self.trees.as_lists(),
        }  # fmt: skip
        return json.dumps(whole, allow_nan=True)


def guide_from_text(text: str | bytes, source: str) -> LearnedGuide:
    """The guide that ``LearnedGuide.to_text`` wrote.

    Parameters
    ----------
    text : str or bytes
    source : str
        Its file, for messages.

    Raises
    ------
    BadRequest
        One sentence with the file and what is wrong with it.
    """
    whole, columns = read_guide(text, source, FORMAT, FEATURES, "plancast guide train")
    card = whole["card"]
    try:
        return LearnedGuide(TreeEnsemble(**columns), str(whole.get("meaning")), card)
    except BadRequest as error:
        raise BadRequest(f"{source}: {error}") from None


def read_guide(
    text: str | bytes, source: str, form: str, features: Sequence[str], made_by: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a guide's file holds, and the columns of its trees.

    Parameters
    ----------
    text : str or bytes
    source : str
        The file, for messages.
    form : str
        The format that it must say it has.
    features : sequence of str
        The features that it must have been trained on.
    made_by : str
        The command that makes one, for messages.

    Raises
    ------
    BadRequest
        One sentence with the file and what is wrong with it.
    """
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest(f"{source}: is no guide (not JSON); make one with {made_by}") from None
    if not isinstance(whole, dict) or whole.get("format") != form:
        found = whole.get("format") if isinstance(whole, dict) else None
        raise BadRequest(
            f"{source}: is no guide (format {found!r}, not {form!r}); make one with {made_by}"
        )
    if tuple(whole.get("features", ())) != tuple(features):
        raise BadRequest(f"{source}: features are not those of this version; train the guide again")
    trees = whole.get("trees")
    if not isinstance(trees, dict) or not isinstance(whole.setdefault("card", {}), dict):
        raise BadRequest(f"{source}: trees and card must be JSON objects; train the guide again")
    columns: dict[str, Any] = {}
    for name, kind in _COLUMNS.items():
        if name == "nan" and trees.get(name) is None:
            continue
        try:
            column = np.asarray(trees.get(name), kind)
        except (TypeError, ValueError, OverflowError):
            column = np.zeros((0, 0), kind)
        if column.ndim != 1:
            raise BadRequest(f"{source}: trees.{name} is no list of numbers; train the guide again")
        columns[name] = column
    return whole, columns


_COLUMNS: dict[str, Any] = {
    "root": np.int64, "left": np.int64, "right": np.int64, "feature": np.int64,
    "threshold": np.float64, "value": np.float64, "nan": np.int64,
}  # fmt: skip

"""Which way a site should plan in, chosen by the plans of its own past."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plancast.pipelines.worth.batches import Backlog

Floats = NDArray[np.float64]

LEAST_PAST = 10
"""Past batches, all of whose jobs have ended, before anything but the first way is taken."""
WAYS_OF_AUTO = (
    "closed_requested", "closed_last_two", "closed_last_same", "closed_app_median", "closed_p80",
    "closed_scenarios",
)  # fmt: skip
"""What is chosen from; those that a log has no estimates for are passed over."""


@dataclass(frozen=True)
class Choices:
    """What was taken for each batch, and what it cost.

    Parameters
    ----------
    taken : list of str
    costs : float64 (batches,)
    """

    taken: list[str]
    costs: Floats

    @property
    def usual(self) -> str:
        """The way taken for the last batch: what would be taken now."""
        return self.taken[-1]

    def facts(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"usual": self.usual, "counts": dict(Counter(self.taken)), "taken": self.taken}


def chosen(backlogs: Sequence[Backlog], costs: Mapping[str, Floats], first: str) -> Choices:
    """The way for each batch, by the batches whose outcome was known when it was planned.

    Parameters
    ----------
    backlogs : sequence of Backlog
    costs : mapping of str to float64 (batches,)
        Of every way; of a batch's own only the way taken is looked at.
    first : str
        Taken until ``LEAST_PAST`` batches are known.

    Notes
    -----
    A batch is known from when all of its jobs had ended on the log's clock. Then the way that
    cost least in sum over the known batches is taken.
    """
    known_from = np.array([b.ended_s for b in backlogs])
    tried = [name for name in WAYS_OF_AUTO if name in costs]
    taken = []
    for backlog in backlogs:
        past = np.flatnonzero(known_from <= backlog.now_s)
        if len(past) < LEAST_PAST:
            taken.append(first)
        else:
            taken.append(min(tried, key=lambda name: float(costs[name][past].sum())))
    return Choices(taken, np.array([costs[name][k] for k, name in enumerate(taken)]))

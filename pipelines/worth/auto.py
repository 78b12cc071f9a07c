"""Which way a site should plan in, chosen by the plans of its own past."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plancast.pipelines.inputs.past_plans import AUTO_WAYS, PastPlans
from plancast.pipelines.worth.batches import Backlog

Floats = NDArray[np.float64]


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


def past_plans(
    log: str, backlogs: Sequence[Backlog], costs: Mapping[str, Sequence[float] | Floats], first: str
) -> PastPlans:
    """The batches as the past that ``auto`` goes by.

    Parameters
    ----------
    log : str
    backlogs : sequence of Backlog
    costs : mapping of str to float64 (batches,)
        Of every way; those that ``auto`` knows and that the log has estimates for are kept.
    first : str
        Taken until enough batches are known.
    """
    known = (first, *(way for way in AUTO_WAYS if way in costs and way != first))
    return PastPlans(
        log,
        tuple(float(b.ended_s) for b in backlogs),
        {way: tuple(float(c) for c in costs[way]) for way in known},
    )


def chosen(
    backlogs: Sequence[Backlog], costs: Mapping[str, Floats], first: str, earlier: PastPlans
) -> Choices:
    """The way for each batch, by the batches whose outcome was known when it was planned.

    Parameters
    ----------
    backlogs : sequence of Backlog
    costs : mapping of str to float64 (batches,)
        Of every way; of a batch's own only the way taken is looked at.
    first : str
        Taken until enough batches are known, see ``PastPlans.choose``.
    earlier : PastPlans
        Batches before these.
    """
    past = earlier.then(past_plans("", backlogs, costs, first))
    taken = [past.choose(backlog.now_s).way for backlog in backlogs]
    return Choices(taken, np.array([costs[name][k] for k, name in enumerate(taken)]))

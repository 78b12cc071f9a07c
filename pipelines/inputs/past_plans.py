"""What plans of a site's past cost, by the way they were made, and which way that speaks for.

``plancast worth`` plans and executes past batches in several ways and keeps what each cost beside
the model. ``plancast plan --model`` goes by that: a forecast is used where its plans were the
cheapest, without being asked.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plancast.json_text import json_value
from plancast.pipelines.inputs.files import read_bytes, write_text_atomic
from plancast.planner.model.domain import SCENARIOS, BadRequest

FORMAT = 1
LEAST_PAST = 10
"""Past batches, all of whose jobs have ended, before anything but the first way is taken."""
RESERVED = 0.8
"""The level that is reserved whatever the way."""
AUTO_WAYS: dict[str, tuple[str, tuple[float, ...]]] = {
    "closed_requested": ("requested", ()),
    "closed_last_two": ("last_two", ()),
    "closed_last_same": ("last_same", ()),
    "closed_app_median": ("app_median", ()),
    "closed_p80": ("model", ()),
    "closed_scenarios": ("model", SCENARIOS),
}
"""What ``auto`` chooses from: whose run times are believed, and over which scenarios."""
USUAL = "closed_scenarios"
"""How the model is planned with unless another way is proven better."""


@dataclass(frozen=True)
class Choice:
    """Whose run times a plan believes, and why.

    Parameters
    ----------
    way : str
        Key of ``AUTO_WAYS``.
    known : int
        Past batches that it rests on.
    reason : str
        One clause.
    """

    way: str
    known: int
    reason: str

    @property
    def source(self) -> str:
        """``requested``, ``model``, or the name of a rule."""
        return AUTO_WAYS[self.way][0]

    @property
    def scenarios(self) -> tuple[float, ...]:
        """Levels over which the plan is priced; none: the reserved one."""
        return AUTO_WAYS[self.way][1]

    def facts(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "way": self.way,
            "source": self.source,
            "level": RESERVED,
            "scenarios": list(self.scenarios),
            "executor": "closed",
            "known_batches": self.known,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class PastPlans:
    """Past batches: from when the outcome of each is known, and what it cost in each way.

    Parameters
    ----------
    log : str
    ended_s : tuple of float (batches,)
        When the last job of each had ended, seconds on the log's clock.
    costs : mapping of str to tuple of float (batches,)
        By keys of ``AUTO_WAYS``, in the order in which they are tried first.
    """

    log: str
    ended_s: tuple[float, ...]
    costs: Mapping[str, tuple[float, ...]]

    def then(self, later: PastPlans) -> PastPlans:
        """These batches and later ones; only the later ones where the first way differs.

        Parameters
        ----------
        later : PastPlans
            Its ways are kept, as far as both know them.
        """
        if not self.ended_s or next(iter(later.costs)) not in self.costs:
            return later
        both = [way for way in later.costs if way in self.costs]
        costs = {way: self.costs[way] + later.costs[way] for way in both}
        return PastPlans(later.log, self.ended_s + later.ended_s, costs)

    def facts(self) -> dict[str, Any]:
        """From when the outcome of each batch is known, and what it cost in each way."""
        return {
            "ended_s": list(self.ended_s),
            "costs": {way: list(cost) for way, cost in self.costs.items()},
        }

    def is_whole(self) -> bool:
        """Whether each way has a finite cost for each batch."""
        count = len(self.ended_s)
        return all(
            len(c) == count and all(math.isfinite(v) for v in c) for c in self.costs.values()
        )

    @classmethod
    def of_facts(cls, log: str, facts: Mapping[str, Any]) -> PastPlans:
        """What ``facts`` wrote; ways that are not known any more are left out.

        Raises
        ------
        AttributeError, KeyError, TypeError, ValueError
            Where it did not.
        """
        costs = {
            way: tuple(float(c) for c in values)
            for way, values in facts["costs"].items()
            if way in AUTO_WAYS
        }
        return cls(log, tuple(float(at) for at in facts["ended_s"]), costs)

    def choose(self, now_s: float) -> Choice:
        """The way that past batches speak for, of those that are known by now.

        Parameters
        ----------
        now_s : float
            On the log's clock.

        Notes
        -----
        A batch is known from when all of its jobs had ended. Until ``LEAST_PAST`` are, requests
        are believed; where the log has none, the rule that cost least so far. Then the first way
        or ``USUAL``, whichever cost less in sum; another one only where it was cheaper by more
        than the standard error of the difference, paired over batches: few batches, of which one
        may cost more than all others, tell little of ways that are nearly alike.
        """
        known = [k for k, ended in enumerate(self.ended_s) if ended <= now_s]
        first = next(iter(self.costs))
        costs = {way: [cost[k] for k in known] for way, cost in self.costs.items()}
        sums = {way: math.fsum(cost) for way, cost in costs.items()}
        if len(known) < LEAST_PAST:
            reason = f"{len(known)} past batches of {self.log} are known, fewer than {LEAST_PAST}"
            rules = [way for way in sums if AUTO_WAYS[way][0] not in ("requested", "model")]
            taken = min(rules, key=lambda way: sums[way]) if first in rules else first
            return Choice(taken, len(known), reason)
        base = min((way for way in (first, USUAL) if way in sums), key=lambda way: sums[way])
        proven = [way for way in sums if way == base or _is_cheaper(costs[way], costs[base])]
        best = min(proven, key=lambda way: sums[way])
        reason = f"the cheapest on {len(known)} past batches of {self.log}"
        if best != first and sums[first] > 0:
            reason += f", {1 - sums[best] / sums[first]:.1%} below {first}"
        return Choice(best, len(known), reason)


def _is_cheaper(cost: Sequence[float], peer: Sequence[float]) -> bool:
    """Whether the mean of paired differences is below 0 by more than its standard error."""
    saved = [b - a for a, b in zip(cost, peer, strict=True)]
    return statistics.fmean(saved) > statistics.stdev(saved) / math.sqrt(len(saved))


def past_plans_file(model: Path) -> Path:
    """Where the past plans that belong to a model are kept: beside its folder."""
    folder = model.resolve() if model.name in ("", "..") else model
    return folder.parent / f"{folder.name}.past-plans.json"


def write_past_plans(path: Path, past: PastPlans) -> None:
    """Keep past plans in a file."""
    content = {"format": FORMAT, "log": past.log, **past.facts()}
    write_text_atomic(path, json.dumps(content) + "\n")


def read_past_plans(path: Path) -> PastPlans:
    """Past plans from a file.

    Raises
    ------
    BadRequest
        Where it is not what ``write_past_plans`` wrote.
    """
    raw = read_bytes(path)
    try:
        content = json_value(raw)
        found = PastPlans.of_facts(str(content["log"]), content)
        good = content["format"] == FORMAT and bool(found.costs) and found.is_whole()
    except (AttributeError, KeyError, TypeError, ValueError):
        good = False
    if not good:
        raise BadRequest(
            f"{path}: is no record of past plans of this version; make it again with plancast "
            "worth LOG --model MODEL, or remove it"
        )
    return found

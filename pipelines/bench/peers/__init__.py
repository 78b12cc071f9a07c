"""Peers: other ways to plan, beside ours in one benchmark run.

A peer takes a problem, a limit and a number of threads, and gives back a schedule and
what it knows of the least cost; the evaluator judges it as it judges us.
"""

from __future__ import annotations

from plancast.pipelines.bench.peers.base import Answer, NotSuited, Peer, Rules
from plancast.pipelines.bench.peers.heft import heft
from plancast.pipelines.bench.peers.reflex import (
    earliest_deadline_first,
    least_allocated,
    most_allocated,
)
from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Problem


def _model(problem: Problem, rules: Rules) -> Answer:
    # Only who asks for a solver waits until its library is loaded.
    from plancast.pipelines.bench.peers.model import straightforward_model

    return straightforward_model(problem, rules)


def _pyjobshop(problem: Problem, rules: Rules) -> Answer:
    from plancast.pipelines.bench.peers.job_shop_library import pyjobshop

    return pyjobshop(problem, rules)


def in_modes(choices: Choices, name: str, rules: Rules) -> Answer:
    """What a peer finds for tasks with modes; ``NotSuited`` where it has no word for them."""
    if name != "pyjobshop":
        raise NotSuited("has tasks with modes")
    from plancast.pipelines.bench.peers.job_shop_library import pyjobshop_in_modes

    return pyjobshop_in_modes(choices, rules)


PEERS: dict[str, Peer] = {
    "pyjobshop": _pyjobshop,
    "model": _model,
    "kube": least_allocated,
    "most": most_allocated,
    "edf": earliest_deadline_first,
    "heft": heft,
}
"""Name to peer."""

__all__ = ["PEERS", "Answer", "NotSuited", "Peer", "Rules", "in_modes"]

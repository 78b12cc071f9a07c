"""One list schedule in the order that a guide chooses, beside the hand-written ones.

And ``auto`` that begins with it. Part of ``make bench-guide``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plancast.pipelines.guide.passes import judge
from plancast.pipelines.guide.problems import POLICIES, Source
from plancast.planner.arrays.problem import encode
from plancast.planner.instances.cluster import read_cluster
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import Policy
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.plan import plan
from plancast.planner.solvers.greedy.passes import OrderGuide

MOVES = 2_000
"""Of ``auto``."""


def groups_of(sources: Sequence[Source], clusters: Path, seed: int) -> dict[str, list[PlanRequest]]:
    """Batches by group: 1,000 x 50 generated and of the cluster files, about 200 x 10 of sources.

    Parameters
    ----------
    sources : sequence of Source
        None that the guide was trained on.
    clusters : path
        Folder of the cluster files.
    seed : int
    """
    groups = {
        "generated, 1,000 x 50": [
            generate_batch(1000, generate_cluster(50, k), k) for k in range(910, 920)
        ]
    }
    files = [clusters / f"cluster-1000x50-{k}.json.gz" for k in range(3)]
    if files[0].exists():
        requests = [read_cluster(file).request for file in files]
        groups["cluster files, 1,000 x 50"] = requests
        waits = Policy(POLICIES[0])
        groups["the same, waiting priced"] = [replace(r, policy=waits) for r in requests]
    for source in sources:
        batches = [source.problem(k, seed, range(150, 251), range(8, 13)) for k in range(40)]
        groups[f"{source.name}, about 200 x 10"] = [
            replace(b, policy=Policy(POLICIES[k % len(POLICIES)])) for k, b in enumerate(batches)
        ]
    return groups


def order_rows(groups: dict[str, list[PlanRequest]], guide: OrderGuide) -> dict[str, Any]:
    """By group what ``guide_passes.judge`` tells, and ``auto`` with the guide over ``auto``."""
    result: dict[str, Any] = {}
    for name, requests in groups.items():
        told = judge(guide, [encode(request) for request in requests])
        logs = []
        for request in requests[:5]:
            request = replace(request, budget=Budget(None, MOVES))
            plain, guided = plan(request), plan(request, orders=guide)
            if plain.cost and guided.cost:
                logs.append(math.log(guided.cost / plain.cost))
        result[name] = {**told, "auto": math.exp(float(np.mean(logs))), "auto_batches": len(logs)}
    return result


def section(facts: dict[str, Any]) -> list[str]:
    """Lines of the page."""
    lines = [
        "", "## A learned dispatch order", "",
        f"One list schedule. The guide learned {facts['orders']} orders and which pass suits which "
        f"batch on {facts['batches']:,} batches of {', '.join(facts['trained_on'])}. *Usual*: the "
        "hand-written pass (of 18) that is best on average over the group, known only afterwards; "
        "*each*: the cheapest of the 18 for each batch. *Waiting*: the order that `greedy` knows "
        "without a guide. Batches of logs have five sets of prices in turn. Last: `auto` after "
        f"{MOVES:,} moves, with the guide over without.", "",
        "| batches | | chosen, over usual | waiting, over usual | chosen, over each | `auto` |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, told in facts["groups"].items():
        lines.append(
            f"| {name} | {told['batches']} | **{told['chosen'] - 1:+.1%}** "
            f"| {told['waiting'] - 1:+.1%} | {told['chosen_of_each'] - 1:+.1%} "
            f"| {told['auto'] - 1:+.2%} ({told['auto_batches']}) |"
        )
    mean = math.exp(float(np.mean([math.log(t["chosen"]) for t in facts["groups"].values()])))
    autos = [(math.log(t["auto"]), t["auto_batches"]) for t in facts["groups"].values()]
    auto = math.exp(float(np.average([a for a, _ in autos], weights=[n for _, n in autos])))
    lines += [
        "", f"Over all groups the chosen pass costs {mean - 1:+.1%} against the usual one, and "
        f"`auto` with the guide {auto - 1:+.2%}.",
    ]  # fmt: skip
    return lines

"""A queue rolled forward under EASY in the dullest style: lists, one loop over moments."""

from __future__ import annotations

import math

from plancast.planner.worlds.rollout import QueueState


def plain_roll(state: QueueState, left: list[int], run: list[int]) -> list[float]:
    """Start of each waiting job of one sample, seconds from now; infinite: never."""
    free = state.free.tolist()
    # (true end, end by the limit, demand)
    held = [
        (end, limit, demand)
        for end, limit, demand in zip(
            left, state.running_limit_s.tolist(), state.running_demand.tolist(), strict=True
        )
    ]
    queue = list(range(len(run)))
    demand, limit = state.demand.tolist(), state.limit_s.tolist()
    starts = [math.inf] * len(run)
    now = 0

    def fits(wanted: list[int], there: list[int]) -> bool:
        return all(a <= b for a, b in zip(wanted, there, strict=True))

    def start(job: int) -> None:
        nonlocal free
        starts[job] = now
        held.append((now + run[job], now + limit[job], demand[job]))
        free = [f - d for f, d in zip(free, demand[job], strict=True)]
        queue.remove(job)

    while queue:
        while queue and fits(demand[queue[0]], free):
            start(queue[0])
        if queue:
            head = queue[0]
            shadow, spare = math.inf, [0] * len(free)
            for moment in sorted({end for _, end, _ in held}):
                there = list(free)
                for _, end, wanted in held:
                    if end <= moment:
                        there = [a + b for a, b in zip(there, wanted, strict=True)]
                if fits(demand[head], there):
                    shadow = moment
                    spare = [a - b for a, b in zip(there, demand[head], strict=True)]
                    break
            for job in queue[1:]:
                if not fits(demand[job], free):
                    continue
                if now + limit[job] > shadow:
                    if not fits(demand[job], spare):
                        continue
                    spare = [a - b for a, b in zip(spare, demand[job], strict=True)]
                start(job)
        if not held:
            break
        now = min(end for end, _, _ in held)
        for item in [h for h in held if h[0] <= now]:
            held.remove(item)
            free = [f + d for f, d in zip(free, item[2], strict=True)]
    return starts

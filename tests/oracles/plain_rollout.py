"""A queue rolled forward under EASY or conservatively in the dullest style: lists."""

from __future__ import annotations

import math

from plancast.planner.worlds.rollout import QueueState


def plain_roll(
    state: QueueState, left: list[int], run: list[int], discipline: str = "easy"
) -> list[float]:
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

    def lay_out() -> None:
        """Each job of the queue at its earliest by limits; what begins now starts."""
        planned = [(now, end, wanted) for _, end, wanted in held]
        whole = [f + sum(w[r] for _, _, w in planned) for r, f in enumerate(free)]
        for job in list(queue):
            for at in sorted({now, *(end for _, end, _ in planned)}):
                instants = [at, *(b for b, _, _ in planned if at < b < at + limit[job])]
                if all(
                    sum(w[r] for b, e, w in planned if b <= t < e) + demand[job][r] <= whole[r]
                    for t in instants
                    for r in range(len(whole))
                ):
                    planned.append((at, at + limit[job], demand[job]))
                    if at == now:
                        start(job)
                    break

    while queue:
        if discipline == "conservative":
            lay_out()
        while discipline == "easy" and queue and fits(demand[queue[0]], free):
            start(queue[0])
        if discipline == "easy" and queue:
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

"""The replay on nodes in the dullest style: free amounts are counted anew at every question."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from plancast.planner.model.domain import Task, Worker
from plancast.planner.worlds import node_kernel as kernel
from plancast.planner.worlds import node_machine as machine
from plancast.planner.worlds.node_replay import NodeDispatcher, NodeLog, pressure

Piece = tuple[int, tuple[int, ...]]
"""A worker, and the devices on it."""


@dataclass
class PlainNodes:
    """One replay with point estimates; jobs and workers by number."""

    nodes: NodeLog
    dispatcher: NodeDispatcher
    estimate: list[int]
    drops: bool = False
    now: int = 0
    waiting: list[int] = field(default_factory=list)
    running: dict[int, tuple[int, list[Piece]]] = field(default_factory=dict)
    placed: dict[int, tuple[int, list[Piece]]] = field(default_factory=dict)
    mix: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workers, self.kinds = self.nodes.workers, self.nodes.kinds
        self.resources = sorted(
            {r for w in self.workers for r in w.capacity}
            | {r for t in self.kinds for r in t.demand}
        )
        self.resources = [r for r in self.resources if r != "gpu"]
        self.price = np.zeros(self.nodes.cluster.allowed.shape)
        self.mix_at = 1

    def go(self) -> dict[int, tuple[int, list[Piece]]]:
        """Start and places of every job."""
        log = self.nodes.log
        arrived = 0
        while arrived < len(log) or self.running:
            ends = [start + int(log.run_s[j]) for j, (start, _) in self.running.items()]
            self.now = min(ends + [int(s) for s in log.submit_s[arrived : arrived + 1]])
            for j in [j for j, r in self.running.items() if r[0] + log.run_s[j] <= self.now]:
                del self.running[j]
            while arrived < len(log) and log.submit_s[arrived] <= self.now:
                self.waiting.append(arrived)
                arrived += 1
            if self.dispatcher.breaks and arrived >= self.mix_at:
                self.mix_at = 2 * arrived
                count = np.bincount(self.nodes.kind[:arrived], minlength=len(self.kinds))
                weight = count / count.sum()
                if self.dispatcher.rule == machine.REMAINDER:
                    weight = count / self.nodes.cluster.share
                    weight /= weight.sum()
                order = sorted(range(len(count)), key=lambda k: (-weight[k], k))
                self.mix = [(k, float(weight[k])) for k in order if count[k]]
                self.price = pressure(self.nodes.cluster, count)
            self.start_what_may()
        return self.placed

    # ------------------------------------------------------------------ the queue

    def start_what_may(self) -> None:
        """One pass over the queue."""
        head, self.waiting = None, sorted(self.waiting, key=self.key)
        shadow = None
        for j in list(self.waiting):
            pieces = None
            if self.has_room(self.task(j), self.running):
                if head is not None and shadow is None:
                    shadow = self.shadow(head)
                pieces = self.places(j, shadow)
            if pieces is not None:
                self.waiting.remove(j)
                self.running[j] = self.placed[j] = (self.now, pieces)
            elif head is None and (
                self.dispatcher.reserves == kernel.HEAD
                or (self.dispatcher.reserves == kernel.OLD and self.is_old(j))
            ):
                head = j
        if self.drops:
            self.waiting = []

    def is_old(self, j: int) -> bool:
        """Whether a job has waited for longer than the patience."""
        rules = self.dispatcher.rules
        return rules is not None and self.now - self.nodes.log.submit_s[j] >= rules.patience_s

    def key(self, j: int) -> tuple[float, ...]:
        """Where a job stands in the queue."""
        if self.dispatcher.rules is None or self.is_old(j):
            return (0.0, j)
        seconds = max(
            1.0, min(max(1.0, float(self.estimate[j])), float(self.nodes.log.requested_s[j]))
        )
        share = float(self.nodes.cluster.share[self.nodes.kind[j]])
        return (1.0, round(seconds * share * max(seconds, 10.0), 9), j)

    def shadow(self, head: int) -> tuple[int, dict[int, tuple[int, list[Piece]]], Task, list[int]]:
        """When a job will have room, what runs then, and how many of its pieces go where."""
        left, task = dict(self.running), self.task(head)
        at, last = self.now, -1
        # Tests have no two jobs that are believed to end at once.
        for end, j in sorted((self.believed_end(j), j) for j in self.running):
            at, last = end, j
            del left[j]
            if self.has_room(task, left):
                break
        needs, missing = [0] * len(self.workers), task.shards
        for w in [w for w, _ in self.running[last][1]] + list(range(len(self.workers))):
            if needs[w] == 0:
                needs[w] = min(missing, self.count(task, w, left))
                missing -= needs[w]
        return at, left, task, needs

    def believed_end(self, j: int) -> int:
        """When a running job is believed to end."""
        start = self.running[j][0]
        for end in (start + max(1, self.estimate[j]), start + int(self.nodes.log.requested_s[j])):
            if end > self.now:
                return end
        return self.now + 60

    def places(self, j: int, shadow: tuple | None) -> list[Piece] | None:  # type: ignore[type-arg]
        """A place for every piece of a job, or None."""
        task, found = self.task(j), []
        outlasts = shadow is not None and self.now + max(1, self.estimate[j]) > shadow[0]
        beside = dict(self.running)
        later = dict(shadow[1]) if shadow is not None else {}
        for _ in range(task.shards):
            best: tuple[float, int, Piece] | None = None
            for w in range(len(self.workers)):
                rated = self.rate(task, w, beside)
                if rated is None:
                    continue
                rating, devices = rated
                if outlasts and shadow is not None and shadow[3][w] > 0:
                    with_it = {**later, j: (0, [*found, (w, devices)])}
                    if self.count(shadow[2], w, with_it) < shadow[3][w]:
                        continue
                if best is None or rating < best[0]:
                    best = rating, w, (w, devices)
            if best is None:
                return None
            found.append(best[2])
            beside[j] = (self.now, list(found))
        if outlasts and shadow is not None:
            shadow[1][j] = (self.now, found)
        return found

    # ------------------------------------------------------------------ workers

    def task(self, j: int) -> Task:
        """What a job asks for."""
        return self.kinds[self.nodes.kind[j]]

    def state(
        self, w: int, running: dict[int, tuple[int, list[Piece]]]
    ) -> tuple[dict[str, int], list[int]]:
        """What a worker has free, and left of each device."""
        has: Worker = self.workers[w]
        free = {r: has.capacity.get(r, 0) for r in self.resources}
        left = [1000] * (has.capacity.get("gpu", 0) // 1000)
        for j, (_, pieces) in running.items():
            for where, devices in pieces:
                if where == w:
                    for r, amount in self.task(j).demand.items():
                        if r != "gpu":
                            free[r] -= amount
                    for d in devices:
                        left[d] -= min(1000, self.task(j).demand["gpu"])
        return free, left

    def fit(self, task: Task, w: int, free: dict[str, int], left: list[int]) -> int:
        """How many pieces fit beside that."""
        if not self.workers[w].satisfies(task.requires):
            return 0
        many = [free[r] // a for r, a in task.demand.items() if r != "gpu" and a]
        gpu = task.demand.get("gpu", 0)
        if gpu:
            each = min(gpu, 1000)
            many.append(sum(x // each for x in left) // max(1, gpu // 1000))
        return min([*many, machine.MANY])

    def count(self, task: Task, w: int, running: dict[int, tuple[int, list[Piece]]]) -> int:
        """How many pieces a worker holds beside what runs."""
        return self.fit(task, w, *self.state(w, running))

    def has_room(self, task: Task, running: dict[int, tuple[int, list[Piece]]]) -> bool:
        """Whether all pieces of a job have room."""
        return sum(self.count(task, w, running) for w in range(len(self.workers))) >= task.shards

    def rate(
        self, task: Task, w: int, running: dict[int, tuple[int, list[Piece]]]
    ) -> tuple[float, tuple[int, ...]] | None:
        """The rating of a worker, and the devices that the piece would have."""
        free, left = self.state(w, running)
        if self.fit(task, w, free, left) == 0:
            return None
        gpu = task.demand.get("gpu", 0)
        after = {r: free[r] - task.demand.get(r, 0) for r in free}
        choices: list[tuple[int, ...]] = [()]
        if 0 < gpu < 1000:
            choices = [(d,) for d in range(len(left)) if left[d] >= gpu]
            choices.sort(key=lambda c: (left[c[0]], c))
        elif gpu:
            whole = [d for d in range(len(left)) if left[d] == 1000]
            choices = [tuple(whole[: gpu // 1000])]
        rule = self.dispatcher.rule
        if rule == machine.REMAINDER and not any(w.capacity.get("gpu") for w in self.workers):
            rule = machine.BEST_FIT
        if rule not in (machine.FGD, machine.REMAINDER):
            return self.rate_simply(rule, w, after, sum(left) - gpu), choices[0]
        rated = []
        for devices in sorted(choices):
            then = list(left)
            for d in devices:
                then[d] -= min(gpu, 1000)
            more = self.broken(w, after, then) - self.broken(w, free, left)
            rated.append((-math.floor(100.0 / (1.0 + math.exp(more / 1000))), devices))
        steps, devices = min(rated, key=lambda r: (r[0], r[1]))
        price = 0.0
        if rule == machine.REMAINDER:
            k = self.kinds.index(task)
            price = machine.SCARCE * float(self.price[k, self.nodes.cluster.group[w]])
        return steps + price, devices

    def rate_simply(self, rule: int, w: int, after: dict[str, int], milli: int) -> float:
        """Kubernetes' two scores, and best fit."""
        if rule == machine.BEST_FIT:
            gpus = max(1, *(v.capacity.get("gpu", 0) / 1000 for v in self.workers))
            total = milli / (1000 * gpus)
            for r in after:
                total += after[r] / max(1, *(v.capacity.get(r, 0) for v in self.workers))
            return total / (len(after) + 1)
        has = self.workers[w].capacity
        parts = [after[r] / has[r] for r in after if has.get(r, 0) > 0]
        if has.get("gpu", 0) > 0:
            parts.append(milli / has["gpu"])
        mean = sum(parts) / max(1, len(parts))
        return mean if rule == machine.MOST_ALLOCATED else -mean

    def broken(self, w: int, free: dict[str, int], left: list[int]) -> float:
        """Milli-GPU that the kinds of the mix could not use, on average."""
        total = 0.0
        for k, weight in self.mix:
            task = self.kinds[k]
            gpu = task.demand.get("gpu", 0)
            empty = {r: self.workers[w].capacity.get(r, 0) for r in free}
            devices = [1000] * len(left)
            usable, most = 0.0, 0
            if gpu and self.fit(task, w, empty, devices) > 0:
                each = min(gpu, 1000)
                some = [x for x in left if x >= each]
                if len(some) >= gpu // 1000:
                    usable = float(sum(some))
                    most = sum(x // each for x in some) // max(1, gpu // 1000)
            room = min(
                [free[r] // a for r, a in task.demand.items() if r != "gpu" and a], default=most
            )
            if usable and room < most:
                lasting = self.dispatcher.rule == machine.REMAINDER
                usable *= math.sqrt(room / most) if lasting else float(room > 0)
            total += weight * (sum(left) - usable)
        return total

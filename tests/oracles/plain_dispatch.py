"""The dispatching kernel in the dullest style: every task on every worker at every moment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from plancast.planner.worlds.dispatch import FAR, Rules
from plancast.planner.worlds.dispatch_arrays import Arena


@dataclass
class PlainDispatch:
    """One execution; tasks and workers by number, times in seconds after now."""

    arena: Arena
    rules: Rules
    estimate: np.ndarray
    now: int = 0
    waiting: list[int] = field(default_factory=list)
    running: dict[int, tuple[int, int, list[int]]] = field(default_factory=dict)
    ended: dict[int, tuple[int, int, list[int]]] = field(default_factory=dict)
    back: dict[int, int] = field(default_factory=dict)
    restarts: int = 0

    def run(self) -> dict[int, tuple[int, int, list[int]]]:
        """Start, end and workers of every task that ran to its end."""
        c, live = self.arena.cluster, self.arena.start
        for i in range(len(c.kind)):
            if live.start[i] < FAR:
                places = live.worker[c.shard_ptr[i] : c.shard_ptr[i + 1]].tolist()
                self.running[i] = (int(live.start[i]), int(live.end[i]), places)
            else:
                self.waiting.append(i)
        self.waiting.sort(key=lambda i: (self.rules.rank[i], i))
        while True:
            self.start_what_may()
            moments = [end for _, end, _ in self.running.values()]
            for times in (c.release, c.outage_at, c.shut_end):
                moments += [int(t) for t in times if self.now < t < FAR]
            moments += [b for b in self.back.values() if b > self.now]
            if (not self.waiting and not self.running) or not moments:
                return self.ended
            self.go_to(min(moments))

    def go_to(self, moment: int) -> None:
        """Let everything of a moment happen."""
        before, self.now = self.now, moment
        c = self.arena.cluster
        for i in [i for i, run in self.running.items() if run[1] <= moment]:
            self.ended[i] = self.running.pop(i)
        for k in range(len(c.outage_at)):
            if before < c.outage_at[k] <= moment:
                w = int(c.outage_worker[k])
                self.back[w] = max(self.back.get(w, 0), int(c.outage_back[k]))
                if c.outage_kills[k]:
                    for i in [i for i, run in self.running.items() if w in run[2]]:
                        del self.running[i]
                        self.restarts += 1
                        self.waiting.append(i)
        self.waiting.sort(key=lambda i: (self.rules.rank[i], i))

    def free(self, w: int) -> np.ndarray:
        """What worker w has left."""
        c = self.arena.cluster
        left = c.capacity[w].copy()
        for i, (_, _, places) in self.running.items():
            left -= c.demand[i] * places.count(w)
        return left

    def longest(self, i: int, places: list[int], seconds: np.ndarray) -> int:
        """Seconds of the slowest piece."""
        return max(1, *(int(seconds[i, self.arena.cluster.worker_class[w]]) for w in places))

    def may_start(self, i: int, w: int, already: list[int]) -> bool:
        """The worker is in, has room, and no window nears."""
        c = self.arena.cluster
        if self.back.get(w, 0) > self.now:
            return False
        if (self.free(w) - c.demand[i] * already.count(w) < c.demand[i]).any():
            return False
        finish = self.now + int(self.estimate[i, c.worker_class[w]])
        for k in range(len(c.shut_worker)):
            if c.shut_worker[k] == w and c.shut_start[k] < finish and self.now < c.shut_end[k]:
                return False
        return True

    def free_after(self, i: int, w: int, already: list[int]) -> float:
        """What is left of worker w beside one piece more, as a share."""
        c = self.arena.cluster
        left = self.free(w) - c.demand[i] * (already.count(w) + 1)
        parts = [left[q] / c.capacity[w, q] for q in range(len(left)) if c.capacity[w, q] > 0]
        return sum(parts) / max(1, len(parts))

    def choose(self, i: int, limit: float, already: list[int]) -> int:
        """The best worker for a piece, or -1."""
        c, r = self.arena.cluster, self.rules
        best, choice = np.inf, -1
        for w in range(len(c.capacity)):
            if not c.allowed[c.kind[i], w] or self.estimate[i, c.worker_class[w]] <= 0:
                continue
            if r.rate[r.row[i], w] > limit or not self.may_start(i, w, already):
                continue
            score = r.price * r.rate[r.row[i], w]
            if r.spread:
                score += r.spread * self.free_after(i, w, already)
            if score < best:
                best, choice = score, w
        return choice

    def start_what_may(self) -> None:
        """All starts of this moment."""
        r = self.rules
        if r.kin < np.inf and not r.bound:
            self.turn(r.kin)
        self.turn(np.inf)

    def turn(self, limit: float) -> None:
        """Go through the queue once."""
        c, r = self.arena.cluster, self.rules
        still: list[int] = []
        taken: set[int] = set()
        for i in self.waiting:
            ready = c.release[i] <= self.now and all(
                b in self.ended for b in c.pred[c.pred_ptr[i] : c.pred_ptr[i + 1]].tolist()
            )
            pieces = range(c.shard_ptr[i], c.shard_ptr[i + 1])
            places: list[int] = []
            for p in pieces if ready else ():
                if r.bound:
                    w = int(r.home[p])
                    w = -1 if w in taken or not self.may_start(i, w, places) else w
                else:
                    w = self.choose(i, limit, places)
                if w < 0:
                    break
                places.append(w)
            if len(places) == len(pieces):
                truth = self.longest(i, places, self.arena.actual)
                self.running[i] = (self.now, self.now + truth, places)
                continue
            still.append(i)
            if r.bound:
                taken |= {int(r.home[p]) for p in pieces}
        self.waiting = still

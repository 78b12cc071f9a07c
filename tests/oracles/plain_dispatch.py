"""The dispatching kernel in the dullest style: every task on every worker at every moment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from plancast.planner.worlds.dispatch import FAR, LEAST_FREE, MOST_FREE, Rules
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
    hold: dict[int, int] = field(default_factory=dict)
    back: dict[int, int] = field(default_factory=dict)
    restarts: int = 0
    holds_made: int = 0

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
                self.hold.pop(w, None)
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

    def room_at(self, i: int, w: int) -> tuple[int, np.ndarray]:
        """When task i has room on worker w by what is believed; what is left beside it then."""
        c = self.arena.cluster
        gives = []
        for j, (start, _, places) in self.running.items():
            end = start + self.longest(j, places, self.estimate)
            if end <= self.now:
                end = self.now + max(1, self.now - start)
            gives += [(end, j)] * places.count(w)
        first = max(self.now, self.back.get(w, 0))
        for at in sorted({first, *(end for end, _ in gives if end > first)}):
            left = self.free(w) - c.demand[i]
            for end, j in gives:
                if end <= at:
                    left = left + c.demand[j]
            if (left >= 0).all():
                return at, left
        return FAR, self.free(w)

    def may_start(self, i: int, w: int, already: list[int]) -> bool:
        """Room, windows, and who the worker is held for."""
        c, rank = self.arena.cluster, self.rules.rank
        if self.back.get(w, 0) > self.now:
            return False
        if (self.free(w) - c.demand[i] * already.count(w) < c.demand[i]).any():
            return False
        finish = self.now + int(self.estimate[i, c.worker_class[w]])
        for k in range(len(c.shut_worker)):
            if c.shut_worker[k] == w and c.shut_start[k] < finish and self.now < c.shut_end[k]:
                return False
        h = self.hold.get(w, -1)
        if h < 0 or h == i or (rank[h], h) > (rank[i], i):
            return True
        at, left = self.room_at(h, w)
        return finish <= at or bool((left - c.demand[i] * already.count(w) >= c.demand[i]).all())

    def free_after(self, i: int, w: int, already: list[int]) -> float:
        """What is left of worker w beside one piece more, as a share."""
        c = self.arena.cluster
        left = self.free(w) - c.demand[i] * (already.count(w) + 1)
        parts = [left[q] / c.capacity[w, q] for q in range(len(left)) if c.capacity[w, q] > 0]
        if self.rules.measure == LEAST_FREE:
            return min(1.0, *parts, 1.0)
        if self.rules.measure == MOST_FREE:
            return max(0.0, *parts, 0.0)
        return sum(parts) / max(1, len(parts))

    def choose(self, i: int, piece: int, limit: float, already: list[int]) -> int:
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
            score += r.stick * (w != r.home[piece])
            if score < best:
                best, choice = score, w
        return choice

    def start_what_may(self) -> None:
        """All starts of this moment."""
        r = self.rules
        if r.kin < r.costliest and not r.bound and not r.in_order:
            self.turn(r.kin, last=False)
        self.turn(r.costliest, last=True)

    def turn(self, limit: float, *, last: bool) -> None:
        """Go through the queue once."""
        c, r = self.arena.cluster, self.rules
        still: list[int] = []
        taken: set[int] = set()
        blocked = False
        for i in self.waiting:
            ready = c.release[i] <= self.now and all(
                b in self.ended for b in c.pred[c.pred_ptr[i] : c.pred_ptr[i + 1]].tolist()
            )
            pieces = range(c.shard_ptr[i], c.shard_ptr[i + 1])
            places: list[int] = []
            for p in pieces if ready and not blocked else ():
                if r.bound:
                    w = int(r.home[p])
                    w = -1 if w in taken or not self.may_start(i, w, places) else w
                else:
                    w = self.choose(i, p, limit, places)
                if w < 0:
                    break
                places.append(w)
            if len(places) == len(pieces):
                truth = self.longest(i, places, self.arena.actual)
                self.running[i] = (self.now, self.now + truth, places)
                self.hold = {w: h for w, h in self.hold.items() if h != i}
                continue
            still.append(i)
            if r.bound:
                taken |= {int(r.home[p]) for p in pieces}
            elif ready and last and not blocked:
                blocked = r.in_order
                if i not in self.hold.values() and len(self.hold) + len(pieces) <= r.most_holds:
                    self.hold_for(i)
        self.waiting = still

    def hold_for(self, i: int) -> None:
        """Hold a worker for each piece of task i."""
        c, r = self.arena.cluster, self.rules
        kind = c.kind[i]
        for p in range(c.shard_ptr[i], c.shard_ptr[i + 1]):
            w = int(r.home[p])
            away = self.back.get(w, 0) > self.now
            if w < 0 or w in self.hold or not c.allowed[kind, w] or away:
                open_to = [
                    v
                    for v in range(len(c.capacity))
                    if v not in self.hold
                    and c.allowed[kind, v]
                    and r.rate[r.row[i], v] <= r.costliest
                    and self.estimate[i, c.worker_class[v]] > 0
                ]
                rooms = [(self.room_at(i, v)[0], v) for v in open_to]
                rooms = [room for room in rooms if room[0] < FAR]
                w = min(rooms)[1] if rooms else -1
            if w >= 0:
                self.hold[w] = i
                self.holds_made += 1

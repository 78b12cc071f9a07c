"""The replay of a log in the dullest style: lists, one loop over moments, nothing shared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from planner.dispatchers import Dispatcher
from planner.replay import Outages, ReplayLog


@dataclass
class PlainReplay:
    """Starts and promises by job; `estimates` is a list of seconds, or ``last_two``."""

    log: ReplayLog
    dispatcher: Dispatcher
    estimates: list[int] | str
    outages: Outages = field(default_factory=Outages)

    def __post_init__(self) -> None:
        n = len(self.log)
        self.submit, self.run = self.log.submit_s.tolist(), self.log.run_s.tolist()
        self.procs, self.request = self.log.width.tolist(), self.log.requested_s.tolist()
        self.user = self.log.user.tolist()
        self.start: list[int | None] = [None] * n
        self.expected: dict[int, int] = {}
        self.promise: list[int | None] = [None] * n
        self.estimate = [0] * n
        self.queue: list[int] = []
        self.running: list[int] = []
        self.down: list[tuple[int, int]] = []  # (end, processors)
        self.done: list[int] = []
        self.free = self.log.procs
        self.committed: tuple[int, float] | None = None

    def _key(self, order: str, job: int, now: int) -> float:
        r, n = float(max(self.estimate[job], 1)), float(self.procs[job])
        log_s = math.log10(max(self.submit[job], 1))
        wait = now - self.submit[job]
        return {
            "fcfs": lambda: 0.0,
            "sjf": lambda: r,
            "saf": lambda: r * n,
            "f1": lambda: math.log10(r) * n + 870 * log_s,
            "f2": lambda: math.sqrt(r) * n + 25600 * log_s,
            "f3": lambda: r * n + 6860000 * log_s,
            "f4": lambda: r * math.sqrt(n) + 530000 * log_s,
            "wfp3": lambda: -((wait / r) ** 3) * n,
            "unicep": lambda: -wait / ((math.log2(n) + 1e-9) * r),
            "run2procs": lambda: max(r, 10.0) ** 2 * n,
        }[order]()

    def _sorted_by(self, order: str, now: int) -> list[int]:
        return sorted(self.queue, key=lambda job: (self._key(order, job, now), job))

    def _launch(self, job: int, now: int) -> None:
        self.start[job] = now
        self.expected[job] = now + self.estimate[job]
        self.free -= self.procs[job]
        self.running.append(job)
        self.queue.remove(job)

    def _end_of(self, job: int) -> int:
        started = self.start[job]
        assert started is not None
        return started + self.run[job]

    def _finish(self, job: int) -> None:
        self.running.remove(job)
        self.done.append(job)
        self.free += self.procs[job]

    def _guess(self, job: int) -> int:
        if self.estimates != "last_two":
            return int(self.estimates[job])  # type: ignore[arg-type]
        mine = [self.run[j] for j in self.done if self.user[j] == self.user[job]][-2:]
        if len(mine) < 2:
            return self.request[job]
        return min(max(sum(mine) // 2, 1), self.request[job])

    def _releases(self) -> list[tuple[int, int]]:
        held = [(self.expected[j], self.procs[j]) for j in self.running]
        return sorted(held + self.down)

    # -- passes ---------------------------------------------------------------------------

    def _pass_easy(self, now: int) -> None:
        order = self._sorted_by(self.dispatcher.head, now)
        while order and self.procs[order[0]] <= self.free:
            self._launch(order.pop(0), now)
        if not order or self.dispatcher.backfill == "none":
            return
        head, spare, shadow = order[0], self.free - self.procs[order[0]], math.inf
        for end, procs in self._releases():
            if spare >= 0 and end > shadow:
                break
            spare += procs
            if spare >= 0:
                shadow = end
        spare = max(spare, 0)
        for job in self._sorted_by(self.dispatcher.fill or self.dispatcher.head, now):
            if job == head or self.procs[job] > self.free:
                continue
            if now + self.estimate[job] > shadow:
                if self.procs[job] > spare:
                    continue
                spare -= self.procs[job]
            self._launch(job, now)

    def _pass_published(self, now: int) -> None:
        while self.queue:
            if self.committed is None:
                head, free, begins = self._sorted_by(self.dispatcher.head, now)[0], self.free, 0.0
                if self.procs[head] > free:
                    for end, procs in self._releases():
                        free, begins = free + procs, end
                        if free >= self.procs[head]:
                            break
                self.committed = (head, begins)
            head, begins = self.committed
            if self.procs[head] <= self.free:
                self._launch(head, now)
                self.committed = None
                continue
            for job in list(self.queue):
                if self.procs[job] <= self.free and now + self.estimate[job] < begins:
                    self._launch(job, now)
            return

    def _lay_out(self, now: int, *, starting: bool) -> None:
        """Conservative starts of the queue in order, by testing every candidate moment."""
        holds = [(now, end, procs) for end, procs in self._releases()]
        capacity = self.free + sum(procs for _, procs in self._releases())
        for job in self._sorted_by(self.dispatcher.head, now):
            last = max(self.estimate[job], 1)
            moments = sorted({now, *(e for _, e, _ in holds)})
            at = next((m for m in moments if self._fits(holds, capacity, job, m, m + last)), None)
            if self.promise[job] is None:
                self.promise[job] = at
            if at is None:
                continue
            holds.append((at, at + last, self.procs[job]))
            if starting and at == now:
                self._launch(job, now)

    def _fits(
        self, holds: list[tuple[int, int, int]], capacity: int, job: int, begin: int, end: int
    ) -> bool:
        edges = [begin, *(b for b, _, _ in holds if begin < b < end)]
        used = [sum(p for b, e, p in holds if b <= at < e) for at in edges]
        return all(u + self.procs[job] <= capacity for u in used)

    # -- time -----------------------------------------------------------------------------

    def go(self) -> PlainReplay:
        """Run every job; returns itself, with starts and promises filled in."""
        n = len(self.log)
        coming = list(range(n))
        outages = list(
            zip(
                self.outages.begin_s.tolist(),
                self.outages.lasts_s.tolist(),
                self.outages.procs.tolist(),
                self.outages.kills.tolist(),
                strict=True,
            )
        )
        one_by_one = self.dispatcher.backfill == "published"
        while True:
            arrival = self.submit[coming[0]] if coming else math.inf
            ends = sorted((self._end_of(j), j) for j in self.running)
            end = min([e for e, _ in ends] + [e for e, _ in self.down], default=math.inf)
            open_jobs = bool(coming) or len(self.done) < n
            outage = outages[0][0] if outages and open_jobs else math.inf
            now = min(arrival, end, outage)
            if now == math.inf:
                return self
            now = int(now)
            if one_by_one:
                if arrival > now and ends:
                    self._finish(ends[0][1])
                elif arrival <= now:
                    self._arrive(coming.pop(0))
            else:
                for moment, job in ends:
                    if moment <= now:
                        self._finish(job)
                for moment, procs in list(self.down):
                    if moment <= now:
                        self.down.remove((moment, procs))
                        self.free += procs
                while outages and outages[0][0] <= now:
                    self._fail(now, *outages.pop(0)[1:])
                while coming and self.submit[coming[0]] <= now:
                    self._arrive(coming.pop(0))
            for job in self.running:
                if self.expected[job] <= now:
                    limit = self._end_of(job) - self.run[job] + self.request[job]
                    while limit <= now:
                        limit += 60
                    self.expected[job] = limit
            if one_by_one:
                self._pass_published(now)
            elif self.dispatcher.backfill == "conservative":
                self._lay_out(now, starting=True)
            else:
                self._pass_easy(now)
                self._lay_out(now, starting=False)

    def _arrive(self, job: int) -> None:
        self.estimate[job] = self._guess(job)
        self.queue.append(job)

    def _fail(self, now: int, lasts: int, procs: int, kills: bool) -> None:
        while kills and self.free < procs and self.running:
            victim = max(self.running, key=lambda j: (self.start[j], j))
            self.running.remove(victim)
            self.free += self.procs[victim]
            self.start[victim] = None
            self.queue = sorted([*self.queue, victim])
        self.free -= procs
        self.down.append((now + lasts, procs))

"""The replay of a log in the dullest style: lists, one loop over moments, nothing shared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from plancast.planner.worlds.dispatchers import Dispatcher
from plancast.planner.worlds.replay import Outages, ReplayLog


@dataclass
class PlainReplay:
    """Starts and promises by job; `estimates` is a list of seconds, or ``last_two``."""

    log: ReplayLog
    dispatcher: Dispatcher
    estimates: list[int] | str
    outages: Outages = field(default_factory=Outages)
    levels: tuple[float, ...] = (0.5,)
    quantiles: list[list[float]] | None = None
    limits: list[int] | None = None  # cut there once, then submitted again with the request

    def __post_init__(self) -> None:
        n = len(self.log)
        self.submit, self.run = self.log.submit_s.tolist(), self.log.run_s.tolist()
        self.whole, self.lost = list(self.run), [0] * n
        if self.limits is not None:
            self.whole = [min(r, q) for r, q in zip(self.run, self.log.requested_s, strict=True)]
            self.run = [min(r, k) for r, k in zip(self.whole, self.limits, strict=True)]
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
        self.planned: dict[int, int] = {}
        self.put_off = 0
        self.asked: set[int] = set()  # have been told a start, or that none is known

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
        # Equals stay in the order of the queue.
        return sorted(self.queue, key=lambda job: self._key(order, job, now))

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
        self.free += self.procs[job]
        if self.run[job] < self.whole[job]:
            self.lost[job], self.run[job] = self.run[job], self.whole[job]
            self.estimate[job], self.start[job] = self.request[job], None
            self.queue.append(job)
            return
        self.done.append(job)

    def _guess(self, job: int) -> int:
        if self.estimates != "last_two":
            return int(self.estimates[job])  # type: ignore[arg-type]
        mine = [self.run[j] for j in self.done if self.user[j] == self.user[job]][-2:]
        if len(mine) < 2:
            return self.request[job]
        return min(max(sum(mine) // 2, 1), self.request[job])

    def _note(self, begins: dict[int, int]) -> None:
        for job, at in begins.items():
            self.put_off += job in self.planned and at > self.planned[job] + 60
            self.planned[job] = at

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

    # -- the planner ----------------------------------------------------------------------

    def _known(self, job: int) -> list[float]:
        if self.quantiles is not None:
            return [max(1.0, min(q, self.request[job])) for q in self.quantiles[job]]
        return [float(max(self.estimate[job], 1))]

    def _segment(self, inside: list[bool]) -> tuple[int, float, float]:
        """Which two levels to interpolate between, and their logits."""
        k = min(sum(inside), len(self.levels) - 2)
        a, b = (math.log(p / (1 - p)) for p in self.levels[k : k + 2])
        return k, a, b

    def _quantile(self, job: int, level: float) -> float:
        known = self._known(job)
        if len(known) == 1:
            return known[0]
        k, a, b = self._segment([level > p for p in self.levels[1:]])
        low, high = math.log(known[k]), math.log(known[k + 1])
        z = math.log(level / (1 - level))
        return math.exp(min(low + (z - a) * (high - low) / (b - a), 30.0))

    def _safe(self, job: int, level: float) -> int:
        """The duration that promises are made by; at level 1 the request, whatever is forecast."""
        request = max(self.request[job], 1)
        return request if level == 1 else min(math.ceil(self._quantile(job, level)), request)

    def _level(self, job: int, seconds: float) -> float:
        known = self._known(job)
        if len(known) == 1:
            return 0.0 if seconds < known[0] else 1.0
        k, a, b = self._segment([seconds > q for q in known[1:]])
        low, high = math.log(known[k]), math.log(known[k + 1])
        slope = max((high - low) / (b - a), 0.02)
        return 1 / (1 + math.exp(-(a + (math.log(seconds) - low) / slope)))

    def _expect_ends(self, now: int, level: float) -> None:
        for job in self.running:
            began = self._end_of(job) - self.run[job]
            limit = began + self.request[job]
            gone = self._level(job, float(now - began)) if now > began else 0.0
            if limit <= now:
                while limit <= now:
                    limit += 60
                self.expected[job] = limit
            elif level == 1 or gone > 0.999:
                self.expected[job] = limit
            else:
                whole = self._quantile(job, gone + level * (1 - gone))
                self.expected[job] = min(max(began + math.ceil(whole), now + 1), limit)

    def _moments(self, job: int) -> tuple[float, float, float]:
        runs = [
            min(max(self._quantile(job, (k + 0.5) / 20), 1.0), float(self.request[job]))
            for k in range(20)
        ]
        bounded = [max(run, 10.0) for run in runs]
        total = [0.0, 0.0, 0.0]
        for run, least in zip(runs, bounded, strict=True):
            total = [total[0] + run, total[1] + 1.0 / least, total[2] + 1.0 / least**2]
        return total[0] / 20, total[1] / 20, total[2] / 20

    def _spread_out(
        self, now: int, jobs: list[tuple[int, int]], weight: dict[int, float], bound: float
    ) -> tuple[float, dict[int, int]]:
        """Price and starts of (job, duration) laid out in turn; cut short at the bound."""
        holds = [(now, end, procs) for end, procs in self._releases()]
        capacity = self.free + sum(procs for _, procs in self._releases())
        price, begins = 0.0, {}
        for job, last in jobs:
            moments = sorted({now, *(e for _, e, _ in holds)})
            at = next((m for m in moments if self._fits(holds, capacity, job, m, m + last)), None)
            if at is None:
                continue
            begins[job] = at
            price += weight.get(job, 0.0) * (at - now)
            if price >= bound:
                break
            holds.append((at, at + last, self.procs[job]))
        return price, begins

    def _price_of_wait(self, job: int, now: int, slowdown: float, square: float) -> float:
        rules = self.dispatcher.rules
        assert rules is not None
        wait = float(now - self.submit[job])
        growth = 1.0 + (wait / rules.patience_s) ** 2
        risk = square + (rules.humility / 100.0 if len(self.levels) > 1 else 0.0)
        return slowdown + rules.ageing * wait * risk * growth

    def _pass_planner(self, now: int, arrived: bool) -> None:
        rules = self.dispatcher.rules
        assert rules is not None
        if not arrived and not any(self.procs[job] <= self.free for job in self.queue):
            return
        self._expect_ends(now, rules.level)
        lasts = {job: max(self.estimate[job], 1) for job in self.queue}
        weight, scores = {}, []
        for job in self.queue:
            mean, slowdown, square = self._moments(job)
            procs = float(self.procs[job])
            w = weight[job] = self._price_of_wait(job, now, slowdown, square)
            point = max(float(self.estimate[job]), 10.0)
            scores.append(
                (procs * mean / w, procs * point / w, procs * point**2, point, procs * point)
            )

        def price(order: list[int], bound: float) -> tuple[float, dict[int, int]]:
            jobs = [(job, lasts[job]) for job in order[: rules.depth]]
            return self._spread_out(now, jobs, weight, bound)

        best, bound, begins = list(self.queue), math.inf, dict[int, int]()
        for rule in range(min(rules.rules, 5)):
            ranked = sorted(range(len(self.queue)), key=lambda k: (scores[k][rule], k))
            order = [self.queue[k] for k in ranked]
            cost, found = price(order, bound)
            if cost < bound:
                best, bound, begins = order, cost, found
        depth = min(rules.depth, len(best))
        for step in range(rules.moves if depth > 1 else 0):
            place = (step * 7919 + 13) % depth
            to = place * (step % 3) // 3
            if place == to:
                continue
            order = list(best)
            order.insert(to, order.pop(place))
            cost, found = price(order, bound)
            if cost < bound:
                best, bound, begins = order, cost, found
        starts = [job for job in best if begins.get(job) == now]
        self._note(begins)
        if arrived:
            self._expect_ends(now, rules.promise_level)
            turn = starts + [job for job in best if job not in starts]
            safe = {job: self._safe(job, rules.promise_level) for job in turn}
            _, result = self._spread_out(now, [(j, safe[j]) for j in turn], {}, math.inf)
            for job in turn:
                if self.promise[job] is None:
                    self.promise[job] = now if job in starts else result.get(job)
        for job in starts:
            self._launch(job, now)
            self.expected[job] = now + lasts[job]

    # -- the planner with bounds ----------------------------------------------------------

    def _first(
        self, holds: list[tuple[int, int, int]], capacity: int, job: int, since: int, last: int
    ) -> int | None:
        """The first moment from `since` on at which a job fits, by testing every candidate."""
        moments = sorted({since, *(e for _, e, _ in holds if e > since)})
        return next((m for m in moments if self._fits(holds, capacity, job, m, m + last)), None)

    def _pass_bounded(self, now: int, arrived: bool) -> None:
        rules = self.dispatcher.rules
        assert rules is not None
        if not arrived and not any(self.procs[job] <= self.free for job in self.queue):
            return
        self._expect_ends(now, rules.promise_level)
        busy = [(now, end, procs) for end, procs in self._releases()]
        capacity = self.free + sum(procs for _, procs in self._releases())
        lasts, score = dict[int, int](), dict[int, float]()
        for job in self.queue:
            lasts[job] = self._safe(job, rules.promise_level)
            mean, slowdown, square = self._moments(job)
            score[job] = self.procs[job] * mean / self._price_of_wait(job, now, slowdown, square)
        by_score = sorted(self.queue, key=lambda job: (score[job], job))
        held: dict[int, tuple[int, int, int]] = {}

        def holds() -> list[tuple[int, int, int]]:
            return busy + list(held.values())

        def hold(job: int, at: int | None) -> None:
            if at is not None:
                held[job] = (at, at + lasts[job], self.procs[job])

        new = [job for job in by_score if self.promise[job] is None]
        fresh = {job for job in new if job not in self.asked}
        for job in sorted(self.queue, key=lambda j: (self.promise[j] or 0, j)):
            found = self.promise[job]
            if found is not None:
                since = max(found, now)
                hold(job, self._first(holds(), capacity, job, since, lasts[job]))
        for job in new:
            at = self._first(holds(), capacity, job, now, lasts[job])
            if at is not None:
                at += int(min(rules.slack * lasts[job], rules.most_slack_s))
                at = self._first(holds(), capacity, job, at, lasts[job])
            hold(job, at)
            self.promise[job] = at
            self.asked.add(job)
        for job in by_score:
            if self.procs[job] > self.free:
                continue
            own = held.pop(job, None)
            if self._first(holds(), capacity, job, now, lasts[job]) == now:
                hold(job, now)
                self._launch(job, now)
                self.expected[job] = now + lasts[job]
                if job in fresh:
                    self.promise[job] = now
            elif own is not None:
                held[job] = own
        self._note({job: at for job, (at, _, _) in held.items()})

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
        backfill = self.dispatcher.backfill_with(len(self.levels))
        one_by_one = backfill == "published"
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
                # One by one, what ends at this instant may still be among the running.
                if self.expected[job] < now + (0 if one_by_one else 1):
                    limit = self._end_of(job) - self.run[job] + self.request[job]
                    while limit <= now:
                        limit += 60
                    self.expected[job] = limit
            if one_by_one:
                self._pass_published(now)
            elif backfill == "planner":
                self._pass_planner(now, arrival <= now)
            elif backfill == "bounded":
                self._pass_bounded(now, arrival <= now)
            elif backfill == "conservative":
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

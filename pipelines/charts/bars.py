"""What is drawn of a plan: pieces of tasks on workers, lanes side by side, and what is left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from plancast.planner.model.domain import Plan, Task, Worker
from plancast.planner.model.messages import PlanRequest
from plancast.planner.model.spans import running_end_s
from plancast.wording import counted


@dataclass(frozen=True, slots=True)
class Bar:
    """A task's piece on one worker; `task` as it is done in its mode."""

    task: Task
    start_s: int
    end_s: int
    runs: bool
    count: int
    mode: str = ""

    @property
    def late(self) -> bool:
        """Whether it ends after its task's deadline."""
        return self.task.deadline_s is not None and self.end_s > self.task.deadline_s


def bars_of(request: PlanRequest, plan: Plan) -> tuple[dict[str, list[Bar]], int]:
    """Bars by worker, and how many assignments name an unknown task or worker."""
    snapshot = request.snapshot
    bars: dict[str, list[Bar]] = defaultdict(list)
    strangers = 0

    def add(
        task: Task, mode: str, workers: Iterable[str], start_s: int, end_s: int, runs: bool
    ) -> None:
        done, pieces = task.in_mode(mode), dict[str, int]()
        for worker in workers:
            pieces[worker] = pieces.get(worker, 0) + 1
        for worker, count in pieces.items():
            bars[worker].append(Bar(done, start_s, end_s, runs, count, mode))

    seen = set()
    for a in plan.assignments:
        run = snapshot.running_by_id.get(a.task)
        task = snapshot.pending_by_id.get(a.task) or (run.task if run else None)
        known = task is not None and task.has_mode(a.mode)
        if task is None or not known or not set(a.workers) <= set(snapshot.worker_by_id):
            strangers += 1
            continue
        seen.add(a.task)
        runs = run is not None and a.task not in plan.preempted
        add(task, a.mode, a.workers, a.start_s, a.end_s, runs)
    for run in snapshot.running:
        if run.task.id not in seen and run.task.id not in plan.preempted:
            end_s = running_end_s(request, run)
            add(run.task, run.mode, run.workers, run.start_s, end_s, True)
    return bars, strangers


def busiest_workers(request: PlanRequest, bars: dict[str, list[Bar]], most: int) -> list[Worker]:
    """All workers, or the `most` with the most reserved task time, in the request's order."""
    workers = list(request.snapshot.workers)
    if len(workers) <= most:
        return workers
    busy_s = {
        w.id: sum((b.end_s - b.start_s) * b.count for b in bars.get(w.id, ())) for w in workers
    }
    busiest = sorted(workers, key=lambda w: -busy_s[w.id])[:most]
    keep = {w.id for w in busiest}
    return [w for w in workers if w.id in keep]


def longest_bars(bars: dict[str, list[Bar]], most: int) -> dict[str, list[Bar]]:
    """All bars by worker, or about the `most` longest of them."""
    lengths = sorted((b.end_s - b.start_s for row in bars.values() for b in row), reverse=True)
    if len(lengths) <= most:
        return bars
    least_s = lengths[most - 1] + 1 if most else lengths[0] + 1
    return {w: [b for b in row if b.end_s - b.start_s >= least_s] for w, row in bars.items()}


def left_out(
    request: PlanRequest, shown: Mapping[str, list[Bar]], strangers: int, most_bars: int
) -> list[str]:
    """What a drawing of these workers does not show, in words."""
    workers, bars = len(request.snapshot.workers), sum(map(len, shown.values()))
    notes = []
    if len(shown) < workers:
        notes.append(f"showing {len(shown)} of {counted(workers, 'worker')}, the busiest")
    if bars > most_bars:
        kept = sum(map(len, longest_bars(dict(shown), most_bars).values()))
        notes.append(f"showing {kept} of their {bars} bars, the longest")
    if strangers:
        notes.append(f"{counted(strangers, 'assignment')} of unknown tasks or workers left out")
    return notes


def lanes_of(bars: list[Bar]) -> list[tuple[Bar, int]]:
    """Each bar with the lowest lane that is free at its start."""
    free: list[int] = []
    ends: list[tuple[int, int]] = []
    lanes = 0
    result = []
    for bar in sorted(bars, key=lambda b: (b.start_s, -b.end_s, b.task.id)):
        while ends and ends[0][0] <= bar.start_s:
            heappush(free, heappop(ends)[1])
        if free:
            lane = heappop(free)
        else:
            lane, lanes = lanes, lanes + 1
        heappush(ends, (bar.end_s, lane))
        result.append((bar, lane))
    return result

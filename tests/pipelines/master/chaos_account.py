"""What chaos left on the disk against the books of the master."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from plancast.pipelines.master.loop import Options
from plancast.pipelines.master.places import place_of
from plancast.pipelines.master.state import OPEN, OrderRow, State
from plancast.pipelines.master.tables import tasks
from plancast.planner.planning.controller import ControlPolicy


@dataclass
class Asked:
    """What clients were promised, and what they saw go wrong.

    Parameters
    ----------
    tasks : list of str
        Acknowledged.
    off : set of str
        Asked to be called off, in time or too late.
    lost_books : list of float
        When an engine lost its books (a killed scheduler of Dask), seconds since the epoch.
    full : list of float
        When the disk was full, and when it was not any more, in turn.
    wrong : list of str
    """

    tasks: list[str] = field(default_factory=list)
    off: set[str] = field(default_factory=set)
    lost_books: list[float] = field(default_factory=list)
    full: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def was_full(self, at: float) -> bool:
        """Whether the disk was full then, or about to be."""
        spans = zip(self.full[::2], [*self.full[1::2], float("inf")], strict=False)
        return any(start - 1 <= at <= end + 2 for start, end in spans)


@dataclass
class Effects:
    """What one task has left on the disk: its attempts' beginnings and ends, in order."""

    begun: list[tuple[int, float]] = field(default_factory=list)
    done: list[tuple[int, float]] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path) -> Effects:
        """From its file; nothing where there is none."""
        found = cls()
        for line in path.read_text().splitlines() if path.exists() else ():
            what, attempt, at = line.split()
            (found.begun if what == "begin" else found.done).append((int(attempt), float(at)))
        return found


def faults_of(
    name: str, row: Any, rows: list[OrderRow], left: Effects, asked: Asked, tries: int
) -> list[str]:
    """What of one task contradicts its policy or the books."""
    if row is None:
        return [f"{name}: acknowledged, and not in the books"]
    if row.state != "ended":
        return [f"{name}: has not ended, it is {row.state}"]
    wrong = []
    void = {r.key[1] for r in rows if r.state in ("void", "stopped")}
    ended = [r for r in rows if r.state == "ended"]
    known = {r.key[1] for r in rows}
    began, done = Counter(a for a, _ in left.begun), Counter(a for a, _ in left.done)
    if strangers := sorted(began.keys() - known):
        wrong.append(f"attempts {strangers} ran, of which the books know nothing")
    if len(void) > tries or len(ended) > 1:
        wrong.append(f"{len(void)} runs lost and {len(ended)} ended; at most {tries} and one")
    for attempt, times in began.items():
        # Books that were lost with the engine: what ran, or had just ended, begins anew.
        ats = [at for a, at in left.begun if a == attempt]
        anew = sum(min(ats) < at < max(ats) for at in asked.lost_books)
        if times > 1 + anew:
            wrong.append(f"attempt {attempt} ran {times} times, {anew} of them anew")
        if done[attempt] > times:
            wrong.append(f"attempt {attempt} ended more often than it began")
    open_still = done.keys() - void - {r.key[1] for r in ended}
    wrong += [f"attempt {a} ran to its end, and its order has not ended" for a in open_still]
    last = ended[0] if ended else None
    if row.outcome == "completed":
        if last is None or last.outcome is None or last.outcome.value != "completed":
            wrong.append("completed, but no order is")
        elif not done[last.key[1]]:
            wrong.append(f"completed, but attempt {last.key[1]} did not come to its end")
    elif row.outcome == "failed":
        # What it prints goes to the disk of the state: it fails where that is full.
        at = [when for _, when in left.done] or [row.end_s]
        if "space" not in row.reason.lower() and not asked.was_full(max(at)):
            wrong.append(f"failed: {row.reason}")
    elif row.outcome == "cancelled":
        if name not in asked.off and len(void) < tries:
            wrong.append("cancelled, and nobody asked for it")
    else:
        wrong.append(f"{row.outcome}: {row.reason}")
    return [f"{name}: {one}; {left}; {rows}" for one in wrong]


def account(
    where: Any, files: Path, effects: Path, asked: Asked, facts: dict[str, Any]
) -> dict[str, Any]:
    """Compare; what is wrong is under ``wrong``."""
    wrong = list(asked.wrong)
    state = State(place_of(str(where), files))
    try:
        rows = {row.id: row for row in state.base.execute(sa.select(tasks))}
        of_task: dict[str, list[OrderRow]] = {}
        for order in state.orders():
            of_task.setdefault(order.key[0], []).append(order)
        mind = state.restored(ControlPolicy())
    finally:
        state.close()
    runs = anew = 0
    for name in asked.tasks:
        left = Effects.of(effects / name)
        runs += len(left.begun)
        anew += len(left.begun) - len({attempt for attempt, _ in left.begun})
        orders = of_task.get(name, [])
        wrong += faults_of(name, rows.get(name), orders, left, asked, Options().tries)
    if unknown := {p.name for p in effects.iterdir()} - set(asked.tasks):
        # A submission whose answer was lost is sent again until it has one: none is left over.
        wrong.append(f"ran, though never acknowledged: {sorted(unknown)}")
    every = [order for some in of_task.values() for order in some]
    if still := [order.key for order in every if order.state in OPEN]:
        wrong.append(f"orders that are open though all has ended: {still}")
    if mind is not None and (mind.snapshot.running or mind.snapshot.pending):
        names = [r.task.id for r in mind.snapshot.running], [t.id for t in mind.snapshot.pending]
        wrong.append(f"rooms that are taken, or tasks that wait, though all has ended: {names}")
    promised = [r for r in rows.values() if r.start_s is not None and r.promised_s is not None]
    broken = sum(r.start_s > r.promised_s for r in promised)
    if facts:
        said = facts["status"]["promises"]
        if (said["kept"], said["broken"]) != (len(promised) - broken, broken):
            wrong.append(f"promises: {said} by the master, {broken} broken of {len(promised)}")
        if facts["queue"].get("tasks"):
            wrong.append(f"the queue is not empty: {json.dumps(facts['queue'])[:500]}")
        for name, found in facts["log"].items():
            printed, done = json.dumps(found).count("ran "), len(Effects.of(effects / name).done)
            if rows[name].outcome == "completed" and printed != done:
                wrong.append(f"log {name}: {printed} runs printed, by its effects {done}")
    return {
        "acknowledged": len(asked.tasks),
        "outcomes": dict(Counter(str(rows[n].outcome) for n in asked.tasks if n in rows)),
        "orders": dict(Counter(order.state for order in every)),
        "runs": runs,
        "runs_anew": anew,
        "promises_kept": len(promised) - broken,
        "promises_broken": broken,
        "wrong": wrong,
    }

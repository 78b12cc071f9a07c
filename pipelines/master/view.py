"""What a master shows a person: where the batch stands, what runs, what waits and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from plancast.pipelines.master.loop import Master
from plancast.planner.model.domain import Outcome
from plancast.planner.model.explain import clock
from plancast.planner.model.spans import running_end_s
from plancast.wording import counted

MOST_ROWS = 12
"""Tasks shown in each table."""


def facts(master: Master) -> dict[str, Any]:
    """Where the batch stands, for machines."""
    snapshot = master.mind.snapshot
    ended = [row for row in master.orders.values() if row.state == "ended"]
    states = Counter(row.state for row in master.orders.values())
    plans = master.state.plans()
    return {
        "now_s": snapshot.now_s,
        "workers": sum(1 for w in snapshot.workers if w.capacity),
        "waiting": len(snapshot.pending),
        "running": len(snapshot.running),
        "completed": sum(row.outcome is Outcome.COMPLETED for row in ended),
        "not_completed": sum(row.outcome is not Outcome.COMPLETED for row in ended),
        "runs_lost_with_their_worker": states["void"],
        "runs_preempted": sum(row.preempted for row in master.orders.values()),
        "unplanned": dict(master.mind.hopeless()),
        "plans": [
            {"choice": p.choice.value, "at_s": p.at_s, "cost": p.cost, "moved": p.moved,
             "reason": p.reason}
            for p in plans
        ],
        "refused": list(master.refused),
    }  # fmt: skip


def picture(master: Master) -> Group:
    """The same for a person, as a live display shows it."""
    snapshot, now = master.mind.snapshot, master.mind.snapshot.now_s
    found = facts(master)
    head = Text.assemble(
        (f"{clock(now, now)} ", "bold"),
        f"{counted(found['workers'], 'worker')}, {found['running']} running, "
        f"{found['waiting']} waiting, "
        f"{found['completed']} completed, {found['not_completed']} not completed, "
        f"{found['runs_lost_with_their_worker']} runs lost with their worker, "
        f"{found['runs_preempted']} preempted",
    )
    plans = found["plans"]
    if plans:
        last = plans[-1]
        head.append(
            f"\n{counted(len(plans), 'plan')}; last: {last['choice']} at "
            f"{clock(last['at_s'], now)}, cost "
            f"{last['cost']:.4g}, {last['moved']} moved: {last['reason']}"
        )
    running = _table("running", ("task", "on", "since", "expected until"))
    for run in sorted(snapshot.running, key=lambda r: r.start_s)[:MOST_ROWS]:
        until = running_end_s(master.mind.request, run)
        running.add_row(
            run.task.id, ", ".join(dict.fromkeys(run.workers)), clock(run.start_s, now),
            clock(until, now),
        )  # fmt: skip
    waiting = _table("waiting", ("task", "why"))
    for task, outlook in master.mind.why(MOST_ROWS).items():
        waiting.add_row(task, outlook.text)
    for task, reason in list(found["unplanned"].items())[:MOST_ROWS]:
        waiting.add_row(task, reason)
    return Group(head, *(t for t in (running, waiting) if t.row_count))


def _table(title: str, columns: tuple[str, ...]) -> Table:
    result = Table(title=title, title_justify="left", title_style="bold", box=None,
                   header_style="underline", padding=(0, 2, 0, 0))  # fmt: skip
    for column in columns:
        result.add_column(column)
    return result

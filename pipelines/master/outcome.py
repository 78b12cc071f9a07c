"""How a batch ended, task by task: what failed or never ran, why, and what it printed last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plancast.pipelines.master.loop import Master
from plancast.pipelines.master.state import OrderRow
from plancast.planner.model.domain import Outcome

TAIL_BYTES, TAIL_LINES = 4096, 10
"""How much of the end of an output file is shown."""
NEVER_RAN = "never ran"
LOST = "lost"


def failures(master: Master) -> list[dict[str, Any]]:
    """Every task that did not complete, with its last run and the tail of its output.

    Returns
    -------
    list of dict
        ``task``, ``outcome`` (failed, timeout, cancelled, lost, never ran), ``reason``,
        ``attempt`` and ``workers`` of the last run (None and empty where there was none),
        ``output`` (its files) and ``tail``.
    """
    last: dict[str, OrderRow] = {}
    for key, ran in sorted(master.orders.items()):
        last[key[0]] = ran
    hopeless = master.mind.hopeless()
    found = []
    for task in master.state.first_request().snapshot.pending:
        row = last.get(task.id)
        if row is not None and row.state == "ended" and row.outcome is Outcome.COMPLETED:
            continue
        if row is not None and row.state == "ended":
            outcome = (row.outcome or Outcome.FAILED).value
            reason = row.reason
        elif row is not None and task.id not in hopeless:
            lost = sum(r.state == "void" for key, r in master.orders.items() if key[0] == task.id)
            outcome, reason = LOST, f"its worker was lost under it {lost} times"
        else:
            outcome, reason = NEVER_RAN, hopeless.get(task.id, "")
        files = [] if row is None else output_files(master, row)
        found.append({
            "task": task.id,
            "outcome": outcome,
            "reason": reason,
            "attempt": None if row is None else row.key[1],
            "workers": [] if row is None else list(row.workers),
            "output": [str(path) for path in files],
            "tail": "\n".join(text for path in files if (text := tail(path))),
        })  # fmt: skip
    return found


def outputs(master: Master) -> dict[str, list[str]]:
    """Output files of each task's runs that there are, in the order of attempts."""
    found: dict[str, list[str]] = {}
    for key, row in sorted(master.orders.items()):
        if files := output_files(master, row):
            found.setdefault(key[0], []).extend(str(path) for path in files)
    return found


def output_files(master: Master, row: OrderRow) -> list[Path]:
    """The files that a run has printed to: one, or one for each piece of a gang."""
    name = master.output_of(row.key)
    if not name:
        return []
    pieces = [Path(f"{name}.{piece}") for piece in range(len(row.workers))]
    return [path for path in (Path(name), *pieces) if path.is_file()]


def tail(path: Path) -> str:
    """The last lines of a file, whatever it holds; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""
    lines = text.splitlines()
    if size > TAIL_BYTES:
        lines = lines[1:]  # cut off at its beginning
    shown = [line.expandtabs() for line in lines[-TAIL_LINES:]]
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in shown)

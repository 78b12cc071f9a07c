"""Damages of responses: each looks for something that it can break, and says what is found then."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plancast.planner.model.domain import Task
from plancast.planner.model.messages import PlanRequest, PlanResponse, to_json
from plancast.planner.model.violations import ViolationKind

KIND = ViolationKind
FAR_S = 7200


@dataclass
class Case:
    """A response about to be damaged: `body` is what will be written, unless `text` is set."""

    request: PlanRequest
    response: PlanResponse
    rng: np.random.Generator
    body: dict[str, Any] = field(init=False)
    text: str | None = None

    def __post_init__(self) -> None:
        self.body = json.loads(to_json(self.response))

    @property
    def tasks(self) -> dict[str, Task]:
        """Pending tasks, and running ones that may be preempted and planned anew, by id."""
        snapshot = self.request.snapshot
        running = {name: r.task for name, r in snapshot.running_by_id.items()}
        return {**snapshot.pending_by_id, **running}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The assignments that will be written."""
        return self.body["plan"]["assignments"] if self.body["plan"] else []

    def pick(self, items: Any) -> Any:
        """One of them, or None where there is none."""
        items = list(items)
        return items[int(self.rng.integers(len(items)))] if items else None

    def row(self, fits: Callable[[dict[str, Any], Task], object] = lambda r, t: True) -> Any:
        """A random assignment that fits, or None."""
        return self.pick(r for r in self.rows if fits(r, self.tasks[r["task"]]))

    def put(self, row: dict[str, Any], start_s: int) -> None:
        """Move an assignment, its duration kept."""
        row["start_s"], row["end_s"] = start_s, start_s + row["end_s"] - row["start_s"]

    def workers(self, row: dict[str, Any]) -> list[Any]:
        """The workers of an assignment."""
        return [self.request.snapshot.worker_by_id[w] for w in row["workers"]]


Expected = tuple[ViolationKind | None, str] | None
"""The kind and a piece of its text; None for JSON that cannot be read, with a piece of the
sentence; nothing at all where this response cannot be damaged so."""
Damage = Callable[[Case], Expected]
DAMAGES: dict[str, Damage] = {}


def damage(function: Damage) -> Damage:
    """Register a damage by its name."""
    DAMAGES[function.__name__.lstrip("_")] = function
    return function

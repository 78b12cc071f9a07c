"""The JSON bodies of a living master."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from plancast.pipelines.http.bodies import Fault, Strict
from plancast.pipelines.inputs.models import TaskRow
from plancast.planner.model.domain import MOST_FACTOR, DurationEstimate

Names = Annotated[list[str], Field(min_length=1, max_length=100_000)]


class SubmitBody(Strict):
    """Tasks that are to run, as rows of a task file; ``after`` may name any task that there is.

    ``command`` is the program and its arguments, with {id}, {app}, {owner}, {requested_s}; the
    master's own where it is empty. ``array`` makes many tasks of each: 0-99:2%10. With ``hold``
    none starts before it is released. Estimates are by task and machine class (``*`` for any).
    """

    tasks: list[TaskRow] = Field(min_length=1)
    command: str = Field(default="", max_length=100_000)
    array: str = Field(default="", max_length=10_000)
    hold: bool = False
    estimates: dict[str, dict[str, DurationEstimate]] = Field(default_factory=dict)


class TasksBody(Strict):
    """Tasks by their ids."""

    names: Names


class WeightBody(TasksBody):
    """Tasks, and how much an hour of their waiting counts from now on."""

    weight: float = Field(ge=0, le=MOST_FACTOR)


class WorkersBody(Strict):
    """Workers by their ids."""

    names: Names


class Receipt(Strict):
    """The ask is on the disk. ``again``: it was asked before, and is done once."""

    ask: int
    again: bool
    tasks: int


class Look(Strict):
    """A task: where it stands, and why it waits; times are seconds since the epoch.

    ``start_s`` is the start in the plan, ``likely_s`` and ``sure_s`` the starts with 50 and
    90%, ``promised_s`` what ``sure_s`` was when the task first had a place.
    """

    task: str
    state: str
    why: str
    owner: str = ""
    weight: float = 1.0
    workers: list[str] = Field(default_factory=list)
    submitted_s: int | None = None
    start_s: int | None = None
    likely_s: int | None = None
    sure_s: int | None = None
    promised_s: int | None = None
    end_s: int | None = None


class Queue(Strict):
    """Tasks that run, then those that wait in the order of their starts."""

    tasks: list[Look]


class RunLog(Strict):
    """A file that a run has printed to, and its last lines."""

    file: str
    tail: str


class Log(Strict):
    """What the runs of a task have printed."""

    task: str
    runs: list[RunLog]


class WorkerLook(Strict):
    """A worker, and how many tasks run there."""

    id: str
    open: bool
    drained: bool
    running: int


class Status(Strict):
    """The whole in numbers; ``submitted``: acknowledged, and not taken up yet."""

    batch: str
    engine: str
    now_s: int
    submitted: int
    waiting: int
    held: int
    running: int
    ended: dict[str, int]
    workers: list[WorkerLook]
    promises: dict[str, int]
    plan: dict[str, Any]
    model: dict[str, Any]
    event: int


ADAPTERS: dict[Any, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind)
    for kind in (
        SubmitBody, TasksBody, WeightBody, WorkersBody, Receipt, Look, Queue, Log, Status, Fault,
    )
}  # fmt: skip
"""Of all bodies, for the OpenAPI document."""

EXAMPLES: dict[Any, Any] = {
    SubmitBody: {
        "tasks": [
            {"id": "align-7", "cpus": 2, "requested_s": 600},
            {"id": "merge", "after": "align-7", "requested_s": 60},
        ],
        "command": "./step {id}",
    },
    TasksBody: {"names": ["align-7"]},
    WeightBody: {"names": ["align-7"], "weight": 10},
    WorkersBody: {"names": ["w1"]},
}

"""The JSON bodies of the service beyond the planner's own messages, and their OpenAPI schemas."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from plancast.pipelines.http.extender import ExtenderArgs
from plancast.planner.model.domain import BadRequest, DurationEstimate
from plancast.planner.model.messages import Budget, Event, PlanRequest, PlanResponse, first_fault

SCHEMA_REF = "#/components/schemas/{model}"

ToldEvent = Annotated[Event, Field(discriminator="kind")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EventsBody(_Strict):
    """Events in order of time, and estimates of the tasks that they submit."""

    events: list[ToldEvent]
    estimates: dict[str, dict[str, DurationEstimate]] = {}
    expected_version: int | None = None


class ReplanBody(_Strict):
    """How to replan what is held; what is left out is as in the request that is held.

    A budget given here is for a repair as well; by default that has 50 ms.
    """

    budget: Budget | None = None
    seed: int | None = Field(default=None, ge=0)
    now_s: int | None = None


class ForecastTask(BaseModel):
    """A task as the model knows jobs; features of a column map may be added by their names."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    id: str = Field(min_length=1)
    user: str = ""
    group: str = ""
    app: str = ""
    queue: str = ""
    partition: str = ""
    submit_s: float | None = None
    requested_s: float | None = Field(default=None, gt=0)
    cpus: float = Field(default=1.0, gt=0)
    mem_mib: float | None = Field(default=None, ge=0)
    gpus: float | None = Field(default=None, ge=0)


class ForecastBody(_Strict):
    """Tasks to forecast, for each of some machine classes (for any, by default)."""

    tasks: list[ForecastTask] = Field(min_length=1)
    classes: list[str] = []


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, in one sentence."""

    error: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What is held: the snapshot's version and counts, and what the plan in force costs.

    ``choice`` and ``reason``: what was last done (keep, repair, replan), and why.
    """

    version: int
    now_s: int
    workers: int
    pending: int
    running: int
    finished: int
    planned: int
    stopping: int
    plan_version: int | None
    status: str | None
    cost: float | None
    choice: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a task stands: planned, unplanned, running, stopping, or how it ended.

    If it waits: for what, when it starts as the plan stands by now, by when it will have
    started with 90 %, and what has to happen.
    """

    task: str
    state: str
    why: str = ""
    workers: tuple[str, ...] = field(default=())
    start_s: int | None = None
    end_s: int | None = None
    sure_s: int | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Estimates by task and machine class, to be put into a request as they are."""

    estimates: dict[str, dict[str, DurationEstimate]]


ADAPTERS: dict[Any, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind)
    for kind in (
        PlanRequest, PlanResponse, EventsBody, ReplanBody, ForecastBody, Fault, Standing,
        Explanation, Forecasts, ExtenderArgs,
    )
}  # fmt: skip

Body = TypeVar("Body")


def read_body(kind: type[Body], text: bytes) -> Body:
    """A body as a value.

    Raises
    ------
    BadRequest
        The first fault: the path of the field, and what is wrong with it.
    """
    try:
        value: Body = ADAPTERS[kind].validate_json(text)
    except ValidationError as error:
        raise BadRequest(first_fault(error)) from None
    return value


def schemas() -> dict[str, Any]:
    """Schemas of all bodies, by their names, for the components of the OpenAPI document."""
    found: dict[str, Any] = {}
    for kind, adapter in ADAPTERS.items():
        mode: Any = "validation"
        schema = adapter.json_schema(ref_template=SCHEMA_REF, mode=mode)
        found.update(schema.pop("$defs", {}))
        found[kind.__name__] = schema
    return found

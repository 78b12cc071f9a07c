"""The JSON bodies of the service beyond the planner's own messages, and their OpenAPI schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from plancast.json_text import plain_text, refuse_repeated_keys
from plancast.pipelines.http.extender import ExtenderArgs
from plancast.pipelines.inputs.models import TaskRow
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import (
    MOST_SEED,
    Budget,
    EstimatesForm,
    Event,
    PlanRequest,
    PlanResponse,
    first_fault,
)

SCHEMA_REF = "#/components/schemas/{model}"

ToldEvent = Annotated[Event, Field(discriminator="kind")]


class Strict(BaseModel):
    """A body: a field that it does not know is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EventsBody(Strict):
    """Events in order of time, and estimates of the tasks that they submit."""

    events: list[ToldEvent]
    estimates: EstimatesForm = {}
    expected_version: int | None = None


class ReplanBody(Strict):
    """How to replan what is held; what is left out is as in the request that is held.

    A budget given here is for a repair as well; by default that has 50 ms.
    """

    budget: Budget | None = None
    seed: int | None = Field(default=None, ge=0, le=MOST_SEED)
    now_s: int | None = None


class ForecastBody(Strict):
    """Tasks to forecast, for each of some machine classes (for any, by default)."""

    tasks: list[TaskRow] = Field(min_length=1)
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
    started with 50 and 90%, and what has to happen.
    """

    task: str
    state: str
    why: str = ""
    workers: tuple[str, ...] = field(default=())
    start_s: int | None = None
    end_s: int | None = None
    half_s: int | None = None
    sure_s: int | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """When a waiting task starts, with 10, 50 and 90%, seconds since the epoch; None: unknown."""

    id: str
    p10_s: int | None
    p50_s: int | None
    p90_s: int | None
    reason: str
    helps: str


@dataclass(frozen=True, slots=True)
class Starts:
    """The starts of all waiting tasks, in the order of the queue."""

    made_at_s: int
    jobs: tuple[Start, ...]


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Estimates by task (mode) and machine class, to be put into a request as they are."""

    estimates: EstimatesForm


ADAPTERS: dict[Any, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind)
    for kind in (
        PlanRequest, PlanResponse, EventsBody, ReplanBody, ForecastBody, Fault, Standing,
        Explanation, Start, Starts, Forecasts, ExtenderArgs,
    )
}  # fmt: skip

Body = TypeVar("Body")


def _validator(kind: Any) -> SchemaValidator:
    """Of one kind, which gives up at the first wrong item of a list.

    A body of a million wrong items would else become a million faults, of which one is reported.
    """
    adapter = ADAPTERS.get(kind) or TypeAdapter(kind)
    return SchemaValidator(_impatient(adapter.core_schema), _use_prebuilt=False)


def _impatient(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_impatient(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {k: v if k == "metadata" else _impatient(v) for k, v in schema.items()}
    if schema.get("type") in ("list", "tuple", "set", "frozenset"):
        found["fail_fast"] = True
    return found


_VALIDATORS: dict[Any, SchemaValidator] = {}


def read_body(kind: type[Body], text: bytes) -> Body:
    """A body as a value; numbers are numbers, and neither text nor ``true`` or ``false``.

    Raises
    ------
    BadRequest
        The first fault: the path of the field, and what is wrong with it.
    """
    if kind not in _VALIDATORS:
        _VALIDATORS[kind] = _validator(kind)
    try:
        plain = plain_text(text)
    except ValueError as error:
        raise BadRequest(f"the body {error}") from None
    try:
        value: Body = _VALIDATORS[kind].validate_json(plain, strict=True)
        refuse_repeated_keys(plain)
    except ValidationError as error:
        raise BadRequest(first_fault(error)) from None
    except ValueError as error:
        raise BadRequest(str(error)) from None
    return value


def schemas(adapters: Mapping[Any, TypeAdapter[Any]] = ADAPTERS) -> dict[str, Any]:
    """Schemas of bodies, by their names, for the components of an OpenAPI document."""
    found: dict[str, Any] = {}
    for kind, adapter in adapters.items():
        mode: Any = "validation"
        schema = adapter.json_schema(ref_template=SCHEMA_REF, mode=mode)
        found.update(schema.pop("$defs", {}))
        found[kind.__name__] = schema
    return found

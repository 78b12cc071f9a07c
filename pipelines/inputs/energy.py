"""The energy of a cluster file: what it costs by the hour, how clean it is, and a cap on power."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from plancast.pipelines.inputs.cells import BadCell, amount_cell
from plancast.pipelines.inputs.counted import resource_row
from plancast.pipelines.inputs.yaml_files import Section
from plancast.planner.model.counted import POWER
from plancast.planner.model.domain import (
    BadRequest,
    CountedResource,
    Hourly,
    Worker,
)

OFFSET = "utc_offset"
_CLOCK = re.compile(r"([+-]?)(\d{1,2}):(\d\d)")


def rate_cell(cell: Any) -> float | Hourly:
    """A number, or numbers by the time of the day from which each holds."""
    if not isinstance(cell, dict):
        return amount_cell(cell)
    steps = {_seconds(at): amount_cell(value) for at, value in cell.items() if at != OFFSET}
    if len(steps) < len(cell) - (OFFSET in cell):
        raise BadCell("names a time of the day twice")
    at_s = sorted(steps)
    try:
        return Hourly(
            tuple(at_s), tuple(steps[at] for at in at_s), _seconds(cell.get(OFFSET, 0), signed=True)
        )
    except BadRequest as error:
        raise BadCell(str(error)) from None


def _seconds(cell: Any, *, signed: bool = False) -> int:
    """Seconds after midnight, or from UTC; a number is of hours."""
    if type(cell) is int and (-24 if signed else -1) < cell < 24:
        return cell * 3600
    found = _CLOCK.fullmatch(str(cell))
    if found is None or (found[1] and not signed) or int(found[2]) > 23 or int(found[3]) > 59:
        like = "+01:00" if signed else "07:30"
        raise BadCell(f"{cell!r} is no time of the day; write it as {like}")
    seconds = int(timedelta(hours=int(found[2]), minutes=int(found[3])).total_seconds())
    return -seconds if found[1] == "-" else seconds


def rate_content(rate: Any) -> Any:
    """A rate as a cluster file has it; other values as they are."""
    if not isinstance(rate, Hourly):
        return rate
    content: dict[str, Any] = {
        _clock(at): value for at, value in zip(rate.at_s, rate.values, strict=True)
    }
    if rate.utc_offset_s:
        content[OFFSET] = ("-" if rate.utc_offset_s < 0 else "+") + _clock(abs(rate.utc_offset_s))
    return content


def _clock(second: int) -> str:
    if second % 60:
        raise BadRequest(f"{second} s after midnight is no whole minute, which a file has")
    return f"{second // 3600:02}:{second // 60 % 60:02}"


Rate = Annotated[
    float | Hourly,
    BeforeValidator(rate_cell),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "object", "additionalProperties": {"type": ["number", "string"]}},
            ],
            "description": "a number, or numbers by the time from which each holds: "
            '{"00:00": 0.2, "06:00": 0.3, "utc_offset": "+01:00"}',
        }
    ),
]


class EnergySection(Section):
    """The ``energy`` of a cluster file: of all workers that name no rates of their own."""

    price_per_kwh: Rate = 0.0
    carbon_kg_per_kwh: Rate = 0.0
    power_cap_w: float | None = Field(None, gt=0, le=10**12)


def power_left(
    cap_w: float | None, workers: Sequence[Worker], source: str
) -> tuple[CountedResource, ...]:
    """What a power cap leaves to tasks where every worker is on; nothing where there is none.

    Raises
    ------
    BadRequest
        Where the workers draw more than that idle; `source` is what to call the file.
    """
    if cap_w is None:
        return ()
    idle_w = sum(worker.idle_w for worker in workers)
    if cap_w < idle_w:
        raise BadRequest(
            f"{source}: energy.power_cap_w: {cap_w:g} W is less than the {idle_w:g} W that the "
            "workers draw idle; raise it or leave workers out"
        )
    return (CountedResource(POWER, math.floor(cap_w - idle_w)),)


def counted_content(
    counted: Sequence[CountedResource], workers: Sequence[Worker]
) -> dict[str, dict[str, Any]]:
    """What a cluster file says of counted resources: ``resources``, and ``energy`` for a cap."""
    content: dict[str, dict[str, Any]] = {}
    for one in counted:
        if one.id == POWER:
            idle_w = sum(worker.idle_w for worker in workers)
            content["energy"] = {"power_cap_w": one.amount + idle_w}
        else:
            content.setdefault("resources", {})[one.id] = resource_row(one)
    return content

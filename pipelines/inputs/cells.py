"""Cells as users write them: each kind's reader, for tables, YAML files and JSON bodies alike.

A reader takes a raw cell (text, number, list, date) and gives its value, or raises `BadCell`.
Texts with units go through ``predictor.units``; a number without one is in the unit of its
column: cores, MiB, seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias

from plancast.predictor import units

Cell: TypeAlias = Callable[[Any], Any]
"""Turns a raw cell into its value, or raises BadCell."""

ROUNDING = 1e-6
"""Of a milli-unit: what binary fractions of decimal cores are off by."""

LARGEST = 253_402_300_799
"""Of times, counts and amounts: the last second of the year 9999. Whoever writes milliseconds or
bytes hears of it, and sums of a million such numbers still fit the planner's arrays."""


class BadCell(ValueError):
    """What is wrong with a cell, and the remedy; the table adds file, row and column."""


def text_cell(cell: Any) -> str:
    """Text; a whole float loses its ".0"."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))  # a number id becomes a float where a cell of its column is empty
    if isinstance(cell, float) and not math.isfinite(cell):
        raise BadCell(f"{cell:g} is not text; put it in quotes, or leave it out")
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError:
            raise BadCell(f"{cell!r} is not UTF-8 text; write it as text") from None
    if cell is None or isinstance(cell, bool | dict | list | tuple):
        raise BadCell(f"{cell!r} is not text; put it in quotes")
    return str(cell)


def _number(cell: Any, parse: Callable[[str], float] | None = None) -> float:
    """A finite number; a text that is none goes to `parse`, whose ValueError says what it wants."""
    try:
        value = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if math.isfinite(value):
        return value
    if parse is None or not isinstance(cell, str):
        raise BadCell(f"{cell!r} is not a finite number; correct the cell or leave it empty")
    try:
        return parse(cell)
    except ValueError as error:
        raise BadCell(f"{error}; correct the cell or leave it empty") from None


def _amount(cell: Any, value: float) -> float:
    if value < 0:
        raise BadCell(f"{cell} is negative; write 0 or more")
    return _limited(cell, value)


def _limited(cell: Any, value: float) -> float:
    if abs(value) > LARGEST:
        raise BadCell(f"{cell} is too large; check the unit (times are seconds, memory MiB)")
    return value


def _whole(cell: Any, value: float) -> int:
    if not value.is_integer():
        raise BadCell(f"{cell} is not a whole number; round it")
    return int(value)


def number_cell(cell: Any) -> float:
    """A finite number."""
    return _number(cell)


def amount_cell(cell: Any) -> float:
    """A finite number, 0 or more."""
    value = _number(cell)
    if value < 0:
        raise BadCell(f"{cell} is negative; write 0 or more")
    return value


def moment_cell(cell: Any) -> float:
    """A time in seconds: a number, or a date with its time (UTC where it names no offset)."""
    if isinstance(cell, date):
        # What YAML makes of a date that stands without quotes.
        whole = cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day)
        return (whole if whole.tzinfo else whole.replace(tzinfo=UTC)).timestamp()
    return _limited(cell, _number(cell, units.moment_s))


def instant_cell(cell: Any) -> int:
    """A time in whole seconds, as `moment_cell`."""
    return _whole(cell, moment_cell(cell))


def _duration(cell: Any) -> float:
    if isinstance(cell, timedelta):
        return cell.total_seconds()
    return _number(cell, units.duration_s)


def duration_cell(cell: Any) -> int:
    """Whole seconds: a number, ``2h``, ``00:30:00``; what has a unit is rounded up."""
    value = _limited(cell, _duration(cell))
    plain = not isinstance(cell, str) or units.plain_number(cell.strip()) is not None
    if not plain or isinstance(cell, timedelta):
        return math.ceil(value - ROUNDING)
    return _whole(cell, value)


def cores_cell(cell: Any) -> float:
    """Cores or GPUs: a number, or thousandths as ``500m``."""
    return _amount(cell, _number(cell, units.count))


def mib_cell(cell: Any) -> float:
    """MiB: a number, or an amount such as ``4Gi``."""
    return _amount(cell, _number(cell, units.size_mib))


def whole_cell(cell: Any) -> int:
    """A whole number."""
    return _whole(cell, _limited(cell, _number(cell)))


def round_up_cell(cell: Any) -> int:
    """An amount, rounded up to a whole one."""
    return math.ceil(_amount(cell, _number(cell)) - ROUNDING)


def seconds_cell(cell: Any) -> int:
    """A duration of 0 or more, rounded up to whole seconds."""
    return math.ceil(_amount(cell, _duration(cell)) - ROUNDING)


def names_cell(cell: Any) -> tuple[str, ...]:
    """Names from a list, or from text that white space separates."""
    if isinstance(cell, str):
        return tuple(cell.split())
    if isinstance(cell, Iterable) and not isinstance(cell, dict):
        return tuple(text_cell(name) for name in cell)
    return (text_cell(cell),)


def flag_cell(cell: Any) -> bool:
    """True or false, in words or as 1 and 0."""
    word = str(cell).lower()
    if word in ("true", "yes", "1", "1.0"):
        return True
    if word in ("false", "no", "0", "0.0"):
        return False
    raise BadCell(f"{cell!r} is neither true nor false; write one of the two")


def milli_up(amount: float) -> int:
    """Cores as millicores of a demand: rounded up."""
    return math.ceil(amount * 1000 - ROUNDING)


def milli_down(amount: float) -> int:
    """Cores as millicores of a capacity: rounded down."""
    return math.floor(amount * 1000 + ROUNDING)

"""Durations, moments, sizes and counts as people write them: the one place that reads units.

Every reader of logs and every file that users write takes its texts through here, so that
``2h``, ``01:30:00``, ``64G`` or ``500m`` mean the same everywhere. A number without a unit is
in the unit of its column, which the caller names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

SECONDS: dict[str, float] = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "min": 60,
    "h": 3600,
    "d": 86_400,
    "w": 604_800,
}
"""Seconds of each unit of time, by the name that column maps use."""

MIB: dict[str, float] = {
    "bytes": 2.0**-20,
    "KiB": 2.0**-10,
    "MiB": 1.0,
    "GiB": 2.0**10,
    "TiB": 2.0**20,
    "kB": 1e3 / 2**20,
    "MB": 1e6 / 2**20,
    "GB": 1e9 / 2**20,
}
"""MiB of each unit of memory, by the name that column maps use."""

_TIME_WORDS = {
    "ns": ("ns", "nanosecond", "nanoseconds"),
    "us": ("us", "µs", "μs", "usec", "microsecond", "microseconds"),
    "ms": ("ms", "msec", "msecs", "millisecond", "milliseconds"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "min": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
    "w": ("w", "wk", "week", "weeks"),
}
_SECONDS_OF_WORD = {word: SECONDS[unit] for unit, words in _TIME_WORDS.items() for word in words}
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)"
_PLAIN = re.compile(rf"[+-]?{_NUMBER}(?:[eE][+-]?\d+)?")
_PART = re.compile(rf"({_NUMBER})\s*([a-zµμ]+)", re.IGNORECASE)
_PARTS = re.compile(rf"(?:{_PART.pattern}[\s,]*)+", re.IGNORECASE)
# [DD-]HH:MM:SS[.mmm], MM:SS, DD-HH, DD-HH:MM; "1 day, 2:03:04" is Python's own.
_CLOCK = re.compile(r"(?:(\d+)(?:-|\s*days?,?\s+))?(\d+(?::\d+){0,2})(\.\d+)?", re.IGNORECASE)
_ISO = re.compile(
    r"P(?:(\d+)W)?(?:(\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?",
    re.IGNORECASE,
)
_SIZE = re.compile(rf"({_NUMBER})\s*(?:([kmgtpe])(i?)(b|ytes?)?|(b|w|bytes?))", re.IGNORECASE)
# A capital M would be millions to some and thousandths to others.
_COUNT = re.compile(rf"({_NUMBER})\s*(m|%|[kK]|c|(?:v?cpu|v?core|gpu|proc|processor)s?)")
_DAY_FIRST = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](.*))?", re.IGNORECASE)


def is_whole(text: str) -> bool:
    """Whether a text is a whole number of 0 or more that ``int`` reads: up to 18 plain digits.

    ``str.isdigit`` is true of "\u00b2", too, and ``int`` reads no number of more than 4,300 digits.
    """
    return re.fullmatch("[0-9]{1,18}", text) is not None


def plain_number(text: str) -> float | None:
    """A number without a unit, or None where the text is none; never NaN or infinite."""
    if not _PLAIN.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def duration_s(text: str, *, bare: float = 1.0) -> float:
    """A duration in seconds.

    Parameters
    ----------
    text : str
        ``2h``, ``1h30m``, ``21m 20s``, ``350ms``, ``1.5 days``; ``[DD-]HH:MM:SS[.mmm]``,
        ``MM:SS``, ``DD-HH``, ``DD-HH:MM`` (Slurm, PBS); ``1 day, 2:03:04`` (Python);
        ``PT1H30M`` (ISO 8601); or a plain number.
    bare : float
        Seconds of one unit of a plain number.

    Raises
    ------
    ValueError
        Where the text is no duration, naming it.
    """
    text = text.strip()
    number = plain_number(text)
    if number is not None:
        return number * bare
    # A duration of a cleaned task or of a clock set back; whoever reads it decides.
    sign = -1.0 if text.startswith("-") else 1.0
    body = text.lstrip("-").strip() if sign < 0 else text
    seconds = _clock_s(body)
    if seconds is None:
        seconds = _parts_s(body)
    if seconds is None:
        seconds = _iso_s(body)
    if seconds is None or not math.isfinite(seconds):
        raise ValueError(f"{text!r} is not a duration like 90, 2h, 21m 20s or 1-02:00:00")
    return sign * seconds


def _clock_s(text: str) -> float | None:
    match = _CLOCK.fullmatch(text)
    if not match:
        return None
    days, clock, fraction = match.groups()
    parts = [int(part) for part in clock.split(":")]
    if days is None and len(parts) == 1:
        return None
    # With days the clock begins with hours; without, two parts are minutes and seconds.
    if days is None and len(parts) == 2:
        parts.insert(0, 0)
    hours, minutes, seconds = (*parts, 0, 0)[:3]
    whole = int(days or 0) * 86_400 + hours * 3600 + minutes * 60 + seconds
    return whole + float(fraction or 0)


def _parts_s(text: str) -> float | None:
    """The sum of numbers with a unit of time, largest unit first and each once; else None."""
    if not _PARTS.fullmatch(text):
        return None
    total, last = 0.0, math.inf
    for number, word in _PART.findall(text):
        unit = _SECONDS_OF_WORD.get(word if word == "M" else word.lower())
        if unit is None or unit >= last:
            return None
        total, last = total + _times(float(number), unit), unit
    return total


def _times(number: float, unit: float) -> float:
    """A number of units; 350 thousandths are 0.35 and not a binary digit more."""
    return number / round(1 / unit) if unit < 1 else number * unit


def _iso_s(text: str) -> float | None:
    match = _ISO.fullmatch(text)
    if not match or not any(match.groups()):
        return None
    units = (604_800, 86_400, 3600, 60, 1)
    return sum(float(part or 0) * unit for part, unit in zip(match.groups(), units, strict=True))


def size_mib(text: str, *, bare: float = 1.0) -> float:
    """An amount of memory in MiB.

    Parameters
    ----------
    text : str
        ``64G``, ``4Gi``, ``512 MB``, ``4096kb``, ``1.5TiB``, ``1024 bytes``, or a plain number.
    bare : float
        MiB of one unit of a plain number.

    Raises
    ------
    ValueError
        Where the text is no amount, naming it.

    Notes
    -----
    K, M, G, T, P, E are powers of 1024 with and without ``i`` or ``B``: so do Slurm, PBS, LSF
    and Nextflow count, and a demand is rather read too large than too small. ``w`` is PBS's
    word of 8 bytes.
    """
    text = text.strip()
    number = plain_number(text)
    if number is not None:
        return number * bare
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not an amount of memory like 4096, 4Gi, 64G or 512 MB")
    amount, prefix, _, _, single = match.groups()
    if prefix:
        return float(amount) * 2.0 ** (10 * ("kmgtpe".index(prefix.lower()) - 1))
    return float(amount) * (8 if single.lower() == "w" else 1) * 2.0**-20


def count(text: str, *, bare: float = 1.0) -> float:
    """A number of processors or GPUs.

    Parameters
    ----------
    text : str
        ``2``, ``0.5``, ``500m`` (thousandths), ``350%``, ``4 cores``, ``1.5K``.
    bare : float
        What one of a plain number is.

    Raises
    ------
    ValueError
        Where the text is no count, naming it.
    """
    text = text.strip()
    number = plain_number(text)
    if number is not None:
        return number * bare
    match = _COUNT.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a number like 2, 0.5 or 500m")
    return _times(float(match[1]), {"m": 1e-3, "%": 1e-2, "k": 1e3, "K": 1e3}.get(match[2], 1.0))


def moment_s(text: str, zone: Any = UTC) -> float:
    """A moment in seconds since the epoch.

    Parameters
    ----------
    text : str
        ``2024-05-01T12:00:00``, ``2024-05-01 12:00``, ``2024-05-01``, with fractions of a
        second, with an offset or ``Z``; or a plain number of seconds.
    zone : tzinfo
        Zone of a text without an offset.

    Raises
    ------
    ValueError
        Where the text is no moment, naming it.
    """
    text = text.strip()
    number = plain_number(text)
    if number is not None:
        return number
    try:
        if not _DAY_FIRST.fullmatch(text):
            raise ValueError
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time like 2024-05-01T12:00:00Z or seconds since the epoch"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return (moment - datetime.fromtimestamp(0, UTC)) / timedelta(seconds=1)


PARSERS: dict[str, Callable[..., float]] = {
    "time": duration_s,
    "memory": size_mib,
    "count": count,
}
"""What reads a text of each quantity; all take ``bare``."""

"""What every reader needs of a file: its bytes, its first line, times as texts made seconds."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plancast.json_text import packed_with
from plancast.predictor.logs.rows import Rows
from plancast.predictor.schema import BadLog

_GZIP = b"\x1f\x8b"
_HEAD_BYTES = 65_536
_REPLACED = re.compile("[^|,;\t\r\n]*\ufffd[^|,;\t\r\n]*")


def read_bytes(path: Path) -> bytes:
    """The whole file, unpacked if it is gzip (known by its first bytes, not by its name).

    Raises
    ------
    BadLog
        Where it is missing, empty, unreadable or a damaged gzip.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise BadLog(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise BadLog(f"{path} cannot be read ({error.strerror}); give a readable file") from None
    if raw.startswith(_GZIP):
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error):
            raise BadLog(f"{path.name} is cut short or damaged (gzip): fetch it again") from None
    refuse_packed(raw, path.name)
    if not raw.strip():
        raise BadLog(f"{path.name} is empty; give a log with at least one job")
    return raw


def refuse_packed(raw: bytes, name: str) -> None:
    """Raise a BadLog where the first bytes are those of an archive that is not read."""
    if kind := packed_with(raw):
        raise BadLog(f"{name} is packed with {kind}; unpack it, or pack it with gzip")


def decoded(raw: bytes, rows: Rows) -> str:
    """`raw` as text; what is not UTF-8 is replaced, and the cells are counted.

    Raises
    ------
    BadLog
        Where it holds a zero byte, as programs, pictures and UTF-16 do, naming the line.
    """
    refuse_binary(raw, rows.name)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("utf-8-sig", errors="replace")
    cells = len(_REPLACED.findall(text))
    are = "cell is" if cells == 1 else "cells are"
    rows.note(f"{cells:,} {are} not UTF-8; what cannot be read is shown as \ufffd")
    return text


def refuse_binary(raw: bytes, name: str) -> None:
    """Raise a BadLog where there is a zero byte, as in programs, pictures and UTF-16."""
    at = raw.find(b"\0")
    if at >= 0:
        line = raw.count(b"\n", 0, at) + 1
        raise BadLog(f"{name}, line {line}: this is not UTF-8 text; give the log as a text file")


def head(path: Path) -> bytes:
    """The first bytes of a file, unpacked; what can be had of them where it is damaged."""
    with path.open("rb") as file:
        raw = file.read(_HEAD_BYTES)
    if not raw.startswith(_GZIP):
        return raw
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(raw, _HEAD_BYTES)
    except zlib.error:
        return b""


def first_lines(path: Path, count: int) -> list[str]:
    """The first lines with something in them; none where the file is no text."""
    start = head(path)
    if b"\0" in start:
        return []
    lines = start.decode("utf-8-sig", errors="replace").splitlines()
    return [line for line in lines if line.strip()][:count]


def first_line(path: Path) -> str:
    """The first line with something in it, or "" where there is none or it is no text."""
    return next(iter(first_lines(path, 1)), "")


OFFSET = r"[T ]\d\d.*(?:Z|[+-]\d\d(?::?\d\d)?)$"
STRANGE = r"[Zz+]|[T ].*-"
"""An offset from UTC at the end of a time, and what a local time has nowhere."""


def epoch_seconds(
    texts: pd.Series, timezone: str, *, first: bool = True, rows: Rows | None = None
) -> np.ndarray:
    """ISO timestamps or epoch seconds as seconds since the epoch.

    Parameters
    ----------
    texts : Series of str
        ``2024-05-01T12:00:00`` (local to `timezone`), with an offset or ``Z``, or a number.
    timezone : str
        IANA name, such as ``Europe/Stockholm``.
    first : bool
        Which of the two is meant in the hour that comes twice when summer time ends.
    rows : Rows, optional
        The account of the reading, which then names times in an hour that does not exist.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN where a text is none of these.

    Raises
    ------
    BadLog
        Where the time zone is unknown.

    Notes
    -----
    A time in the hour that does not exist moves on to the end of that hour.
    """
    codes, distinct = pd.factorize(texts)
    names = pd.Series(distinct, dtype=object)
    seconds = np.array(pd.to_numeric(names, errors="coerce").to_numpy(dtype="float64"))
    is_text = np.isnan(seconds)
    has_offset = names.astype(str).str.contains(OFFSET).to_numpy(dtype=bool)
    for chosen, local in ((is_text & has_offset, False), (is_text & ~has_offset, True)):
        if not chosen.any():
            continue
        # What has an offset after all, of another form, is no time: its column may have several.
        plain = names[chosen].mask(names[chosen].astype(str).str.contains(STRANGE) & local)
        times = pd.to_datetime(plain, format="ISO8601", errors="coerce", utc=True)
        if local:
            asked = times.dt.tz_localize(None)
            times = _localized(asked, timezone, first)
            if rows is not None:
                moved = plain[times.dt.tz_convert(timezone).dt.tz_localize(None) > asked]
                rows.in_skipped_hour.update((timezone, text) for text in moved)
        seconds[chosen] = _since_epoch(times)
    return seconds[codes]


def _since_epoch(times: pd.Series) -> np.ndarray:
    """Moments as seconds; microseconds hold the years 1 to 9999, nanoseconds 1678 to 2261."""
    plain = times.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(plain), np.nan, plain.astype("int64") / 1e6)


def check_zone(timezone: str) -> None:
    """Raise a BadLog where a time zone is unknown, whether or not a time needs it."""
    _localized(pd.Series(pd.to_datetime(["2000-01-01"])), timezone, first=True)


def _localized(times: pd.Series, timezone: str, first: bool) -> Any:
    # One summer-time flag per row: a bare True means "infer from neighbours" to some pandas.
    summer = np.full(len(times), first)
    try:
        if not timezone:
            raise KeyError(timezone)
        local = times.dt.tz_localize(timezone, ambiguous=summer, nonexistent="shift_forward")
    except (KeyError, ValueError):
        raise BadLog(f"time zone {timezone!r} is unknown; give one like Europe/Berlin") from None
    return local.dt.tz_convert("UTC")


def in_turn(
    submit: np.ndarray, start: np.ndarray, end: np.ndarray, second: Callable[[str], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of jobs, in an order that can be where the clock was set back.

    Parameters
    ----------
    submit, start, end : ndarray of float64, shape (n,)
        Each the first of the two moments that a local time may mean.
    second : callable
        ``start_s`` or ``end_s`` to the second of them.
    """
    early = start < submit
    if early.any():
        later = second("start_s")
        start = np.where(early & (later >= submit), later, start)
    late = end < start
    if late.any():
        later = second("end_s")
        end = np.where(late & (later >= start), later, end)
    return start, end


def first_bad(bad: Iterable[bool]) -> int | None:
    """Position of the first True, or None."""
    hits = np.flatnonzero(np.asarray(bad, dtype=bool))
    return int(hits[0]) if hits.size else None

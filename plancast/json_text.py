"""JSON from outside: UTF-8 alone, and no key twice in an object; and JSON for others.

Parsers take the last of two equal keys, and say nothing: half of what a file says would be lost.
NaN and Infinity, which Python writes, are no JSON: others refuse the whole file for them.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


PACKED = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\3\4": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
"""First bytes of packed files."""


def packed_with(content: bytes) -> str | None:
    """What has packed a file, None where it is as it was written."""
    return next((kind for first, kind in PACKED.items() if content.startswith(first)), None)


def plain_text(text: str | bytes) -> str:
    """Text without a byte-order mark.

    Parameters
    ----------
    text : str or bytes

    Raises
    ------
    ValueError
        Where bytes are not UTF-8: what they are, as the end of a sentence that names the file.
    """
    if isinstance(text, bytes):
        if packed := packed_with(text):
            raise ValueError(f"is packed with {packed}; unpack it")
        kind = json.detect_encoding(text)
        if not kind.startswith("utf-8"):
            raise ValueError(f"is {kind[:6].upper()} text; save it as UTF-8")
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    return text.removeprefix("\ufeff")


def json_value(text: str | bytes) -> Any:
    """What a JSON text says; half of a character, which UTF-8 cannot write, reads as U+FFFD.

    Parameters
    ----------
    text : str or bytes

    Raises
    ------
    ValueError
        Where it is no JSON (``json.JSONDecodeError``), or nested too deeply to be read, has a
        key twice in an object, or is not UTF-8.
    """
    text = plain_text(text)
    try:
        value = json.loads(text, object_pairs_hook=_mapping)
        if _ESCAPED_SURROGATE.search(text):
            units = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
            value = json.loads(units.decode("utf-16", "replace"))
        return value
    except RecursionError:
        raise ValueError("its lists and objects are nested too deeply") from None


def json_of(facts: Any, indent: int | None = None) -> str:
    """Facts as JSON that every parser takes: what is no finite number is null.

    Parameters
    ----------
    facts : mapping, sequence or value of JSON
    indent : int, optional
        As of ``json.dumps``.
    """
    try:
        return json.dumps(facts, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(facts), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def refuse_repeated_keys(text: str) -> None:
    """Raise a ValueError where an object of a sound JSON text has a key twice.

    For parsers that do not tell: it takes a third of pydantic's time, and makes no values.
    """
    json.loads(text, object_pairs_hook=_once)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice in one object; remove one")
    return found


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        _mapping(pairs)

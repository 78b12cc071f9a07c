"""JSON and YAML as values, from files that nobody vouches for."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

DEEPEST = 100
"""Levels of lists and mappings that a YAML file may have; ours have 10."""

_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def json_value(text: str | bytes) -> Any:
    """What a JSON text says; half of a character, which UTF-8 cannot write, reads as U+FFFD.

    Parameters
    ----------
    text : str or bytes

    Raises
    ------
    ValueError
        Where it is no JSON (``json.JSONDecodeError``), or nested too deeply to be read.
    """
    try:
        value = json.loads(text)
        if _ESCAPED_SURROGATE.search(text if isinstance(text, str) else text.decode()):
            units = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
            value = json.loads(units.decode("utf-16", "replace"))
        return value
    except RecursionError:
        raise ValueError("its lists and objects are nested too deeply") from None


def yaml_value(text: str, loader: type[Any] = yaml.SafeLoader) -> Any:
    """What a YAML text says.

    Parameters
    ----------
    text : str
    loader : type
        A loader of PyYAML that makes plain values alone.

    Raises
    ------
    yaml.YAMLError
        Where it is no YAML, or nested deeper than ``DEEPEST``.
    ValueError
        Where a scalar is not of the type that it looks like: a date of month 13.

    Notes
    -----
    Events come one by one. To build values libyaml calls itself for each level, and 30,000
    brackets end the process.
    """
    depth = 0
    for event in yaml.parse(text, loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            problem = f"lists and mappings are nested more than {DEEPEST} deep"
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
    return yaml.load(text, loader)

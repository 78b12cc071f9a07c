"""YAML as values, from files that nobody vouches for."""

from __future__ import annotations

from typing import Any

import yaml

DEEPEST = 100
"""Levels of lists and mappings that a YAML file may have; ours have 10."""


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, in C where there is one, that refuses a key said twice."""


def _mapping(loader: Any, node: Any) -> Any:
    seen = set()
    for key, _ in node.value:
        name = key.value
        if not isinstance(name, str):  # {{ x }}, as templates have it, is a mapping of a mapping
            problem = "a list or a mapping is no name of a field; put it in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        if name in seen and name != "<<":
            problem = f"{name!r} is there twice"
            raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def yaml_value(text: str, loader: type[Any] = Loader) -> Any:
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

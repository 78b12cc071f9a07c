"""YAML files with a schema: read safely, checked by pydantic, faults in plain words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from plancast.pipelines.inputs.files import read_text
from plancast.pipelines.inputs.foreign import nearest
from plancast.pipelines.inputs.tables import PathLike
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.faults import in_words
from plancast.predictor.nested import Loader, yaml_value

File = TypeVar("File", bound=BaseModel)


class Section(BaseModel):
    """A mapping in a file: unknown fields are refused, a number may serve as a name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


class _Loader(Loader):
    """Numbers are what a table reads, and names what is written."""


class _Written(float):
    """A number that is written as a float would not be: as a name it keeps its digits."""

    def __new__(cls, value: float, text: str) -> _Written:
        """The number, and what stands in the file."""
        number = super().__new__(cls, value)
        number.text = text
        return number

    text: str

    def __str__(self) -> str:
        """As in the file: version 1.10 is not 1.1."""
        return self.text


def _float(loader: Any, node: Any) -> float:
    value = float(loader.construct_yaml_float(node))
    return value if str(value) == node.value else _Written(value, node.value)


# YAML 1.1 reads 7_1 as 71, node 010 as 8, 0x10 as 16 and the time 12:30 as 750: all of them are
# text, which the cells of times and amounts read as they do in a table.
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)")
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(_WHOLE.pattern + "$") if tag.endswith(":int") else pattern)
        for tag, pattern in resolvers
    ]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def read_yaml(path: PathLike) -> Any:
    """What a YAML file holds; a fault names file and line."""
    text = read_text(path)
    try:
        return yaml_value(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise BadRequest(f"{path}: {where}is not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadRequest(f"{path}: is not YAML: {str(error).splitlines()[0]}") from None


def yaml_text(content: dict[str, Any]) -> str:
    """A mapping as YAML, keys in their order, innermost lists and mappings on one line."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(content, Dumper=dumper, sort_keys=False, default_flow_style=None))


def validated(kind: type[File], content: Any, source: str) -> File:
    """The content of a file as a model; faults as "file: field: what is wrong"."""
    if not isinstance(content, dict):
        names = ", ".join(kind.model_fields)
        raise BadRequest(f"{source}: must be a mapping with the fields {names}")
    try:
        found = kind.model_validate(content)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        # A misspelt field is missing too: its wrong name tells more. Each of them once.
        wrong = {f["loc"][-1]: f for f in faults[::-1] if f["type"] == "extra_forbidden"}
        shown = list(wrong.values())[::-1] or faults[:1]
        said = [f"{'.'.join(map(str, f['loc']))}: {_sentence(f, kind)}" for f in shown]
        raise BadRequest(f"{source}: {'; '.join(said)}") from None
    for where, words in _coerced(content, found, ()):
        raise BadRequest(f"{source}: {'.'.join(map(str, where))}: {words}")
    return found


def _coerced(raw: Any, value: Any, where: tuple[Any, ...]) -> Iterator[tuple[Any, str]]:
    """What pydantic takes for something else, and where: true for 1, not-a-number for a name."""
    if isinstance(raw, bool) and not isinstance(value, bool):
        read = "true (YAML reads yes and on so)" if raw else "false (YAML reads no and off so)"
        yield where, f"must be a number, not {read}"
    elif isinstance(raw, float) and isinstance(value, str) and not math.isfinite(raw):
        yield where, f"{raw:g} is not text; put it in quotes"
    elif isinstance(raw, dict):
        kept = dict(value) if isinstance(value, dict | BaseModel) else {}
        for name in kept.keys() & raw.keys():
            yield from _coerced(raw[name], kept[name], (*where, name))
    elif isinstance(raw, list) and isinstance(value, list | tuple) and len(raw) == len(value):
        for place, (one, read_as) in enumerate(zip(raw, value, strict=True)):
            yield from _coerced(one, read_as, (*where, place))


def _sentence(fault: Any, kind: type[BaseModel]) -> str:
    """A pydantic fault in this project's words."""
    if fault["type"] == "extra_forbidden":
        return f"is no field here; {nearest(str(fault['loc'][-1]), _fields_at(kind, fault['loc']))}"
    return in_words(fault)


def _fields_at(kind: type[BaseModel], where: tuple[str | int, ...]) -> list[str]:
    """Names of the fields of the mapping that holds the last part of `where`."""
    for part in where[:-1]:
        if part in kind.model_fields:
            kind = next(_models_in(kind.model_fields[str(part)].annotation), kind)
    return list(kind.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field may hold, at any depth of its type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)

"""Faults of pydantic in plain words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from plancast.planner.model.faults import in_words


class _A(BaseModel):
    kind: Literal["a"]


class _B(BaseModel):
    kind: Literal["b"]


class _Form(BaseModel):
    solver: Annotated[str, Field(pattern="^(auto|greedy)$")] = "auto"
    event: Annotated[_A | _B, Field(discriminator="kind")] | None = None
    levels: tuple[float, ...] = ()
    windows: list[tuple[int, int]] = []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"solver": "best"}, "must be auto, greedy (it is 'best')"),
        ({"event": {"kind": "boom"}}, "kind is 'boom'; it must be a, b"),
        ({"event": {}}, "kind is missing; add it"),
        ({"solver": "b" * 3000}, f"must be auto, greedy (it is '{'b' * 100}...')"),
        ({"event": {"kind": "b" * 3000}}, f"kind is '{'b' * 100}...'; it must be a, b"),
        ({"levels": 0.5}, "must be a list (it is 0.5)"),
        ({"windows": [3]}, "must be a pair [start, end] (it is 3)"),
    ],
)
def test_a_fault_is_in_the_words_of_who_wrote(given: dict[str, Any], sentence: str) -> None:
    """Tags, patterns and tuples are words of a library that the user never chose."""
    with pytest.raises(ValidationError) as caught:
        _Form.model_validate(given)
    assert in_words(caught.value.errors()[0]) == sentence

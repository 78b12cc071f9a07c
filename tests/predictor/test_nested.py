"""JSON and YAML of files that nobody vouches for."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from plancast.predictor.nested import DEEPEST, json_value, yaml_value

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("abc:- ", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
)


@given(VALUES)
def test_what_was_written_is_read(value: object) -> None:
    """A count of levels that drops one or keeps one too many would refuse sound files."""
    assert json_value(json.dumps(value)) == value
    for flow in (False, True):
        assert yaml_value(yaml.safe_dump(value, default_flow_style=flow)) == value


@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.CSafeLoader])
def test_yaml_may_be_nested_so_deep_and_no_deeper(loader: type[object]) -> None:
    """A file of brackets would end the process without a word, with libyaml."""
    deepest = "[" * DEEPEST + "]" * DEEPEST
    assert str(yaml_value(deepest, loader)) == deepest
    assert len(yaml_value("[" + "[], " * 500 + "]", loader)) == 500
    for text in (f"[{deepest}]", "[" * 100_000, "{a: " * 100_000, "-\n" + "- " * 200 + "a"):
        with pytest.raises(yaml.YAMLError):
            yaml_value(text, loader)


def test_half_of_a_character_is_read_as_what_utf_8_can_write() -> None:
    """One name of a log could not be written to any file, nor any plan with that task."""
    text = r'{"half \ud800": ["\ude00\ud83d", "\ud83d\ude00", "\\ud800", 1.5, NaN, null, true]}'
    for written in (text, text.encode()):
        ((name, found),) = json_value(written).items()
        assert (name, found[:4]) == ("half \ufffd", ["\ufffd\ufffd", "\U0001f600", "\\ud800", 1.5])
        assert found[5:] == [None, True]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5_000, "[1", b"\xff"])
def test_json_that_cannot_be_read_is_a_value_error(text: str | bytes) -> None:
    """A RecursionError would pass by whoever expects bad JSON."""
    with pytest.raises(ValueError, match=r".+"):
        json_value(text)

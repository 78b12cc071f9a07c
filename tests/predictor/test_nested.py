"""YAML of files that nobody vouches for."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from plancast.predictor.nested import DEEPEST, yaml_value

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("abc:- ", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
)


@given(VALUES)
def test_what_was_written_is_read(value: object) -> None:
    """A count of levels that drops one or keeps one too many would refuse sound files."""
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


def test_a_key_is_there_once() -> None:
    """The last of two was taken, by column maps, in silence."""
    for text in ("{a: 1, a: 2}", "x:\n  a: 1\n  b: 2\n  a: 3\n"):
        with pytest.raises(yaml.YAMLError, match="'a' is there twice"):
            yaml_value(text)
    assert yaml_value("{a: &x {b: 1}, c: {b: 2}, d: {<<: *x, e: 1}}")["d"] == {"b": 1, "e": 1}

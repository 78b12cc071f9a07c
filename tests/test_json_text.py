"""JSON from outside: what is read as it was written, and what is refused."""

from __future__ import annotations

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.json_text import json_of, json_value, plain_text, refuse_repeated_keys

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
)


@given(VALUES)
def test_what_was_written_is_read(value: object) -> None:
    """Sound files would be refused, or read as something else."""
    text = json.dumps(value)
    for written in (text, text.encode(), codecs.BOM_UTF8 + text.encode(), "\ufeff" + text):
        assert json_value(written) == value
        refuse_repeated_keys(plain_text(written))


def test_what_is_no_number_is_null() -> None:
    """Whoever reads it by another parser than Python's would have nothing, for one such value."""
    facts = {"a": [1.5, float("nan"), (float("inf"), "NaN")], "b": {"c": -float("inf"), "d": True}}
    found = json.loads(json_of(facts, indent=1), parse_constant=pytest.fail)
    assert found == {"a": [1.5, None, [None, "NaN"]], "b": {"c": None, "d": True}}


TWICE = (
    '{"a": 1, "a": 1}',
    '[{"b": {"a": [], "c": 2, "a": {}}}]',
    '{"\\u0061": 0, "a": 1}',
)


@pytest.mark.parametrize("text", TWICE)
def test_a_key_is_there_once(text: str) -> None:
    """The last of two was taken in silence: a task ran on what another line of it said."""
    for read in (json_value, refuse_repeated_keys):
        with pytest.raises(ValueError, match="'a' is there twice in one object; remove one"):
            read(text)


@pytest.mark.parametrize("form", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_other_encodings_are_named(form: str) -> None:
    """Parsers say 'line 1 column 1', or end in a traceback."""
    with pytest.raises(ValueError, match=rf"^is {form[:6].upper()} text; save it as UTF-8$"):
        json_value('{"a": "\\ud800"}'.encode(form))


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

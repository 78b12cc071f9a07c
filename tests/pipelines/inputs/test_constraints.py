"""inputs.constraints and inputs.dependencies: what Slurm's words mean to the planner."""

from __future__ import annotations

import re

import pytest

from plancast.pipelines.inputs.cells import BadCell
from plancast.pipelines.inputs.constraints import requires_cell
from plancast.pipelines.inputs.dependencies import BadDependency, arrays_of, predecessors


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("", ()),
        ("ssd zone-1|zone-2", ("ssd", "zone-1|zone-2")),
        ("gpu&rack1", ("gpu", "rack1")),
        ("gpu&(rack1|rack2)", ("gpu", "rack1|rack2")),
        ("!debug", ("!debug",)),
        ("gpu,rack2", ("gpu", "rack2")),
        ("rack1|rack2 gpu", ("rack1|rack2", "gpu")),
        ("a&b|c", ("(a&b)|c",)),
        ("!(a|b)", ("!(a|b)",)),
        ("gpu&[rack1|rack2]", ("gpu", "[rack1|rack2]")),
        (" a & b ", ("a", "b")),
        ("!!a", ("a",)),
        ("a a", ("a",)),
    ],
)
def test_expressions_become_groups(text: str, groups: tuple[str, ...]) -> None:
    """A constraint would be taken for a label that no worker has."""
    assert requires_cell(text) == groups
    assert requires_cell(list(groups)) == groups


@pytest.mark.parametrize(
    "text",
    [
        "a&&b",
        "a|",
        "&a",
        "(a",
        "a)",
        "()",
        "!",
        "a|b&c",
        "[a|b]|c",
        "rack*2",
        "{a}",
        "a !",
        "a|b,c",
    ],
)
def test_what_is_not_understood_is_refused_by_name(text: str) -> None:
    """An expression that we do not know would silently be a label."""
    with pytest.raises(BadCell, match=re.escape(f"constraint {text!r} is not understood")):
        requires_cell(text)


KNOWN = ("1_1", "1_2", "2", "a,b", "afterok:9")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("1_1,1_2",), ("1_1", "1_2")),
        (("afterok:2",), ("2",)),
        (("afterok:1_1:1_2,afterok:2",), ("1_1", "1_2", "2")),
        (("1",), ("1_1", "1_2")),
        (("afterok:1",), ("1_1", "1_2")),
        (("a,b", "2"), ("a,b", "2")),
        (("afterok:9",), ("afterok:9",)),
        (("2", "2,1_1"), ("2", "1_1")),
        ((), ()),
    ],
)
def test_dependencies_are_ids(words: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """A list of predecessors would be taken for one task of that name."""
    assert predecessors(words, KNOWN, arrays_of(KNOWN)) == wanted


@pytest.mark.parametrize("word", ["afterany:2", "singleton", "after:2", "2?1_1", "3", "afterok:3"])
def test_other_kinds_are_refused_by_name(word: str) -> None:
    """A dependency that cannot be planned would be dropped."""
    with pytest.raises(BadDependency, match=re.escape(word.removeprefix("afterok:"))):
        predecessors((word,), KNOWN, arrays_of(KNOWN))

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
    assert predecessors(words, KNOWN, arrays_of(KNOWN)) == (wanted, ())


@pytest.mark.parametrize(
    ("words", "after", "depends"),
    [
        (("afterany:2",), (), ("afterany:2",)),
        (("after:2+10",), (), ("after:2+600s",)),
        (("after:2+10m:1_1+30s",), (), ("after:2+600s", "after:1_1+30s")),
        (("after+10m:2",), (), ("after:2+600s",)),
        (("afterok:2+1h,1_1",), ("1_1",), ("afterok:2+3600s",)),
        (("afterany:1", "2"), ("2",), ("afterany:1_1", "afterany:1_2")),
        (("afternotok:2",), (), ("afternotok:2",)),
        (("after:2",), (), ("after:2",)),
    ],
)
def test_kinds_and_lags_are_read(
    words: tuple[str, ...], after: tuple[str, ...], depends: tuple[str, ...]
) -> None:
    """A task would wait for the end of what it should run beside, or not wait long enough."""
    found = predecessors(words, KNOWN, arrays_of(KNOWN))
    assert (found[0], tuple(map(str, found[1]))) == (after, depends)
    assert predecessors((*after, *depends), KNOWN, arrays_of(KNOWN)) == found


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("singleton", "follows 'singleton': singleton cannot be planned"),
        ("aftercorr:2", "aftercorr cannot be planned"),
        ("2?1_1", "any one of several dependencies cannot be planned"),
        ("3", "follows '3', which is no task"),
        ("afterok:3", "follows '3', which is no task"),
        ("after:2-10", "a lag before an event cannot be planned"),
        ("after:2+soon", "follows '2+soon', which is no task"),
        ("after:2+5 parsecs", "'5 parsecs' is no time like 10m"),
        ("2,afterany:2", "follows 2 in two ways"),
    ],
)
def test_other_kinds_are_refused_by_name(word: str, sentence: str) -> None:
    """A dependency that cannot be planned would be dropped."""
    with pytest.raises(BadDependency, match=re.escape(sentence)):
        predecessors((word,), KNOWN, arrays_of(KNOWN))

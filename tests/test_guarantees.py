"""The chapter of guarantees names tests that there are, and says which of them are slow."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
SLOW = "*slow*:"


@cache
def marks_of(file: str) -> dict[str, str]:
    """Name to decorators of each test of a file."""
    path = ROOT / "tests" / file
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
    return {
        one.name: "\n".join(map(ast.unparse, one.decorator_list))
        for one in ast.walk(tree)
        if isinstance(one, ast.FunctionDef)
    }


def test_every_guarantee_is_shown_by_a_test_that_there_is() -> None:
    """A promise could outlive the test that showed it."""
    named = NAMED.findall(PAGE.read_text(encoding="utf-8"))
    assert [f"{file}::{name}" for file, name in named if name not in marks_of(file)] == []


def test_what_is_slow_is_said_to_be() -> None:
    """A reader would take for shown by every run what is tried now and then."""
    wrong = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        always, _, slow = line.partition(SLOW)
        for file, name in NAMED.findall(always):
            if "pytest.mark.slow" in marks_of(file).get(name, "").split("\n"):
                wrong.append(f"{file}::{name} is slow")
        for file, name in NAMED.findall(slow):
            # Some cases of a test may be.
            marks = marks_of(file).get(name, "")
            if not re.search(r"\b(?:mark\.slow|cases\(|spans\()", marks):
                wrong.append(f"{file}::{name} is not slow")
    assert wrong == []


def test_every_row_names_a_test() -> None:
    """A line of a table could promise what nothing shows."""
    rows = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and "shown by" not in line
    ]
    assert len(rows) > 40
    assert [row for row in rows if not NAMED.search(row)] == []

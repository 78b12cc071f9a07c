"""The chapter of guarantees names tests that there are."""

from __future__ import annotations

import re

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def test_every_guarantee_is_shown_by_a_test_that_there_is() -> None:
    """A promise could outlive the test that showed it."""
    missing = []
    for file, name in NAMED.findall(PAGE.read_text(encoding="utf-8")):
        path = ROOT / "tests" / file
        if not path.exists() or f"def {name}(" not in path.read_text(encoding="utf-8"):
            missing.append(f"{file}::{name}")
    assert missing == []


def test_every_row_names_a_test() -> None:
    """A line of a table could promise what nothing shows."""
    rows = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and "shown by" not in line
    ]
    assert len(rows) > 40
    assert [row for row in rows if not NAMED.search(row)] == []

"""``plancast doctor``: what it says is so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plancast.pipelines.cli import main
from plancast.pipelines.cli.common import console
from plancast.planner.planning.warm import FAMILIES


def test_it_says_what_is_compiled_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody would wait for compiling at the first plan, and not be warned of it."""
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--json"])
    assert left.value.code == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert sorted(facts["kernels_compiled"] + facts["kernels_missing"]) == sorted(FAMILIES)
    assert facts["omp_num_threads"] == "1"
    assert facts["cores"] >= 1


def test_nothing_is_cut_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder or a label that ends in dots tells nobody where to look."""
    monkeypatch.setattr(console, "width", 60)
    with pytest.raises(SystemExit):
        main(["doctor"])
    said = capsys.readouterr().out
    assert "compiled when first needed" in said
    assert "…" not in said


def test_an_unknown_half_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt half would compile nothing, without a word."""
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--warm", "--half", "third"])
    assert left.value.code == 2
    assert "choose all, plans, searches" in capsys.readouterr().err

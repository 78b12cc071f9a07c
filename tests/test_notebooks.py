"""The notebooks are a course: each asks, answers with plots, and ends with an exercise solved."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import jupytext
import pytest
from nbconvert.preprocessors import ExecutePreprocessor

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
QUICK = ("01_your_log",)
"""Run in every test run; the others are slow."""
SECONDS = 300
"""Longest that a cell may take."""
MOST_IMPORTS = 3


def cells_of(path: Path, kind: str) -> list[Any]:
    """The cells of a kind, ``code`` or ``markdown``."""
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_a_lesson(path: Path) -> None:
    """A lesson would have no question, no exercise, private names or a page of imports."""
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"(?:\.|import )_[a-z]\w*", text)
    words = [cell.source for cell in cells_of(path, "markdown")]
    assert re.match(rf"# {int(path.stem[:2])}\. ", words[0])
    assert "?" in words[0]
    assert any(part.startswith("## Exercise") for part in words)
    assert words[-1].startswith("### Solution")
    code = "\n".join(cell.source for cell in cells_of(path, "code"))
    imports = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert len(imports) <= MOST_IMPORTS


@pytest.mark.parametrize(
    "path",
    [p if p.stem in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in NOTEBOOKS],
    ids=lambda p: p.stem,
)
def test_a_lesson_runs_and_shows_plots(path: Path, tmp_path: Path) -> None:
    """Who follows the course would meet a traceback, a warning, or tables of numbers."""
    notebook = jupytext.read(path)
    # A cell that fails raises here, with its traceback.
    runner = ExecutePreprocessor(timeout=SECONDS, kernel_name="python3")
    runner.preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [out for cell in code for out in cell.outputs]
    assert [out for out in outputs if out.get("name") == "stderr"] == []
    drawn = [out for out in outputs if "image/svg+xml" in out.get("data", {})]
    assert len(drawn) >= 2
    # The exercise is answered by a plot, too.
    assert any("image/svg+xml" in out.get("data", {}) for out in code[-1].outputs)

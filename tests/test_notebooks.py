"""Every notebook runs from top to bottom, and shows what it was written to show."""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import pytest
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ExecutePreprocessor

from plancast.pipelines.stages.trial import kinds_of
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
SECONDS = 40
"""Longest that a notebook may take on two cores."""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_public_names_only(path: Path) -> None:
    """A notebook would teach names that may change without notice."""
    assert not re.findall(r"(?:\.|import )_[a-z]\w*", path.read_text(encoding="utf-8"))


def test_log_to_plan_runs_and_gives_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notebook that shows the whole way from a log to a verdict would be broken."""
    monkeypatch.delenv("LOG", raising=False)
    notebook = jupytext.read(ROOT / "notebooks" / "01_log_to_plan.py")
    # A cell that fails raises here, with its traceback.
    runner = ExecutePreprocessor(timeout=3 * SECONDS, kernel_name="python3")
    runner.preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [out for cell in cells for out in cell.outputs]
    assert [out for out in outputs if out.output_type == "error"] == []
    assert [out for out in outputs if out.get("name") == "stderr"] == []

    verdict = cells[-1].outputs[-1]["data"]["text/html"]
    for kind in kinds_of(0.8):
        assert f"<th>{kind}</th>" in verdict
    for column in ("realised cost", "regret", "95 % interval"):
        assert f"<th>{column}</th>" in verdict
    assert verdict.count("+0.0% to +0.0%") == 1  # the oracle alone has no regret by definition
    assert sum("image/svg+xml" in out.get("data", {}) for out in outputs) == 2
    text, _ = HTMLExporter().from_notebook_node(notebook)
    assert "waits" in text


def test_energy_against_lateness_draws_a_front(tmp_path: Path) -> None:
    """The notebook on prices would not run, or dear energy would save none."""
    notebook = jupytext.read(ROOT / "notebooks" / "04_energy_against_lateness.py")
    runner = ExecutePreprocessor(timeout=3 * SECONDS, kernel_name="python3")
    runner.preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [out for cell in cells for out in cell.outputs]
    assert [out for out in outputs if out.get("name") == "stderr"] == []
    drawn = [
        out["data"]["image/svg+xml"] for out in outputs if "image/svg+xml" in out.get("data", {})
    ]
    assert len(drawn) == 3
    assert drawn[0].count("<circle") == 7
    assert "saves" in cells[-1].outputs[-1]["text"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("02_what_a_forecast_is_worth", ("run2procs-saf", "closed", "sigma 1")),
        ("03_who_waits", ("planner", "Jain", "17 and more")),
    ],
)
def test_the_replays_are_told(
    name: str, shown: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook on replays would not run, or not show what it was written to show."""
    monkeypatch.delenv("LOG", raising=False)
    notebook = jupytext.read(ROOT / "notebooks" / f"{name}.py")
    runner = ExecutePreprocessor(timeout=3 * SECONDS, kernel_name="python3")
    runner.preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [out for cell in cells for out in cell.outputs]
    assert [out for out in outputs if out.get("name") == "stderr"] == []
    tables = "".join(out.get("data", {}).get("text/html", "") for out in outputs)
    assert "NaN" not in tables
    for text in shown:
        assert text in tables


@pytest.mark.slow
def test_what_the_guide_learned_is_shown(tmp_path: Path) -> None:
    """The notebook on guides would not run, or its guide need more states than none."""
    notebook = jupytext.read(ROOT / "notebooks" / "05_what_the_guide_learned.py")
    runner = ExecutePreprocessor(timeout=3 * SECONDS, kernel_name="python3")
    runner.preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [out for cell in cells for out in cell.outputs]
    assert [out for out in outputs if out.get("name") == "stderr"] == []
    said = cells[-1].outputs[-1]["text"]
    bound, guide = (
        int(re.findall(f"dives by the {name} ([0-9,]+)", said)[0].rstrip(",").replace(",", ""))
        for name in ("bound", "guide")
    )
    assert guide < bound

"""plancast.pipelines.charts: what charts of forecasts and of their worth show is counted here."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from plancast.pipelines.charts.forecasts import (
    against_truth,
    errors_by,
    ranking,
    reliability,
    unpredictable,
)
from plancast.pipelines.charts.theme import COLOURS, GREY
from plancast.pipelines.charts.worth import distribution, policies, terms


@pytest.fixture
def jobs() -> pd.DataFrame:
    """Eighty jobs of two users: a's forecasts are double, b's a quarter of the run time."""
    run_s = np.tile([100.0, 1000.0], 40)
    user = np.repeat(["a", "b"], 40)
    said = run_s * np.where(user == "a", 2.0, 0.25)
    return pd.DataFrame({"run_s": run_s, "user": user, "model": said, "requested": 8 * run_s})


def test_errors_are_factors_of_each_group(jobs: pd.DataFrame) -> None:
    """A queue or a month would be shown with the error of another, or too long told from short."""
    chart = errors_by(jobs, jobs["user"], ["model", "requested"], "user", ordered=True)
    found = {(row["name"], row["group"]): row["factor"] for row in chart.spec["datasets"]["errors"]}
    assert found == {("model", "a"): 2, ("model", "b"): 4,
                     ("requested", "a"): 8, ("requested", "b"): 8}  # fmt: skip
    few = errors_by(jobs.head(50), jobs["user"].head(50), ["model"], "user", ordered=False)
    assert [row["group"] for row in few.spec["datasets"]["errors"]] == ["a"]  # b has ten jobs


@pytest.mark.parametrize("ordered", [True, False])
def test_the_legend_has_the_colours_of_the_marks(jobs: pd.DataFrame, ordered: bool) -> None:
    """Points would have a legend of names alone, and nobody would know whose they are."""
    chart = errors_by(jobs, jobs["user"], ["model", "requested"], "user", ordered=ordered)
    symbols = re.findall(r'role-legend-symbol[^"]*"><path[^>]*>', chart.svg(width=500))
    assert len(symbols) == 2
    for symbol, colour in zip(symbols, COLOURS, strict=False):
        # A fill shows where the path has an area: arcs, not one line.
        assert f'stroke="{colour}"' in symbol or (f'fill="{colour}"' in symbol and "A" in symbol)


def test_more_than_seven_estimators_can_be_told_apart() -> None:
    """Those of `evaluate` and one's own would share one grey, which is that of the exact line."""
    names = [f"e{k}" for k in range(12)]
    drawn = str(reliability({name: {0.5: 0.4} for name in names}, "e0").spec)
    colours = re.search(r"'scale': {'domain': \['e0'.*?'range': \[(.*?)\]", drawn)
    assert colours is not None
    assert len(set(colours[1].split(", ")) - {repr(GREY)}) == 12


def test_the_unpredictable_come_first(jobs: pd.DataFrame) -> None:
    """The operator would talk to the wrong user."""
    rows = unpredictable(jobs, jobs["user"]).spec["datasets"]["users"]
    assert [(row["user"], row["factor"], row["middle"]) for row in rows] == [
        ("b", 4, 0.25), ("a", 2, 2)
    ]  # fmt: skip


def test_every_job_is_in_a_cell(jobs: pd.DataFrame) -> None:
    """Jobs would be missing from the picture of forecast against truth."""
    cells = against_truth(jobs, ["model", "requested"]).spec["datasets"]["cells"]
    for name in ("model", "requested"):
        mine = [row for row in cells if row["name"] == name]
        assert sum(row["jobs"] for row in mine) == len(jobs)
    assert all(row["y"] > row["x2"] for row in cells if row["name"] == "requested")


def test_values_reach_the_charts() -> None:
    """A line, bar or interval would show another number than was measured."""
    lines = reliability({"other": {0.5: 0.4}, "model": {0.5: 0.51, 0.9: float("nan")}})
    rows = lines.spec["datasets"]["coverage"]
    assert rows[0] == {"name": "model", "level": 0.5, "share": 0.51}
    assert len(rows) == 2
    ways = policies({"a": (-0.1, -0.2, -0.01), "b": (0.1, -0.1, 0.3), "c": (0.2, 0.1, 0.3)}, "d")
    said = {row["name"]: row["proven"] for row in ways.spec["datasets"]["ways"]}
    assert said == {"a": "cheaper", "b": "no difference shown", "c": "costlier"}
    parts = terms({"model": {"wait_h": 3.0, "kwh": 0.0}, "oracle": {"wait_h": 1.0, "kwh": 0.0}})
    assert [row["term"] for row in parts.spec["datasets"]["terms"]] == ["wait_h", "wait_h"]
    spread = distribution(
        [{"name": "easy", "wait_s": [0, 120, 600]}], "wait_s", (0, 0.5, 1), "wait", least=0.1,
        floor="none", scale=60,
    )  # fmt: skip
    assert [row["value"] for row in spread.spec["datasets"]["spread"]] == [0.1, 2.0]


def test_alike_is_tied() -> None:
    """Of two that differ by nothing that is shown one would be called better."""
    rows = ranking({"a": 1.3701, "b": 2.0, "model": 1.3704}, "factor").spec["datasets"]["values"]
    assert [(row["name"], row["words"]) for row in rows] == [
        ("a", "1.37, tied"), ("model", "1.37, tied"), ("b", "2")
    ]  # fmt: skip


def test_a_chart_is_an_image_without_a_browser() -> None:
    """A notebook or an MLflow run would show nothing."""
    chart = reliability({"model": {0.1: 0.1, 0.9: 0.88}})
    svg = chart.svg(width=500, theme="dark")
    assert svg.startswith("<svg")
    assert "jobs that ended by it" in svg
    assert chart.png(width=300)[:4] == b"\x89PNG"

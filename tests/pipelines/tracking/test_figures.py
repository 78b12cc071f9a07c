"""Figures are well-formed SVG that shows what it was given."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from plancast.pipelines.tracking.figures import (
    bars_svg,
    decades_svg,
    error_by_decade,
    lines_svg,
    reliability_svg,
)

SVG = "{http://www.w3.org/2000/svg}"


def circles(svg: str) -> list[tuple[float, float]]:
    """Centres of all dots."""
    found = ET.fromstring(svg).iter(f"{SVG}circle")
    return [(float(dot.get("cx", "nan")), float(dot.get("cy", "nan"))) for dot in found]


def test_a_calibrated_estimator_lies_on_the_diagonal() -> None:
    """A reliable forecast would look unreliable."""
    svg = reliability_svg({"model": {"0.5": 0.5, "0.8": 0.8, "0.95": 0.95}})
    dots = circles(svg)
    line = next(e for e in ET.fromstring(svg).iter(f"{SVG}line") if e.get("stroke-dasharray"))
    x1, y1, x2, y2 = (float(line.get(k, "nan")) for k in ("x1", "y1", "x2", "y2"))
    assert len(dots) == 3
    for x, y in dots:
        assert y == pytest.approx(y1 + (x - x1) / (x2 - x1) * (y2 - y1), abs=0.2)


def test_over_coverage_lies_above() -> None:
    """Too careful and too bold forecasts would be taken for each other."""
    low, high = circles(reliability_svg({"a": {"0.5": 0.4}, "b": {"0.5": 0.6}}))
    assert high[1] < low[1]


def test_bars_are_as_long_as_their_values() -> None:
    """A figure would compare falsely."""
    svg = bars_svg("t", {"a": 10.0, "b": 5.0, "c": 0.0, "lost": math.nan}, label="s")
    bars = [r for r in ET.fromstring(svg).iter(f"{SVG}rect") if r.get("x")]
    widths = [float(bar.get("width", "nan")) for bar in bars]
    assert len(widths) == 3
    assert widths[1] == pytest.approx(widths[0] / 2, abs=0.1)
    assert widths[2] == 0


def test_each_decade_has_the_error_of_its_jobs() -> None:
    """Short and long jobs would be mixed."""
    run = np.array([1.0, 9.9, 10.0, 1000.0])
    found = {"m": np.array([2.0, 9.9, 40.0, 500.0])}
    assert error_by_decade(run, found) == {"m": {0: 0.5, 1: 2.0, 3: 1.0}}


def test_decades_are_told_in_seconds() -> None:
    """Nobody could read which run times are forecast badly."""
    svg = decades_svg({"model": {0: 1.0, 3: 0.4}, "last_two": {3: 0.7}})
    assert "1 s to 10 s" in svg
    assert "1000 s to 1e4 s" in svg
    assert len(circles(svg)) == 3


@pytest.mark.parametrize(
    "svg",
    [
        lines_svg("empty", {}, x_label="x", y_label="y"),
        lines_svg("lost", {"a": {1.0: math.nan}}, x_label="x", y_label="y"),
        lines_svg("one", {"<&'>": {1.0: 0.0}}, x_label="<", y_label="&"),
        bars_svg("empty", {}, label="s"),
        bars_svg("<b>", {"a<b": 1.0}, label="&"),
    ],
)
def test_odd_input_makes_a_figure(svg: str) -> None:
    """An evaluation would end in a broken figure after all its work."""
    assert ET.fromstring(svg).tag == f"{SVG}svg"

"""Figures of an evaluation as plain SVG, for MLflow and for pages: no plotting library needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from plancast.predictor.metrics import median_abs_log2

Floats = NDArray[np.float64]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#555555")
"""Okabe and Ito's palette, which the colour-blind can tell apart, and two more."""

_WIDTH, _HEIGHT = 640, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 170, 40, 52


def _svg(title: str, height: int, body: Sequence[str]) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' "
        f"width='{_WIDTH}' height='{height}' font-family='system-ui, sans-serif' font-size='12'>"
        f"<title>{escape(title)}</title><rect width='100%' height='100%' fill='white'/>"
        + _text(_LEFT, 22, title, weight="bold", size=14)
        + "".join(body)
        + "</svg>\n"
    )


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", weight: str = "", size: int = 12
) -> str:
    bold = f" font-weight='{weight}'" if weight else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-size='{size}'{bold} "
        f"fill='#222'>{escape(words)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, extra: str = "") -> str:
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' {extra}/>"
    )


def _finite(series: Mapping[str, Mapping[float, float]]) -> dict[str, list[tuple[float, float]]]:
    """Points of each series in order of x, those that are no numbers left out."""
    points = {
        name: sorted((x, y) for x, y in row.items() if math.isfinite(x) and math.isfinite(y))
        for name, row in series.items()
    }
    return {name: row for name, row in points.items() if row}


def lines_svg(
    title: str,
    series: Mapping[str, Mapping[float, float]],
    *,
    x_label: str,
    y_label: str,
    labels: Mapping[float, str] | None = None,
    diagonal: bool = False,
) -> str:
    """Lines with dots, one for each series.

    Parameters
    ----------
    title : str
    series : mapping
        Name to y by x; a value that is no number is left out.
    x_label, y_label : str
    labels : mapping, optional
        Text of each tick of the x axis; the numbers themselves where it is not given.
    diagonal : bool
        Whether y should equal x: draws that line, and both axes go from 0 to 1.
    """
    points = _finite(series)
    xs = sorted({x for row in points.values() for x, _ in row})
    ys = [y for row in points.values() for _, y in row]
    if not xs:
        return _svg(title, 80, [_text(_LEFT, 56, "nothing to show")])
    low, high = (0.0, 1.0) if diagonal else (xs[0], max(xs[-1], xs[0] + 1e-9))
    top = 1.0 if diagonal else max(max(ys) * 1.08, 1e-9)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - low) / (high - low) * (right - _LEFT),
            bottom - y / top * (bottom - _TOP),
        )

    body = []
    for k in range(5):
        y = top * k / 4
        _, height = at(low, y)
        body.append(_line(_LEFT, height, right, height, "#ddd"))
        body.append(_text(_LEFT - 6, height + 4, f"{y:.3g}", anchor="end"))
    for x in xs:
        place, _ = at(x, 0)
        words = labels[x] if labels is not None else f"{x:g}"
        body.append(_text(place, bottom + 16, words, anchor="middle", size=10))
    if diagonal:
        body.append(_line(*at(0, 0), *at(1, 1), "#999", "stroke-dasharray='4 4'"))
    body.append(_text((_LEFT + right) / 2, _HEIGHT - 14, x_label, anchor="middle"))
    body.append(_text(_LEFT, _TOP - 4, y_label, size=10))
    for number, (name, row) in enumerate(points.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(x, y) for x, y in row]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        body.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        body += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in places]
        height = _TOP + 12 + 18 * number
        body.append(_line(right + 14, height, right + 34, height, colour, "stroke-width='2'"))
        body.append(_text(right + 40, height + 4, name))
    return _svg(title, _HEIGHT, body)


def bars_svg(title: str, values: Mapping[str, float], *, label: str) -> str:
    """Horizontal bars, in the order of `values`; a value that is no number is left out.

    Parameters
    ----------
    title : str
    values : mapping of str to float
        0 or more.
    label : str
        What the numbers are, with their unit.
    """
    shown = {name: value for name, value in values.items() if math.isfinite(value)}
    longest = max(shown.values(), default=0.0) or 1.0
    left, step = 230, 22
    body = [_text(left, _TOP, label, size=10)]
    for number, (name, value) in enumerate(shown.items()):
        top = _TOP + 10 + step * number
        width = value / longest * (_WIDTH - left - 90)
        body.append(_text(left - 8, top + 13, name, anchor="end"))
        body.append(
            f"<rect x='{left}' y='{top}' width='{max(width, 0):.1f}' height='{step - 6}' "
            f"fill='{COLOURS[0]}'/>"
        )
        body.append(_text(left + max(width, 0) + 6, top + 13, f"{value:,.4g}"))
    return _svg(title, _TOP + 24 + step * max(len(shown), 1), body)


def reliability_svg(coverage: Mapping[str, Mapping[str, float]]) -> str:
    """How many jobs ended by each quantile, against how many should have.

    Parameters
    ----------
    coverage : mapping
        Estimator to share of jobs by level, levels as text: ``{"model": {"0.9": 0.91}}``.
    """
    series = {
        name: {float(level): share for level, share in by_level.items()}
        for name, by_level in coverage.items()
    }
    return lines_svg(
        "Reliability: jobs that ended by each quantile",
        series,
        x_label="level",
        y_label="share of jobs",
        diagonal=True,
    )


def error_by_decade(
    run_s: Floats, forecasts_s: Mapping[str, Floats]
) -> dict[str, dict[int, float]]:
    """Median |log2(forecast / run time)| of the jobs of each decade of the run time.

    Parameters
    ----------
    run_s : array of float, shape (n,)
        Measured run times, seconds, positive.
    forecasts_s : mapping of str to array of float, shape (n,)
        Median forecasts by estimator, seconds, positive.

    Returns
    -------
    dict
        Estimator to error by k, for run times from 10^k up to 10^(k + 1) s.
    """
    decade = np.floor(np.log10(run_s) + 1e-12).astype(int)
    return {
        name: {
            int(k): median_abs_log2(run_s[decade == k], entry[decade == k])
            for k in np.unique(decade)
        }
        for name, entry in forecasts_s.items()
    }


def decades_svg(error: Mapping[str, Mapping[int, float]]) -> str:
    """Median error by the decade of the run time.

    Parameters
    ----------
    error : mapping
        What ``error_by_decade`` returns.
    """
    decades = sorted({decade for row in error.values() for decade in row})
    return lines_svg(
        "Error by run time",
        {n: {float(k): v for k, v in row.items()} for n, row in error.items()},
        x_label="run time",
        y_label="median |log2(forecast / run time)|",
        labels={float(k): f"{_seconds(k)} to {_seconds(k + 1)}" for k in decades},
    )


def _seconds(power: int) -> str:
    return f"{10**power:g} s" if power < 4 else f"1e{power} s"

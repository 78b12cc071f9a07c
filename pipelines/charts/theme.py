"""How charts look: one palette for light and dark pages, and the settings of Vega for it."""

from __future__ import annotations

from typing import Any

COLOURS = ("#3b82c4", "#e08e2b", "#2fa37c", "#c7719f", "#5db3e0", "#d9603b", "#b7a43a", "#8b929b")
"""Okabe and Ito's hues in tones that stand out on white and on black; the last is for the rest."""

FURTHER = ("#7e6bd0", "#9c6b3c", "#6aa62e", "#d45b93", "#2f94a8", "#b0542f", "#6e7fc0")
"""For names beyond those colours, where each must be told from all others."""

GREY = COLOURS[-1]
LATE = "#d01f30"
INK = "#0b1016"
"""Letters on a bar of any of the colours."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def _config(text: str, soft: str, grid: str) -> dict[str, Any]:
    axis = {
        "labelColor": soft, "titleColor": soft, "gridColor": grid, "domainColor": grid,
        "tickColor": grid, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal",
        "labelFont": FONT, "titleFont": FONT, "titlePadding": 8, "labelFlush": False,
    }  # fmt: skip
    legend = {
        "labelColor": text, "titleColor": soft, "labelFontSize": 11, "titleFontSize": 11,
        "titleFontWeight": "normal", "labelFont": FONT, "titleFont": FONT, "orient": "top",
        "symbolStrokeWidth": 3, "labelLimit": 150, "offset": 6,
    }  # fmt: skip
    return {
        "background": None, "font": FONT, "view": {"stroke": None}, "axis": axis, "legend": legend,
        "text": {"color": text}, "rule": {"color": soft}, "tick": {"color": text},
        "title": {"color": text, "font": FONT, "anchor": "start", "fontSize": 14, "offset": 10,
                  "subtitleColor": soft, "subtitleFont": FONT, "subtitleFontSize": 11,
                  "subtitlePadding": 6},
        "header": {"labelColor": text, "titleColor": soft, "labelFont": FONT},
        "range": {"category": list(COLOURS)},
    }  # fmt: skip


THEMES = {
    "light": _config("#1f2328", "#59636e", "#1f232818"),
    "dark": _config("#e6e9ee", "#a3adb8", "#ffffff1f"),
}
"""Vega's configuration on a light page and on a dark one."""

PAPER = {"light": "#ffffff", "dark": "#181c22"}
"""Background of images."""

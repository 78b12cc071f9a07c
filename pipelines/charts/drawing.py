"""A chart as a Vega-Lite specification, and images of it without a browser."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from plancast.pipelines.charts.theme import PAPER, THEMES

WIDTH = 720
SCALE = 2.0
"""Pixels of a PNG for each of the chart."""


@dataclass(frozen=True)
class Drawing:
    """A chart that knows its data; a notebook shows it as an image.

    Parameters
    ----------
    spec : mapping
        Vega-Lite, without width and theme: the page that it stands on gives both.
    """

    spec: Mapping[str, Any]

    def svg(self, *, width: int = WIDTH, theme: str = "light") -> str:
        """The chart as an SVG image, `width` pixels wide: the same chart gives the same text."""
        spec = self._sized(width, theme)
        mark = f"c{zlib.crc32(json.dumps(spec).encode()):08x}"
        names: dict[str, str] = {}

        def renamed(found: re.Match[str]) -> str:
            return found[1] + names.setdefault(found[2], f"{mark}-{len(names)}")

        # Vega numbers them through the process; on a page with other images they must differ.
        return re.sub(r'(\bid="|url\(#)((?:clip|gradient_)\d+)', renamed,
                      str(vl_convert.vegalite_to_svg(spec)))  # fmt: skip

    def png(self, *, width: int = WIDTH, theme: str = "light") -> bytes:
        """The chart as a PNG image, `width` pixels wide, twice as dense."""
        return bytes(vl_convert.vegalite_to_png(self._sized(width, theme), scale=SCALE))

    def _repr_svg_(self) -> str:
        return self.svg()

    def _sized(self, width: int, theme: str) -> dict[str, Any]:
        spec = dict(self.spec)
        spec["config"] = THEMES[theme] | {"background": PAPER[theme]}
        if "vconcat" in spec:
            inner = width - spec.get("usermeta", {}).get("margin", 0) - 14
            spec["vconcat"] = [{**part, "width": inner} for part in spec["vconcat"]]
            return spec
        return spec | {"width": width, "autosize": {"type": "fit-x", "contains": "padding"}}


def rows(name: str) -> Any:
    """Data of a chart by the name that ``drawing`` gives them."""
    return alt.NamedData(name=name)


def drawing(chart: Any, **data: Sequence[Mapping[str, Any]]) -> Drawing:
    """A chart with its data, by name.

    Parameters
    ----------
    chart : altair chart
        Of ``rows(name)``: Altair would copy and check each row.
    **data : sequence of mapping
    """
    spec = chart.to_dict(validate=False)  # its parts were checked as they were made
    spec.pop("config", None)
    return Drawing(spec | {"datasets": {name: list(values) for name, values in data.items()}})

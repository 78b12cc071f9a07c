"""The rooms of the house as a picture, drawn from the import contracts: no floor by hand."""

from __future__ import annotations

import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
WIDTH, FLOOR, GAP, PAD = 900, 34, 8, 14
COLOURS = {"plancast.pipelines": "#e8eef7", "plancast.planner": "#eaf4ea",
           "plancast.predictor": "#f8f0e3"}  # fmt: skip


def floors() -> dict[str, list[list[str]]]:
    """Package to its floors, the highest first, each a list of rooms or modules."""
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {
        contract["containers"][0]: [
            [room.strip() for room in layer.split("|")] for layer in contract["layers"]
        ]
        for contract in whole["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    }


def rooms() -> str:
    """The picture as SVG: a house of three packages; imports go downward only."""
    found = floors()
    half = (WIDTH - 3 * PAD) // 2
    top = found["plancast.pipelines"]
    below = PAD + _height(len(top)) + 2 * PAD
    parts = [_house("plancast.pipelines", top, PAD, PAD, WIDTH - 2 * PAD)]
    for at, name in enumerate(("plancast.planner", "plancast.predictor")):
        parts.append(_house(name, found[name], PAD + at * (half + PAD), below, half))
    tall = max(len(found[name]) for name in ("plancast.planner", "plancast.predictor"))
    height = below + _height(tall) + PAD
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13" role="img">'
        "<title>Packages and rooms of plancast; imports go downward only</title>"
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    )
    return "\n".join([head, *parts, "</svg>\n"])


def _height(count: int) -> int:
    return 28 + count * (FLOOR + GAP) + PAD - GAP


def _house(name: str, layers: list[list[str]], x: int, y: int, width: int) -> str:
    """One package: a frame with its name, a row for each floor."""
    lines = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{_height(len(layers))}" rx="8" '
        f'fill="{COLOURS[name]}" stroke="#8a8f98"/>',
        f'<text x="{x + PAD}" y="{y + 19}" font-weight="bold">{escape(name)}</text>',
    ]
    for row, layer in enumerate(layers):
        above = y + 28 + row * (FLOOR + GAP)
        inner = width - 2 * PAD
        each = (inner - GAP * (len(layer) - 1)) / len(layer)
        for place, room in enumerate(layer):
            left = x + PAD + place * (each + GAP)
            size = min(13.0, 1.65 * each / max(1, len(room)))
            lines += [
                f'<rect x="{left:.1f}" y="{above}" width="{each:.1f}" height="{FLOOR}" rx="4" '
                'fill="#ffffff" stroke="#b6bac2"/>',
                f'<text x="{left + each / 2:.1f}" y="{above + 22}" text-anchor="middle" '
                f'font-size="{size:.1f}">{escape(room)}</text>',
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    Path(__file__).with_name("rooms.svg").write_text(rooms(), encoding="utf-8")

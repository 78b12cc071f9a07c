"""What nonsense in place of forecasts costs: the part ``robust-LOG`` of ``benchmarks.replay``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plancast.pipelines.backtest.backtest import backtest, open_backtest
from plancast.pipelines.backtest.estimates import Cell, parse_estimates
from plancast.pipelines.backtest.records import TRANSFORMS

JITTERS = 10
WINDOWS: dict[str, str | None] = {"KTH-SP2": None, "SDSC-BLUE": "0:0.06"}
"""Which part of each log is replayed, as shares."""
EASY = "easy requested"
ROBUST = (
    "planner-robust requested",
    "planner-robust model",
    *(f"planner-robust model~{how}" for how in TRANSFORMS),
)
MEAN = 1.10
"""A mean slowdown over EASY's that is met."""


def run_robust(name: str, path: Path, keep: Path) -> dict[str, Any]:
    """The report of a log's robust cells, each over jitters of recorded forecasts."""
    test = open_backtest(path, cut_to_request=True, window=WINDOWS[name])
    cells = []
    for text in (EASY, *ROBUST):
        dispatcher, estimates = text.split()
        cells.append(Cell(dispatcher, parse_estimates(estimates)))
    return backtest(
        test, cells, jitters=JITTERS, keep=keep,
        progress=lambda done, of, text: print(name, done, of, text, flush=True),
    )  # fmt: skip


def robust_section(facts: dict[str, Any]) -> list[str]:
    """Lines of the page: every log's cells and targets, from what was kept."""
    found = {name: facts[part] for name in WINDOWS if (part := f"robust-{name}") in facts}
    if not found:
        return []
    lines = [
        "", "## Nonsense in place of forecasts", "",
        f"`planner-robust` over {JITTERS} jitters of 1%, mean ± standard deviation. The model's",
        "forecasts are recorded once and turned into [nonsense](../backtests.md#estimates) of four",
        f"kinds. Targets: mean at most {MEAN:.2f} x EASY's by requests, p99.9 at most EASY's, both",
        "over the jitters. Differences to EASY have their 95% interval, over weeks and jitters.",
    ]  # fmt: skip
    parts = [f"{name} {WINDOWS[name] or 'whole'}, {r['jobs']:,} jobs" for name, r in found.items()]
    lines += [
        f"Logs, with the part of their rows: {'; '.join(parts)}.", "",
        "| log, cell | mean | p99.9 | max | mean - EASY's | mean / EASY's | p99.9 / EASY's |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, report in found.items():
        easy = report["cells"][0]["jitter"]
        lines += [_row(name, cell, easy) for cell in report["cells"]]
    return lines


def _row(log: str, cell: dict[str, Any], easy: dict[str, Any]) -> str:
    found = cell["jitter"]
    numbers = [
        f"{found[key]['mean']:,.{digits}f} ± {found[key]['sd']:,.{digits}f}"
        for key, digits in (("bsld_mean", 1), ("bsld_p999", 0), ("bsld_max", 0))
    ]
    name = f"{log} `{cell['dispatcher']} {cell['estimates']}`"
    if found is easy:
        return f"| {name} | " + " | ".join([*numbers, "", "", ""]) + " |"
    gap = found["against_first"]
    numbers.append(f"{gap['mean']:+.1f} [{gap['lo']:.1f}, {gap['hi']:.1f}]")
    for key, most in (("bsld_mean", MEAN), ("bsld_p999", 1.0)):
        ratio = found[key]["mean"] / easy[key]["mean"]
        numbers.append(f"{ratio:.2f} {'met' if ratio <= most else '**missed**'}")
    return f"| {name} | " + " | ".join(numbers) + " |"

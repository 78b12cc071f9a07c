"""Placers on the openb trace: batch-like pods on a scaled-down set of nodes.

Run with ``make bench-placement`` or ``python -m benchmarks.placement``; the rule by which the
trace becomes a replay is that of ``plancast.pipelines.inputs.openb.read_openb``. Writes
``docs/benchmarks/placement.md``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from plancast.pipelines.backtest.replay_forecasts import ReplayForecaster
from plancast.pipelines.inputs.openb import OpenB, read_openb
from plancast.planner.worlds.placers import PLACERS, replay_cluster

ROOT = Path(__file__).parents[1]
FOLDER = ROOT.parent / "shared" / "data" / "gpu"
PAGE = ROOT / "docs" / "benchmarks" / "placement.md"
COLUMNS = (
    ("wait_mean_s", "mean wait, s"), ("wait_p95_s", "p95"), ("wait_max_s", "max"),
    ("bsld_mean", "mean bsld"), ("bsld_max", "max bsld"), ("miss_share", "misses"),
    ("decision_p99_ms", "ms a decision, p99"),
)  # fmt: skip


def rows(trace: OpenB) -> dict[str, dict[str, float]]:
    """Figures of every placer with the model's forecasts, by name."""
    return {
        name: dict(
            replay_cluster(
                trace.request, trace.run_s, placer, ReplayForecaster(trace.jobs, (0.5, 0.8, 0.9))
            ).figures
        )
        for name, placer in PLACERS.items()
    }


def targets(found: dict[str, dict[str, float]]) -> list[str]:
    """Each target, and whether it is met."""
    result = []
    for key, name in (("wait_mean_s", "mean wait"), ("miss_share", "misses")):
        best = min((found[p][key], p) for p in found if p != "planner")
        ours = found["planner"][key]
        verdict = "met" if ours < best[0] else "MISSED"
        result.append(f"planner below every one-shot placer in {name}: {verdict} "
                    f"({ours:.4g} against {best[0]:.4g} of `{best[1]}`)")  # fmt: skip
    return result


def page(trace: OpenB, found: dict[str, dict[str, float]]) -> str:
    """The page, in Markdown."""
    lines = [
        "# Placement on openb", "",
        "Written by `make bench-placement`. Pods that failed or succeeded arrive six times as",
        "fast as in the trace on two nodes of each GPU model; GPU shares count as whole devices.",
        f"{len(trace.run_s):,} pods, {trace.left_out} without a node that could hold it;",
        f"{len(trace.request.snapshot.workers)} nodes. Forecasts are the model's, learned on the",
        "replay's own clock. Weights of the planner's rules for workers were set on this trace:",
        "it is the only one of its kind here.", "",
        "| placer | " + " | ".join(title for _, title in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]  # fmt: skip
    for name, figures in found.items():
        cells = [f"{figures[key]:,.1%}" if key == "miss_share" else f"{figures[key]:,.1f}"
                 for key, _ in COLUMNS]  # fmt: skip
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {text}" for text in targets(found)), ""])


def main() -> None:
    """Replay, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    trace = read_openb(options.folder)
    text = page(trace, rows(trace))
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

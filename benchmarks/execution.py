"""What forecast errors do to cluster batches: static plan, dispatch without a plan, closed loop.

Run with ``make bench-execution`` or ``python -m benchmarks.execution``. Writes
``docs/benchmarks/execution.md``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from plancast.pipelines.backtest.execute_batch import SIGMAS, Sweep, sweep
from plancast.planner.instances.cluster import read_cluster
from plancast.planner.model.messages import Budget

ROOT = Path(__file__).parents[1]
FOLDER = ROOT.parent / "shared" / "data" / "benchmarks" / "cluster"
PAGE = ROOT / "docs" / "benchmarks" / "execution.md"
LIMIT = 1.03
AMBITION = {0.1: 1.05, 0.3: 1.10, 0.6: 1.15, 1.0: 1.20}
"""Cost over perfect information."""


def rows(names: list[str], seeds: int, steps: int) -> dict[str, dict[str, Any]]:
    """What ``sweep`` finds, for each instance."""
    asked = Sweep(seeds=seeds, budget=Budget(seconds=None, steps=steps))
    found = {}
    for name in names:
        instance = read_cluster(FOLDER / f"cluster-{name}.json.gz")
        found[name] = sweep(instance.request, asked)
        print(name, "done", flush=True)
    return found


def table(found: dict[str, Any]) -> tuple[list[str], dict[str, dict[float, float]]]:
    """Markdown rows of one instance, and the mean of each policy at each sigma."""
    mean: dict[str, dict[float, float]] = {}
    lines = ["| executed | " + " | ".join(f"{s:g}" for s in SIGMAS) + " |",
             "|---" * (len(SIGMAS) + 1) + "|"]  # fmt: skip
    for policy in dict.fromkeys(row["policy"] for row in found["rows"]):
        cells = []
        for sigma in SIGMAS:
            costs = [r["relative"] for r in found["rows"]
                     if r["policy"] == policy and r["sigma"] == sigma]  # fmt: skip
            mean.setdefault(policy, {})[sigma] = float(np.mean(costs))
            spread = f" ± {np.std(costs, ddof=1):.3f}" if len(costs) > 1 else ""
            cells.append(f"{np.mean(costs):.3f}{spread}")
        lines.append(f"| `{policy}` | " + " | ".join(cells) + " |")
    return lines, mean


def targets(mean: dict[str, dict[float, float]]) -> list[str]:
    """Each target of one instance, and whether it is met."""
    found = []
    for sigma in SIGMAS:
        better = min(mean["static"][sigma], mean["online"][sigma])
        ratio = mean["closed"][sigma] / better
        verdict = "met" if ratio <= LIMIT else "MISSED"
        text = f"sigma {sigma:g}: at most {LIMIT:g} x the better of both: {verdict} ({ratio:.3f})"
        if sigma in AMBITION:
            reached = mean["closed"][sigma] <= AMBITION[sigma]
            text += (f"; ambition {AMBITION[sigma]:.2f}: {'met' if reached else 'MISSED'} "
                     f"({mean['closed'][sigma]:.3f})")  # fmt: skip
        found.append(f"- {text}")
    return found


def main() -> None:
    """Sweep, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", default="200x20-0,200x20-1,1000x50-0,1000x50-1")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = rows(options.instances.split(","), options.seeds, options.steps)
    lines = [
        "# Execution under error", "",
        "Written by `make bench-execution`. Forecast = truth x exp(sigma z - sigma^2 / 2); cost,",
        "by the evaluator under the truth, over that of the static plan with perfect forecasts",
        f"(`auto`, {options.steps:,} steps). Mean ± standard deviation over {options.seeds} draws",
        "of the errors. [How it works](../notes/execution.md).",
    ]  # fmt: skip
    for name, one in found.items():
        shown, mean = table(one)
        lines += ["", f"## {name}", "", *shown, "", *targets(mean)]
    PAGE.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print("\n".join(lines))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

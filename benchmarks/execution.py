"""What forecast errors do to cluster batches: static plan, dispatch without a plan, closed loop.

``python -m benchmarks.execution`` (``make bench-execution``) keeps each cell, a batch at one size
of error, in ``docs/benchmarks/execution.json`` as soon as it stands, and writes
``docs/benchmarks/execution.md`` from that file alone. ``--instances`` and ``--sigmas`` name the
cells to run; those of another number of draws or steps are run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from plancast.pipelines.backtest.execute_batch import SIGMAS, Sweep, sweep
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.planner.instances.cluster import read_cluster
from plancast.planner.model.messages import Budget

ROOT = Path(__file__).parents[1]
FOLDER = ROOT.parent / "shared" / "data" / "benchmarks" / "cluster"
OUT = ROOT / "docs" / "benchmarks"
PAGE, FACTS = OUT / "execution.md", OUT / "execution.json"
INSTANCES = ("200x20-0", "200x20-1", "1000x50-0", "1000x50-1")
MEASURED = "closed"
"""The executor that is held against the others."""
LIMIT = 1.05
"""Upper limit of its cost over that of the best executor of the cell."""
AMBITION = {0.1: 1.05, 0.3: 1.10, 0.6: 1.15, 1.0: 1.20}
"""Cost over perfect information."""

Facts = dict[str, Any]


def run_cell(name: str, sigma: float, draws: int, steps: int) -> Facts:
    """What ``sweep`` finds of a batch at one size of error: costs by executor, draw by draw."""
    instance = read_cluster(FOLDER / f"cluster-{name}.json.gz")
    asked = Sweep(sigmas=(sigma,), seeds=draws, budget=Budget(seconds=None, steps=steps))
    found = sweep(instance.request, asked)
    relative: dict[str, list[float]] = {}
    for row in found["rows"]:
        relative.setdefault(row["policy"], []).append(row["relative"])
    return {"sigma": sigma, "draws": draws, "steps": steps, "relative": relative}


def against_best(relative: dict[str, list[float]]) -> tuple[str, float, float, float]:
    """The best other executor of a cell, and the ratio to it: mean and 95% limits, paired."""
    best = min((n for n in relative if n != MEASURED), key=lambda n: np.mean(relative[n]))
    ratio = np.array(relative[MEASURED]) / np.array(relative[best])
    mean, n = float(ratio.mean()), len(ratio)
    off = 0.0
    if n > 1:
        off = float(student.ppf(0.975, n - 1) * ratio.std(ddof=1) / np.sqrt(n))
    return best, mean, mean - off, mean + off


def table(cells: list[Facts]) -> list[str]:
    """Markdown rows of one instance."""
    lines = ["| executed | " + " | ".join(f"{c['sigma']:g}" for c in cells) + " |",
             "|---" * (len(cells) + 1) + "|"]  # fmt: skip
    for policy in cells[0]["relative"]:
        shown = []
        for cell in cells:
            costs = cell["relative"][policy]
            spread = f" ± {np.std(costs, ddof=1):.3f}" if len(costs) > 1 else ""
            shown.append(f"{np.mean(costs):.3f}{spread}")
        lines.append(f"| `{policy}` | " + " | ".join(shown) + " |")
    return lines


def targets(cells: list[Facts]) -> list[str]:
    """Each target of one instance, and whether it is met."""
    found = []
    for cell in cells:
        sigma = cell["sigma"]
        best, mean, low, high = against_best(cell["relative"])
        verdict = "met" if high <= LIMIT else "MISSED"
        text = f"sigma {sigma:g}: {mean:.3f} [{low:.3f}, {high:.3f}] x `{best}`: {verdict}"
        if sigma in AMBITION:
            cost = float(np.mean(cell["relative"][MEASURED]))
            reached = "met" if cost <= AMBITION[sigma] else "MISSED"
            text += f"; ambition {AMBITION[sigma]:.2f}: {reached} ({cost:.3f})"
        found.append(f"- {text}")
    return found


def page(facts: dict[str, dict[str, Facts]]) -> str:
    """The page of all cells that are kept."""
    ordered = {name: sorted(facts[name].values(), key=lambda c: c["sigma"]) for name in facts}
    cells = [cell for group in ordered.values() for cell in group]
    met = sum(against_best(cell["relative"])[3] <= LIMIT for cell in cells)
    lines = [
        "# Execution under error", "",
        "Written by `make bench-execution`. Forecast = truth x exp(sigma z - sigma^2 / 2); cost,",
        "by the evaluator under the truth, over that of the static plan with perfect forecasts",
        f"(`auto`, {_either(c['steps'] for c in cells)} steps). Mean ± standard deviation over",
        f"{_either(c['draws'] for c in cells if c['sigma'] > 0)} draws of the errors, one where",
        f"sigma is 0. Forecasts are points; `{MEASURED}` learns from the tasks that have ended how",
        "far they are off. [How it works](../notes/execution.md).", "",
        f"Target: the upper 95% limit, paired by draw, of what `{MEASURED}` costs over the best",
        f"other executor of the cell is at most {LIMIT:g}. The best is chosen on the same draws,",
        f"which favours it. **Met in {met} of {len(cells)} cells.**", "", *_missing(ordered),
    ]  # fmt: skip
    for name, group in ordered.items():
        lines += ["", f"## {name}", "", *table(group), "", *targets(group)]
    return "\n".join([*lines, ""])


def _either(numbers: Iterable[int]) -> str:
    return " or ".join(f"{n:,}" for n in sorted(set(numbers)))


def _missing(ordered: dict[str, list[Facts]]) -> list[str]:
    """Which cells of the instances were not run."""
    left = [
        f"{name} at {', '.join(f'{s:g}' for s in SIGMAS if s not in measured)}"
        for name in INSTANCES
        if (measured := {c["sigma"] for c in ordered.get(name, [])}) != set(SIGMAS)
    ]
    if not left:
        return []
    return [f"Not measured on ten draws: {'; '.join(left)}."]


def main() -> None:
    """Run the cells that are not kept, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", default=",".join(INSTANCES))
    parser.add_argument("--sigmas", default=",".join(f"{s:g}" for s in SIGMAS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--fresh", action="store_true", help="run again what is kept")
    options = parser.parse_args()
    for name in options.instances.split(","):
        for sigma in map(float, options.sigmas.split(",")):
            facts = json.loads(FACTS.read_text("utf-8")) if FACTS.is_file() else {}
            kept = facts.get(name, {}).get(f"{sigma:g}")
            draws = options.seeds if sigma > 0 else 1
            as_asked = kept and (kept["draws"], kept["steps"]) == (draws, options.steps)
            if not as_asked or options.fresh:
                facts.setdefault(name, {})[f"{sigma:g}"] = run_cell(
                    name, sigma, draws, options.steps
                )
                write_text_atomic(FACTS, json.dumps(facts, indent=1) + "\n")
            write_text_atomic(PAGE, page(facts))
            print(name, f"sigma {sigma:g} done", flush=True)


if __name__ == "__main__":
    main()

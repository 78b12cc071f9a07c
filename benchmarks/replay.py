"""Replays of whole logs: the published tables, the planner against backfilling, and speed.

``python -m benchmarks.replay [NAME ...]`` runs the named parts (all by default), keeps each in
``docs/benchmarks/replay.json`` as soon as it stands, and writes ``docs/benchmarks/replay.md``
from that file alone. Finished cells are kept under ``data/backtests`` and not run again. With
``--no-model`` cells that forecast as they go (minutes each) are left out, unless they are kept.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.replay_robust import WINDOWS, robust_section, run_robust
from plancast.pipelines.backtest.backtest import backtest, is_kept, open_backtest
from plancast.pipelines.backtest.estimates import Cell, parse_estimates
from plancast.pipelines.backtest.opened import Backtest
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.replay import ReplayLog, replay

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT.parent / "shared" / "data" / "logs"
OUT = ROOT / "docs" / "benchmarks"
FACTS = OUT / "replay.json"
KEEP = ROOT / "data" / "backtests"

FILES = {
    "KTH-SP2": "KTH-SP2-1996-2.swf.gz",
    "SDSC-BLUE": "SDSC-BLUE-2000-4.2-cln.swf.gz",
    "HPC2N": "HPC2N-2002-2.1-cln.swf.gz",
    "LLNL-Atlas": "LLNL-Atlas-2006-2.1-cln.swf.gz",
    "Lublin-1": "lublin-256-1.swf.gz",
    "Lublin-2": "lublin-256-2.swf.gz",
}
ROBUST = "robust-"
_BACKFILLINGS = ("easy requested", "easy-sjbf requested", "easypp last_two")
CELLS: dict[str, tuple[str, ...]] = {
    "KTH-SP2": (
        *_BACKFILLINGS,
        "easy oracle",
        "easy-sjbf oracle",
        "conservative requested",
        "run2procs-saf requested",
        "run2procs-saf oracle",
        "easy-sjbf model",
        "planner model",
        "planner-firm model",
        "planner-search model",
        "planner oracle",
        "planner-search oracle",
    ),
    "Lublin-1": tuple(
        f"{name} oracle"
        for name in (
            *("fcfs-published", "sjf-published", "f1-published", "run2procs-saf"),
            *("planner", "planner-search"),
        )
    ),
}
CELLS["Lublin-2"] = CELLS["Lublin-1"]
for _name in ("SDSC-BLUE", "HPC2N", "LLNL-Atlas"):
    CELLS[_name] = (*_BACKFILLINGS, "easy-sjbf model", "planner model")

SEQUENCES = (1981, 2756, 4299, 8850, 3316, 2714, 5228, 7762, 4022, 7085)
PUBLISHED: dict[tuple[str, str], tuple[float, float, bool]] = {
    ("KTH-SP2", "easy requested"): (92.69, 0.3, False),
    ("KTH-SP2", "easy-sjbf requested"): (69.39, 0.3, False),
    ("KTH-SP2", "easypp last_two"): (62.92, 0.3, False),
    ("KTH-SP2", "easy-sjbf oracle"): (49.85, 0.3, False),
    ("Lublin-1", "fcfs-published oracle"): (235.82, 0.01, True),
    ("Lublin-1", "sjf-published oracle"): (73.31, 0.01, True),
    ("Lublin-1", "f1-published oracle"): (75.07, 0.01, True),
    ("Lublin-1", "run2procs-saf oracle"): (31.46, 0.01, True),
    ("Lublin-2", "fcfs-published oracle"): (247.61, 0.01, True),
    ("Lublin-2", "sjf-published oracle"): (91.99, 0.01, True),
    ("Lublin-2", "f1-published oracle"): (148.25, 0.01, True),
    ("Lublin-2", "run2procs-saf oracle"): (66.97, 0.01, True),
}
"""Published mean slowdown, tolerance, and whether the tolerance is relative."""

Rows = list[tuple[str, bool, str]]


def run_log(name: str, *, model: bool = True) -> dict[str, Any]:
    """The report of one log's cells; without `model` those that are kept or forecast nothing."""
    path = LOGS / FILES[name]
    if name.startswith("Lublin"):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as rows:
            rows.write("\n".join(map(str, SEQUENCES)))
            rows.flush()
            test = open_backtest(path, sequences=rows.name)
    else:
        test = open_backtest(path, cut_to_request=True)
    cells = []
    for text in CELLS[name]:
        dispatcher, estimates = text.split()
        cell = Cell(dispatcher, parse_estimates(estimates))
        if model or estimates != "model" or is_kept(test, cell, KEEP):
            cells.append(cell)
    report = backtest(
        test, cells, keep=KEEP, progress=lambda done, of, text: print(name, done, of, text)
    )
    if name == "SDSC-BLUE":
        report["easy_s"] = seconds_of_easy(test)
    return report


def seconds_of_easy(test: Backtest) -> float:
    """EASY over the whole log after compilation, seconds of one core."""
    replay(test.log.part(slice(0, 100)), DISPATCHERS["easy"])
    began = time.process_time()
    replay(test.log, DISPATCHERS["easy"])
    return time.process_time() - began


def run_million() -> dict[str, Any]:
    """A million generated jobs through EASY: seconds of one core, and memory."""
    rng = np.random.default_rng(0)
    n, procs = 1_000_000, 1024
    run = np.ceil(rng.lognormal(6.0, 2.0, n)).astype(np.int64)
    width = np.minimum(2 ** rng.integers(0, 9, n), procs)
    # A load of 70%, with requests one to five times the run time.
    gaps = rng.exponential(np.mean(run * width) / (0.7 * procs), n)
    request = np.ceil(run * rng.uniform(1.0, 5.0, n)).astype(np.int64)
    log = ReplayLog(
        "generated",
        procs,
        np.cumsum(gaps).astype(np.int64),
        run,
        width,
        request,
        rng.integers(0, 500, n),
    )
    replay(log.part(slice(0, 100)), DISPATCHERS["easy"])
    began = time.process_time()
    found = replay(log, DISPATCHERS["easy"])
    return {
        "jobs": n,
        "seconds": time.process_time() - began,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "passes": found.passes,
    }


def cell_of(facts: dict[str, Any], log: str, name: str) -> dict[str, Any] | None:
    """A cell by ``DISPATCHER ESTIMATES``, or None where it has not been run."""
    for cell in facts.get(log, {}).get("cells", []):
        if f"{cell['dispatcher']} {cell['estimates']}" == name:
            return dict(cell)
    return None


def targets(facts: dict[str, Any]) -> Rows:
    """Each target: what it asks, whether it is met, and the numbers."""
    rows: Rows = []
    for (log, name), (value, room, relative) in PUBLISHED.items():
        if cell := cell_of(facts, log, name):
            off = abs(cell["bsld_mean"] - value) / (value if relative else 1.0)
            asked = f"{log} {name}: {value} within {f'{100 * room:g}%' if relative else room}"
            rows.append((asked, off <= room, f"{cell['bsld_mean']:.2f}"))
    if cell := cell_of(facts, "KTH-SP2", "easy requested"):
        rows.append(("KTH-SP2 EASY's max 14,805", round(cell["bsld_max"]) == 14805, _whole(cell)))
    if cell := cell_of(facts, "KTH-SP2", "easy-sjbf model"):
        mean, most = cell["bsld_mean"], cell["bsld_max"]
        asked = "KTH-SP2 FCFS reservation kept, learned: mean <= 49.8 with max <= 14,805"
        rows.append((asked, mean <= 49.8 and most <= 14805.5, f"{mean:.2f}, {_whole(cell)}"))
    if cell := cell_of(facts, "KTH-SP2", "planner model"):
        rows += _planner_on_kth(cell)
    if cell := cell_of(facts, "KTH-SP2", "planner-search model"):
        mean, most = cell["bsld_mean"], cell["bsld_max"]
        asked = "KTH-SP2 planner-search: mean <= 38 and max <= 14,805"
        rows.append((asked, mean <= 38 and most <= 14805.5, f"{mean:.2f}, {_whole(cell)}"))
    if cell := cell_of(facts, "KTH-SP2", "planner-firm model"):
        late, error = 100 * cell["late_share"], cell["promise_error_mean_s"] / 60
        asked = "KTH-SP2 planner-firm: late share <= 0.5%, mean distance from promise <= 20 min"
        rows.append((asked, late <= 0.5 and error <= 20, f"{late:.2f}%, {error:.0f} min"))
    for log, most in (("Lublin-1", 28.0), ("Lublin-2", 60.0)):
        if cell := cell_of(facts, log, "planner oracle"):
            mean = cell["bsld_mean"]
            rows.append((f"{log} planner: mean <= {most:g}", mean <= most, f"{mean:.2f}"))
    for log in ("SDSC-BLUE", "HPC2N", "LLNL-Atlas"):
        rows += _planner_elsewhere(facts, log)
    for log, names in CELLS.items():
        rows += [
            (f"{log} {name}", False, "not measured")
            for name in names
            if name.endswith(" model") and cell_of(facts, log, name) is None
        ]
    if (found := facts.get("SDSC-BLUE")) and "easy_s" in found:
        took = found["easy_s"]
        rows.append(("EASY on SDSC-BLUE <= 5 s after compilation", took <= 5, f"{took:.1f} s"))
    if found := facts.get("million"):
        good = found["seconds"] <= 30 and found["peak_gb"] <= 2
        result = f"{found['seconds']:.1f} s, {found['peak_gb']:.1f} GB"
        rows.append(("1,000,000 generated jobs through EASY <= 30 s, 2 GB", good, result))
    return rows


def _whole(cell: dict[str, Any]) -> str:
    return f"max {cell['bsld_max']:,.0f}"


def _planner_on_kth(cell: dict[str, Any]) -> Rows:
    mean, late = cell["bsld_mean"], 100 * cell["late_share"]
    error, wait = cell["promise_error_mean_s"] / 60, cell["wait_mean_s"] / 60
    both = mean <= 38 and cell["bsld_max"] <= 14805.5
    took = cell["replay_s"]
    return [
        ("KTH-SP2 planner: mean <= 38 and max <= 14,805", both, f"{mean:.2f}, {_whole(cell)}"),
        ("KTH-SP2 planner: mean <= 30 (stretch)", mean <= 30, f"{mean:.2f}"),
        ("KTH-SP2 planner: late share <= 0.5%", late <= 0.5, f"{late:.2f}%"),
        ("KTH-SP2 planner: mean distance from promise <= 20 min", error <= 20, f"{error:.0f} min"),
        ("KTH-SP2 planner: mean wait <= 80 min", wait <= 80, f"{wait:.1f} min"),
        ("KTH-SP2 planner: whole log <= 90 s", took <= 90, f"{took:.0f} s of one core"),
    ]


def _planner_elsewhere(facts: dict[str, Any], log: str) -> Rows:
    names = ("planner model", "easypp last_two", "easy-sjbf model", "easy requested")
    cells = [cell_of(facts, log, name) for name in names]
    if any(cell is None for cell in cells):
        return []
    planner, plus, learned, easy = (dict(cell or {}) for cell in cells)
    rows: Rows = []
    for key in ("mean", "p99"):
        mine, others = planner[f"bsld_{key}"], (plus[f"bsld_{key}"], learned[f"bsld_{key}"])
        found = f"{mine:.2f} against {others[0]:.2f} and {others[1]:.2f}"
        asked = f"{log} planner: {key} below EASY++ and learned EASY-SJBF"
        rows.append((asked, mine < min(others), found))
    found = f"{planner['bsld_max']:,.0f} against {easy['bsld_max']:,.0f}"
    rows.append(
        (f"{log} planner: max <= EASY's", planner["bsld_max"] <= easy["bsld_max"] + 0.5, found)
    )
    return rows


def page(facts: dict[str, Any]) -> str:
    """The page of all logs and cells."""
    lines = [
        "# Replays of whole logs",
        "",
        "Made by `make bench-replay` from `replay.json`; do not edit. What the columns mean:",
        "[replays](../backtests.md). Jobs are killed at their requested time; those without a",
        "positive run time are left out. Slowdown is bounded at 10 s; intervals are 95%, drawing",
        "whole weeks (Lublin: sequences) again. The planner's settings were chosen on parts of",
        "SDSC-BLUE and HPC2N (20,000 jobs each, two of either), so their rows are not untouched.",
        "KTH-SP2 and the Lublin sequences were in view while the form of the planner was",
        "found; LLNL-Atlas was not.",
        "",
        "## Targets",
        "",
        "| target | met | measured |",
        "|---|---|---|",
    ]
    lines += [
        f"| {a} | {'yes' if met else '**no**'} | {entry} |" for a, met, entry in targets(facts)
    ]
    for log in FILES:
        if log in facts:
            lines += ["", *_table(log, facts[log])]
    lines += robust_section(facts)
    return "\n".join(lines) + "\n"


_COLUMNS = (
    *("mean", "95%", "p50", "p95", "p99", "max", "wait min", "p95 min", "late %", "off min"),
    *("missed %", "use %", "kWh", "Jain", "put off", "regret", "decision p99 ms", "replay s"),
)


def _table(log: str, report: dict[str, Any]) -> list[str]:
    lines = [
        f"## {log}",
        "",
        f"{report['jobs']:,} jobs on {report['procs']:,} processors.",
        "",
        f"| dispatcher, estimates | {' | '.join(_COLUMNS)} |",
        "|---|" + "---|" * len(_COLUMNS),
    ]
    for cell in report["cells"]:
        low, high = cell["bsld_ci"]
        late, error, regret = cell["late_share"], cell["promise_error_mean_s"], cell["regret"]
        numbers = [
            f"{cell['bsld_mean']:.2f}",
            f"{low:.1f} to {high:.1f}",
            f"{cell['bsld_p50']:.2f}",
            f"{cell['bsld_p95']:,.0f}",
            f"{cell['bsld_p99']:,.0f}",
            f"{cell['bsld_max']:,.0f}",
            f"{cell['wait_mean_s'] / 60:.1f}",
            f"{cell['wait_p95_s'] / 60:,.0f}",
            "-" if late is None else f"{100 * late:.1f}",
            "-" if error is None else f"{error / 60:.0f}",
            f"{100 * cell['misses']:.1f}",
            f"{100 * cell['utilisation']:.1f}",
            f"{cell['energy_kwh']:,.0f}",
            f"{cell['fairness']['jain']:.2f}",
            "-" if (churn := cell.get("plan_churn")) is None else f"{churn:.2f}",
            "-" if regret is None else f"{regret:.1f}",
            f"{cell['decision_p99_ms']:.2f}",
            f"{cell['replay_s']:.1f}",
        ]
        lines.append(f"| {cell['dispatcher']} {cell['estimates']} | " + " | ".join(numbers) + " |")
    return lines


def main(names: list[str]) -> None:
    """Run the named parts, in this order, and write the page."""
    known = [*FILES, "million", *(f"{ROBUST}{log}" for log in WINDOWS)]
    model = "--no-model" not in names
    names = [name for name in names if name != "--no-model"] or known
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"there is no part {unknown[0]!r}; the parts are {', '.join(known)}")
    for name in names:
        if len(names) > 1:
            # A process for each, or the memory of one would count for the next.
            flags = [] if model else ["--no-model"]
            subprocess.run([sys.executable, "-m", "benchmarks.replay", name, *flags], check=True)
            continue
        log = name.removeprefix(ROBUST)
        if name != "million" and not (LOGS / FILES[log]).is_file():
            print(f"{name}: ../shared/data/logs/{FILES[log]} is missing, its last report stands")
            continue
        if name == "million":
            report = run_million()
        elif name.startswith(ROBUST):
            report = run_robust(log, LOGS / FILES[log], KEEP)
        else:
            report = run_log(name, model=model)
        facts = json.loads(FACTS.read_text("utf-8")) if FACTS.is_file() else {}
        facts[name] = report
        ordered = {n: facts[n] for n in known if n in facts}
        write_text_atomic(FACTS, json.dumps(ordered, indent=1) + "\n")
        write_text_atomic(OUT / "replay.md", page(ordered))


if __name__ == "__main__":
    main(sys.argv[1:])

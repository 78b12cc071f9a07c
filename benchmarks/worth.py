"""What forecasts are worth to plans, log by log.

Run with ``make bench-worth`` or ``python -m benchmarks.worth [LOG ...]``. Writes
``docs/benchmarks/worth.json`` and ``worth.md``; a log that stands in the first is not run again
unless it is named.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.worth.batches import has_waits
from plancast.pipelines.worth.worth import material, worth
from plancast.predictor.logs import read_log
from plancast.predictor.schema import replayed_ends

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
COLUMNS = ROOT / "data" / "columns"
KEPT = ROOT / "docs" / "benchmarks" / "worth.json"
PAGE = ROOT / "docs" / "benchmarks" / "worth.md"


@dataclass(frozen=True)
class Log:
    """A log: its file, column map, how many of its last rows are looked at, and a caveat."""

    file: str
    columns: str | None = None
    rows: int | None = None
    caveat: str = ""


LOGS = {
    "KTH-SP2": Log("logs/KTH-SP2-1996-2.swf.gz"),
    "HPC2N": Log("logs/HPC2N-2002-2.1-cln.swf.gz", rows=60_000),
    "SDSC-BLUE": Log("logs/SDSC-BLUE-2000-4.2-cln.swf.gz", rows=60_000),
    "LLNL-Atlas": Log("logs/LLNL-Atlas-2006-2.1-cln.swf.gz"),
    "METACENTRUM": Log("logs/METACENTRUM-2009-2.swf.gz", rows=60_000),
    "NASA": Log("logs/NASA-iPSC-1993-3.1-cln.swf.gz"),
    "Lublin-1": Log("logs/lublin-256-1.swf.gz"),
    "Galaxy": Log("tasks/galaxy_main_jobs.csv.gz", "galaxy.yaml", 60_000),
    "Lotaru": Log("tasks/nextflow-lotaru.csv.gz", "nextflow-lotaru.yaml"),
    "Sizey": Log("tasks/nextflow-sizey.csv.gz", "nextflow-sizey.yaml"),
    "Spark C3O": Log(
        "tasks/spark-c3o.csv.gz",
        "spark-c3o.yaml",
        caveat="its batches were seen while it was settled what `auto` takes where a log has no "
        "requests (with `closed_app_median` first it cost 7.7 % more than the best rule, "
        "-5.5 to +23.9): no evidence on logs kept aside",
    ),
    "philly": Log("gpu/philly-2017.csv.gz", "philly.yaml", 60_000),
}
SHOWN = (
    "open_p50", "open_p80", "closed_requested", "closed_best_rule", "closed_p80",
    "closed_scenarios", "auto", "strong_oracle",
)  # fmt: skip


def run(name: str, log: Log, batches: int) -> dict[str, Any]:
    """The facts of one log, with the processor time that they took."""
    columns = None if log.columns is None else str(COLUMNS / log.columns)
    read = read_log(str(DATA / log.file), columns=columns)
    if log.rows is not None and len(read) > log.rows:
        attrs = read.attrs
        read = read.iloc[-log.rows :].reset_index(drop=True)
        read.attrs = attrs
    began = time.perf_counter()
    found = material(name, replayed_ends(read), waits=has_waits(read), procs=None, batches=batches)
    facts = worth(found, tell=lambda done, text: print(f"  {done:.0%} {text}", flush=True))
    facts.pop("costs", None)
    facts["rows"], facts["took_s"] = len(read), time.perf_counter() - began
    return facts


def page(kept: dict[str, dict[str, Any]]) -> str:
    """The page, logs sorted by what ``auto`` wins."""
    found = {name: f for name, f in kept.items() if f["queues"]}
    order = sorted(found, key=lambda n: found[n]["auto_against_best_rule"]["mean"])
    lines = [
        "# What forecasts are worth",
        "",
        "Written by `make bench-worth`: [`plancast worth`](../worth.md) over logs, the most",
        "worth first. Per cent of cost, with paired 95 % intervals over batches.",
        "",
        "| log | n | `auto` takes | `auto` against the best rule | of closed planning, the "
        "forecasts' own part | exact forecasts | perfect ones | covered by p80 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in order:
        f = found[name]
        exact = f["attainable_by_calibrated"]
        lines.append(
            f"| {name} | {f['n']} | `{f['chosen_by_auto']['usual']}` | "
            f"{_interval(f['auto_against_best_rule'])} (`{f['best_rule']}`) | "
            f"{_interval(f['closed_scenarios_against_closed_first'])} | {_interval(exact)} | "
            f"{100 * f['oracle_against_baseline']:+.1f} | {100 * exact['coverage']['p80']:.0f} % |"
        )
    lines += ["", "Own part: `closed_scenarios` against closed requests (a closed rule where there "
              "are none). Exact, perfect: against the baseline.", ""]  # fmt: skip
    lines += [
        "## Against the baseline",
        "",
        "| log | baseline | " + " | ".join(f"`{name}`" for name in SHOWN) + " |",
        "|---" * (2 + len(SHOWN)) + "|",
    ]
    for name in order:
        ways = found[name]["policies"]
        cells = [_interval(ways[w]["against_baseline"]) if w in ways else "" for w in SHOWN]
        lines.append(f"| {name} | `{found[name]['baseline']}` | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Where `closed_scenarios` loses against the strong oracle",
        "",
        "| log | jobs queued / running | search | order | early ends | reservations |",
        "|---|---|---|---|---|---|",
    ]
    for name in order:
        f, lost = found[name], found[name]["leaks"]
        lines.append(
            f"| {name} | {f['jobs']['queued']:.0f} / {f['jobs']['running']:.0f} | "
            + " | ".join(f"{100 * lost[k]:+.1f}" for k in
                         ("search", "order", "early_ends", "residual")) + " |"
        )  # fmt: skip
    lines += ["", "## In words", ""]
    lines += [f"- **{name}**: {found[name]['verdict']}" for name in order]
    lines += [f"- **{name}**: {f['verdict']}" for name, f in kept.items() if not f["queues"]]
    caveats = [f"{n}: {log.caveat}." for n, log in LOGS.items() if log.caveat and n in kept]
    lines += ["", *caveats] if caveats else []
    missing = [name for name in LOGS if name not in kept]
    lines += ["", f"Not measured yet: {', '.join(missing)}."] if missing else []
    cut = [f"{name} ({log.rows:,})" for name, log in LOGS.items() if log.rows and name in kept]
    lines += ["", f"Of large logs the last rows were taken: {', '.join(cut)}.", ""] if cut else [""]
    return "\n".join(lines)


def _interval(interval: dict[str, float]) -> str:
    return (
        f"{100 * interval['mean']:+.1f} [{100 * interval['lo']:+.1f}, {100 * interval['hi']:+.1f}]"
    )


def main() -> None:
    """Run what is missing, or what is named, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", nargs="*", help=f"of {', '.join(LOGS)}")
    parser.add_argument("--batches", type=int, default=60)
    asked = parser.parse_args()
    kept: dict[str, dict[str, Any]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name, log in LOGS.items():
        if name not in asked.logs and (asked.logs or name in kept):
            continue
        if not (DATA / log.file).exists():
            print(f"{name}: ../shared/data/{log.file} is missing; left out")
            continue
        print(name, flush=True)
        kept[name] = run(name, log, asked.batches)
        print(kept[name]["verdict"], flush=True)
        # Another run may have written meanwhile.
        others = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        kept = {**others, name: kept[name]}
        write_text_atomic(KEPT, json.dumps(kept, indent=1, sort_keys=True) + "\n")
    write_text_atomic(PAGE, page({n: kept[n] for n in LOGS if n in kept}))


if __name__ == "__main__":
    main()

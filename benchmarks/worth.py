"""What forecasts are worth to plans, log by log.

Run with ``make bench-worth`` or ``python -m benchmarks.worth [LOG ...]``. Writes
``docs/benchmarks/worth.json``, ``worth_costs.json`` (what each batch cost) and ``worth.md``; a log
that stands in the first is not run again unless it is named. What is interrupted goes on where it
was: the model and each batch are kept in ``data/interim/bench-worth`` until their log is done.
``--seed`` learns other models: what batches cost with them goes into ``worth_seeds.json``, and
the pooled figures onto the page.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.worth.batches import has_waits
from plancast.pipelines.worth.worth import LEVELS, RESAMPLES, material, worth
from plancast.predictor import RuntimePredictor
from plancast.predictor.logs import read_log
from plancast.predictor.schema import replayed_ends

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
COLUMNS = ROOT / "data" / "columns"
KEPT = ROOT / "docs" / "benchmarks" / "worth.json"
COSTS = ROOT / "docs" / "benchmarks" / "worth_costs.json"
SEEDS = ROOT / "docs" / "benchmarks" / "worth_seeds.json"
CELLS = ROOT / "data" / "interim" / "bench-worth"
PAGE = ROOT / "docs" / "benchmarks" / "worth.md"


@dataclass(frozen=True)
class Log:
    """A log: its file, column map, last rows that are looked at, most batches, and a caveat."""

    file: str
    columns: str | None = None
    rows: int | None = None
    batches: int = 60
    caveat: str = ""


LOGS = {
    "KTH-SP2": Log("logs/KTH-SP2-1996-2.swf.gz"),
    "HPC2N": Log("logs/HPC2N-2002-2.1-cln.swf.gz", rows=60_000, batches=14),
    "SDSC-BLUE": Log("logs/SDSC-BLUE-2000-4.2-cln.swf.gz", rows=60_000, batches=40),
    "LLNL-Atlas": Log("logs/LLNL-Atlas-2006-2.1-cln.swf.gz", batches=20),
    "METACENTRUM": Log("logs/METACENTRUM-2009-2.swf.gz", rows=40_000, batches=20),
    "NASA": Log("logs/NASA-iPSC-1993-3.1-cln.swf.gz"),
    "Lublin-1": Log("logs/lublin-256-1.swf.gz"),
    "Galaxy": Log(
        "tasks/galaxy_main_jobs.csv.gz",
        "galaxy.yaml",
        40_000,
        batches=16,
        caveat="run times are so uneven (median 18 s, mean 590 s, up to 6 days) that the longest "
        "job of a batch and deadlines that no start can keep are most of its cost. The study that "
        "set -30% had other batches, whose load is not known in enough detail to cut them again",
    ),
    "Lotaru": Log("tasks/nextflow-lotaru.csv.gz", "nextflow-lotaru.yaml"),
    "Sizey": Log(
        "tasks/nextflow-sizey.csv.gz",
        "nextflow-sizey.yaml",
        caveat="92% of its tasks are of processes that had not run when the model was trained; "
        "many batches are one burst of a process: nothing of it has ended, so its tasks have one "
        "forecast, off by up to 6 octaves. Plans at one level believe that (p80 against requests "
        "+11%, one batch alone: 499 against 303); scenarios, of which one is the request, hedge "
        "and pay. That `auto` prefers scenarios unless another way is proven cheaper was settled "
        "after its batches had been seen (by the least sum alone it cost 11% more than requests)",
    ),
    "Spark C3O": Log(
        "tasks/spark-c3o.csv.gz",
        "spark-c3o.yaml",
        caveat="its batches were seen while it was settled what `auto` takes where a log has no "
        "requests (with `closed_app_median` first it cost 7.7% more than the best rule, "
        "-5.5 to +23.9): no evidence on logs kept aside",
    ),
    "philly": Log("gpu/philly-2017.csv.gz", "philly.yaml", 40_000, batches=20),
}
SHOWN = (
    "open_p50", "open_p80", "closed_requested", "closed_best_rule", "closed_p80",
    "closed_scenarios", "auto", "strong_oracle",
)  # fmt: skip
DIGITS = 6
"""Of a batch's cost that are kept."""


@dataclass(frozen=True)
class Target:
    """A figure pooled over logs, and what was asked of it.

    Parameters
    ----------
    text : str
    way, peer : str
        Policies; ``best_rule`` is the open rule that was best on odd batches.
    most : float
        The largest figure that meets it, a share.
    proven : bool
        Whether the upper end of its interval must lie below 0 as well.
    logs : tuple of str, optional
        By default the logs with requests.
    """

    text: str
    way: str
    peer: str
    most: float
    proven: bool = False
    logs: tuple[str, ...] | None = None


TARGETS = (
    Target("`auto` against open requests", "auto", "open_requested", -0.08),
    Target("`closed_scenarios` against closed requests", "closed_scenarios", "closed_requested",
           -0.03, proven=True),
    Target("the same on the four of these that are logs of schedulers", "closed_scenarios",
           "closed_requested", -0.03, proven=True,
           logs=("KTH-SP2", "SDSC-BLUE", "LLNL-Atlas", "HPC2N")),
    Target("`closed_scenarios` against `closed_p80`", "closed_scenarios", "closed_p80", 0.0,
           proven=True),
    Target("Galaxy: `auto` against the best rule", "auto", "best_rule", -0.30, logs=("Galaxy",)),
)  # fmt: skip
SEEN = (
    "That `auto` knows batches of the training part at first was settled after those of Spark C3O, "
    "Lotaru and philly had been seen; no value was chosen on them. What it gains there is no "
    "evidence on logs kept aside."
)
WORST_LOG = 0.01
"""No log's `auto` may cost more than so much above the baseline."""


class TimeUp(Exception):
    """The processor time of this run is spent; the next one goes on."""


class Kept(MutableMapping[str, Any]):
    """Cells in a file of JSON lines, each written as it is found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.cells: dict[str, Any] = dict(json.loads(line) for line in lines)

    def __getitem__(self, key: str) -> Any:
        """One cell."""
        return self.cells[key]

    def __setitem__(self, key: str, value: Any) -> None:
        """Keep a cell."""
        with self.path.open("a") as file:
            file.write(json.dumps([key, value]) + "\n")
        self.cells[key] = value

    def __delitem__(self, key: str) -> None:
        """Forget a cell until the file is read again."""
        del self.cells[key]

    def __iter__(self) -> Iterator[str]:
        """Keys."""
        return iter(self.cells)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.cells)


def run(name: str, log: Log, batches: int, seconds: float, seed: int) -> dict[str, Any]:
    """The facts of one log with a model of a seed, and the processor time that they took.

    Raises
    ------
    TimeUp
        Where it took more than so many seconds of processor time; what was found is kept.
    """
    columns = None if log.columns is None else str(COLUMNS / log.columns)
    read = read_log(str(DATA / log.file), columns=columns)
    if log.rows is not None and len(read) > log.rows:
        attrs = read.attrs
        read = read.iloc[-log.rows :].reset_index(drop=True)
        read.attrs = attrs
    found = material(name, replayed_ends(read), waits=has_waits(read), procs=None, batches=batches)
    folder = CELLS / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = Kept(folder / f"{batches}.jsonl")
    model = None
    if found.queues:
        if not (folder / "model").exists():
            RuntimePredictor(LEVELS, seed=seed).fit(found.train).save(folder / "model")
        model = RuntimePredictor.load(folder / "model")

    def tell(done: float, text: str) -> None:
        print(f"  {done:.0%} {text}", flush=True)
        if time.process_time() > seconds and text.startswith(("batch", "drawn")):
            raise TimeUp

    try:
        facts = worth(found, model, tell=tell, cells=kept, processes=1)
    finally:
        kept["cpu_s"] = kept.get("cpu_s", 0.0) + time.process_time()
    shutil.rmtree(folder)
    facts["rows"], facts["took_s"] = len(read), kept["cpu_s"]
    return facts


def costs_of(facts: dict[str, Any]) -> dict[str, list[float]]:
    """What each batch cost in each way, taken out of a log's facts."""
    costs = facts.pop("costs", {})
    if costs:
        costs["best_rule"] = costs[facts["best_rule"]]
    return {way: [float(f"{c:.{DIGITS}g}") for c in values] for way, values in costs.items()}


def pooled(target: Target, costs: dict[str, dict[str, list[float]]]) -> dict[str, Any] | None:
    """A way against another over logs, every log alike, with 95% intervals.

    Notes
    -----
    ``mean``: of ``sum(way) / sum(peer) - 1`` over logs: within a log the costliest batches count
    most. ``alike``: the same of geometric means of ``way / peer``: every batch counts alike.
    Batches are drawn within each log, paired; None where no log has both ways.
    """
    asked = target.logs or tuple(n for n, c in costs.items() if "open_requested" in c)
    rng = np.random.default_rng(0)
    sums, sum_draws, logs, log_draws = [], [], [], []
    for name in asked:
        if not {target.way, target.peer} <= costs.get(name, {}).keys():
            continue
        way, peer = (np.array(costs[name][key]) for key in (target.way, target.peer))
        picks = rng.integers(0, len(way), (RESAMPLES, len(way)))
        ratio = np.log(way / peer)
        sums.append(way.sum() / peer.sum() - 1)
        sum_draws.append(way[picks].sum(axis=1) / peer[picks].sum(axis=1) - 1)
        logs.append(ratio.mean())
        log_draws.append(ratio[picks].mean(axis=1))
    if not sums:
        return None
    alike = np.expm1(np.mean(log_draws, axis=0))
    return {
        **_with_interval(float(np.mean(sums)), np.mean(sum_draws, axis=0)),
        "alike": _with_interval(float(np.expm1(np.mean(logs))), alike),
        "logs": len(sums),
    }


def _with_interval(mean: float, draws: Any) -> dict[str, float]:
    low, high = np.quantile(draws, (0.025, 0.975))
    return {"mean": mean, "lo": float(low), "hi": float(high)}


def targets(kept: dict[str, dict[str, Any]], costs: dict[str, dict[str, list[float]]]) -> list[str]:
    """Lines of the page: pooled figures beside what was asked."""
    lines = [
        "## Targets",
        "",
        "| figure | logs | found, % | every batch alike, % | perfect forecasts, % | asked | |",
        "|---|---|---|---|---|---|---|",
    ]
    for target in TARGETS:
        found = pooled(target, costs)
        most = pooled(replace(target, way="strong_oracle"), costs)
        if found is None or most is None:
            continue
        met = found["mean"] <= target.most and (found["hi"] < 0 or not target.proven)
        asked = f"{target.most:+.0%}" if target.most else "below 0"
        asked += ", interval below 0" if target.proven and target.most else ""
        lines.append(
            f"| {target.text} | {found['logs']} | {_interval(found)} | "
            f"{_interval(found['alike'])} | {_interval(most)} | {asked} | "
            f"{'met' if met else '**missed**'} |"
        )
    worst = max(
        (f["policies"]["auto"]["against_baseline"] | {"log": n} for n, f in kept.items()
         if f["queues"]), key=lambda entry: float(entry["mean"]),
    )  # fmt: skip
    met = worst["mean"] <= WORST_LOG
    lines.append(
        f"| `auto` against the baseline where it does worst: {worst['log']} | "
        f"{sum(f['queues'] for f in kept.values())} | {_interval(worst)} | | | "
        f"at most {WORST_LOG:+.0%} | {'met' if met else '**missed**'} |"
    )
    said = (
        "Pooled: the mean over logs with requests, every log alike; batches are drawn within logs. "
        "A log's figure is a ratio of sums, in which its costliest batches count most; beside it "
        "every batch counts alike (geometric mean of ratios). Perfect forecasts: the strong oracle "
        "against the same peer, the most that any forecast can win."
    )
    return [*lines, "", said, ""]


def other_seeds(costs: dict[str, dict[str, dict[str, list[float]]]]) -> list[str]:
    """Lines of the page: the pooled figures with models of other seeds."""
    asked = TARGETS[:3]
    lines = ["| seed of the models | logs | " + " | ".join(t.text for t in asked) + " |"]
    lines.append("|---" * (2 + len(asked)) + "|")
    for seed, found in costs.items():
        figures = [figure for t in asked if (figure := pooled(t, found)) is not None]
        if len(figures) == len(asked):
            cells = " | ".join(_interval(figure) for figure in figures)
            lines.append(f"| {seed} | {figures[0]['logs']} | {cells} |")
    return [*lines, ""]


def page(
    kept: dict[str, dict[str, Any]],
    costs: dict[str, dict[str, list[float]]],
    seeds: dict[str, dict[str, dict[str, list[float]]]],
) -> str:
    """The page, logs sorted by what ``auto`` wins."""
    found = {name: f for name, f in kept.items() if f["queues"]}
    order = sorted(found, key=lambda n: found[n]["auto_against_best_rule"]["mean"])
    lines = [
        "# What forecasts are worth",
        "",
        "Written by `make bench-worth`: [`plancast worth`](../worth.md) over logs, the most",
        "worth first. Per cent of cost, with paired 95% intervals over batches.",
        "",
        "| log | n | `auto` takes | `auto` against the best rule | of closed planning, the "
        "forecasts' own part | exact forecasts | perfect ones | no order can save | covered by "
        "p80 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in order:
        f = found[name]
        exact = f["attainable_by_calibrated"]
        lines.append(
            f"| {name} | {f['n']} | `{f['chosen_by_auto']['usual']}` | "
            f"{_interval(f['auto_against_best_rule'])} (`{f['best_rule']}`) | "
            f"{_interval(f['closed_scenarios_against_closed_first'])} | {_interval(exact)} | "
            f"{100 * f['oracle_against_baseline']:+.1f} | {100 * f['unavoidable']:.0f} | "
            f"{exact['coverage']['p80']:.0%} |"
        )
    lines += [
        "",
        "Own part: `closed_scenarios` against closed requests (a closed rule where there are no",
        "requests). Exact, perfect: against the baseline. No order can save: what it would cost if",
        "every job started at once, of the baseline's cost.",
        "",
    ]
    lines += targets(found, costs)
    lines += other_seeds({"0": costs, **seeds}) if seeds else []
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
    lines += ["", SEEN]
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
    parser.add_argument("--batches", type=int, help="most of each log; by default as in LOGS")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="of processor time; then it stops"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the models")
    asked = parser.parse_args()
    kept = _read(KEPT)
    for name, log in LOGS.items():
        if name not in asked.logs and (asked.logs or name in kept):
            continue
        if not (DATA / log.file).exists():
            print(f"{name}: ../shared/data/{log.file} is missing; left out")
            continue
        print(name, flush=True)
        try:
            facts = run(name, log, asked.batches or log.batches, asked.seconds, asked.seed)
        except TimeUp:
            print(f"{name}: time is up; run again to go on")
            return
        print(facts["verdict"], flush=True)
        # Another run may have written meanwhile.
        if asked.seed:
            seeds = _read(SEEDS)
            seeds.setdefault(str(asked.seed), {})[name] = costs_of(facts)
            write_text_atomic(SEEDS, _costs_text(seeds))
            continue
        costs = _read(COSTS) | {name: costs_of(facts)}
        kept = _read(KEPT) | {name: facts}
        write_text_atomic(COSTS, _costs_text({n: costs[n] for n in LOGS if n in costs}))
        write_text_atomic(KEPT, json.dumps(kept, indent=1, sort_keys=True) + "\n")
    found = {n: kept[n] for n in LOGS if n in kept}
    write_text_atomic(PAGE, page(found, _read(COSTS), _read(SEEDS)))


def _costs_text(costs: dict[str, Any]) -> str:
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(costs[name])}" for name in costs)
    return f"{{\n{lines}\n}}\n"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


if __name__ == "__main__":
    main()

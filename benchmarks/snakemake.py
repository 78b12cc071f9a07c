"""The Snakemake plugin: 97 published workflows in simulation of its interface, and its speed.

Run with ``make bench-snakemake`` or ``python -m benchmarks.snakemake``. Writes
``docs/benchmarks/snakemake.md``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "integrations" / "snakemake"))

from snakemake_scheduler_plugin_plancast import Scheduler, SchedulerSettings  # noqa: E402
from snakemake_scheduler_plugin_plancast.records import FACTS, Records  # noqa: E402

from tests.integrations.fake_snakemake import Dag, Job, input_first, makespan_s  # noqa: E402
from tests.integrations.real_snakemake import real_makespan_s, write_workflow  # noqa: E402

WORKFLOWS = ROOT.parent / "shared" / "data" / "dags" / "wfinstances_tasks.csv.gz"
PAGE = ROOT / "docs" / "benchmarks" / "snakemake.md"
REAL_RUNS = PAGE.with_name("snakemake.json")
READY, ROUNDS = 100_000, 20
OPEN, ASKED = 0.05, 0.10
REAL: tuple[str, ...] = (
    "1000genome-chameleon-2ch-100k-001", "blast-chameleon-large-001",
    "epigenomics-chameleon-hep-1seq-100k-001", "fetchngs-dirt02-001",
    "helloworld-forkjoin-10-chameleon", "hic-dirt02-001",
)  # fmt: skip
"""Workflows that are run by the real Snakemake: of each application with such a run the first of at
most 160 jobs in which greedy is 5% above the bound."""
REAL_S = 40.0
"""Scaled to so many seconds of the bound."""


def main() -> None:
    """Simulate all workflows, time selections, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a word that the instance's name holds")
    parser.add_argument("--real", action="store_true", help="run six under the real Snakemake too")
    asked = parser.parse_args()
    only = asked.only
    table = pd.read_csv(WORKFLOWS, dtype={"task_id": str, "parents": str})
    rows = []
    kept: dict[str, dict[str, dict[str, float]]] = {}
    for name, part in table.groupby("instance", sort=True):
        if only in str(name):
            rows.append(one(str(name), part, kept))
            print(rows[-1], flush=True)
    speed = speeds()
    print(speed)
    real = {}
    if asked.real:
        for name in REAL:
            real[name] = really(table[table["instance"] == name])
            print(name, real[name], flush=True)
        REAL_RUNS.write_text(json.dumps(real, indent=1) + "\n", encoding="utf-8")
    elif REAL_RUNS.exists():
        real = json.loads(REAL_RUNS.read_text(encoding="utf-8"))
    if not only:
        PAGE.write_text(page(rows, speed, real), encoding="utf-8")


def really(part: pd.DataFrame, seconds: float = REAL_S) -> dict[str, float]:
    """Makespans of a workflow, in simulation and under the real Snakemake, over its bound."""
    cores = cores_of(part)
    bound = bound_s(jobs_of(part), cores)
    found = {
        "greedy": makespan_s(Dag(jobs_of(part)), cores, input_first, [0.0]) / bound,
        "plancast": with_plugin(part, cores, {})[0] / bound,
    }
    found["ties least"], found["ties most"] = (value / bound for value in over_ties(part, cores))
    for scheduler in ("greedy", "plancast"):
        with tempfile.TemporaryDirectory() as name:
            write_workflow(jobs_of(part), seconds / bound, Path(name))
            found[f"real {scheduler}"] = real_makespan_s(Path(name), cores, scheduler) / seconds
    return found


def over_ties(part: pd.DataFrame, cores: int, orders: int = 40) -> tuple[float, float]:
    """Least and longest makespan under greedy over orders of the jobs, which break its ties."""
    found = []
    for seed in range(orders):
        jobs = jobs_of(part)
        random.Random(seed).shuffle(jobs)
        found.append(makespan_s(Dag(jobs), cores, input_first, [0.0]))
    return min(found), max(found)


def cores_of(part: pd.DataFrame) -> int:
    """Half of the jobs of the widest level."""
    return int(max(max(Counter(depths(jobs_of(part)).values()).values()) // 2, 1))


def one(name: str, part: pd.DataFrame, kept: dict[str, Any]) -> dict[str, Any]:
    """Makespans of a workflow over its bound: greedy, the plugin alone, with another run known."""
    cores = cores_of(part)
    bound = bound_s(jobs_of(part), cores)
    greedy = makespan_s(Dag(jobs_of(part)), cores, input_first, [0.0])
    app = str(part["app"].iloc[0])
    alone, learned = with_plugin(part, cores, {})
    # Another run of the same application, where there was one before in order of names.
    known, _ = with_plugin(part, cores, kept.get(app, {})) if app in kept else (alone, {})
    kept[app] = {**kept.get(app, {}), **learned}
    return {
        "name": name,
        "jobs": len(part),
        "cores": cores,
        "greedy": greedy / bound,
        "alone": alone / bound,
        "known": known / bound,
        "rules": with_plugin(part, cores, rules_of(part))[0] / bound,
        "exact": exact(part, cores) / bound,
        "another": known is not alone,
    }


def with_plugin(part: pd.DataFrame, cores: int, known: dict[str, Any]) -> tuple[float, Any]:
    """Makespan under the plugin, seconds, and what it learned."""
    dag, clock = Dag(jobs_of(part)), [0.0]
    scheduler = Scheduler(dag, SchedulerSettings(seconds=60.0, records=""), None)
    scheduler.clock = lambda: clock[0]
    scheduler.records.rules = {name: dict(facts) for name, facts in known.items()}
    found = makespan_s(dag, cores, scheduler.select_jobs, clock)
    assert not scheduler.said, "the plugin gave up"
    return found, scheduler.records.rules


def rules_of(part: pd.DataFrame) -> dict[str, Any]:
    """What the plugin keeps of all of a workflow's own jobs: as after a run just like this one."""
    records = Records(None)
    for job in jobs_of(part):
        records.learn(job.rule_name, job.run_s, 0.0, job.size)
    return records.rules


def exact(part: pd.DataFrame, cores: int) -> float:
    """Makespan under the plugin where it knows every job's run time, seconds."""
    alone = part.assign(job_name=part["task_id"])
    known = {
        job.name: dict.fromkeys(FACTS, 0.0) | {"runs": 1.0, "mean_s": job.run_s}
        for job in jobs_of(alone)
    }
    return with_plugin(alone, cores, known)[0]


def jobs_of(part: pd.DataFrame) -> list[Job]:
    """The tasks of an instance as jobs; one that took no time takes a millisecond."""
    jobs = {
        task: Job(task, rule, max(float(run), 1e-3), size=float(np.nan_to_num(size)))
        for task, rule, run, size in zip(
            part["task_id"], part["job_name"], part["runtime_s"], part["input_bytes"], strict=True
        )
    }
    for task, parents in zip(part["task_id"], part["parents"].fillna(""), strict=True):
        jobs[task].parents = [jobs[other] for other in str(parents).split() if other in jobs]
    return list(jobs.values())


def depths(jobs: list[Job]) -> dict[Job, int]:
    """How many jobs stand before each, at most."""
    found: dict[Job, int] = {}
    for job in in_order(jobs):
        found[job] = 1 + max((found[parent] for parent in job.parents), default=-1)
    return found


def bound_s(jobs: list[Job], cores: int) -> float:
    """No schedule ends before the longest chain, nor before all work is shared out."""
    ends: dict[Job, float] = {}
    for job in in_order(jobs):
        ends[job] = job.run_s + max((ends[parent] for parent in job.parents), default=0.0)
    return max(max(ends.values()), sum(job.run_s for job in jobs) / cores)


def in_order(jobs: list[Job]) -> list[Job]:
    """Jobs, parents first."""
    done: dict[Job, None] = {}
    stack = [(job, False) for job in reversed(jobs)]
    while stack:
        job, ready = stack.pop()
        if job in done:
            continue
        if ready:
            done[job] = None
            continue
        stack.append((job, True))
        stack.extend((parent, False) for parent in job.parents if parent not in done)
    return list(done)


def speeds() -> dict[str, float]:
    """CPU milliseconds of a selection among 100,000 ready jobs: first sight, then median, most."""
    draw = np.random.default_rng(0)
    first = [Job(f"a{k}", f"rule{k % 20}", float(draw.uniform(1, 9))) for k in range(READY)]
    last = [Job(f"b{k}", "join", 5.0, parents=first[10 * k : 10 * k + 10]) for k in range(10_000)]
    dag, clock = Dag([*first, *last]), [0.0]
    scheduler = Scheduler(dag, SchedulerSettings(seconds=600.0, records=""), None)
    scheduler.clock = lambda: clock[0]
    ready, left = dict.fromkeys(first), dict.fromkeys([*first, *last])
    free = {"_cores": 64, "_job_count": 2**62}
    times, running = [], []
    for _ in range(ROUNDS):
        asked, remaining = list(ready), list(left)
        began = time.process_time()
        chosen = scheduler.select_jobs(asked, remaining, free, {})
        times.append(1000.0 * (time.process_time() - began))
        assert chosen is not None
        for job in chosen:
            del ready[job], left[job]
        running.extend(chosen)
        dag.ended.update(running[:16])
        clock[0] += 5.0
        free = {"_cores": len(running[:16]), "_job_count": 2**62}
        del running[:16]
    later = times[1:]
    found = {"first": times[0], "median": statistics.median(later), "most": max(later)}
    return found | firstfit_ms(list(ready), list(left), dag, free)


def firstfit_ms(
    asked: list[Job], remaining: list[Job], dag: Dag, free: dict[str, int]
) -> dict[str, float]:
    """Median CPU milliseconds of the firstfit plugin on the same jobs, where it is installed."""
    try:
        firstfit = importlib.import_module("snakemake_scheduler_plugin_firstfit")
    except ImportError:
        return {}
    scheduler = firstfit.Scheduler(dag, firstfit.SchedulerSettings(), logging.getLogger("none"))
    sizes = {job.input[0]: 0.0 for job in asked}
    times = []
    for _ in range(5):
        began = time.process_time()
        scheduler.select_jobs(asked, remaining, free, sizes)
        times.append(1000.0 * (time.process_time() - began))
    return {"firstfit": statistics.median(times)}


def page(
    rows: list[dict[str, Any]], speed: dict[str, float], real: dict[str, dict[str, float]]
) -> str:
    """The page, in Markdown."""
    opened = [row for row in rows if row["greedy"] >= 1 + OPEN]

    def mean(key: str, of: list[dict[str, Any]]) -> float:
        return sum(row[key] / row["greedy"] - 1 for row in of) / max(len(of), 1)

    gain = mean("known", opened)
    worse = [row for row in rows if row["known"] > row["greedy"] * 1.001]
    again = [row for row in opened if row["another"]]
    lines = [
        "# The Snakemake plugin",
        "",
        "Written by `make bench-snakemake`. The 97 workflow runs of WfInstances as jobs of",
        "the scheduler interface, in simulated time; cores are half of the widest level.",
        "Snakemake's greedy scheduler (larger inputs first, its default) against the plugin,",
        "which knows a rule's run time only from its finished jobs in this run, or from other",
        "runs of the application, where some came before in the order of names. Makespans",
        "over a lower bound (longest chain, work over cores).",
        "",
        "| workflows | n | greedy | plugin, nothing known | plugin | rules known | "
        "all run times known | plugin - greedy | rules known - greedy | all known - greedy |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for title, some in (
        ("all", rows),
        ("greedy 5% above the bound or more", opened),
        ("... of these with another run known", again),
    ):
        if some:
            means = [
                sum(r[k] for r in some) / len(some)
                for k in ("greedy", "alone", "known", "rules", "exact")
            ]
            lines.append(
                f"| {title} | {len(some)} | "
                + " | ".join(f"{m:.3f}" for m in means)
                + "".join(f" | {mean(key, some):+.1%}" for key in ("known", "rules", "exact"))
                + " |"
            )
    lines += [
        "",
        f"Longer than greedy by more than 0.1%: {len(worse)} of {len(rows)}"
        + (
            "; the worst "
            + ", ".join(
                f"{row['name']} {(row['known'] / row['greedy'] - 1):+.1%}"
                for row in sorted(worse, key=lambda r: r["greedy"] / r["known"])[:3]
            )
            if worse
            else ""
        )
        + ".",
        "",
        "| target | measured | |",
        "|---|---|---|",
        f"| 10% below greedy on the mean of those where greedy is 5% above the bound | "
        f"{gain:+.1%} on {len(opened)} | {'met' if gain <= -ASKED else 'MISSED'} |",
        f"| own time at {READY:,} ready jobs, after first sight, 100 ms | median "
        f"{speed['median']:.0f}, most {speed['most']:.0f} CPU ms ({ROUNDS - 1} selections; first "
        f"sight {speed['first']:,.0f}) | {'met' if speed['most'] <= 100 else 'MISSED'} |",
    ]
    if "firstfit" in speed:
        lines.append(
            "| a selection not slower than firstfit's on the same jobs | firstfit 0.1.4 "
            f"{speed['firstfit']:,.0f} CPU ms (median of 5) | "
            f"{'met' if speed['median'] <= speed['firstfit'] else 'MISSED'} |"
        )
    lines += [
        "",
        "What explains it. The bound is far: with half of the cores the jobs of a level run in",
        "two waves, whatever their order. With all run times known the same rule, long chains",
        f"first, is {-mean('exact', opened):.1%} below greedy: there is no 10% to win in this way.",
        "The interface names rules and sizes of inputs, and greedy goes by sizes already. *Rules",
        "known*: the plugin after a run just like this one, with the mean of every rule and its",
        f"line over sizes: {mean('rules', opened):+.1%}. What is not known is which jobs of a rule",
        "are long, and no earlier run tells that.",
    ]
    if real:
        lines += [
            "",
            "Six of them under the real Snakemake (`--real`), jobs sleeping so that the bound",
            f"takes {REAL_S:.0f} s; nothing is known at first. Greedy has no order for jobs whose",
            "inputs are of one size: *ties* is its range over 40 orders of them, and a gain within",
            "it is luck. Where a real run lies outside it, why was not found. Makespans over the",
            "bound:",
            "",
            "| workflow | greedy, simulated | ties | plugin, simulated | greedy, real | "
            "plugin, real | plugin - greedy, real |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, found in real.items():
            cells = [found[k] for k in ("greedy", "plancast", "real greedy", "real plancast")]
            lines.append(
                f"| {name} | {cells[0]:.3f} | {found['ties least']:.3f} to {found['ties most']:.3f}"
                f" | {' | '.join(f'{cell:.3f}' for cell in cells[1:])} | "
                f"{cells[3] / cells[2] - 1:+.1%} |"
            )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()

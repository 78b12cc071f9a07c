"""The Snakemake plugin: against its interface in simulation, and under the real Snakemake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT, scaled
from tests.integrations.fake_snakemake import Dag, Job, input_first, makespan_s

PLUGIN = ROOT / "integrations" / "snakemake"
sys.path.insert(0, str(PLUGIN))
plugin = pytest.importorskip("snakemake_scheduler_plugin_plancast", reason="no Snakemake here")
records = pytest.importorskip("snakemake_scheduler_plugin_plancast.records")


def scheduler_of(dag: Dag, clock: list[float], **options: Any) -> Any:
    """The plugin's scheduler on a simulated clock, which keeps no file unless told."""
    found = plugin.Scheduler(dag, plugin.SchedulerSettings(**({"records": ""} | options)), None)
    found.clock = lambda: clock[0]
    return found


@st.composite
def workflows(draw: st.DrawFn) -> list[Job]:
    """Up to 14 jobs of three rules, some of which take two cores or have a priority."""
    jobs: list[Job] = []
    for number in range(draw(st.integers(2, 14))):
        parents = draw(st.lists(st.sampled_from(jobs), max_size=3, unique=True)) if jobs else []
        rule = draw(st.sampled_from("abc"))
        cores = draw(st.integers(1, 2))
        job = Job(f"{number}", rule, draw(st.integers(1, 9)), parents, size=draw(st.integers(0, 3)))
        job.amounts = {"_cores": cores, "_job_count": 1}
        job.priority = draw(st.integers(0, 1))
        jobs.append(job)
    return jobs


@settings(max_examples=scaled(60), deadline=None)
@given(workflows(), st.integers(2, 4))
def test_every_job_runs_and_nothing_is_overbooked(jobs: list[Job], cores: int) -> None:
    """A job would be lost or run twice, or more cores be used than there are."""
    dag, clock = Dag(jobs), [0.0]
    scheduler = scheduler_of(dag, clock)

    def select(ready: Any, remaining: Any, free: dict[str, int], sizes: Any) -> Any:
        chosen = scheduler.select_jobs(ready, remaining, free, sizes)
        assert chosen is not None
        assert len({id(job) for job in chosen}) == len(chosen)
        assert {id(job) for job in chosen} <= {id(job) for job in ready}
        assert sum(job.amounts["_cores"] for job in chosen) <= free["_cores"]
        left = free["_cores"] - sum(job.amounts["_cores"] for job in chosen)
        assert all(job.amounts["_cores"] > left for job in ready if job not in chosen)
        return chosen

    makespan_s(dag, cores, select, clock)
    assert dag.ended == set(jobs)


@settings(max_examples=scaled(60), deadline=None)
@given(workflows())
def test_ranks_are_the_longest_chains(jobs: list[Job]) -> None:
    """The plugin would start a short chain before a long one."""
    dag = Dag(jobs)
    scheduler = scheduler_of(dag, [0.0])
    scheduler._see(jobs, np.inf)
    graph = scheduler.graph
    seconds = {"a": 1.0, "b": 10.0, "c": 100.0}
    found = graph.ranks(np.array([seconds[rule] for rule in graph.rules]))
    chain: dict[int, float] = {}
    for job in reversed(jobs):
        after = [chain[id(other)] for other in jobs if job in other.parents]
        chain[id(job)] = seconds[job.rule_name] + max(after, default=0.0)
    assert [found[graph.place_of(job)] for job in jobs] == [chain[id(job)] for job in jobs]


def test_it_learns_and_starts_the_long_chain_first() -> None:
    """What was learned in this run would not change what is started."""
    head = [Job(f"h{k}", "short", 1.0) for k in range(4)]
    long = [Job(f"l{k}", "long", 50.0) for k in range(3)]
    dag, clock = Dag([*head, *long]), [0.0]
    scheduler = scheduler_of(dag, clock)
    scheduler.records.learn("long", 50.0)
    scheduler.records.learn("short", 1.0)
    free = {"_cores": 2, "_job_count": 10}
    chosen = scheduler.select_jobs([*head, *long], [*head, *long], free, {})
    assert {job.rule_name for job in chosen} == {"long"}
    clock[0] = 60.0
    dag.ended.update(chosen)
    rest = [job for job in (*head, *long) if job not in chosen]
    assert scheduler.select_jobs(rest, rest, free, {}) is not None
    assert scheduler.records.rules["long"]["runs"] == 3
    assert 50 < scheduler.records.rules["long"]["mean_s"] < 60


def test_larger_inputs_count_where_they_were_seen_to() -> None:
    """Of ready jobs of one rule the longest would be started last."""
    jobs = [Job(f"j{k}", "map", 1.0, size=10.0 * k) for k in range(6)]
    dag = Dag(jobs)
    scheduler = scheduler_of(dag, [0.0])
    for size in (0.0, 10.0, 20.0, 30.0, 40.0):
        scheduler.records.learn("map", 5.0 + size, 0.0, size)
    slopes, means = scheduler.records.slopes_of(["map"])
    assert slopes[0] == pytest.approx(1.0, rel=0.1)
    assert means[0] == pytest.approx(20.0)
    sizes = {job.input[0]: job.size for job in jobs}
    chosen = scheduler.select_jobs(jobs, jobs, {"_cores": 2, "_job_count": 9}, sizes)
    assert [job.name for job in chosen] == ["j5", "j4"]


def test_a_fault_leaves_the_selection_to_snakemake(capsys: pytest.CaptureFixture[str]) -> None:
    """A workflow would end because its scheduler has a fault or thinks for too long."""
    said: list[str] = []
    jobs = [Job(f"{k}", "a", 1.0) for k in range(600)]
    logger = SimpleNamespace(warning=said.append)
    for seconds, spoil in ((1e-9, False), (5.0, True)):
        scheduler = plugin.Scheduler(
            Dag(jobs), plugin.SchedulerSettings(seconds=seconds, records=""), logger
        )
        if spoil:
            scheduler.dag.job_dependencies = None  # type: ignore[assignment]
        for _ in range(2):
            assert scheduler.select_jobs(jobs, jobs, {"_cores": 1}, {}) is None
    assert len(said) == 2
    assert "out of time" in said[0]
    assert "greedy scheduler selects" in said[1]
    circle = [Job("x", "a", 1.0), Job("y", "a", 1.0)]
    circle[0].parents, circle[1].parents = [circle[1]], [circle[0]]
    scheduler = plugin.Scheduler(Dag(circle), plugin.SchedulerSettings(records=""), logger)
    assert scheduler.select_jobs(circle, circle, {"_cores": 1}, {}) is None


def test_rules_are_guarded_and_groups_are_one_job() -> None:
    """A Snakemake whose jobs have no rule, or another kind of job, would end in a fault."""
    single = Job("1", "a", 1.0)
    assert plugin.rule_of(single) == "a"
    assert plugin.rule_of(SimpleNamespace()) == "?"
    assert plugin.rule_of(SimpleNamespace(rule=SimpleNamespace(name=3))) == "?"
    group = SimpleNamespace(jobs=[single, Job("2", "b", 1.0)])
    assert plugin.rule_of(group) == "a+b"
    assert plugin.members_of(SimpleNamespace(jobs=lambda: [single])) == [single]


def test_a_group_has_the_longest_chain_of_its_jobs() -> None:
    """A ready group would come last, as if nothing waited for it."""
    first, second = Job("1", "a", 1.0), Job("2", "b", 1.0)
    second.parents = [first]
    group = SimpleNamespace(
        jobs=[first, second], priority=0, scheduler_resources={"_cores": 1}, input=[], output=[]
    )
    behind = Job("3", "long", 90.0, [second])
    alone = Job("4", "short", 50.0)
    scheduler = scheduler_of(Dag([first, second, behind, alone]), [0.0])
    for rule, seconds in (("a", 1.0), ("b", 1.0), ("long", 90.0), ("short", 50.0), ("a+b", 1.0)):
        scheduler.records.learn(rule, seconds)
    remaining = [first, second, behind, alone]  # single jobs, as Snakemake names them
    chosen = scheduler.select_jobs([alone, group], remaining, {"_cores": 1, "_job_count": 9}, {})
    assert chosen == [group]


def test_priorities_may_be_fractions_or_huge() -> None:
    """A priority of 0.9 would count as one of 0.5, and one of 10**20 end the plugin's part."""
    jobs = [Job(f"{k}", "a", 1.0) for k in range(3)]
    for order in ((0.2, 0.9, 0.5), (1, 10**20, 2**62)):
        for job, priority in zip(jobs, order, strict=True):
            job.priority = priority  # type: ignore[assignment]
        scheduler = scheduler_of(Dag(jobs), [0.0])
        chosen = scheduler.select_jobs(jobs, jobs, {"_cores": 2, "_job_count": 9}, {})
        assert [job.name for job in chosen] == ["1", "2"]


def test_a_folder_that_cannot_be_written_costs_no_order(tmp_path: Path) -> None:
    """From the first full disk on Snakemake's greedy scheduler would select all jobs."""
    said: list[str] = []
    (tmp_path / "file").write_text("")
    jobs = [Job(f"{k}", "a", 1.0) for k in range(3)]
    dag, clock = Dag(jobs), [0.0]
    scheduler = scheduler_of(dag, clock, records=str(tmp_path / "file" / "rules.json"))
    scheduler.logger, scheduler.saved_s = SimpleNamespace(warning=said.append), 0.0
    for _ in range(3):
        scheduler.records.learn("a", 3.0)
        clock[0] += 60.0
        assert scheduler.select_jobs(jobs, jobs, {"_cores": 1, "_job_count": 9}, {}) == [jobs[0]]
    assert len(said) == 1
    assert "not kept for later runs" in said[0]
    assert "file" in said[0]


def test_what_was_learned_is_kept(tmp_path: Path) -> None:
    """Every run would start from nothing, or end at a damaged file."""
    path = tmp_path / "deep" / "rules.json"
    kept = records.Records(path)
    for seconds in (10.0, 20.0):
        kept.learn("map", seconds, 100.0)
    kept.learn("map", float("nan"))
    kept.save()
    again = records.Records(path)
    assert again.rules == kept.rules
    assert again.rules["map"]["mean_s"] == 15.0
    assert again.seconds_of(["map", "new"]).tolist() == [15.0, 15.0]
    huge = '{"rules": {"map": {"runs": 1' + "0" * 400 + "}}}"
    deep = "[" * 100_000
    for text in ("{", "[]", '{"rules": {"map": {"runs": -1}}}', '{"rules": 3}', huge, deep):
        path.write_text(text)
        assert records.Records(path).rules == {}
    written = tmp_path / "b.tsv"
    written.write_text("s\th:m:s\tmax_rss\n2.0\t0:00:02\t50\n4.0\t0:00:04\t-\n")
    _, seconds, peak = records.benchmark_of(SimpleNamespace(benchmark=str(written)))
    assert (seconds, peak) == (3.0, 50.0)
    lines = tmp_path / "b.jsonl"  # as Snakemake writes where the file's name ends so
    lines.write_text('{"max_rss": 50.5, "s": 2.0}\n{"max_rss": "-", "s": 4.0}\n')
    assert records.benchmark_of(SimpleNamespace(benchmark=str(lines)))[1:] == (3.0, 50.5)
    for text in (deep, "[1]\n", '{"s": "fast"}\n', f'{{"s": 1{"0" * 400}}}\n', ""):
        lines.write_text(text)
        assert records.benchmark_of(SimpleNamespace(benchmark=str(lines))) is None
    assert records.benchmark_of(SimpleNamespace(benchmark=str(tmp_path / "none"))) is None


@settings(max_examples=scaled(30), deadline=None)
@given(workflows(), st.integers(1, 4))
def test_the_benchmark_compares_with_snakemake_s_greedy(jobs: list[Job], cores: int) -> None:
    """The benchmark would compare with something else than Snakemake's own scheduler."""
    greedy = pytest.importorskip("snakemake.scheduling.greedy")
    own = greedy.Scheduler(Dag(jobs), greedy.SchedulerSettings(), None)
    sizes = {job.input[0]: job.size for job in jobs}
    free = {"_cores": cores, "_job_count": 99}
    found = input_first(jobs, jobs, free, sizes)
    theirs = own.select_jobs(jobs, jobs, free, sizes)
    assert {job.name for job in found} == {job.name for job in theirs}


SNAKEFILE = """
rule all:
    input: "end.txt", expand("short{k}.txt", k=range(4))

rule short:
    output: "short{k}.txt"
    shell: "date +%s%N > {output}"

rule first:
    output: "first.txt"
    benchmark: "first.tsv"
    shell: "date +%s%N > {output}; sleep .3"

rule end:
    input: "first.txt"
    output: "end.txt"
    shell: "date +%s%N > {output}"
"""


def test_the_real_snakemake_runs_with_it(tmp_path: Path) -> None:
    """``snakemake --scheduler plancast`` would not find the plugin, or start short jobs first."""
    pytest.importorskip("snakemake")
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    rules = tmp_path / ".snakemake" / "plancast" / "rules.json"
    rules.parent.mkdir(parents=True)
    known = {"short": {"runs": 5, "mean_s": 0.01}, "first": {"runs": 1, "mean_s": 9.0}}
    rules.write_text(json.dumps({"rules": known}))
    paths = os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")])
    command = ["-m", "snakemake", "--scheduler", "plancast", "--cores", "1"]
    done = subprocess.run(
        [sys.executable, *command, "--force-use-threads", "--nolock"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "plancast:" not in done.stderr
    began = {p.stem: int(p.read_text()) for p in tmp_path.glob("*.txt")}
    assert min(began, key=lambda name: began[name]) == "first"
    learned = json.loads(rules.read_text())["rules"]
    assert learned["first"]["runs"] == 2, "its benchmark file"
    assert learned["short"]["runs"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_real_runs_take_about_as_long_as_simulated_ones(number: int) -> None:
    """The simulation that the benchmark counts with would not be what Snakemake does."""
    bench = pytest.importorskip("benchmarks.snakemake", reason="no Snakemake here")
    if not bench.WORKFLOWS.exists():
        pytest.skip(f"{bench.WORKFLOWS} is missing")
    table = pd.read_csv(bench.WORKFLOWS, dtype={"task_id": str, "parents": str})
    found = bench.really(table[table["instance"] == bench.REAL[number]], 20.0)
    print(bench.REAL[number], found)
    for scheduler in ("greedy", "plancast"):
        # Jobs of equal inputs are in no order, and each starts some tenths of a second late.
        assert found[f"real {scheduler}"] > 0.98, "below a lower bound"
        assert abs(found[f"real {scheduler}"] / found[scheduler] - 1) < 0.25

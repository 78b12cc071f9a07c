"""``plancast bench``: what is run, how it is judged, what is written."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plancast.pipelines.bench.bench import (
    Settings,
    drawn,
    kept_rows,
    read_set,
    report,
    run_bench,
    summary,
)
from plancast.pipelines.bench.peers import PEERS, Answer, NotSuited, Rules
from plancast.pipelines.bench.peers.heft import heft_schedule
from plancast.pipelines.bench.peers.metered import cpu_seconds
from plancast.pipelines.bench.peers.reflex import reflex
from plancast.pipelines.bench.worker import answer
from plancast.pipelines.cli import main
from plancast.pipelines.cli.benching import declined
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem, decode
from plancast.planner.instances.base import Instance
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.instances.multimode import parse_multimode
from plancast.planner.model.domain import BadRequest, Policy, Prices, Running, Task
from plancast.planner.model.evaluate import evaluate
from tests.conftest import ROOT
from tests.planner.instances.test_multimode import TINY

DATA = ROOT / "tests" / "data" / "instances"
KEYS = {
    "instance", "solver", "objective", "lower_bound", "best_known", "gap", "status", "proved",
    "valid", "terms", "trace", "first_s", "wall_s", "peak_mb",
}  # fmt: skip


def instance(kind: str) -> Instance:
    """One of the tiny instances."""
    places = {
        "rcpsp": ("projects", "tiny"),
        "jsp": ("shops/tiny.jsp", "tiny"),
        "fjsp": ("shops/flexible.fjs", "flexible"),
        "dag": ("dag.csv", "fork"),
    }
    path, name = places[kind]
    return read_set(DATA / path, kind).read(name)


def cluster_instance() -> Instance:
    """A small batch that prices makespan, lateness and the power of used workers."""
    request = generate_batch(12, generate_cluster(3, seed=2), seed=2)
    snapshot = request.snapshot
    open_workers = tuple(
        replace(w, busy_w=0.0, boot_kwh=0.0, blocked=(), until_s=None, free_from_s=0)
        for w in snapshot.workers
    )
    tasks = tuple(replace(t, shards=1) for t in snapshot.pending)
    prices = Prices(makespan_h=10.0, late_h=10.0, misses=0.0, wait_h=0.0, kwh=1.0)
    return Instance(
        "cluster",
        replace(
            request,
            snapshot=replace(snapshot, workers=open_workers, pending=tasks, running=()),
            policy=Policy(prices),
        ),
    )


@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_is_judged_by_the_evaluator(peer: str) -> None:
    """A peer could be given an invalid plan's price, or lose where it has only declined."""
    planned = 0
    instances = [instance(kind) for kind in ("rcpsp", "jsp", "fjsp", "dag")]
    for found in (*instances, cluster_instance()):
        row = answer(found, peer, 5.0, 2, 0, False)
        assert set(row) - KEYS <= {"reason"}
        if row["status"] == "not_suited":
            assert row["reason"]
            assert row["objective"] is row["valid"] is None
            continue
        assert row["valid"] is True
        assert row["first_s"] is not None
        assert row["trace"][-1][1] == pytest.approx(row["objective"], rel=1e-3)
        if found.is_solved:
            assert row["gap"] >= 0
        if peer in ("pyjobshop", "model"):
            assert row["proved"]
            assert row["lower_bound"] == pytest.approx(row["objective"], rel=1e-3)
        planned += 1
    assert planned >= 3


def test_peers_that_prove_agree_with_what_is_published() -> None:
    """A model that allows too much would look like a better solver."""
    for kind, best in (("rcpsp", 10), ("jsp", 8), ("fjsp", 7)):
        for peer in ("pyjobshop", "model"):
            assert answer(instance(kind), peer, 5.0, 2, 0, False)["objective"] == best


def test_an_invalid_plan_has_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever breaks a rule would win."""

    def cheat(problem: Problem, rules: Rules) -> Answer:
        schedule = heft_schedule(problem)
        return Answer(
            replace(schedule, start=schedule.start * 0, end=schedule.end - schedule.start)
        )

    monkeypatch.setitem(PEERS, "cheat", cheat)
    row = answer(instance("jsp"), "cheat", 1.0, 1, 0, False)
    assert row["valid"] is False
    assert row["objective"] is row["gap"] is None
    assert not row["proved"]


def test_a_plan_of_all_that_can_be_planned_is_valid() -> None:
    """Who leaves out a task that fits no worker would be called a cheat."""
    base = instance("jsp")
    tasks = (*base.request.snapshot.pending, Task("wide", {"slot": 9}))
    estimates = {**base.request.estimates, "wide": base.request.estimates["1.1"]}
    snapshot = replace(base.request.snapshot, pending=tasks)
    asked = replace(base, request=replace(base.request, snapshot=snapshot, estimates=estimates))
    for solver in ("greedy", "auto", "heft", "kube"):
        row = answer(asked, solver, 1.0, 1, 0, False)
        assert row["valid"] is True, solver
        assert row["objective"] >= 8.0
        json.dumps(row, allow_nan=False)


def test_a_solver_declines_like_a_peer_what_it_does_not_know() -> None:
    """A shop on a project with modes would end in a traceback, and be a crash in the table."""
    request = parse_multimode("tiny", TINY)
    row = answer(Instance("tiny", request), "shop", 1.0, 1, 0, False)
    assert row["status"] == "not_suited"
    assert declined([row]) == [f"shop, 1 instance: {row['reason']}"]


def test_peers_decline_what_they_have_no_word_for() -> None:
    """A peer would be measured on another problem than ours."""
    base = cluster_instance().request
    running = Running(Task("r", {}), (base.snapshot.workers[0].id,), base.snapshot.now_s)
    variants = [
        replace(base, policy=Policy(Prices(), hard_deadlines=True)),
        replace(
            base,
            snapshot=replace(base.snapshot, running=(running,)),
            estimates={**base.estimates, "r": next(iter(base.estimates.values()))},
        ),
        replace(
            base,
            snapshot=replace(
                base.snapshot, pending=tuple(replace(t, shards=2) for t in base.snapshot.pending)
            ),
        ),
    ]
    for request in variants:
        problem = encode(request)
        for name, peer in PEERS.items():
            with pytest.raises(NotSuited):
                peer(problem, Rules(0.1))
            assert name


def test_heft_ranks_by_the_rest_of_the_graph_and_uses_gaps() -> None:
    """HEFT would be a weaker peer than the published one."""
    # Two workers of one speed; the chain a-b (rank 5) goes first, c (rank 4) beside it, and
    # the short d fits the gap before b, which waits for c as well.
    request = instance("dag").request
    tasks = (
        Task("a", {"slot": 1}), Task("b", {"slot": 1}, after=("a", "c")),
        Task("c", {"slot": 1}), Task("d", {"slot": 1}),
    )  # fmt: skip
    seconds = {"a": 1, "b": 4, "c": 3, "d": 2}
    estimate = type(next(iter(request.estimates["a"].values())))
    made = replace(
        request,
        snapshot=replace(
            request.snapshot, workers=request.snapshot.workers[:2], pending=tasks, finished=()
        ),
        estimates={t: {"*": estimate.certain(s)} for t, s in seconds.items()},
    )
    schedule = heft_schedule(encode(made))
    assert schedule.start.tolist() == [0, 3, 0, 1]
    assert evaluate(made, decode(encode(made), schedule)).valid


def test_the_reflex_fills_or_spreads() -> None:
    """Both profiles of the peer would do the same."""
    request = cluster_instance().request
    tasks = tuple(Task(t, {"cpu": 1000}) for t in ("a", "b"))
    workers = tuple(replace(request.snapshot.workers[0], id=w) for w in ("v", "w"))
    estimate = next(iter(request.estimates.values()))
    made = replace(
        request,
        snapshot=replace(request.snapshot, workers=workers, pending=tasks),
        estimates={"a": estimate, "b": estimate},
    )
    problem = encode(made)
    urgency = np.array([1.0, 0.0])
    assert reflex(problem, urgency, 1.0).worker.tolist() == [1, 0]
    assert reflex(problem, urgency, -1.0).worker.tolist() == [0, 0]


def test_samples_are_drawn_by_the_seed() -> None:
    """Two people would compare other instances under one name."""
    names = [f"j{k}" for k in range(50)]
    asked = Settings(("auto",), sample=5, seed=3)
    assert drawn(names, asked) == drawn(names, asked)
    assert drawn(names, asked) != drawn(names, replace(asked, seed=4))
    assert len(drawn(names, asked)) == 5
    assert set(drawn(names, asked)) < set(drawn(names, replace(asked, sample=9)))
    assert drawn(names, replace(asked, only=("j4*",), sample=None)) == ["j4", *names[40:]]
    with pytest.raises(BadRequest, match="no instance is called like x"):
        drawn(names, replace(asked, only=("x",)))


def test_means_leave_out_what_has_no_number() -> None:
    """A solver that answers nothing would have the best mean."""
    row = {
        "solver": "a", "instance": "i", "objective": 3.0, "gap": 0.1, "valid": True,
        "proved": False, "first_s": 1.0, "wall_s": 2.0, "peak_mb": 10.0, "status": "feasible",
    }  # fmt: skip
    nothing = dict.fromkeys(("objective", "gap", "valid", "first_s"))
    silent = {**row, **nothing, "status": "no_answer"}
    found = summary([row, silent, {**silent, "status": "not_suited", "solver": "b"}])
    assert found["a"]["mean_gap"] == 0.1
    assert found["a"]["answered"] == 1
    assert found["a"]["instances"] == 2
    assert found["b"]["proved_share"] is None


def test_a_run_is_written_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hours of rows would be lost, or rows of other limits be kept."""
    out = tmp_path / "bench.json"
    words = ["bench", str(DATA / "shops" / "tiny.jsp"), "--kind", "jsp", "--solvers",
             "greedy,heft", "--limit-s", "1", "--json", str(out)]  # fmt: skip
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
    written = json.loads(out.read_text())
    assert {row["solver"] for row in written["rows"]} == {"greedy", "heft"}
    assert all(set(row) == KEYS for row in written["rows"])
    assert written["summary"]["greedy"]["mean_gap"] >= 0
    assert "greedy" in capsys.readouterr().out
    written["rows"][0]["wall_s"] = 123.0
    out.write_text(json.dumps(written))
    with pytest.raises(SystemExit) as left:
        main([*words, "--resume"])
    assert left.value.code == 0
    assert json.loads(out.read_text())["rows"][0]["wall_s"] == 123.0
    with pytest.raises(BadRequest, match="was run with limit_s"):
        kept_rows(out, Settings(("greedy",), limit_s=2.0))


@pytest.mark.parametrize("row", [7, {}, {"instance": "i", "solver": "s"}, {"instance": []}])
def test_a_damaged_row_of_an_earlier_run_is_named(row: object, tmp_path: Path) -> None:
    """A run that is resumed would end in a traceback."""
    settings = Settings(("greedy",))
    out = tmp_path / "bench.json"
    out.write_text(json.dumps({**report([], settings), "rows": [row]}))
    with pytest.raises(BadRequest, match=r"bench\.json, row 1: field \w+ is damaged"):
        kept_rows(out, settings)


def test_what_cannot_be_read_is_named_before_any_solver_starts(tmp_path: Path) -> None:
    """The last file of a folder would cost all rows of those before it."""
    for name in ("a", "c"):
        (tmp_path / f"{name}.jsp").write_text((DATA / "shops" / "tiny.jsp").read_text())
    (tmp_path / "b.jsp").write_text("2 3\n0 3\n")
    seen: list[int] = []
    with pytest.raises(BadRequest, match=r", b: tells of 2 jobs.* \(--only leaves it out\)"):
        run_bench(
            read_set(tmp_path, "jsp"),
            Settings(("greedy",)),
            tell=lambda done, total, text: seen.append(done),
            save=lambda report: pytest.fail("a solver ran"),
        )
    assert seen == [0, 0]


def test_no_report_lands_among_the_instances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report would replace an instance, or be taken for one the next time."""
    for kind, name in (("jsp", "a.jsp"), ("cluster", "a.json"), ("request", "sub/new.json")):
        folder = tmp_path / kind
        (folder / "sub").mkdir(parents=True)
        (folder / ("a.jsp" if kind == "jsp" else "a.json")).write_text("mine")
        with pytest.raises(SystemExit) as left:
            main(["bench", str(folder), "--kind", kind, "--json", str(folder / name)])
        assert left.value.code == 2
        assert "is read for" in capsys.readouterr().err
        assert len(list(folder.rglob("*.js*"))) == 1


def test_no_report_lands_on_a_table_of_costs(tmp_path: Path) -> None:
    """Best known costs of a set would be lost; elsewhere a file may be called like one."""
    file = tmp_path / "set" / "a.jsp"
    file.parent.mkdir()
    file.write_text((DATA / "shops" / "tiny.jsp").read_text())
    for source in (file, file.parent):
        instances = read_set(source, "jsp")
        assert instances.takes(file.parent / "best_known.json")
        assert not instances.takes(tmp_path / "best_known.json")
        assert instances.takes(file.parent / "sub" / "bks.json") == source.is_dir()


def test_files_of_one_name_are_instances_each(tmp_path: Path) -> None:
    """Half of a folder would be left out, without a word."""
    for name in ("a.v1.json", "a.v2.json", "a.v2.json.gz"):
        (tmp_path / name).write_text("")
    assert set(read_set(tmp_path, "cluster").names) == {"a.v1", "a.v2", "a.v2.json.gz"}
    for name in ("b.txt", "b.jsp"):
        (tmp_path / name).write_text("")
    assert set(read_set(tmp_path, "jsp").names) == {"b", "b.txt"}


def test_a_solver_that_dies_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """One crash would end the whole benchmark."""
    import plancast.pipelines.bench.bench as bench

    monkeypatch.setattr(bench, "serve", _dies)
    found = run_bench(read_set(DATA / "shops" / "tiny.jsp", "jsp"), Settings(("greedy",), 1.0))
    assert found["rows"][0]["status"] == "no_answer"
    assert found["rows"][0]["valid"] is None
    assert found["summary"]["greedy"]["answered"] == 0


def _dies(pipe: object, *settings: object) -> None:
    raise SystemExit(3)


def test_cpu_seconds_stand_still_while_nothing_runs() -> None:
    """A limit in CPU seconds would be one in wall seconds."""
    wall = time.monotonic
    with cpu_seconds() as clock:
        assert time.perf_counter is clock
        began, until = clock(), wall() + 0.3
        time.sleep(0.3)
        idle = clock() - began
        began, until = clock(), wall() + 0.3
        while wall() < until:
            pass
        busy = clock() - began
    assert time.perf_counter is not clock
    assert idle < 0.15
    assert busy > idle


def test_two_threads_side_by_side_use_up_a_limit_no_faster_than_one() -> None:
    """A solver with two threads would be stopped after half of its time."""
    used = {}

    def work(clock: Callable[[], float]) -> None:
        data = bytes(200_000)
        while time.thread_time() < 0.3:
            hashlib.sha256(data).digest()  # lets go of the interpreter's lock
            clock()
        used[threading.get_ident()] = time.thread_time()

    with cpu_seconds() as clock:
        began = clock()
        threads = [threading.Thread(target=work, args=(clock,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed = clock() - began
    assert len(used) == 2
    assert passed < 0.75 * sum(used.values())
    assert passed > 0.9 * max(used.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kind", "tsp"], "--kind: there is no 'tsp'"),
        (["--kind", "jsp", "--solvers", "magic"], "--solvers: there is no 'magic'"),
        (["--kind", "jsp", "--solvers", "greedy,greedy"], "name each solver once"),
        (["--kind", "jsp", "--limit-s", "0"], "--limit-s is 0"),
        (["--kind", "jsp", "--sample", "0"], "--sample is 0"),
        (["--kind", "jsp", "--resume"], "--resume needs --json"),
        (["--kind", "jsp", "--limit-s", "1e9"], "--limit-s is 1e+09"),
        (["--kind", "jsp", "--seed", "9" * 30], "--seed is 9"),
        (["--kind", "jsp", "--sizes", "50x10"], "--sizes is for --kind cluster"),
        (["--kind", "jsp", "--only", "nothing"], "no instance is called like nothing"),
        (["--kind", "rcpsp"], "holds no instance"),
    ],
)
def test_bad_usage_is_told(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong option would end in a traceback, or run something else for hours."""
    with pytest.raises(SystemExit) as left:
        main(["bench", str(DATA / "shops" / "tiny.jsp"), *words])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_target_is_met_only_by_rows_that_meet_it() -> None:
    """A benchmark page would call a target met that was missed, or not measured."""
    from benchmarks.solvers import page, targets

    row = {"instance": "a", "solver": "auto", "objective": 10.0, "lower_bound": 8.0,
           "best_known": 10.0, "gap": 0.01, "status": "feasible", "proved": False, "valid": True,
           "first_s": 0.1, "wall_s": 1.0, "peak_mb": 1.0, "code": "x"}  # fmt: skip
    slower = {**row, "solver": "pyjobshop", "gap": 0.03, "objective": 11.0}
    nearer = {**row, "gap": 0.005}
    longer = {**row, "solver": "heft", "objective": 9.0}
    met = {
        text: verdict
        for text, verdict, _ in targets(
            {"jsp": [row, slower], "dag": [row, longer], "rg300": [nearer]}
        )
    }
    assert met["Job shops at 10 s: at most half of PyJobShop's mean gap, or 0"] is True
    assert met["Workflows: never longer than HEFT"] is False
    assert met["RG300 at 10 s: mean gap at most 0.8%"] is True
    assert met["j30: all optimal and proved, mean at most 0.5 s"] is None
    missed = {**slower, "gap": 0.015}
    again = {text: verdict for text, verdict, _ in targets({"jsp": [row, missed]})}
    assert again["Job shops at 10 s: at most half of PyJobShop's mean gap, or 0"] is False
    beside = {"rg300": [nearer, slower, {**row, "instance": "b", "gap": 0.105}]}
    assert "\n\nOn the 1 that all ran on: auto +0.50%, pyjobshop +3.00%.\n" in page(beside)
    assert "that all ran on" not in page({"jsp": [row, slower]})
    text = page({"rg300": [nearer]})
    assert "| yes, on these | mean gap 0.50% (1 of 24 instances) |" in text
    assert "1 of 1 rows were made by another state of the code" in text


def test_peers_run_on_part_of_a_large_sample_and_we_on_all() -> None:
    """A table would compare two solvers on different instances, or take hours for a peer."""
    from benchmarks.solvers import PARTS, runs

    names = [f"J50{k}_1" for k in range(100)]
    both, alone = runs(PARTS["mmlib50"], names)
    assert (both.solvers, alone.solvers) == (("auto", "pyjobshop"), ("auto",))
    assert (len(both.only), alone.only) == (20, tuple(names))
    assert set(both.only) < set(names)
    (every,) = runs(PARTS["jsp"], names)
    assert (every.solvers, every.only) == (("auto", "pyjobshop"), tuple(names))


def test_a_quick_run_takes_part_of_what_a_whole_one_takes() -> None:
    """A quarter of an hour would become three, or its rows be of no use to the whole run."""
    from benchmarks.solvers import PARTS, quickly, runs

    names = [f"j{k}" for k in range(600)]
    most = 0.0
    for name, part in PARTS.items():
        settings = replace(part.settings, only=("*",))
        quick = quickly(replace(part, settings=settings))
        if quick is None:
            continue
        chosen = drawn(names, quick.settings)
        assert set(chosen) <= set(drawn(names, settings))
        if name not in ("j30", "j60"):  # nearly all are proved at once
            rows = {(n, s) for each in runs(quick, chosen) for n in each.only for s in each.solvers}
            most += settings.limit_s * sum(s in ("auto", "pyjobshop") for _, s in rows)
    assert 10 * 60 < most < 15 * 60


def test_shapes_are_compared_with_themselves_after_a_minute() -> None:
    """A search that needs a minute for what it finds would pass for one that needs a second."""
    from benchmarks.solvers import page, targets

    def rows(*costs: float) -> list[dict[str, Any]]:
        return [
            {"instance": f"gpu-{k}", "solver": "auto", "objective": cost, "lower_bound": 0.0,
             "best_known": None, "gap": None, "status": "feasible", "proved": False, "valid": True,
             "first_s": 0.1, "wall_s": 1.0, "peak_mb": 1.0, "code": "x"}
            for k, cost in enumerate(costs)
        ]  # fmt: skip

    parts = {"shapes_60s_0": rows(10, 10), "shapes_10s_0": rows(10, 10.1),
             "shapes_1s_0": rows(10, 10.6)}  # fmt: skip
    verdicts = {text: (met, entry) for text, met, entry in targets(parts)}
    assert verdicts["Shapes at 10 s: each at most 2% costlier than at 60 s"][0] is True
    met, entry = verdicts["Shapes at 1 s: each at most 5% costlier than at 60 s"]
    assert met is False
    assert entry == "mean +3.00%, gpu-1 +6.00% (2 of 30 instances)"
    parts["shapes_1s_1"] = rows(10, 10)
    assert "\n3 of 30 instances, 1 CPU s each" not in page(parts)
    assert "\n4 of 30 instances, 1 CPU s each" in page(parts)


@pytest.mark.slow
def test_a_row_is_stale_when_its_clock_has_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rows of a clock that took half of a search would stand beside rows of its successor."""
    from benchmarks import solvers

    before = [solvers.code_of.__wrapped__(name) for name in ("auto", "heft")]
    (tmp_path / "clock.py").write_text("another")
    monkeypatch.setattr(solvers, "CLOCK", tmp_path / "clock.py")
    after = [solvers.code_of.__wrapped__(name) for name in ("auto", "heft")]
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_a_row_is_stale_only_when_what_a_solve_loads_has_changed() -> None:
    """Each change to the replay would throw away hours of solver rows, or none would be thrown."""
    from benchmarks.solvers import OURS, ROOT, loaded

    files = {str(file.relative_to(ROOT)) for file in loaded(OURS[0], ROOT / OURS[1])}
    assert "plancast/planner/worlds/replay.py" not in files
    loads = (
        "import sys, plancast.planner.planning.plan\n"
        "from plancast.planner.solvers import SOLVERS\n"
        "for make in SOLVERS.values(): make()\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('plancast.planner.')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", loads], capture_output=True, text=True, check=True
    ).stdout
    at_run_time = {str(Path(name).relative_to(ROOT)) for name in found.split()}
    assert "plancast/planner/solvers/cpsat/cpsat.py" in at_run_time
    inits = {name for name in at_run_time if name.endswith("__init__.py")}
    assert at_run_time - files <= inits

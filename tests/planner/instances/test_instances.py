"""Published instances become requests that mean the same."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.instances.base import Instance, InstanceSet
from plancast.planner.instances.dag import dag_set, parse_dag
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.instances.jobshop import (
    flexible_set,
    jobshop_set,
    parse_flexible,
    parse_jobshop,
)
from plancast.planner.instances.multimode import multimode_set
from plancast.planner.instances.patterson import parse_patterson, patterson_set
from plancast.planner.instances.projects import without_instant
from plancast.planner.instances.psplib import parse_psplib, psplib_set
from plancast.planner.instances.requests import request_set
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import Status, to_json
from plancast.planner.planning.plan import plan
from tests.conftest import ROOT

DATA = ROOT / "tests" / "data" / "instances"


def optimum(instance: Instance) -> float:
    """The least cost by a solver that proves it."""
    response = plan(instance.request, "cpsat")
    assert response.status is Status.OPTIMAL
    assert response.cost is not None
    return response.cost


def test_a_project_is_one_worker_with_several_resources() -> None:
    """A demand, a duration, a precedence or the known optimum could be read wrong."""
    found = psplib_set(DATA / "projects").read("tiny")
    (worker,) = found.request.snapshot.workers
    assert worker.capacity == {"R1": 3, "R2": 1}
    tasks = found.request.snapshot.pending_by_id
    assert set(tasks) == {"2", "3", "4", "5"}  # the dummy ends are no work
    assert tasks["3"].demand == {"R1": 2, "R2": 1}
    assert tasks["5"].after == ("2", "3")
    assert (found.best_known, found.lower_bound, found.is_solved) == (10.0, 10.0, True)
    # 2 and 4 side by side until 5, then 3 until 8 and 5 until 10: R2 has 3 + 5 + 2 to do.
    assert optimum(found) == 10.0


def test_both_project_formats_tell_the_same() -> None:
    """The same project would be another one in Patterson's format."""
    one = psplib_set(DATA / "projects" / "tiny.sm").read("tiny").request
    other = patterson_set(DATA / "tiny.rcp").read("tiny").request
    assert one == other


def test_a_machine_has_a_class_of_its_own() -> None:
    """An operation could run on a machine that is not its own, or before its job's last one."""
    found = jobshop_set(DATA / "shops" / "tiny.jsp").read("tiny")
    assert [w.machine_class for w in found.request.snapshot.workers] == ["m0", "m1", "m2"]
    assert set(found.request.estimates["1.2"]) == {"m1"}
    # The second operation of job 2 takes no time: it is left out, its order kept.
    assert found.request.snapshot.pending_by_id["2.3"].after == ("2.1",)
    assert "2.2" not in found.request.estimates
    assert found.best_known == 8.0
    assert optimum(found) == 8.0


def test_a_flexible_operation_runs_where_it_has_an_estimate() -> None:
    """Machines are counted from 1 here, and each has its own duration."""
    found = flexible_set(DATA / "shops" / "flexible.fjs").read("flexible")
    by_class = found.request.estimates["1.1"]
    assert {name: e.at(0.5) for name, e in by_class.items()} == {"m1": 3, "m2": 5}
    assert set(found.request.estimates["2.1"]) == {"m1"}
    assert optimum(found) == 7.0


def test_a_workflow_runs_on_machines_of_three_speeds() -> None:
    """The cost would not be the workflow's seconds, or a speed be forgotten."""
    instances = dag_set(DATA / "dag.csv")
    assert instances.names == ("chain", "fork")
    found = instances.read("fork")
    assert len(found.request.snapshot.workers) == 16
    problem = encode(found.request)
    assert problem.duration[1].tolist() == [3000, 2000, 1500]
    assert problem.tasks[3].after == ("b", "c")
    assert optimum(found) == pytest.approx(1.0 + 1.5 + 0.001)
    assert optimum(instances.read("chain")) == pytest.approx(0.75 + 3.0)


def test_requests_are_instances(tmp_path: Path) -> None:
    """A user's own requests could not be benched, or a best known cost beside them be missed."""
    request = generate_batch(3, generate_cluster(2), seed=1)
    (tmp_path / "mine.json").write_bytes(to_json(request))
    (tmp_path / "bks.csv").write_text("problem,category,instance,bks\nbatch,own,mine.json,7.5\n")
    found = request_set(tmp_path).read("mine")
    assert found.request == request
    assert found.best_known == 7.5
    (tmp_path / "mine.json").write_text('{"request_id": 1}')
    with pytest.raises(BadRequest, match=r"mine\.json"):
        request_set(tmp_path).read("mine")


@pytest.mark.parametrize(
    ("file", "pattern", "form", "read"),
    [
        ("psplib_j30_j60.tar.xz", "*.sm", "psplib", psplib_set),
        ("rcpsp_rg300_dev.tar.xz", "*_1.txt", "patterson", patterson_set),
    ],
)
def test_another_reader_sees_the_same_projects(
    file: str,
    pattern: str,
    form: Any,
    read: Callable[[Path], InstanceSet],
    tmp_path: Path,
    shared_data: Callable[[str], Path],
) -> None:
    """A column could be taken for its neighbour, and the optimum be missed by a little."""
    foreign = pytest.importorskip("psplib")
    path = shared_data(f"benchmarks/{file}")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    instances = read(path)
    files = sorted(p for p in tmp_path.rglob(pattern) if p.is_file())[::60]
    for place in files:
        other = foreign.parse(place, form)
        problem = encode(instances.read(place.stem).request)
        lasting = {
            str(k): a.modes[0] for k, a in enumerate(other.activities, 1) if a.modes[0].duration
        }
        assert {t.id for t in problem.tasks} == set(lasting)
        assert problem.capacity.tolist() == [[r.capacity for r in other.resources]]
        place_of = {t.id: i for i, t in enumerate(problem.tasks)}
        for key, mode in lasting.items():
            assert problem.duration[place_of[key], 0] == mode.duration
            assert problem.demand[place_of[key]].tolist() == mode.demands
            for follower in other.activities[int(key) - 1].successors:
                if str(follower + 1) in lasting:
                    assert key in problem.tasks[place_of[str(follower + 1)]].after
    assert files


def test_what_takes_no_time_hands_its_predecessors_on() -> None:
    """A chain through dummies would be lost; a long one would end Python's stack."""
    durations = {"a": 1, "b": 0, "c": 0, "d": 2}
    before = {"a": [], "b": ["a"], "c": ["b", "a"], "d": ["c"]}
    assert without_instant(durations, before) == {"a": (), "d": ("a",)}
    chain = {str(k): [str(k - 1)] if k else [] for k in range(5000)}
    lasting = {key: int(key in ("0", "4999")) for key in chain}
    assert without_instant(lasting, chain) == {"0": (), "4999": ("0",)}


def test_archives_folders_and_files_give_the_same(tmp_path: Path) -> None:
    """The published archives could not be read without unpacking them."""
    archive = tmp_path / "set.tar.xz"
    with tarfile.open(archive, "w:xz") as out:
        out.add(DATA / "projects", "projects")
    packed, unpacked = psplib_set(archive), psplib_set(DATA / "projects")
    assert packed.names == unpacked.names == ("tiny",)
    assert packed.read("tiny") == unpacked.read("tiny")


def test_names_tell_files_of_one_name_apart(tmp_path: Path) -> None:
    """Two instances would become one, or the best known cost be another's."""
    for folder in ("edata", "rdata"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "la01.txt").write_text("1 1\n1 1 1 5\n")
    table = tmp_path / "best_known.json"
    table.write_text('[{"instance": "la01_edata", "upper_bound": 609, "lower_bound": 600}]')
    found = flexible_set(tmp_path)
    assert found.names == ("la01_edata", "la01_rdata")
    best = found.read("la01_edata")
    assert (best.best_known, best.lower_bound, best.is_solved) == (609.0, 600.0, False)
    assert found.read("la01_rdata").best_known is None


@pytest.mark.parametrize("where", ["among the files", "beside the archive"])
@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("bks.csv", "problem,category,instance,bks\nJSP,ta,ta01js.txt,7\n"),
        ("bks.json", '[{"instance": "ta01js", "upper_bound": 7, "lower_bound": 7}]'),
        ("best_known.csv", "instance,best\nta01js.txt,7\n"),
        ("optimum.csv", "problem,optimum\nta01js.txt,7\n"),
        ("ta_best_known.json", '[{"instance": "ta01js", "upper_bound": 7, "lower_bound": 7}]'),
    ],
)
def test_every_form_of_table_is_found(table: str, text: str, where: str, tmp_path: Path) -> None:
    """A benchmark would show no gaps, and nobody would know why."""
    folder = tmp_path / "ta"
    folder.mkdir()
    (folder / "ta01js.txt").write_text("1 1\n0 7\n")
    (folder / table if where == "among the files" else tmp_path / table).write_text(text)
    archive = tmp_path / "ta_dev.tar"
    with tarfile.open(archive, "w") as out:
        out.add(folder, "ta")
    found = jobshop_set(archive)
    assert (found.names, found.read("ta01js").best_known) == (("ta01js",), 7.0)


def test_open_instances_have_a_range(tmp_path: Path) -> None:
    """A best known cost would be taken for a proved one."""
    (tmp_path / "a.sm").write_text((DATA / "projects" / "tiny.sm").read_text())
    for cell, expected in (("71..73", (73.0, 71.0)), ("..70", (70.0, None)), ("9", (9.0, 9.0))):
        (tmp_path / "optimum.csv").write_text(f"problem,optimum\na.sm,{cell}\n")
        found = psplib_set(tmp_path).read("a")
        assert (found.best_known, found.lower_bound) == expected


SM = (DATA / "projects" / "tiny.sm").read_text()
RCP = (DATA / "tiny.rcp").read_text()


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (parse_psplib, SM.replace("REQUESTS/", "WISHES/"), "no section REQUESTS/DURATIONS"),
        (parse_psplib, SM.replace("  3      1     3", "  3      1   x 3"), "whole numbers"),
        (parse_psplib, SM.replace("  3      1     3       2    1\n", ""), "has 5 rows"),
        (
            parse_psplib,
            SM.replace("  3        1          1", "  3        2          1"),
            "one mode",
        ),
        (parse_psplib, SM.replace("1           5\n   3", "1           9\n   3"), "followed by 9"),
        (parse_psplib, SM.replace("1           5\n   3", "1           2\n   3"), "cycle"),
        (parse_psplib, SM.replace("    3    1\n", "    1    1\n"), "needs 2 of R1, which has 1"),
        (parse_patterson, "", "ends within the first line"),
        (parse_patterson, "0 2\n3 1\n", "two numbers of 1 or more"),
        (parse_patterson, RCP.replace("0 0 0 0", "0 0 0"), "ends within activity 6"),
        (parse_patterson, RCP + "7\n", "goes on with 7"),
        (parse_patterson, RCP.replace("5 1 1 1 6", "5 1 1 1 six"), "'six' is not a whole number"),
        (parse_patterson, RCP.replace("5 1 1 1 6", "-5 1 1 1 6"), "lasts -5"),
        (parse_jobshop, "# nothing\n", "is empty"),
        (parse_jobshop, "two 3\n", "number of jobs and of machines"),
        (parse_jobshop, "2 2\n0 1 1 1\n", "2 jobs and has 1 lines"),
        (parse_jobshop, "1 2\n0 1 1\n", "machine and duration pairs"),
        (parse_jobshop, "1 2\n0 1 2 1\n", "machine 2 is none of 0 to 1"),
        (parse_jobshop, "1 2\n0 1 1 -1\n", "duration -1 is below 0"),
        (parse_jobshop, "1 2\n0 0 1 0\n", "no operation that takes time"),
        (parse_flexible, "1 2\n2 1 1 5\n", "ends before its last operation"),
        (parse_flexible, "1 2\n1 1 1 5 7\n", "goes on after its last operation"),
        (parse_flexible, "1 2\n1 0\n", "0 machines can do"),
        (parse_flexible, "1 2\n1 1 3 5\n", "machine 3 is none of 1 to 2"),
        (parse_flexible, "1 2\n1 1 1 five\n", "whole numbers"),
        (parse_dag, "a,soon,", "runtime_s is 'soon'"),
        (parse_dag, "a,inf,", "runtime_s is 'inf'"),
        (parse_dag, "a,1,b", "'b', which is not in the request"),
    ],
)
def test_bad_text_is_told_in_a_sentence(
    parse: Callable[[str, str], object], text: str, said: str
) -> None:
    """A damaged file would end in a traceback, or in a plan for something else."""
    instances = InstanceSet("set", {"bad": text}, {}, parse)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match=f"set, bad: .*{said}") as caught:
        instances.read("bad")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [psplib_set, patterson_set, jobshop_set, flexible_set, dag_set])
def test_bad_places_are_told_in_a_sentence(
    read: Callable[[Path], InstanceSet], tmp_path: Path
) -> None:
    """A wrong path, an empty folder or a damaged archive would end in a traceback."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.tar.xz").write_bytes(b"not an archive")
    for place in ("empty", "missing.txt", "bad.tar.xz"):
        with pytest.raises(BadRequest) as caught:
            read(tmp_path / place)
        assert str(tmp_path / place) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_zip_archive_is_read_as_its_folder_is(tmp_path: Path) -> None:
    """PSPLIB's archives would have to be unpacked first."""
    with zipfile.ZipFile(tmp_path / "set.ZIP", "w") as out:
        for name in ("tiny.sm", "optimum.csv"):
            out.write(DATA / "projects" / name, f"deep/{name}")
    found = psplib_set(tmp_path / "set.ZIP").read("tiny")
    assert found == psplib_set(DATA / "projects").read("tiny")
    (tmp_path / "set.ZIP").write_bytes((tmp_path / "set.ZIP").read_bytes()[:-40])
    with pytest.raises(BadRequest, match="no archive, or a damaged one"):
        psplib_set(tmp_path / "set.ZIP")


def test_only_instances_of_a_folder_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home folder with one project in it would be loaded into memory whole."""
    (tmp_path / "tiny.sm").write_text((DATA / "projects" / "tiny.sm").read_text())
    (tmp_path / "film.mkv").write_text("")
    (tmp_path / "bks.csv").mkdir()
    opened: list[str] = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: opened.append(p.name) or read(p))
    assert psplib_set(tmp_path).names == psplib_set(tmp_path / "tiny.sm").names == ("tiny",)
    assert opened == ["tiny.sm", "tiny.sm"]


def test_a_damaged_table_of_bests_is_told(tmp_path: Path) -> None:
    """Gaps would be to a number that nobody published."""
    (tmp_path / "a.txt").write_text(RCP)
    for name, text in (
        ("best_known.csv", "instance,best\na.txt,many\n"),
        ("best_known.csv", "instance\na.txt\n"),
        ("rg_best_known.json", '{"a": 3}'),
        ("rg_best_known.json", "[{"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(BadRequest, match=r"best_known\.\w+(, row 2)?: .*best known|is no list"):
            patterson_set(tmp_path)
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("read", "file", "count", "solved", "step"),
    [
        (psplib_set, "benchmarks/psplib_j30_j60.tar.xz", 960, 862, 1),
        (patterson_set, "benchmarks/rcpsp_rg300_dev.tar.xz", 24, 0, 1),
        (psplib_set, "benchmarks/psplib_j120_dev.tar.xz", 300, 42, 1),
        (multimode_set, "benchmarks/mmlib_dev.tar.xz", 648, 0, 12),
        pytest.param(
            multimode_set, "benchmarks/mmlib_dev.tar.xz", 648, 0, 1, marks=pytest.mark.slow
        ),
        (jobshop_set, "benchmarks/jsp_dev.tar.xz", 58, 58, 1),
        (jobshop_set, "benchmarks/jsp_large_dev.tar.xz", 80, 54, 1),
        (flexible_set, "benchmarks/fjsp_dev.tar.xz", 85, 81, 1),
        (dag_set, "dags/wfinstances_tasks.csv.gz", 97, 0, 1),
    ],
)
def test_every_published_instance_is_read_and_planned_by_rule(
    read: Callable[[Path], InstanceSet],
    file: str,
    count: int,
    solved: int,
    step: int,
    shared_data: Callable[[str], Path],
) -> None:
    """Some file of a published set could not be read, or its best known cost not be found."""
    instances = read(shared_data(file))
    assert len(instances.names) == count
    found = [instances.read(name) for name in instances.names[::step]]
    assert sum(instance.is_solved for instance in found) == solved
    for instance in found[:: max(1, len(found) // 8)]:
        request = instance.request
        response = plan(request, "greedy")
        assert response.status in (Status.FEASIBLE, Status.OPTIMAL)
        assert response.cost is not None
        if instance.lower_bound is not None:
            assert response.cost >= instance.lower_bound * (1 - 1e-9)
        if instance.best_known is not None:
            assert response.lower_bound is not None
            assert response.lower_bound <= instance.best_known * (1 + 1e-9)

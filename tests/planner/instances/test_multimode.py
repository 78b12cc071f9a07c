"""Multi-mode files become requests that mean the same, and are planned."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from plancast.planner.instances.multimode import multimode_set, parse_multimode
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, Status
from plancast.planner.planning.plan import plan
from tests.conftest import ROOT

BENCHMARKS = ROOT.parent / "shared" / "data" / "benchmarks"
ARCHIVES = {"mmlib_dev.tar.xz": 12, "psplib_mm_j10_j16.tar.xz": 8}
"""Archive to how many of its files are read and planned here."""

TINY = """jobs  (incl. supersource/sink ):\t4
RESOURCES
- renewable                 : 1 R
- nonrenewable              : 1 N
- doubly constrained        : 0 D
************
PRECEDENCE RELATIONS:
jobnr.    #modes  #successors   successors
1\t1\t2\t\t2 3
2\t2\t1\t\t4
3\t2\t1\t\t4
4\t1\t0\t\t
************
REQUESTS/DURATIONS
jobnr.\tmode\tdur\tR1\tN1
-----------------
1\t1\t0\t0\t0
2\t1\t2\t2\t3
\t2\t5\t1\t1
3\t1\t3\t2\t3
\t2\t6\t1\t0
4\t1\t0\t0\t0
************
 RESOURCE AVAILABILITIES
\tR 1\tN 1
\t2\t3
"""


def test_modes_are_ways_on_one_worker_and_what_is_used_up_is_a_budget() -> None:
    """A mode's numbers, a precedence or an availability could be read wrong."""
    request = parse_multimode("tiny", TINY)
    (worker,) = request.snapshot.workers
    assert (worker.capacity, request.snapshot.budgets) == ({"R1": 2}, {"N1": 3})
    two, three = request.snapshot.pending
    assert [(m.id, m.demand) for m in two.modes] == [
        ("1", {"R1": 2, "N1": 3}), ("2", {"R1": 1, "N1": 1}),
    ]  # fmt: skip
    assert request.estimates["3"]["2"]["*"].seconds == (6,)  # type: ignore[index]
    # Both fast ones take 6 of 3; fast 2, then slow 3 takes 8; fast 3 and slow 2 take 4 of 3.
    response = plan(replace(request, budget=Budget(None, 1000)), "cpsat")
    assert (response.cost, response.status) == (6.0, Status.OPTIMAL)
    assert {a.task: a.mode for a in response.plan.assignments} == {"2": "2", "3": "2"}  # type: ignore[union-attr]
    assert three.after == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("\t2\t5\t1\t1\n", "\t3\t5\t1\t1\n"), "a row of activity 2 should hold a mode"),
        (("\t2\t5\t1\t1\n", ""), "activity 2 has 1 modes, not 2"),
        (("\t2\t5\t1\t1\n", "\t2\t-5\t1\t1\n"), "activity 2 has a number below 0"),
        (("\t2\t5\t1\t1\n", "\t2\t0\t1\t1\n"), "activity 2 takes no time in some"),
        (("2\t2\t1\t\t4", "2\t2\t1\t\t9"), "activity 2 is followed by 9"),
        (("2\t2\t1\t\t4", "2\t2\t2\t\t4"), "row 2 does not fit its numbers"),
        (("N 1\n\t2\t3\n", "N 1\n\t2\n"), "RESOURCE AVAILABILITIES needs 2 numbers"),
        (("- nonrenewable", "- other"), "does not say how many nonrenewable"),
        (("PRECEDENCE", "PRESIDENCE"), "has no section PRECEDENCE RELATIONS"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(change: tuple[str, str], sentence: str) -> None:
    """A damaged file would be planned as another problem."""
    with pytest.raises(BadRequest, match=sentence):
        parse_multimode("tiny", TINY.replace(*change, 1))


@pytest.mark.parametrize("archive", ARCHIVES)
def test_published_files_are_read_as_another_reader_reads_them_and_planned(
    archive: str, tmp_path: Path
) -> None:
    """A file of the real form could be read otherwise than all others read it."""
    psplib = pytest.importorskip("psplib")
    path = BENCHMARKS / archive
    if not path.exists():
        pytest.skip(f"{archive} is not there")
    found = multimode_set(path)
    names = found.names[:: len(found.names) // ARCHIVES[archive]][: ARCHIVES[archive]]
    with tarfile.open(path) as whole:
        members = {Path(m.name).stem: m for m in whole.getmembers() if m.isfile()}
        for name in names:
            instance = found.read(name)
            file = tmp_path / name
            stream = whole.extractfile(members[name])
            assert stream is not None
            file.write_bytes(stream.read())
            other = psplib.parse_psplib(file)
            snapshot = instance.request.snapshot
            amounts = [*snapshot.workers[0].capacity.values(), *snapshot.budgets.values()]
            assert amounts == [r.capacity for r in other.resources]
            for k, activity in enumerate(other.activities, 1):
                task = snapshot.pending_by_id.get(str(k))
                if task is None:
                    assert max(m.duration for m in activity.modes) == 0
                    continue
                mine = instance.request.estimates[task.id]
                known = [
                    (mine[m.id]["*"].seconds[0], sum(m.demand.values()))
                    for m in task.modes  # type: ignore[index]
                ]
                assert known == [(m.duration, sum(m.demands)) for m in activity.modes]
            request = replace(instance.request, budget=Budget(None, 300))
            response = plan(request)
            assert validate_response(request, response) == []
            if instance.best_known is not None:
                assert response.cost is not None
                assert response.lower_bound <= instance.best_known <= response.cost  # type: ignore[operator]

"""One bad cell of a log costs one job at most, whatever it holds and whoever reads it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plancast.predictor.logs import READERS, read_log
from plancast.predictor.logs.rows import EARLIEST_S, LATEST_S, MOST
from tests.conftest import spans

JOBS = 20
NOON_S = 1_714_564_800
CELLS = [
    "", "-1", "nan", "inf", "-inf", "1e400", "1e308", "99999999999999999999", "1e18", "x", "0",
    "UNLIMITED", "1:2:3:4", "99-99:99:99", "-1:00:00", "2024-13-01T00:00:00",
    "2024-03-31T02:30:00", "2024-10-27T02:30:00", "9999-12-31T23:59:59", "0001-01-01T00:00:00",
    "1600-01-01T00:00:00", "2024-05-01T24:00:00", "2024-05-01T23:59:60", "Unknown", "None", "16Q",
    "16GB", "1.5.2G", "-4G", "0x10", "1_000", "1,5", "\ufeff", "\u202e", "a\tb", "a=b", "a|b",
    "a;b", "'", '"', "  ", "9" * 500, "2024-05-01T12:00:00+25:00", "1714550400000",
    "1714550400000000000", "cpu=4,mem", "gres/gpu=-1", "5.0M",
]  # fmt: skip
VALUES: list[Any] = [
    None, "", -1, "x", float("nan"), float("inf"), 10**400, [], {}, True, [None], {"a": 1}, 0,
    "2024-13-01", "2024-03-31T02:30:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00", 10**18,
]  # fmt: skip
"""What may stand in JSON in place of any value."""


def moments(job: int) -> tuple[str, str, str]:
    """Submission, start and end of a job that runs for an hour."""
    noon = datetime(2024, 5, 1, 12) + timedelta(minutes=10 * job)
    return tuple((noon + timedelta(minutes=m)).isoformat() for m in (0, 5, 65))  # type: ignore[return-value]


def swf(job: int) -> list[str]:
    """A row of the Standard Workload Format."""
    return f"{job + 1} {600 * job} 300 3600 4 -1 -1 4 7200 -1 1 1 1 1 1 1 -1 -1".split()


SACCT = (
    "JobID|User|Account|JobName|Partition|QOS|Submit|Start|End|Elapsed|ElapsedRaw|Timelimit|"
    "ReqCPUS|ReqMem|ReqTRES|AllocTRES|NNodes|MaxRSS|State"
)
PBS = (
    "user group account jobname queue ctime qtime etime start exec_host Resource_List.mem "
    "Resource_List.ncpus Resource_List.select Resource_List.walltime end Exit_status "
    "resources_used.mem resources_used.walltime"
)


def sacct(job: int) -> list[str]:
    """A row of ``sacct --parsable2``."""
    tres = "cpu=4,mem=16G,node=1"
    return [
        f"{100 + job}", "ann", "phys", "job", "batch", "normal", *moments(job), "01:00:00", "3600",
        "02:00:00", "4", "16G", tres, tres, "1", "", "COMPLETED",
    ]  # fmt: skip


def pbs(job: int) -> list[str]:
    """The stamp, the id and the values of a record of PBS."""
    at = NOON_S + 600 * job
    return [
        "05/01/2024 12:00:00", f"{100 + job}.srv", "ann", "grp", "acc", "job", "q", f"{at}",
        f"{at}", f"{at}", f"{at + 300}", "n1/0*4", "16gb", "4", "1:ncpus=4:mem=16gb", "02:00:00",
        f"{at + 3900}", "0", "1000000kb", "01:00:00",
    ]  # fmt: skip


def record(cells: list[str]) -> str:
    """A record of PBS."""
    values = " ".join(f"{key}={cell}" for key, cell in zip(PBS.split(), cells[2:], strict=True))
    return f"{cells[0]};E;{cells[1]};{values}"


def table(job: int) -> list[str]:
    """A row of somebody's table."""
    return [f"{100 + job}", *moments(job), "01:00:00", "02:00:00", "4", "16G", "1", "ann", "ok"]


def quoted(cells: list[str]) -> str:
    """A row of CSV."""
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)


HEADER = "id,submitted,start,end,elapsed,limit,cpus,memory,gpus,user,state"
ROWS: dict[str, tuple[str, Callable[[int], list[str]], Callable[[list[str]], str]]] = {
    "swf": ("; MaxProcs: 100", swf, " ".join),
    "sacct": (SACCT, sacct, "|".join),
    "pbs": ("", pbs, record),
    "table": (HEADER, table, quoted),
}
"""Header, the cells of a job, and the row that they make."""


def workflow(draw: random.Random) -> str:
    """A workflow execution, of which one field of one task holds anything."""
    specified = [
        {"name": f"t{k}", "id": f"t{k}", "parents": [f"t{k - 1}"] if k else [], "children": [],
         "inputFiles": ["f"]}
        for k in range(JOBS)
    ]  # fmt: skip
    ran = [
        {"id": f"t{k}", "runtimeInSeconds": 60.0, "executedAt": f"2024-05-01T12:{k:02}:00Z",
         "coreCount": 2, "memoryInBytes": 10**9, "machines": ["m"]}
        for k in range(JOBS)
    ]  # fmt: skip
    task: dict[str, Any] = draw.choice(draw.choice([specified, ran]))
    task[draw.choice(list(task))] = draw.choice(VALUES)
    content = {
        "name": "w", "schemaVersion": "1.5",
        "workflow": {
            "specification": {"tasks": specified, "files": [{"id": "f", "sizeInBytes": 5}]},
            "execution": {"executedAt": "2024-05-01T12:00:00Z", "tasks": ran, "machines": []},
        },
    }  # fmt: skip
    return json.dumps(content)


def one_bad_cell(name: str, draw: random.Random) -> str:
    """A log of twenty jobs in which one cell holds anything."""
    if name == "wfformat":
        return workflow(draw)
    header, cells_of, row_of = ROWS[name]
    jobs = [cells_of(job) for job in range(JOBS)]
    cells = draw.choice(jobs)
    cells[draw.randrange(len(cells))] = draw.choice(CELLS)
    return "\n".join([header, *map(row_of, jobs)]).lstrip() + "\n"


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("seeds", spans(range(60), range(2_000)))
def test_one_bad_cell_costs_one_job_at_most(name: str, seeds: range, tmp_path: Path) -> None:
    """A log of a million jobs would be refused for one, or one job last for all of its history."""
    path = tmp_path / "log.txt"
    zoned = {"timezone": "Europe/Berlin"} if "timezone" in READERS[name].options else {}
    for seed in seeds:
        options = zoned if seed % 2 else {}
        path.write_text(one_bad_cell(name, random.Random(seed)), encoding="utf-8")
        frame = read_log(path, name, **options)  # type: ignore[arg-type]
        assert len(frame) >= JOBS - 1, (seed, frame.attrs["notes"])
        for column in ("submit_s", "start_s", "end_s"):
            known = frame[column].dropna()
            assert known.between(EARLIEST_S, LATEST_S).all(), (seed, column)
        assert (frame["run_s"].dropna().between(0, LATEST_S)).all(), seed
        for column, most in MOST.items():
            assert (frame[column].dropna() <= most).all(), (seed, column)


@pytest.mark.parametrize("name", ["sacct", "table"])
@pytest.mark.parametrize(
    ("clock", "wait_s", "run_s"),
    [
        (("02:50:00", "02:55:00", "02:10:00"), 300, 900),  # ends after the clock was set back
        (("02:50:00", "02:10:00", "02:40:00"), 1200, 1800),  # waits meanwhile
        (("01:50:00", "01:55:00", "03:10:00"), 300, 8100),
        (("02:10:00", "02:20:00", "02:50:00"), 600, 1800),
    ],
)
def test_the_hour_that_comes_twice_makes_no_negative_times(
    name: str, clock: tuple[str, str, str], wait_s: int, run_s: int, tmp_path: Path
) -> None:
    """Jobs of one night in autumn would have ended before they started, or lose their run time."""
    header, cells_of, row_of = ROWS[name]
    jobs = [cells_of(job) for job in range(JOBS)]
    fields = header.replace(",", "|").split("|")
    first = fields.index("Submit" if name == "sacct" else "submitted")
    for field in ("Elapsed", "ElapsedRaw", "elapsed"):
        if field in fields:
            jobs[7][fields.index(field)] = ""
    jobs[7][first : first + 3] = [f"2024-10-27T{time}" for time in clock]
    path = tmp_path / "log.txt"
    path.write_text("\n".join([header, *map(row_of, jobs)]) + "\n")
    frame = read_log(path, name, timezone="Europe/Berlin").set_index("job_id")
    job = frame.loc["107"]
    assert (job["start_s"] - job["submit_s"], job["run_s"]) == (wait_s, run_s)
    assert frame.attrs["repaired"] == {}
    assert np.isfinite(frame["run_s"].to_numpy(float)).all()

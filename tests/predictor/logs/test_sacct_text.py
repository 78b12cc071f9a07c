"""What sacct prints, with bars and line breaks in free texts: read right or left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plancast.predictor.logs import read_log
from plancast.predictor.schema import BadLog
from tests.conftest import scaled

USERS, ACCOUNTS, PARTITIONS = ("ann", "bob", "eve"), ("phys", "bio"), ("short", "long")
READ = {"user": "User", "group": "Account", "partition": "Partition", "app": "JobName"}
FIELDS = ("JobID", "JobName", "User", "Account", "Partition", "WorkDir", "Submit", "Start", "End",
          "ElapsedRaw", "ReqCPUS", "State", "Comment", "SubmitLine")  # fmt: skip

word = st.sampled_from(
    ["fit", "a", "7", "600", "ann", "phys", "short", "COMPLETED", "", "x y", "/d"]
)
free = st.lists(word, min_size=1, max_size=3).map("|".join)
broken = st.tuples(free, st.sampled_from(["", "\n", "\nx", "\n\n", "\n5|a"])).map("".join)
job = st.fixed_dictionaries(
    {
        "JobName": free,
        "User": st.sampled_from([*USERS, "new"]),
        "Account": st.sampled_from(ACCOUNTS),
        "Partition": st.sampled_from(PARTITIONS),
        "WorkDir": free.map("/home/".__add__),
        "ReqCPUS": st.integers(1, 64).map(str),
        "State": st.sampled_from(["COMPLETED", "FAILED", "CANCELLED by 1000"]),
        "Comment": broken,
        "SubmitLine": broken.map("sbatch x ".__add__),
    }
)


def rows_of(jobs: list[dict[str, str]]) -> list[dict[str, str]]:
    """Jobs with ids and times of their own."""
    return [
        {
            "JobID": str(100 + k),
            "Submit": f"2024-03-01T08:{k:02}:00",
            "Start": f"2024-03-01T09:{k:02}:00",
            "End": f"2024-03-01T09:{k:02}:30",
            "ElapsedRaw": "30",
            **cells,
        }
        for k, cells in enumerate(jobs)
    ]


def printed(rows: list[dict[str, str]], order: list[str], mark: str = "|", end: str = "") -> str:
    """What sacct prints of them: no quotes, no escapes."""
    lines = [mark.join(order), *(mark.join(row[name] for name in order) for row in rows)]
    return "".join(f"{line}{end}\n" for line in lines)


@settings(
    max_examples=scaled(40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(job, min_size=1, max_size=6),
    st.permutations(FIELDS),
    st.sampled_from(["", "|"]),
)
def test_a_row_is_read_right_or_left_out_and_counted(
    tmp_path: Path, jobs: list[dict[str, str]], order: list[str], end: str
) -> None:
    """A bar or a line break in any free text would shift a user into the account's place."""
    rows = rows_of(jobs)
    path = tmp_path / "log.txt"
    path.write_text(printed(rows, order, end=end), newline="")
    result = {row["JobID"]: row for row in rows}
    try:
        frame = read_log(path, max_bad=1.0)
    except BadLog:
        return
    for found in frame.to_dict("records"):
        row = result[found["job_id"]]
        for column, field in READ.items():
            assert found[column] == row[field].strip(), (column, row)
        assert found["cpus"] == float(row["ReqCPUS"])
        assert found["run_s"] == 30.0
    if len(frame) < len(rows):
        assert sum(frame.attrs["dropped"].values()) > 0


def test_a_free_text_cannot_hold_a_job(tmp_path: Path) -> None:
    """Whoever submits could put jobs of others, with any run times, into the log."""
    cells = {"JobName": "fit", "User": "ann", "Account": "phys", "Partition": "short",
             "WorkDir": "/home/a", "ReqCPUS": "1", "State": "COMPLETED", "Comment": "",
             "SubmitLine": "sbatch x"}  # fmt: skip
    forged = {**cells, "SubmitLine": "sbatch\n5|x"}
    order = ["JobID", "SubmitLine", *(f for f in FIELDS if f not in ("JobID", "SubmitLine"))]
    path = tmp_path / "log.txt"
    path.write_text(printed(rows_of([cells, forged, cells, cells]), order))
    frame = read_log(path, max_bad=1.0)
    assert frame["job_id"].tolist() == ["100", "102", "103"]
    assert sum(frame.attrs["dropped"].values()) == 2


def read(tmp_path: Path, text: str, **options: Any) -> pd.DataFrame:
    """A log of this text."""
    path = tmp_path / "log.txt"
    path.write_text(text, newline="")
    return read_log(path, **options)


PLAIN = {"JobName": "fit", "User": "ann", "Account": "phys", "Partition": "short", "WorkDir": "/d",
         "ReqCPUS": "2", "State": "COMPLETED", "Comment": "", "SubmitLine": "sbatch x"}  # fmt: skip


@pytest.mark.parametrize("field", ["JobName", "WorkDir", "Comment", "SubmitLine"])
@pytest.mark.parametrize("text", ["{0} | tee log", "{0}|7", "{0} |", "{0}\n|\nend"])
def test_a_bar_in_one_free_text_is_understood(tmp_path: Path, field: str, text: str) -> None:
    """Most rows with a bar would be left out, though only one reading fits."""
    cells = PLAIN | {field: text.format(PLAIN[field])}
    jobs = read(tmp_path, printed(rows_of([PLAIN, cells]), list(FIELDS)))
    assert len(jobs) == 2
    assert jobs.loc[1, ["user", "group", "partition"]].tolist() == ["ann", "phys", "short"]
    if field == "JobName":
        assert jobs.loc[1, "app"] == cells["JobName"].strip()


def test_directory_and_command_line_are_kept(tmp_path: Path) -> None:
    """What a job ran, and where, would be parsed around and lost."""
    texts = PLAIN | {"WorkDir": "/home/ann/a|b", "SubmitLine": "sbatch -n 2 fit.sh 7"}
    jobs = read(tmp_path, printed(rows_of([PLAIN, texts, PLAIN]), list(FIELDS)))
    assert jobs["work_dir"].tolist() == ["/d", "/home/ann/a|b", "/d"]
    assert jobs["submit_line"].tolist() == ["sbatch x", "sbatch -n 2 fit.sh 7", "sbatch x"]
    short = [name for name in FIELDS if name not in ("WorkDir", "SubmitLine")]
    jobs = read(tmp_path, printed(rows_of([PLAIN]), short))
    assert jobs[["work_dir", "submit_line"]].to_numpy().tolist() == [["", ""]]


def test_an_ambiguous_row_is_left_out_and_counted(tmp_path: Path) -> None:
    """Of two readings of a row one would be taken, and a stranger's job be ann's."""
    order = ["JobID", "Submit", "Start", "End", "State", "JobName", "User", "Comment"]
    odd = PLAIN | {"JobName": "x|new", "User": "ann", "Comment": "b"}
    jobs = read(tmp_path, printed(rows_of([PLAIN, PLAIN | {"User": "new"}, odd]), order))
    assert jobs["job_id"].tolist() == ["100", "101"]
    (reason,) = jobs.attrs["dropped"]
    assert "cannot be assigned to columns" in reason
    assert "line 4" in jobs.attrs["notes"][0]


@pytest.mark.parametrize("mark", [";", "\t", ",", "^", "~"])
def test_another_delimiter_is_told_from_the_header(tmp_path: Path, mark: str) -> None:
    """A log made with --delimiter would not be recognised."""
    jobs = read(tmp_path, printed(rows_of([PLAIN | {"JobName": "odd|name"}]), list(FIELDS), mark))
    assert jobs.loc[0, ["app", "user", "cpus"]].tolist() == ["odd|name", "ann", 2.0]


def test_a_delimiter_of_several_characters_is_named(tmp_path: Path) -> None:
    """The delimiter that cannot occur in a name could not be used."""
    text = printed(rows_of([PLAIN | {"JobName": "a|b;c"}]), list(FIELDS), "@|@")
    jobs = read(tmp_path, text, format="sacct", delimiter="@|@")
    assert jobs.loc[0, ["app", "user"]].tolist() == ["a|b;c", "ann"]


def fixed(rows: list[dict[str, str]], order: list[str], width: int = 20) -> str:
    """What sacct prints by default: columns of a width in bytes, to the right, cut with a plus."""

    def cell(text: str) -> str:
        raw = text.encode()
        if len(raw) > width:
            raw = raw[: width - 1].decode("utf-8", "ignore").encode() + b"+"
        return " " * (width - len(raw)) + raw.decode()

    lines = [[*order], ["-" * width] * len(order), *([row[n] for n in order] for row in rows)]
    return "".join(" ".join(map(cell, line)) + " \n" for line in lines)


def test_columns_of_fixed_width_are_read(tmp_path: Path) -> None:
    """What sacct prints without options would be refused."""
    order = ["JobID", "JobName", "User", "Account", "Submit", "Start", "End", "State"]
    rows = rows_of([PLAIN | {"JobName": "müll er|x"}, PLAIN | {"Account": "a" * 30}])
    jobs = read(tmp_path, fixed(rows, order))
    assert jobs["app"].tolist() == ["müll er|x", "fit"]
    assert jobs["user"].tolist() == ["ann", "ann"]
    assert jobs["run_s"].tolist() == [30.0, 30.0]
    assert "cut short" in jobs.attrs["notes"][0]


def test_a_log_without_a_header_asks_for_its_fields(tmp_path: Path) -> None:
    """The user would hear that the format is unknown, and not of the option that names it."""
    order = ["JobID", "Submit", "Start", "End", "State", "JobName", "User"]
    body = printed(rows_of([PLAIN | {"JobName": "a|b"}]), order).split("\n", 1)[1]
    with pytest.raises(BadLog, match="--fields"):
        read(tmp_path, body)
    jobs = read(tmp_path, body, fields="jobid,submit,Start,End,State%20,JobName%30,User")
    assert jobs.loc[0, ["app", "user", "run_s"]].tolist() == ["a|b", "ann", 30.0]


def test_a_truncated_line_is_left_out(tmp_path: Path) -> None:
    """A cut line would be taken for the rest of the name above it."""
    text = printed(rows_of([PLAIN, PLAIN, PLAIN]), list(FIELDS))
    cut = text.replace("101|fit|ann|phys|short|/d|2024-03-01T08:01:00", "101|fit|ann|phys")
    jobs = read(tmp_path, cut.replace("101|fit|ann|phys|2024", "101|fit|ann|phys\n2024")[:-40])
    assert "100" in jobs["job_id"].tolist()
    assert "101" not in jobs["job_id"].tolist()
    assert sum(jobs.attrs["dropped"].values()) >= 2


OLD = {
    "job_id": 7, "name": "fit", "user": "ann", "account": "phys", "partition": "short",
    "qos": "normal", "array": {"job_id": 0, "task": None, "task_id": None},
    "state": {"current": "COMPLETED", "reason": "None"},
    "time": {"elapsed": 600, "end": 1709280610, "start": 1709280010, "submission": 1709280000,
             "limit": 60},
    "required": {"CPUs": 2, "memory": 4096},
    "tres": {"requested": [{"type": "cpu", "name": None, "id": 1, "count": 2},
                           {"type": "mem", "name": None, "id": 2, "count": 4096},
                           {"type": "gres", "name": "gpu", "id": 3, "count": 1}]},
    "steps": [{"step": {"id": "7.batch"}}],
}  # fmt: skip


def boxed(number: float | None) -> dict[str, Any]:
    """A number as the newer data parsers write it."""
    return {"set": number is not None, "infinite": False, "number": number or 0}


NEW = OLD | {
    "array": {"job_id": 5, "task_id": boxed(3)},
    "state": {"current": ["COMPLETED"], "reason": "None"},
    "time": OLD["time"] | {"limit": boxed(60)},
    "required": {"CPUs": 2, "memory_per_cpu": boxed(2048), "memory_per_node": boxed(None)},
}
QUEUE = {
    "job_id": 9, "name": "fit", "user_name": "ann", "account": "phys", "partition": "short",
    "job_state": ["COMPLETED"], "cpus": boxed(2), "node_count": boxed(1),
    "submit_time": boxed(1709280000), "start_time": boxed(1709280010),
    "end_time": boxed(1709280610), "time_limit": boxed(60), "memory_per_node": boxed(4096),
    "tres_req_str": "cpu=2,mem=4G,node=1,gres/gpu=1", "array_job_id": boxed(0),
    "array_task_id": boxed(None),
}  # fmt: skip


@pytest.mark.parametrize(
    ("record", "job_id"),
    [(OLD, "7"), (NEW, "5_3"), (QUEUE, "9")],
    ids=["v0.0.37", "v0.0.40", "squeue"],
)
def test_json_of_every_data_parser_is_read(
    tmp_path: Path, record: dict[str, Any], job_id: str
) -> None:
    """``sacct --json`` of one Slurm version would be read and of the next refused."""
    texts = {"working_directory": "/home/ann/p", "submit_line": "sbatch fit.sh 7"}
    if record is QUEUE:
        texts["current_working_directory"] = texts.pop("working_directory")
    content = {"meta": {}, "jobs": [record | texts]}
    (row,) = read(tmp_path, json.dumps(content)).to_dict("records")
    wanted = {"job_id": job_id, "user": "ann", "group": "phys", "app": "fit", "partition": "short",
              "submit_s": 1709280000, "run_s": 600, "requested_s": 3600, "cpus": 2,
              "mem_mib": 4096, "gpus": 1, "outcome": "completed",
              "work_dir": "/home/ann/p", "submit_line": "sbatch fit.sh 7"}  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted


def test_jobs_of_a_queue_that_have_not_ended_are_counted(tmp_path: Path) -> None:
    """A waiting job would be a job of no run time."""
    waiting = QUEUE | {"job_id": 10, "job_state": ["PENDING"], "start_time": boxed(0)}
    odd = [7, QUEUE | {"job_id": 11, "submit_time": "noon"}]
    jobs = read(tmp_path, json.dumps({"jobs": [QUEUE, waiting, *odd]}))
    assert jobs["job_id"].tolist() == ["9"]
    assert jobs.attrs["dropped"]["not ended: PENDING"] == 1
    assert sum(jobs.attrs["dropped"].values()) == 3
    with pytest.raises(BadLog, match="no ended job"):
        read(tmp_path, json.dumps({"jobs": [waiting]}))
    with pytest.raises(BadLog, match="not JSON"):
        read(tmp_path, '{"jobs": [')


def test_the_hour_that_comes_twice_is_read_in_an_order_that_can_be(tmp_path: Path) -> None:
    """In the night of the clock change jobs would end before they start."""
    log = (
        "JobID|Submit|Start|End|State\n"
        "1|2023-10-29T02:50:00|2023-10-29T02:05:00|2023-10-29T02:20:00|COMPLETED\n"
        "2|2023-10-29T01:50:00|2023-10-29T02:50:00|2023-10-29T02:10:00|COMPLETED\n"
    )
    jobs = read(tmp_path, log, timezone="Europe/Amsterdam")
    assert jobs.set_index("job_id")["run_s"].to_dict() == {"1": 900.0, "2": 1200.0}
    assert (jobs["start_s"] >= jobs["submit_s"]).all()
    assert jobs.attrs["repaired"] == {}


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_cells_of_sacct_that_a_program_quoted_are_unquoted(mark: str, tmp_path: Path) -> None:
    """A frame of sacct's fields, written as CSV, had quotes in its names, or "no job left"."""
    names = ["fit", 'a "b"', f"x{mark} y", "two\nlines", "", "fit"]
    jobs = [
        {"JobID": 100 + k, "JobName": name, "Submit": "2024-03-01T08:00:00", "Start":
         "2024-03-01T09:00:00", "End": "2024-03-01T09:00:30", "State": "COMPLETED",
         "ReqTRES": "cpu=4,mem=16G,node=1"}
        for k, name in enumerate(names)
    ]  # fmt: skip
    path = tmp_path / "log.csv"
    pd.DataFrame(jobs).to_csv(path, index=False, sep=mark)
    frame = read_log(path)
    assert (frame.attrs["format"], frame.attrs["dropped"]) == ("sacct", {})
    assert frame["app"].tolist() == names
    assert frame["cpus"].tolist() == [4.0] * 6
    path.write_text(path.read_text().replace("101", f"10{mark}1", 1))
    assert read_log(path).attrs["dropped"] == {"another number of cells": 1}


def test_quotes_that_sacct_printed_stay(tmp_path: Path) -> None:
    """A job called "x would swallow the lines up to the next one."""
    header = "JobID,JobName,Submit,Start,End,State"
    times = "2024-03-01T08:00:00,2024-03-01T09:00:00,2024-03-01T09:00:30,COMPLETED"
    rows = [f'{100 + k},"x{k},{times}' for k in range(4)]
    (tmp_path / "log.txt").write_text("\n".join([header, *rows]) + "\n")
    assert read_log(tmp_path / "log.txt")["app"].tolist() == [f'"x{k}' for k in range(4)]

"""JSON with an object for each job: lines, one after another, lists; and typed cells of tables."""

from __future__ import annotations

import io
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plancast.predictor.logs import json_table, read_log
from plancast.predictor.logs.rows import Rows
from plancast.predictor.logs.table import read_frame
from plancast.predictor.schema import BadLog
from tests.conftest import spans
from tests.contracts.test_bad_cells import CELLS, VALUES

JOBS = [
    {"id": f"j{k}", "submitted": f"2024-05-01T12:{k:02}:00Z", "elapsed": 60 + k, "user": "ann",
     "ask": {"cpus": 4, "memory": "4Gi"}}
    for k in range(20)
]  # fmt: skip
SLURM = [
    {"account": "phys", "job_id": 100 + k, "user": "ann", "state": {"current": ["COMPLETED"]},
     "time": {"submission": 1714564800 + k, "start": 1714564900, "end": 1714565900,
              "elapsed": 1000, "limit": {"set": True, "infinite": False, "number": 60}},
     "association": {"user": "ann"}, "required": {"CPUs": 4}}
    for k in range(4)
]  # fmt: skip


def lines(items: list[Any]) -> str:
    """A line each."""
    return "\n".join(map(json.dumps, items)) + "\n"


def pretty(items: list[Any]) -> str:
    """One after another, each over several lines, as jq prints them."""
    return "\n".join(json.dumps(item, indent=2) for item in items)


def read(folder: Path, text: str, name: str = "log.json", **options: Any) -> pd.DataFrame:
    """The log of a text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_log(path, **options)


@pytest.mark.parametrize("form", [lines, pretty, json.dumps, lambda items: "\ufeff" + lines(items)])
def test_json_of_jobs_is_a_table(form: Any, tmp_path: Path) -> None:
    """Who exports a frame as JSON would have to write CSV of it, or be refused."""
    frame = read(tmp_path, form(JOBS))
    assert frame["run_s"].tolist() == [60.0 + k for k in range(20)]
    assert frame["job_id"].tolist() == [f"j{k}" for k in range(20)]
    columns = {"columns": {"submit_s": "submitted", "run_s": "elapsed", "cpus": "ask.cpus",
                           "mem_mib": "ask.memory"}}  # fmt: skip
    mapped = read(tmp_path, form(JOBS), columns=columns)
    assert mapped[["cpus", "mem_mib"]].to_numpy().tolist() == [[4.0, 4096.0]] * 20


@pytest.mark.parametrize("form", [lines, pretty, json.dumps])
@pytest.mark.parametrize("name", ["log.json", "log.jsonl", "log.txt"])
def test_slurm_s_jobs_by_themselves_are_slurm_s(form: Any, name: str, tmp_path: Path) -> None:
    """A limit of 60 minutes would be read as one of 60 seconds."""
    frame = read(tmp_path, form(SLURM), name)
    assert frame.attrs["format"] == "sacct"
    assert frame["requested_s"].tolist() == [3600.0] * 4


def test_a_damaged_line_costs_itself_alone(tmp_path: Path) -> None:
    """An export that broke off would be refused as a whole, or lose a job without a word."""
    text = "}\n" + lines(SLURM) + lines(SLURM)[:50]
    frame = read(tmp_path, text)
    assert (len(frame), frame.attrs["format"]) == (4, "sacct")
    assert frame.attrs["dropped"] == {"not JSON": 2}
    assert "left out: 2 rows, not JSON (row 1, row 6)" in frame.attrs["notes"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"submit_s": {"0": 1}, "run_s": {"0": 3}}', "without an object for each job; write one"),
        ("[]\n", "has no job"),
        ("[[1], 2]", "row 1: .1. is not an object"),
        ('{\n "submit_s": 1,\n', "line 3: this is not JSON"),
        ('[{"submit_s": 1},\n {"submit_s": }]', "line 2: this is not JSON"),
        (lines([{"submit_s": 1, f"f{k}": 2} for k in range(1_001)]), "more than 1,000 fields"),
        ("[" * 5_000, "nested too deeply"),
    ],
)
def test_json_that_is_no_table_is_named(text: str, said: str, tmp_path: Path) -> None:
    """A frame's columns as JSON would be one odd job, and nobody would know why."""
    with pytest.raises(BadLog, match=said):
        read(tmp_path, text, format="table")


def test_a_column_called_workflow_or_jobs_makes_no_other_format(tmp_path: Path) -> None:
    """An export of a workflow engine's jobs would be refused as a damaged workflow."""
    frame = read(tmp_path, lines([job | {"workflow": "w", "jobs": 3} for job in JOBS]))
    assert (frame.attrs["format"], len(frame)) == ("table", 20)


@pytest.mark.parametrize("seeds", spans(range(12), range(2_000)))
def test_one_odd_value_costs_one_job_at_most(seeds: range, tmp_path: Path) -> None:
    """A log of a million jobs would be refused for one cell, or end in a traceback."""
    for seed in seeds:
        draw = random.Random(seed)
        items = json.loads(json.dumps(JOBS))
        job = draw.choice(items)
        job[draw.choice(list(job))] = draw.choice([*VALUES, *CELLS])
        frame = read(tmp_path, lines(items))
        assert len(frame) >= len(JOBS) - 1, (seed, frame.attrs["notes"])
        assert len(frame) + sum(frame.attrs["dropped"].values()) == len(JOBS), seed


TYPED: dict[str, Any] = {
    "list": pa.array([[1, 2]] * 6),
    "empty list": pa.array([[]] * 6, pa.list_(pa.string())),
    "struct": pa.array([{"a": 1}] * 6),
    "map": pa.array([[("a", 1)]] * 6, pa.map_(pa.string(), pa.int64())),
    "bytes": pa.array([b"a\xff"] * 6),
    "dictionary": pa.array(["2024-05-01T12:00:00"] * 6).dictionary_encode(),
    "numbers": pa.array([5, None, 7, 5, 5, 5]).dictionary_encode(),
    "decimal": pa.array([Decimal("1.5")] * 6),
    "null": pa.nulls(6),
    "bool": pa.array([True] * 6),
    "half": pa.array(np.ones(6, np.float16)),
}


@pytest.mark.parametrize("kind", TYPED)
def test_parquet_of_any_type_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    """A column of lists, bytes or categories ended in a traceback, or was refused without cause."""
    good = {"submitted": pa.array(range(6)), "elapsed": pa.array(range(6)),
            "user": pa.array(["u"] * 6), "status": pa.array(["ok"] * 6)}  # fmt: skip
    columns = {"submit_s": "submitted", "run_s": "elapsed", "user": "user", "outcome": "status"}
    for name in good:
        buffer = io.BytesIO()
        pq.write_table(pa.table(good | {name: TYPED[kind]}), buffer)
        (tmp_path / "x.parquet").write_bytes(buffer.getvalue())
        for asked in (None, {"columns": columns, "drop_if": {name: ["x"]}}):
            said = "x.parquet"
            try:
                read_log(tmp_path / "x.parquet", columns=asked)
            except BadLog as fault:
                said = str(fault)
            assert said.startswith("x.parquet"), name


def test_categories_are_what_they_stand_for() -> None:
    """A frame with categories, as pandas advises for texts, was refused for its good times."""
    times = ["2024-05-01T12:00:00Z", "2024-05-01T13:00:00Z"]
    frame = pd.DataFrame({"submit_s": times, "run_s": ["1h", None], "cpus": [4, 4], "user": "ann"})
    frame.loc[2] = [times[0], "5", None, "bob"]
    found = read_frame(frame.astype("category"))
    np.testing.assert_array_equal(found["run_s"], [3600.0, 5.0, np.nan])
    np.testing.assert_array_equal(found["cpus"], [4.0, np.nan, 4.0])
    assert found["user"].tolist() == ["ann", "bob", "ann"]


@pytest.mark.parametrize("zone", ["", "Mars/Base"])
def test_an_unknown_time_zone_is_named(zone: str, tmp_path: Path) -> None:
    """An empty one ended in a traceback; another was no fault where all times have offsets."""
    with pytest.raises(BadLog, match=f"time zone '{zone}' is unknown"):
        read(tmp_path, lines(JOBS), timezone=zone)


def test_a_number_of_a_line_is_that_of_the_file() -> None:
    """Whoever looks for row 3 would find another."""
    rows = Rows("x")
    found = list(json_table.objects('{"a": 1}\r\n\r\n3\n{"a": 2}\n', rows))
    assert [number for number, _ in found] == [1, 4]
    assert rows.attrs()["notes"] == ["left out: 1 row, not an object (row 3)"]


def test_two_columns_of_one_name_are_named(tmp_path: Path) -> None:
    """A sound Parquet file was "cut short or damaged"."""
    columns = [pa.array([1, 2])] * 3
    pq.write_table(pa.Table.from_arrays(columns, ["submit_s", "run_s", "run_s"]), tmp_path / "x.pq")
    with pytest.raises(BadLog, match=r"x\.pq has two columns named 'run_s'; rename one of them"):
        read_log(tmp_path / "x.pq")


@pytest.mark.parametrize("unit", ["ms", "s", "min", "ns"])
def test_starts_and_ends_tell_the_unit_of_run_times(unit: str, tmp_path: Path) -> None:
    """Spans of a frame's JSON, milliseconds, were believed as seconds: an hour lasted 42 days."""
    second = {"ms": 1_000, "s": 1, "min": 1 / 60, "ns": 1e9}[unit]
    jobs = [
        {"start": f"2024-05-01T12:{k:02}:00Z", "end": f"2024-05-01T{13 + k}:{k:02}:00Z",
         "elapsed": 3600 * (k + 1) * second}
        for k in range(5)
    ]  # fmt: skip
    jobs.append(jobs[0] | {"elapsed": 5})  # suspended
    frame = read(tmp_path, lines(jobs))
    assert frame["run_s"].tolist()[:1] == [3600.0]
    assert frame["run_s"].max() == 5 * 3600
    assert (f"run_s from elapsed in {unit}" in frame.attrs["notes"][0]) == (unit != "s")


def test_a_name_that_says_a_unit_is_believed(tmp_path: Path) -> None:
    """Who writes seconds would have them taken for minutes, where his jobs stood still long."""
    jobs = [
        {"start": f"2024-05-01T12:{k:02}:00Z", "end": f"2024-05-01T13:{k:02}:00Z", "elapsed_s": 60}
        for k in range(5)
    ]
    assert read(tmp_path, lines(jobs))["run_s"].tolist() == [60.0] * 5

"""Task tables whose names and columns are nearly right."""

from __future__ import annotations

import bz2
import io
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plancast.pipelines.inputs.estimate_files import read_estimates, write_estimates
from plancast.pipelines.inputs.user_files import (
    read_cluster,
    read_task_table,
    read_tasks,
    write_tasks,
)
from plancast.planner.model.domain import BadRequest

ROWS: list[dict[str, Any]] = [
    {"id": "a", "cpus": 2, "requested_s": 60, "requires": "ssd"},
    {"id": "b", "cpus": 1, "after": ["a"], "app": "x\u2028y"},
]
ESTIMATES = [
    {"task": task, "level": level, "seconds": seconds}
    for task in "ab"
    for level, seconds in ((0.5, 30), (0.9, 60))
]


def lines(rows: list[dict[str, Any]], end: str = "\n") -> bytes:
    """JSON, an object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows).encode()


def parquet(names: list[str], *columns: Any) -> bytes:
    """A Parquet file of these columns."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(c) for c in columns], names), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["t.jsonl", "t.NDJSON", "t.jsonl.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
def test_json_lines_read_as_json(name: str, end: str, tmp_path: Path) -> None:
    """What a frame's ``to_json(lines=True)`` writes had "no known suffix", and no reader."""
    (tmp_path / "t.json").write_text(json.dumps(ROWS))
    (tmp_path / name).write_bytes(lines(ROWS, end))
    assert read_tasks(tmp_path / name) == read_tasks(tmp_path / "t.json")
    (tmp_path / "e.json").write_text(json.dumps(ESTIMATES))
    (tmp_path / "e.ndjson").write_bytes(lines(ESTIMATES, end))
    assert read_estimates(tmp_path / "e.ndjson") == read_estimates(tmp_path / "e.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lines(ROWS)[:-8], "line 2: is not JSON: "),
        (b'{"id": "a"}\n[1]\n', "line 2: must hold an object"),
        (b'{"id": "a", "id": "b"}\n', "line 1: is not JSON: 'id' is there twice"),
        (b"\n \n", "is empty; write an object"),
        (b'{"id": "a"}\n{"id": "a"}\n', "row 2, column id: task a is in row 1 already"),
    ],
)
def test_json_lines_that_are_none_are_named(content: bytes, said: str, tmp_path: Path) -> None:
    """Whoever has 10,000 lines would look for the bad one himself."""
    (tmp_path / "t.jsonl").write_bytes(content)
    with pytest.raises(BadRequest, match=rf"t\.jsonl: {said}"):
        read_tasks(tmp_path / "t.jsonl")


@pytest.mark.parametrize("pack", [lzma.compress, bz2.compress])
def test_a_packed_file_is_named_as_that(pack: Any, tmp_path: Path) -> None:
    """It was "not UTF-8 text (byte 0)", which it does not become by saving it as UTF-8."""
    for name, read in (("t.csv", read_tasks), ("c.yaml", read_cluster), ("e.json", read_estimates)):
        (tmp_path / name).write_bytes(pack(b"id\na\n"))
        with pytest.raises(BadRequest, match=r"is packed with (xz|bzip2); unpack it"):
            read(tmp_path / name)


def test_parquet_s_columns_stand_once_and_bytes_are_texts(tmp_path: Path) -> None:
    """Two columns of one name were "not a Parquet file", and task ``a`` became ``b'a'``."""
    path = tmp_path / "t.parquet"
    path.write_bytes(parquet(["id", "cpus", "cpus"], ["a"], [1], [2]))
    with pytest.raises(BadRequest, match=r"t\.parquet: column 'cpus' is there twice; remove one"):
        read_tasks(path)
    path.write_bytes(parquet(["id", "app"], [b"a"], ["x"]))
    assert read_tasks(path)[0].id == "a"
    path.write_bytes(parquet(["id", "app"], ["a"], [b"\xff"]))
    with pytest.raises(BadRequest, match=r"row 1, column app: b'\\xff' is not UTF-8 text"):
        read_task_table(path)
    path.write_bytes(parquet(["id"], ["a"])[:-3])
    with pytest.raises(BadRequest, match="is not a Parquet file, or a damaged one"):
        read_tasks(path)


@pytest.mark.parametrize("ending", ["csv.gz", "parquet.gz", "json.gz"])
def test_what_is_packed_by_its_name_is_written_too(ending: str, tmp_path: Path) -> None:
    """``predict -o estimates.csv.gz`` had no known suffix, though ``plan`` reads such a file."""
    (tmp_path / "t.jsonl").write_bytes(lines(ROWS))
    tasks = read_tasks(tmp_path / "t.jsonl")
    write_tasks(tasks, path := tmp_path / f"t2.{ending}")
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    assert read_tasks(path) == tasks
    (tmp_path / "e.jsonl").write_bytes(lines(ESTIMATES))
    estimates = read_estimates(tmp_path / "e.jsonl")
    write_estimates(estimates, tmp_path / f"e2.{ending}")
    assert read_estimates(tmp_path / f"e2.{ending}") == estimates


@pytest.mark.parametrize("text", ["now_s: 1\n{{ a }}: 3\n", "now_s: 1\n? [a, b]\n: 3\n"])
def test_a_yaml_field_without_a_name_is_named(text: str, tmp_path: Path) -> None:
    """A template that nobody filled in ended in a traceback."""
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(BadRequest, match=r"c\.yaml: line 2: is not YAML: a list or a map"):
        read_cluster(tmp_path / "c.yaml")


def test_what_is_nearly_right_is_taken_or_named(tmp_path: Path) -> None:
    """TASKS.CSV of another system was no CSV, ``ID`` no ``id``, an index of pandas a riddle."""
    (tmp_path / "T.CSV").write_text("id,requested_s\na,60\n")
    assert [task.id for task in read_tasks(tmp_path / "T.CSV")] == ["a"]
    (tmp_path / "t.csv").write_text("Id,zz9,,Requested_S\na,red,0,60\n")
    with pytest.raises(BadRequest) as caught:
        read_tasks(tmp_path / "t.csv")
    said = str(caught.value)
    assert said.startswith(
        f"{tmp_path / 't.csv'}: unknown columns 'Id'; did you mean 'id'?, ''; remove it (index="
        "False leaves out the index of a frame), 'Requested_S'; did you mean 'requested_s'?, "
        "'zz9'; there are id, cpus, "
    )
    assert said.count("there are") == 1

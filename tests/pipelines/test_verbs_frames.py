"""Frames of every kind that pandas has, and arguments that are nothing of the kind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import plancast as pc
from plancast.planner.model.domain import BadRequest

CLUSTER = {"nodes": 1, "cpus": 4}
PLAIN = {"id": ["1", "2"], "requested_s": [60, 5400], "after": [None, "1"], "owner": ["u", None]}


def planned(tasks: Any, **more: Any) -> list[Any]:
    """Task, start, end and owner of a plan."""
    frame = pc.plan(tasks, CLUSTER, steps=1, **more).to_frame()
    return frame[["task", "start_s", "end_s", "owner"]].to_numpy().tolist()


EXPECTED = [["1", 0, 60, "u"], ["2", 60, 5460, ""]]
FRAME = pd.DataFrame(PLAIN)
SPANS = [timedelta(minutes=1), timedelta(hours=1.5)]
FRAMES: dict[str, Any] = {
    "plain": FRAME,
    "nullable": FRAME.convert_dtypes(),
    "arrow": FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "categories": FRAME.astype("category"),
    "objects": FRAME.astype(object).where(FRAME.notna(), pd.NA),
    "numbers for names": FRAME.assign(id=[1, 2], after=[np.nan, 1.0]),
    "timedeltas": FRAME.assign(requested_s=pd.to_timedelta(SPANS)),
    "timedelta objects": FRAME.assign(requested_s=pd.Series(SPANS, dtype=object)),
    "numpy timedeltas": FRAME.assign(
        requested_s=pd.Series([np.timedelta64(s) for s in SPANS], dtype=object)
    ),
    "arrow durations": FRAME.assign(
        requested_s=pd.array(SPANS, dtype="duration[ms][pyarrow]")
    ),
    "lists": FRAME.assign(after=[[], ["1"]]),
    "another library": pa.Table.from_pandas(FRAME),
    "columns": FRAME.to_dict("list"),
    "arrays": FRAME.assign(after=[np.array([]), np.array(["1"])]),
    "an index of its own": FRAME.set_axis(["x", "x"]),
    "names in the index": FRAME.set_index("id"),
    "rows": [row for _, row in FRAME.iterrows()],
    "mappings": [{"id": "1", "requested_s": SPANS[0], "owner": "u"},
                 {"id": "2", "requested_s": np.timedelta64(SPANS[1]), "after": {"1"}}],
}  # fmt: skip


@pytest.mark.parametrize("kind", FRAMES)
def test_a_table_of_any_kind_says_the_same(kind: str) -> None:
    """Missing values of pandas, its spans and arrays ended in a traceback, or as no numbers."""
    assert planned(FRAMES[kind]) == EXPECTED


def test_columns_may_be_renamed_whatever_holds_them() -> None:
    """Names of a list of mappings were left as they were, numbers could not be named."""
    names = {"id": "Job", "requested_s": "Limit", "after": "Needs", "owner": "Who"}
    renamed = FRAME.rename(columns=names)
    assert planned(renamed.to_dict("records"), columns=names) == EXPECTED
    numbered = FRAME.set_axis(range(4), axis=1)
    assert planned(numbered, columns={name: i for i, name in enumerate(PLAIN)}) == EXPECTED


def test_estimates_come_as_the_forms_that_are_written() -> None:
    """A frame of ``plancast predict``, and the JSON of a request, were no estimates."""
    tasks = FRAME.drop(columns="requested_s")
    levels = {"levels": [0.5], "seconds": [60]}
    table = pd.DataFrame({"task": ["1", "2"], "level": 0.5, "seconds": [60, 5400]})
    for given in (
        table,
        pa.Table.from_pandas(table),
        pd.Series({"1": 60, "2": 5400}),
        {"1": SPANS[0], "2": SPANS[1]},
        {"1": {"*": levels}, "2": 5400},
    ):
        assert planned(tasks, estimates=given) == EXPECTED


def test_workers_come_as_rows() -> None:
    """A list of mappings, or a frame, had no attribute of a worker."""
    rows = [{"id": "w", "cpus": 4}]
    for given in (rows, pd.DataFrame(rows), pa.Table.from_pylist(rows)):
        assert pc.plan(FRAME, given, steps=1).to_frame()["worker"].tolist() == ["w", "w"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"tasks": 3}, "tasks: give a path, a frame, or a list"),
        ({"tasks": pd.concat([FRAME, FRAME[["after"]]], axis=1)}, "column 'after' is there twice"),
        ({"columns": ["id"]}, "columns: give a mapping of our names to yours, not list"),
        ({"cluster": 3}, "cluster: give a path"),
        ({"policy": [1]}, "policy: give a path, a mapping or a Policy, not list"),
        ({"estimates": [5]}, "estimates: give a path, a frame, or a run time by task, not list"),
        ({"model": 5}, "model: give a path or a RuntimePredictor, not int"),
        ({"budget": [1]}, "budget: give seconds"),
        ({"steps": 1.5}, "steps is 1.5; it must be a whole number"),
        ({"seed": None}, "seed is None; it must be a whole number"),
    ],
)
def test_what_cannot_be_taken_is_named(given: dict[str, Any], sentence: str) -> None:
    """Python's own complaint is of a place in this library."""
    asked = {"tasks": FRAME, "cluster": CLUSTER, "steps": 1} | given
    with pytest.raises(BadRequest, match=sentence):
        pc.plan(asked.pop("tasks"), asked.pop("cluster"), **asked)


def test_what_is_left_out_is_said() -> None:
    """A frame without rows looked like a batch without tasks."""
    with pytest.warns(UserWarning, match=r"2 of 2 tasks cannot be placed; see \.unplanned"):
        assert planned(FRAME, estimates={"3": 5}) == []


JOBS = pd.DataFrame(
    {"Submit": pd.to_datetime(["2024-05-01", "2024-05-02"]), "Runtime": [60, 90], "User": "ann"}
)
LOGS: dict[str, Any] = {
    "plain": JOBS,
    "nullable": JOBS.convert_dtypes(),
    "arrow": JOBS.convert_dtypes(dtype_backend="pyarrow"),
    "categories": JOBS.astype({"User": "category", "Runtime": "category"}),
    "spans": JOBS.assign(Runtime=pd.to_timedelta([60, 90], unit="s")),
    "mappings": JOBS.to_dict("records"),
    "another library": pa.Table.from_pandas(JOBS),
    "times in the index": JOBS.set_index("Submit"),
}


@pytest.mark.parametrize("kind", LOGS)
def test_a_log_of_any_kind_says_the_same(kind: str) -> None:
    """Arrow's columns ended in a traceback; times in the index were lost."""
    read = pc.read_log(LOGS[kind])
    assert read["submit_s"].tolist() == [1_714_521_600, 1_714_608_000]
    assert read["run_s"].tolist() == [60, 90]
    assert read["user"].tolist() == ["ann", "ann"]


def test_a_log_of_numbered_columns_is_read_by_its_map() -> None:
    """Columns of ``pd.read_csv(header=None)`` could not be named."""
    read = pc.read_log(JOBS.set_axis(range(3), axis=1), columns={"submit_s": 0, "run_s": 1})
    assert read["run_s"].tolist() == [60, 90]
    for given, sentence in (
        ({"log": [1]}, "log: give a frame, or a list with a mapping for each job, not list of int"),
        ({"columns": ["a"]}, "columns: give a mapping of our names to yours, or a path, not list"),
        ({"max_bad": "half"}, "'half': write a share such as 5% or 0.05"),
    ):
        with pytest.raises(ValueError, match=sentence):
            pc.read_log(**{"log": JOBS} | given)

"""inputs.models: a file's row, a JSON body and a table mean the same, and refuse the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs  # schemathesis brings it
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from plancast.pipelines.inputs.models import (
    OTHER_COLUMNS,
    TASK_COLUMNS,
    ClusterSection,
    PolicySection,
    TaskRow,
)
from plancast.pipelines.inputs.policy_files import policy_of, read_policy
from plancast.pipelines.inputs.requests import request_from_files
from plancast.pipelines.inputs.user_files import (
    cluster_of,
    read_cluster,
    read_task_table,
    task_frame,
    tasks_of_rows,
)
from plancast.planner.model.domain import BadRequest

ROWS: list[dict[str, Any]] = [
    {"id": "a", "cpus": "500m", "mem_mib": "4Gi", "requested_s": "2h", "user": "ann", "num_x": 3},
    {"id": 7, "cpus": 2, "after": ["a"], "requires": "gpu&rack1", "submit_s": 12.5, "cat_y": "z"},
]


def test_a_body_and_a_file_make_the_same_table(tmp_path: Path) -> None:
    """A service would forecast other jobs than the command line of the same task."""
    (tmp_path / "t.json").write_text(json.dumps(ROWS))
    rows = TypeAdapter(list[TaskRow]).validate_python(ROWS)
    pd.testing.assert_frame_equal(
        task_frame(rows)[["id", "cpus", "requested_s", "user", "owner", "num_x", "cat_y"]],
        read_task_table(tmp_path / "t.json")[
            ["id", "cpus", "requested_s", "user", "owner", "num_x", "cat_y"]
        ],
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cpu": "500m"}, "unknown column 'cpu'; did you mean 'cpus'?"),
        ({"cpus": "half"}, "'half' is not a number like 2, 0.5 or 500m"),
        ({"cpus": False}, "False is not a finite number"),
        ({"cpus": -1}, "-1 is negative"),
        ({"mem_mib": [1]}, "is not a finite number"),
        ({"requested_s": True}, "True is not a finite number"),
        ({"shards": 1.5}, "1.5 is not a whole number"),
        ({"release_s": 2**62}, "is too large"),
        ({"num_x": "many"}, "'many' is not a finite number"),
        ({"requires": "a&&b"}, "constraint 'a&&b' is not understood"),
    ],
)
def test_a_body_refuses_what_a_file_refuses(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    """A misspelt or impossible field would pass over HTTP."""
    row = {"id": "a"} | change
    with pytest.raises(ValidationError) as caught:
        TaskRow.model_validate(row)
    assert sentence in str(caught.value)
    (tmp_path / "t.json").write_text(json.dumps([row]))
    with pytest.raises(BadRequest) as refused:
        read_task_table(tmp_path / "t.json")
    assert sentence in str(refused.value)


def test_cluster_and_policy_of_a_body_are_those_of_a_file(tmp_path: Path) -> None:
    """The same cluster would differ between a file and a request."""
    cluster = {"workers": [{"id": "n", "count": 2, "cpus": "16000m", "mem": "64G"}], "now_s": 5}
    policy = {"prices": {"late_h": 3}, "max_wait_s": "2h"}
    (tmp_path / "c.yaml").write_text(json.dumps(cluster))
    (tmp_path / "p.yaml").write_text(json.dumps(policy))
    section = ClusterSection.model_validate(cluster)
    assert cluster_of(section, "body") == read_cluster(tmp_path / "c.yaml")
    wanted = policy_of(PolicySection.model_validate(policy), "body")
    assert wanted == read_policy(tmp_path / "p.yaml")
    assert wanted.max_wait_s == 7200


def test_a_body_makes_the_tasks_of_the_files(tmp_path: Path) -> None:
    """A master that stays would plan other tasks than the command line."""
    tasks = [{"id": "a", "requested_s": "1h", "cpus": "500m"}, {"id": "b", "after": "afterok:a"}]
    cluster = {"now_s": 100, "workers": [{"id": "n", "cpus": 2}]}
    (tmp_path / "t.json").write_text(json.dumps(tasks))
    (tmp_path / "c.yaml").write_text(json.dumps(cluster))
    rows = TypeAdapter(list[TaskRow]).validate_python(tasks)
    found, _ = tasks_of_rows(rows, now_s=100)
    wanted = request_from_files(tmp_path / "t.json", tmp_path / "c.yaml")
    assert found == wanted.snapshot.pending
    with pytest.raises(BadRequest, match=r"body: tasks.1.after: task b follows 'z'"):
        tasks_of_rows([rows[0], TaskRow.model_validate({"id": "b", "after": "z"})], now_s=100)


def test_schemas_say_that_units_may_be_written() -> None:
    """Who reads the OpenAPI document would not know that 500m is taken."""
    schema = TaskRow.model_json_schema()["properties"]
    assert set(schema) == {*TASK_COLUMNS, *OTHER_COLUMNS}
    assert {"type": "string"} in schema["cpus"]["anyOf"]
    assert "4Gi" in schema["mem_mib"]["description"]
    ClusterSection.model_json_schema()
    PolicySection.model_json_schema()


CELLS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 1.5, 2.0, 1e300, "", "x", "1", "true", "0", "2h", "1.5", "4Gi",
    "2024-05-01", [], ["a"], [1], [True], [None], [[]], {}, {"a": 1},
)  # fmt: skip
"""Of every JSON type, and in the words of some column."""


@pytest.mark.parametrize("name", [*TaskRow.model_fields, "res_disk", "num_bytes", "cat_kind", "x"])
def test_what_a_body_may_hold_is_what_its_schema_says(name: str) -> None:
    """A client that goes by the schema would be surprised by what is taken all the same."""
    schema = jsonschema_rs.validator_for(TaskRow.model_json_schema())
    taken = 0
    for cell in CELLS:
        row = {"id": "t"} | {name: cell}
        try:
            TaskRow.model_validate(row)
        except ValidationError:
            continue
        taken += 1
        assert schema.is_valid(row), cell
    # An unknown name is refused, whatever it holds; but a null is no cell at all.
    assert taken > 1 or name == "x"

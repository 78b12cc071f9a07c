"""A workflow in WfFormat as tasks that are to run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plancast.pipelines.inputs.workflow_files import is_workflow, workflow_rows
from plancast.planner.model.domain import BadRequest
from tests.conftest import ROOT

SAMPLES = ROOT / "tests" / "data" / "logs"


@pytest.mark.parametrize("file", ["small.wf.json", "small-1.4.wf.json", "small-1.6.wf.json"])
def test_tasks_follow_their_parents_and_run_as_long_as_they_did(file: str) -> None:
    """A merge would start before what it merges, or a run time become a kill limit."""
    assert is_workflow(SAMPLES / file)
    rows, estimates = workflow_rows(SAMPLES / file)
    assert rows[0] == {"id": "split_1", "app": "split", "cpus": 1.0, "after": []}
    assert rows[3]["after"] == ["align_ID0000001", "align_ID0000002"]
    assert {name: found["*"].seconds for name, found in estimates.items()} == {
        "split_1": (9,), "align_ID0000001": (62,), "align_ID0000002": (55,), "merge": (4,),
    }  # fmt: skip


def test_a_task_table_is_no_workflow_and_a_plan_of_one_is_refused(tmp_path: Path) -> None:
    """A list of tasks would be read as something else, or a fault end in a traceback."""
    table = tmp_path / "tasks.json"
    table.write_text('[{"id": "a", "requested_s": 60}]')
    assert not is_workflow(table)
    content = json.loads((SAMPLES / "small.wf.json").read_text())
    del content["workflow"]["execution"]
    (tmp_path / "wf.json").write_text(json.dumps(content))
    with pytest.raises(BadRequest, match="has no object execution; give an instance that ran"):
        workflow_rows(tmp_path / "wf.json")

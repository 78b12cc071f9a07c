"""The reader of WfCommons' WfFormat: versions, ready times, damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plancast.predictor.logs import read_log
from plancast.predictor.schema import BadLog
from tests.conftest import ROOT

DATA = ROOT / "tests" / "data" / "logs"
NOON = 1714564800.0  # 2024-05-01T12:00:00Z


def changed(tmp_path: Path, change: Callable[[Any], None], file: str = "small.wf.json") -> Path:
    """The sample with something changed in it."""
    content = json.loads((DATA / file).read_text())
    change(content)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content))
    return path


def refusal(path: Path) -> str:
    """The sentence with which it is refused."""
    with pytest.raises(BadLog) as caught:
        read_log(path, strict=True)
    return str(caught.value)


def ran(content: Any) -> Any:
    """The execution's tasks."""
    return content["workflow"]["execution"]["tasks"]


@pytest.mark.parametrize("file", ["small.wf.json", "small-1.4.wf.json", "small-1.6.wf.json"])
def test_every_version_tells_the_same_tasks(file: str) -> None:
    """A workflow would train differently by the version of the schema it was written in."""
    jobs = read_log(DATA / file)
    assert jobs["job_id"].tolist() == ["split_1", "align_ID0000001", "align_ID0000002", "merge"]
    assert jobs["app"].tolist() == ["split", "align", "align", "merge"]
    assert jobs["partition"].tolist() == ["big-1", "big-1", "small-1", "big-1"]
    assert jobs["run_s"].tolist() == [8.25, 61.5, 55.0, 3.75]
    assert jobs["cpus"].tolist() == [1, 4, 4, 2]
    assert jobs["num_input_bytes"].tolist() == [4000, 92100, 91900, 1350]
    assert jobs["outcome"].eq("completed").all()
    assert jobs["mem_mib"].isna().all()  # what it used says nothing of what was asked for
    assert jobs.attrs["header"]["MaxProcs"] == "12"
    assert jobs.attrs["parents"] == {
        "align_ID0000001": ["split_1"],
        "align_ID0000002": ["split_1"],
        "merge": ["align_ID0000001", "align_ID0000002"],
    }


def test_without_starts_a_task_starts_when_its_parents_have_ended() -> None:
    """The history of a child would not know its parents, or would know them too early."""
    jobs = read_log(DATA / "small.wf.json")
    assert (jobs["submit_s"] - NOON).tolist() == [0, 8.25, 8.25, 69.75]
    pd.testing.assert_series_equal(jobs["start_s"], jobs["submit_s"], check_names=False)
    assert jobs.attrs["replayed"] == 4


def test_starts_that_are_told_are_kept() -> None:
    """Real waits would be lost."""
    jobs = read_log(DATA / "small-1.6.wf.json")
    assert (jobs["start_s"] - NOON).tolist() == [2, 12.5, 11, 75]
    assert (jobs["submit_s"] - NOON).tolist() == [0, 10.25, 10.25, 74]
    assert "replayed" not in jobs.attrs


@pytest.mark.parametrize(
    ("executed", "created", "origin"),
    [
        ("05-10-23T16:23:32Z", "2024-05-01T12:00:00Z", NOON),
        (None, "2024-05-01T12:00:00Z", NOON),
        ("2024-05-01T14:00:00+02:00", "soon", NOON),
        ("20240501T120000Z", None, NOON),
        ("whenever", "soon", 0.0),
    ],
)
def test_an_odd_time_of_the_workflow_moves_only_the_origin(
    executed: str | None, created: str | None, origin: float, tmp_path: Path
) -> None:
    """Published instances with odd times could not be read."""

    def put(content: Any) -> None:
        content["workflow"]["execution"]["executedAt"] = executed
        content["createdAt"] = created

    jobs = read_log(changed(tmp_path, put))
    assert (jobs["submit_s"] - origin).tolist() == [0, 8.25, 8.25, 69.75]


def test_a_start_in_an_hour_that_the_zone_leaves_out_is_noted(tmp_path: Path) -> None:
    """A wrong zone would move the workflow, and nobody would hear of it."""

    def put(content: Any) -> None:
        content["workflow"]["execution"]["executedAt"] = "2024-03-31T02:30:00"

    path = changed(tmp_path, put)
    for zone, count in (("Europe/Berlin", 1), ("UTC", 0)):
        notes = read_log(path, timezone=zone).attrs["notes"]
        assert sum(f"in an hour that {zone} leaves out" in note for note in notes) == count


def test_the_oldest_form_is_read(tmp_path: Path) -> None:
    """The many instances of versions 1.0 to 1.3 would be refused."""

    def old(content: Any) -> None:
        content["schemaVersion"] = "1.0"
        workflow = content["workflow"]
        workflow["jobs"] = workflow.pop("tasks")
        for job in workflow["jobs"]:
            job.pop("category")
            job["runtime"] = job.pop("runtimeInSeconds", job.get("runtime"))
            for file in job["files"]:
                file["size"] = file.pop("sizeInBytes")

    jobs = read_log(changed(tmp_path, old, "small-1.4.wf.json"))
    wanted = read_log(DATA / "small-1.4.wf.json")
    pd.testing.assert_frame_equal(jobs, wanted)


def test_starts_that_the_graph_contradicts_are_not_believed(tmp_path: Path) -> None:
    """Where the time of writing stands for each start, the whole workflow would run at once."""

    def stamp(content: Any) -> None:
        for number, task in enumerate(ran(content)):
            task["executedAt"] = f"2026-07-09T18:46:57.{number:06d}-10:00"

    jobs = read_log(changed(tmp_path, stamp, "small-1.6.wf.json"))
    assert (jobs["start_s"] - NOON).tolist() == [0, 8.25, 8.25, 69.75]
    assert jobs.attrs["replayed"] == 4


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("align_ID0000012", "align"),
        ("cpuhog_chain_00000001", "cpuhog_chain"),
        ("NFCORE:SAREK:FASTQC (HG00096, lane 2)", "NFCORE:SAREK:FASTQC"),
        ("bowtie2", "bowtie2"),
        ("ID0000012", "ID0000012"),
    ],
)
def test_an_app_is_what_equal_tasks_share(name: str, app: str, tmp_path: Path) -> None:
    """Every task would be an application of its own, without a history."""

    def rename(content: Any) -> None:
        content["workflow"]["specification"]["tasks"][0]["name"] = name

    assert read_log(changed(tmp_path, rename))["app"][0] == app


def test_children_alone_make_parents(tmp_path: Path) -> None:
    """A dependency declared on one end only would be lost."""

    def forget(content: Any) -> None:
        for task in content["workflow"]["specification"]["tasks"]:
            task["parents"] = []

    kept = read_log(changed(tmp_path, forget)).attrs["parents"]
    assert kept == read_log(DATA / "small.wf.json").attrs["parents"]


def test_the_unknown_stays_unknown(tmp_path: Path) -> None:
    """An untold run time, core count or file size would become a zero."""

    def forget(content: Any) -> None:
        del ran(content)[3]
        del ran(content)[0]["coreCount"]
        content["workflow"]["specification"]["files"].pop(0)

    jobs = read_log(changed(tmp_path, forget)).set_index("job_id")
    assert np.isnan(jobs.loc["merge", "run_s"])
    assert jobs.loc["merge", "outcome"] == "unknown"
    assert np.isnan(jobs.loc["split_1", ["cpus", "num_input_bytes"]].to_numpy(float)).all()


SPECIFICATION: Callable[[Any], Any] = lambda c: c["workflow"]["specification"]  # noqa: E731
DAMAGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "version": (lambda c: c.update(schemaVersion="2.0"), "schemaVersion is '2.0'; it must be one"),
    "never ran": (lambda c: c["workflow"].pop("execution"), "give an instance that ran"),
    "text as number": (
        lambda c: ran(c)[1].update(runtimeInSeconds="fast"),
        "task 'align_ID0000001', field runtimeInSeconds: 'fast' is not a number",
    ),
    "negative": (lambda c: ran(c)[0].update(coreCount=-1), "field coreCount: -1 is not a number"),
    "bad time": (lambda c: ran(c)[0].update(executedAt="soon"), "'soon' is not a time like"),
    "twice": (lambda c: ran(c)[1].update(id="merge"), "the id 'merge' is there twice"),
    "stranger": (lambda c: ran(c)[1].update(id="x"), "task 'x' is not in specification.tasks"),
    "no such parent": (
        lambda c: SPECIFICATION(c)["tasks"][3].update(parents=["nobody"]),
        "task 'merge', field parents: names 'nobody', which is no task",
    ),
    "cycle": (
        lambda c: SPECIFICATION(c)["tasks"][0].update(parents=["merge"]),
        "task 'split_1' waits for itself",
    ),
    "no tasks": (lambda c: SPECIFICATION(c).update(tasks=[]), "specification.tasks lists no task"),
    "tasks no list": (lambda c: SPECIFICATION(c).update(tasks={"a": 1}), "tasks is no list"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_named_in_one_sentence(what: str, tmp_path: Path) -> None:
    """The user could not find what to repair."""
    change, sentence = DAMAGE[what]
    found = refusal(changed(tmp_path, change))
    assert sentence in found
    assert found.startswith("changed.json")
    assert "\n" not in found


def test_what_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    """A list of a million brackets would overflow the stack."""
    path = tmp_path / "deep.json"
    path.write_text('{"workflow": ' + "[" * 200_000)
    assert "deep.json" in refusal(path)

"""``plancast compare``: two runs side by side, as a person and as a program reads them."""

from __future__ import annotations

import json

import pytest

from plancast.pipelines.cli import main
from tests.pipelines.conftest import SmallRun


def test_a_run_compared_with_itself_differs_in_nothing(
    small_run: SmallRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change would be shown where there is none, or the plans of both be left out."""
    monkeypatch.chdir(small_run.home)
    run_id = small_run.facts["ingest"]["mlflow_run"]
    with pytest.raises(SystemExit) as left:
        main(["compare", run_id[:12], "tiny", "--json"])
    assert left.value.code == 0
    facts = json.loads(capsys.readouterr().out)
    assert [run["run_id"] for run in facts["runs"]] == [run_id, run_id]
    assert {found["change"] for found in facts["metrics"].values()} == {0}
    with pytest.raises(SystemExit):
        main(["compare", run_id, "tiny"])
    text = capsys.readouterr().out
    assert "the same parameters" in text
    assert "model, once p50, whole" in text
    with pytest.raises(SystemExit) as left:
        main(["compare", "nobody", "tiny"])
    assert left.value.code == 2
    assert "there is no run nobody" in capsys.readouterr().err

"""``plancast advise --memory`` from the command to its report."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from plancast.pipelines.cli import main
from plancast.predictor.memory_baselines import METHODS
from tests.predictor.test_target import tasks


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A table of tasks with requested and measured memory."""
    path = tmp_path / "tasks.csv"
    tasks(240).to_csv(path, index=False)
    return path


def test_the_command_reports_and_advises(
    tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The keys that others read would be missing, or the amounts be of another task."""
    report, amounts = tmp_path / "m.json", tmp_path / "m.csv"
    with pytest.raises(SystemExit) as end:
        main(["advise", str(log), "--memory", "--json", str(report), "--csv", str(amounts)])
    assert end.value.code == 0
    assert "would fail at the advised amounts" in capsys.readouterr().out.replace("\n", " ")
    facts = json.loads(report.read_text())
    assert set(facts["memory"]) == {"user", "advised", *METHODS}
    for waste in facts["memory"].values():
        assert waste["waste_gib_h"] >= 0
        assert 0 <= waste["failures"] <= 1
    assert facts["memory"]["user"]["failures"] == 0
    assert facts["memory"]["advised"]["waste_gib_h"] < facts["memory"]["user"]["waste_gib_h"]
    groups = pd.read_csv(amounts).set_index("app")
    assert 200 <= groups.loc["small", "advised_mib"] < 3000
    assert 3000 <= groups.loc["large", "advised_mib"] <= 8000
    assert groups["tasks"].tolist() == [120, 120]


@pytest.mark.parametrize(
    ("left_out", "words"),
    [("mem_mib", "names no requested memory"), ("mem_peak_mib", "names no measured memory")],
)
def test_a_log_without_memory_is_told(
    log: Path, capsys: pytest.CaptureFixture[str], left_out: str, words: str
) -> None:
    """A log that cannot be advised on would end in a trace, or in advice from nothing."""
    pd.read_csv(log).drop(columns=left_out).to_csv(log, index=False)
    with pytest.raises(SystemExit) as end:
        main(["advise", str(log), "--memory"])
    assert end.value.code == 2
    assert words in capsys.readouterr().err.replace("\n", " ")

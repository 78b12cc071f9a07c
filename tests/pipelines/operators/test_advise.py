"""Advice on limits: what is counted, what is printed, and what a site's Slurm is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plancast.pipelines.cli import main
from plancast.pipelines.operators.advise import (
    _lua,
    advise,
    slurm_text,
    slurm_time,
    verdict,
    wait_min,
)
from plancast.pipelines.operators.months import months_of
from plancast.planner.instances.generate import generate_log, swf_text
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.replay import ReplayLog, replay

KEYS = {
    "log", "risk", "finishing_jobs", "cut_share", "cut_share_by_month", "curve",
    "excess_core_h", "replay", "verdict",
}  # fmt: skip
REPLAY_KEYS = {"dispatcher", "wait_mean_min", "advised_against_user", "lost_core_h"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated log of 1,500 jobs."""
    path = tmp_path_factory.mktemp("advise") / "log.swf"
    path.write_text(swf_text(generate_log(1500, 12, 64, 0)))
    return path


def run(*arguments: str | Path) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return int(end.value.code or 0)


def test_the_report_says_what_the_limits_did(log: Path) -> None:
    """Shares and hours would not be those of the limits that were advised."""
    advice = advise(log, risk=0.02)
    facts = advice.facts
    assert facts.keys() >= KEYS
    assert facts["replay"].keys() >= REPLAY_KEYS
    assert [p["risk"] for p in facts["curve"]] == [0.005, 0.01, 0.02, 0.05]
    at_risk = facts["curve"][2]
    assert at_risk["cut_share"] == facts["cut_share"] <= 0.03
    hours = facts["excess_core_h"]
    assert at_risk["excess_core_h"] == hours["advised"] < hours["user"]
    assert at_risk["best_rule"]["excess_core_h"] == hours["best_rule"] <= hours["user"]
    groups = advice.groups
    assert groups["jobs"].sum() == facts["jobs"]
    assert groups["cut"].sum() == round(facts["cut_share"] * facts["finishing_jobs"])
    freed = hours["user"] - hours["advised"] - facts["lost_core_h"]
    # What a cut job's request held beyond its run counts as freed, too.
    assert groups["saved_core_h"].sum() == pytest.approx(freed, rel=1e-9)
    assert (groups["limit_s"] <= groups["requested_s"]).all()
    assert [r["dispatcher"] for r in facts["replays"]] == ["easy", "easy-sjbf"]


def test_waits_are_those_of_the_last_start() -> None:
    """The lost run would count as waiting, or the first start as the only one."""
    log = ReplayLog(
        "toy", 1, np.array([0, 0]), np.array([100, 50]), np.ones(2), np.array([200, 60]),
        np.zeros(2),
    )  # fmt: skip
    found = replay(log, DISPATCHERS["easy"], limits=np.array([40, 60]))
    # Cut at 40, behind the other until 90; then it runs its 100 s.
    assert found.start_s.tolist() == [90, 40]
    assert found.end_s.tolist() == [190, 90]
    assert (60 * wait_min(found)).tolist() == [50.0, 40.0]


def test_the_command_writes_what_it_says(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that was asked for would be missing, or be another than the screen shows."""
    csv, out = tmp_path / "limits.csv", tmp_path / "advice.json"
    assert run("advise", log, "--risk", "0.02", "--dispatcher", "none",
               "--csv", csv, "--json", out) == 0  # fmt: skip
    text = capsys.readouterr().out
    facts = json.loads(out.read_text())
    assert facts["replay"] is None
    assert facts["verdict"] in " ".join(text.split())
    table = pd.read_csv(csv, keep_default_na=False)
    assert {"user", "requested_s", "cpus", "queue", "app", "limit_s", "chance"} <= set(table)


def test_slurm_gets_minutes_and_no_code(log: Path, tmp_path: Path) -> None:
    """A name from the log would run as Lua in the controller, or a limit be cut short."""
    lua = tmp_path / "limits.lua"
    assert run("advise", log, "--dispatcher", "none", "--format", "slurm", "-o", lua) == 0
    lines = lua.read_text().splitlines()
    assert any("--time=" in line for line in lines)
    assert any(line.startswith('  ["') and line.endswith(",") for line in lines)
    for line in lines:
        assert line.startswith(("--", "  [", "local ", "}", "return ")) or not line
    assert _lua('a"]=os.exit()\n\\é') == '"a\\034]=os.exit()\\010\\092\\195\\169"'
    assert slurm_time(59) == "00:01:00"
    assert slurm_time(90061) == "1-01:02:00"
    advice = advise(log, dispatchers=())
    hostile = advice.groups.head(1).assign(user="x\n os.exit()", limit_s=1.0)
    text = slurm_text(type(advice)(advice.facts, hostile))
    assert not any(line.lstrip().startswith("os.exit") for line in text.splitlines())


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        (["--risk", "0"], "--risk 0"),
        (["--risk", "0.9"], "--risk 0.9"),
        (["--worst", "1"], "--worst 1"),
        (["--dispatcher", "easypp"], "'easypp'"),
        (["--dispatcher", "none", "-o", "x.lua"], "--format slurm"),
    ],
)
def test_impossible_options_are_one_sentence(
    log: Path, options: list[str], needle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong option would be a traceback, or advice at a risk that was not asked for."""
    assert run("advise", log, *options) == 2
    said = capsys.readouterr().err.strip()
    assert needle in said
    assert "\n" not in said


def test_a_log_without_requests_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Limits would be advised where nobody asks for any."""
    path = tmp_path / "log.csv"
    path.write_text("submit_s,run_s,cpus,user\n0,5,1,a\n9,5,1,a\n")
    assert run("advise", path) == 2
    assert "names no requested times" in capsys.readouterr().err


def test_months_have_names() -> None:
    """A log that counts from 0 would be told of months of 1970."""
    assert months_of(np.array([0.0, 29 * 86400, 31 * 86400])).tolist() == [
        "month 01", "month 01", "month 02",
    ]  # fmt: skip
    assert months_of(np.array([843_400_000.0])).tolist() == ["1996-09"]


def test_the_verdict_says_when_nothing_is_won() -> None:
    """Limits that free nothing, or make others wait, would be praised."""
    waits = {"mean": 3.0, "lo": 1.0, "hi": 5.0}
    facts = {
        "risk": 0.01, "cut_share": 0.009, "promise_kept": False, "months_broken": ["1996-09"],
        "excess_core_h": {"user": 100.0, "advised": 95.0}, "lost_core_h": 5.0,
        "lowered_share": 0.1, "lowered_cut_share": 0.09,
        "replays": [{"dispatcher": "easy", "advised_against_user": waits,
                     "perfect_against_user": waits}],
    }  # fmt: skip
    said = verdict(facts)
    assert "broken in 1996-09" in said
    assert "Nothing is to be won" in said
    assert "do not lower limits" in said


def test_a_real_log(shared_data: Callable[[str], Path]) -> None:
    """On KTH-SP2 the promise would be broken, or a rule of thumb waste less."""
    facts = advise(shared_data("logs/KTH-SP2-1996-2.swf.gz"), dispatchers=("easy",)).facts
    assert facts["finishing_jobs"] == 28_006
    assert facts["promise_kept"]
    assert len(facts["cut_share_by_month"]) == 12
    hours = facts["excess_core_h"]
    assert hours["advised"] < hours["best_rule"] < hours["user"]
    assert facts["replay"]["advised_against_user"]["hi"] < 0

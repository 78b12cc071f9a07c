"""Task, cluster and policy files with anything anywhere: planned, or refused in one sentence."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from plancast.pipelines.cli import main
from tests.conftest import spans

FILES: dict[str, Any] = {
    "tasks.json": [
        {"id": "a", "cpus": 1, "mem_mib": 100, "requested_s": 60, "weight": 2, "owner": "u",
         "app": "x", "deadline_s": 500, "release_s": 5},
        {"id": "b", "cpus": 2, "requested_s": "10min", "after": "a", "requires": "ssd"},
        {"id": "c", "gpus": 1, "requested_s": 30, "shards": 2, "preemptible": True,
         "after": ["after:a+1"]},
        {"id": "d", "cpus": 0.5, "requested_s": 100, "res_lic": 1, "array_limit": 1,
         "singleton": True, "account": "q"},
        {"id": "m", "mode": "fast", "cpus": 4, "requested_s": 10},
        {"id": "m", "mode": "slow", "cpus": 1, "requested_s": 40},
    ],
    "cluster.yaml": {
        "now_s": 0,
        "workers": [
            {"id": "w0", "cpus": 4, "mem_mib": 4000, "labels": ["ssd"], "machine_class": "k",
             "idle_w": 10, "busy_w": 50, "boot_kwh": 0.1, "health": 0.9, "blocked": [[100, 200]]},
            {"id": "w", "count": 2, "cpus": 8, "gpus": 2, "devices": True,
             "resources": {"lic": 2}, "free_from_s": 10, "until_s": 5000},
        ],
        "running": [{"id": "r", "cpus": 1, "requested_s": 500, "workers": ["w0"], "start_s": -50}],
        "finished": [{"id": "f", "end_s": -10, "outcome": "completed"}],
        "energy": {"price_per_kwh": 0.3},
    },
    "policy.yaml": {
        "prices": {"makespan_h": 1, "late_h": 3, "wait_h": 0.5},
        "level": 0.8, "max_wait_s": 5000, "max_stretch": 90, "hard_deadlines": False,
    },
}  # fmt: skip
NASTY: list[Any] = [
    None, "", " ", -1, 0, 1, 3, 1e308, 1e-300, 2**31, 2**53 + 1, 2**63, 10**30, float("nan"),
    float("inf"), True, [], {}, [[]], [None], {"a": 1}, "x" * 5000, "9" * 400, "nan", "1h", "-1h",
    "1e400", "0x10", "\u202e", "\x1b[2J", "\x00", "a,b", "a|b", "a+", "a,a", "*", "[red]x[/red]",
    "../../etc", "2001-13-01", "99999d", 1e15, -1e15, [1, 2], ["a", "a"], 0.1, 1e-9,
    "a", "b", "c", "w0", "f", "r", "ssd",
]  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every mapping and list with each of its keys, at any depth."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def harmed(rng: np.random.Generator) -> dict[str, Any]:
    """The files with one to three things taken away or replaced."""
    files = copy.deepcopy(FILES)
    for _ in range(int(rng.integers(1, 4))):
        found = [place for content in files.values() for place in places(content)]
        content, key = found[int(rng.integers(len(found)))]
        if rng.random() < 0.15:
            del content[key]
        else:
            content[key] = copy.deepcopy(NASTY[int(rng.integers(len(NASTY)))])
    return files


def write(files: dict[str, Any], folder: Path) -> None:
    """Write them as they are named."""
    for name, content in files.items():
        as_text = json.dumps if name.endswith(".json") else yaml.safe_dump
        (folder / name).write_text(as_text(content), encoding="utf-8")


def call(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


@pytest.mark.parametrize("seeds", spans(range(60), range(3_000)))
def test_harmed_files_are_planned_or_refused_in_one_sentence(
    seeds: range,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who errs would get a traceback, a wall of text, a terminal gone wild, or no end at all."""
    monkeypatch.chdir(tmp_path)
    asked = ("--tasks", "tasks.json", "--cluster", "cluster.yaml", "--policy", "policy.yaml")
    codes = []
    for seed in seeds:
        write(harmed(np.random.default_rng(seed)), tmp_path)
        codes.append(call("plan", *asked, "--solver", "greedy", "-o", "plan.json"))
        _, text = capsys.readouterr()
        assert codes[-1] in (0, 2, 3), (seed, text)
        if codes[-1] == 2:
            assert text.startswith("plancast: "), seed
            assert (len(text) < 1_000) & text.rstrip("\n").isprintable(), (seed, text)
        elif codes[-1] == 0:
            assert call("validate", *asked, "plan.json") == 0, (seed, capsys.readouterr())
    assert min(codes.count(0), codes.count(2)) > len(codes) / 20


def test_names_reach_a_terminal_as_text_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever names a task could clear the screen of who plans it, or write what is not so."""
    monkeypatch.chdir(tmp_path)
    names = ["\x1b[2Ja", "\u202eb", "\x9bc", "d\ud800"]
    tasks = [{"id": name, "cpus": 1 + 9 * k % 2, "requested_s": 60} for k, name in enumerate(names)]
    write({"tasks.json": tasks, "cluster.yaml": {"workers": [{"id": "w", "cpus": 4}]}}, tmp_path)
    asked = ("plan", "tasks.json", "--cluster", "cluster.yaml", "--solver", "greedy")
    assert call(*asked, "-o", "plan.csv") == 0
    shown, said = capsys.readouterr()
    assert "[2Ja" in shown
    assert (shown + said).replace("\n", "").isprintable()

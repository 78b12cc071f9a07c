"""make bench-worth: pooled figures weigh logs alike, and the page is of the kept figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.worth import COSTS, KEPT, LOGS, PAGE, SEEDS, Kept, Target, page, pooled
from plancast.pipelines.worth.worth import verdict

AUTO = Target("auto against requests", "auto", "open_requested", -0.08)


def test_every_log_counts_alike() -> None:
    """The log whose hours cost most would decide the pooled figure alone."""
    costs = {
        "large": {"auto": [900.0, 900.0], "open_requested": [1000.0, 1000.0]},
        "small": {"auto": [0.7, 0.7], "open_requested": [1.0, 1.0]},
        "without requests": {"auto": [1.0], "best_rule": [9.0]},
    }
    found = pooled(AUTO, costs)
    assert found is not None
    assert found["logs"] == 2
    assert found["mean"] == pytest.approx(-0.2)
    assert (found["lo"], found["hi"]) == (pytest.approx(-0.2), pytest.approx(-0.2))
    assert pooled(AUTO, {"x": {"auto": [1.0]}}) is None


def test_batches_are_drawn_in_pairs() -> None:
    """An interval would be of how much batches differ, not of what the way wins."""
    costs = {"one": {"auto": [0.9, 90.0, 9.0], "open_requested": [1.0, 100.0, 10.0]}}
    found = pooled(AUTO, costs)
    assert found is not None
    assert found["hi"] - found["lo"] < 1e-9


def test_the_page_is_of_the_kept_figures() -> None:
    """The page would show other figures than were found, or one that was written by hand."""
    kept, costs, seeds = (json.loads(path.read_text()) for path in (KEPT, COSTS, SEEDS))
    shown = {name: kept[name] for name in LOGS if name in kept}
    assert page(shown, costs, seeds) == PAGE.read_text()
    for name, facts in kept.items():
        if facts["queues"]:
            assert {len(c) for c in costs[name].values()} == {facts["n"]}


def test_cells_outlive_an_interruption(tmp_path: Path) -> None:
    """A bench of an hour would begin anew."""
    cells = Kept(tmp_path / "a.jsonl")
    cells["batch 0"] = {"auto": 1.5}
    cells["batch 0"] = {"auto": 2.5}
    assert dict(Kept(tmp_path / "a.jsonl")) == {"batch 0": {"auto": 2.5}}


def test_the_sentences_are_those_of_the_figures() -> None:
    """The page would go on with sentences that `plancast worth` no longer says."""
    kept = json.loads(KEPT.read_text())
    assert {name: f["verdict"] for name, f in kept.items() if f["queues"]} == {
        name: verdict(f) for name, f in kept.items() if f["queues"]
    }

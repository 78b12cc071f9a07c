"""A master that stays, for a month: it takes up all that comes, in no more and more memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.month import FLAT, MEMORY_GB, Month, options


def month(folder: Path, *arguments: str) -> dict[str, Any]:
    """A run of the benchmark."""
    return Month(options([*arguments]), folder).run()


@pytest.mark.slow
def test_a_short_month_ends_with_all_that_came(tmp_path: Path) -> None:
    """The benchmark could measure a master that does nothing."""
    found = month(
        tmp_path, "--tasks", "120", "--workers", "6", "--days", "0.1", "--load", "4", "--look",
        "300", "--steps", "20", "--window", "20", "--account",
    )  # fmt: skip
    assert found["ended"] == {"completed": 120}
    assert found["most_waiting"] > 10
    assert sum(found["promises"]) == 120
    assert (found["refused_plans"], found["planners_lost"]) == (0, 0)
    assert found["realised_cost"] > 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_month_of_a_hundred_thousand_tasks(tmp_path: Path) -> None:
    """A queue of thousands could be taken up ever more slowly, or fill the memory in a month."""
    found = month(tmp_path, "--look", "900")
    assert sum(found["ended"].values()) == 100_000
    assert found["most_waiting"] <= 5_000
    assert found["planners_lost"] == 0
    assert found["most_memory_gb"] <= MEMORY_GB
    assert found["memory_growth"] <= FLAT
    print(found["latency_s"], found["look_cpu_s"])

"""Cluster files are read as they are meant: their own example plans are the test vectors."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from plancast.planner.instances.cluster import read_cluster
from plancast.planner.model.domain import HOUR_S, WATT_SECONDS_PER_KWH, BadRequest
from plancast.planner.model.evaluate import evaluate
from tests.conftest import cases

SIZES = ("50x10", "200x20", "1000x50", "5000x200", "10000x1000")


@pytest.mark.parametrize("seed", cases(1, 3))
@pytest.mark.parametrize("size", SIZES)
def test_the_example_is_priced_to_its_stated_terms(
    size: str, seed: int, shared_data: Callable[[str], Path]
) -> None:
    """Every figure on these files would be a figure of some other problem.

    The files were priced with rounded coefficients: hence the tolerance.
    """
    instance = read_cluster(shared_data(f"benchmarks/cluster/cluster-{size}-{seed}.json.gz"))
    found = evaluate(instance.request, instance.example)
    assert found.valid, found.violations[:3]
    prices, said = instance.request.policy.prices, instance.example_terms
    power_w = sum(w.idle_w for w in instance.request.snapshot.workers)
    assert found.terms["makespan_h"] * HOUR_S == pytest.approx(said["makespan_s"])
    assert found.terms["late_h"] * prices.late_h == pytest.approx(
        said["tardiness_part"], rel=2e-4, abs=1e-3
    )
    on_time = found.terms["kwh"] * WATT_SECONDS_PER_KWH / power_w
    assert on_time == pytest.approx(said["on_time_part"], rel=2e-4, abs=1e-3)
    assert found.cost == pytest.approx(said["cost"], rel=2e-4, abs=1e-3)
    assert instance.lower_bound <= instance.best_known <= instance.reference_10s


def small() -> dict[str, object]:
    """The smallest file there can be."""
    return {
        "name": "small", "lower_bound": 1, "greedy_lp": 1, "reference_10s": 1, "best_known": 1,
        "workers": [{"id": "w", "cpu": 1, "mem_gib": 1, "power_w": 5.0}],
        "tasks": [{"id": "t", "duration_s": 3, "cpu": 1, "mem_gib": 1}],
        "example": {
            "start_s": [0], "worker": [0], "makespan_s": 3, "tardiness_part": 0,
            "on_time_part": 3, "cost": 6,
        },
    }  # fmt: skip


def test_a_plain_file_without_deadlines_is_read(tmp_path: Path) -> None:
    """A batch without deadlines would divide by no weight."""
    path = tmp_path / "small.json"
    path.write_text(json.dumps(small()))
    instance = read_cluster(path)
    assert evaluate(instance.request, instance.example).cost == pytest.approx(6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"workers": []}, "no workers"),
        ({"tasks": [{"id": "t", "cpu": 1, "mem_gib": 1}]}, "tasks.0.duration_s"),
        (
            {"tasks": [{"id": "t", "duration_s": 0, "cpu": 1, "mem_gib": 1}]},
            "at least 1",
        ),
        ({"example": {**small()["example"], "worker": [1]}}, "beyond the list"),  # type: ignore[dict-item]
        ({"example": {**small()["example"], "start_s": []}}, "one start"),  # type: ignore[dict-item]
    ],
)
def test_a_broken_file_is_refused_in_a_sentence(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    """A reader would fail with a traceback, or plan something the file does not say."""
    path = tmp_path / "broken.json.gz"
    path.write_bytes(gzip.compress(json.dumps({**small(), **change}).encode()))
    with pytest.raises(BadRequest, match=sentence) as found:
        read_cluster(path)
    assert str(path) in str(found.value)


@pytest.mark.parametrize("content", [None, b"not gzip", b"\x1f\x8b\x08\x00broken"])
def test_an_unreadable_file_is_refused_in_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    """A missing or truncated file would end in a traceback."""
    path = tmp_path / "gone.json.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadRequest, match=r"gone\.json\.gz: cannot be read"):
        read_cluster(path)

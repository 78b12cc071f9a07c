"""The energy of a cluster file: rates by the hour, a cap on power."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from plancast.pipelines.inputs.requests import request_from_files
from plancast.pipelines.inputs.user_files import read_cluster, write_batch, write_cluster
from plancast.planner.model.counted import POWER, units_in_words
from plancast.planner.model.domain import BadRequest, Hourly, Plan
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.model.spans import spans_of
from plancast.planner.planning.plan import plan

WORKERS = "workers:\n  - {id: n, count: 2, cpus: 4, idle_w: 100, busy_w: 200}\n"


def cluster(folder: Path, text: str) -> Path:
    """A cluster file of two workers and a text below them."""
    path = folder / "cluster.yaml"
    path.write_text(WORKERS + text, encoding="utf-8")
    return path


def test_rates_by_the_hour(tmp_path: Path) -> None:
    """YAML reads 17:00 as a number and 06:00 as a text; either could be another hour."""
    path = cluster(
        tmp_path,
        "  - {id: own, cpus: 1, price_per_kwh: 0.5, carbon_kg_per_kwh: {0: 0.1, 7: 0.3}}\n"
        "energy:\n"
        '  price_per_kwh: {00:00: 0.1, 06:30: 0.2, 17:00: 0.4, utc_offset: "+01:30"}\n'
        "  carbon_kg_per_kwh: 0.7\n",
    )
    first, second, own = read_cluster(path).workers
    hours = Hourly((0, 23_400, 61_200), (0.1, 0.2, 0.4), 5400)
    assert (first.price_per_kwh, first.carbon_kg_per_kwh) == (hours, 0.7)
    assert second.price_per_kwh == hours
    assert (own.price_per_kwh, own.carbon_kg_per_kwh) == (0.5, Hourly((0, 25_200), (0.1, 0.3)))


def test_a_cluster_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Rates and the cap could be lost, or an offset change its sign."""
    text = (
        "energy:\n  price_per_kwh: {00:00: 0.1, 17:00: 0.4, utc_offset: -03:30}\n"
        "  power_cap_w: 450.5\nresources: {matlab: 2}\n"
    )
    found = read_cluster(cluster(tmp_path, text))
    assert [(c.id, c.amount) for c in found.counted] == [("matlab", 2), (POWER, 250)]
    again = tmp_path / "again.yaml"
    write_cluster(found, again)
    assert read_cluster(again) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "energy: {price_per_kwh: -0.1}",
            "energy.price_per_kwh: -0.1 is negative; write 0 or more",
        ),
        ("energy: {price_per_kwh: {00:00: 0.1, 06:00: -2}}", "price_per_kwh: -2 is negative"),
        ("energy: {price_per_kwh: {06:00: 0.1}}", "must hold from midnight (00:00) on"),
        ("energy: {price_per_kwh: {00:00: 0.1, noon: 2}}", "'noon' is no time of the day"),
        ("energy: {price_per_kwh: {00:00: 0.1, 25:00: 2}}", "is no time of the day"),
        ("energy: {price_per_kwh: {00:00: 0.1, 30: 2}}", "30 is no time of the day"),
        ("energy: {price_per_kwh: {00:00: 0.1, 0: 2}}", "names a time of the day twice"),
        ("energy: {price_per_kwh: {00:00: 0.1, utc_offset: CET}}", "write it as +01:00"),
        ("energy: {price_per_kwh: cheap}", "energy.price_per_kwh: 'cheap' is not a finite number"),
        ("energy: {power_cap: 5}", "energy.power_cap: is no field here"),
        ("energy: {power_cap_w: 150}", "150 W is less than the 200 W that the workers draw idle"),
        ("resources: {power W: 5}", "resources.power W: is what energy.power_cap_w is counted as"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    """A wrong hour would be planned with, or the sentence not say where it stands."""
    path = cluster(tmp_path, text + "\n")
    with pytest.raises(BadRequest) as caught:
        read_cluster(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(path))


def capped(folder: Path) -> PlanRequest:
    """Tasks under a cap of 480 W: 280 above what both workers draw idle."""
    text = (
        "energy: {power_cap_w: 480}\nnow_s: 0\nrunning:\n"
        "  - {id: r, cpus: 1, workers: [n-0], start_s: -10, requested_s: 100}\n"
    )
    tasks = folder / "tasks.csv"
    rows = ["id,cpus,shards,requested_s", "a,4,1,50", "b,2,2,40", "c,1,1,30", "d,3,1,60"]
    tasks.write_text("\n".join(rows) + "\n", encoding="utf-8")
    request = request_from_files(tasks, cluster(folder, text))
    return replace(request, budget=Budget(None, 2000))


def most_watts(request: PlanRequest, made: Plan) -> float:
    """What all workers draw in the second in which they draw most."""
    spans = list(spans_of(request, made))
    idle_w = sum(worker.idle_w for worker in request.snapshot.workers)

    def at(second: int) -> float:
        return idle_w + sum(
            worker.busy_w * share
            for span in spans
            if span.start_s <= second < span.end_s
            for worker, share in zip(span.workers, span.shares, strict=True)
        )

    return max(at(span.start_s) for span in spans)


@pytest.mark.parametrize("solver", ["auto", "greedy", "lns", "cpsat"])
def test_the_cap_holds_at_every_second(tmp_path: Path, solver: str) -> None:
    """The cluster would draw more than its fuse holds."""
    request = capped(tmp_path)
    taken = {t.id: t.counted[POWER] for t in request.snapshot.pending}
    assert taken == {"a": 200, "b": 200, "c": 50, "d": 150}
    assert request.snapshot.running[0].task.counted == {POWER: 50}
    response = plan(request, solver)
    assert response.plan is not None
    assert not response.unplanned
    assert evaluate(request, response.plan).valid
    assert most_watts(request, response.plan) <= 480
    waits = [text for text in response.why.values() if "W of power" in text]
    assert waits


def test_a_task_counts_as_on_the_hungriest_worker_that_it_may_use(tmp_path: Path) -> None:
    """On that worker the cap would be broken; one that it may not use would be counted."""
    text = "  - {id: hungry, cpus: 3, busy_w: 1000, labels: [big]}\nenergy: {power_cap_w: 1000}\n"
    tasks = tmp_path / "tasks.csv"
    tasks.write_text("id,cpus,requires,requested_s\na,1,,9\nb,1,!big,9\nc,4,,9\n", encoding="utf-8")
    request = request_from_files(tasks, cluster(tmp_path, text + "now_s: 0\n"))
    taken = {t.id: t.counted[POWER] for t in request.snapshot.pending}
    assert taken == {"a": math.ceil(1000 / 3), "b": 50, "c": 200}
    write_batch(request, tmp_path / "again")
    again = request_from_files(
        tmp_path / "again" / "tasks.csv", tmp_path / "again" / "cluster.yaml"
    )
    assert again.snapshot.pending == request.snapshot.pending


def test_watts_in_words() -> None:
    """``why`` would tell of licences for power."""
    assert units_in_words(POWER, 155) == "155 W of power"

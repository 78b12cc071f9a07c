"""planner.planning.plot: the picture shows what is in the plan, and says what it leaves out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import pytest

from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    Assignment,
    DurationEstimate,
    Mode,
    Plan,
    Running,
    Snapshot,
    Task,
    Window,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest
from plancast.planner.planning.plot import (
    PALETTE,
    Bar,
    _ticks,
    gantt_svg,
    lanes_of,
    span,
)
from tests.oracles.random_requests import random_request

SVG = "{http://www.w3.org/2000/svg}"


def example() -> tuple[PlanRequest, Plan]:
    """Three tasks on two workers, one late, one running, one window blocked."""
    cpu = {"cpu": 2000}
    request = PlanRequest(
        "tiny",
        Snapshot(
            version=1,
            now_s=100,
            workers=(
                Worker("W1", {"cpu": 4000}, blocked=(Window(107, 109),)),
                Worker("W2", {"cpu": 8000}, until_s=112),
            ),
            pending=(
                Task("T1", cpu, owner="ann"),
                Task("T2", cpu, owner="bob", deadline_s=105),
                Task("<T&3>", cpu, owner="<eve & co>", shards=2, deadline_s=120),
            ),
            running=(Running(Task("R0", cpu, owner="ann"), ("W1",), 98),),
        ),
        {name: {"*": DurationEstimate.certain(6)} for name in ("T1", "T2", "<T&3>", "R0")},
    )
    plan = Plan(
        (
            Assignment("T1", ("W1",), 100, 106),
            Assignment("T2", ("W2",), 100, 106),
            Assignment("<T&3>", ("W2", "W2"), 106, 112),
        ),
        made_at_s=100,
        snapshot_version=1,
    )
    return request, plan


def tooltips(svg: str) -> list[str]:
    """Texts of the tooltips of an SVG that is well formed."""
    return [t.text or "" for t in ET.fromstring(svg).iter(f"{SVG}title")]


def test_the_example_plan_is_valid() -> None:
    """Would fail if the pictures below showed a plan that no solver would make."""
    assert evaluate(*example()).violations == ()


def test_svg_shows_every_task_and_mark() -> None:
    """Would fail if a task, a late outline, a hatch or a grey window were missing."""
    svg = gantt_svg(*example())
    tips = "\n".join(tooltips(svg))
    for name in ("T1 on W1", "T2 on W2", "<T&3> on W2, 2 shards", "R0 on W1"):
        assert name in tips
    assert "late by 1 s" in tips
    assert "8 s to spare" in tips
    assert "W1 is blocked" in tips
    root = ET.fromstring(svg)
    kinds = [e.get("class") for e in root.iter()]
    assert kinds.count("late") == 2  # the bar and the legend
    assert kinds.count("due missed") == 1
    assert kinds.count("now") == 1
    hatched = [e for e in root.iter(f"{SVG}rect") if e.get("fill") == "url(#hatch)"]
    assert len(hatched) == 2


def test_text_is_escaped() -> None:
    """Would fail if a task's name could break the image or run a script."""
    request, plan = example()
    svg = gantt_svg(request, plan, title="<script>alert(1)</script>")
    assert "<script" not in svg
    assert "<eve" not in svg
    ET.fromstring(svg)


def test_bars_lie_where_their_times_are() -> None:
    """Would fail if the picture's scale were off: equal times must have equal widths."""
    root = ET.fromstring(gantt_svg(*example()))
    place = {}
    for group in root.iter(f"{SVG}g"):
        title, rect = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if title is not None and rect is not None:
            name = str(title.text).split(" on ")[0]
            place[name] = (float(rect.get("x", 0)), float(rect.get("width", 0)))
    assert place["T1"] == place["T2"]
    assert place["<T&3>"][1] == pytest.approx(place["T1"][1], abs=0.2)
    assert place["<T&3>"][0] - place["T2"][0] == pytest.approx(place["T2"][1] + 0.6, abs=0.2)
    assert place["R0"][0] < place["T1"][0]


def test_lanes_never_overlap() -> None:
    """Would fail if two tasks that run side by side were drawn over each other."""
    bars = [
        Bar(Task(f"t{i}", {}), start, start + length, False, 1)
        for i, (start, length) in enumerate((s, n) for s in range(12) for n in (1, 3, 7))
    ]
    placed = lanes_of(bars)
    assert len(placed) == len(bars)
    by_lane: dict[int, list[Bar]] = {}
    for bar, lane in placed:
        by_lane.setdefault(lane, []).append(bar)
    for row in by_lane.values():
        for before, after in pairwise(row):
            assert before.end_s <= after.start_s
    most_at_once = max(sum(b.start_s <= t < b.end_s for b in bars) for t in range(20))
    assert len(by_lane) == most_at_once


def batch_plan(tasks: int, workers: int) -> tuple[PlanRequest, Plan]:
    """A large batch put on its workers in turn: not valid, but large."""
    request = generate_batch(tasks, generate_cluster(workers), now_s=1_764_000_000)
    names = [w.id for w in request.snapshot.workers]
    start_s = request.snapshot.now_s
    return request, Plan(
        tuple(
            Assignment(t.id, (names[i % workers],), start_s + i, start_s + i + 50 + i % 97)
            for i, t in enumerate(request.snapshot.pending)
        ),
        made_at_s=start_s,
    )


def test_what_is_left_out_is_said() -> None:
    """Would fail if a large plan were cut in silence, or grew beyond what a browser takes."""
    request, plan = batch_plan(3000, 120)
    svg = gantt_svg(request, plan, max_bars=800)
    assert "showing 60 of 120 workers, the busiest" in svg
    said = re.search(r"showing (\d+) of their (\d+) bars, the longest", svg)
    assert said is not None
    bars = sum(" on w" in tip for tip in tooltips(svg))
    assert bars == int(said[1]) <= 800
    assert int(said[2]) == 1500
    small = gantt_svg(*batch_plan(100, 20))
    assert "showing" not in small


def test_the_busiest_workers_are_shown() -> None:
    """Would fail if a cut picture showed idle workers in place of the busy ones."""
    request, _ = batch_plan(10, 100)
    start_s = request.snapshot.now_s
    plan = Plan((Assignment("t0", ("w93",), start_s, start_s + 50),), made_at_s=start_s)
    assert "t0 on w93" in "\n".join(tooltips(gantt_svg(request, plan, max_rows=5)))


def test_unknown_names_are_counted_not_drawn() -> None:
    """Would fail if a damaged plan could not be looked at."""
    request, plan = example()
    stray = (Assignment("ghost", ("W1",), 100, 101), Assignment("T1", ("W9",), 100, 106))
    svg = gantt_svg(request, replace(plan, assignments=stray))
    assert "2 assignments of unknown tasks or workers left out" in svg


def test_colours_stand_for_what_was_asked() -> None:
    """Would fail if colours did not follow the owner, or ran out with many owners."""
    request, plan = batch_plan(200, 10)
    svg = gantt_svg(request, plan, colour_by="machine_class")
    classes = {w.machine_class for w in request.snapshot.workers}
    assert all(f">{name}</text>" in svg for name in classes)
    many = replace(
        request,
        snapshot=replace(
            request.snapshot,
            pending=tuple(
                replace(t, owner=f"o{i}") for i, t in enumerate(request.snapshot.pending)
            ),
        ),
    )
    assert f"{200 - len(PALETTE)} others" in gantt_svg(many, plan)


@pytest.mark.parametrize("seed", range(30))
def test_any_request_can_be_drawn(seed: int) -> None:
    """Would fail if drains, gangs, windows or an empty plan broke the picture."""
    request = random_request(seed)
    for plan in (Plan(()), request.incumbent or Plan(())):
        ET.fromstring(gantt_svg(request, plan))


@pytest.mark.parametrize("length_s", [1, 7, 59, 61, 600, 3599, 7200, 86_400, 10**6, 10**8, 10**9])
def test_ticks_are_round_and_few(length_s: int) -> None:
    """Would fail if an axis had no tick, or so many that they overlap."""
    unit, unit_s, step = _ticks(0, length_s)
    assert unit in ("s", "min", "h", "d")
    assert 1 <= length_s / (unit_s * step) <= 12
    assert str(step).strip("0") in ("1", "2", "3", "5", "6", "12", "15", "25")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (90, "90 s"), (150, "2.5 min"), (7200, "2 h"), (200_000, "2.31 d"), (-5, "-5 s")],
)
def test_spans_are_readable(seconds: int, text: str) -> None:
    """Would fail if a tooltip spoke of 86400 s, or lost a sign."""
    assert span(seconds) == text


def test_a_bar_tells_the_mode_and_what_it_takes() -> None:
    """A task with modes would be drawn as if it took nothing."""
    modes = (Mode("small", {"cpu": 1000}), Mode("large", {"cpu": 4000}))
    worker, task = Worker("w", {"cpu": 4000}), Task("t", {}, modes=modes)
    estimates = {"t": {m.id: {"*": DurationEstimate.certain(60)} for m in modes}}
    request = PlanRequest("r", Snapshot(0, 0, (worker,), (task,)), estimates)
    plan = Plan((Assignment("t", ("w",), 0, 60, "large"),))
    text = gantt_svg(request, plan)
    assert "t on w in mode large" in text
    assert "cpu 4000" in text

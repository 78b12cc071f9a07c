"""plancast.pipelines.charts.gantt: pages and images of plans, opened as people open them."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.charts.bars import Bar, lanes_of
from plancast.pipelines.charts.gantt import (
    MOST_LETTERS,
    gantt_chart,
    gantt_html,
    gantt_svg,
    short_names,
    write_gantt,
)
from plancast.pipelines.charts.theme import COLOURS
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    TERMS,
    Assignment,
    BadRequest,
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
from plancast.planner.model.explain import span
from plancast.planner.model.messages import PlanRequest
from tests.oracles.random_requests import random_request
from tests.pipelines.charts.opened import Opened


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


def test_the_example_plan_is_valid() -> None:
    """The pictures below would show a plan that no solver makes."""
    assert evaluate(*example()).violations == ()


def chained() -> tuple[PlanRequest, Plan, Plan]:
    """The example's plan, T3 after T1, and what ran of it: T1 a second late."""
    request, plan = example()
    pending = request.snapshot.pending
    waits = replace(pending[2], after=("T1",))
    snapshot = replace(request.snapshot, pending=(*pending[:2], waits))
    ran = tuple(replace(a, end_s=a.end_s + 1) if a.task == "T1" else a for a in plan.assignments)
    return replace(request, snapshot=snapshot), plan, replace(plan, assignments=ran)


def rows_of(request: PlanRequest, *plans: Plan) -> dict[str, list[dict[str, Any]]]:
    """The chart's data by name."""
    found: dict[str, list[dict[str, Any]]] = gantt_chart(request, *plans).spec["datasets"]
    return found


def test_every_piece_stands_where_the_plan_has_it() -> None:
    """A bar would lie at another time, or not lead to what it waits for."""
    request, plan, ran = chained()
    found = rows_of(request, plan, ran)
    now_s, seconds = request.snapshot.now_s, {"planned": plan, "executed": ran}
    for name, one in seconds.items():
        bars = {row["task"]: row for row in found["bars"] if row["version"] == name}
        for a in one.assignments:
            assert (bars[a.task]["x"], bars[a.task]["x2"]) == (a.start_s - now_s, a.end_s - now_s)
    late = {row["task"]: row["lateness"] for row in found["bars"] if row["late"]}
    assert late == {"T2": "late by 1 s"}
    edges = {(row["from"], row["to"], row["version"], row["x"]) for row in found["edges"]}
    assert edges == {("T1", "<T&3>", "planned", 6), ("T1", "<T&3>", "executed", 7)}
    closed = [row for row in found["bands"] if row.get("closed")]
    assert [(row["x"], row["x2"], row["about"]) for row in closed] == [(7, 9, "W1 is blocked")]
    # 12 processors: T1, T2 and R0 take two each, T3 two pieces of two.
    load = {row["x"]: row["share"] for row in found["load"] if row["version"] == "planned"}
    assert load == {0: 0.5, 4: 0.3333, 6: 0.3333, 12: 0.0}


def test_lanes_never_overlap() -> None:
    """Two tasks that run side by side would be drawn over each other."""
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


def notes_of(request: PlanRequest, plan: Plan, **limits: int) -> list[str]:
    """What the chart says it leaves out."""
    found: list[str] = gantt_chart(request, plan, **limits).spec["usermeta"]["notes"]
    return found


def texts(svg: str) -> list[str]:
    """Texts of an SVG that is well formed."""
    tag = "{http://www.w3.org/2000/svg}text"
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter(tag)]


def test_what_is_left_out_is_said() -> None:
    """A large plan would be cut in silence, or grow beyond what a browser takes."""
    request, plan = batch_plan(3000, 120)
    first, second = notes_of(request, plan, most_workers=60, most_bars=800)
    assert first == "showing 60 of 120 workers, the busiest"
    said = re.fullmatch(r"showing (\d+) of their (\d+) bars, the longest", second)
    assert said is not None
    bars = gantt_chart(request, plan, most_workers=60, most_bars=800).spec["datasets"]["bars"]
    assert len(bars) == int(said[1]) <= 800
    assert int(said[2]) == 1500
    assert "showing 80 of 120 workers" in gantt_html(request, plan)
    assert notes_of(*batch_plan(100, 20)) == []


def test_the_busiest_workers_are_shown() -> None:
    """A cut picture would show idle workers in place of the busy ones."""
    request, _ = batch_plan(10, 100)
    start_s = request.snapshot.now_s
    plan = Plan((Assignment("t0", ("w93",), start_s, start_s + 50),), made_at_s=start_s)
    bars = gantt_chart(request, plan, most_workers=5).spec["datasets"]["bars"]
    assert ("t0", "w93") in {(bar["task"], bar["worker"]) for bar in bars}


def test_unknown_names_are_counted_not_drawn() -> None:
    """A damaged plan could not be looked at."""
    request, plan = example()
    stray = (Assignment("ghost", ("W1",), 100, 101), Assignment("T1", ("W9",), 100, 106))
    (note,) = notes_of(request, replace(plan, assignments=stray))
    assert note == "2 assignments of unknown tasks or workers left out"


def test_colours_stand_for_what_was_asked() -> None:
    """Colours would not follow the owner, or run out with many owners."""
    request, plan = batch_plan(200, 10)

    def groups(of: PlanRequest, by: str) -> set[str]:
        bars = gantt_chart(of, plan, colour_by=by).spec["datasets"]["bars"]
        return {bar["group"] for bar in bars}

    classes = {w.machine_class for w in request.snapshot.workers}
    assert groups(request, "machine_class") == classes
    owned = tuple(replace(t, owner=f"o{k}") for k, t in enumerate(request.snapshot.pending))
    many = replace(request, snapshot=replace(request.snapshot, pending=owned))
    assert len(groups(many, "owner")) == len(COLOURS)
    assert f"{200 - len(COLOURS) + 1} others" in groups(many, "owner")


def test_a_bar_tells_the_mode_and_what_it_takes() -> None:
    """A task with modes would be drawn as if it took nothing."""
    modes = (Mode("small", {"cpu": 1000}), Mode("large", {"cpu": 4000}))
    worker, task = Worker("w", {"cpu": 4000}), Task("t", {}, modes=modes)
    estimates = {"t": {m.id: {"*": DurationEstimate.certain(60)} for m in modes}}
    request = PlanRequest("r", Snapshot(0, 0, (worker,), (task,)), estimates)
    (bar,) = rows_of(request, Plan((Assignment("t", ("w",), 0, 60, "large"),)))["bars"]
    assert bar["takes"] == "4 cores, in mode large"


@pytest.mark.slow
def test_an_image_is_the_same_each_time_and_shares_no_names() -> None:
    """Two images on a page would be cut to each other's frames, or a file change with no reason."""
    once, again, other = (gantt_svg(*batch_plan(tasks, 3)) for tasks in (9, 9, 10))
    assert once == again
    names = [set(re.findall(r'id="([^"]+)"', svg)) for svg in (once, other)]
    assert names[0]
    assert names[0].isdisjoint(names[1])
    assert set(re.findall(r"url\(#([^)]+)\)", once)) <= names[0]


def test_an_image_says_what_it_shows() -> None:
    """A picture in a report would not say of what it is, or what its marks mean."""
    request, plan, _ = chained()
    said = texts(gantt_svg(request, plan, title="<script>alert(1)</script>"))
    assert "<script>alert(1)</script>" in said
    assert {"W1", "W2", "T1", "T2", "<T&3> x2", "<eve & co>", "cpu"} <= set(said)
    about = " ".join(said)
    marks = ("pale: runs already", "triangles: deadlines", "red: later than its deadline",
             "lines: waits for", "grey: not available")  # fmt: skip
    for words in ("4 tasks on 2 workers", "1 late", *marks):
        assert words in about
    stray = Plan((Assignment("ghost", ("W1",), 100, 101),), made_at_s=100)
    assert "1 assignment of unknown" in " ".join(texts(gantt_svg(request, stray)))


@pytest.mark.parametrize("seed", range(4))
def test_any_request_can_be_drawn(seed: int) -> None:
    """Drains, gangs, windows or an empty plan would break the chart."""
    request = random_request(seed)
    for plan in (Plan(()), request.incumbent or Plan(())):
        for row in rows_of(request, plan)["bars"]:
            assert row["x"] < row["x2"]
            assert row["y"] < row["y2"]


def test_the_page_prices_every_term() -> None:
    """Its table would say another cost than the evaluator."""
    request, plan = example()
    page = gantt_html(request, plan)
    for term in TERMS:
        assert f"<td>{term}</td>" in page
    assert f"<td>{evaluate(request, plan).cost:,.6g}</td>" in page
    assert "Remarks" not in page


def test_long_names_of_workers_stay_apart() -> None:
    """Every row of a cluster would be called "worker-with-…"."""
    for names, short in (
        (["n1", "n2"], ["n1", "n2"]),
        ([f"node-{k}.cluster.example.org" for k in (1, 22)], ["node-1", "node-22"]),
        ([f"gpu-rack-of-the-west-{k}" for k in (1, 22)], ["gpu-ra…west-1", "gpu-ra…est-22"]),
        ([f"{k}-of-the-western-rack" for k in "ab"], ["a-of-the-wes…", "b-of-the-wes…"]),
        ([f"rack-of-the-west-{k}-in-the-room" for k in "ab"], ["…a-in-the-roo", "…b-in-the-roo"]),
        (["a.example.org"] * 1 + [".example.org.example.org"], None),
        (["one.very.long.example.org"], ["one"]),
        ([], []),
    ):
        found = short_names(names)
        assert short is None or found == short
        assert all(0 < len(name) <= MOST_LETTERS for name in found)
        assert len(set(found)) == len(names)


def test_a_plan_of_nothing_has_no_empty_chart() -> None:
    """A page with axes of one second, wider than any screen, would be all that is seen."""
    request, plan = example()
    bare = replace(request, snapshot=replace(request.snapshot, running=()))
    page = gantt_html(bare, replace(plan, assignments=()))
    assert "Nothing to draw" in page
    assert 'id="gantt"' not in page
    assert "left out: " in page


def test_the_page_says_what_is_wrong() -> None:
    """An invalid or partial plan would look like a good one."""
    request, plan = example()
    page = gantt_html(request, replace(plan, assignments=plan.assignments[:1], made_at_s=99))
    assert "left out: T2, &lt;T&amp;3&gt;" in page
    assert "the plan was made for version" in page


def test_names_are_text_and_no_markup() -> None:
    """A task's name could run a script on the page that the operator opens."""
    request, plan = example()
    page = gantt_html(request, plan, title="</script><script>alert(1)</script>")
    assert "<script>alert" not in page
    assert "<eve" not in page
    data = re.search(r"const CHARTS = (\{.*?\}), THEMES", page)
    assert data is not None
    assert "<eve & co>" in {
        row["group"] for row in json.loads(data[1])["gantt"]["datasets"]["bars"]
    }


@pytest.mark.slow
def test_the_ending_says_the_form(tmp_path: Path) -> None:
    """A picture would be a page under another name, or a wrong ending leave a file."""
    request, plan = example()
    heads = {"plan.html": b"<!doctype html>", "plan.svg": b"<svg", "PLAN.PNG": b"\x89PNG"}
    for name, head in heads.items():
        assert write_gantt(request, plan, tmp_path / name).read_bytes().startswith(head)
    with pytest.raises(BadRequest, match=r"plan\.pdf: a Gantt chart ends in \.html, \.svg, \.png"):
        write_gantt(request, plan, tmp_path / "plan.pdf")
    assert {path.name for path in tmp_path.iterdir()} == set(heads)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (90, "90 s"), (150, "2.5 min"), (7200, "2 h"), (200_000, "2.31 d"), (-5, "-5 s")],
)
def test_spans_are_readable(seconds: int, text: str) -> None:
    """A tooltip would speak of 86400 s, or lose a sign."""
    assert span(seconds) == text


def test_people_search_switch_and_zoom(opened: Opened, tmp_path: Path) -> None:
    """The chart would be drawn, and answer to nothing."""
    request, plan, ran = chained()
    page = opened(write_gantt(request, plan, tmp_path / "plan.html", executed=ran), 1400)

    def ends() -> list[float]:
        """Right edge of each bar that is drawn, pixels."""
        boxes = [one.bounding_box() for one in page.locator(".bars_0_marks path").all()]
        return [round(box["x"] + box["width"]) for box in boxes if box]

    planned = ends()
    assert len(planned) == 4
    page.get_by_role("radio", name="executed").click()
    assert len(ends()) == len(planned)
    assert ends() != planned
    page.get_by_role("searchbox").fill("bob")
    dim = page.locator(".bars_0_marks path[fill-opacity='0.12']")
    assert dim.count() == len(planned) - 1
    box = page.locator(".load_marks path").last.bounding_box()
    assert box is not None
    wide = max(ends())
    page.mouse.move(box["x"] + 5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 25, steps=3)
    page.mouse.up()
    assert max(ends()) > wide + 100
    assert opened.faults == []

"""plancast.pipelines.charts.gantt: pages and images of plans, opened as people open them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.charts.gantt import gantt_chart, gantt_html, write_gantt
from plancast.planner.model.domain import TERMS, BadRequest, Plan
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest
from tests.oracles.random_requests import random_request
from tests.pipelines.charts.opened import Opened
from tests.planner.planning.test_plot import example


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


def test_the_ending_says_the_form(tmp_path: Path) -> None:
    """A picture would be a page under another name, or a wrong ending leave a file."""
    request, plan = example()
    heads = {"plan.html": b"<!doctype html>", "plan.svg": b"<svg", "PLAN.PNG": b"\x89PNG"}
    for name, head in heads.items():
        assert write_gantt(request, plan, tmp_path / name).read_bytes().startswith(head)
    with pytest.raises(BadRequest, match=r"plan\.pdf: a Gantt chart ends in \.html, \.svg, \.png"):
        write_gantt(request, plan, tmp_path / "plan.pdf")
    assert {path.name for path in tmp_path.iterdir()} == set(heads)


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

"""Draws the pictures of the documentation from generated data: ``python docs/images/draw.py``."""

from __future__ import annotations

from pathlib import Path

from plancast.pipelines.charts.gantt import gantt_svg
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.planning.plan import plan


def gantt() -> str:
    """The greedy plan of a generated batch of 48 tasks on 6 workers, as an SVG image."""
    request = generate_batch(48, generate_cluster(6, seed=5), seed=5, gang_share=0.1)
    response = plan(request, "greedy")
    if response.plan is None:
        raise SystemExit(f"the batch of the picture has no plan: {response.status.value}")
    return gantt_svg(request, response.plan, title="A generated batch, planned")


if __name__ == "__main__":
    Path(__file__).with_name("gantt.svg").write_text(gantt(), encoding="utf-8")

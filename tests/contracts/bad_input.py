"""Cases of bad input, registered by name: what prepares one, and what the sentence must name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from plancast.planner.instances.generate import generate_log, swf_text

LOG = swf_text(generate_log(60, 4, 16, 0))
TASKS = "id,cpus,requested_s,after,deadline_s,requires\na,1,30,,,\nb,2,40,a,,\n"
CLUSTER = "workers:\n  - {id: w0, cpus: 4, labels: [ssd]}\n  - {id: w1, cpus: 8}\n"
ESTIMATES = "task,machine_class,level,seconds\na,*,0.5,30\nb,*,0.5,40\n"

Arguments = list[str]
Prepare = Callable[[Path], Arguments]
CASES: dict[str, tuple[Prepare, tuple[str, ...]]] = {}
"""What is wrong: how it comes to be, giving the command; and what the sentence must name."""


def case(*needles: str) -> Callable[[Prepare], Prepare]:
    """Register a case by the name of the function that prepares it."""

    def register(prepare: Prepare) -> Prepare:
        CASES[prepare.__name__.lstrip("_")] = (prepare, needles)
        return prepare

    return register


PLAN = [
    "plan", "--tasks", "tasks.csv", "--cluster", "cluster.yaml", "--solver", "greedy", "-o",
    "out.json", "--gantt", "out.html",
]  # fmt: skip
PREDICT = ["predict", "tasks.csv", "--model", "model", "-o", "out.csv"]

"""http.extender: a pod passes on its planned node, unless its own constraints exclude it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plancast.pipelines.http.bodies import read_body
from plancast.pipelines.http.extender import ExtenderArgs, filter_nodes
from plancast.planner.model.domain import BadRequest


class Planned:
    """A board on which every task is planned on two nodes from 0 on."""

    def stands(self, task: str) -> dict[str, Any]:
        """Where a task stands."""
        return {"task": task, "state": "planned", "workers": ["a", "g"], "start_s": 0, "why": ""}


def node(name: str, **spec: Any) -> dict[str, Any]:
    """A node in zone z1."""
    return {"metadata": {"name": name, "labels": {"zone": "z1"}}, "spec": spec}


TAINT = {"key": "gpu", "value": "true", "effect": "NoSchedule"}


def passed(spec: dict[str, Any]) -> tuple[set[str], dict[str, str]]:
    """The nodes on which a pod passes, and why not on the others."""
    pod = {"metadata": {"name": "p"}, "spec": spec}
    nodes = {"items": [node("a"), node("b"), node("g", taints=[TAINT])]}
    args = ExtenderArgs.model_validate({"Pod": pod, "Nodes": nodes})
    found = filter_nodes(Planned(), args, 10.0)  # type: ignore[arg-type]
    return {n["metadata"]["name"] for n in found["Nodes"]["items"]}, found["FailedNodes"]


def test_a_planned_node_that_the_pod_excludes_does_not_pass() -> None:
    """A pod would be sent where it does not tolerate the taint, and fail there again and again."""
    names, failed = passed({"nodeSelector": {"zone": "z1"}})
    assert names == {"a"}
    assert "the pod requires !taint:gpu=true:NoSchedule of g" in failed["g"]
    assert passed({"tolerations": [{"operator": "Exists"}]})[0] == {"a", "g"}
    assert passed({"nodeSelector": {"zone": "z2"}})[0] == set()


@pytest.mark.parametrize(
    "spec", ["x", [1], {"nodeSelector": [1]}, {"tolerations": 1}, {"affinity": 3}]
)
def test_a_pod_of_another_form_passes_for_the_scheduler_to_judge(spec: Any) -> None:
    """The scheduler would be answered with 500, and place nothing that it asks the extender for."""
    assert passed(spec)[0] == {"a", "g"}


def test_what_go_writes_of_nothing_is_taken_and_a_key_twice_is_not() -> None:
    """A scheduler without candidates would be refused; of two pods one would be dropped unsaid."""
    pod = {"metadata": {"name": "p"}}
    args = read_body(ExtenderArgs, json.dumps({"pod": pod, "nodes": {"items": None}}).encode())
    assert filter_nodes(Planned(), args, 10.0)["Nodes"]["items"] == []  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="'pod' is there twice, as 'Pod' and 'pod'; remove one"):
        read_body(ExtenderArgs, json.dumps({"Pod": pod, "pod": pod}).encode())

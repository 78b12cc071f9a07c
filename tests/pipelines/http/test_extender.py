"""http.extender: a pod passes on its planned node, unless its own constraints exclude it."""

from __future__ import annotations

from typing import Any

from plancast.pipelines.http.extender import ExtenderArgs, filter_nodes


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

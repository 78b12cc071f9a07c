"""inputs.kubernetes: pods and nodes of kubectl as tasks and workers, their constraints kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.inputs.kubernetes import hard_taints, node_labels, pod_requires
from plancast.pipelines.inputs.user_files import read_cluster, read_tasks
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.labels import holds

GPU_TAINT = {"key": "gpu", "value": "true", "effect": "NoSchedule"}


def node(name: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A node of 4 cores and 8 GiB."""
    return {
        "kind": "Node", "metadata": {"name": name, "labels": labels or {}}, "spec": spec,
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    }  # fmt: skip


def pod(name: str, cpu: str = "500m", phase: str = "Pending", **spec: Any) -> dict[str, Any]:
    """A pod of one container."""
    asked = {"requests": {"cpu": cpu, "memory": "134217728"}}
    return {
        "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "resources": asked}], **spec},
        "status": {"phase": phase},
    }  # fmt: skip


def affinity(*terms: list[dict[str, Any]]) -> dict[str, Any]:
    """Required node affinity."""
    listed = [{"matchExpressions": term} for term in terms]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": listed}}
    return {"affinity": {"nodeAffinity": required}}


NODES = [
    node("a", {"zone": "z1", "disk": "ssd"}),
    node("b", {"zone": "z2"}),
    node("g", {"zone": "z1"}, taints=[GPU_TAINT, {"key": "x", "effect": "PreferNoSchedule"}]),
]
IN_Z1 = {"key": "zone", "operator": "In", "values": ["z1", "z9"]}
IN_Z2 = {**IN_Z1, "values": ["z2"]}


@pytest.mark.parametrize(
    ("spec", "able"),
    [
        ({}, {"a", "b"}),
        ({"nodeSelector": {"zone": "z1"}}, {"a"}),
        (affinity([IN_Z1]), {"a"}),
        (affinity([{"key": "zone", "operator": "NotIn", "values": ["z1"]}]), {"b"}),
        (affinity([{"key": "disk", "operator": "Exists"}]), {"a"}),
        (affinity([{"key": "disk", "operator": "DoesNotExist"}]), {"b"}),
        (affinity([IN_Z1, {"key": "disk", "operator": "DoesNotExist"}]), set()),
        (affinity([{"key": "disk", "operator": "Exists"}], [IN_Z2]), {"a", "b"}),
        ({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, {"a", "b", "g"}),
        ({"tolerations": [{"operator": "Exists"}]}, {"a", "b", "g"}),
        ({"tolerations": [{**GPU_TAINT, "operator": "Equal"}]}, {"a", "b", "g"}),
        ({"tolerations": [{"key": "gpu", "value": "no"}]}, {"a", "b"}),
        ({"tolerations": [{**GPU_TAINT, "effect": "NoExecute"}]}, {"a", "b"}),
    ],
)  # fmt: skip
def test_a_pod_may_be_where_kubernetes_lets_it(spec: dict[str, Any], able: set[str]) -> None:
    """A pod would be planned on a node that the scheduler then refuses, or kept from a good one."""
    taints = [taint for one in NODES for taint in hard_taints(one)]
    requires = pod_requires(pod("p", **spec), taints)
    assert {n["metadata"]["name"] for n in NODES if holds(requires, node_labels(n))} == able


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (affinity([{"key": "n", "operator": "Gt", "values": ["3"]}]), "operator Gt of node affin"),
        (affinity([]), "a node selector term without expressions matches no node"),
        (
            {"affinity": {"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
            "required podAntiAffinity cannot be planned",
        ),
        ({"topologySpreadConstraints": [{"maxSkew": 1}]}, "topologySpreadConstraints with"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_refused_by_name(
    spec: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    """A pod would be planned as if it had not asked."""
    path = tmp_path / "k8s.json"
    path.write_text(json.dumps({"kind": "List", "items": [*NODES, pod("p", **spec)]}))
    with pytest.raises(BadRequest, match=f"k8s.json: pod p: {sentence}"):
        read_tasks(path)


def test_a_list_of_nodes_and_pods_is_tasks_and_cluster(tmp_path: Path) -> None:
    """Running pods would be planned again or not counted; amounts would be in other units."""
    runs = pod("old", "1500m", "Running", nodeName="a")
    done = pod("done", "2", "Succeeded", nodeName="a")
    waits = pod("new", nodeSelector={"disk": "ssd"}, activeDeadlineSeconds=600)
    path = tmp_path / "k8s.json"
    path.write_text(json.dumps({"kind": "List", "items": [*NODES, runs, done, waits]}))
    (task,) = read_tasks(path)
    assert (task.id, task.requested_s, task.owner) == ("new", 600, "default")
    assert task.demand == {"cpu": 500, "mem": 128}
    assert task.requires == ("disk=ssd", "!taint:gpu=true:NoSchedule")
    cluster = read_cluster(path)
    assert [w.capacity["cpu"] for w in cluster.workers] == [2500, 4000, 4000]
    assert [w.id for w in cluster.workers if w.satisfies(task.requires)] == ["a"]
    alone = tmp_path / "pods.json"
    alone.write_text(json.dumps({"kind": "List", "items": [waits]}))
    with pytest.raises(BadRequest, match="holds no nodes"):
        read_tasks(alone)


ODD = [
    (pod("p", nodeSelector=["a"]), "pod p: nodeSelector must be an object (it is ['a'])"),
    (pod("p", tolerations={"a": 1}), "pod p: tolerations must be a list of objects"),
    (pod("p", affinity=3), "pod p: affinity must be an object (it is 3)"),
    (pod("p") | {"spec": "x"}, "pod p: spec must be an object (it is 'x')"),
    (pod("p") | {"status": "x"}, "pod p: status must be an object (it is 'x')"),
    (pod("p") | {"metadata": [1]}, "pod without a name: metadata must be an object (it is [1])"),
    (pod("p", containers=[None]), "pod p: containers must be a list of objects (it is [None])"),
    (pod("p", cpu="x"), "pod p: 'x' "),
    (pod("p", cpu="x", nodeName="a"), "pod p: 'x' "),
    (pod("p", **affinity([{**IN_Z1, "values": 1}])), "pod p: values must be a list (it is 1)"),
    (node("n", taints="x"), "node n: taints must be a list of objects (it is 'x')"),
    (node("n") | {"status": {"allocatable": 5}}, "node n: allocatable must be an object (it is 5)"),
    (node("n") | {"status": {"allocatable": {"cpu": "x"}}}, "node n: 'x' "),
    (node("n") | {"metadata": {"name": "n", "labels": "x"}}, "node n: labels must be an object"),
]  # fmt: skip


@pytest.mark.parametrize(("thing", "said"), ODD, ids=[said for _, said in ODD])
def test_what_has_not_the_form_of_an_object_is_refused_by_name(
    thing: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """One odd object of thousands would end in a traceback, or in a sentence that names no file."""
    path = tmp_path / "k8s.json"
    path.write_text(json.dumps({"items": [*NODES, pod("good"), thing]}))
    with pytest.raises(BadRequest) as found:
        _ = read_cluster(path), read_tasks(path)
    assert str(found.value).startswith(f"{path}: {said}")

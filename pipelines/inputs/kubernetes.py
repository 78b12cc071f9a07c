"""Pods and nodes as ``kubectl get nodes,pods -o json`` prints them, as tasks and workers.

A node's labels become ``key=value`` and ``key``, its hard taints ``taint:key=value:Effect``; node
selectors, required node affinity and the taints that a pod does not tolerate become ``requires``.

References
----------
kubernetes.io/docs/concepts/scheduling-eviction: assign-pod-node, taint-and-toleration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from plancast.planner.model.domain import BadRequest
from plancast.predictor import units

HARD_TAINTS = ("NoSchedule", "NoExecute")
"""Effects of taints that keep pods away; PreferNoSchedule is a wish."""
GPU = "nvidia.com/gpu"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
HOME = "default"
"""Namespace whose pods are tasks by their names alone; that of others stands before the name."""
_BYTE_MIB = 2.0**-20


def is_list(content: Any) -> bool:
    """Whether this is a list of Kubernetes objects."""
    return isinstance(content, dict) and isinstance(content.get("items"), list)


def task_rows(items: Sequence[Any], source: str) -> list[dict[str, Any]]:
    """The pods that wait for a node, as rows of a task table.

    Parameters
    ----------
    items : sequence
        Pods, and all nodes of the cluster: what a pod does not tolerate is known from their taints.
    source : str
        What to call the file in an error.

    Raises
    ------
    BadRequest
        Where no pod waits, there are no nodes, or a pod asks for what cannot be planned.
    """
    taints = [taint for node in _of_kind(items, "Node") for taint in hard_taints(node)]
    if not any(_of_kind(items, "Node")):
        raise BadRequest(f"{source}: holds no nodes; give what kubectl get nodes,pods -o json says")
    rows = [
        _task_row(pod, taints, source)
        for pod in _of_kind(items, "Pod")
        if not _spec(pod).get("nodeName") and _phase(pod) == "Pending"
    ]
    if not rows:
        raise BadRequest(f"{source}: no pod waits for a node; nothing is to be planned")
    return rows


def cluster_content(content: Any, source: str) -> Any:
    """The content of a cluster file: what it is, or of nodes, less what pods on them have taken.

    Raises
    ------
    BadRequest
        Where a list of Kubernetes objects has no nodes.
    """
    if not is_list(content):
        return content
    items = content["items"]
    nodes = list(_of_kind(items, "Node"))
    if not nodes:
        raise BadRequest(f"{source}: holds no nodes; give what kubectl get nodes -o json says")
    taken: dict[str, dict[str, float]] = {}
    for pod in _of_kind(items, "Pod"):
        if _spec(pod).get("nodeName") and _phase(pod) not in ("Succeeded", "Failed"):
            there = taken.setdefault(_spec(pod)["nodeName"], {})
            for name, amount in _requests(pod).items():
                there[name] = there.get(name, 0.0) + amount
    return {"workers": [_worker_row(node, taken.get(name_of(node), {})) for node in nodes]}


def name_of(thing: Mapping[str, Any]) -> str:
    """The name of an object; with its namespace before it where that is not the default one."""
    meta = thing.get("metadata") or {}
    space = meta.get("namespace") or HOME
    return str(meta.get("name")) if space == HOME else f"{space}/{meta.get('name')}"


def node_labels(node: Mapping[str, Any]) -> frozenset[str]:
    """What a node is matched with: its labels, its name, its hard taints."""
    meta = node.get("metadata") or {}
    labels = {f"metadata.name={meta.get('name')}"}
    for key, value in (meta.get("labels") or {}).items():
        labels |= {key, f"{key}={value}"}
    return frozenset(labels | {_taint_label(taint) for taint in hard_taints(node)})


def hard_taints(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Taints of a node that keep pods away."""
    return [t for t in _spec(node).get("taints") or () if t.get("effect") in HARD_TAINTS]


def pod_requires(pod: Mapping[str, Any], taints: Iterable[Mapping[str, Any]]) -> list[str]:
    """What a pod asks of its node, as label expressions that must all hold.

    Parameters
    ----------
    pod : mapping
    taints : iterable of mapping
        All hard taints there are.

    Raises
    ------
    ValueError
        Where it asks for what cannot be planned, by name.
    """
    spec = _spec(pod)
    found = [f"{key}={value}" for key, value in (spec.get("nodeSelector") or {}).items()]
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        if (affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution"):
            raise ValueError(f"required {kind} cannot be planned")
    for spread in spec.get("topologySpreadConstraints") or ():
        if spread.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule":
            raise ValueError("topologySpreadConstraints with DoNotSchedule cannot be planned")
    required = (affinity.get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if required:
        terms = [_term(term) for term in required.get("nodeSelectorTerms") or ()]
        found.append("|".join(f"({term})" for term in terms))
    tolerations = spec.get("tolerations") or ()
    found += [
        f"!{_taint_label(taint)}"
        for taint in taints
        if not any(_tolerates(toleration, taint) for toleration in tolerations)
    ]
    return list(dict.fromkeys(found))


def _term(term: Mapping[str, Any]) -> str:
    parts = [_expression(one) for one in term.get("matchExpressions") or ()]
    parts += [_expression(one) for one in term.get("matchFields") or ()]
    if not parts:
        raise ValueError("a node selector term without expressions matches no node")
    return "&".join(parts)


def _expression(one: Mapping[str, Any]) -> str:
    key, operator, values = one.get("key"), one.get("operator"), one.get("values") or ()
    either = "|".join(f"{key}={value}" for value in values)
    if operator == "In" and values:
        return f"({either})"
    if operator == "NotIn" and values:
        return f"!({either})"
    if operator == "Exists":
        return str(key)
    if operator == "DoesNotExist":
        return f"!{key}"
    raise ValueError(f"operator {operator} of node affinity ({key}) cannot be planned")


def _taint_label(taint: Mapping[str, Any]) -> str:
    return f"taint:{taint.get('key')}={taint.get('value') or ''}:{taint.get('effect')}"


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    key, exists = toleration.get("key"), toleration.get("operator") == "Exists"
    if not key:
        return exists
    same = (toleration.get("value") or "") == (taint.get("value") or "")
    return bool(key == taint.get("key") and (exists or same))


def _task_row(pod: Mapping[str, Any], taints: Sequence[Any], source: str) -> dict[str, Any]:
    meta = pod.get("metadata") or {}
    try:
        requires, amounts = pod_requires(pod, taints), _requests(pod)
    except ValueError as error:
        raise BadRequest(f"{source}: pod {name_of(pod)}: {error}") from None
    row: dict[str, Any] = {
        "id": name_of(pod), "cpus": amounts.pop("cpu", 0.0), "mem_mib": amounts.pop("memory", 0.0),
        "gpus": amounts.pop(GPU, 0.0), "requires": requires, "owner": meta.get("namespace"),
        "submit_s": meta.get("creationTimestamp"),
        "requested_s": _spec(pod).get("activeDeadlineSeconds"),
    }  # fmt: skip
    return row | {f"res_{name}": amount for name, amount in amounts.items()}


def _worker_row(node: Mapping[str, Any], taken: Mapping[str, float]) -> dict[str, Any]:
    has = _amounts((node.get("status") or {}).get("allocatable") or {})
    left = {name: max(0.0, amount - taken.get(name, 0.0)) for name, amount in has.items()}
    meta = node.get("metadata") or {}
    known = ("cpu", "memory", GPU)
    return {
        "id": str(meta.get("name")), "cpus": max(left.get("cpu", 0.0), 1e-3),
        "mem_mib": left.get("memory", 0.0), "gpus": left.get(GPU, 0.0),
        "resources": {name: int(amount) for name, amount in left.items() if name not in known},
        "labels": sorted(node_labels(node)),
        "machine_class": (meta.get("labels") or {}).get(INSTANCE_TYPE, "default"),
    }  # fmt: skip


def _requests(pod: Mapping[str, Any]) -> dict[str, float]:
    """What a pod asks for: all its containers together, or the largest that initialises it."""
    spec = _spec(pod)
    total: dict[str, float] = {}
    for container in spec.get("containers") or ():
        for name, amount in _asked(container).items():
            total[name] = total.get(name, 0.0) + amount
    for container in spec.get("initContainers") or ():
        for name, amount in _asked(container).items():
            total[name] = max(total.get(name, 0.0), amount)
    return total


def _asked(container: Mapping[str, Any]) -> dict[str, float]:
    resources = container.get("resources") or {}
    return _amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _amounts(texts: Mapping[str, Any]) -> dict[str, float]:
    """Cores, MiB, and what else is counted; storage and pods are left out."""
    found = {}
    for name, text in texts.items():
        if name == "memory":
            found[name] = units.size_mib(str(text), bare=_BYTE_MIB)
        elif name == "cpu" or "/" in name:
            found[name] = units.count(str(text))
    return found


def _of_kind(items: Sequence[Any], kind: str) -> Iterator[dict[str, Any]]:
    return (item for item in items if isinstance(item, dict) and item.get("kind") == kind)


def _spec(thing: Mapping[str, Any]) -> Mapping[str, Any]:
    return thing.get("spec") or {}


def _phase(pod: Mapping[str, Any]) -> str:
    return str((pod.get("status") or {}).get("phase", "Pending"))

"""Pods and nodes as ``kubectl get nodes,pods -o json`` prints them, as tasks and workers.

A node's labels become ``key=value`` and ``key``, its hard taints ``taint:key=value:Effect``; node
selectors, required node affinity and the taints that a pod does not tolerate become ``requires``.

References
----------
kubernetes.io/docs/concepts/scheduling-eviction: assign-pod-node, taint-and-toleration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from plancast.planner.model.domain import BadRequest
from plancast.predictor import units
from plancast.wording import shorten

HARD_TAINTS = ("NoSchedule", "NoExecute")
"""Effects of taints that keep pods away; PreferNoSchedule is a wish."""
GPU = "nvidia.com/gpu"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
HOME = "default"
"""Namespace whose pods are tasks by their names alone; that of others stands before the name."""
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_BYTE_MIB = 2.0**-20

T = TypeVar("T")


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
    taints = [
        taint for node in _of_kind(items, "Node") for taint in _read(hard_taints, node, source)
    ]
    if not any(_of_kind(items, "Node")):
        raise BadRequest(f"{source}: holds no nodes; give what kubectl get nodes,pods -o json says")
    rows = [
        _read(lambda pod: _task_row(pod, taints), pod, source)
        for pod in _of_kind(items, "Pod")
        if not _read(_node_of, pod, source) and _read(_phase, pod, source) == "Pending"
    ]
    if not rows:
        raise BadRequest(f"{source}: no pod waits for a node; nothing is to be planned")
    return rows


def cluster_content(content: Any, source: str) -> Any:
    """The content of a cluster file: what it is, or of nodes, less what pods on them have taken.

    Raises
    ------
    BadRequest
        Where a list of Kubernetes objects has no nodes, or one of them has not the form of one.
    """
    if not is_list(content):
        return content
    items = content["items"]
    nodes = list(_of_kind(items, "Node"))
    if not nodes:
        raise BadRequest(f"{source}: holds no nodes; give what kubectl get nodes -o json says")
    taken: dict[str, dict[str, float]] = {}
    for pod in _of_kind(items, "Pod"):
        place = _read(_node_of, pod, source)
        if place and _read(_phase, pod, source) not in ("Succeeded", "Failed"):
            there = taken.setdefault(place, {})
            for name, amount in _read(_requests, pod, source).items():
                there[name] = there.get(name, 0.0) + amount
    return {"workers": [_read(lambda node: _worker_row(node, taken), n, source) for n in nodes]}


def name_of(thing: Mapping[str, Any]) -> str:
    """The name of an object; with its namespace before it where that is not the default one."""
    meta = _part(thing, "metadata")
    space = meta.get("namespace") or HOME
    return str(meta.get("name")) if space == HOME else f"{space}/{meta.get('name')}"


def node_labels(node: Mapping[str, Any]) -> frozenset[str]:
    """What a node is matched with: its labels, its name, its hard taints.

    Raises
    ------
    ValueError
        Where it has not the form of a node, naming the field; so for the two below.
    """
    meta = _part(node, "metadata")
    labels = {f"metadata.name={meta.get('name')}"}
    for key, value in _part(meta, "labels").items():
        labels |= {key, f"{key}={value}"}
    return frozenset(labels | {_taint_label(taint) for taint in hard_taints(node)})


def hard_taints(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Taints of a node that keep pods away."""
    return [t for t in _parts(_part(node, "spec"), "taints") if t.get("effect") in HARD_TAINTS]


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
    spec = _part(pod, "spec")
    found = [f"{key}={value}" for key, value in _part(spec, "nodeSelector").items()]
    affinity = _part(spec, "affinity")
    for kind in ("podAffinity", "podAntiAffinity"):
        if _part(affinity, kind).get(REQUIRED):
            raise ValueError(f"required {kind} cannot be planned")
    for spread in _parts(spec, "topologySpreadConstraints"):
        if spread.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule":
            raise ValueError("topologySpreadConstraints with DoNotSchedule cannot be planned")
    required = _part(_part(affinity, "nodeAffinity"), REQUIRED)
    if required:
        terms = [_term(term) for term in _parts(required, "nodeSelectorTerms")]
        found.append("|".join(f"({term})" for term in terms))
    tolerations = _parts(spec, "tolerations")
    found += [
        f"!{_taint_label(taint)}"
        for taint in taints
        if not any(_tolerates(toleration, taint) for toleration in tolerations)
    ]
    return list(dict.fromkeys(found))


def _term(term: Mapping[str, Any]) -> str:
    parts = [_expression(one) for one in _parts(term, "matchExpressions")]
    parts += [_expression(one) for one in _parts(term, "matchFields")]
    if not parts:
        raise ValueError("a node selector term without expressions matches no node")
    return "&".join(parts)


def _expression(one: Mapping[str, Any]) -> str:
    key, operator, values = one.get("key"), one.get("operator"), one.get("values") or []
    if not isinstance(values, list):
        raise ValueError(_not_of_form("values", "a list", values))
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


def _task_row(pod: Mapping[str, Any], taints: Sequence[Any]) -> dict[str, Any]:
    meta = _part(pod, "metadata")
    requires, amounts = pod_requires(pod, taints), _requests(pod)
    row: dict[str, Any] = {
        "id": name_of(pod), "cpus": amounts.pop("cpu", 0.0), "mem_mib": amounts.pop("memory", 0.0),
        "gpus": amounts.pop(GPU, 0.0), "requires": requires, "owner": meta.get("namespace"),
        "submit_s": meta.get("creationTimestamp"),
        "requested_s": _part(pod, "spec").get("activeDeadlineSeconds"),
    }  # fmt: skip
    return row | {f"res_{name}": amount for name, amount in amounts.items()}


def _worker_row(
    node: Mapping[str, Any], taken: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    has, gone = _amounts(_part(_part(node, "status"), "allocatable")), taken.get(name_of(node), {})
    left = {name: max(0.0, amount - gone.get(name, 0.0)) for name, amount in has.items()}
    meta = _part(node, "metadata")
    known = ("cpu", "memory", GPU)
    return {
        "id": str(meta.get("name")), "cpus": max(left.get("cpu", 0.0), 1e-3),
        "mem_mib": left.get("memory", 0.0), "gpus": left.get(GPU, 0.0),
        "resources": {name: int(amount) for name, amount in left.items() if name not in known},
        "labels": sorted(node_labels(node)),
        "machine_class": _part(meta, "labels").get(INSTANCE_TYPE, "default"),
    }  # fmt: skip


def _requests(pod: Mapping[str, Any]) -> dict[str, float]:
    """What a pod asks for: all its containers together, or the largest that initialises it."""
    spec = _part(pod, "spec")
    total: dict[str, float] = {}
    for container in _parts(spec, "containers"):
        for name, amount in _asked(container).items():
            total[name] = total.get(name, 0.0) + amount
    for container in _parts(spec, "initContainers"):
        for name, amount in _asked(container).items():
            total[name] = max(total.get(name, 0.0), amount)
    return total


def _asked(container: Mapping[str, Any]) -> dict[str, float]:
    resources = _part(container, "resources")
    return _amounts({**_part(resources, "limits"), **_part(resources, "requests")})


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


def _node_of(pod: Mapping[str, Any]) -> str:
    return str(_part(pod, "spec").get("nodeName") or "")


def _phase(pod: Mapping[str, Any]) -> str:
    return str(_part(pod, "status").get("phase", "Pending"))


def _part(thing: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """An object within an object; an empty one where there is none."""
    found = thing.get(field) or {}
    if not isinstance(found, Mapping):
        raise ValueError(_not_of_form(field, "an object", found))
    return found


def _parts(thing: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    """The objects of a list within an object; none where there is no list."""
    found = thing.get(field) or []
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise ValueError(_not_of_form(field, "a list of objects", found))
    return found


def _not_of_form(field: str, form: str, found: Any) -> str:
    return f"{field} must be {form} (it is {shorten(repr(found))})"


def _read(made: Callable[[Any], T], thing: Mapping[str, Any], source: str) -> T:
    """What is made of an object of a file, whose faults are said with its name."""
    try:
        return made(thing)
    except ValueError as error:
        meta = thing.get("metadata")
        name = meta.get("name") if isinstance(meta, Mapping) else None
        what = f"{str(thing.get('kind')).lower()} {'without a name' if name is None else name}"
        raise BadRequest(f"{source}: {what}: {error}") from None

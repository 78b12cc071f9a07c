"""The Kubernetes scheduler extender protocol, answered from the plan in force.

The scheduler POSTs ``ExtenderArgs`` for a pod and its candidate nodes. ``filter`` lets the
pod pass only on its planned node and only once its planned start has come, so that the
reservation of another pod is not taken, and never on a node that its own node selector, required
node affinity or missing tolerations exclude; ``prioritize`` scores the planned node 10, others 0.
Pods that no plan knows pass everywhere.

References
----------
kubernetes/kube-scheduler, extender/v1/types.go.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from plancast.pipelines.http.board import Board
from plancast.pipelines.inputs.kubernetes import hard_taints, node_labels, pod_requires
from plancast.planner.model.labels import holds

TASK_ANNOTATION = "plancast-task"
"""Annotation of a pod that names its task; without it the pod's name does."""
HOME = "default"
"""Namespace whose pods are tasks by their names alone; that of others stands before the name."""

MOST_SCORE = 10
"""``MaxExtenderPriority``."""


def _lower_keys(value: Any) -> Any:
    # Go reads keys without regard to case, and its releases differ in how they write them.
    if not isinstance(value, dict):
        return value
    written = {str(key).lower(): key for key in value}
    for key in value:
        last = written[key.lower()]
        if last != key:
            raise ValueError(
                f"{last.lower()!r} is there twice, as {key!r} and {last!r}; remove one"
            )
    return {key.lower(): part for key, part in value.items()}


def _no_null(value: Any) -> Any:
    return [] if value is None else value  # what Go writes of a list without members


class _Meta(BaseModel):
    # What is not looked at is handed back as it came: labels, uid, creationTimestamp and so on.
    model_config = ConfigDict(extra="allow")
    name: str
    namespace: str | None = None
    annotations: dict[str, str] | None = None


class _Named(BaseModel):
    model_config = ConfigDict(extra="allow")
    metadata: _Meta


class _NodeList(BaseModel):
    model_config = ConfigDict(extra="allow")
    items: Annotated[list[_Named], BeforeValidator(_no_null)] = []


class ExtenderArgs(BaseModel):
    """What the scheduler sends: a pod, and nodes in full or by name."""

    pod: _Named
    nodes: _NodeList | None = None
    nodenames: list[str] | None = None

    _keys = model_validator(mode="before")(_lower_keys)

    @property
    def task(self) -> str:
        """The pod's task: its name in the home namespace, ``NAMESPACE/NAME`` in any other."""
        meta = self.pod.metadata
        name = (meta.annotations or {}).get(TASK_ANNOTATION, meta.name)
        return name if (meta.namespace or HOME) == HOME else f"{meta.namespace}/{name}"

    @property
    def candidates(self) -> list[str]:
        """Names of the candidate nodes."""
        if self.nodenames is not None:
            return self.nodenames
        return [node.metadata.name for node in self.nodes.items] if self.nodes else []


def _moment(at_s: int) -> str:
    try:
        return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):  # a clock of the user's own, beyond year 9999
        return f"{at_s} s"


def filter_nodes(board: Board, args: ExtenderArgs, now_s: float) -> dict[str, Any]:
    """An ``ExtenderFilterResult``: the nodes on which the pod may start now."""
    passed, failed, hopeless = set(args.candidates), "", False
    try:
        found = board.stands(args.task)
    except KeyError:
        found = {"state": "not ours"}
    state = found["state"]
    if state == "planned":
        workers = found["workers"]
        passed &= set(workers)
        failed = f"the plan has it on {', '.join(workers)}"
        for name, requires in _excluded(args, passed).items():
            passed -= {name}
            failed += f"; the pod requires {requires} of {name}: submit its task with that"
        if found["start_s"] > now_s:
            passed = set()
            failed += f" at {_moment(found['start_s'])}: {found['why']}"
    elif state == "unplanned":
        passed, failed = set(), f"not planned: {found['why']}"
    elif state != "not ours":
        passed, failed, hopeless = set(), f"its task is {state} already", True
    refused = {name: failed for name in args.candidates if name not in passed}
    result: dict[str, Any] = {
        "FailedNodes": {} if hopeless else refused,
        "FailedAndUnresolvableNodes": refused if hopeless else {},
        "Error": "",
    }
    if args.nodenames is not None:
        result["NodeNames"] = [name for name in args.nodenames if name in passed]
    if args.nodes is not None:
        kept = [n for n in args.nodes.items if n.metadata.name in passed]
        result["Nodes"] = {
            **args.nodes.model_dump(exclude={"items"}, exclude_unset=True),
            "items": [node.model_dump(exclude_unset=True) for node in kept],
        }
    return result


def _excluded(args: ExtenderArgs, names: Collection[str]) -> dict[str, str]:
    """Nodes of some that the pod's own constraints exclude, as far as those are described."""
    found = {}
    pod = args.pod.model_dump(exclude_unset=True)
    for node in args.nodes.items if args.nodes else ():
        if node.metadata.name not in names:
            continue
        there = node.model_dump(exclude_unset=True)
        try:
            asked = pod_requires(pod, hard_taints(there))
            missing = [text for text in asked if not holds([text], node_labels(there))]
        except ValueError:
            continue  # the scheduler's own plugins know what we do not
        if missing:
            found[node.metadata.name] = " and ".join(missing)
    return found


def prioritize_nodes(board: Board, args: ExtenderArgs) -> list[dict[str, Any]]:
    """A ``HostPriorityList``: the planned nodes first."""
    try:
        workers = set(board.stands(args.task).get("workers", ()))
    except KeyError:
        workers = set()
    return [
        {"Host": name, "Score": MOST_SCORE if name in workers else 0} for name in args.candidates
    ]

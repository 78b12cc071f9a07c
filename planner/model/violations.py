"""What can be wrong with a plan, or with the response that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ViolationKind(str, Enum):
    """Everything that can be wrong with a plan, or with the response that carries it."""

    UNKNOWN_TASK = "unknown_task"
    UNKNOWN_WORKER = "unknown_worker"
    TASK_MISSING = "task_missing"
    TASK_TWICE = "task_twice"
    UNKNOWN_MODE = "unknown_mode"
    WRONG_SHARDS = "wrong_shards"
    STARTS_IN_PAST = "starts_in_past"
    BEFORE_RELEASE = "before_release"
    BEFORE_PREDECESSOR = "before_predecessor"
    PREDECESSOR_UNPLANNED = "predecessor_unplanned"
    NOT_ELIGIBLE = "not_eligible"
    WRONG_DURATION = "wrong_duration"
    LABEL_MISSING = "label_missing"
    GANG_APART = "gang_apart"
    GANG_CROWDED = "gang_crowded"
    GANG_SPREAD = "gang_spread"
    NOT_ALONE = "not_alone"
    OVER_CAPACITY = "over_capacity"
    WRONG_DEVICES = "wrong_devices"
    DEVICE_TAKEN = "device_taken"
    OVER_BUDGET = "over_budget"
    OVER_COUNTED = "over_counted"
    WORKER_NOT_FREE = "worker_not_free"
    WORKER_DRAINED = "worker_drained"
    WORKER_BLOCKED = "worker_blocked"
    HARD_DEADLINE = "hard_deadline"
    WAIT_BOUND = "wait_bound"
    STRETCH_BOUND = "stretch_bound"
    PREEMPTED_NOT_RUNNING = "preempted_not_running"
    PREEMPTED_TWICE = "preempted_twice"
    NOT_PREEMPTIBLE = "not_preemptible"
    STALE_SNAPSHOT = "stale_snapshot"
    # Of a response:
    WRONG_REQUEST = "wrong_request"
    WRONG_STATUS = "wrong_status"
    WRONG_COST = "wrong_cost"
    WRONG_TERMS = "wrong_terms"
    WRONG_BOUND = "wrong_bound"
    WRONG_MOVED = "wrong_moved"
    WRONG_UNPLANNED = "wrong_unplanned"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong, in words, and the task or worker it is wrong with."""

    kind: ViolationKind
    text: str
    task: str | None = None
    worker: str | None = None

"""The openb trace as a replay: batch-like pods arriving on a scaled-down set of its nodes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plancast.planner.model.domain import (
    BadRequest,
    DurationEstimate,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import PlanRequest
from plancast.predictor.schema import canonical

BATCH_LIKE = ("Failed", "Succeeded")
TIERS = (2.0, 4.0, 8.0)
"""Deadlines: submission + tier x the median run time of the pods of its QoS that had ended."""
FIRST_MEDIAN_S = 600.0
"""Taken for that median before anything of a QoS has ended."""


@dataclass(frozen=True)
class OpenB:
    """A replay and what an estimator needs.

    Parameters
    ----------
    request : PlanRequest
        Tasks in order of submission; releases are the submissions, pressed together.
    run_s : dict of str to int
    jobs : DataFrame
        Canonical, in the order of the request's tasks, on the replay's clock.
    left_out : int
        Pods that no node of the set could hold.
    """

    request: PlanRequest
    run_s: dict[str, int]
    jobs: pd.DataFrame
    left_out: int


def read_openb(
    folder: Path,
    *,
    press: float = 6.0,
    each: int = 2,
    seed: int = 0,
    rows: slice = slice(None),
) -> OpenB:
    """Read the pods and nodes.

    Parameters
    ----------
    folder : path
        With ``openb_node_list_all_node.csv`` and ``openb_pod_list_gpuspec33.csv``.
    press : float
        Gaps between submissions are divided by this: the pods are a small part of the load
        that the nodes carried.
    each : int
        Nodes of each GPU model, and without GPUs.
    seed : int
        Of the deadlines' tiers.
    rows : slice
        Which of the batch-like pods, in order of submission.

    Notes
    -----
    The rule. *Pods*: ``Failed`` and ``Succeeded`` alone, since running ones include services
    whose end nobody knows; run time = deletion - scheduling (creation where it is unknown).
    *GPU shares* are rounded up to whole devices: a pod with ``num_gpu`` 1 and any
    ``gpu_milli`` takes one. *Nodes*: `each` of every GPU model, the largest by GPUs, then
    processors and memory, and as many without GPUs. *Labels*: a pod's ``gpu_spec`` is its one
    any-of group.
    *Deadlines* reveal no run time: submission + tier x the median of what had ended by then
    in the trace, of the same QoS.
    """
    nodes, pods = read_rows(folder)
    pods = [
        pod
        for pod in pods
        if pod["pod_phase"] in BATCH_LIKE and int(pod["deletion_time"]) > began_s(pod)
    ]
    pods.sort(key=lambda pod: (int(pod["creation_time"]), pod["name"]))
    workers = _workers(nodes, each)
    asked = len(pods[rows])
    pods = [pod for pod in pods[rows] if _has_place(_task(pod, 0, 1), workers)]
    if not pods:
        raise BadRequest(f"{folder}: no batch-like pods in the rows that were asked for")
    first = int(pods[0]["creation_time"])
    submit = [round((int(pod["creation_time"]) - first) / press) for pod in pods]
    run_s = [int(pod["deletion_time"]) - began_s(pod) for pod in pods]
    deadlines = deadlines_of(pods, submit, run_s, seed)
    tasks = tuple(_task(pod, at, due) for pod, at, due in zip(pods, submit, deadlines, strict=True))
    estimates = {t.id: {"*": DurationEstimate.certain(1, "eligible")} for t in tasks}
    prices = Prices(makespan_h=0.0, late_h=0.0, misses=1.0, wait_h=1.0)
    request = PlanRequest("openb", Snapshot(0, 0, workers, tasks), estimates, Policy(prices))
    jobs = frame_of(pods, submit, run_s, [t.demand["gpu"] / 1000 for t in tasks])
    truth = dict(zip([t.id for t in tasks], run_s, strict=True))
    return OpenB(request, truth, jobs, asked - len(pods))


def frame_of(
    pods: Sequence[dict[str, str]],
    submit: Sequence[int],
    run_s: Sequence[int],
    gpus: Sequence[float],
) -> pd.DataFrame:
    """Pods as canonical jobs that start when they are submitted, in the same order.

    Parameters
    ----------
    pods : sequence of dict
        In order of submission.
    submit, run_s : sequence of int
        Seconds.
    gpus : sequence of float
        Devices.
    """
    jobs = pd.DataFrame(
        {
            "job_id": [p["name"] for p in pods],
            "submit_s": np.array(submit, float),
            "start_s": np.array(submit, float),
            "run_s": np.array(run_s, float),
            "cpus": [int(p["cpu_milli"]) / 1000 for p in pods],
            "mem_mib": [float(p["memory_mib"]) for p in pods],
            "gpus": gpus,
            "queue": [p["qos"] for p in pods],
            "partition": [p["gpu_spec"] for p in pods],
            "outcome": ["completed" if p["pod_phase"] == "Succeeded" else "failed" for p in pods],
        }
    )
    jobs["end_s"] = jobs["start_s"] + jobs["run_s"]
    return canonical(jobs)


def read_rows(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows of both files as they stand: nodes, then pods.

    Parameters
    ----------
    folder : path
        With ``openb_node_list_all_node.csv`` and ``openb_pod_list_gpuspec33.csv``.

    Raises
    ------
    BadRequest
        Where a file cannot be read, or is another one.
    """
    return (
        _rows(folder / "openb_node_list_all_node.csv", ("sn", "cpu_milli", "gpu", "model")),
        _rows(folder / "openb_pod_list_gpuspec33.csv", ("name", "pod_phase", "qos")),
    )


def _rows(path: Path, wanted: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise BadRequest(f"{path}: cannot be read: {error.strerror}") from None
    missing = [name for name in wanted if not rows or name not in rows[0]]
    if missing:
        raise BadRequest(f"{path}: has no column {missing[0]!r}; is it an openb file?")
    return rows


def began_s(pod: dict[str, str]) -> int:
    """When a pod began to run, as far as is known: its scheduling, else its creation."""
    return int(pod["scheduled_time"] or pod["creation_time"])


def _task(pod: dict[str, str], submit_s: int, deadline_s: int) -> Task:
    devices = int(pod["num_gpu"]) if int(pod["gpu_milli"]) > 0 else 0
    demand = {"cpu": int(pod["cpu_milli"]), "mem": int(pod["memory_mib"]), "gpu": 1000 * devices}
    spec = "|".join(dict.fromkeys(pod["gpu_spec"].split("|"))) if pod["gpu_spec"] else ""
    return Task(
        pod["name"], demand, release_s=submit_s, deadline_s=deadline_s, owner=pod["qos"],
        requires=(spec,) if spec else (),
    )  # fmt: skip


def _has_place(task: Task, workers: Sequence[Worker]) -> bool:
    return any(
        w.satisfies(task.requires) and all(a <= w.capacity[r] for r, a in task.demand.items())
        for w in workers
    )


def _workers(nodes: Sequence[dict[str, str]], each: int) -> tuple[Worker, ...]:
    models: dict[str, list[dict[str, str]]] = {}
    for node in nodes:
        models.setdefault(node["model"], []).append(node)
    largest = {
        model: sorted(
            found,
            key=lambda n: (-int(n["gpu"]), -int(n["cpu_milli"]), -int(n["memory_mib"]), n["sn"]),
        )[:each]
        for model, found in sorted(models.items())
    }
    return tuple(worker_of(node) for found in largest.values() for node in found)


def worker_of(node: dict[str, str]) -> Worker:
    """A node as a worker, whose label is the model of its GPUs."""
    model = node["model"]
    capacity = {
        "cpu": int(node["cpu_milli"]),
        "mem": int(node["memory_mib"]),
        "gpu": 1000 * int(node["gpu"]),
    }
    return Worker(node["sn"], capacity, labels=frozenset({model}) if model else frozenset())


def deadlines_of(
    pods: Sequence[dict[str, Any]], submit: Sequence[int], run_s: Sequence[int], seed: int
) -> list[int]:
    """Deadlines that reveal no run time, by the rule of ``read_openb``, seconds.

    Parameters
    ----------
    pods : sequence of dict
        In order of submission.
    submit, run_s : sequence of int
        Seconds.
    seed : int
        Of the tiers.
    """
    tiers = np.random.default_rng(seed).choice(TIERS, len(pods))
    found = []
    ends: dict[str, list[tuple[int, int]]] = {}
    for pod, at, ran, tier in zip(pods, submit, run_s, tiers, strict=True):
        ended = [seconds for end, seconds in ends.get(pod["qos"], ()) if end <= at]
        median = float(np.median(ended)) if ended else FIRST_MEDIAN_S
        found.append(at + max(1, round(float(tier) * median)))
        ends.setdefault(pod["qos"], []).append((at + ran, ran))
    return found

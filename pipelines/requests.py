"""A PlanRequest from the files that users write."""

from __future__ import annotations

from pathlib import Path

from pipelines.inputs import read_cluster, read_estimates, read_policy, read_tasks
from planner.domain import ANY_CLASS, DurationEstimate, Estimates, Policy, Snapshot, Task
from planner.messages import PlanRequest


def request_from_files(
    tasks: Path,
    cluster: Path,
    *,
    policy: Path | None = None,
    model: Path | None = None,
    estimates: Path | None = None,
) -> PlanRequest:
    """The request that a task file, a cluster file and a policy file make together.

    Parameters
    ----------
    tasks, cluster : Path
    policy : Path, optional
        Default prices without one.
    model : Path, optional
        Folder of a trained model that forecasts the tasks, for each machine class it knows.
    estimates : Path, optional
        Estimates made elsewhere. Without a model and estimates, a task's requested time
        is its estimate; a task without one stays unplanned with that reason.

    Notes
    -----
    Now is the cluster file's ``now_s``, else the latest submission or release among the
    tasks that carry one, else 0.
    """
    machines = read_cluster(cluster)
    known = [run.task.id for run in machines.running] + [end.id for end in machines.finished]
    now_s = machines.now_s
    pending = read_tasks(tasks, now_s=now_s or 0, known=known)
    if now_s is None:
        now_s = max((task.release_s for task in pending), default=0)
    told: Estimates
    if estimates is not None:
        told = read_estimates(estimates)
    elif model is not None:
        from pipelines.forecast import forecast_tasks

        classes = [worker.machine_class for worker in machines.workers]
        told = {
            **forecast_tasks(tasks, model, now_s=machines.now_s, classes=classes),
            **_requested([run.task for run in machines.running]),
        }
    else:
        told = _requested([*pending, *(run.task for run in machines.running)])
    return PlanRequest(
        request_id=tasks.name.split(".")[0],
        snapshot=Snapshot(0, now_s, machines.workers, pending, machines.running, machines.finished),
        estimates=told,
        policy=read_policy(policy) if policy is not None else Policy(),
    )


def _requested(tasks: list[Task]) -> Estimates:
    return {
        task.id: {ANY_CLASS: DurationEstimate.certain(task.requested_s, "requested")}
        for task in tasks
        if task.requested_s is not None
    }

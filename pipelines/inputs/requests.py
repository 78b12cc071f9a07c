"""A PlanRequest from the files that users write."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plancast.pipelines.inputs.counted import counted_snapshot
from plancast.pipelines.inputs.estimate_files import read_estimates
from plancast.pipelines.inputs.modes import flat, nested, ways_of
from plancast.pipelines.inputs.past_plans import Choice, past_plans_file, read_past_plans
from plancast.pipelines.inputs.policy_files import read_policy
from plancast.pipelines.inputs.tables import Table
from plancast.pipelines.inputs.user_files import (
    ClusterFile,
    read_cluster,
    read_task_moments,
    read_tasks_and_limits,
)
from plancast.planner.model.domain import (
    ANY_CLASS,
    SCENARIOS,
    BadRequest,
    DurationEstimate,
    Estimates,
    Policy,
    Task,
    Worker,
)
from plancast.planner.model.explain import is_date
from plancast.planner.model.messages import PlanRequest

if TYPE_CHECKING:
    from plancast.predictor import RuntimePredictor


def request_from_files(
    tasks: Path | Table,
    cluster: Path | ClusterFile,
    *,
    policy: Path | Policy | None = None,
    model: Path | RuntimePredictor | None = None,
    estimates: Path | Estimates | None = None,
    choice: Choice | None = None,
) -> PlanRequest:
    """The request that a task file, a cluster file and a policy file make together.

    Parameters
    ----------
    tasks : Path or Table
    cluster : Path or ClusterFile
    policy : Path or Policy, optional
        Default prices without one.
    model : Path or RuntimePredictor, optional
        Folder of a trained model that forecasts the tasks, running ones too, for each machine
        class it knows. A policy that names no scenarios has ``domain.SCENARIOS`` then.
    estimates : Path or Estimates, optional
        Estimates made elsewhere. Without a model and estimates, a task's requested time
        is its estimate; a task without one stays unplanned with that reason.
    choice : Choice, optional
        Whose run times are believed where there is a model, see ``chosen_way``; the model's
        without one. Tasks that name no request have the model's estimate in any case.

    Notes
    -----
    Now is the cluster file's ``now_s``; without it, see ``latest_known_s``.
    """
    machines = cluster if isinstance(cluster, ClusterFile) else read_cluster(cluster)
    name = tasks.source if isinstance(tasks, Table) else str(tasks)
    known = [run.task.id for run in machines.running] + [end.id for end in machines.finished]
    now_s = planning_time_s(tasks, machines)
    pending, asked = read_tasks_and_limits(tasks, now_s=now_s, known=known)
    found = _estimates(tasks, machines, pending, now_s, (model, estimates, choice))
    # A model's forecasts are distributions: a plan is priced over common levels of them.
    scenarios = () if model is None else _scenarios(choice, pending, machines)
    if policy is None:
        policy = Policy(scenarios=scenarios)
    wanted = policy if isinstance(policy, Policy) else read_policy(policy, scenarios)
    try:
        return PlanRequest(
            request_id=Path(name).name.split(".")[0],
            snapshot=counted_snapshot(
                now_s,
                machines.workers,
                pending,
                machines.running,
                machines.finished,
                budgets=machines.budgets,
                resources=machines.counted,
                limits=machines.limits,
                asked={**machines.asked, **asked},
            ),
            estimates=found,
            policy=wanted,
        )
    except BadRequest as error:
        others = [str(p) for p in (estimates, cluster) if isinstance(p, Path)] or ["the cluster"]
        raise BadRequest(f"{name} with {' and '.join(others)}: {error}") from None


def _estimates(
    tasks: Path | Table,
    machines: ClusterFile,
    pending: Sequence[Task],
    now_s: int,
    given: tuple[Path | RuntimePredictor | None, Path | Estimates | None, Choice | None],
) -> Estimates:
    """Run times as a model, a file or the requests say; `given` as of ``request_from_files``."""
    model, estimates, choice = given
    asked = [*pending, *(run.task for run in machines.running)]
    if estimates is not None:
        return read_estimates(estimates) if isinstance(estimates, Path) else estimates
    if model is None:
        return _requested(asked)
    from plancast.pipelines.inputs.forecast import forecast_tasks

    source = "model" if choice is None else choice.source
    found = forecast_tasks(
        tasks,
        model,
        now_s=now_s or None,
        running=machines.running,
        classes=[worker.machine_class for worker in machines.workers],
        source="model" if source == "requested" else source,
    )
    if source != "requested":
        return found
    return nested({**flat(found), **flat(_requested(asked))})


def chosen_way(
    tasks: Path | Table,
    cluster: Path | ClusterFile,
    model: Path,
    policy: Path | Policy | None = None,
) -> Choice | None:
    """Whose run times a plan should believe, by what plans of the past cost.

    Parameters
    ----------
    tasks, cluster, model, policy
        As of ``request_from_files``.

    Returns
    -------
    Choice, optional
        None, for the model's, where no past plans are kept beside it, or where the policy
        names scenarios: they are levels of its forecasts.

    Notes
    -----
    A past batch counts if all of its jobs had ended by now. To a clock of the user's own, which
    lies before the model's history, all of them had.
    """
    kept = past_plans_file(model)
    if not kept.is_file():
        return None
    # A file that names scenarios keeps them whatever is given in their place.
    if isinstance(policy, Policy) and policy.scenarios:
        return None
    if isinstance(policy, Path) and read_policy(policy, ()).scenarios:
        return None
    from plancast.pipelines.inputs.forecast import known_until_s

    machines = cluster if isinstance(cluster, ClusterFile) else read_cluster(cluster)
    now_s = planning_time_s(tasks, machines)
    own_clock = now_s < known_until_s(model)
    return read_past_plans(kept).choose(math.inf if own_clock else float(now_s))


def _scenarios(
    choice: Choice | None, pending: Sequence[Task], machines: ClusterFile
) -> tuple[float, ...]:
    """The scenarios of a policy that names none; modes and budgets know none."""
    if machines.budgets or any(task.modes for task in pending):
        return ()
    return SCENARIOS if choice is None else choice.scenarios


def planning_time_s(tasks: Path | Table, machines: ClusterFile) -> int:
    """The time of planning: the cluster file's ``now_s``, else ``latest_known_s``."""
    return latest_known_s(tasks, machines) if machines.now_s is None else machines.now_s


def latest_known_s(tasks: Path | Table, machines: ClusterFile) -> int:
    """The time of planning that the files imply, where the cluster file names none.

    Parameters
    ----------
    tasks : Path or Table
    machines : ClusterFile

    Notes
    -----
    Submissions, starts of running tasks and ends of finished ones lie in the past: now is
    the latest of them. A release may lie in the future: without anything past, now is the
    first of them, as nothing can start before. Where deadlines or workers' windows alone name
    times, and they are dates, now is this computer's clock; else 0.
    """
    named = read_task_moments(tasks)
    past = [math.ceil(at) for at in named["submit_s"]]
    past += [run.start_s for run in machines.running] + [end.end_s for end in machines.finished]
    if past:
        return max(past)
    if named["release_s"]:
        return int(min(named["release_s"]))
    ahead = [*named["deadline_s"], *(at for w in machines.workers for at in _moments(w))]
    return int(time.time()) if any(map(is_date, ahead)) else 0


def _moments(worker: Worker) -> Iterator[int]:
    """When a worker is taken away or given back."""
    yield from (at for at in (worker.free_from_s, worker.until_s) if at is not None)
    yield from (window.end_s for window in worker.blocked)


def _requested(tasks: list[Task]) -> Estimates:
    return nested(
        {
            (task.id, mode): {ANY_CLASS: DurationEstimate.certain(way.requested_s, "requested")}
            for task in tasks
            for mode, way in ways_of(task)
            if way.requested_s is not None
        }
    )

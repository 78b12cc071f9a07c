"""The verbs of ``plancast``: read a log, train, plan, replay, advise, evaluate.

Each takes what people have at hand (a file, a frame with columns of their own, a list) and gives
back something of ``plancast.pipelines.results``. Imports stand in the functions: who reads a log
loads no solver.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeAlias

from plancast.planner.model.domain import BadRequest

if TYPE_CHECKING:
    import pandas as pd

    from plancast.pipelines.inputs.tables import Table
    from plancast.pipelines.inputs.user_files import ClusterFile
    from plancast.pipelines.operators.advise import Advice
    from plancast.pipelines.results import Evaluated, JobLog, PlannedBatch, Replayed
    from plancast.planner.model.domain import Estimates, Policy, Task, Worker
    from plancast.planner.model.messages import Budget, PlanRequest
    from plancast.predictor import RuntimePredictor

    Log: TypeAlias = str | Path | pd.DataFrame | Iterable[Mapping[str, Any]]
    Tasks: TypeAlias = str | Path | pd.DataFrame | Iterable[Mapping[str, Any] | Task] | PlanRequest
    Cluster: TypeAlias = str | Path | Mapping[str, Any] | Iterable[Worker] | ClusterFile
    Columns: TypeAlias = str | Path | Mapping[str, Any] | None
    Model: TypeAlias = str | Path | RuntimePredictor

DEFAULT_BUDGET_S = 10.0
DISPATCHERS = ("easy", "planner")


def read_log(
    log: Log,
    columns: Columns = None,
    *,
    format: str = "auto",
    timezone: str | None = None,
    max_bad: float | str | None = None,
    strict: bool = False,
) -> JobLog:
    """Read a job log.

    Parameters
    ----------
    log : path-like, DataFrame or list
        SWF, Slurm's sacct, PBS, WfFormat, CSV or Parquet; a table in memory, of pandas or of
        what hands out Arrow streams (polars, pyarrow); or a mapping for each job.
    columns : mapping or path, optional
        Canonical column to the table's own (``{"submit_s": "Submitted", "run_s": "Elapsed"}``);
        those not named are guessed, and a note says how. Or a column map: its file, or what one
        holds.
    format : str
        Of a file: ``auto`` or a name of ``plancast.predictor.logs.READERS``.
    timezone : str, optional
        Of times without an offset; UTC where none is given.
    max_bad : float, optional
        Share of bad rows above which the log is refused; 0.05 beyond five rows.
    strict : bool
        Whether any bad row refuses it.

    Returns
    -------
    JobLog
        Canonical: times and run times in seconds, memory in MiB.

    Raises
    ------
    BadLog
        In one sentence with row or column and remedy.
    """
    import pandas as pd

    from plancast.pipelines.inputs.reading import parse_share
    from plancast.pipelines.results import JobLog
    from plancast.predictor.frames import frame_of
    from plancast.predictor.logs import read_log as read
    from plancast.predictor.logs.rows import Rows
    from plancast.predictor.logs.table import read_frame

    if isinstance(log, JobLog):
        return log
    if isinstance(max_bad, str):
        max_bad = parse_share(max_bad)
    if columns is not None:
        columns = _map(columns)
    if not isinstance(log, str | Path):
        frame = log if isinstance(log, pd.DataFrame) else frame_of(log, "log")
        rows = Rows("the table", max_bad, strict)
        found = read_frame(_named(frame), columns, timezone=timezone, rows=rows)
        found.attrs = frame.attrs | found.attrs
    else:
        zone = {} if timezone is None else {"timezone": timezone}
        found = read(log, format, columns, max_bad=max_bad, strict=strict, **zone)
    result = JobLog(found)
    result.attrs = found.attrs
    return result


def train(
    log: Log,
    *,
    levels: Sequence[float] | None = None,
    columns: Columns = None,
    seed: int = 0,
    **settings: Any,
) -> RuntimePredictor:
    """Train a run-time model on a whole log.

    Parameters
    ----------
    log, columns
        As of ``read_log``.
    levels : sequence of float, optional
        Quantile levels.
    seed : int
    **settings
        Further ones of ``RuntimePredictor``.

    Returns
    -------
    RuntimePredictor
        A scikit-learn estimator: ``predict`` and ``predict_quantiles`` give seconds.

    Raises
    ------
    BadLog
        Where too few jobs have a run time.
    """
    from plancast.predictor import RuntimePredictor
    from plancast.predictor.quantile import LEVELS
    from plancast.predictor.schema import replayed_ends

    jobs = replayed_ends(_plain(read_log(log, columns)))
    asked = LEVELS if levels is None else tuple(levels)
    return RuntimePredictor(asked, seed=seed, **settings).fit(jobs)


def plan(
    tasks: Tasks,
    cluster: Cluster | None = None,
    *,
    model: Model | None = None,
    estimates: Mapping[str, Any] | str | Path | None = None,
    policy: Policy | Mapping[str, Any] | str | Path | None = None,
    budget: Budget | float | str | timedelta | None = None,
    solver: str = "auto",
    steps: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
) -> PlannedBatch:
    """Plan a batch of tasks onto a cluster.

    Parameters
    ----------
    tasks : DataFrame, list, path-like or PlanRequest
        A row, mapping or ``Task`` for each task (``docs/files.md``); a frame without a column
        ``id`` is named by its index. A request says everything but `budget` and `solver`.
    cluster : path-like, mapping or list of Worker
        A YAML file, what one holds, or machines that are alike: ``{"nodes": 8, "cpus": 64,
        "mem": "256G"}``.
    model : RuntimePredictor or path, optional
        Forecasts the tasks; the plan then costs least on average over common levels. Of a folder
        the plans of the past that ``plancast worth --model`` kept there choose whose run times
        are believed.
    estimates : mapping or path, optional
        Task to run time (``90``, ``"2h"``, a ``DurationEstimate``), instead of a model. Without
        both a task's requested time is its estimate.
    policy : Policy, mapping or path, optional
        Prices and promises; the default prices without one.
    budget : float, str, timedelta or Budget, optional
        Seconds, or ``"30s"``, ``"2min"``; 10 seconds without one.
    solver : str
        ``auto``, or a name of ``plancast.SOLVERS``.
    steps : int, optional
        Solver steps instead of seconds, so that a plan can be repeated.
    seed : int
    columns : mapping, optional
        Column of a task table to the frame's or file's own (``{"id": "Job", "requested_s":
        "Limit"}``); its other columns are left out where ours do not name them.

    Returns
    -------
    PlannedBatch
        Ctrl-C ends the search early and keeps the best plan found by then.

    Raises
    ------
    BadRequest
        In one sentence with task or row, column and remedy.
    """
    from dataclasses import replace

    from plancast.pipelines.inputs.requests import chosen_way, request_from_files
    from plancast.pipelines.results import PlannedBatch
    from plancast.planner.arrays import interruption
    from plancast.planner.model.messages import PlanRequest
    from plancast.planner.planning.plan import plan as plan_request

    if isinstance(tasks, PlanRequest):
        request = tasks
    else:
        if cluster is None:
            raise BadRequest("cluster is missing; give a YAML file or {'nodes': 8, 'cpus': 64}")
        if model is not None and estimates is not None:
            raise BadRequest("give model or estimates, not both")
        rows, machines = _tasks(tasks, columns), _cluster(cluster)
        wanted = _policy(policy, model is not None)
        if model is not None and not hasattr(model, "predict_quantiles"):
            _one_of(model, "model", "a path or a RuntimePredictor", str, Path)
        model = Path(model) if isinstance(model, str) else model
        request = request_from_files(
            rows,
            machines,
            policy=wanted,
            model=model,
            estimates=_estimates(estimates),
            choice=chosen_way(rows, machines, model, wanted) if isinstance(model, Path) else None,
        )
        request = replace(request, seed=_whole(seed, "seed"))
    if budget is not None or steps is not None or not isinstance(tasks, PlanRequest):
        request = replace(request, budget=_budget(budget, steps))
    with interruption.keeps_the_best():
        response = plan_request(request, solver)
    if response.unplanned:
        count, all_ = len(response.unplanned), len(request.snapshot.pending)
        warnings.warn(f"{count:,} of {all_:,} tasks cannot be placed; see .unplanned", stacklevel=2)
    return PlannedBatch(request, response, solver)


def replay(
    log: Log,
    dispatchers: Sequence[str] = DISPATCHERS,
    estimates: Sequence[str | RuntimePredictor] = ("requested", "model"),
    *,
    columns: Columns = None,
    procs: int | None = None,
    window: tuple[float, float] | str | None = None,
    cut_to_request: bool = False,
    jobs: int = 1,
) -> Replayed:
    """Replay a log under dispatchers and estimates, and judge what would have come of it.

    Parameters
    ----------
    log, columns
        As of ``read_log``.
    dispatchers : sequence of str
        Names of ``plancast.planner.worlds.dispatchers.DISPATCHERS``.
    estimates : sequence of str or RuntimePredictor
        ``requested``, ``last_two``, ``model[:LEVEL]``, ``oracle[:SIGMA]``. A predictor lends its
        settings to a model that learns along the replay: what it was trained on is forgotten,
        so that no forecast knows the future.
    procs : int, optional
        Processors of the machine; the log's by default.
    window : pair of float, or str, optional
        The part of the jobs that is replayed, as shares: ``(0.5, 1)`` or ``"0.5:1"``.
    cut_to_request : bool
        Whether jobs are killed at their requested time.
    jobs : int
        Processes.
    """
    from plancast.pipelines.backtest.backtest import backtest, open_backtest
    from plancast.pipelines.backtest.estimates import cells_of, parse_estimates
    from plancast.pipelines.results import Replayed

    dispatchers = [dispatchers] if isinstance(dispatchers, str) else dispatchers
    if isinstance(estimates, str) or not isinstance(estimates, Iterable):
        estimates = [estimates]
    if procs is not None and procs < 1:
        raise BadRequest(f"procs: {procs}: a machine has 1 processor or more")
    if window is not None and not isinstance(window, str):
        window = ":".join(f"{share:f}" for share in window)
    words = [found if isinstance(found, str) else "model" for found in estimates]
    models = [found for found in estimates if not isinstance(found, str)]
    if len(models) > 1 or (models and words.count("model") > 1):
        raise BadRequest("estimates: name one model; its settings are all that a replay takes")
    settings = None
    if models:
        settings = {
            "seed": models[0].seed,
            "trees": models[0].trees,
            "refit_s": models[0].refit_s,
        }
    test = open_backtest(
        _plain(read_log(log, columns)),
        cut_to_request=cut_to_request,
        procs=procs,
        window=window,
    )
    cells = cells_of(list(dispatchers), [parse_estimates(word) for word in words], [0])
    return Replayed(backtest(test, cells, jobs=jobs, settings=settings))


def advise(
    log: Log,
    *,
    risk: float = 0.01,
    worst: float | None = None,
    dispatchers: Sequence[str] = ("easy",),
    columns: Columns = None,
    procs: int | None = None,
) -> Advice:
    """Say which time limit each group of jobs should request, and what that would be worth.

    Parameters
    ----------
    log, columns
        As of ``read_log``; the log names requested times.
    risk : float
        Promised share of the finishing jobs that limits cut.
    worst : float, optional
        Greatest chance to be cut that any one job is given.
    dispatchers : sequence of str
        Disciplines of the replays; none skips them.
    procs : int, optional
        Processors of the machine; the log's by default.
    """
    from plancast.pipelines.operators.advise import advise as advised
    from plancast.predictor.limits import LimitSettings

    return advised(
        _plain(read_log(log, columns)),
        risk=risk,
        worst=LimitSettings.worst if worst is None else worst,
        dispatchers=[dispatchers] if isinstance(dispatchers, str) else dispatchers,
        procs=procs,
    )


def evaluate(
    log: Log,
    *,
    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    refit: str = "30d",
    seed: int = 0,
    columns: Columns = None,
) -> Evaluated:
    """Forecast every job of a log from its past alone, beside rules of thumb.

    Parameters
    ----------
    log, columns
        As of ``read_log``.
    levels : sequence of float
        Quantile levels.
    refit : str
        Longest time between refits, with its unit.
    seed : int
    """
    from plancast.pipelines.backtest.evaluate_log import evaluate_file, parse_span
    from plancast.pipelines.results import Evaluated

    report, _ = evaluate_file(
        _plain(read_log(log, columns)), levels=levels, refit_s=parse_span(str(refit)), seed=seed
    )
    return Evaluated(report)


# ------------------------------------------------------------------------- what was given


def _plain(log: JobLog) -> pd.DataFrame:
    """A log as a plain frame with the same facts."""
    plain = log.copy(deep=False)
    plain.attrs = log.attrs
    return plain


def _one_of(given: Any, name: str, wanted: str, *kinds: type) -> None:
    if not isinstance(given, kinds):
        raise BadRequest(f"{name}: give {wanted}, not {type(given).__name__}")


def _whole(given: Any, name: str) -> int:
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        raise BadRequest(f"{name} is {given!r}; it must be a whole number")
    return operator.index(given)


def _map(columns: Any) -> Any:
    """A column map with its names as text, as those of a frame become."""
    _one_of(columns, "columns", "a mapping of our names to yours, or a path", str, Path, Mapping)
    if not isinstance(columns, Mapping):
        return columns
    return {name: str(own) if isinstance(own, int) else own for name, own in columns.items()}


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose columns have text for names, an index with a name among them."""
    import pandas as pd

    names = frame.index.names
    if None not in names and not set(names) & set(frame.columns):
        frame = frame.reset_index()
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    for place, dtype in enumerate(frame.dtypes):
        if isinstance(dtype, pd.ArrowDtype):
            column = frame.iloc[:, place]
            plain = column.astype(object).where(column.notna(), None).infer_objects()
            frame = frame.assign(**{str(frame.columns[place]): plain})
    return frame


def _tasks(tasks: Any, columns: Mapping[str, str] | None) -> Path | Table:
    import pandas as pd

    from plancast.pipelines.inputs.tables import Table, frame_table, object_table, read_table
    from plancast.pipelines.inputs.user_files import task_rows_table
    from plancast.predictor.frames import frame_of, is_table

    if columns is not None:
        _one_of(columns, "columns", "a mapping of our names to yours", Mapping)
    if isinstance(tasks, str | Path):
        if columns is None:
            return Path(tasks)
        read = read_table(tasks)
        table = read if isinstance(read, Table) else object_table(read, str(tasks))
        return _renamed(table, columns)
    if not isinstance(tasks, pd.DataFrame) and (is_table(tasks) or isinstance(tasks, Mapping)):
        tasks = frame_of(tasks, "tasks")
    wanted = "a path, a frame, or a list with a mapping or Task for each task"
    _one_of(tasks, "tasks", wanted, Iterable)
    if isinstance(tasks, pd.DataFrame):
        table = frame_table(tasks, "tasks")
    else:
        rows = [row.to_dict() if isinstance(row, pd.Series) else row for row in tasks]
        table = task_rows_table(rows, "tasks")
    if columns:
        table = _renamed(table, columns)
    if "id" not in table.columns and isinstance(tasks, pd.DataFrame):
        table.columns["id"] = [str(name) for name in tasks.index]
    return table


def _renamed(table: Table, columns: Mapping[str, str]) -> Table:
    """The columns that are named, by our names, and those that bear ours already."""
    from dataclasses import replace

    from plancast.pipelines.inputs.foreign import nearest
    from plancast.pipelines.inputs.models import cell_of, unknown_columns

    unknown = [ours for ours in columns if cell_of(ours) is None]
    if unknown:
        raise BadRequest(f"columns: {unknown_columns(unknown)}")
    columns = {ours: str(own) for ours, own in columns.items()}
    for ours, own in columns.items():
        if own not in table.columns:
            near = nearest(str(own), list(table.columns))
            raise BadRequest(f"columns: {ours}: {table.source} has no column {own!r}; {near}")
    taken = {*columns, *columns.values()}
    kept = {c: cells for c, cells in table.columns.items() if cell_of(c) and c not in taken}
    named = {ours: table.columns[own] for ours, own in columns.items()}
    return replace(table, columns=kept | named)


def _cluster(cluster: Any) -> Path | ClusterFile:
    from plancast.pipelines.inputs.models import ClusterSection
    from plancast.pipelines.inputs.user_files import ClusterFile, cluster_of
    from plancast.pipelines.inputs.yaml_files import validated
    from plancast.planner.model.domain import Worker
    from plancast.predictor.frames import frame_of, is_table

    if isinstance(cluster, str | Path):
        return Path(cluster)
    if isinstance(cluster, ClusterFile):
        return cluster
    if is_table(cluster):
        cluster = frame_of(cluster, "cluster").to_dict("records")
    wanted = "a path, {'nodes': 8, 'cpus': 64}, or a list of workers"
    _one_of(cluster, "cluster", wanted, Iterable)
    if not isinstance(cluster, Mapping):
        workers = tuple(cluster)
        if all(isinstance(worker, Worker) for worker in workers):
            return ClusterFile(workers)
        cluster = {"workers": list(workers)}
    content = dict(cluster)
    if "workers" not in content:
        if "nodes" not in content:
            raise BadRequest(
                "cluster: names neither workers nor nodes; write {'nodes': 8, 'cpus': 64}"
            )
        alike = {"id": "node", "count": content.pop("nodes"), **content}
        content = {"workers": [alike]}
    return cluster_of(validated(ClusterSection, content, "cluster"), "cluster")


def _policy(policy: Any, forecast: bool) -> Path | Policy | None:
    from plancast.planner.model.domain import SCENARIOS, Policy

    if policy is None or isinstance(policy, Policy):
        return policy
    _one_of(policy, "policy", "a path, a mapping or a Policy", str, Path, Mapping)
    if not isinstance(policy, Mapping):
        return Path(policy)
    from plancast.pipelines.inputs.models import PolicySection
    from plancast.pipelines.inputs.policy_files import policy_of
    from plancast.pipelines.inputs.yaml_files import validated

    section = validated(PolicySection, dict(policy), "policy")
    return policy_of(section, "policy", SCENARIOS if forecast else ())


def _estimates(estimates: Any) -> Path | Estimates | None:
    if estimates is None or isinstance(estimates, str | Path):
        return None if estimates is None else Path(estimates)
    from plancast.pipelines.inputs.cells import BadCell, seconds_cell
    from plancast.pipelines.inputs.estimate_files import estimates_of
    from plancast.pipelines.inputs.tables import frame_table
    from plancast.planner.model.domain import ANY_CLASS, DurationEstimate
    from plancast.planner.model.messages import EstimatesForm, from_mapping
    from plancast.predictor.frames import frame_of, is_table

    if is_table(estimates):
        return estimates_of(frame_table(frame_of(estimates, "estimates"), "estimates"), "estimates")
    estimates = estimates.to_dict() if hasattr(estimates, "to_dict") else estimates
    _one_of(estimates, "estimates", "a path, a frame, or a run time by task", Mapping)
    found: dict[str, Any] = {}
    for task, known in estimates.items():
        if isinstance(known, DurationEstimate):
            found[str(task)] = {ANY_CLASS: known}
        elif isinstance(known, Mapping):
            ready = all(isinstance(one, DurationEstimate | Mapping) for one in known.values())
            plain = any(isinstance(one, Mapping) and "levels" in one for one in known.values())
            if plain or not ready:
                known = from_mapping(EstimatesForm, {str(task): known}, source="estimates")[task]
            found[str(task)] = known
        else:
            try:
                seconds = max(1, seconds_cell(known))
            except BadCell as error:
                raise BadRequest(f"estimates: task {task}: {error}") from None
            found[str(task)] = {ANY_CLASS: DurationEstimate.certain(seconds, "given")}
    return found


def _budget(budget: Budget | float | str | timedelta | None, steps: int | None) -> Budget:
    from plancast.planner.model.messages import Budget
    from plancast.predictor.units import duration_s

    if isinstance(budget, Budget):
        return budget
    steps = None if steps is None else _whole(steps, "steps")
    if budget is None:
        return Budget(DEFAULT_BUDGET_S if steps is None else None, steps)
    if isinstance(budget, timedelta):
        return Budget(budget.total_seconds(), steps)
    if not isinstance(budget, str):
        wanted = "seconds, a text like '30s', or a Budget"
        _one_of(budget, "budget", wanted, SupportsFloat)
        return Budget(float(budget), steps)
    try:
        seconds = duration_s(budget)
    except ValueError as error:
        raise BadRequest(f"budget: {error}") from None
    return Budget(seconds if math.isfinite(seconds) else None, steps)

"""``plancast eta``: when each waiting job starts, why it waits, and what would help."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.pipelines.operators.live_queue import (
    NO_LIMIT_S,
    UNITS,
    LiveJob,
    LiveQueue,
    Pools,
    pools_of,
    queue_of_request,
)
from plancast.pipelines.operators.waits import (
    GRID,
    LEVELS,
    Past,
    bursts,
    corrected,
    forecast_along,
    knots,
    moments_of,
    scores_of,
)
from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    DurationEstimate,
    estimates_of,
    every_estimate,
)
from plancast.planner.model.messages import PlanRequest
from plancast.planner.planning.expected_starts import outlooks
from plancast.planner.planning.plan import plan
from plancast.planner.worlds import wait_kernel
from plancast.planner.worlds.rollout import roll

if TYPE_CHECKING:
    from plancast.predictor.runtime import RuntimePredictor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PAST_JOBS = 2000
"""Latest ended jobs of a model's history that starts are corrected by."""

_SHARED = 0.5


def eta(
    queue: LiveQueue,
    quantiles_s: Floats,
    levels: Sequence[float],
    *,
    past: Past | None = None,
    samples: int = 100,
    seed: int = 0,
    discipline: str = "easy",
) -> dict[str, Any]:
    """Forecast the start of every waiting job.

    Parameters
    ----------
    queue : LiveQueue
    quantiles_s : array, shape (running + asking, levels)
        Of whole run times, seconds: of the running jobs, then of those of ``queue.asking()``.
    levels : sequence of float
    past : Past, optional
        Jobs of the site that have ended: what was forecast of them corrects these.
    samples, seed : int
    discipline : str
        By which the site starts jobs, of ``rollout.DISCIPLINES``.

    Returns
    -------
    dict
        ``made_at_s``, ``jobs`` (``id``, ``p10_s``, ``p50_s``, ``p90_s`` in epoch seconds or None
        where none is known, ``reason``, ``helps``), ``corrected_by`` started jobs.
    """
    if samples < 2:
        raise BadRequest(f"--samples {samples}: write 2 or more")
    pools = pools_of(queue)
    asking = queue.asking()
    jobs: list[dict[str, Any]] = []
    found, by = np.empty((0, len(LEVELS))), 0
    if asking:
        rolled, by_limits = _rolled(queue, pools, quantiles_s, levels, samples, seed, discipline)
        found, by = _corrected(queue, asking, rolled, by_limits, past, seed, discipline)
    row_of = {job.id: row for row, job in enumerate(asking)}
    words = _Words(queue, pools, discipline)
    for job in queue.waiting:
        row = row_of.get(job.id)
        if row is None:
            jobs.append(_entry(job.id, None, queue.made_at_s, job.barred, ""))
            continue
        reason, helps = words.of(row, found[row])
        jobs.append(_entry(job.id, found[row], queue.made_at_s, reason, helps))
    return {"made_at_s": queue.made_at_s, "jobs": jobs, "corrected_by": by}


def _entry(
    name: str, waits_s: Floats | None, now_s: int, reason: str, helps: str
) -> dict[str, Any]:
    known = waits_s is not None and bool(np.isfinite(waits_s).all())
    starts = [round(now_s + float(v)) for v in waits_s] if known and waits_s is not None else None
    keys = ("p10_s", "p50_s", "p90_s")
    values = dict(zip(keys, starts or (None,) * 3, strict=True))
    return {"id": name, **values, "reason": reason, "helps": helps}


def _rolled(
    queue: LiveQueue,
    pools: Pools,
    quantiles_s: Floats,
    levels: Sequence[float],
    samples: int,
    seed: int,
    discipline: str,
) -> tuple[Floats, Floats]:
    """Quantiles at ``GRID`` of the waits, and the waits by limits, seconds."""
    jobs = [*queue.running, *queue.asking()]
    running = len(queue.running)
    state = pools.state
    ages = np.array(
        [max(queue.made_at_s - (j.start_s or queue.made_at_s), 0) for j in queue.running]
        + [0.0] * (len(jobs) - running)
    )
    limits = np.concatenate([ages[:running] + state.running_limit_s, state.limit_s]).astype(float)
    burst = bursts(
        [str(j.fields.get("user", "")) for j in jobs],
        [j.limit_s for j in jobs],
        [j.demand.get("cpu", 0) for j in jobs],
    )
    drawn = wait_kernel.sample_runs(
        scores_of(levels), knots(quantiles_s, limits), ages, limits, burst, _SHARED, samples, seed
    )
    whole = np.ceil(drawn - ages).astype(np.int64)
    starts = roll(state, whole[:, :running], whole[:, running:], discipline=discipline)
    rolled = np.quantile(starts, GRID, axis=0, method="inverted_cdf").T
    by_limits = roll(
        state, state.running_limit_s[None], state.limit_s[None], discipline=discipline
    )[0]
    return np.asarray(rolled, dtype=np.float64), by_limits


def _corrected(
    queue: LiveQueue,
    asking: Sequence[LiveJob],
    rolled: Floats,
    by_limits: Floats,
    past: Past | None,
    seed: int,
    discipline: str,
) -> tuple[Floats, int]:
    """Correct what was rolled by the starts of the past; by how many."""
    plain = rolled[:, [GRID.index(level) for level in LEVELS]]
    able = np.isfinite(rolled).all(axis=1) & np.isfinite(by_limits)
    if past is None or not able.any():
        return plain, 0
    moments = moments_of(past, np.flatnonzero(past.start_s > past.submit_s))
    if not len(moments[0]):
        return plain, 0
    waits = forecast_along(past, moments, samples=30, seed=seed, discipline=discipline)
    now = queue.made_at_s
    hour = np.array([max(now - job.submit_s, 0) // 3600 for job in asking], np.int64)[able]
    start = past.start_s[waits.job].astype(np.float64)
    found = corrected(
        np.concatenate([waits.rolled_s, rolled[able]]),
        np.concatenate([waits.by_limits_s, by_limits[able]]),
        np.concatenate([waits.hour, hour]),
        np.concatenate([waits.moment_s, np.full(len(hour), max(now, int(start.max()) + 1))]),
        np.concatenate([start, np.full(len(hour), np.inf)]),
    )
    result = plain.copy()
    result[able] = found[len(start) :]
    # What the discipline starts at this very moment needs no correction.
    result[(rolled == 0).all(axis=1)] = 0.0
    return result, int((waits.hour == 0).sum())


# -- run times -------------------------------------------------------------------------------


def quantiles_by_model(model: RuntimePredictor, queue: LiveQueue) -> Floats:
    """Quantiles of the run times of a queue's jobs as of now, shape (jobs, model's levels)."""
    jobs = [*queue.running, *queue.asking()]
    if not jobs:
        return np.empty((0, len(model.levels)))
    rows = [dict(job.fields) | {"job_id": job.id} for job in jobs]
    frame = pd.DataFrame(rows)
    frame["submit_s"] = frame["submit_s"].where(frame["submit_s"] > 0, float(queue.made_at_s))
    past = model.history.frame()
    for name in ("mem_mib", "gpus"):
        # Slurm counts them for all its jobs; of a log that never does none would be alike.
        if past[name].isna().all():
            frame[name] = np.nan
    return model.predict_quantiles(frame, as_of_s=float(queue.made_at_s))


def past_of_model(model: RuntimePredictor, procs: int) -> Past | None:
    """The latest jobs of a model's history, as a past to correct by; None where too few."""
    frame = model.history.frame()
    frame = frame[frame["end_s"].notna() & (frame["run_s"] > 0) & frame["submit_s"].notna()]
    frame = frame.sort_values("end_s", kind="stable").tail(PAST_JOBS)
    frame = frame.sort_values("submit_s", kind="stable", ignore_index=True)
    if len(frame) < 20:
        return None
    end = frame["end_s"].to_numpy(np.float64)
    run, submit = (frame[name].to_numpy(np.float64) for name in ("run_s", "submit_s"))
    limit = np.maximum(frame["requested_s"].fillna(NO_LIMIT_S).to_numpy(np.float64), run)
    width = np.clip(np.nan_to_num(frame["cpus"].to_numpy(np.float64), nan=1.0), 1, procs)
    start = np.maximum(np.round(end - run), np.floor(submit))
    whole = [np.round(v).astype(np.int64) for v in (start, end, width, limit, run)]
    return Past(
        np.floor(submit).astype(np.int64), whole[0], np.maximum(whole[1], whole[0]), whole[2],
        np.maximum(whole[3], 1), np.maximum(whole[4], 1),
        bursts(frame["user"].to_numpy(), whole[3], whole[2]),
        model.forecast_log(frame), model.levels, procs,
    )  # fmt: skip


def eta_of_queue(
    queue: LiveQueue,
    folder: str | Path,
    *,
    samples: int = 100,
    seed: int = 0,
    discipline: str = "easy",
) -> dict[str, Any]:
    """``eta`` with run times, and a past, of a trained model's folder."""
    # A service that is asked for starts has its estimates, and starts a second sooner without.
    from plancast.predictor.runtime import RuntimePredictor

    model = RuntimePredictor.load(folder)
    procs = sum(node.amounts.get("cpu", 0) for node in queue.nodes)
    past = past_of_model(model, max(procs, 1))
    quantiles = quantiles_by_model(model, queue)
    return eta(
        queue, quantiles, model.levels,
        past=past, samples=samples, seed=seed, discipline=discipline,
    )  # fmt: skip


def eta_of_request(
    request: PlanRequest, *, samples: int = 100, seed: int = 0, discipline: str = "easy"
) -> dict[str, Any]:
    """``eta`` of a request, with its own estimates; nothing of the past corrects it.

    Under ``planner`` the request is planned, and its plan carried out with sampled run times.
    """
    if discipline == "planner":
        return _eta_of_plan(request, samples)
    request.snapshot.refuse_modes("eta")
    request.snapshot.refuse_counted("eta")
    queue = queue_of_request(request)
    levels = sorted(
        {level for estimate in every_estimate(request.estimates) for level in estimate.levels}
    )
    levels = levels if len(levels) > 1 else [0.1, 0.9]
    jobs = [*queue.running, *queue.asking()]
    rows = []
    for job in jobs:
        estimate = _estimate_of(estimates_of(request.estimates, job.id))
        if estimate is None:
            raise BadRequest(f"task {job.id}: has no estimate; give one, or a model")
        rows.append([float(estimate.at(level)) for level in levels])
    quantiles = np.array(rows).reshape(len(jobs), len(levels))
    return eta(queue, quantiles, levels, samples=samples, seed=seed, discipline=discipline)


def _eta_of_plan(request: PlanRequest, samples: int) -> dict[str, Any]:
    response = plan(request)
    waits = {} if response.plan is None else outlooks(request, response.plan, samples)
    planned = {} if response.plan is None else response.plan.by_task
    now = request.snapshot.now_s
    jobs = []
    for task in request.snapshot.pending:
        waits_s, why = None, response.unplanned.get(task.id, "there is no plan")
        if (outlook := waits.get(task.id)) is not None:
            waits_s = np.array([outlook.early_s, outlook.half_s, outlook.sure_s], np.float64) - now
            why = outlook.text
        elif task.id in planned:
            waits_s = np.full(3, float(planned[task.id].start_s - now))
            why = "starts now" if waits_s[0] <= 0 else "starts at its release"
        jobs.append(_entry(task.id, waits_s, now, why, ""))
    return {"made_at_s": now, "jobs": jobs, "corrected_by": 0}


def _estimate_of(classes: Mapping[str, DurationEstimate]) -> DurationEstimate | None:
    """The estimate for any class; else the first one's."""
    return classes.get(ANY_CLASS) or next(iter(classes.values()), None)


# -- words -----------------------------------------------------------------------------------


class _Words:
    """Why jobs wait and what would help, by the state of the queue now."""

    def __init__(self, queue: LiveQueue, pools: Pools, discipline: str) -> None:
        self.queue, self.pools, self.easy = queue, pools, discipline == "easy"
        self.asking = queue.asking()
        state = pools.state
        free = state.free.copy()
        self.started = np.zeros(len(self.asking), bool)
        self.head = -1
        for row in range(len(self.asking)):
            if (state.demand[row] > free).any():
                self.head = row
                break
            free -= state.demand[row]
            self.started[row] = True
        self.free = free
        self.shadow_s, self.spare = math.inf, np.zeros_like(free)
        if self.head >= 0:
            self._find_shadow()

    def _find_shadow(self) -> None:
        state = self.pools.state
        begun = np.flatnonzero(self.started)
        ends = np.concatenate([state.running_limit_s, state.limit_s[begun]])
        held = np.concatenate([state.running_demand, state.demand[begun]])
        there = self.free.copy()
        for end in np.unique(ends).tolist():
            there = there + held[ends == end].sum(axis=0)
            if (state.demand[self.head] <= there).all():
                self.shadow_s, self.spare = float(end), there - state.demand[self.head]
                return

    def of(self, row: int, waits_s: Floats) -> tuple[str, str]:
        """The reason of a waiting job, and what would help it."""
        job, state = self.asking[row], self.pools.state
        if not np.isfinite(waits_s).all():
            return (
                f"never fits: it asks for more than {job.place} has up, or waits for such a job",
                "",
            )
        if waits_s[2] <= 0:
            return f"starts now: {job.place} has room for it", ""
        lacks = self._lacks(row)
        if lacks:
            reason = f"waits for {lacks} of {job.place}"
        elif not self.easy:
            reason = "fits now, but would delay a job before it in the queue"
        else:
            first = self.asking[self.head].id if self.head >= 0 else "others"
            reason = f"fits now, but would delay job {first}, which is first in the queue"
        at, late = (self._clock(waits_s[k]) for k in (1, 2))
        helps = self._helps(row, job, state.limit_s[row])
        said = f"{reason}; {at}, by {late} with 90%"
        return (f"{said}; {helps}" if helps else said), helps

    def _lacks(self, row: int) -> str:
        """What is not free of what a job asks for: ``4 nodes``."""
        missing: dict[str, int] = {}
        for column, (_, kind) in enumerate(self.pools.keys):
            short = int(self.pools.state.demand[row, column] - self.free[column])
            if short > 0:
                missing[kind] = max(missing.get(kind, 0), short)
        if "node" in missing:
            missing = {"node": missing["node"]}
        amounts = []
        for kind, count in missing.items():
            milli = kind in ("cpu", "gpu") and self._is_milli()
            amount = count / 1000 if milli else count
            one, many = UNITS.get(kind, (kind, kind))
            amounts.append(f"{amount:g} {one if amount == 1 else many}")
        return " and ".join(amounts)

    def _is_milli(self) -> bool:
        # A request of the planner counts millicores; Slurm counts cores.
        return self.asking[0].place == "the cluster"

    def _helps(self, row: int, job: LiveJob, limit_s: int) -> str:
        """What a user could change so that the job would start at once; under EASY alone."""
        if not self.easy:
            return ""
        demand = self.pools.state.demand[row]
        fits = (demand <= self.free).all()
        room = self.shadow_s if math.isfinite(self.shadow_s) else 0.0
        if fits and 60 <= room < limit_s and row != self.head:
            return f"at most {_span(room)} requested and it would start now"
        if not fits and row != self.head and limit_s <= room and "node" not in job.demand:
            columns = [c for c, (_, kind) in enumerate(self.pools.keys)
                       if kind == "cpu" and demand[c] > 0]  # fmt: skip
            others = [c for c in range(len(demand)) if c not in columns]
            cores = min((int(self.free[c]) for c in columns), default=0)
            cores = cores // 1000 if self._is_milli() else cores
            if cores >= 1 and (demand[others] <= self.free[others]).all():
                return f"with at most {cores} cores it would start now"
        return ""

    def _clock(self, wait_s: float) -> str:
        now = self.queue.made_at_s
        at = time.localtime(now + wait_s)
        today = time.localtime(now)[:3] == at[:3]
        return time.strftime("%H:%M" if today else "%a %d %b %H:%M", at)


def _span(seconds: float) -> str:
    """Minutes and hours, rounded down: ``2 h``, ``1 h 30 min``, ``40 min``."""
    hours, minutes = divmod(int(seconds // 60), 60)
    parts = [f"{hours} h"] if hours else []
    if minutes or not hours:
        parts.append(f"{minutes} min")
    return " ".join(parts)

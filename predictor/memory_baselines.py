"""Other ways to request memory, for comparison: each walks a log and knows only what had ended.

Every method gives families of amounts by a few numbers of its own; `tuned` takes those that
waste least on a training stretch with no more failures than the promised risk.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor

from plancast.predictor.memory import TaskTypes, waste_of
from plancast.predictor.schema import extra_columns
from plancast.wording import counted

Floats = NDArray[np.float64]

TIMES: tuple[float, ...] = (1.0, 1.02, 1.05, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0)
"""What forecasts are multiplied by."""

LEAST: tuple[int, ...] = (1, 3, 5, 10, 20, 40)
"""Ended tasks of a type below which its tasks get their request."""

SPREADS: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0)
"""Standard deviations of past residuals added to a straight line."""

_WINDOW = 1000
_GROWTH = 1.5


class Walk(Protocol):
    """A family: amounts that a method forecasts at each submission, by its own numbers."""

    def __call__(self, jobs: pd.DataFrame) -> tuple[dict[str, Floats], Floats]:
        """Forecasts by name, MiB, shape (n,), NaN where none; ended tasks of each one's type."""


def tuned(
    jobs: pd.DataFrame, walk: Walk, training: NDArray[np.bool_], risk: float
) -> tuple[str, Floats]:
    """The amounts of a method at the numbers that were best on the training stretch.

    Returns
    -------
    name : str
        Those numbers.
    amount_mib : array, shape (n,)
        At most the request.
    """
    found, count = walk(jobs)
    request = jobs["mem_mib"].to_numpy(np.float64)
    best: tuple[tuple[bool, float], str, Floats] | None = None
    for name, forecast in found.items():
        for times in TIMES:
            for least in LEAST:
                known = np.isfinite(forecast) & (count >= least)
                amount = np.where(known, np.minimum(times * forecast, request), request)
                waste = waste_of(jobs, amount, training)
                kept = waste.failures <= risk
                rank = (not kept, waste.waste_gib_h if kept else waste.failures)
                if best is None or rank < best[0]:
                    best = rank, f"{name} x {times:g}, from {counted(least, 'task')} on", amount
    if best is None:
        return "request", request
    return best[1], best[2]


def largest_so_far(jobs: pd.DataFrame) -> tuple[dict[str, Floats], Floats]:
    """The largest peak of the type's ended tasks."""
    types = TaskTypes(jobs)
    largest, count = (np.zeros(int(types.of.max(initial=0)) + 1) for _ in range(2))
    found, ended = np.full(len(jobs), np.nan), np.zeros(len(jobs))
    for job in range(len(jobs)):
        for other in types.ended_by(types.submit[job]):
            kind = types.of[other]
            largest[kind] = max(largest[kind], types.peak[other])
            count[kind] += 1
        kind = types.of[job]
        ended[job] = count[kind]
        found[job] = largest[kind] if count[kind] else np.nan
    return {"largest": found}, ended


def known_before(jobs: pd.DataFrame) -> Floats:
    """What a model may look at: numbers known before the start, shape (n, features).

    Requests and the numeric features of the log; logarithms, since they span decades. What a
    trace measures during the run (bytes read, processor use) is none of them.
    """
    names = ["cpus", "requested_s", "mem_mib"]
    names += [name for name in extra_columns(jobs) if name.startswith("num_")]
    columns = [np.nan_to_num(jobs[name].to_numpy(np.float64)) for name in names]
    return np.log1p(np.maximum(np.column_stack(columns), 0.0))


class _Line:
    """Least squares with an intercept; of one distinct input the mean."""

    def fit(self, x: Floats, y: Floats) -> _Line:
        self.weights = np.linalg.lstsq(np.column_stack([np.ones(len(x)), x]), y, rcond=1e-8)[0]
        return self

    def predict(self, x: Floats) -> Floats:
        return np.asarray(np.column_stack([np.ones(len(x)), x]) @ self.weights, dtype=np.float64)


class _Type:
    """Ended tasks of one type, and when a model of it was fitted last."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.fitted, self.models = 0, list[Any]()
        self.under: list[Floats] = []

    def due(self) -> bool:
        return len(self.rows) >= max(1.0, _GROWTH * self.fitted)


def _asked(jobs: pd.DataFrame) -> Iterator[tuple[int, list[int], TaskTypes, list[_Type]]]:
    """Each job in order of submission, with the tasks that have ended since the last."""
    types = TaskTypes(jobs)
    kinds = [_Type() for _ in range(int(types.of.max(initial=0)) + 1)]
    for job in range(len(jobs)):
        yield job, types.ended_by(types.submit[job]).tolist(), types, kinds


def straight_line(jobs: pd.DataFrame) -> tuple[dict[str, Floats], Floats]:
    """A line through what is known before the start, and some deviations above it."""
    x, found, ended = known_before(jobs), {}, np.zeros(len(jobs))
    line, spread = np.full(len(jobs), np.nan), np.full(len(jobs), np.nan)
    for job, fresh, types, kinds in _asked(jobs):
        for other in fresh:
            kinds[types.of[other]].rows.append(other)
        kind = kinds[types.of[job]]
        ended[job] = len(kind.rows)
        if not kind.rows:
            continue
        if kind.due():
            rows = kind.rows[-_WINDOW:]
            y = types.peak[rows]
            model = _Line().fit(x[rows], y)
            kind.models = [model, float((y - model.predict(x[rows])).std())]
            kind.fitted = len(kind.rows)
        line[job] = kind.models[0].predict(x[job : job + 1])[0]
        spread[job] = kind.models[1]
    for many in SPREADS:
        found[f"line + {many:g} sd"] = line + many * spread
    return found, ended


def k_segments(jobs: pd.DataFrame) -> tuple[dict[str, Floats], Floats]:
    """k-Segments where a log has one peak a task: a line, and the largest underestimate so far.

    Notes
    -----
    The method forecasts the run time by a line, cuts it into k segments, forecasts the peak of
    each by a line through the input's size, and lifts it by the largest underestimate so far. A
    log without memory over time has one segment.

    References
    ----------
    Bader et al. (2023), "Predicting Dynamic Memory Requirements for Scientific Workflow Tasks",
    IEEE Big Data.
    """
    x, ended, found = known_before(jobs), np.zeros(len(jobs)), np.full(len(jobs), np.nan)
    line = np.full(len(jobs), np.nan)
    lift: dict[int, float] = {}
    for job, fresh, types, kinds in _asked(jobs):
        for other in fresh:
            number = int(types.of[other])
            kinds[number].rows.append(other)
            if np.isfinite(line[other]):
                under = types.peak[other] - line[other]
                lift[number] = max(lift.get(number, 0.0), float(under))
        number = int(types.of[job])
        kind = kinds[number]
        ended[job] = len(kind.rows)
        if not kind.rows:
            continue
        if kind.due():
            rows = kind.rows[-_WINDOW:]
            model = _Line().fit(x[rows], types.peak[rows])
            own = float(np.max(types.peak[rows] - model.predict(x[rows])))
            kind.models, kind.fitted = [model], len(kind.rows)
            lift[number] = max(lift.get(number, 0.0), own)
        line[job] = kind.models[0].predict(x[job : job + 1])[0]
        found[job] = line[job] + lift.get(number, 0.0)
    return {"line + largest underestimate": found}, ended


# -- Sizey -----------------------------------------------------------------------------------

_WEIGHTS = (0.0, 0.5, 1.0)
"""Weights of the efficiency beside the accuracy in the score of a model."""
_SHARP = 10.0
"""How sharply the gate prefers the model with the higher score."""


def sizey(jobs: pd.DataFrame) -> tuple[dict[str, Floats], Floats]:
    """Sizey: four models a task type, weighted by their scores so far, and an offset.

    Notes
    -----
    Models are a line, nearest neighbours, a neural network and a random forest, trained anew as
    tasks of the type end. A model's accuracy is ``1 - min(1, |forecast - peak| / peak)`` over
    its forecasts so far, its efficiency ``1 - forecast / largest forecast of the four``; the
    score weighs both, and forecasts are mixed by the softmax of the scores. To that the offset
    that would have wasted least so far is added: the standard deviation of the errors, that of
    the underestimates, the median error or the median underestimate.

    References
    ----------
    Bader et al. (2024), "Sizey: Memory-Efficient Execution of Scientific Workflow Tasks", IEEE
    CLUSTER, doi:10.1109/CLUSTER59578.2024.00037. Written from that description.
    """
    x, ended, rows = known_before(jobs), np.zeros(len(jobs)), len(jobs)
    votes = np.full((rows, 4), np.nan)
    mixed = np.full((rows, len(_WEIGHTS)), np.nan)
    found = np.full((rows, len(_WEIGHTS)), np.nan)
    scored: dict[int, list[int]] = {}
    for job, fresh, types, kinds in _asked(jobs):
        for other in fresh:
            number = int(types.of[other])
            kinds[number].rows.append(other)
            if np.isfinite(votes[other, 0]):
                scored.setdefault(number, []).append(other)
        number = int(types.of[job])
        kind = kinds[number]
        ended[job] = len(kind.rows)
        if not kind.rows:
            continue
        if kind.due():
            past = kind.rows[-_WINDOW:]
            kind.models = _four_models(x[past], types.peak[past])
            kind.fitted = len(kind.rows)
        votes[job] = [max(float(m.predict(x[job : job + 1])[0]), 1.0) for m in kind.models]
        past = scored.get(number, [])[-_WINDOW:]
        accuracy, efficiency = _scores(votes[past], types.peak[past], votes[job])
        for place, weight in enumerate(_WEIGHTS):
            score = (1.0 - weight) * accuracy + weight * efficiency
            gate = np.exp(_SHARP * (score - score.max()))
            mixed[job, place] = float((gate * votes[job]).sum() / gate.sum())
            offset = _offset(mixed[past, place], types.peak[past])
            found[job, place] = mixed[job, place] + offset
    return {f"efficiency {w:g}": found[:, k] for k, w in enumerate(_WEIGHTS)}, ended


def _four_models(x: Floats, y: Floats) -> list[Any]:
    line = _Line().fit(x, y)
    near = KNeighborsRegressor(n_neighbors=min(5, len(y))).fit(x, y)
    if len(y) < 3 or not np.ptp(x, axis=0).any():
        # Of one distinct input every other model gives the mean too.
        return [line, near, line, line]
    forest = RandomForestRegressor(20, random_state=0).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network = MLPRegressor(hidden_layer_sizes=(16,), max_iter=200, random_state=0)
        scaled = _Scaled(network).fit(x, y)
    return [line, near, scaled, forest]


class _Scaled:
    """A model of standardised inputs and peaks."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, x: Floats, y: Floats) -> _Scaled:
        self.mid, self.width = x.mean(axis=0), np.where(np.ptp(x, axis=0) > 0, x.std(axis=0), 1.0)
        self.base, self.scale = y.mean(), y.std() or 1.0
        self.model.fit((x - self.mid) / self.width, (y - self.base) / self.scale)
        return self

    def predict(self, x: Floats) -> Floats:
        found = self.model.predict((x - self.mid) / self.width)
        return np.asarray(found * self.scale + self.base, dtype=np.float64)


def _scores(past: Floats, peak: Floats, now: Floats) -> tuple[Floats, Floats]:
    """Accuracy of the models so far and efficiency of their forecasts now, shape (models,)."""
    if not len(past):
        return np.ones(4), 1.0 - now / now.max()
    error = np.minimum(np.abs(past - peak[:, None]) / peak[:, None], 1.0)
    return 1.0 - error.mean(axis=0), 1.0 - now / now.max()


def _offset(forecast: Floats, peak: Floats) -> float:
    """The offset that would have wasted least so far, a failure wasting the peak twice."""
    if not len(peak):
        return 0.0
    error = peak - forecast
    under = error[error > 0]
    offsets = [float(error.std()), float(np.median(np.abs(error)))]
    offsets += [float(under.std()), float(np.median(under))] if len(under) else []

    def waste(offset: float) -> float:
        amount = forecast + offset
        return float(np.where(amount >= peak, amount - peak, amount + peak).sum())

    return min(offsets, key=waste)


METHODS: dict[str, Walk] = {
    "maximum": largest_so_far,
    "linear": straight_line,
    "k_segments": k_segments,
    "sizey": sizey,
}
"""Methods by name."""

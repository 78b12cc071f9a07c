"""From a job and its history to a row of floats, using only what was known at submission."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.schema import extra_columns
from plancast.predictor.state.commands import BUCKETS, hashed_words
from plancast.predictor.state.history import HISTORY_NAMES, Floats, History, history_names
from plancast.predictor.state.keys import KINDS, layout_of
from plancast.predictor.state.run_statistics import STATS
from plancast.predictor.texts import FREE_TEXTS

DESCRIPTION_NAMES: tuple[str, ...] = (
    "log_requested",
    "requested_whole_hours",
    "requested_whole_tens",
    "requested_whole_minutes",
    "log_cpus",
    "log_mem",
    "gpus",
    "log_cpu_seconds",
    "hour",
    "weekday",
    "anchor",
    "log_requested_to_anchor",
)
"""What the request itself says; the three ``whole`` columns are habits of rounding it."""

ANCHORS: tuple[tuple[str, int], ...] = (
    ("user_requested_last_two", 1),
    ("user_like_median", 4),
    ("user_app_median", 4),
    ("user_cpus_median", 4),
    ("user_median", 4),
    ("user_last_two", 1),
    ("log_requested", 0),
    ("like_median", 4),
    ("app_median", 1),
    ("queue_median", 1),
    ("all_median", 1),
)
"""The anchor of a job is the first of these that is known of at least so many ended jobs: a
plain guess of its log run time."""

NO_ANCHOR = float(np.float32(math.log(3600.0)))
"""Anchor of a job of which nothing is known: an hour, a mere convention."""

CATEGORY_COLUMNS: tuple[str, ...] = ("app", "queue", "partition")
"""Text columns that become integer codes, learned in ``fit``; an unknown value is NaN.
Users and groups are described by their history instead: codes of theirs made forecasts worse."""

_RELATIVE = slice(STATS.index("last"), STATS.index("mean") + 1)
"""The statistics of a kind that are log run times."""


def _guesses() -> list[tuple[int, int, int]]:
    """``ANCHORS`` as columns of the history: the guess (-1: the request), its count, the least."""
    columns = []
    for name, least in ANCHORS:
        kind = next((k for k in KINDS if name.removeprefix(f"{k}_") in STATS), None)
        if kind is None:
            columns.append((-1, -1, least))
        else:
            at = HISTORY_NAMES.index
            columns.append((at(name), at(f"{kind}_count"), least))
    return columns


_GUESSES = _guesses()

_NUMBERS = ("submit_s", "requested_s", "cpus", "mem_mib", "gpus")


class FeatureBuilder:
    """Turns canonical jobs into a float matrix with stable column names.

    Parameters
    ----------
    window, decay
        Passed to the ``History`` it makes where none is given.

    Attributes
    ----------
    names : list of str
        Column names of the matrix: the request, the history, extra numbers, hashed
        words of texts, categories.
    categorical : list of int
        Which columns are category codes.

    Notes
    -----
    Statistics of log run times are given relative to the anchor (``x - anchor``), which stands
    in a column of its own, and a regressor learns ``log run time - anchor``: it corrects a
    plain guess, and one tree then serves short and long jobs alike.

    Leakage rule: changing any run time whose job ends after another job's submission, before
    and after the change, leaves the other job's features bit-identical. Categories come from
    columns known at submission; no fill value is learned, unknown is NaN.
    """

    def __init__(self, window: int = 20, decay: float = 0.3) -> None:
        self.window = window
        self.decay = decay
        self.numbers: list[str] = []
        self.texts: tuple[str, ...] = ()
        self.categories: dict[str, dict[str, int]] = {}
        self.set_layout()

    def set_layout(self) -> None:
        """Derive ``layout``, ``names`` and ``categorical`` from the learned columns."""
        self.layout = layout_of(self.texts)
        self._history_names = history_names(self.layout)
        self.names = [
            *DESCRIPTION_NAMES,
            *self._history_names,
            *self.numbers,
            *(f"{text}_{k}" for text in self.texts for k in range(BUCKETS)),
            *(f"code_{c}" for c in self.categories),
        ]
        first = len(self.names) - len(self.categories)
        self.categorical = list(range(first, len(self.names)))

    def fit(self, jobs: pd.DataFrame) -> FeatureBuilder:
        """Learn the category codes and the extra columns from the training stretch.

        Parameters
        ----------
        jobs : DataFrame
            Canonical frame; only columns that are known at submission are looked at.
        """
        extra = extra_columns(jobs)
        self.numbers = [c for c in extra if c.startswith("num_")]
        self.texts = tuple(c for c in FREE_TEXTS if c in jobs and (jobs[c] != "").any())
        texts = [*CATEGORY_COLUMNS, *(c for c in extra if c.startswith("cat_"))]
        self.categories = {}
        for column in texts:
            values = dict.fromkeys(v for v in jobs[column].tolist() if v)
            self.categories[column] = {value: code for code, value in enumerate(values)}
        self.set_layout()
        return self

    def transform(
        self,
        jobs: pd.DataFrame,
        history: History | None = None,
        as_of_s: Floats | float | None = None,
        *,
        see_ends: bool = True,
    ) -> NDArray[np.float32]:
        """Features of many jobs, each as of its own moment.

        Parameters
        ----------
        jobs : DataFrame
            Canonical frame.
        history : History, optional
            What is known besides the jobs themselves.
        as_of_s : float or array of shape (n,), optional
            Seconds; each job's ``submit_s`` where it is not given.
        see_ends : bool
            Whether the jobs' own ends are known from their ``end_s`` on (replay of a log).

        Returns
        -------
        array of float32, shape (n, len(names))
        """
        history = self.new_history() if history is None else history
        matrix = np.empty((len(jobs), len(self.names)), dtype=np.float32)
        history.replay(jobs, as_of_s, see_ends=see_ends, out=self._known_part(matrix))
        columns = {c: jobs[c].to_numpy() for c in self._needed(jobs.columns)}
        return self._assembled(columns, matrix)

    def row(
        self, job: Mapping[str, Any], history: History, as_of_s: float | None = None
    ) -> NDArray[np.float32]:
        """Features of one job, shape (1, len(names)), equal bit for bit to ``transform``'s row."""
        matrix = np.empty((1, len(self.names)), dtype=np.float32)
        self._known_part(matrix)[0] = history.ask(job, as_of_s)
        columns: dict[str, NDArray[Any]] = {}
        for name in (*_NUMBERS, *self.numbers):
            value = job.get(name)
            columns[name] = np.array([math.nan if value is None else value], dtype=np.float64)
        for name in (*self.texts, *self.categories):
            columns[name] = np.array([job.get(name, "")], dtype=object)
        return self._assembled(columns, matrix)

    def new_history(self) -> History:
        """A history that has seen nothing, of what the features need."""
        return History(self.window, self.decay, self.layout)

    def anchor(self, matrix: NDArray[Any]) -> Floats:
        """The anchor of each row of a feature matrix, log seconds, shape (n,); never NaN."""
        return matrix[:, self.names.index("anchor")].astype(np.float64)

    def card(self) -> dict[str, Any]:
        """Everything it learned, as JSON values."""
        return {
            "window": self.window,
            "decay": self.decay,
            "numbers": self.numbers,
            "texts": list(self.texts),
            "categories": {c: list(codes) for c, codes in self.categories.items()},
        }

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> FeatureBuilder:
        """The builder that wrote `card`."""
        builder = cls(int(card["window"]), float(card["decay"]))
        builder.numbers = [str(n) for n in card["numbers"]]
        # Cards of models that were trained before texts were read name none.
        builder.texts = tuple(str(c) for c in card.get("texts", ()))
        builder.categories = {
            str(column): {str(value): code for code, value in enumerate(values)}
            for column, values in card["categories"].items()
        }
        builder.set_layout()
        return builder

    def _needed(self, present: Any) -> list[str]:
        wanted = (*_NUMBERS, *self.numbers, *self.texts, *self.categories)
        return [c for c in wanted if c in present]

    def _known_part(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """The columns of a matrix that the history writes."""
        return matrix[:, len(DESCRIPTION_NAMES) : len(DESCRIPTION_NAMES) + len(self._history_names)]

    def _assembled(
        self, columns: dict[str, NDArray[Any]], matrix: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Fill in the rest of a matrix whose history is written."""
        known = self._known_part(matrix)
        width = len(DESCRIPTION_NAMES)
        described = _described(columns).astype(np.float32)
        anchor = _anchor(described, known)
        kinds = len(self.layout.kinds)
        of_kinds = known[:, : kinds * len(STATS)].reshape(len(known), kinds, len(STATS))
        of_kinds[:, :, _RELATIVE] -= anchor[:, None, None]
        matrix[:, : width - 2] = described
        matrix[:, width - 2] = anchor
        matrix[:, width - 1] = described[:, 0] - anchor
        matrix[:, width + known.shape[1] :] = np.nan
        at = width + known.shape[1]
        for name in self.numbers:
            if name in columns:
                matrix[:, at] = columns[name]
            at += 1
        for name in self.texts:
            if name in columns:
                coded, distinct = pd.factorize(columns[name])
                words = np.array([hashed_words(name, text) for text in distinct], np.float32)
                matrix[:, at : at + BUCKETS] = words.reshape(-1, BUCKETS)[coded]
            at += BUCKETS
        for name, codes in self.categories.items():
            if name in columns:
                matrix[:, at] = [codes.get(value, math.nan) for value in columns[name].tolist()]
            at += 1
        return matrix


def _anchor(described: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    anchor = np.full(len(known), np.nan, dtype=np.float32)
    for column, count, least in _GUESSES:
        if column < 0:
            guess = described[:, 0]
        else:
            guess = np.where(known[:, count] >= least, known[:, column], np.float32(np.nan))
        anchor = np.where(np.isnan(anchor), guess, anchor)
        if not np.isnan(anchor).any():
            return anchor
    return np.where(np.isnan(anchor), np.float32(NO_ANCHOR), anchor)


def _described(columns: dict[str, NDArray[Any]]) -> Floats:
    """The columns of DESCRIPTION_NAMES up to ``weekday``, shape (n, columns)."""
    submit, requested, cpus, mem, gpus = (
        np.array(columns[name], dtype=np.float64) for name in _NUMBERS
    )
    # Zeros and negative amounts stand for "unknown" in many logs.
    requested, cpus, mem = (np.where(v > 0, v, np.nan) for v in (requested, cpus, mem))
    unknown = np.isnan(requested)
    whole = [
        np.where(unknown, np.nan, (np.mod(requested, unit) == 0).astype(np.float64))
        for unit in (3600.0, 600.0, 60.0)
    ]
    return np.column_stack(
        [
            np.log1p(requested),
            *whole,
            np.log1p(cpus),
            np.log1p(mem),
            gpus,
            np.log1p(cpus * requested),
            np.mod(submit / 3600.0, 24.0),
            # Day 0 of the Unix epoch was a Thursday: Monday is 0.
            np.mod(np.floor(submit / 86400.0) + 3.0, 7.0),
        ]
    )

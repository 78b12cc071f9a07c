"""Which jobs train, what of them is kept for the next refit, and which jobs run at a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.forecaster import FIRST_ROWS, Past, Questions
from plancast.predictor.schema import OUTCOMES, BadLog
from plancast.predictor.splits import known_at_s, split_by_share
from plancast.predictor.state.experts import TRAINING_ROWS
from plancast.predictor.state.keys import ROW
from plancast.wording import counted

Floats = NDArray[np.float64]


@dataclass
class Running:
    """A job that waits or runs: its number, how it was asked about, and its start where known."""

    number: int
    asked: Questions
    start_s: float


@dataclass
class Training:
    """The latest ended jobs as they were asked about, which the next refit trains on."""

    parts: list[tuple[NDArray[np.float32], Floats, Floats, list[str]]]

    @classmethod
    def nothing(cls) -> Training:
        """No jobs."""
        return cls([])

    @classmethod
    def of(cls, past: Past) -> Training:
        """These jobs."""
        return cls([(past.matrix, past.requested_s, past.run_s, past.queues)])

    def add(self, asked: Questions, run_s: float) -> None:
        """One more job, which has ended."""
        self.parts.append((asked.matrix, asked.requested_s, np.array([run_s]), asked.queues))

    def past(self, watched_s: Floats) -> Past:
        """The latest of them, in order of their ends."""
        if not self.parts:
            empty = np.empty(0)
            return Past(np.empty((0, 0), np.float32), empty, empty, [], watched_s)
        matrix = np.concatenate([part[0] for part in self.parts])[-TRAINING_ROWS:]
        requested = np.concatenate([part[1] for part in self.parts])[-TRAINING_ROWS:]
        run = np.concatenate([part[2] for part in self.parts])[-TRAINING_ROWS:]
        queues = [queue for part in self.parts for queue in part[3]][-TRAINING_ROWS:]
        self.parts = [(matrix, requested, run, queues)]
        return Past(matrix, requested, run, queues, watched_s)

    def frame(self, names: Sequence[str]) -> pd.DataFrame:
        """Them as a frame, a column a feature."""
        past = self.past(np.empty(0))
        matrix = past.matrix if len(past.run_s) else np.empty((0, len(names)), np.float32)
        frame = pd.DataFrame(matrix, columns=[f"f {name}" for name in names])
        return frame.assign(
            requested_s=past.requested_s, run_s=past.run_s, queue=np.array(past.queues, object)
        )

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, names: Sequence[str]) -> Training:
        """What ``frame`` gave."""
        matrix = frame[[f"f {name}" for name in names]].to_numpy(np.float32, copy=True)
        requested, run = (
            frame[c].to_numpy(np.float64, copy=True) for c in ("requested_s", "run_s")
        )
        return cls([(matrix, requested, run, frame["queue"].astype(str).tolist())])


def past_of(asked: Questions, rows: NDArray[np.int64], run_s: Floats, watched_s: Floats) -> Past:
    """What a refit learns from, of some of the jobs that were asked about."""
    queues = [asked.queues[i] for i in rows.tolist()]
    return Past(asked.matrix[rows], asked.requested_s[rows], run_s[rows], queues, watched_s)


class UnnamedRows:
    """The ended rows that name no job: one that comes again is that row again."""

    def __init__(self, jobs: pd.DataFrame | None = None) -> None:
        known = [] if jobs is None else _unnamed_places(jobs)
        self._known = Counter(row for _, row in known)

    def without_known(self, jobs: pd.DataFrame) -> pd.DataFrame:
        """The rows that are not known already, cell for cell; from now on they are."""
        places = _unnamed_places(jobs)
        found = Counter(row for _, row in places)
        left = found - self._known
        self._known |= found
        if left == found:
            return jobs
        keep = np.ones(len(jobs), bool)
        for place, row in places:
            keep[place] = left[row] > 0
            left[row] -= 1
        return jobs[keep].reset_index(drop=True)


def _unnamed_places(jobs: pd.DataFrame) -> list[tuple[int, int]]:
    """Places of the ended rows that name no job, and a hash of what each says."""
    unnamed = np.flatnonzero(((jobs["job_id"] == "") & jobs["end_s"].notna()).to_numpy())
    columns = (jobs[name].iloc[unnamed].tolist() for name in ROW if name != "job_id")
    rows = zip(*columns, strict=True)
    # NaN equals nothing, itself included.
    found = (hash(tuple(None if cell != cell else cell for cell in row)) for row in rows)
    return list(zip(unnamed.tolist(), found, strict=True))


def latest_s(jobs: pd.DataFrame) -> float:
    """The latest submission or end of jobs, seconds; -inf where none is known."""
    moments = jobs[["submit_s", "end_s"]].to_numpy(np.float64)
    return float(np.max(moments, initial=-np.inf, where=np.isfinite(moments)))


def begun_at_s(jobs: pd.DataFrame) -> Floats:
    """When each job started, seconds; its submission where that is unknown."""
    submit, start = (jobs[name].to_numpy(np.float64) for name in ("submit_s", "start_s"))
    return np.where(np.isnan(start), submit, start)


def runs_at(jobs: pd.DataFrame, usable: NDArray[np.bool_], moment_s: float) -> NDArray[np.bool_]:
    """Which jobs run at a moment, whether or not their run time is known later, shape (n,).

    A job whose start is unknown counts as started where its run time is known, or where the log
    tells no starts and not yet an outcome.
    """
    known = known_at_s(jobs)
    found = jobs["start_s"].notna().to_numpy()
    silent = not found.any()
    open_end = np.isinf(known) & (found | (silent & (jobs["outcome"] == "unknown").to_numpy()))
    return np.asarray((usable | open_end) & (begun_at_s(jobs) <= moment_s) & (known > moment_s))


def split_to_train(
    jobs: pd.DataFrame,
    usable: NDArray[np.bool_],
    calibration_share: float,
    what: str = "run time",
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Rows that train, rows that calibrate, and when those begin, seconds (or infinity).

    Raises
    ------
    BadLog
        Where too few jobs have `what` is to be learned.
    """
    split = split_by_share(jobs, 1 - calibration_share, calibration_share)
    train = split.train[usable[split.train]]
    if len(train) < FIRST_ROWS:
        raise BadLog(
            f"the log has {counted(len(train), 'job')} to train on with a positive {what}; "
            f"give at least {FIRST_ROWS}"
        )
    return train, split.calibration[usable[split.calibration]], split.calibration_from_s


def trainable(jobs: pd.DataFrame, outcomes: Sequence[str] = OUTCOMES) -> NDArray[np.bool_]:
    """Which rows may train: submitted, with a positive run time and one of the outcomes."""
    run = jobs["run_s"].to_numpy(dtype=np.float64)
    submitted = jobs["submit_s"].notna() & jobs["outcome"].isin(list(outcomes))
    return np.asarray((run > 0) & np.isfinite(run) & submitted, dtype=bool)

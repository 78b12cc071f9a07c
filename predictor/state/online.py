"""Forecasts corrected while time goes by: a mixture of experts, calibrated as jobs end.

`OnlineCorrection` takes the log quantiles that several experts give for a job, mixes them by
their recent losses, shifts the mixture by conformal scores of jobs that have ended, and learns
from each job when it ends. ``replay`` does it for arrays, ``issue`` and ``settle`` for one job
at a time; both run the same kernels, so that their results are equal bit for bit.

Rules
-----
* At one moment ends come before submissions, ends in the order of the submissions.
* A job teaches nothing before its end. A forecast that was never issued teaches nothing, and
  one that promised no finite quantile does not move the levels: it could not miss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.state import mixture as kernels
from plancast.predictor.state.learned import (
    Asked,
    Issued,
    Settings,
    State,
    empty_state,
    nothing_issued,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GIVEN_UP_S = 7 * 86400.0
"""A job of which no end is known counts as running for this long after its forecast, seconds."""


class Slip(NamedTuple):
    """One forecast, kept until its job ends."""

    owner: str
    asked: Asked
    issued: Issued


class OnlineCorrection:
    """A mixture of experts whose quantiles are calibrated online.

    Parameters
    ----------
    levels : sequence of float
        Increasing.
    experts : int
        How many forecasts of each job are mixed.
    cohorts : int
        Groups of jobs that are calibrated apart.
    settings : Settings

    Notes
    -----
    Mixture, by level: L is the mean pinball loss of log run times over the last jobs of the
    cohort, moved towards the owner's own as more of the owner's jobs end. An expert weighs
    ``exp(-sharpness (L / min L - 1))``; the mixture is the weighted mean of log quantiles, so
    the best rule among the experts is never far. At the middle level it is the weighted median:
    run times repeat, and between two experts who each name a likely one lies an unlikely one.

    Run times repeat, and mixing and shifting move the median off the value that is repeated. The
    last run time of jobs like this one takes its place where it has lately been nearer to the
    owner's run times; where the last two agree, large errors count no more than a factor of 2
    in that comparison. A long one stays between the forecast's levels 0.1 and 0.8, and is taken
    only as far as repeats like it have not lately cost much in seconds.

    Calibration: the score of an ended job is ``r = (log t - b) / s``, b the mixture and s its
    distance from the median to a high level. The corrected quantile at level p is
    ``b + s R(p + lift)``, R the conformal rank among the window's scores. On each end a lift
    moves by ``rate ([t > q] - (1 - p))``, over the number of jobs that still run: the adaptive
    conformal inference of Gibbs and Candes, with steps that stay stable under delay. The lift
    of a job is the sum of its cohort's, its owner's, and that of all owners of whom about as
    many jobs had ended (their seniority: what is wrong with new users' forecasts is not what
    is wrong with old ones'), and of ``pull`` times the excess of misses over the last jobs of
    all, so that errors of long bursts are made good in the long run. A forecast is raised by
    at most ``raise_to`` and what the medians of all jobs miss: scores of jobs that err by
    factors must not blow up the others, and a jump of the whole log must be followed. Below
    ``p / (1 - p)`` ended jobs no finite quantile is promised: the kill limit stands in, or
    infinity. Quantiles never cross: each is at least the one below.

    References
    ----------
    Gibbs, Candes (2021), "Adaptive conformal inference under distribution shift", NeurIPS.
    Cesa-Bianchi, Lugosi (2006), "Prediction, learning, and games", chapter 2.
    """

    def __init__(
        self,
        levels: Sequence[float],
        experts: int,
        cohorts: int = 2,
        settings: Settings | None = None,
    ) -> None:
        self.levels = tuple(float(level) for level in levels)
        self.experts = experts
        self.cohorts = cohorts
        self.settings = settings or Settings()
        self.owners: dict[str, int] = {}
        self.state = empty_state(len(self.levels), experts, cohorts, self.settings.window, 0)
        self._levels = np.array(self.levels)
        self._issued: dict[int, Slip] = {}
        self._count = 0

    @property
    def settled(self) -> int:
        """Number of ended jobs it has learned from."""
        return int(self.state.ended[-1])

    # -- arrays ------------------------------------------------------------------------

    def replay(
        self,
        expert_logs: NDArray[Any],
        log_run: Floats,
        issue_s: Floats,
        end_s: Floats,
        owners: Sequence[str],
        cohorts: Ints,
        limit_logs: Floats,
        same: tuple[Floats, Floats] | None = None,
    ) -> tuple[Floats, Floats]:
        """Issue a forecast for each job in turn, learning from those that ended before.

        Parameters
        ----------
        expert_logs : array, shape (n, experts, levels)
            Log seconds, none of them NaN.
        log_run : array, shape (n,)
            Log run times; NaN: never ran, teaches nothing.
        issue_s, end_s : array, shape (n,)
            When the forecast is made, non-decreasing, and when the run time becomes known
            (infinity: never; NaN: unknown).
        owners : sequence of str, length n
        cohorts : array of int, shape (n,)
        limit_logs : array, shape (n,)
            Log of the kill limit, infinity where there is none.
        same : pair of arrays, each of shape (n,), optional
            Log run time of the last job like each (NaN: none), and how far the one before lay
            from it (infinity: none); see ``same_of``.

        Returns
        -------
        corrected, mixed : array, shape (n, levels)
            Log quantiles after and before the calibration.
        """
        known = np.maximum(
            np.where(np.isnan(end_s), np.asarray(issue_s) + GIVEN_UP_S, end_s), issue_s
        )
        # Ends in order of time; at the same time in order of submission.
        order = np.lexsort((np.arange(len(known)), known)).astype(np.int64)
        asked = Asked(
            np.ascontiguousarray(expert_logs, dtype=np.float64),
            *_last_of(same, len(known)),
            self._owner_slots(owners),
            np.asarray(cohorts, dtype=np.int64),
            np.asarray(limit_logs, dtype=np.float64),
        )
        issued = nothing_issued(len(known), len(self.levels))
        kernels.replay(
            self.state,
            self.settings,
            self._levels,
            asked,
            issued,
            np.asarray(log_run, dtype=np.float64),
            np.asarray(issue_s, dtype=np.float64),
            known,
            order,
        )
        return issued.corrected, issued.mixed

    # -- one at a time -----------------------------------------------------------------

    def issue(
        self,
        expert_logs: Floats,
        owner: str,
        cohort: int,
        limit_log: float = math.inf,
        same: tuple[float, float] = (math.nan, math.inf),
    ) -> tuple[Floats, Slip]:
        """Forecast one job from what has ended so far.

        Parameters
        ----------
        expert_logs : array, shape (experts, levels)
            Log seconds.
        owner : str
        cohort : int
        limit_log : float
            Log of the kill limit; infinity where there is none.
        same : pair of float
            As of ``replay``, of this job.

        Returns
        -------
        corrected : array, shape (levels,)
            Log quantiles.
        slip : Slip
            What ``submitted`` takes if the forecast is to be learned from.
        """
        asked = Asked(
            np.array(expert_logs, dtype=np.float64)[None],
            np.array([same[0]]),
            np.array([same[1]]),
            np.array([self.owners.get(owner, -1)], np.int64),
            np.array([cohort], np.int64),
            np.array([limit_log]),
        )
        issued = nothing_issued(1, len(self.levels))
        kernels.issue(self.state, self.settings, self._levels, asked, issued, 0)
        return issued.corrected[0].copy(), Slip(owner, asked, issued)

    def submitted(self, slip: Slip) -> int:
        """Count a forecast job as running; returns the number that ``ended`` takes."""
        slip.asked.owner[0] = self._owner_slots([slip.owner])[0]
        kernels.await_end(self.state, slip.asked, slip.issued, 0, 1)
        self._count += 1
        self._issued[self._count] = slip
        return self._count

    def ended(self, number: int, log_run: float) -> None:
        """Learn from a job that ended now; NaN: it never ran."""
        _, asked, issued = self._issued.pop(number)
        kernels.settle(self.state, self.settings, self._levels, asked, issued, 0, float(log_run))

    # -- keeping -----------------------------------------------------------------------

    def copy(self) -> OnlineCorrection:
        """An independent correction that has learned the same."""
        twin = OnlineCorrection(self.levels, self.experts, self.cohorts, self.settings)
        twin.owners = dict(self.owners)
        twin.state = State(**{name: array.copy() for name, array in self.state._asdict().items()})
        twin._issued = dict(self._issued)
        twin._count = self._count
        return twin

    def frame(self) -> pd.DataFrame:
        """The learned arrays, flat, as a frame that ``take`` takes back.

        Forecasts whose jobs still run are not kept: those jobs teach nothing after a reload.
        """
        parts = []
        for name, array in self.state._asdict().items():
            if name.endswith("pending"):
                continue
            # Owners that come one by one get room ahead of time.
            known = array[: len(self.owners)] if name.startswith("owner_") else array
            parts.append(
                pd.DataFrame({"array": name, "value": known.astype(np.float64).ravel(), "key": ""})
            )
        owners = pd.DataFrame({"array": "owners", "value": 0.0, "key": list(self.owners)})
        return pd.concat([*parts, owners], ignore_index=True).astype({"key": object})

    def take(self, frame: pd.DataFrame) -> None:
        """Take the state that ``frame`` gave; raises ValueError where it does not fit."""
        names = frame["array"].to_numpy()
        keys = frame["key"].to_numpy()[names == "owners"]
        self.owners = {str(key): slot for slot, key in enumerate(keys)}
        fresh = empty_state(
            len(self.levels), self.experts, self.cohorts, self.settings.window, len(self.owners)
        )
        values = frame["value"].to_numpy()
        kept = {}
        for name, array in fresh._asdict().items():
            # A model of before costs were weighed has none of them, and starts to.
            older = name.startswith("repeat_") and not (names == name).any()
            if not name.endswith("pending") and not older:
                array = values[names == name].reshape(array.shape).astype(array.dtype)
            kept[name] = array
        self.state = State(**kept)

    def card(self) -> dict[str, Any]:
        """Levels, sizes and settings, as JSON values."""
        return {
            "levels": list(self.levels),
            "experts": self.experts,
            "cohorts": self.cohorts,
            "settings": dict(self.settings._asdict()),
            "settled": self.settled,
        }

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> OnlineCorrection:
        """An empty correction of the shape that wrote `card`."""
        settings = Settings(**card["settings"])
        return cls(card["levels"], int(card["experts"]), int(card["cohorts"]), settings)

    # -- inner workings ----------------------------------------------------------------

    def _owner_slots(self, owners: Sequence[str]) -> Ints:
        slots = np.array([self.owners.setdefault(o, len(self.owners)) for o in owners], np.int64)
        room = len(self.state.owner_lift)
        if len(self.owners) > room:
            more = max(len(self.owners), 2 * room) - room
            added = empty_state(len(self.levels), self.experts, 1, 1, more)
            names = [name for name in State._fields if name.startswith("owner_")]
            self.state = self.state._replace(
                **{n: np.concatenate([getattr(self.state, n), getattr(added, n)]) for n in names}
            )
        return slots


def _last_of(same: tuple[Floats, Floats] | None, rows: int) -> tuple[Floats, Floats]:
    if same is None:
        return np.full(rows, np.nan), np.full(rows, np.inf)
    return np.asarray(same[0], dtype=np.float64), np.asarray(same[1], dtype=np.float64)

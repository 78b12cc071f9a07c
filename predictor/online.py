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
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from predictor.jit import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


SENIORITIES: tuple[int, ...] = (10, 40, 150)
"""Numbers of an owner's ended jobs at which the owner's seniority changes."""

MIN_COHORT = 100
"""Ended jobs of a cohort below which it is corrected with everyone's scores."""


GIVEN_UP_S = 7 * 86400.0
"""A job of which no end is known counts as running for this long after its forecast, seconds."""


class Settings(NamedTuple):
    """How the correction learns; see docs/notes/forecasts.md for how it was chosen.

    Parameters
    ----------
    window : int
        Latest ended jobs whose scores calibrate a cohort.
    memory : float
        Jobs over which an expert's loss is averaged.
    sharpness : float
        How strongly a smaller loss is preferred.
    rate, owner_rate, senior_rate : float
        Step of the adaptive level for a cohort, for one owner (user), and for all owners of
        like seniority.
    reach, senior_reach : float
        How far the lift of a cohort or an owner, and that of a seniority, may go.
    slack : float
        How far the adaptive level may stray below the nominal one.
    pull, pull_memory, pull_reach : float
        How strongly a level leans against the excess of misses over the last jobs of all; over
        how many jobs; and by how much at most.
    raise_to : float
        How far the calibration may raise a forecast beyond what everybody's median misses,
        log seconds.
    owner_memory, owner_prior : float
        Jobs over which an owner's own losses are averaged, and the number of the cohort's jobs
        that they are weighed against.
    spread_from, spread_to : float
        Bounds of the unit in which scores are measured, log seconds.
    """

    window: int = 2000
    memory: float = 1000.0
    sharpness: float = 30.0
    rate: float = 0.005
    owner_rate: float = 0.02
    senior_rate: float = 0.002
    reach: float = 0.05
    senior_reach: float = 0.15
    slack: float = 0.1
    pull: float = 12.0
    pull_memory: float = 20_000.0
    pull_reach: float = 0.08
    raise_to: float = 0.25
    owner_memory: float = 200.0
    owner_prior: float = 100.0
    spread_from: float = 0.3
    spread_to: float = 1.0


class State(NamedTuple):
    """What was learned: plain arrays, changed in place.

    ``loss`` (cohorts, levels, experts); ``ended`` (cohorts + 1), the last being everyone;
    ``ring`` and ``ordered`` (cohorts + 1, levels, window): the latest scores by arrival and by
    size; ``lift`` (cohorts, levels) and ``owner_lift`` (owners, levels): what is added to the
    nominal levels; ``pending`` (cohorts) and ``owner_pending`` (owners): jobs not yet ended;
    ``owner_loss`` (owners, levels, experts) and ``owner_ended`` (owners);
    ``senior_lift`` (seniorities, levels) and ``senior_pending`` (seniorities);
    ``excess`` (levels): misses beyond 1 - p, a mean over the last jobs;
    ``longest`` (1): the largest log run time that has ended.
    """

    loss: Floats
    ended: Ints
    ring: Floats
    ordered: Floats
    lift: Floats
    owner_lift: Floats
    pending: Ints
    owner_pending: Ints
    owner_loss: Floats
    owner_ended: Ints
    senior_lift: Floats
    senior_pending: Ints
    excess: Floats
    longest: Floats


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
        self.state = _empty(len(self.levels), experts, cohorts, self.settings.window, 0)
        self._levels = np.array(self.levels)
        self._issued: dict[int, tuple[Any, ...]] = {}
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

        Returns
        -------
        corrected, mixed : array, shape (n, levels)
            Log quantiles after and before the calibration.
        """
        owner = self._owner_slots(owners)
        corrected = np.empty((len(log_run), len(self.levels)))
        mixed = np.empty_like(corrected)
        spread = np.empty(len(log_run))
        promised = np.zeros(len(log_run), np.int64)
        # Ends in order of time; at the same time in order of submission.
        known = np.maximum(
            np.where(np.isnan(end_s), np.asarray(issue_s) + GIVEN_UP_S, end_s), issue_s
        )
        order = np.lexsort((np.arange(len(known)), known)).astype(np.int64)
        _replay(
            self.state,
            self.settings,
            self._levels,
            np.ascontiguousarray(expert_logs, dtype=np.float64),
            np.asarray(log_run, dtype=np.float64),
            np.asarray(issue_s, dtype=np.float64),
            known,
            order,
            owner,
            np.asarray(cohorts, dtype=np.int64),
            np.asarray(limit_logs, dtype=np.float64),
            corrected,
            mixed,
            spread,
            promised,
        )
        return corrected, mixed

    # -- one job at a time -------------------------------------------------------------

    def issue(
        self, expert_logs: Floats, owner: str, cohort: int, limit_log: float = math.inf
    ) -> tuple[Floats, tuple[Any, ...]]:
        """Forecast one job; changes nothing.

        Returns
        -------
        corrected : array, shape (levels,)
            Log quantiles.
        slip : tuple
            What ``submitted`` takes if the forecast is to be learned from.
        """
        corrected, mixed = np.empty(len(self.levels)), np.empty(len(self.levels))
        slot = self.owners.get(owner, -1)
        spread, promised = _issue(
            self.state,
            self.settings,
            self._levels,
            expert_logs,
            slot,
            cohort,
            limit_log,
            corrected,
            mixed,
        )
        senior = int(_seniority(self.state, slot))
        slip = (expert_logs.copy(), owner, cohort, corrected, mixed, spread, senior, promised)
        return corrected, slip

    def submitted(self, slip: tuple[Any, ...]) -> int:
        """Count a forecast job as running; returns the number that ``ended`` takes."""
        slot = self._owner_slots([slip[1]])[0]
        self.state.pending[slip[2]] += 1
        self.state.owner_pending[slot] += 1
        self.state.senior_pending[slip[6]] += 1
        self._count += 1
        self._issued[self._count] = slip
        return self._count

    def told(self, number: int) -> Floats:
        """The log quantiles that a running job was given."""
        return cast(Floats, self._issued[number][3])

    def ended(self, number: int, log_run: float) -> None:
        """Learn from a job that ended now; NaN: it never ran."""
        logs, owner, cohort, corrected, mixed, spread, senior, promised = self._issued.pop(number)
        _settle(
            self.state,
            self.settings,
            self._levels,
            logs,
            log_run,
            self.owners[owner],
            cohort,
            senior,
            corrected,
            mixed,
            spread,
            promised,
        )

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
            parts.append(
                pd.DataFrame({"array": name, "value": array.astype(np.float64).ravel(), "key": ""})
            )
        owners = pd.DataFrame({"array": "owners", "value": 0.0, "key": list(self.owners)})
        return pd.concat([*parts, owners], ignore_index=True).astype({"key": object})

    def take(self, frame: pd.DataFrame) -> None:
        """Take the state that ``frame`` gave; raises ValueError where it does not fit."""
        names = frame["array"].to_numpy()
        keys = frame["key"].to_numpy()[names == "owners"]
        self.owners = {str(key): slot for slot, key in enumerate(keys)}
        fresh = _empty(
            len(self.levels), self.experts, self.cohorts, self.settings.window, len(self.owners)
        )
        values = frame["value"].to_numpy()
        kept = {}
        for name, array in fresh._asdict().items():
            if not name.endswith("pending"):
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
            added = _empty(len(self.levels), self.experts, 1, 1, more)
            names = [name for name in State._fields if name.startswith("owner_")]
            self.state = self.state._replace(
                **{n: np.concatenate([getattr(self.state, n), getattr(added, n)]) for n in names}
            )
        return slots


def _empty(levels: int, experts: int, cohorts: int, window: int, owners: int) -> State:
    return State(
        loss=np.zeros((cohorts, levels, experts)),
        ended=np.zeros(cohorts + 1, np.int64),
        ring=np.zeros((cohorts + 1, levels, window)),
        ordered=np.zeros((cohorts + 1, levels, window)),
        lift=np.zeros((cohorts, levels)),
        owner_lift=np.zeros((owners, levels)),
        pending=np.zeros(cohorts, np.int64),
        owner_pending=np.zeros(owners, np.int64),
        owner_loss=np.zeros((owners, levels, experts)),
        owner_ended=np.zeros(owners, np.int64),
        senior_lift=np.zeros((len(SENIORITIES) + 1, levels)),
        senior_pending=np.zeros(len(SENIORITIES) + 1, np.int64),
        excess=np.zeros(levels),
        longest=np.zeros(1),
    )


# -- kernels ---------------------------------------------------------------------------------


@kernel
def _insert(ring: Floats, ordered: Floats, seen: int, score: float) -> None:
    """Put a score into the window, the oldest leaving when it is full."""
    window = ring.shape[0]
    kept, place = min(seen, window), seen % window
    if kept == window:
        i = np.searchsorted(ordered, ring[place])
        kept -= 1
        for j in range(i, kept):
            ordered[j] = ordered[j + 1]
    i = np.searchsorted(ordered[:kept], score)
    for j in range(kept, i, -1):
        ordered[j] = ordered[j - 1]
    ordered[i] = score
    ring[place] = score


@kernel
def _ranked(ordered: Floats, kept: int, level: float) -> float:
    """The score of rank (kept + 1) level, linear between ranks."""
    position = min(max(level * (kept + 1) - 1.0, 0.0), kept - 1.0)
    low = int(position)
    high = min(low + 1, kept - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


@kernel
def _weighted_median(values: Floats, weights: Floats, total: float) -> float:
    """The smallest value below or at which half of the weight lies."""
    order = np.argsort(values)
    passed = 0.0
    for place in order:
        passed += weights[place]
        if passed >= 0.5 * total:
            return values[place]
    return values[order[-1]]


@kernel
def _seniority(state: State, owner: int) -> int:
    """By how many of the owner's jobs had ended, in classes."""
    ended = state.owner_ended[owner] if owner >= 0 else 0
    senior = 0
    for bound in SENIORITIES:
        if ended >= bound:
            senior += 1
    return senior


@kernel
def _pull_window(state: State, settings: Settings) -> float:
    """Over how many jobs the excess of misses is a mean."""
    return max(min(state.ended[-1] + 1.0, settings.pull_memory), 1000.0)


@kernel
def _issue(
    state: State,
    settings: Settings,
    levels: Floats,
    logs: Floats,
    owner: int,
    cohort: int,
    limit: float,
    corrected: Floats,
    mixed: Floats,
) -> tuple[float, int]:
    """Fill in the quantiles; their spread, and how many of them, from the lowest, are promised."""
    size, experts = levels.shape[0], logs.shape[0]
    own = 0.0
    if owner >= 0:
        own = min(float(state.owner_ended[owner]), settings.owner_memory)
    own = own / (own + settings.owner_prior)
    loss, weight = np.empty(experts), np.empty(experts)
    middle = int(np.argmin(np.abs(levels - 0.5)))
    high = int(np.argmin(np.abs(levels - 0.9)))
    for k in range(size):
        for e in range(experts):
            loss[e] = (1.0 - own) * state.loss[cohort, k, e]
            if own > 0.0:
                loss[e] += own * state.owner_loss[owner, k, e]
        best = loss.min()
        total, value = 0.0, 0.0
        for e in range(experts):
            excess = (loss[e] - best) / max(best, 1e-9)
            weight[e] = np.exp(-settings.sharpness * excess)
            total += weight[e]
            value += weight[e] * logs[e, k]
        mixed[k] = value / total
        if k == middle:
            mixed[k] = _weighted_median(logs[:, k], weight, total)
        if k > 0:
            mixed[k] = max(mixed[k], mixed[k - 1])
    spread = mixed[high] - mixed[middle]
    spread = min(max(spread, settings.spread_from), settings.spread_to)
    senior = _seniority(state, owner)
    everyone = state.ended.shape[0] - 1
    # How far a forecast may rise: a little, and as far as everybody's median has risen.
    highest = settings.raise_to
    if state.ended[everyone] > 0:
        kept = min(state.ended[everyone], state.ring.shape[2])
        risen = spread * _ranked(state.ordered[everyone, middle], kept, 0.5)
        highest += max(risen, 0.0)
    group = cohort if state.ended[cohort] >= MIN_COHORT else everyone
    seen = state.ended[group]
    kept = min(seen, state.ring.shape[2])
    # While many jobs run the excess tells of old forecasts: leaning harder than in proportion
    # would swing.
    pending = settings.pull * np.sum(state.pending) / _pull_window(state, settings)
    strength = settings.pull / (1.0 + pending)
    promised = 0
    for k in range(size):
        p = levels[k]
        if (seen + 1) * p > seen:
            corrected[k] = np.inf
        else:
            promised = k + 1
            lift = state.lift[cohort, k]
            if owner >= 0:
                lift += state.owner_lift[owner, k]
            lift += state.senior_lift[senior, k]
            pull = strength * state.excess[k]
            lift += min(max(pull, -settings.pull_reach), settings.pull_reach)
            level = min(max(p + lift, max(p - settings.slack, 0.5 * p)), p + 0.75 * (1.0 - p))
            shift = _ranked(state.ordered[group, k], kept, level)
            shift = min(max(shift, -6.0 / spread), highest / spread)
            corrected[k] = min(mixed[k] + spread * shift, state.longest[0])
        corrected[k] = min(max(corrected[k], 0.0), limit)
    for k in range(1, size):
        corrected[k] = max(corrected[k], corrected[k - 1])
    return spread, promised


@kernel
def _settle(
    state: State,
    settings: Settings,
    levels: Floats,
    logs: Floats,
    log_run: float,
    owner: int,
    cohort: int,
    senior: int,
    corrected: Floats,
    mixed: Floats,
    spread: float,
    promised: int,
) -> None:
    state.pending[cohort] -= 1
    state.owner_pending[owner] -= 1
    state.senior_pending[senior] -= 1
    if np.isnan(log_run):
        return
    everyone = state.ended.shape[0] - 1
    state.longest[0] = max(state.longest[0], log_run)
    step = 1.0 / min(state.ended[cohort] + 1.0, settings.memory)
    own_step = 1.0 / min(state.owner_ended[owner] + 1.0, settings.owner_memory)
    for k in range(levels.shape[0]):
        p = levels[k]
        for e in range(logs.shape[0]):
            error = log_run - logs[e, k]
            loss = max(p * error, (p - 1.0) * error)
            state.loss[cohort, k, e] += step * (loss - state.loss[cohort, k, e])
            state.owner_loss[owner, k, e] += own_step * (loss - state.owner_loss[owner, k, e])
        score = (log_run - mixed[k]) / spread
        for group in (cohort, everyone):
            _insert(state.ring[group, k], state.ordered[group, k], state.ended[group], score)
        if k >= promised:
            continue
        missed = 1.0 if log_run > corrected[k] else 0.0
        move = missed - (1.0 - p)
        reach = min(settings.reach, p, 1.0 - p)
        lift = state.lift[cohort, k] + settings.rate * move / (1.0 + 0.01 * state.pending[cohort])
        state.lift[cohort, k] = min(max(lift, -reach), reach)
        own = state.owner_lift[owner, k]
        own += settings.owner_rate * move / (1.0 + 0.1 * state.owner_pending[owner])
        state.owner_lift[owner, k] = min(max(own, -reach), reach)
        reach = min(settings.senior_reach, p, 1.0 - p)
        lift = state.senior_lift[senior, k]
        lift += settings.senior_rate * move / (1.0 + 0.01 * state.senior_pending[senior])
        state.senior_lift[senior, k] = min(max(lift, -reach), reach)
        state.excess[k] += (move - state.excess[k]) / _pull_window(state, settings)
    state.owner_ended[owner] += 1
    state.ended[cohort] += 1
    state.ended[everyone] += 1


@kernel
def _replay(
    state: State,
    settings: Settings,
    levels: Floats,
    logs: Floats,
    log_run: Floats,
    issue_s: Floats,
    known_s: Floats,
    order: Ints,
    owners: Ints,
    cohorts: Ints,
    limits: Floats,
    corrected: Floats,
    mixed: Floats,
    spread: Floats,
    promised: Ints,
) -> None:
    e = 0
    senior = np.zeros(log_run.shape[0], np.int64)
    for i in range(log_run.shape[0]):
        while e < order.shape[0] and known_s[order[e]] <= issue_s[i] and order[e] < i:
            j = order[e]
            _settle(
                state,
                settings,
                levels,
                logs[j],
                log_run[j],
                owners[j],
                cohorts[j],
                senior[j],
                corrected[j],
                mixed[j],
                spread[j],
                promised[j],
            )
            e += 1
        spread[i], promised[i] = _issue(
            state,
            settings,
            levels,
            logs[i],
            owners[i],
            cohorts[i],
            limits[i],
            corrected[i],
            mixed[i],
        )
        senior[i] = _seniority(state, owners[i])
        state.pending[cohorts[i]] += 1
        state.owner_pending[owners[i]] += 1
        state.senior_pending[senior[i]] += 1
    # What ends after the last forecast is learned from too, up to the end of the log.
    while e < order.shape[0] and known_s[order[e]] < np.inf:
        j = order[e]
        _settle(
            state,
            settings,
            levels,
            logs[j],
            log_run[j],
            owners[j],
            cohorts[j],
            senior[j],
            corrected[j],
            mixed[j],
            spread[j],
            promised[j],
        )
        e += 1

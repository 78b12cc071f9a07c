"""What the online correction learns, is asked and issues: plain arrays, and its settings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SENIORITIES: tuple[int, ...] = (10, 40, 150)
"""Numbers of an owner's ended jobs at which the owner's seniority changes."""

MIN_COHORT = 100
"""Ended jobs of a cohort below which it is corrected with everyone's scores."""

LENGTHS = 5
"""Classes of long repeats by which their cost is weighed, each e times as long as the last."""


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
    agree : float
        How near the last two run times of jobs like one must lie to count as a repeat, log
        seconds (a quarter).
    gain_memory, gain_prior : float
        The last run time is compared with the median over so many of an owner's latest jobs,
        weighed against so many of everybody's.
    gain_least, gain_delay, gain_cap : float
        By how much a repeat must beat the median, log seconds: the least, and more with the
        number of jobs not yet ended for each one ended. No error counts for more than ``gain_cap``.
    long_from, long_cap : float
        A repeat is long where it or the median is longer than the first, log seconds (an hour);
        unless the last two agree, its errors count up to the second.
    cost_from, cost_to : float
        A long repeat is taken in part, or not at all, where repeats as long that lie on its side
        of the median have lately cost such a share of the loss in seconds.
    doubt_from, doubt_to : float
        A level is left as the mixture has it, in part or whole, where the calibration has lately
        cost such a share of the loss.
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
    agree: float = 0.2231
    gain_memory: float = 50.0
    gain_prior: float = 20.0
    gain_least: float = 0.01
    gain_delay: float = 0.3
    gain_cap: float = 0.7
    long_cap: float = 2.0
    long_from: float = 8.2
    cost_from: float = 0.1
    cost_to: float = 0.2
    doubt_from: float = 0.02
    doubt_to: float = 0.04
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
    ``plain_loss`` (2, levels): mean loss of everybody's quantiles before and after calibration;
    ``gain`` (4) and ``owner_gain`` (owners, 4): by how much the last run time of a job like this
    one misses by less than the median does, log seconds, a mean over the last jobs: of short
    ones, of long ones, and of each where the last two agree; ``gains`` and ``owner_gains``: over
    how many;
    ``repeat_loss`` (2, lengths, 2): mean absolute error, seconds, of the median where a long repeat
    was nearer, below or above it, by length: without the repeat and with it; ``repeat_count``
    (2, lengths): of how many jobs;
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
    plain_loss: Floats
    owner_gain: Floats
    owner_gains: Floats
    gain: Floats
    gains: Floats
    excess: Floats
    longest: Floats
    repeat_loss: Floats
    repeat_count: Floats


class Asked(NamedTuple):
    """What is known of jobs when they are forecast; row i of each is job i.

    ``logs`` (n, experts, levels): log quantiles by every expert; ``same`` (n): the log run time
    of the last job like this one, NaN where there is none, and ``gap`` (n) how far the one before
    lay from it, infinity where there is none; ``owner`` (n): slot, -1 where nobody knows the
    owner; ``cohort`` (n); ``limit`` (n): log of the kill limit or infinity.
    """

    logs: Floats
    same: Floats
    gap: Floats
    owner: Ints
    cohort: Ints
    limit: Floats


class Issued(NamedTuple):
    """What was forecast; row i of each is job i.

    ``corrected``, ``mixed`` (n, levels): log quantiles after and before the calibration;
    ``shifted`` (n, levels): calibrated in full; ``plain`` (n): the median as it was before a
    repeated run time took its place; ``same`` (n): that run time, within its bounds, if
    there is one; ``repeats`` (n): ``TAKEN`` where it took the median's place, ``IDLE`` where it
    was the nearer one and did not, else 0; ``spread`` (n): the unit of their scores; ``senior``
    (n): the owner's seniority; ``promised`` (n): how many levels, from the lowest, have a finite
    quantile.
    """

    corrected: Floats
    mixed: Floats
    shifted: Floats
    plain: Floats
    same: Floats
    repeats: Ints
    spread: Floats
    senior: Ints
    promised: Ints


def nothing_issued(rows: int, levels: int) -> Issued:
    """Room for the forecasts of so many jobs."""
    return Issued(
        np.empty((rows, levels)),
        np.empty((rows, levels)),
        np.empty((rows, levels)),
        np.empty(rows),
        np.empty(rows),
        np.zeros(rows, np.int64),
        np.empty(rows),
        np.zeros(rows, np.int64),
        np.zeros(rows, np.int64),
    )


def empty_state(levels: int, experts: int, cohorts: int, window: int, owners: int) -> State:
    """What is known before any job has ended."""
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
        plain_loss=np.zeros((2, levels)),
        owner_gain=np.zeros((owners, 4)),
        owner_gains=np.zeros((owners, 4)),
        gain=np.zeros(4),
        gains=np.zeros(4),
        excess=np.zeros(levels),
        longest=np.zeros(1),
        repeat_loss=np.zeros((2, LENGTHS, 2)),
        repeat_count=np.zeros((2, LENGTHS)),
    )

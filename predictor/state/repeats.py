"""Kernels of repeats: where the last run of a job like this one is the median, and within what.

It is where it has lately been nearer, by log errors. Seconds weigh other jobs than logarithms do,
so a long one stays between two levels of the forecast, and gives way where repeats as long that
lie on the same side of the median have lately cost too much of the loss in seconds.
"""

from __future__ import annotations

import numpy as np

from plancast.predictor.jit import inner
from plancast.predictor.state.learned import (
    LENGTHS,
    MIN_COHORT,
    Asked,
    Floats,
    Issued,
    Settings,
    State,
)

BOUNDS: tuple[float, float] = (0.1, 0.8)
"""Levels between which a long repeat stays."""

TAKEN, IDLE = 1, 2
"""A repeat that moves the median, and one that does not: it costs too much, or is the median."""


@inner
def part_of_way(value: float, begin: float, end: float) -> float:
    """How far a value is on the way from one to another, from 0 to 1."""
    return min(max((value - begin) / (end - begin), 0.0), 1.0)


@inner
def _gain(state: State, settings: Settings, owner: int, kind: int) -> float:
    """By how much the last run time of the same beats the median for an owner, log seconds."""
    gain, weight = settings.gain_prior * state.gain[kind], settings.gain_prior
    if owner >= 0:
        own = min(state.owner_gains[owner, kind], settings.gain_memory)
        gain, weight = gain + own * state.owner_gain[owner, kind], weight + own
    return gain / weight


@inner
def _kind(settings: Settings, asked: Asked, i: int, plain: float) -> int:
    """0 where the last run and the median are short, 1 where either is long."""
    return 1 if max(asked.same[i], plain) > settings.long_from else 0


@inner
def repeats(state: State, settings: Settings, asked: Asked, i: int, plain: float) -> bool:
    """Whether the run time of the last job like this one is the median."""
    if np.isnan(asked.same[i]):
        return False
    # Of jobs that are awaited for long the short ones have ended, which favours short forecasts.
    ended = min(float(state.ended[-1]), settings.pull_memory)
    least = settings.gain_least + settings.gain_delay * np.sum(state.pending) / max(ended, 1.0)
    kind = _kind(settings, asked, i, plain)
    if _gain(state, settings, asked.owner[i], kind) > least:
        return True
    agree = asked.gap[i] <= settings.agree
    return bool(agree and _gain(state, settings, asked.owner[i], 2 + kind) > least)


@inner
def within(
    settings: Settings, levels: Floats, asked: Asked, i: int, corrected: Floats, middle: int
) -> float:
    """The last run time of the same; of a long one what lies between two levels."""
    same = min(max(asked.same[i], 0.0), asked.limit[i])
    if _kind(settings, asked, i, corrected[middle]) == 1:
        low = int(np.argmin(np.abs(levels - BOUNDS[0])))
        high = int(np.argmin(np.abs(levels - BOUNDS[1])))
        if low < middle:
            same = max(same, corrected[low])
        if high > middle:
            same = min(same, corrected[high])
    return same


@inner
def _place(settings: Settings, asked: Asked, i: int, plain: float, same: float) -> tuple[int, int]:
    """Side of the median and class of length of a long repeat."""
    longest = min(max(asked.same[i], plain) - settings.long_from, LENGTHS - 1.0)
    return (1 if same > plain else 0), int(longest)


@inner
def costly(
    state: State, settings: Settings, asked: Asked, i: int, plain: float, same: float
) -> float:
    """How far a repeat is not taken, from 0 to 1."""
    if _kind(settings, asked, i, plain) == 0:
        return 0.0
    side, length = _place(settings, asked, i, plain, same)
    without, loss = state.repeat_loss[side, length]
    known = min(state.repeat_count[side, length], settings.memory)
    cost = (1.0 - without / max(loss, 1e-9)) * known / (known + MIN_COHORT)
    return part_of_way(cost, settings.cost_from, settings.cost_to)


@inner
def learn_cost(
    state: State, settings: Settings, asked: Asked, issued: Issued, i: int, log_run: float
) -> None:
    """What a long repeat costs in seconds, whether or not it was taken."""
    plain, same = issued.plain[i], issued.same[i]
    if issued.repeats[i] == 0 or _kind(settings, asked, i, plain) == 0:
        return
    side, length = _place(settings, asked, i, plain, same)
    state.repeat_count[side, length] += 1.0
    step = 1.0 / min(state.repeat_count[side, length], settings.memory)
    for which in range(2):
        error = abs(np.exp(log_run) - np.exp(plain if which == 0 else same))
        loss = state.repeat_loss[side, length, which]
        state.repeat_loss[side, length, which] = loss + step * (error - loss)


@inner
def learn_gain(
    state: State, settings: Settings, asked: Asked, issued: Issued, i: int, log_run: float
) -> None:
    """Compare the last run time of the same with the median that stood before it."""
    if np.isnan(asked.same[i]) or not np.isfinite(issued.plain[i]):
        return
    owner = asked.owner[i]
    ours = abs(log_run - issued.plain[i])
    last = abs(log_run - issued.same[i])
    length = _kind(settings, asked, i, issued.plain[i])
    for kind in range(length, 4, 2):
        cap = settings.gain_cap
        if kind >= 2 and asked.gap[i] > settings.agree:
            return
        if kind == 1:
            cap = settings.long_cap
        gain = min(ours, cap) - min(last, cap)
        state.gains[kind] += 1.0
        state.owner_gains[owner, kind] += 1.0
        step = 1.0 / min(state.owner_gains[owner, kind], settings.gain_memory)
        state.owner_gain[owner, kind] += step * (gain - state.owner_gain[owner, kind])
        step = 1.0 / min(state.gains[kind], settings.memory)
        state.gain[kind] += step * (gain - state.gain[kind])

"""How much later than planned a start is promised."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from plancast.planner.planning.expected_starts import SURE

STRETCH_STEP, MOST_STRETCH = 0.2, 16.0
"""How fast leads of promises are adapted, and by how much at most."""
DELAYS = 200
"""So many of the latest starts tell how long an engine takes from an order to its start."""
ENOUGH = 10
"""Fewer starts than this say less than what is usual for the engine."""


class Leads:
    """What is learned of starts, for the next promises.

    Parameters
    ----------
    usual_s : int
        Within how many seconds of its order a run usually begins (``Engine.begins_s``).
    stretch : float
        By how much longer leads are promised than planned.

    Notes
    -----
    What comes later pushes back what waits, and no plan knows of it. So leads are multiplied by a
    factor that grows when a promise is broken and shrinks when one is kept, in such a way that no
    more than one in ten is broken in the long run. To that comes what 90% of the latest orders
    took to begin.

    References
    ----------
    Gibbs, Candes (2021), "Adaptive conformal inference under distribution shift",
    arXiv:2106.00170.
    """

    def __init__(self, usual_s: int, stretch: float = 1.0, delays: Iterable[int] = ()) -> None:
        self.usual_s = usual_s
        self.stretch = stretch
        self._delays: deque[int] = deque(delays, maxlen=DELAYS)

    @property
    def delay_s(self) -> int:
        """Within how many seconds of its order a run begins, of nine in ten."""
        if len(self._delays) < ENOUGH:
            return max((self.usual_s, *self._delays))
        return sorted(self._delays)[math.ceil(SURE * len(self._delays)) - 1]

    def promised(self, now_s: int, start_s: float) -> int:
        """The start to promise for one that is planned."""
        return now_s + math.ceil((start_s - now_s) * self.stretch) + self.delay_s

    def began(self, delay_s: int) -> None:
        """A run has begun so long after it was ordered."""
        self._delays.append(max(0, delay_s))

    def judged(self, broken: bool) -> None:
        """A start that was promised ahead was late, or was not."""
        step = STRETCH_STEP * (broken - (1 - SURE))
        self.stretch = min(MOST_STRETCH, max(1.0, self.stretch * math.exp(step)))

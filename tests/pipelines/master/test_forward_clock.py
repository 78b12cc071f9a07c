"""Whatever an engine's clock does, the master's goes forward, and not faster than time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from plancast.pipelines.master.forward_clock import ForwardClock


def test_it_goes_on_while_the_engines_is_set_back() -> None:
    """It would stand still for the hour, or run on for an hour once the other is there again."""
    engine: Any = SimpleNamespace(now_s=lambda: off + true, steady_s=lambda: float(true))
    clock, off, true = ForwardClock(engine), 0, 1_000
    assert clock.now_s(0) == 1_000
    off = -500
    assert clock.now_s(1_000) == 1_000
    true = 1_010
    assert clock.now_s(1_000) == 1_010
    true = 1_499
    assert clock.now_s(1_010) == 1_499
    off = 0
    assert clock.now_s(1_499) == 1_499
    true = 1_600
    assert clock.now_s(1_499) == 1_600


def test_however_the_clock_steps_time_passes_and_never_backwards() -> None:
    """A step within a step could start the count anew from an older time."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        true, off, known = 10_000, 0, 0
        behind: list[tuple[int, int]] = []
        engine: Any = SimpleNamespace(now_s=lambda: true + off, steady_s=lambda: float(true))  # noqa: B023
        clock = ForwardClock(engine)
        for _ in range(200):
            step = int(rng.integers(0, 60))
            true += step
            if rng.random() < 0.1:
                off = int(rng.integers(-3_600, 3_600))
            now = clock.now_s(known)
            caught_up = true + off >= known
            behind = [] if caught_up else [*behind, (true, now)]
            if caught_up:
                assert now == true + off
            else:  # time passes as it really does
                assert now - behind[0][1] == true - behind[0][0]
            assert now >= known
            known = now

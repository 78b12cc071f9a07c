"""What a test may say of speed, whatever the machine: growth, a peer's cost, a limit kept once.

Seconds by themselves belong to ``benchmarks/``: a busy or older machine needs several times as
many.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def least_cpu_s(call: Callable[[], object], tries: int = 5) -> float:
    """CPU seconds of the fastest of several calls, at least the clock's own step."""
    took = []
    for _ in range(tries):
        began = time.process_time()
        call()
        took.append(time.process_time() - began)
    return max(min(took), 1e-4)


def some_try_ends_within(seconds: float, call: Callable[[], object], tries: int = 6) -> bool:
    """Whether a call ends in time at least once: a busy machine delays some, a fault delays all."""
    for _ in range(tries):
        began = time.perf_counter()
        call()
        if time.perf_counter() - began <= seconds:
            return True
    return False

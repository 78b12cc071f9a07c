"""The master's clock, which goes forward whatever the engine's does."""

from __future__ import annotations

from plancast.pipelines.engines.base import Engine


class ForwardClock:
    """An engine's clock that is not followed when it steps back.

    Until it is there again time goes on by the engine's seconds that only count. If it stood
    still, what is planned for a few seconds later would wait for as long.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ahead: tuple[float, int] | None = None
        """Since the engine's clock lies behind: seconds that only count, and our time."""

    def now_s(self, known_s: int) -> int:
        """Seconds since the epoch, at least those that were known before."""
        now_s = self.engine.now_s()
        if now_s >= known_s:
            self.ahead = None
            return now_s
        steady_s = self.engine.steady_s()
        if self.ahead is None:
            self.ahead = (steady_s, known_s)
        since_s, then_s = self.ahead
        return max(known_s, then_s + int(steady_s - since_s))

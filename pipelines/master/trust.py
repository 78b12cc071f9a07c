"""Which workers are left alone for a while, as they have lost what they were given."""

from __future__ import annotations

from dataclasses import dataclass, field

from plancast.planner.model.domain import Worker


@dataclass
class Trust:
    """Losses of workers, and those that are banned for them.

    Times are seconds of a clock that only counts (``Engine.steady_s``).

    Parameters
    ----------
    strikes : int
        Losses of a worker within `banned_s` after which it is banned for as long.
    banned_s : float
    """

    strikes: int
    banned_s: float
    _losses: dict[str, list[float]] = field(default_factory=dict)
    _banned: dict[str, tuple[float, Worker]] = field(default_factory=dict)

    @property
    def lost_any(self) -> bool:
        """Whether a worker was lost, or lost a run, and has not been pardoned since."""
        return bool(self._losses or self._banned)

    def lost(self, name: str, at_s: float) -> None:
        """A worker was lost, or runs that it had."""
        self._losses.setdefault(name, []).append(at_s)

    def bans(self, worker: Worker, now_s: float) -> bool:
        """Whether a worker is to be left alone; it is banned from now on then."""
        recent = [at for at in self._losses.get(worker.id, ()) if now_s - at < self.banned_s]
        if len(recent) < self.strikes:
            return False
        self._banned[worker.id] = (now_s + self.banned_s, worker)
        return True

    def is_banned(self, name: str) -> bool:
        """Whether a worker is left alone."""
        return name in self._banned

    def forget(self, name: str) -> None:
        """A worker that was left alone is gone: its losses stay."""
        self._banned.pop(name, None)

    def pardoned(self, now_s: float) -> list[Worker]:
        """Workers that are trusted again from now on."""
        over = [worker for until_s, worker in self._banned.values() if now_s >= until_s]
        for worker in over:
            del self._banned[worker.id]
            self._losses.pop(worker.id, None)
        return over

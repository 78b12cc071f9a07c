"""When workers are closed: by the cluster file, and by what the engine knows of reservations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from plancast.planner.model.domain import Window, Worker
from plancast.planner.model.messages import WorkerBlocked


class Windows:
    """The windows of workers, as they change.

    Parameters
    ----------
    of_file : callable
        The workers as the cluster file has them.
    """

    def __init__(self, of_file: Callable[[], Sequence[Worker]]) -> None:
        self.of_file = of_file
        self.known: dict[str, tuple[tuple[int, int], ...]] = {}
        """What the engine has said of each worker last."""

    def change(self, worker: Worker, now_s: int) -> WorkerBlocked | None:
        """The event by which a worker comes to its windows; None where it has them."""
        if worker.id not in self.known:
            return None  # the engine has said nothing
        found = {Window(*window) for window in self.known[worker.id]}
        blocked = _in_order([*found.union(self._filed.get(worker.id, ()))])
        if blocked == _in_order(worker.blocked):
            return None
        return WorkerBlocked(now_s, worker.id, blocked)

    @cached_property
    def _filed(self) -> dict[str, tuple[Window, ...]]:
        return {worker.id: worker.blocked for worker in self.of_file()}


def _in_order(windows: Sequence[Window]) -> tuple[Window, ...]:
    return tuple(sorted(windows, key=lambda window: (window.start_s, window.end_s)))

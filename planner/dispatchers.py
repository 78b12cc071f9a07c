"""Queueing disciplines to compare with, by name ("policy" means prices here)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.kernels import replay as kernel

ORDERS: dict[str, int] = {
    "fcfs": kernel.FCFS,
    "sjf": kernel.SJF,
    "saf": kernel.SAF,
    "f1": kernel.F1,
    "f2": kernel.F2,
    "f3": kernel.F3,
    "f4": kernel.F4,
    "wfp3": kernel.WFP3,
    "unicep": kernel.UNICEP,
    "run2procs": kernel.RUN2PROCS,
}
"""Orders of a queue: first come, shortest, smallest area (time x processors), the learned
functions F1 to F4, WFP3, UNICEP, and max(time, 10)^2 x processors."""

BACKFILLS: dict[str, int] = {
    "none": kernel.NONE,
    "easy": kernel.EASY,
    "published": kernel.PUBLISHED,
    "conservative": kernel.CONSERVATIVE,
    "planner": kernel.PLANNER,
}
"""What may overtake the first of the queue: nothing; what does not delay it (also on spare
processors); RLScheduler's rule; what delays nobody."""


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """A queueing discipline.

    Parameters
    ----------
    head : str
        Order of the queue, of ``ORDERS``.
    fill : str
        Order of those that may overtake its head; as `head` where empty.
    backfill : str
        Of ``BACKFILLS``.
    estimates : str, optional
        The only estimates that it is defined with; empty: any.
    """

    head: str
    fill: str = ""
    backfill: str = "easy"
    estimates: str = ""
    params: tuple[float, ...] = ()
    settings_from: str = ""

    def settings(self) -> NDArray[np.float64]:
        """The planner's rules as the kernel takes them."""
        return np.array(self.params, np.float64)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("head", self.head, ORDERS),
            ("fill", self.fill or self.head, ORDERS),
            ("backfill", self.backfill, BACKFILLS),
        ):
            if value not in known:
                raise ValueError(f"{name} {value!r} is none of {', '.join(known)}")


def _registry() -> dict[str, Dispatcher]:
    found = {
        "easy": Dispatcher("fcfs"),
        "easy-sjbf": Dispatcher("fcfs", "sjf"),
        "easypp": Dispatcher("fcfs", "sjf", estimates="last_two"),
        "conservative": Dispatcher("fcfs", backfill="conservative"),
        "run2procs-saf": Dispatcher("run2procs", "saf"),
    }
    for order in ORDERS:
        found[order] = Dispatcher(order, backfill="none")
        found[f"{order}-easy"] = Dispatcher(order)
        found[f"{order}-published"] = Dispatcher(order, backfill="published")
    return found


DISPATCHERS: dict[str, Dispatcher] = _registry()
"""Every discipline that ``plancast backtest`` knows. ``NAME`` alone lets nobody overtake;
``NAME-easy`` backfills around the head's reservation, ``NAME-published`` as RLScheduler does.
``easypp`` is EASY++: shortest first behind the head, by the mean of the user's last two."""

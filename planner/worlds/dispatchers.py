"""Queueing disciplines to compare with, by name ("policy" means prices here)."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from plancast.planner.worlds import replay_kernel as kernel

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
    "bounded": kernel.BOUNDED,
}
"""What may overtake the first of the queue: nothing; what does not delay it (also on spare
processors); RLScheduler's rule; what delays nobody; what delays no reservation of the
planner's layout; what delays no job beyond the latest start that it was promised."""


PLANNING = ("planner", "bounded")
"""The backfills that plan the start of every waiting job anew at every decision."""


@dataclass(frozen=True, slots=True)
class LookAhead:
    """How the planner looks ahead; the order of the fields is the kernel's.

    Parameters
    ----------
    level : float
        Quantile at which running jobs are expected to end.
    promise_level : float
        Quantile of run times by which starts are promised, and promises kept; 1: the request,
        at which jobs are killed.
    ageing : float
        How much the price of waiting grows with the wait, by the risk of a bad slowdown.
    humility : float
        Chance that any job ends at once, whatever its forecast.
    patience_s : float
        Wait from which on the growth itself grows, seconds: nobody waits forever.
    moves : int
        Orders tried at a decision besides the rules.
    depth : int
        Jobs of the queue that the search looks at.
    rules : int
        How many rules the search chooses its first order from: the first is time x processors
        over the price of waiting.
    slack : float
        A job that finds no room may be passed by cheaper ones for so many times its own run
        time (at the level of promises) beyond its first possible start ...
    most_slack_s : float
        ... but no longer than this, seconds. Both for the backfill ``bounded`` alone.
    """

    level: float = 0.5
    promise_level: float = 0.8
    ageing: float = 0.001
    humility: float = 0.05
    patience_s: float = 43200.0
    moves: int = 0
    depth: int = 60
    rules: int = 1
    slack: float = 4.0
    most_slack_s: float = 86400.0

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}; it must lie in (0, 1)")
        if not 0 < self.promise_level <= 1:
            raise ValueError(f"promise_level is {self.promise_level}; it must lie in (0, 1]")
        at_least = {"ageing": 0, "humility": 0, "moves": 0, "depth": 1, "rules": 1, "slack": 0}
        for name, least in (at_least | {"most_slack_s": 0}).items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} or more")
        if not self.patience_s > 0:
            raise ValueError(f"patience_s is {self.patience_s}; it must be above 0")


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
    rules : LookAhead, optional
        Of a planner.
    settings_from : str
        Where its rules were chosen.
    certain : str, optional
        Of ``BACKFILLS``: used instead where estimates are points, which are taken at their word.
    trusts : bool
        Whether forecasts count only as far as recent ones have earned it, see ``Trusted``.
    """

    head: str
    fill: str = ""
    backfill: str = "easy"
    estimates: str = ""
    rules: LookAhead | None = None
    settings_from: str = ""
    certain: str = ""
    trusts: bool = False

    def backfill_with(self, levels: int) -> str:
        """The backfill for forecasts of so many quantiles."""
        return self.certain if self.certain and levels == 1 else self.backfill

    def settings(self) -> NDArray[np.float64]:
        """The planner's rules as the kernel takes them; none for a backfilling."""
        return np.array([] if self.rules is None else astuple(self.rules), np.float64)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("head", self.head, ORDERS),
            ("fill", self.fill or self.head, ORDERS),
            ("backfill", self.backfill, BACKFILLS),
            ("certain", self.certain or self.backfill, BACKFILLS),
        ):
            if value not in known:
                raise ValueError(f"{name} {value!r} is none of {', '.join(known)}")


SOURCES = (
    "SDSC-BLUE rows 60,000-80,000 and 150,000-170,000, HPC2N rows 40,000-60,000 and "
    "120,000-140,000 of the jobs that ran; price of waiting: SDSC-BLUE"
)
"""Where the planner's default rules were chosen."""

FIRM = LookAhead(promise_level=0.95, slack=0.0)
LIMITS = LookAhead(promise_level=1.0, slack=0.0)
SEARCHING = LookAhead(moves=30, rules=5)


def _registry() -> dict[str, Dispatcher]:
    found = {
        "easy": Dispatcher("fcfs"),
        "easy-sjbf": Dispatcher("fcfs", "sjf"),
        "easypp": Dispatcher("fcfs", "sjf", estimates="last_two"),
        "conservative": Dispatcher("fcfs", backfill="conservative"),
        "run2procs-saf": Dispatcher("run2procs", "saf"),
    }
    planners = {
        "planner": ("bounded", "planner", LookAhead()),
        "planner-firm": ("bounded", "bounded", FIRM),
        "planner-limits": ("bounded", "bounded", LIMITS),
        "planner-robust": ("bounded", "bounded", LookAhead()),
        "planner-search": ("planner", "planner", SEARCHING),
    }
    for name, (backfill, certain, rules) in planners.items():
        trusts = name == "planner-robust"
        found[name] = Dispatcher("fcfs", "", backfill, "", rules, SOURCES, certain, trusts)
    for order in ORDERS:
        found[order] = Dispatcher(order, backfill="none")
        found[f"{order}-easy"] = Dispatcher(order)
        found[f"{order}-published"] = Dispatcher(order, backfill="published")
    return found


DISPATCHERS: dict[str, Dispatcher] = _registry()
"""Every discipline that ``plancast backtest`` knows. ``NAME`` alone lets nobody overtake;
``NAME-easy`` backfills around the head's reservation, ``NAME-published`` as RLScheduler does.
``easypp`` is EASY++: shortest first behind the head, by the mean of the user's last two.
``planner`` promises each job a latest start, and with points for forecasts lays all jobs out;
``planner-firm`` promises the first start that there is, ``planner-limits`` that of conservative
backfilling by limits, whatever is forecast; ``planner-search`` searches orders; ``planner-robust``
believes forecasts as far as recent ones have earned it."""

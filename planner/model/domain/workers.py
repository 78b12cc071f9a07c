"""What does it: workers, their hours, and what the cluster as a whole has so many units of."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from plancast.planner.model import labels
from plancast.planner.model.domain.estimates import ANY_CLASS
from plancast.planner.model.domain.units import (
    DAY_S,
    DEVICE,
    GPU,
    check_amounts,
    check_factor,
    check_times,
    in_words,
    require,
)

MOST_DEVICES = 62
"""No worker has more: a set of them is the bits of a number."""
MOST_STEPS_A_DAY = 1_440
"""What changes with the hour changes no more often: once a minute."""


class WrittenInOrder:
    """Marks a set whose JSON is sorted: equal values are one text, whatever the process."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Pydantic's hook."""
        from pydantic_core import core_schema

        schema = handler(source)
        schema["serialization"] = core_schema.plain_serializer_function_ser_schema(
            sorted, return_schema=core_schema.list_schema(core_schema.str_schema()),
            when_used="json",
        )  # fmt: skip
        return schema


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open stretch of time ``[start_s, end_s)``, seconds since the epoch."""

    start_s: int
    end_s: int

    def __post_init__(self) -> None:
        check_times("a window", start_s=self.start_s, end_s=self.end_s)
        require(
            self.end_s > self.start_s,
            f"a window ends at {self.end_s}, not after its start {self.start_s}",
        )


@dataclass(frozen=True, slots=True)
class AmountWindow:
    """Over ``[start_s, end_s)`` there is another amount of a counted resource."""

    start_s: int
    end_s: int
    amount: int

    def __post_init__(self) -> None:
        Window(self.start_s, self.end_s)
        check_amounts("a window", "amount", {"the resource": self.amount})


@dataclass(frozen=True, slots=True)
class CountedResource:
    """What the whole cluster has so many units of: licences, places of a running limit.

    Parameters
    ----------
    id : str
        Unique in a snapshot, and the name of no resource of a worker.
    amount : int
        Units that all running tasks may hold together.
    windows : tuple of AmountWindow
        Where there are more or fewer, in order of time and without overlap.
    """

    id: str
    amount: int
    windows: tuple[AmountWindow, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.id), "a counted resource has an empty name; give it one")
        name = f"counted resource {self.id}"
        check_amounts(name, "amount", {self.id: self.amount})
        for before, after in pairwise(self.windows):
            require(
                before.end_s <= after.start_s,
                f"{name}: the window from {after.start_s} starts before the one ahead of it ends "
                f"({before.end_s}); list windows in order of time, without overlap",
            )

    def at(self, at_s: int) -> int:
        """The amount at a moment, seconds since the epoch."""
        for window in self.windows:
            if window.start_s <= at_s < window.end_s:
                return window.amount
        return self.amount


@dataclass(frozen=True, slots=True)
class Hourly:
    """A number that changes with the hour of the day, the same every day: a tariff, a grid's mix.

    Parameters
    ----------
    at_s : tuple of int
        Seconds after midnight from which each value holds; the first is 0.
    values : tuple of float
        0 or more.
    utc_offset_s : int
        How far the clock that the hours are of is ahead of UTC, seconds. It is never changed.
    """

    at_s: tuple[int, ...]
    values: tuple[float, ...]
    utc_offset_s: int = 0

    def __post_init__(self) -> None:
        require(
            0 < len(self.at_s) == len(self.values) <= MOST_STEPS_A_DAY,
            f"hours: {len(self.at_s)} times and {len(self.values)} values; give as many of one as "
            f"of the other, at least one and at most {MOST_STEPS_A_DAY}",
        )
        require(self.at_s[0] == 0, "hours: the first value must hold from midnight (00:00) on")
        for before, after in pairwise((*self.at_s, DAY_S)):
            require(
                before < after,
                f"hours: {after} s after midnight follows {before}; list them in order of time, "
                f"each below {DAY_S}",
            )
        for at_s, value in zip(self.at_s, self.values, strict=True):
            when = f"{at_s // 3600:02}:{at_s // 60 % 60:02}"
            require(
                not value < 0,
                f"hours: the value from {when} is {value:g}; negative prices and intensities are "
                "not planned with, for using more would save: write 0",
            )
            check_factor("hours", f"the value from {when}", value)
        require(
            abs(self.utc_offset_s) < DAY_S,
            f"hours: utc_offset_s is {self.utc_offset_s}; it must lie within a day",
        )

    def at(self, moment_s: int) -> float:
        """The value at a moment, seconds since the epoch."""
        second = (moment_s + self.utc_offset_s) % DAY_S
        return self.values[bisect_right(self.at_s, second) - 1]


@dataclass(frozen=True, slots=True)
class Worker:
    """A machine that runs tasks side by side up to its capacity.

    Parameters
    ----------
    id : str
        Unique in a snapshot.
    capacity : mapping of str to int
        What it has of each resource, running tasks included.
    labels : frozenset of str
        What ``Task.requires`` is matched with.
    machine_class : str
        Which duration estimate of a task holds here.
    free_from_s : int, optional
        Takes no new task before this time; by default it is free now.
    until_s : int, optional
        Drains: no task may end after this time.
    blocked : tuple of Window
        Maintenance and advance reservations: no planned task overlaps one.
    idle_w, busy_w : float
        Power when switched on, and on top of it at full use, watts.
    boot_kwh : float
        Energy to switch it on; it is on already when something runs on it.
    price_per_kwh : float or Hourly
        What its energy costs, in the currency of the tariff.
    carbon_kg_per_kwh : float or Hourly
        Grid intensity where it stands: kilograms of CO2 equivalent for each kilowatt-hour.
    health : float
        Chance to survive an hour, in (0, 1].
    devices : bool
        Whether its ``gpu`` is so many whole devices, 1000 each: a piece takes some of them whole
        or a share of one (``devices``). Else it is an amount like any other.
    """

    id: str
    capacity: Mapping[str, int]
    labels: Annotated[frozenset[str], WrittenInOrder()] = frozenset()
    machine_class: str = "default"
    free_from_s: int | None = None
    until_s: int | None = None
    blocked: tuple[Window, ...] = ()
    idle_w: float = 0.0
    busy_w: float = 0.0
    boot_kwh: float = 0.0
    price_per_kwh: float | Hourly = 0.0
    carbon_kg_per_kwh: float | Hourly = 0.0
    health: float = 1.0
    devices: bool = False

    def __post_init__(self) -> None:
        require(bool(self.id), "a worker has an empty id; give every worker a name")
        name = f"worker {self.id}"
        check_amounts(name, "capacity", self.capacity)
        require(
            self.machine_class != ANY_CLASS,
            f"{name}: machine_class '*' is the name for any class; give it another",
        )
        check_times(name, free_from_s=self.free_from_s, until_s=self.until_s)
        for key in ("idle_w", "busy_w", "boot_kwh", "price_per_kwh", "carbon_kg_per_kwh"):
            if not isinstance(value := getattr(self, key), Hourly):
                check_factor(name, key, value)
        require(0 < self.health <= 1, f"{name}: health is {self.health}; it must lie in (0, 1]")
        if self.devices:
            have = self.capacity.get(GPU, 0)
            require(
                have % DEVICE == 0 and have <= MOST_DEVICES * DEVICE,
                f"{name}: has {in_words(GPU, have)} as devices; give a whole number of them, at "
                f"most {MOST_DEVICES}",
            )

    @property
    def device_count(self) -> int:
        """How many devices it has; 0 where its ``gpu`` is an amount like any other."""
        return self.capacity.get(GPU, 0) // DEVICE if self.devices else 0

    def free_at(self, now_s: int) -> int:
        """First moment from now on at which it may take a new task."""
        return now_s if self.free_from_s is None else max(now_s, self.free_from_s)

    def dominant_share(self, demand: Mapping[str, int]) -> float:
        """Largest share of any one resource that `demand` takes here, in [0, 1] where it fits."""
        most, capacity = 0.0, self.capacity
        for name, amount in demand.items():
            have = capacity.get(name, 0)
            if amount > 0 and have > 0 and (share := amount / have) > most:
                most = share
        return most

    def satisfies(self, requires: Sequence[str]) -> bool:
        """Whether every label expression in `requires` holds."""
        return not requires or labels.holds(requires, self.labels)

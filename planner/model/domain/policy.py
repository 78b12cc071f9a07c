"""What the operator wants: prices of the cost's terms, and what is not for sale."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from plancast.planner.model.domain.units import check_factor, check_times, require

LIMIT = 1.0
"""The scenario in which each task runs up to its kill limit."""
LIMIT_LEVEL = 0.98
"""Level that stands for the limit of a task without one."""
SCENARIOS = (0.3, 0.5, 0.7, 0.9, LIMIT)
"""Scenarios of a common level in which plans made from distributions are priced by default."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What one unit of each cost term costs; see ``evaluate.terms`` for the units.

    The defaults make an hour of anybody's lateness ten times as costly as an hour of
    waiting, and an hour of waiting as costly as an hour of the whole batch.
    """

    makespan_h: float = 1.0
    late_h: float = 10.0
    misses: float = 1.0
    wait_h: float = 1.0
    stretch: float = 0.0
    kwh: float = 0.0
    unfair_h: float = 0.0
    imbalance_h: float = 0.0
    failures: float = 0.0
    moves: float = 0.0
    carbon_kg: float = 0.0
    energy_cost: float = 0.0

    def __post_init__(self) -> None:
        for name in TERMS:
            check_factor("prices", f"price of {name}", getattr(self, name))

    @classmethod
    def for_makespan(cls) -> Prices:
        """An hour of makespan costs 1 and nothing else anything."""
        return cls(**{term: float(term == "makespan_h") for term in TERMS})

    @property
    def makespan_alone(self) -> bool:
        """Whether the makespan has a price and nothing else."""
        return self.makespan_h > 0 and not any(self.of(t) for t in TERMS if t != "makespan_h")

    def of(self, term: str) -> float:
        """The price of one term by its name."""
        return float(getattr(self, term))


TERMS: tuple[str, ...] = tuple(f.name for f in fields(Prices))
"""Names of the cost terms, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants: prices, and the few things that are not for sale.

    Parameters
    ----------
    prices : Prices
    level : float
        The quantile of the duration estimates that a plan reserves.
    hard_deadlines : bool
        Whether a missed deadline makes a plan invalid rather than costly.
    max_wait_s : int, optional
        No task may start later than this after its release (or after now, if later).
    max_stretch : float, optional
        No task's bounded slowdown may exceed this.
    move_tolerance_s : int
        A start later than the incumbent's by more than this counts as a move.
    scenarios : tuple of float
        Levels at which the order of a plan is priced, all tasks at the same one; it costs least
        on average over them. 1 is the scenario in which each task runs up to its kill limit
        (without one, to its 98% quantile). Empty: the plan costs least at `level`.
    """

    prices: Prices = field(default_factory=Prices)
    level: float = 0.8
    hard_deadlines: bool = False
    max_wait_s: int | None = None
    max_stretch: float | None = None
    move_tolerance_s: int = 0
    scenarios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require(0 < self.level < 1, f"policy: level is {self.level}; it must lie in (0, 1)")
        for one in self.scenarios:
            require(0 < one <= LIMIT, f"policy: scenario {one}; it must lie in (0, 1]")
        require(
            len(set(self.scenarios)) == len(self.scenarios),
            "policy: scenarios names a level more than once",
        )
        require(
            self.max_wait_s is None or self.max_wait_s >= 0,
            f"policy: max_wait_s is {self.max_wait_s}; it must be 0 or more",
        )
        require(
            self.max_stretch is None or self.max_stretch >= 1,
            f"policy: max_stretch is {self.max_stretch}; it must be 1 or more",
        )
        require(
            self.move_tolerance_s >= 0,
            f"policy: move_tolerance_s is {self.move_tolerance_s}; it must be 0 or more",
        )
        check_times("policy", max_wait_s=self.max_wait_s, move_tolerance_s=self.move_tolerance_s)

    @property
    def has_hard_bounds(self) -> bool:
        """Whether a plan may be refused for what a task's start or end would be."""
        return bool(self.hard_bounds)

    @property
    def hard_bounds(self) -> tuple[str, ...]:
        """Bounds that a plan must keep, as a policy file names them."""
        return (
            *(("hard_deadlines",) if self.hard_deadlines else ()),
            *(() if self.max_wait_s is None else (f"max_wait_s {self.max_wait_s}",)),
            *(() if self.max_stretch is None else (f"max_stretch {self.max_stretch:g}",)),
        )

"""The nouns of a planning problem: frozen values, integer seconds, integer resources.

Times are whole seconds since the Unix epoch, durations whole seconds. Resources are
integers: ``cpu`` in millicores, ``mem`` in MiB, ``gpu`` in milli-GPU, any further name
in a unit of its own. Every value checks itself when it is made, so that a wrong one
cannot travel.
"""

from plancast.planner.model.domain.estimates import (
    ANY_CLASS,
    ByClass,
    DurationEstimate,
    Estimates,
    estimate_for,
    estimates_of,
    every_estimate,
)
from plancast.planner.model.domain.plans import Assignment, Plan
from plancast.planner.model.domain.policy import (
    LIMIT,
    LIMIT_LEVEL,
    SCENARIOS,
    TERMS,
    Policy,
    Prices,
)
from plancast.planner.model.domain.snapshot import Snapshot
from plancast.planner.model.domain.tasks import (
    MOST_SHARDS,
    Dependency,
    DependencyKind,
    Finished,
    Mode,
    Outcome,
    Running,
    Task,
    find_cycle,
)
from plancast.planner.model.domain.units import (
    DAY_S,
    DEVICE,
    GPU,
    HOUR_S,
    MIN_STRETCH_S,
    MOST_AMOUNT,
    MOST_END_S,
    MOST_FACTOR,
    MOST_TIME_S,
    RELATIVE_TOLERANCE,
    WATT_SECONDS_PER_KWH,
    ZERO_COST,
    BadRequest,
    in_words,
)
from plancast.planner.model.domain.workers import (
    MOST_DEVICES,
    MOST_STEPS_A_DAY,
    AmountWindow,
    CountedResource,
    Hourly,
    Window,
    Worker,
)

__all__ = [
    "ANY_CLASS",
    "DAY_S",
    "DEVICE",
    "GPU",
    "HOUR_S",
    "LIMIT",
    "LIMIT_LEVEL",
    "MIN_STRETCH_S",
    "MOST_AMOUNT",
    "MOST_DEVICES",
    "MOST_END_S",
    "MOST_FACTOR",
    "MOST_SHARDS",
    "MOST_STEPS_A_DAY",
    "MOST_TIME_S",
    "RELATIVE_TOLERANCE",
    "SCENARIOS",
    "TERMS",
    "WATT_SECONDS_PER_KWH",
    "ZERO_COST",
    "AmountWindow",
    "Assignment",
    "BadRequest",
    "ByClass",
    "CountedResource",
    "Dependency",
    "DependencyKind",
    "DurationEstimate",
    "Estimates",
    "Finished",
    "Hourly",
    "Mode",
    "Outcome",
    "Plan",
    "Policy",
    "Prices",
    "Running",
    "Snapshot",
    "Task",
    "Window",
    "Worker",
    "estimate_for",
    "estimates_of",
    "every_estimate",
    "find_cycle",
    "in_words",
]

"""What ``--scheduler-plancast-...`` sets.

Snakemake makes its options from the types themselves: annotations here are no texts, and what
may be left out is ``Optional``.
"""

from dataclasses import dataclass, field
from typing import Optional

from snakemake_interface_scheduler_plugins.settings import SchedulerSettingsBase


@dataclass
class SchedulerSettings(SchedulerSettingsBase):
    """Settings of the scheduler."""

    seconds: Optional[float] = field(  # noqa: UP045
        default=5.0,
        metadata={
            "help": "Longest time for one selection of jobs, seconds; beyond it Snakemake's "
            "greedy scheduler selects."
        },
    )
    records: Optional[str] = field(  # noqa: UP045
        default=".snakemake/plancast/rules.json",
        metadata={"help": "File that keeps the run times of rules from run to run."},
    )

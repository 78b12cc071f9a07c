"""What files, the command line and HTTP accept: one model for each thing that users write.

Amounts are what people write (cores, MiB, seconds); the planner's integers are made of them in
``user_files``. Every field is read by a reader of ``cells``, so that ``cpus: 500m`` means the
same in a CSV cell, in YAML and in a JSON body, and a field that no model knows is refused
everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from plancast.pipelines.inputs.cells import (
    Cell,
    amount_cell,
    cores_cell,
    duration_cell,
    flag_cell,
    instant_cell,
    mib_cell,
    moment_cell,
    names_cell,
    number_cell,
    round_up_cell,
    text_cell,
    whole_cell,
)
from plancast.pipelines.inputs.constraints import requires_cell
from plancast.pipelines.inputs.counted import LIMIT_COLUMNS, LimitsSection, Resource
from plancast.pipelines.inputs.energy import EnergySection, Rate
from plancast.pipelines.inputs.foreign import nearest
from plancast.pipelines.inputs.yaml_files import Section
from plancast.planner.model.domain import Outcome, Policy

MOST_ALIKE = 100_000
"""Workers that one row of a cluster file may make."""

OWN_COLUMNS: dict[str, Cell] = {"res_": round_up_cell, "num_": number_cell, "cat_": text_cell}
"""Beginnings of columns of the user's own: further resources, and features of a predictor."""


def _or_empty(read: Cell) -> Callable[[Any], Any]:
    return lambda cell: None if cell is None or cell == "" else read(cell)


def _schema(read: str, unit: str, empty: bool = False) -> WithJsonSchema:
    # A number may serve as a name, as it does in a table.
    kinds = [{"type": "number" if read == "string" else read}, {"type": "string"}]
    return WithJsonSchema(
        {"anyOf": [*kinds, *([{"type": "null"}] if empty else [])], "description": unit}
    )


_CORES = "cores or GPUs: 2, 0.5, 500m"
_MIB = "MiB, or an amount such as 4Gi"
_MOMENT = "seconds since the epoch, or 2024-05-01T12:00:00Z"
_SECONDS = "seconds, or a duration such as 2h or 00:30:00"

Cores = Annotated[float, BeforeValidator(cores_cell), _schema("number", _CORES)]
Mib = Annotated[float, BeforeValidator(mib_cell), _schema("number", _MIB)]
OptionalMib = Annotated[
    float | None, BeforeValidator(_or_empty(mib_cell)), _schema("number", _MIB, True)
]
Instant = Annotated[int, BeforeValidator(instant_cell), _schema("integer", _MOMENT)]
OptionalInstant = Annotated[
    int | None, BeforeValidator(_or_empty(instant_cell)), _schema("integer", _MOMENT, True)
]
OptionalMoment = Annotated[
    float | None, BeforeValidator(_or_empty(moment_cell)), _schema("number", _MOMENT, True)
]
OptionalSeconds = Annotated[
    int | None, BeforeValidator(_or_empty(duration_cell)), _schema("integer", _SECONDS, True)
]
Seconds = Annotated[int, BeforeValidator(duration_cell), _schema("integer", _SECONDS)]
Amount = Annotated[float, BeforeValidator(amount_cell), _schema("number", "0 or more")]
Whole = Annotated[int, BeforeValidator(whole_cell), _schema("integer", "a whole number")]
OptionalWhole = Annotated[
    int | None, BeforeValidator(_or_empty(whole_cell)), _schema("integer", "a whole number", True)
]
Flag = Annotated[
    bool,
    BeforeValidator(flag_cell),
    WithJsonSchema({"type": ["boolean", "string", "integer"], "description": "true or false"}),
]
Text = Annotated[str, BeforeValidator(text_cell), _schema("string", "text")]
OptionalText = Annotated[
    str | None, BeforeValidator(_or_empty(text_cell)), _schema("string", "text", True)
]
_NAME = {"type": ["string", "number"]}
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(names_cell),
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": _NAME}, _NAME],
            "description": "a list, or words with spaces between them",
        }
    ),
]

Labels = Annotated[
    tuple[str, ...],
    BeforeValidator(requires_cell),
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": _NAME}, _NAME],
            "description": "a constraint such as gpu&(rack1|rack2), or a list of some",
        }
    ),
]


def _null_is_empty(schema: dict[str, Any]) -> None:
    """A null is an empty cell, of every field that may be left out."""
    for name in schema["properties"].keys() - set(schema["required"]):
        field = schema["properties"][name]
        kinds = field.setdefault("anyOf", [{"type": field.pop("type", "null")}])
        if {"type": "null"} not in kinds:
            field["anyOf"] = [*kinds, {"type": "null"}]


class TaskRow(Section):
    """A task as users write it: a row of a task table, or an object of a JSON list.

    Fields whose names begin with ``res_`` (a further resource), ``num_`` or ``cat_`` (features
    of a predictor) may be added. Of a task with several modes there is a row for each ``mode``.
    ``submit_s``, ``user``, ``group``, ``queue``, ``partition``, ``work_dir`` and ``submit_line``
    are read by a predictor;
    ``account``, ``qos`` and ``partition`` by a master on Slurm, which submits the task under them.
    """

    model_config = ConfigDict(extra="allow", json_schema_extra=_null_is_empty)

    id: Annotated[Text, Field(min_length=1)]
    cpus: Cores = 1.0
    mem_mib: Mib = 0.0
    gpus: Cores = 0.0
    release_s: OptionalInstant = None
    deadline_s: OptionalInstant = None
    weight: Amount = 1.0
    owner: OptionalText = None
    app: Text = ""
    requires: Labels = ()
    after: Names = ()
    requested_s: OptionalSeconds = None
    shards: Whole = 1
    preemptible: Flag = False
    mode: Text = ""
    account: Text = ""
    qos: Text = ""
    array_limit: OptionalWhole = None
    singleton: Flag = False
    exclusive: Flag = False
    most_per_worker: OptionalWhole = None
    most_workers: OptionalWhole = None
    submit_s: OptionalMoment = None
    user: Text = ""
    group: Text = ""
    queue: Text = ""
    partition: Text = ""
    work_dir: Text = ""
    submit_line: Text = ""

    @model_validator(mode="before")
    @classmethod
    def _fields_are_known(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        kept = {name: value for name, value in content.items() if value is not None}
        unknown = [str(name) for name in kept if cell_of(str(name)) is None]
        if unknown:
            raise ValueError(unknown_columns(unknown))
        for name, value in kept.items():
            if name not in cls.model_fields:
                kept[name] = OWN_COLUMNS[name[:4]](value)
        return kept


def _cells_of(model: type[Section]) -> dict[str, Cell]:
    readers: dict[str, Any] = {}
    for name, facts in model.model_fields.items():
        readers[name] = next(m.func for m in facts.metadata if isinstance(m, BeforeValidator))
    return readers


TASK_CELLS: dict[str, Any] = _cells_of(TaskRow)
"""Reader of each column of a task table."""

PREDICTOR_COLUMNS = (
    "submit_s", "user", "group", "queue", "partition", "work_dir", "submit_line",
)  # fmt: skip
"""Columns that only a predictor reads, beside ``num_*`` and ``cat_*`` features."""

CHARGE_COLUMNS = ("account", "qos", "partition")
"""Columns that say what a site's own scheduler runs a task under."""

OTHER_COLUMNS = frozenset({*PREDICTOR_COLUMNS, *LIMIT_COLUMNS, *CHARGE_COLUMNS, "mode"})
TASK_COLUMNS = tuple(name for name in TASK_CELLS if name not in OTHER_COLUMNS)
"""Columns of a task table that the planner reads, beside ``res_NAME`` for any further resource.

``mode`` is written only where a task has several.
"""


def cell_of(column: str) -> Cell | None:
    """The reader of a column of a task table; None where there is no such column."""
    own = OWN_COLUMNS.get(column[:4]) if len(column) > 4 else None
    return TASK_CELLS.get(column) or own


def unknown_columns(columns: Sequence[str]) -> str:
    """The sentence about columns that no task table has: all of them, to be renamed at once."""
    hints = {column: nearest(column, TASK_CELLS) for column in columns}
    index = "remove it (index=False leaves out the index of a frame)"
    hints |= {c: index for c in columns if not c or c.startswith("Unnamed: ")}
    near = [f"{column!r}; {hint}" for column, hint in hints.items() if "there are" not in hint]
    far = [repr(column) for column, hint in hints.items() if "there are" in hint]
    known = f"; there are {', '.join(TASK_CELLS)}" if far else ""
    return (
        f"unknown column{'s' if len(columns) > 1 else ''} {', '.join(near + far)}{known} (res_, "
        "num_ and cat_ begin columns of your own)"
    )


class WorkerRow(Section):
    """A worker, or `count` alike, of a cluster file."""

    id: str = Field(min_length=1)
    count: int | None = Field(None, ge=1, le=MOST_ALIKE)
    cpus: Annotated[Cores, Field(gt=0)]
    mem_mib: OptionalMib = None
    mem: OptionalMib = None
    gpus: Cores = 0.0
    resources: dict[str, int] = Field(default_factory=dict)
    labels: list[str] = Field(default_factory=list)
    machine_class: str = "default"
    free_from_s: OptionalInstant = None
    until_s: OptionalInstant = None
    blocked: list[tuple[Instant, Instant]] = Field(default_factory=list)
    idle_w: float = Field(0, ge=0)
    busy_w: float = Field(0, ge=0)
    boot_kwh: float = Field(0, ge=0)
    price_per_kwh: Rate | None = None
    carbon_kg_per_kwh: Rate | None = None
    health: float = Field(1, gt=0, le=1)
    devices: bool = False

    def rates(self, energy: EnergySection) -> dict[str, Any]:
        """What its energy costs and emits: its own, or that of the cluster."""
        return {
            name: getattr(energy, name) if getattr(self, name) is None else getattr(self, name)
            for name in ("price_per_kwh", "carbon_kg_per_kwh")
        }


class RunningRow(Section):
    """A running task of a cluster file: the fields of a `TaskRow`, where, and since when."""

    # The task's own fields are checked as those of a task table.
    model_config = ConfigDict(extra="allow")
    workers: list[str] = Field(min_length=1)
    start_s: Instant
    devices: list[list[int]] = Field(default_factory=list)


class FinishedRow(Section):
    """An ended task that others follow."""

    id: Annotated[str, Field(min_length=1)]
    end_s: Instant
    outcome: Outcome = Outcome.COMPLETED
    start_s: OptionalInstant = None


class ClusterSection(Section):
    """A cluster file."""

    workers: list[WorkerRow] = Field(min_length=1)
    now_s: OptionalInstant = None
    resources: dict[str, Resource] = Field(default_factory=dict)
    limits: LimitsSection = Field(default_factory=LimitsSection)
    energy: EnergySection = Field(default_factory=EnergySection)
    running: list[RunningRow] = Field(default_factory=list)
    finished: list[FinishedRow] = Field(default_factory=list)
    budgets: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)


_DEFAULT = Policy()


class PolicySection(Section):
    """A policy file; what it does not name keeps its default."""

    prices: dict[str, float] = Field(default_factory=dict)
    level: float = Field(_DEFAULT.level, gt=0, lt=1)
    scenarios: tuple[float, ...] | None = None
    hard_deadlines: bool = _DEFAULT.hard_deadlines
    max_wait_s: OptionalSeconds = Field(None, ge=0)
    max_stretch: float | None = Field(None, ge=1)
    move_tolerance_s: Annotated[Seconds, Field(ge=0)] = _DEFAULT.move_tolerance_s

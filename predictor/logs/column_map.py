"""Column maps: how a table's columns become the canonical ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from plancast.json_text import plain_text
from plancast.predictor import units as unit_texts
from plancast.predictor.nested import yaml_value
from plancast.predictor.schema import COLUMNS, BadLog

MAPS = Path(__file__).parent / "columns"
"""Column maps of known tables."""

MOST_LETTERS = 40
"""Of a column's name in a sentence."""
_UNKNOWN_CELLS = ("", "NA", "N/A", "NaN", "nan", "null", "None")
UNITS: dict[str, dict[str, float]] = {
    "time": unit_texts.SECONDS,
    "memory": unit_texts.MIB,
    "count": {"one": 1, "milli": 1e-3, "percent": 1e-2},
}
"""Unit names a column map may use: what one of them is in seconds, MiB or pieces."""

TIME_COLUMNS = ("submit_s", "start_s", "end_s")
QUANTITY = {
    "submit_s": "time",
    "start_s": "time",
    "end_s": "time",
    "run_s": "time",
    "requested_s": "time",
    "mem_mib": "memory",
    "mem_peak_mib": "memory",
    "cpus": "count",
    "gpus": "count",
}
"""Canonical column to what it measures."""

_WANTED = {
    "time": "a number or a duration like 2h or 00:30:00",
    "memory": "a number or an amount like 4Gi",
    "count": "a number like 2 or 500m",
}


def wanted(target: str) -> str:
    """What a cell of a canonical column of numbers must be, for people."""
    if target in TIME_COLUMNS:
        return "a number or a time like 2024-05-01T12:00:00"
    return _WANTED.get(QUANTITY.get(target, ""), "a number")


FOREIGN = {
    foreign: name
    for name, words in {
        "job_id": ("id", "jobid", "job", "task_id", "taskid", "job_number"),
        "submit_s": ("submit", "submitted", "submit_time", "submission", "created", "queued",
                     "submission_time", "submit_date", "submitted_at", "created_at", "queued_at",
                     "creation_time", "arrival", "arrival_time", "enqueued", "submit_ts"),
        "start_s": ("start", "started", "start_time", "begin", "begin_time", "start_date",
                    "started_at", "start_ts"),
        "end_s": ("end", "ended", "end_time", "finish", "finished", "completed", "end_date",
                  "finish_time", "finished_at", "completed_at", "completion_time", "ended_at",
                  "complete", "end_ts"),
        "run_s": ("run", "runtime", "run_time", "elapsed", "duration", "walltime", "realtime",
                  "elapsed_time", "wall_time", "wallclock", "wall_clock", "took", "exec_time",
                  "execution_time", "elapsed_raw", "time_taken"),
        "requested_s": ("timelimit", "time_limit", "requested", "limit", "requested_time",
                        "time_requested", "req_time", "max_time", "requested_walltime",
                        "walltime_requested", "walltime_limit", "time_req"),
        "cpus": ("cpu", "cores", "procs", "processors", "ncpus", "num_cpus", "n_cpus", "ncores",
                 "num_cores", "nprocs", "num_procs", "threads", "slots", "req_cpus", "alloc_cpus",
                 "vcpus", "cpu_count"),
        "mem_mib": ("memory", "mem", "ram", "mem_mb", "memory_mb", "req_mem", "requested_memory",
                    "memory_requested"),
        "gpus": ("gpu", "ngpus", "num_gpus", "n_gpus", "gpu_count"),
        "app": ("name", "job_name", "jobname", "command", "executable", "application", "program",
                "script", "process", "rule", "task_name", "job_type"),
        "user": ("owner", "username", "user_name", "uid", "user_id", "submitter", "who"),
        "group": ("account", "project", "team", "department", "group_name"),
        "queue": ("qos", "pool", "queue_name"),
        "partition": ("machine_type", "node_type", "machine_class", "instance_type"),
        "work_dir": ("workdir", "working_dir", "working_directory", "cwd", "jobdir",
                     "current_working_directory", "init_work_dir", "execution_path"),
        "submit_line": ("submitline", "submit_command", "submit_arguments", "submit_args",
                        "command_line", "cmdline"),
        "outcome": ("state", "status", "result", "exit_code", "exit_status", "job_state"),
    }.items()
    for foreign in words
}  # fmt: skip
"""What other tools call the canonical columns."""


def _as_text(value: Any) -> Any:
    # YAML makes numbers of places and of texts such as -1.
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Source = Annotated[str, BeforeValidator(_as_text)]
"""The name or the place of a source column."""


class ColumnMap(BaseModel):
    """How a table's columns become the canonical ones; the schema of a column-map file.

    Parameters
    ----------
    columns : dict
        Canonical column to source column: its name or, in a table without a header line, its
        place from 0.
    names : list
        Names of the columns of a table without a header line.
    extract : dict
        Canonical text column (or feature) to a regular expression; what its first group (or
        the whole) matches replaces the text, where it matches.
    numeric, categorical : dict
        Further features known at submission; ``input_bytes: size`` gives ``num_input_bytes``.
    units : dict
        Canonical column to the unit of its source's plain numbers (see `UNITS`); seconds, MiB,
        pieces if not given. A cell with a unit of its own (``21m 20s``, ``8 GB``) needs none.
    scale : dict
        Canonical column or numeric feature to a factor its values are multiplied by.
    constants : dict
        Canonical column to one value for all rows.
    submission : {"in_turn", "shuffled", "at_once"}, optional
        Of a table without submission times (instead of ``columns.submit_s``). ``in_turn``:
        rows stand in order of time, each submitted and started when the one above it ended,
        from 0 on. ``shuffled``: rows stand in no order of time (sorted by machine, say); in
        turn in an order drawn once for all. ``at_once``: all submitted at 0.
    outcomes : dict
        Text of the outcome's source column to an outcome; texts not listed are unknown.
    drop_if : dict
        Source column to texts; rows with one of them are dropped and counted.
    unique_by : list
        Canonical columns (or features); a row equal to an earlier one in all of them is
        dropped and counted.
    unknown : list
        Texts that mean "unknown" in every column.
    timezone : str
        Zone of times without an offset.
    separator : str, optional
        Between the cells of a CSV line; by default the one of comma, tab, semicolon and bar
        under which the columns are found.
    header : dict
        Facts of the machine for ``attrs["header"]``, such as MaxProcs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[str, Source]
    names: list[Source] = Field(default_factory=list)
    extract: dict[str, str] = Field(default_factory=dict)
    numeric: dict[str, Source] = Field(default_factory=dict)
    categorical: dict[str, Source] = Field(default_factory=dict)
    units: dict[str, str] = Field(default_factory=dict)
    scale: dict[str, float] = Field(default_factory=dict)
    constants: dict[str, str | float] = Field(default_factory=dict)
    submission: Literal["in_turn", "shuffled", "at_once"] | None = None
    outcomes: dict[str, Literal["completed", "failed", "cancelled", "timeout", "unknown"]] = Field(
        default_factory=dict
    )
    drop_if: dict[Source, list[Source]] = Field(default_factory=dict)
    unique_by: list[str] = Field(default_factory=list)
    unknown: list[str] = Field(default_factory=lambda: list(_UNKNOWN_CELLS))
    timezone: str = "UTC"
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    header: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_known(self) -> ColumnMap:
        targets = [*self.columns, *self.features]
        for key in ("columns", "constants"):
            for name in getattr(self, key):
                _require_known(key, name, COLUMNS)
        for name in self.units:
            _require_known("units", name, [n for n in targets if n in QUANTITY])
            _require_known(f"units.{name}", self.units[name], UNITS[QUANTITY[name]])
        for name in self.scale:
            numeric = [n for n in targets if n in QUANTITY or n.startswith("num_")]
            _require_known("scale", name, numeric)
        for name in self.unique_by:
            _require_known("unique_by", name, targets)
        for name, pattern in self.extract.items():
            texts = [n for n in targets if n not in QUANTITY and not n.startswith("num_")]
            _require_known("extract", name, texts)
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"extract.{name}: {pattern!r} is no pattern ({error})") from None
        self._submission_is_told()
        both = sorted(set(self.columns) & set(self.constants))
        if both:
            raise ValueError(f"constants: {both[0]} is in columns too; keep one of the two")
        return self

    def _submission_is_told(self) -> None:
        found = [name for name in TIME_COLUMNS if name in self.columns]
        if self.submission is None and "submit_s" not in found:
            raise ValueError(
                "columns: submit_s is missing; name the column of submission times, or say "
                "submission: in_turn, shuffled or at_once where there are none"
            )
        if self.submission is not None and found:
            raise ValueError(f"submission: columns names {found[0]}; keep one of the two")
        if self.submission in ("in_turn", "shuffled") and "run_s" not in self.columns:
            raise ValueError(
                f"submission: {self.submission} needs the run times; name the column of run_s"
            )

    @property
    def features(self) -> dict[str, str]:
        """Extra features by their full name (``num_*``, ``cat_*``) to source column."""
        return {f"num_{n}": source for n, source in self.numeric.items()} | {
            f"cat_{n}": source for n, source in self.categorical.items()
        }

    def keys_by_source(self) -> list[tuple[str, str]]:
        """Each ``section.key`` of the map with the source column it names."""
        pairs = [(f"columns.{n}", source) for n, source in self.columns.items()]
        pairs += [(f"numeric.{n}", source) for n, source in self.numeric.items()]
        pairs += [(f"categorical.{n}", source) for n, source in self.categorical.items()]
        return pairs + [(f"drop_if.{source}", source) for source in self.drop_if]

    @classmethod
    def load(cls, path: str | PathLike[str]) -> ColumnMap:
        """Read a column-map file (YAML), or one of ours by its name (``openb``, ``spark-c3o``).

        Raises
        ------
        BadLog
            Where it is missing or not as the schema has it, naming file and key.
        """
        file = Path(path)
        known = MAPS / f"{path}.yaml"
        if not file.exists() and str(path).replace("-", "").isalnum() and known.is_file():
            file = known
        try:
            content = yaml_value(plain_text(file.read_bytes()))
        except FileNotFoundError:
            raise BadLog(f"{file}: there is no such column map; check the path") from None
        except OSError:
            raise BadLog(f"{file} cannot be read; give a column map in YAML") from None
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise BadLog(
                f"column map {file.name}{line}: this is not YAML: {error.problem}; repair it"
            ) from None
        except (yaml.YAMLError, ValueError) as error:
            raise BadLog(
                f"column map {file.name}: this is not YAML: {str(error).splitlines()[0]}; repair it"
            ) from None
        if not isinstance(content, dict):
            raise BadLog(f"column map {file.name} is not a mapping; begin it with 'columns:'")
        return cls.of(content, f"column map {file.name}")

    @classmethod
    def of(cls, content: dict[str, Any], source: str) -> ColumnMap:
        """A map from what its file holds; errors as of ``load``, beginning with `source`."""
        try:
            return cls.model_validate(content)
        except ValidationError as invalid:
            raise BadLog(f"{source}, {_first_error(invalid)}") from None


Columns: TypeAlias = ColumnMap | str | PathLike[str] | Mapping[str, Any]
"""A map, its file or built-in name, what its file holds, or its ``columns`` alone."""


def _require_known(key: str, name: str, known: Any) -> None:
    if name not in known:
        raise ValueError(f"{key}: {name} is unknown{nearest(name, list(known))}")


def listed(names: Iterable[object]) -> str:
    """Names of columns for a sentence; what a damaged header has for a name is cut short."""
    return ", ".join(shorten(str(name), MOST_LETTERS, placeholder="...") for name in names)


def nearest(name: str, known: list[str]) -> str:
    """A hint at the right name for a wrong one."""
    meant = FOREIGN.get(name.lower(), "")
    close = [meant] if meant in known else difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"; the nearest are {listed(close)}" if close else f"; known are {listed(known)}"


_PLAIN = {
    "missing": "is missing",
    "dict_type": "must be a mapping of names to columns",
    "list_type": "must be a list",
    "string_type": "must be text in quotes",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
}


def _first_error(invalid: ValidationError) -> str:
    error = invalid.errors()[0]
    text = str(error["msg"]).removeprefix("Value error, ")
    text = _PLAIN.get(error["type"], re.sub(r"^Input should be", "must be", text))
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{key} is no key of a column map{nearest(key, list(ColumnMap.model_fields))}"
    return f"{key}: {text}; repair it" if key else text

"""Reader of workflow executions in WfCommons' WfFormat (JSON), versions 1.0 to 1.6."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plancast.json_text import json_value
from plancast.predictor.logs import json_table
from plancast.predictor.logs.rows import EARLIEST_S, LATEST_S, Rows, finish
from plancast.predictor.logs.source import decoded, epoch_seconds, first_lines, read_bytes
from plancast.predictor.schema import BadLog

VERSIONS = ("1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6")
"""Schema versions that can be read; up to 1.4 a task holds its own execution."""

_ITS_OWN = re.compile(r"([_.#:-](ID)?\d+|\s*\([^()]*\))$")
"""The end of a task's name that tells it from its equals: ``align_ID12``, ``ALIGN (sample 3)``."""

_MOSTLY = 0.5
"""Share of dependencies; if at more of them the child starts first, no start is believed."""


class WfFormatReader:
    """One workflow execution: a JSON object of WfCommons' schema, plain or gzip.

    Notes
    -----
    ``app`` is the task's category, else its name without its number or tag; ``partition`` the
    machine that ran it; ``group`` the instance's name; ``num_input_bytes`` the size of its
    input files. ``attrs["parents"]`` maps a job id to the ids it waited for. A task is
    submitted when the last of its parents has ended. Where a file tells no task's start, or
    starts at which most parents could not have ended (some writers put the time of writing
    there), a task starts as soon as it is submitted: ``attrs["replayed"]`` counts such tasks.

    References
    ----------
    Coleman, Casanova, Pottier, Kaushik, Deelman, Ferreira da Silva (2022), "WfCommons: A
    framework for enabling scientific workflow research and development",
    doi:10.1016/j.future.2021.09.043. The schema: github.com/wfcommons/WfFormat.
    """

    name = "wfformat"
    options: frozenset[str] = frozenset({"timezone"})

    def sniff(self, path: Path) -> bool:
        """Whether it begins as a JSON object with a schema version or a workflow."""
        return json_table.reader_of("\n".join(first_lines(path, 1000))) == self.name

    def read(
        self, path: Path, *, timezone: str = "UTC", rows: Rows | None = None, **options: Any
    ) -> pd.DataFrame:
        """The canonical frame of a workflow execution.

        Parameters
        ----------
        path : Path
            JSON, plain or gzip.
        timezone : str
            Of times without an offset.
        rows : Rows, optional
            Account of bad tasks. A cell of a task that cannot be read is taken as unknown, and
            so is a parent that is no task: the others wait for the task all the same.

        Raises
        ------
        BadLog
            Where the file is damaged, of another version, was never executed, has tasks that
            wait for themselves, or too many bad ones.
        """
        rows = rows or Rows(path.name)
        instance = _Instance(_parsed(read_bytes(path), rows), rows, timezone)
        frame = instance.frame()
        instance.tell()
        parents = {job: after for job, after in instance.parents.items() if after}
        facts: dict[str, Any] = {
            "format": self.name,
            "source": path.name,
            "header": instance.header(),
            "parents": parents,
        }
        if instance.replayed:
            facts["replayed"] = instance.replayed
        return finish(frame, [f"task {job!r}" for job in frame["job_id"]], rows, facts)


def _parsed(raw: bytes, rows: Rows) -> dict[str, Any]:
    name = rows.name
    try:
        content = json_value(decoded(raw, rows))
    except json.JSONDecodeError as error:
        raise BadLog(
            f"{name}, line {error.lineno}: this is not JSON ({error.msg}); repair it"
        ) from None
    except ValueError as error:
        raise BadLog(f"{name}: this is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise BadLog(f"{name} is no JSON object; give a WfFormat instance")
    return content


class _Instance:
    """A parsed file: its tasks by id in file order, each with the fields of both halves."""

    def __init__(self, content: dict[str, Any], rows: Rows, timezone: str) -> None:
        self.file = name = rows.name
        self.rows, self.timezone = rows, timezone
        self.faults: dict[str, tuple[str, str]] = {}
        version = content.get("schemaVersion")
        if version not in VERSIONS:
            raise BadLog(
                f"{name}: schemaVersion is {version!r}; it must be one of {', '.join(VERSIONS)}"
            )
        self.content = content
        self.workflow = self._object(content, "workflow", "the file")
        self.sizes: dict[str, float] = {}
        if "specification" in self.workflow:
            self.execution = self._object(self.workflow, "execution", "workflow")
            self.tasks = self._two_halves()
        else:
            self.execution = self.workflow
            listed = "tasks" if "tasks" in self.workflow else "jobs"
            self.tasks = self._by_id(self.workflow, listed, "workflow")
        self.parents = self._parents()
        self.replayed = 0

    # -- reading the structure ---------------------------------------------------------

    def _two_halves(self) -> dict[str, dict[str, Any]]:
        specification = self._object(self.workflow, "specification", "workflow")
        for row, file in enumerate(self._list(specification, "files", "specification")):
            where = f"specification.files, entry {row + 1}"
            if not isinstance(file, dict) or not isinstance(file.get("id"), str):
                self._odd(where, "id", "the file has none")
                continue
            self.sizes[file["id"]] = self._number(file, ("sizeInBytes",), where)
        tasks = self._by_id(specification, "tasks", "specification")
        ran = self._by_id(self.execution, "tasks", "execution")
        for task in ran:
            if task not in tasks:
                fault = f"execution.tasks: task {task!r} is not in specification.tasks"
                self.rows.drop("a task that is not specified", [f"task {task!r}"], fault)
        return {task: {**ran.get(task, {}), **facts} for task, facts in tasks.items()}

    def _by_id(self, holder: dict[str, Any], key: str, where: str) -> dict[str, dict[str, Any]]:
        result: dict[str, dict[str, Any]] = {}
        for row, task in enumerate(self._list(holder, key, where)):
            place = f"{where}.{key}, entry {row + 1}"
            label = task.get("id", task.get("name")) if isinstance(task, dict) else None
            if not isinstance(task, dict) or not isinstance(label, str) or not label:
                self.rows.drop("no id and no name", [place], f"{place}: has no id and no name")
            elif label in result:
                fault = f"{place}: the id {label!r} is there twice"
                self.rows.drop("an id that is there twice", [place], fault)
            else:
                result[label] = task
        if not result:
            self.rows.check(0)
            raise self._bad(f"{where}.{key} lists no task; give an instance with at least one")
        return result

    def _parents(self) -> dict[str, list[str]]:
        known = {task: task for task in reversed(self.tasks)}
        for task, facts in self.tasks.items():
            # Up to version 1.4 tasks refer to each other by name.
            if isinstance(facts.get("name"), str):
                known.setdefault(facts["name"], task)
        result: dict[str, dict[str, None]] = {task: {} for task in self.tasks}
        for task, facts in self.tasks.items():
            for key in ("parents", "children"):
                for other in self._entries(facts, key, f"task {task!r}"):
                    if not isinstance(other, str) or other not in known:
                        self._odd(f"task {task!r}", key, f"names {other!r}, which is no task")
                        continue
                    before, after = known[other], task
                    if key == "children":
                        before, after = after, before
                    result[after][before] = None
        return {task: list(before) for task, before in result.items()}

    # -- the frame ---------------------------------------------------------------------

    def frame(self) -> pd.DataFrame:
        """The tasks as rows, not yet canonical."""
        rows = {task: self._row(task, facts) for task, facts in self.tasks.items()}
        table = pd.DataFrame(list(rows.values()))
        began = self._began()
        starts = dict(zip(rows, table["start_s"].tolist(), strict=True))
        runs = dict(zip(rows, table["run_s"].tolist(), strict=True))
        found = self._starts_are_told(starts, runs)
        ends: dict[str, float] = {}
        submits: dict[str, float] = {}
        for task in self._in_order():
            ready = max((ends[parent] for parent in self.parents[task]), default=began)
            start = starts[task] if found else ready
            # Of a parent that streams to it a task need not see the end.
            submits[task] = min(ready, start) if not math.isnan(start) else ready
            run = 0.0 if math.isnan(runs[task]) else runs[task]
            ends[task] = (ready if math.isnan(start) else start) + run
            if not found:
                starts[task] = start
        self.replayed = 0 if found else len(rows)
        table["submit_s"] = [submits[task] for task in rows]
        table["start_s"] = [starts[task] for task in rows]
        return table

    def _starts_are_told(self, starts: dict[str, float], runs: dict[str, float]) -> bool:
        """Whether there are starts that the graph does not contradict."""
        if all(math.isnan(start) for start in starts.values()):
            return False
        early = [
            # A second for clocks that were rounded.
            starts[task] < starts[parent] + runs[parent] - 1
            for task, before in self.parents.items()
            for parent in before
            if math.isfinite(starts[task] + starts[parent] + runs[parent])
        ]
        return not early or sum(early) <= _MOSTLY * len(early)

    def _began(self) -> float:
        """When the workflow started, seconds since the epoch; 0 where no time can be read.

        Published instances write this time in many ways (``05-10-23T16:23:32Z``). It is only
        the origin of all others, so the next best is taken: the instance's creation.
        """
        for holder, key in ((self.execution, "executedAt"), (self.content, "createdAt")):
            seconds = _seconds(holder.get(key), self.timezone, self.rows)
            if np.isfinite(seconds):
                return seconds
        return 0.0

    def _row(self, task: str, facts: dict[str, Any]) -> dict[str, Any]:
        place = f"task {task!r}"
        run_s = self._number(facts, ("runtimeInSeconds", "runtime"), place, LATEST_S)
        machines = facts.get("machines", facts.get("machine", ""))
        name = facts.get("category") or _ITS_OWN.sub("", str(facts.get("name", task)))
        return {
            "job_id": task,
            "run_s": run_s,
            "start_s": self._moment(facts, "executedAt", place),
            "cpus": self._number(facts, ("coreCount", "cores"), place),
            "mem_peak_mib": self._number(facts, ("memoryInBytes",), place) / 2**20,
            "group": str(self.content.get("name", "")),
            "app": str(name),
            "partition": str(machines[0] if isinstance(machines, list) and machines else machines)
            if machines
            else "",
            "outcome": "unknown" if math.isnan(run_s) else "completed",
            "num_input_bytes": self._input_bytes(facts, place),
        }

    def _input_bytes(self, facts: dict[str, Any], place: str) -> float:
        """Bytes of all input files; NaN where no files, or not all of their sizes, are given."""
        if "inputFiles" in facts:
            given = self._entries(facts, "inputFiles", place)
            if not isinstance(facts["inputFiles"] or [], list):
                return math.nan
            names = [str(name) for name in given]
            return float(sum(self.sizes.get(name, math.nan) for name in dict.fromkeys(names)))
        if "files" not in facts:
            return math.nan
        total = 0.0
        for file in self._entries(facts, "files", place):
            if not isinstance(file, dict):
                self._odd(place, "files", f"holds {file!r}, which is no object")
                return math.nan
            if str(file.get("link", "")).lower() == "input":
                total += self._number(file, ("sizeInBytes", "size"), f"{place}, files")
        return total

    def _in_order(self) -> list[str]:
        """Tasks, parents before children."""
        waiting = {task: len(before) for task, before in self.parents.items()}
        children: dict[str, list[str]] = {task: [] for task in self.parents}
        for task, before in self.parents.items():
            for parent in before:
                children[parent].append(task)
        ready = [task for task, count in waiting.items() if count == 0]
        for task in ready:
            for child in children[task]:
                waiting[child] -= 1
                if waiting[child] == 0:
                    ready.append(child)
        if len(ready) < len(waiting):
            stuck = next(task for task, count in waiting.items() if count)
            raise self._bad(f"task {stuck!r} waits for itself through its parents; repair them")
        return ready

    def header(self) -> dict[str, str]:
        """Facts of the execution for ``attrs["header"]``."""
        machines = self._list(self.execution, "machines", "execution")
        system = self.content.get("runtimeSystem", self.content.get("wms", {}))
        facts = {
            "Version": f"WfFormat {self.content['schemaVersion']}",
            "Computer": str(system.get("name", "")) if isinstance(system, dict) else "",
        }
        cores = [_cores(machine) for machine in machines]
        if cores and all(cores):
            facts["MaxProcs"] = str(sum(cores))
        return {key: value for key, value in facts.items() if value}

    # -- values ------------------------------------------------------------------------

    def _bad(self, text: str) -> BadLog:
        return BadLog(f"{self.file}, {' '.join(text.split())}")

    def _odd(self, place: str, key: str, what: str) -> None:
        """A field that cannot be read; a task counts once."""
        sentence = " ".join(f"{place}, field {key}: {what}".split())
        self.faults.setdefault(place, (key, sentence))

    def tell(self) -> None:
        """Tell the account of the fields that could not be read."""
        for place, (key, sentence) in self.faults.items():
            self.rows.repair(f"unreadable {key}, taken as unknown", [place], sentence)

    def _object(self, holder: dict[str, Any], key: str, where: str) -> dict[str, Any]:
        value = holder.get(key)
        if isinstance(value, dict):
            return value
        remedy = "give an instance that ran" if key == "execution" else "repair the file"
        raise self._bad(f"{where}: has no object {key}; {remedy}")

    def _list(self, holder: Mapping[str, Any], key: str, where: str) -> list[Any]:
        value = holder.get(key) or []
        if not isinstance(value, list):
            raise self._bad(f"{where}: {key} is no list; give it as one")
        return value

    def _entries(self, holder: Mapping[str, Any], key: str, place: str) -> list[Any]:
        """A list of a task; none, and a note, where it is something else."""
        value = holder.get(key) or []
        if isinstance(value, list):
            return value
        self._odd(place, key, "is no list")
        return []

    def _number(
        self, holder: dict[str, Any], keys: tuple[str, ...], place: str, most: float = 1e300
    ) -> float:
        """The first of `keys` that is there, as a number of 0 or more; NaN where none is."""
        for key in keys:
            value = holder.get(key)
            if value is None:
                continue
            known = isinstance(value, int | float) and not isinstance(value, bool)
            if not known or not 0 <= value < most:
                self._odd(place, key, f"{value!r} is not a number of 0 or more")
                continue
            return float(value)
        return math.nan

    def _moment(self, holder: dict[str, Any], key: str, place: str) -> float:
        """A time as seconds since the epoch; NaN where it is not there."""
        value = holder.get(key)
        if value is None or value == "":
            return math.nan
        seconds = _seconds(value, self.timezone, self.rows)
        if not EARLIEST_S <= seconds <= LATEST_S:
            self._odd(place, key, f"{str(value)!r} is not a time like 2024-05-01T12:00:00Z")
            return math.nan
        return seconds


def _seconds(value: Any, timezone: str, rows: Rows) -> float:
    """A time as seconds since the epoch, NaN where it is none."""
    return float(epoch_seconds(pd.Series([str(value)], dtype=object), timezone, rows=rows)[0])


def _cores(machine: Any) -> int:
    """Cores of an entry of ``machines``, 0 where it does not say."""
    cpu = machine.get("cpu", {}) if isinstance(machine, dict) else {}
    cores = cpu.get("coreCount", cpu.get("count", 0)) if isinstance(cpu, dict) else 0
    return cores if isinstance(cores, int) and 0 < cores < 1_000_000 else 0

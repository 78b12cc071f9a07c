"""What Slurm says of its queue: ``squeue``, ``sinfo`` and ``scontrol``, read by shape.

The JSON of 22.05 has plain numbers and lists nodes; since 23.02 numbers are
``{set, infinite, number}``, states are lists and ``sinfo`` tells of groups of nodes. Which of
them a file is follows from what is in it, not from a version. Without JSON the columns of
``squeue -o`` and ``sinfo -o`` are read by their headings. Nothing here changes a cluster.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from plancast.json_text import json_value
from plancast.pipelines.engines.base import Unreachable
from plancast.pipelines.engines.slurm import CommandFailed, Run, run_command
from plancast.pipelines.engines.slurm_answers import CLOSED_FLAGS
from plancast.pipelines.inputs.files import read_text
from plancast.pipelines.operators.live_queue import NO_LIMIT_S, LiveJob, LiveQueue, Node
from plancast.planner.model.domain import BadRequest
from plancast.predictor.units import is_whole
from plancast.wording import counted, shorten

ACTIVE = frozenset(("RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING", "STOPPED", "SIGNALING"))
FREE_TO_START = frozenset(("", "None", "Priority", "Resources", "Cleaning", "Prolog", "(null)"))
"""Reasons of Slurm with which a job starts as soon as there is room."""

MOST_OF_AN_ARRAY = 1000
"""Tasks of one waiting array that are distinguished."""
MOST_NODES = 100_000
"""Nodes that one list names; Slurm has room for 65,533."""

SQUEUE_TEXT = "%i|%P|%u|%T|%V|%S|%l|%D|%C|%m|%Q|%r|%j|%N|%b"
SINFO_TEXT = "%N|%P|%c|%m|%t|%G"
COMMANDS = {
    "queue": (["squeue", "--json"], ["squeue", "-a", "-t", "all", "-o", SQUEUE_TEXT]),
    "nodes": (["sinfo", "--json"], ["sinfo", "-N", "-o", SINFO_TEXT]),
}
"""What is asked of a site: with JSON, and where it has none."""

LICENCE = re.compile(r"([^,;|:]+)(?::(\d+))?")
"""A licence of ``matlab:2,ansys@server``; one without a number is one."""

_AWAY = ("DRAIN", "DOWN", "MAINT", "FAIL")
"""Beginnings of states, which columns abbreviate, of nodes that take no job."""

_HELD = {
    "Dependency": "waits for jobs that it depends on",
    "DependencyNeverSatisfied": "can never start: a job that it depends on did not end well",
    "JobHeldUser": "is held by its user",
    "JobHeldAdmin": "is held by an administrator",
    "BeginTime": "may not start before its begin time",
    "JobArrayTaskLimit": "waits for other tasks of its array",
}


def queue_of_site(run: Run = run_command) -> LiveQueue:
    """Ask the Slurm at hand, read-only.

    Raises
    ------
    BadRequest
        Where its commands are missing or fail.
    """
    texts = {name: _asked(run, *commands) for name, commands in COMMANDS.items()}
    try:
        partitions = run(["scontrol", "show", "partition"])
    except (CommandFailed, Unreachable, OSError):
        partitions = ""
    return read_queue(
        texts["queue"], texts["nodes"], partitions, int(time.time()), ("squeue", "sinfo")
    )


def _asked(run: Run, first: Sequence[str], second: Sequence[str]) -> str:
    try:
        text = run(first)
        if text.lstrip().startswith("{"):
            return text
    except (CommandFailed, Unreachable, OSError):
        pass
    try:
        return run(second)
    except (CommandFailed, Unreachable) as error:
        raise BadRequest(
            f"slurm: cannot be asked: {error}; run this where squeue itself answers"
        ) from None
    except OSError:
        raise BadRequest(
            f"slurm: cannot be asked: there is no {second[0]}; install Slurm's clients"
        ) from None


def queue_of_files(queue: Path, nodes: Path, partitions: Path | None = None) -> LiveQueue:
    """Read what ``squeue`` and ``sinfo`` printed into files.

    The moment is that of the latest thing the queue tells of.
    """
    text = "" if partitions is None else read_text(partitions)
    return read_queue(read_text(queue), read_text(nodes), text, None, (str(queue), str(nodes)))


def read_queue(
    queue: str, nodes: str, partitions: str, now_s: int | None, names: tuple[str, str]
) -> LiveQueue:
    """A queue from what Slurm's commands printed.

    Parameters
    ----------
    queue, nodes : str
        Of ``squeue`` and ``sinfo`` (or ``scontrol show nodes --json``): JSON or columns.
    partitions : str
        Of ``scontrol show partition``; may be empty. Tells the limits of jobs without one.
    now_s : int, optional
        Epoch seconds.
    names : pair of str
        What complaints call the first two.

    Raises
    ------
    BadRequest
        Where a text is neither JSON of Slurm nor columns with the headings.
    """
    found, members = _nodes(nodes, names[1])
    limits = _partition_limits(partitions)
    rows = _rows(queue, "jobs", names[0])
    for k, row in enumerate(rows, 1):
        if "job_id" not in row:
            raise BadRequest(f"{names[0]}: job {k} has no job_id (JOBID); give what squeue prints")
    active: list[LiveJob] = []
    waiting: list[tuple[tuple[int, int, int], list[LiveJob]]] = []
    latest = 0
    for k, row in enumerate(rows, 1):
        try:
            latest = max(latest, *(_moment(row.get(key)) or 0
                                   for key in ("submit_time", "start_time")
                                   if not _future(row, key)))  # fmt: skip
            state = _words(row.get("job_state"))
            if ACTIVE.intersection(state):
                active.append(_job(row, state, members, limits, running=True))
            elif "PENDING" in state:
                job = _job(row, state, members, limits, running=False)
                priority = _number(row.get("priority")) or 0
                order = -priority, job.submit_s, _number(row["job_id"]) or 0
                waiting.append((order, [_renamed(job, name) for name in _names(row)]))
        except (ValueError, OverflowError) as error:
            raise BadRequest(f"{names[0]}: job {k}: {error}; give what squeue prints") from None
    waiting.sort(key=lambda w: w[0])
    jobs = tuple(job for _, tasks in waiting for job in tasks)
    up = tuple(node for node in found.values() if node is not None)
    if now_s is None:
        now_s = latest or int(time.time())
    return LiveQueue(now_s, up, tuple(active), jobs)


# -- shapes ----------------------------------------------------------------------------------


def _rows(text: str, key: str, name: str) -> list[Mapping[str, Any]]:
    """Rows of a JSON list under `key`, or of columns with headings."""
    if not text.lstrip().startswith("{"):
        return _columns(text, name)
    try:
        content = json_value(text)
    except ValueError as error:
        raise BadRequest(f"{name}: is no JSON: {error}; fetch it again") from None
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadRequest(f"{name}: has no list {key!r}; give what Slurm's --json prints")
    return rows


_HEADINGS = {
    "JOBID": "job_id", "PARTITION": "partition", "USER": "user_name", "STATE": "job_state",
    "SUBMIT_TIME": "submit_time", "START_TIME": "start_time", "TIME_LIMIT": "time_limit",
    "NODES": "node_count", "CPUS": "cpus", "MIN_MEMORY": "memory_per_node",
    "PRIORITY": "priority", "REASON": "state_reason", "NAME": "name", "NODELIST": "nodes",
    "TRES_PER_NODE": "tres_per_node", "MEMORY": "real_memory", "GRES": "gres",
}  # fmt: skip


def _columns(text: str, name: str) -> list[Mapping[str, Any]]:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or "|" not in lines[0]:
        raise BadRequest(
            f"{name}: is neither JSON nor columns with headings; print it by --json, or by "
            f"-o '{SQUEUE_TEXT}' (squeue) and -N -o '{SINFO_TEXT}' (sinfo)"
        )
    heads = [_HEADINGS.get(word.strip(), word.strip().lower()) for word in lines[0].split("|")]
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("|")
        if len(cells) != len(heads):
            raise BadRequest(
                f"{name}, line {number}: has {counted(len(cells), 'cell')}, not {len(heads)}"
            )
        rows.append({h: c.strip() for h, c in zip(heads, cells, strict=True)})
    return rows


def _number(value: Any) -> int | None:
    """A number as Slurm writes it: plain, ``{set, infinite, number}``, or in a text."""
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set") and not value.get("infinite") else None
    if isinstance(value, str):
        found = re.match(r"\d+", value)
        value = int(found.group()) if found else None
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _moment(value: Any) -> int | None:
    """Epoch seconds, of a number or of a clock time in the site's zone; None: not known."""
    if isinstance(value, str):
        if is_whole(value):
            return int(value)  # SLURM_TIME_FORMAT=%s
        try:
            return int(time.mktime(time.strptime(value, "%Y-%m-%dT%H:%M:%S")))
        except ValueError:
            return None
    return _number(value) or None


def _future(row: Mapping[str, Any], key: str) -> bool:
    """Whether a time is a plan of Slurm's and not a fact: the start of a waiting job."""
    return key == "start_time" and "PENDING" in _words(row.get("job_state"))


def _words(value: Any) -> list[str]:
    """States, flags or reasons: a list, or one text with ``+`` between them."""
    values = value if isinstance(value, list) else str(value or "").split("+")
    return [str(v).strip().upper().rstrip("*~#!%$@^-") for v in values]


def _minutes(value: Any) -> int | None:
    """A time limit in seconds, of minutes or of ``days-hours:minutes:seconds``."""
    if not isinstance(value, str):
        found = _number(value)
        return found * 60 if found and found < 2**31 else None
    return clock_s(value)


def clock_s(text: str) -> int | None:
    """Seconds of ``[days-]hours:minutes:seconds`` or ``minutes:seconds``; None: no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if not found:
        return None
    days, *parts = found.groups()
    numbers = [int(p) for p in parts if p is not None]
    if days is not None:
        numbers += [0] * (3 - len(numbers))
    elif len(numbers) < 3:
        numbers = [0, *numbers, *[0] * (2 - len(numbers))]
    hours, minutes, seconds = numbers
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _amount(text: str) -> int:
    """MiB of ``4G``, ``100M``, ``4096``."""
    found = re.match(r"(\d+(?:\.\d+)?)([KMGTP]?)", text)
    if not found:
        return 0
    factor = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}[found[2]]
    return math.ceil(float(found[1]) * factor)


def _gpus(text: str) -> int:
    """GPUs of ``gpu:a100:4(S:0-1)``, ``gres/gpu=2``, ``gres:gpu:2``."""
    return sum(int(n) for n in re.findall(r"gpu(?::[A-Za-z][\w.-]*)?[:=](\d+)", text or ""))


def host_names(text: str) -> list[str]:
    """Names of ``n[1-3,7],gpu01``; a ValueError where they are more than ``MOST_NODES``."""
    items = re.findall(r"[^,\[]+(?:\[[^\]]*\][^,\[]*)*", text or "")
    names = list(islice(chain.from_iterable(map(_expanded, items)), MOST_NODES + 1))
    if len(names) > MOST_NODES:
        raise ValueError(f"{shorten(text)} are more than {MOST_NODES:,} nodes")
    return names


def _expanded(item: str) -> Iterator[str]:
    found = re.match(r"([^\[]*)\[([^\]]*)\](.*)", item)
    if not found:
        if item.strip():
            yield item.strip()
        return
    head, ranges, rest = found.groups()
    for part in ranges.split(","):
        low, _, high = part.partition("-")
        if not is_whole(low) or (high and not is_whole(high)):
            continue
        for k in range(int(low), int(high or low) + 1):
            for tail in _expanded(rest) if rest.strip() else ("",):
                yield f"{head}{k:0{len(low)}d}{tail}"


# -- nodes, partitions, jobs -----------------------------------------------------------------


def _nodes(text: str, name: str) -> tuple[dict[str, Node | None], dict[str, set[str]]]:
    """Nodes by name (None: takes no job now), and the names in each partition."""
    found: dict[str, Node | None] = {}
    members: dict[str, set[str]] = {}
    is_json = text.lstrip().startswith("{")
    groups = is_json and re.search(r'"sinfo"\s*:', text) is not None
    for k, row in enumerate(_rows(text, "sinfo" if groups else "nodes", name), 1):
        try:
            names, amounts, state, inside = (_node_group if groups else _node_row)(row)
        except (ValueError, OverflowError) as error:
            raise BadRequest(f"{name}: node entry {k}: {error}; give what sinfo prints") from None
        away = any(s in CLOSED_FLAGS or s.startswith(_AWAY) for s in state)
        for node in names:
            found[node] = None if away else Node(node, amounts)
            for partition in inside:
                members.setdefault(partition, set()).add(node)
    if not found:
        raise BadRequest(f"{name}: names no node; give what sinfo prints")
    return found, members


_NodeFacts = tuple[list[str], dict[str, int], list[str], list[str]]
"""Names, amounts of each, states and flags, partitions."""


def _node_group(row: Mapping[str, Any]) -> _NodeFacts:
    """A group of like nodes, as ``sinfo --json`` tells of them since 23.02."""
    names = [n for x in _list(_object(row, "nodes"), "nodes") for n in host_names(str(x))]
    gres = row.get("gres", {})
    gpus = _gpus(str(gres.get("total", "") if isinstance(gres, Mapping) else gres))
    amounts = {"cpu": _most(row.get("cpus")), "mem": _most(row.get("memory")), "gpu": gpus}
    state = _words(_object(row, "node").get("state"))
    return names, amounts, state, [str(_object(row, "partition").get("name", ""))]


def _object(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = row.get(key) or {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{key} is no object")
    return found


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    found = row.get(key) or []
    if not isinstance(found, list):
        raise ValueError(f"{key} is no list")
    return found


def _node_row(row: Mapping[str, Any]) -> _NodeFacts:
    """One node: of ``sinfo --json`` in 22.05, ``scontrol show nodes --json``, or columns."""
    names = host_names(str(row.get("name") or row.get("nodes") or ""))
    amounts = {
        "cpu": _number(row.get("cpus")) or 0,
        "mem": _number(row.get("real_memory")) or 0,
        "gpu": _gpus(str(row.get("gres", ""))),
    }
    state = [*_words(row.get("state") or row.get("job_state")), *_words(row.get("state_flags"))]
    given = _list(row, "partitions") or [str(row.get("partition", "")).rstrip("*")]
    return names, amounts, state, [str(p) for p in given]


def _most(value: Any) -> int:
    """The maximum of ``{minimum, maximum, ...}``."""
    return _number(value.get("maximum")) or 0 if isinstance(value, Mapping) else _number(value) or 0


def _partition_limits(text: str) -> dict[str, int]:
    """Seconds of each partition's default time, else of its longest."""
    result = {}
    for block in re.split(r"\n\s*\n", text):
        name = re.search(r"PartitionName=(\S+)", block)
        for field in ("DefaultTime", "MaxTime"):
            found = re.search(rf"\b{field}=(\S+)", block)
            seconds = clock_s(found[1]) if found else None
            if name and seconds:
                result[name[1]] = seconds
                break
    return result


def _job(
    row: Mapping[str, Any],
    state: Sequence[str],
    members: Mapping[str, set[str]],
    limits: Mapping[str, int],
    *,
    running: bool,
) -> LiveJob:
    partitions = [p for p in _text(row, "partition").split(",") if p]
    limit = _minutes(row.get("time_limit"))
    if limit is None:
        limit = min((limits[p] for p in partitions if p in limits), default=NO_LIMIT_S)
    if "COMPLETING" in state:
        limit = 0  # it is about to end
    demand = _demand(row)
    if running:
        where = frozenset(host_names(_text(row, "nodes")))
    else:
        where = frozenset(name for p in partitions for name in members.get(p, ()))
    submit = _moment(row.get("submit_time")) or 0
    number = row["job_id"]
    return LiveJob(
        str(_number(number) if isinstance(number, Mapping) else number),
        demand,
        where,
        limit,
        submit,
        (_moment(row.get("start_time")) or submit) if running else None,
        "" if running else _barred(row, _text(row, "state_reason")),
        f"partition {_text(row, 'partition')}",
        _fields(row, demand, limit, submit),
        {name: int(amount or 1) for name, amount in LICENCE.findall(_text(row, "licenses"))},
    )


def _text(row: Mapping[str, Any], key: str) -> str:
    return str(row.get(key) or "")


def _fields(
    row: Mapping[str, Any], demand: Mapping[str, int], limit_s: int, submit_s: int
) -> dict[str, object]:
    """What a model looks at, by its canonical names."""
    return {
        "user": _text(row, "user_name"),
        "group": _text(row, "account"),
        "app": _text(row, "name"),
        "queue": _text(row, "qos"),
        "partition": _text(row, "partition"),
        "work_dir": _text(row, "current_working_directory"),
        "submit_line": _text(row, "submit_line"),
        "requested_s": float(limit_s) if 0 < limit_s < NO_LIMIT_S else math.nan,
        "cpus": float(_number(row.get("cpus")) or 1),
        "gpus": float(demand.get("gpu", 0)),
        "mem_mib": float(demand.get("mem", 0)) or math.nan,
        "submit_s": float(submit_s),
    }


def _demand(row: Mapping[str, Any]) -> dict[str, int]:
    """What a whole job takes: by its TRES where they are given, else by its fields."""
    tres = dict(re.findall(r"([\w/:.-]+)=([\w.]+)", str(row.get("tres_req_str") or "")))
    cpus, nodes = _number(row.get("cpus")) or 1, max(_number(row.get("node_count")) or 1, 1)
    memory = _amount(tres.get("mem", "0"))
    if not memory:
        each = row.get("memory_per_node")
        a_node = _amount(each) if isinstance(each, str) else _number(each) or 0
        memory = a_node * nodes or (_number(row.get("memory_per_cpu")) or 0) * cpus
    gpus = _gpus(",".join(f"{k}={v}" for k, v in tres.items() if k.startswith("gres/gpu")))
    gpus = gpus or _gpus(str(row.get("tres_per_node") or "")) * nodes
    demand = {"cpu": int(tres["cpu"]) if is_whole(tres.get("cpu", "")) else cpus}
    if memory:
        demand["mem"] = memory
    if gpus:
        demand["gpu"] = gpus
    if {"NONE", "EXCLUSIVE", "TRUE"}.intersection(
        _words(row.get("shared") or row.get("exclusive"))
    ):
        demand["node"] = nodes
    return demand


def _barred(row: Mapping[str, Any], reason: str) -> str:
    """Why a waiting job may not start whatever is free; empty: it may."""
    if row.get("hold") is True and reason in FREE_TO_START:
        return "is held"
    if reason in FREE_TO_START:
        return ""
    return _HELD.get(reason, f"waits for a limit or a state that Slurm calls {reason}")


def _names(row: Mapping[str, Any]) -> list[str]:
    """The ids of a waiting row: of an array, of each task that waits."""
    number = row["job_id"]
    plain = str(_number(number) if isinstance(number, Mapping) else number)
    tasks = str(row.get("array_task_string") or "")
    base = _number(row.get("array_job_id"))
    text = re.fullmatch(r"(\d+)_\[(.*)\]", plain)
    if text:
        base, tasks = int(text[1]), text[2]
    if not tasks or not base:
        return [plain]
    names = []
    for part in tasks.split("%")[0].split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?(?::(\d+))?", part.strip())
        if found:
            last, step = int(found[2] or found[1]), max(1, int(found[3] or 1))
            indices = range(int(found[1]), last + 1, step)[:MOST_OF_AN_ARRAY]
            names += [f"{base}_{k}" for k in indices]
    return names[:MOST_OF_AN_ARRAY] or [plain]


def _renamed(job: LiveJob, name: str) -> LiveJob:
    return job if job.id == name else replace(job, id=name)

"""Slurm's nodes and licences, as ``scontrol`` shows them, as a cluster file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from plancast.planner.model.domain import BadRequest, Worker

PARTITION = "partition:"
"""Begins the label of a worker that is in a partition."""
USUAL_PARTITION = "default-partition"
"""Label of the workers on which a task runs that names no partition."""
_GRES = re.compile(r"(?P<name>[^:,(]+)(?::(?P<type>[A-Za-z][^:,(]*))?(?::(?P<amount>\d+))?")


def cluster_content(nodes: str, usual: str, licences: str = "") -> dict[str, Any]:
    """A cluster file of the nodes that Slurm has.

    Parameters
    ----------
    nodes : str
        Of ``scontrol show nodes --oneliner``.
    usual : str
        Partition of jobs that name none; empty where there is no such.
    licences : str
        Of ``scontrol show licenses --oneliner``.

    Raises
    ------
    BadRequest
        Where the text names no node.

    Notes
    -----
    Cores and memory are what jobs may have of a node: without those kept back for the system.
    Labels are its features, ``partition:NAME``, ``default-partition`` and ``gpu:TYPE``; the machine
    class is its partition where it is in one only, as a model's are that learned from ``sacct``.
    Generic resources other than GPUs are resources of their names; so is each type of GPUs where
    a node has several, ``gpu:TYPE``. Licences are counted resources of the cluster, but for those
    that a generic resource shares its name with.
    """
    rows = [_worker(fields, usual) for fields in map(_fields, nodes.splitlines()) if fields]
    if not rows:
        raise BadRequest("slurm: it has no node; look with scontrol show nodes")
    held = {name for row in rows for name in row.get("resources", {})}
    counted = {n: amount for n, amount in licences_of(licences).items() if n not in held}
    return {"workers": rows} | ({"resources": counted} if counted else {})


def licences_of(text: str) -> dict[str, int]:
    """How many there are of each licence, in ``scontrol show licenses --oneliner``.

    Those that are kept back (``Reserved``) are not there for anybody.
    """
    found = {}
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if "LicenseName" in fields:
            kept = int(fields.get("Reserved") or 0)
            found[fields["LicenseName"]] = max(0, int(fields.get("Total") or 0) - kept)
    return found


def usual_partition(partitions: str) -> str:
    """The partition of jobs that name none, in ``scontrol show partition --oneliner``; or ""."""
    found = re.search(r"^PartitionName=(\S+)\b.*\bDefault=YES\b", partitions, re.MULTILINE)
    return found[1] if found else ""


def partition_required(partition: str, workers: Iterable[Worker]) -> tuple[str, ...]:
    """What a task requires of its workers by its partition.

    Parameters
    ----------
    partition : str
        One, or several with commas, any of which will do; empty for the usual one.
    workers : iterable of Worker
        Of a cluster file. Where none is labelled by its partitions, nothing is required.

    Raises
    ------
    BadRequest
        Where no worker is in any of them.
    """
    known = {label for worker in workers for label in worker.labels}
    there = sorted(label for label in known if label.startswith(PARTITION))
    if not there or (not partition and USUAL_PARTITION not in known):
        return ()
    wanted = [PARTITION + name for name in _names(partition)] or [USUAL_PARTITION]
    if known.isdisjoint(wanted):
        names = ", ".join(label.removeprefix(PARTITION) for label in there)
        raise BadRequest(f"partition {partition}: no worker is in it; they are in {names}")
    return ("|".join(wanted),)


def _fields(line: str) -> dict[str, str]:
    """``Name=value`` of a line that begins with a node's name; reasons are free text, and last."""
    if not line.startswith("NodeName="):
        return {}
    return dict(re.findall(r"(\w+)=(\S*)", re.split(r"\s(?:Reason|Comment|Extra)=", line)[0]))


def _worker(fields: Mapping[str, str], usual: str) -> dict[str, Any]:
    partitions = _names(fields.get("Partitions", ""))
    features = _names(fields.get("ActiveFeatures", "") or fields.get("AvailableFeatures", ""))
    amounts = gres_of(fields.get("Gres", ""))
    types = [name for name in amounts if name.startswith("gpu:")]
    labels = [*features, *(PARTITION + name for name in partitions), *types]
    if usual in partitions:
        labels.append(USUAL_PARTITION)
    cpus = int(fields.get("CPUEfctv") or fields["CPUTot"])
    row: dict[str, Any] = {"id": fields["NodeName"], "cpus": cpus}
    row["mem_mib"] = int(fields.get("RealMemory") or 0) - int(fields.get("MemSpecLimit") or 0)
    row["gpus"] = amounts.pop("gpu", 0)
    if len(types) == 1:
        amounts.pop(types[0])
    row |= {"labels": list(dict.fromkeys(labels)), "resources": amounts}
    if len(partitions) == 1:
        row["machine_class"] = partitions[0]
    return {name: value for name, value in row.items() if value}


def gres_of(text: str) -> dict[str, int]:
    """Amounts of ``gpu:a100:4(S:0-1),nvme:2``: by name, and of a type by ``name:type`` too."""
    found: dict[str, int] = {}
    if text in ("", "(null)"):
        return found
    for part in re.split(r",(?![^(]*\))", text):
        match = _GRES.match(part)
        if match is None:
            continue
        amount = int(match["amount"] or 1)
        names = [match["name"]]
        if match["type"] and match["name"] == "gpu":
            names.append(f"{match['name']}:{match['type']}")
        for name in names:
            found[name] = found.get(name, 0) + amount
    return found


def gres_names(nodes: str) -> set[str]:
    """Names of the generic resources of all nodes, as of ``gres_of``."""
    found = re.findall(r"\bGres=(\S+)", nodes)
    return {name for text in set(found) for name in gres_of(text)}


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name and name != "(null)"]

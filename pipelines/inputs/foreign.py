"""What other tools call our columns and fields, to name the right one for a wrong one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

_WORDS: dict[str, str] = {
    "id": "name task taskid task_id job jobid job_id jobname job_name",
    "cpus": "cpu core cores ncpus vcpus num_cpus cpus_per_task processors procs threads",
    "mem_mib": "memory mem ram mem_mb memory_mb memory_mib mem_per_node mem_gb memory_gb",
    "mem": "memory ram",
    "gpus": "gpu ngpus num_gpus gres",
    "requested_s": "runtime run_time duration time timelimit time_limit walltime limit timeout "
    "requested requested_time",
    "release_s": "release released start start_s start_time begin not_before earliest",
    "deadline_s": "deadline due due_s due_date until latest",
    "submit_s": "submit submitted submit_time submission created",
    "weight": "priority prio importance",
    "owner": "username user_name submitter uid",
    "app": "application command executable program",
    "requires": "constraint constraints features labels node_selector nodeselector",
    "after": "dependency dependencies depends depends_on dependson needs predecessors parents",
    "shards": "ntasks replicas gang num_nodes nnodes instances parallelism size",
    "preemptible": "preemptable interruptible requeue",
    "exclusive": "whole_node wholenode alone oversubscribe",
    "most_per_worker": "ntasks_per_node tasks_per_node max_skew spread",
    "most_workers": "max_nodes pack",
    "workers": "nodes machines hosts servers node machine host worker",
    "labels": "features tags attributes",
    "resources": "gres extra capacity",
    "machine_class": "partition class type machine_type kind",
    "count": "replicas number copies",
    "now_s": "now time clock",
    "prices": "weights costs price",
    "blocked": "maintenance reservations windows downtime",
    "until_s": "until drain drain_at",
    "free_from_s": "free_from available_from free",
}
_FOREIGN: dict[str, list[str]] = {}
for _name, _words in _WORDS.items():
    for _word in _words.split():
        _FOREIGN.setdefault(_word, []).append(_name)
_UNIT = re.compile(r"_(s|sec|secs|seconds|m|min|mins|minutes|h|hours|mb|mib|gb|gib)$")


def nearest(name: str, names: Collection[str]) -> str:
    """A hint at the right name for a wrong one."""
    word = name.lower().strip()
    found = _FOREIGN.get(word) or _FOREIGN.get(_UNIT.sub("", word), [])
    known = [right for right in found if right in names]
    near = known or difflib.get_close_matches(word, names, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"

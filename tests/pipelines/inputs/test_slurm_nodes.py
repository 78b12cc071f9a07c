"""Slurm's nodes as a cluster file."""

from __future__ import annotations

import pytest

from plancast.pipelines.inputs.slurm_nodes import (
    USUAL_PARTITION,
    cluster_content,
    gres_names,
    gres_of,
    partition_required,
    usual_partition,
)
from plancast.pipelines.inputs.user_files import cluster_from_content
from plancast.planner.model.domain import BadRequest, Worker

TEXT = """\
NodeName=n1 Arch=x86_64 CPUAlloc=0 CPUEfctv=30 CPUTot=32 CPULoad=0.00 AvailableFeatures=ib,avx \
ActiveFeatures=ib Gres=gpu:a100:4(S:0-1),nvme:2 NodeAddr=n1 RealMemory=192000 MemSpecLimit=2000 \
State=IDLE Partitions=gpu,short Reason=CPUEfctv=7 RealMemory=5
NodeName=n2 CPUTot=64 ActiveFeatures=(null) Gres=gpu:a100:2,gpu:v100:1(S:0),gpu:1 RealMemory=1000 \
State=DOWN* Partitions=long
NodeName=n3 CPUTot=8 AvailableFeatures=old RealMemory=500 Gres=(null) State=IDLE
"""


def test_what_a_node_has_is_what_its_worker_has() -> None:
    """Plans would count cores that Slurm keeps for itself, or miss a feature or a GPU's type."""
    first, second, third = cluster_from_content(cluster_content(TEXT, "short"), "slurm").workers
    assert dict(first.capacity) == {"cpu": 30_000, "mem": 190_000, "gpu": 4_000, "nvme": 2}
    assert first.labels == {"ib", "partition:gpu", "partition:short", USUAL_PARTITION, "gpu:a100"}
    assert dict(second.capacity) == {
        "cpu": 64_000, "mem": 1_000, "gpu": 4_000, "gpu:a100": 2, "gpu:v100": 1
    }  # fmt: skip
    assert second.labels == {"partition:long", "gpu:a100", "gpu:v100"}
    assert (first.machine_class, second.machine_class) == ("default", "long")
    assert dict(third.capacity) == {"cpu": 8_000, "mem": 500}
    assert third.labels == {"old"}


LICENCES = """LicenseName=matlab Total=3 Used=1 Free=1 Reserved=1 Remote=no
LicenseName=ansys@server Total=40 Used=0 Free=40 Reserved=0 Remote=yes
LicenseName=nvme Total=9 Used=0 Free=9 Reserved=0 Remote=no
"""


def test_licences_are_counted_for_the_cluster() -> None:
    """A task that takes one would be refused, or planned where none is left."""
    cluster = cluster_from_content(cluster_content(TEXT, "short", LICENCES), "slurm")
    # Not what is kept back; and of the two called nvme the one that a node has.
    assert {one.id: one.amount for one in cluster.counted} == {"matlab": 2, "ansys@server": 40}
    none = cluster_content(TEXT, "short", "No licenses configured in Slurm.\n")
    assert cluster_from_content(none, "slurm").counted == ()


def test_a_slurm_without_nodes_is_said_in_a_sentence() -> None:
    """An empty cluster file would be written."""
    with pytest.raises(BadRequest, match="no node"):
        cluster_content("No nodes in the system\n", "")


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("(null)", {}),
        ("", {}),
        ("gpu", {"gpu": 1}),
        ("gpu:2(S:0,1),nvme:3", {"gpu": 2, "nvme": 3}),
        ("gpu:h100_80gb:8", {"gpu": 8, "gpu:h100_80gb": 8}),
        ("craynetwork:4,gpu:a:1(IDX:0)", {"craynetwork": 4, "gpu": 1, "gpu:a": 1}),
    ],
)
def test_generic_resources_are_counted_by_name(text: str, amounts: dict[str, int]) -> None:
    """A comma within parentheses, or a type, could be taken for another resource."""
    assert gres_of(text) == amounts
    assert gres_names(f"NodeName=a Gres={text} State=IDLE") == amounts.keys()


def test_the_usual_partition_is_slurm_s() -> None:
    """Tasks that name none would be planned on nodes that Slurm does not give them."""
    text = (
        "PartitionName=a AllowGroups=ALL Default=NO Nodes=n1\n"
        "PartitionName=b AllowGroups=ALL Default=YES Nodes=n2\n"
    )
    assert usual_partition(text) == "b"
    assert usual_partition(text.replace("YES", "NO")) == ""


def test_a_task_requires_its_partition() -> None:
    """Slurm refuses a node that is not in the partition of its job."""
    plain = [Worker("w", {"cpu": 1})]
    labels = frozenset({"partition:a"}), frozenset({"partition:b", USUAL_PARTITION})
    workers = [Worker(f"w{k}", {"cpu": 1}, some) for k, some in enumerate(labels)]
    assert partition_required("x", plain) == ()
    assert partition_required("", plain) == ()
    assert partition_required("a", workers) == ("partition:a",)
    assert partition_required("a,x", workers) == ("partition:a|partition:x",)
    assert partition_required("", workers) == (USUAL_PARTITION,)
    assert partition_required("", workers[:1]) == ()
    with pytest.raises(BadRequest, match=r"partition x: no worker is in it; they are in a, b"):
        partition_required("x", workers)

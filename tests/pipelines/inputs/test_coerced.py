"""What YAML and pydantic would read as something else than was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from plancast.pipelines.inputs.policy_files import read_policy
from plancast.pipelines.inputs.user_files import read_cluster
from plancast.planner.model.domain import BadRequest

WORKER = "workers: [{id: w, cpus: 4, %s}]"
CASES = [
    (WORKER % "busy_w: true", "workers.0.busy_w: must be a number, not true (YAML reads yes and"),
    (WORKER % "count: yes", "workers.0.count: must be a number, not true (YAML reads yes and"),
    (WORKER % "resources: {mig: on}", "workers.0.resources.mig: must be a number, not true"),
    (WORKER % "idle_w: off", "workers.0.idle_w: must be a number, not false (YAML reads no and"),
    (WORKER % "labels: [.nan]", "workers.0.labels.0: nan is not text; put it in quotes"),
    (WORKER % "machine_class: -.inf", "workers.0.machine_class: -inf is not text"),
    (WORKER % "" + "\nresources: {matlab: yes}", "resources.matlab: must be a number, not true"),
    (WORKER % "" + "\nlimits: {user: {ann: yes}}", "limits.user.ann: must be a number, not true"),
    (WORKER % "" + "\nlimits: {account: no}", "limits.account: must be a number, not false"),
    (WORKER % "" + "\nbudgets: {tokens: yes}", "budgets.tokens: must be a number, not true"),
    (WORKER % "" + "\nfinished: [{id: '', end_s: 0}]", "finished.0.id: is empty; give it a name"),
    (
        WORKER % "" + "\nenergy: {price_per_kwh: 1, power_cap_w: 1.0e+29}",
        "energy.power_cap_w: must be 1e+12 or less",
    ),
    (
        WORKER % f"busy_w: {'x' * 3000}",
        f"workers.0.busy_w: must be a number (it is '{'x' * 100}...')",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), CASES, ids=[said[:40] for _, said in CASES])
def test_a_cluster_file_is_read_as_it_is_written(text: str, sentence: str, tmp_path: Path) -> None:
    """`matlab: yes` was one licence, and a label that is no number the word "nan"."""
    path = tmp_path / "c.yaml"
    path.write_text(text.replace(", }", "}"))
    with pytest.raises(BadRequest) as caught:
        read_cluster(path)
    assert str(caught.value).startswith(f"{path}: {sentence}")
    assert len(str(caught.value)) < 400


def test_a_policy_and_flags_are_read_as_they_are_written(tmp_path: Path) -> None:
    """`kwh: yes` was the price 1; what is a flag must stay one."""
    path = tmp_path / "p.yaml"
    for text, sentence in (
        ("prices: {kwh: yes}", "prices.kwh: must be a number, not true"),
        ("scenarios: [yes]", "scenarios.0: must be a number, not true"),
        ("max_stretch: yes", "max_stretch: must be a number, not true"),
    ):
        path.write_text(text)
        with pytest.raises(BadRequest, match=sentence):
            read_policy(path)
    path.write_text("hard_deadlines: yes")
    assert read_policy(path).hard_deadlines
    path.write_text("workers: [{id: 1.10, cpus: 4, gpus: 2, devices: yes}]")
    assert read_cluster(path).workers[0].devices

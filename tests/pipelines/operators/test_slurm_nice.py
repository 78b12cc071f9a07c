"""The planner's order as nice values of Slurm."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.pipelines.cli import main
from plancast.pipelines.engines.base import Unreachable
from plancast.pipelines.engines.slurm import CommandFailed
from plancast.pipelines.operators import slurm_nice
from plancast.pipelines.operators.eta import quantiles_by_model
from plancast.pipelines.operators.live_queue import LiveJob, LiveQueue, Node
from plancast.planner.model.domain import BadRequest
from plancast.predictor import RuntimePredictor

BOTH = frozenset({"n1", "n2"})


def queue(*run_s: int) -> tuple[LiveQueue, np.ndarray]:
    """A full cluster of two nodes of four cores, and waiting jobs of four cores each."""
    nodes = tuple(Node(name, {"cpu": 4, "mem": 100}) for name in sorted(BOTH))
    full = LiveJob("0", {"cpu": 8}, BOTH, 3600, 0, 900)
    waiting = tuple(
        LiveJob(str(k), {"cpu": 4, "mem": 10}, BOTH, 3600, 0) for k in range(1, len(run_s) + 1)
    )
    seconds = np.array([[120.0], *([float(run)] for run in run_s)]) * [1.0, 1.1]
    return LiveQueue(1000, nodes, (full,), waiting), seconds


def test_short_jobs_come_first() -> None:
    """The order would be Slurm's own, or that of limits, which are all alike here."""
    live, seconds = queue(900, 30, 600, 20)
    found = slurm_nice.order_of_queue(live, seconds, (0.5, 0.9), seconds=0.3)
    assert set(found[:2]) == {"2", "4"}
    assert sorted(found) == ["1", "2", "3", "4"]


def test_jobs_of_several_nodes_have_shards() -> None:
    """A job of two nodes would fit nowhere, or whole nodes be shared."""
    live, seconds = queue(60, 60)
    wide = LiveJob("w", {"cpu": 8}, BOTH, 3600, 0)
    alone = LiveJob("x", {"cpu": 1, "node": 2}, BOTH, 3600, 0)
    live = LiveQueue(live.made_at_s, live.nodes, live.running, (*live.waiting, wide, alone))
    seconds = np.vstack([seconds, seconds[:2]])
    request = slurm_nice.request_of_queue(live, seconds, (0.5, 0.9))
    tasks = {task.id: task for task in request.snapshot.pending}
    assert (tasks["1"].shards, tasks["w"].shards, tasks["x"].shards) == (1, 2, 2)
    assert tasks["w"].demand == {"cpu": 4}
    assert tasks["x"].demand == {"cpu": 1, "node": 1}
    assert request.snapshot.running[0].workers == ("n1", "n2")


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 1000)), min_size=1, max_size=20),
    st.randoms(),
)
def test_priorities_follow_the_order(facts: list[tuple[int, int]], random: object) -> None:
    """A nice value would leave a job above one that is to come first."""
    known = {str(k): fact for k, fact in enumerate(facts)}
    order = list(known)
    random.shuffle(order)  # type: ignore[attr-defined]
    found = slurm_nice.nice_of(order, known)
    after = [known[name][0] + known[name][1] - found[name] for name in order]
    assert all(a > b for a, b in itertools.pairwise(after))
    assert min(found.values()) == 0


def test_a_log_without_memory_tells_jobs_apart_all_the_same() -> None:
    """Slurm's own count of memory would make every job look like none before."""
    kinds = np.where(np.arange(120) % 2, 20.0, 900.0)
    submit = 1e3 * np.arange(120)
    log = pd.DataFrame(
        {"job_id": [f"j{k}" for k in range(120)], "submit_s": submit, "start_s": submit,
         "run_s": kinds, "requested_s": 3600.0, "cpus": 4.0, "user": "ann",
         "app": np.where(kinds < 100, "quick", "slow")}
    )  # fmt: skip
    model = RuntimePredictor((0.5, 0.9), trees={"n_estimators": 10}).fit(log)
    live, _ = queue(1, 1)
    asked = {"user": "ann", "cpus": 4.0, "requested_s": 3600.0, "mem_mib": 4096.0, "gpus": 0.0,
             "submit_s": 2e5}  # fmt: skip
    jobs = (
        LiveJob(name, {"cpu": 4}, BOTH, 3600, 0, fields=asked | {"app": name})
        for name in ("slow", "quick")
    )
    live = LiveQueue(200_000, live.nodes, (), tuple(jobs))
    found = quantiles_by_model(model, live)
    assert found[0, 0] > 500
    assert found[1, 0] < 50


def test_arrays_count_once_and_far_priorities_are_refused() -> None:
    """An array's tasks would get values one by one, or Slurm a value that it cannot hold."""
    facts = {"7": (10, 0), "9": (10, 0)}
    assert slurm_nice.nice_of(["7_1", "9", "7_2", "gone"], facts) == {"7": 0, "9": 1}
    with pytest.raises(BadRequest, match="lower the priority weights"):
        slurm_nice.nice_of(["1", "2"], {"1": (1, 0), "2": (4_000_000_000, 0)})


class Site:
    """A Slurm that answers what is asked and keeps what it is told to do."""

    def __init__(self) -> None:
        self.orders: list[str] = []

    def __call__(self, words: Sequence[str]) -> str:
        """One command."""
        if words[0] == "squeue":
            return "7_[1-3]|100|5|7\n8|90|0|8\n"
        if words[2] == "JobId=8":
            raise CommandFailed("Access denied")
        if words[2] == "JobId=9":
            raise CommandFailed("Job has already finished for job 9")
        self.orders.append(" ".join(words))
        return ""


def test_what_slurm_says_and_refuses() -> None:
    """An array would be asked for by a name that Slurm has not, or a refusal go unheard."""
    site = Site()
    assert slurm_nice.priorities_of_site(site) == {"7": (100, 5), "8": (90, 0)}
    assert slurm_nice.set_nice({"7": 0, "8": 16, "9": 32}, site) == ["job 8: Access denied"]
    assert site.orders == ["scontrol update JobId=7 Nice=0"]


def test_a_slurm_that_goes_away_is_told_with_what_was_not_set() -> None:
    """A traceback would say neither which jobs have their value nor which have not."""
    site = Site()

    def run(words: Sequence[str]) -> str:
        if site.orders:
            raise Unreachable("scontrol: timed out")
        return site(words)

    left = slurm_nice.set_nice({"5": 0, "6": 16, "7": 32}, run)
    assert site.orders == ["scontrol update JobId=7 Nice=32"]
    assert left == ["job 6: scontrol: timed out", "job 5: scontrol: timed out"]


def test_nothing_is_set_without_the_flag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A look at the order would change the queue."""
    orders: list[dict[str, int]] = []
    monkeypatch.setattr(slurm_nice, "nice_of_site", lambda *a, **k: {"4": 0, "2": 7})
    monkeypatch.setattr(slurm_nice, "set_nice", lambda values: orders.append(values) or [])
    for flag in ([], ["--set-nice"]):
        with pytest.raises(SystemExit) as end:
            main(["export", "slurm-nice", "--model", "m", *flag])
        assert end.value.code == 0
        out = capsys.readouterr().out
        if not flag:
            assert out == "scontrol update JobId=4 Nice=0\nscontrol update JobId=2 Nice=7\n"
            assert orders == []
    assert orders == [{"4": 0, "2": 7}]

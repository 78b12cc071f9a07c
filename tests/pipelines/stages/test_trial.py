"""pipelines.stages.trial: the comparison of estimates is fair, repeatable, and sees no future."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import joblib
import numpy as np
import pytest

from plancast.pipelines.inputs.config import Config, TrialConfig, with_trial
from plancast.pipelines.stages.trial import (
    ORACLE,
    Batch,
    cut_batches,
    cut_rows,
    deadlines,
    kinds_of,
    plan_whole,
    summarise,
    task_names,
    trial,
    try_batch,
)
from plancast.planner.model.domain import TERMS, BadRequest, Plan, Policy, Prices
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest
from plancast.planner.worlds.simulate import execute
from plancast.predictor import RuntimePredictor
from plancast.predictor.logs.table import read_jobs
from tests.pipelines.conftest import SmallRun

CLOCK_KEYS = ("wall_s", "first_s", "replay_s")


@pytest.fixture(scope="module")
def jobs(small_run: SmallRun) -> Any:
    """The log of the small run."""
    return read_jobs(small_run.path("jobs"))


@pytest.fixture(scope="module")
def model(small_run: SmallRun) -> RuntimePredictor:
    """Its model."""
    return RuntimePredictor.load(small_run.path("model"))


@pytest.fixture(scope="module")
def batches(small_run: SmallRun, jobs: Any, model: RuntimePredictor) -> list[Batch]:
    """Its batches."""
    return cut_batches(small_run.config, jobs, model)


def rows_of(batch: Batch, jobs: Any) -> Any:
    """The rows of the log that a batch was cut from."""
    return jobs[jobs["job_id"].isin(list(batch.run_s))]


def without_clocks(facts: Any) -> Any:
    """Facts without the keys that hold clock readings."""
    if isinstance(facts, dict):
        return {
            key: without_clocks(value)
            for key, value in facts.items()
            if key not in CLOCK_KEYS and not key.endswith("_ms")
        }
    return [without_clocks(fact) for fact in facts] if isinstance(facts, list) else facts


# ------------------------------------------------------------------ no future


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_ends_later_changes_no_estimate(
    number: int,
    small_run: SmallRun,
    jobs: Any,
    model: RuntimePredictor,
    batches: list[Batch],
) -> None:
    """A forecast that sees run times of jobs that have not ended makes every comparison a lie."""
    first_s = rows_of(batches[number], jobs)["submit_s"].min()
    later = (jobs["end_s"] > first_s).to_numpy()
    assert later.sum() >= small_run.config.trial.batch_size
    other = jobs.copy()
    other.attrs = jobs.attrs
    factor = np.random.default_rng(number).uniform(1.5, 9, len(jobs))
    other["run_s"] = np.where(later, np.ceil(jobs["run_s"] * factor), jobs["run_s"])
    other["end_s"] = np.where(later, other["start_s"] + other["run_s"], jobs["end_s"])
    changed = cut_batches(small_run.config, other, model)[number]
    assert changed.run_s != batches[number].run_s
    for kind, request in batches[number].requests.items():
        if kind == ORACLE:
            assert changed.requests[kind] != request
        else:
            assert changed.requests[kind] == request, kind


def test_forecasts_differ_from_the_truth_and_between_kinds(batches: list[Batch]) -> None:
    """A trial whose kinds all plan with the same numbers would compare nothing."""
    for batch in batches:
        found = {k: {t: e["*"].at(r.policy.level) for t, e in r.estimates.items()}
                for k, r in batch.requests.items()}  # fmt: skip
        assert found[ORACLE] == batch.run_s
        assert len({tuple(sorted(seconds.items())) for seconds in found.values()}) == len(found)


def test_kinds_share_everything_but_the_estimates(batches: list[Batch]) -> None:
    """A kind with an easier batch, other prices or another seed would win by that."""
    for batch in batches:
        alike = {
            repr(replace(r, estimates={}, policy=replace(r.policy, level=0.5)))
            for r in batch.requests.values()
        }
        assert len(alike) == 1
        assert list(batch.requests) == list(kinds_of(0.9))
        assert batch.requests["model_p90"].policy.level == 0.9


def test_deadlines_reveal_no_run_time() -> None:
    """A planner could read the true run time off a deadline that was made from it."""
    requested_s = np.array([100.0, np.nan, 0.0, 50.0])
    median_s = np.array([7.0, 10.0, 20.0, 7.0])
    rule = TrialConfig(due_share=1.0, tiers=(2.0,))
    assert deadlines(requested_s, median_s, 1000, rule, 0) == [1200, 1020, 1040, 1100]
    assert deadlines(requested_s, median_s, 1000, TrialConfig(due_share=0.0), 0) == [None] * 4
    many = deadlines(np.full(4000, 100.0), np.ones(4000), 0, TrialConfig(), 3)
    due = [at for at in many if at is not None]
    assert 0.45 < len(due) / 4000 < 0.55
    assert set(due) == {150, 300, 600}
    assert many == deadlines(np.full(4000, 100.0), np.ones(4000), 0, TrialConfig(), 3)
    assert many != deadlines(np.full(4000, 100.0), np.ones(4000), 0, TrialConfig(), 4)


# ------------------------------------------------------------------ cutting


def test_batches_are_consecutive_jobs_of_the_test_stretch(
    small_run: SmallRun, jobs: Any, batches: list[Batch]
) -> None:
    """Batches that overlap, or reach into the training, would count a job twice or know it."""
    test_from_s = small_run.read("train_facts")["test_from_s"]
    names: list[str] = []
    for batch in batches:
        rows = rows_of(batch, jobs)
        assert len(rows) == len(batch.run_s) == 20
        assert rows["submit_s"].min() >= test_from_s
        between = jobs.loc[rows.index[0] : rows.index[-1]]
        assert between.drop(rows.index)["run_s"].isna().all()
        snapshot = batch.requests[ORACLE].snapshot
        assert snapshot.now_s == np.ceil(rows["submit_s"].max())
        assert {t.release_s for t in snapshot.pending} == {snapshot.now_s}
        names += batch.run_s
    assert len(set(names)) == 60


def test_cuts_spread_evenly_and_pass_over_what_cannot_be_replayed(jobs: Any) -> None:
    """Batches bunched in one week, or with jobs wider than the machine, would tell little."""
    test = jobs.head(100).copy()
    test["run_s"] = 5.0
    test["cpus"] = 1.0
    test.loc[3, "run_s"] = np.nan
    test.loc[4, "cpus"] = 99.0
    assert [rows.tolist() for rows in cut_rows(test, 3, 2, 10)] == [[0, 1], [50, 51], [98, 99]]
    assert [rows.tolist() for rows in cut_rows(test.head(8), 2, 3, 10)] == [[0, 1, 2], [5, 6, 7]]
    with pytest.raises(
        BadRequest, match=r"3 batches of 3 need 9; lower trial.batches to 2 in params"
    ):
        cut_rows(test.head(8), 3, 3, 10)
    with pytest.raises(
        BadRequest, match=r"lower trial.batch_size to 2 in params.yaml .*--batch-size"
    ):
        cut_rows(test.head(8), 3, 9, 10)


def test_jobs_without_ids_or_with_the_same_are_told_apart() -> None:
    """A log without job ids, or with ids used twice, could not be tried at all."""
    assert task_names(["7", "8"]) == ["7", "8"]
    assert task_names(["7", "", "7", ""]) == ["7", "#2", "7#3", "#4"]
    assert len(set(task_names(["", "#1", "#1", "x", "x", "x#5"]))) == 6


def test_the_whole_trial_runs_on_a_log_without_ids(
    small_run: SmallRun, jobs: Any, model: RuntimePredictor
) -> None:
    """Tables often have no column of ids."""
    bare = jobs.copy()
    bare.attrs = jobs.attrs
    bare["job_id"] = ""
    config = with_trial(small_run.config, batches=2, batch_size=5)
    with joblib.parallel_config("sequential"):
        facts = trial(config, bare, model)
    assert facts["kinds"][ORACLE]["regret"] == 0


# ------------------------------------------------------------------ planning and executing


def starts(plan: Plan) -> dict[str, int]:
    """Task to start."""
    return {a.task: a.start_s for a in plan.assignments}


def test_with_perfect_estimates_nothing_starts_later_than_planned(batches: list[Batch]) -> None:
    """An executor that is worse than its plan would be blamed on the forecasts."""
    for batch in batches:
        request = batch.requests[ORACLE]
        _, plan = plan_whole(request, "greedy", ORACLE)
        ran = execute(request, plan, batch.run_s)
        assert all(at <= starts(plan)[task] for task, at in starts(ran).items())
        realised = evaluate(request, ran, realised=True)
        assert realised.valid
        assert realised.cost <= evaluate(request, plan).cost * (1 + 1e-9)


def test_every_kind_is_executed_with_the_truth(batches: list[Batch]) -> None:
    """A plan priced with its own estimates would look as good as its forecaster is hopeful."""
    for kind, request in batches[0].requests.items():
        _, plan = plan_whole(request, "greedy", kind)
        ran = execute(request, plan, batches[0].run_s)
        assert {a.task: a.end_s - a.start_s for a in ran.assignments} == batches[0].run_s
        result = try_batch(batches[0], "greedy")[kind]
        assert result["realised"] == evaluate(request, ran, realised=True).cost
        assert result["planned"] == evaluate(request, plan).cost
        assert set(result["terms"]) == set(TERMS)


def test_a_batch_without_a_whole_plan_is_refused_with_the_reason(batches: list[Batch]) -> None:
    """Dropped tasks would make a plan look cheap."""
    request = batches[0].requests[ORACLE]
    *rest, last = request.snapshot.pending
    wide = replace(last, demand={"cpu": 10**9})
    snapshot = replace(request.snapshot, pending=(*rest, wide))
    batch = replace(batches[0], requests={ORACLE: replace(request, snapshot=snapshot)})
    with pytest.raises(BadRequest, match=f"with oracle: no whole plan: task {last.id}: it needs"):
        try_batch(batch, "greedy")


def test_hard_deadlines_bind_the_plan_and_not_reality(batches: list[Batch]) -> None:
    """A trial under a strict policy would stop at the first task that outlives its forecast."""
    requests: dict[str, PlanRequest] = {}
    for kind in ("last_two", ORACLE):
        request = batches[0].requests[kind]
        plan = plan_whole(request, "greedy", kind)[1]
        last_s = max(a.end_s for a in plan.assignments)
        due = tuple(replace(t, deadline_s=last_s) for t in request.snapshot.pending)
        requests[kind] = replace(
            request,
            snapshot=replace(request.snapshot, pending=due),
            policy=Policy(hard_deadlines=True, level=request.policy.level),
        )
    rows = try_batch(replace(batches[0], requests=requests), "greedy")
    assert rows["last_two"]["terms"]["misses"] > 0
    assert rows[ORACLE]["terms"]["misses"] == 0


# ------------------------------------------------------------------ summing up


def row(kind_cost: dict[str, float]) -> dict[str, dict[str, Any]]:
    """One batch's results with these realised costs."""
    kinds = {"requested": 2 * kind_cost[ORACLE], **kind_cost}
    return {
        kind: {
            "planned": cost / 2,
            "realised": cost,
            "terms": {"makespan_h": cost, "wait_h": 1.0},
            "mae_s": 10 * cost,
            "median_abs_log2": 0.5,
        }
        for kind, cost in kinds.items()
    }


def test_the_summary_is_what_a_hand_computes() -> None:
    """The figures that the whole project is judged by would be something else than they say."""
    found = summarise([row({"a": 3.0, ORACLE: 2.0}), row({"a": 9.0, ORACLE: 4.0})], seed=0)
    assert found["a"]["planned_cost"] == 3.0
    assert found["a"]["realised_cost"] == 6.0
    assert found["a"]["regret"] == pytest.approx(12 / 6 - 1)
    assert found["a"]["mae_s"] == 60.0
    assert found["a"]["terms"] == {"makespan_h": 6.0, "wait_h": 1.0}
    # Of two batches a resample is one of four: the regrets are 0.5, 1 (twice) and 1.25.
    assert found["a"]["regret_ci"] == pytest.approx([0.5, 1.25])
    assert found["a"]["against_requested"] == pytest.approx(12 / 12 - 1)
    assert found["a"]["against_requested_ci"] == pytest.approx([-0.25, 0.125])
    assert found[ORACLE]["regret"] == 0.0
    assert found[ORACLE]["regret_ci"] == [0.0, 0.0]


def test_the_interval_is_paired() -> None:
    """Batches differ much more than estimates do: unpaired, every interval would be useless."""
    rows = [row({"a": 1.1 * cost, ORACLE: cost}) for cost in (1.0, 50.0, 1000.0)]
    assert summarise(rows, 0)["a"]["regret_ci"] == pytest.approx([0.1, 0.1])


def test_an_oracle_that_pays_nothing_gives_no_regret() -> None:
    """A division by zero would put a NaN into the facts, which no JSON reader takes."""
    free = [row({"a": 1.0, ORACLE: 0.0})] * 3
    with pytest.raises(BadRequest, match="cost nothing under this"):
        summarise(free, 0)
    found = summarise([*free, row({"a": 4.0, ORACLE: 2.0})], 0)
    assert found["a"]["regret"] == pytest.approx(2.5)
    assert all(np.isfinite(found["a"]["regret_ci"]))


# ------------------------------------------------------------------ the whole


def test_the_trial_can_be_repeated(small_run: SmallRun, jobs: Any, model: RuntimePredictor) -> None:
    """Figures that change from run to run cannot be compared between versions."""
    seen: list[tuple[int, int]] = []
    with joblib.parallel_config("sequential"):
        again = trial(small_run.config, jobs, model, lambda done, all_: seen.append((done, all_)))
    assert without_clocks(again) == without_clocks(small_run.facts["trial"])
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_another_seed_draws_other_deadlines(
    small_run: SmallRun, jobs: Any, model: RuntimePredictor, batches: list[Batch]
) -> None:
    """A seed that changes nothing would hide how much of a result is luck."""
    other = cut_batches(small_run.config.model_copy(update={"seed": 1}), jobs, model)
    assert (
        other[0].requests[ORACLE].snapshot.pending != batches[0].requests[ORACLE].snapshot.pending
    )
    assert other[0].run_s == batches[0].run_s


def test_the_policy_file_prices_the_trial(
    small_run: SmallRun, jobs: Any, model: RuntimePredictor, tmp_path: Any
) -> None:
    """The trial would judge by other prices than the operator's."""
    path = tmp_path / "policy.yaml"
    path.write_text("prices: {late_h: 0, misses: 0, wait_h: 0, makespan_h: 2}")
    config: Config = small_run.config.model_copy(update={"policy": str(path)})
    batch = cut_batches(config, jobs, model)[0]
    assert batch.requests["model_p50"].policy.prices == Prices(2, 0, 0, 0)
    rows = try_batch(batch, "greedy")
    for found in rows.values():
        assert found["realised"] == pytest.approx(2 * found["terms"]["makespan_h"])

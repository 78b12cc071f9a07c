"""plancast worth: batches that see no future, choices from the past alone, figures that add up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plancast.pipelines.cli import main
from plancast.pipelines.inputs.past_plans import LEAST_PAST, PastPlans
from plancast.pipelines.worth import worth as core
from plancast.pipelines.worth.auto import chosen
from plancast.pipelines.worth.batches import (
    MOST_ROWS,
    ROUNDS,
    TRACE_CORES,
    Backlog,
    cut,
    moments,
    pool_of_rows,
)
from plancast.pipelines.worth.calibrated import drawn, same_user_rho
from plancast.pipelines.worth.policies import (
    Batch,
    app_medians,
    carried_out,
    deadlines,
    unavoidable,
    ways,
)
from plancast.pipelines.worth.worth import (
    LEVELS,
    Material,
    batches_of,
    best_rule,
    excess,
    leaks,
    material_of,
    past_of,
    worth,
)
from plancast.planner.instances.generate_log import generate_log, swf_text
from plancast.planner.model.domain import Policy
from plancast.predictor import ESTIMATORS

KEYS = {
    "log", "n", "verdict", "queues", "baseline", "oracle_against_baseline",
    "attainable_by_calibrated", "chosen_by_auto", "leaks", "policies",
}  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated log on a machine that is too small for it."""
    path = tmp_path_factory.mktemp("worth") / "busy.swf"
    path.write_text(swf_text(generate_log(6000, 12, 16, 3)))
    return path


@pytest.fixture(scope="module")
def found(log: Path) -> Material:
    """Its batches."""
    return material_of(str(log), batches=12)


@pytest.fixture(scope="module")
def model(found: Material) -> Any:
    """A cheap stand-in for a model: a rule with the spread of its errors."""
    return ESTIMATORS["user_median"](LEVELS).fit(found.train)


@pytest.fixture(scope="module")
def batches(found: Material, model: Any) -> list[Batch]:
    """The batches as requests."""
    return batches_of(found, model, Policy())


@pytest.mark.parametrize(
    ("usual", "own", "said"),
    [("closed_scenarios", (-0.025, -0.04, -0.01), "2.5% cheaper than closed_requested, the"),
     ("closed_requested", (-0.025, -0.06, 0.01), "2.5% cheaper than closed_requested (95%: -6.0% "
      "to +1.0%), not proven here"),
     ("closed_requested", (0.025, 0.01, 0.04), "2.5% costlier than closed_requested (95%: +1.0% "
      "to +4.0%), proven here")],
)  # fmt: skip
def test_the_forecasts_own_part_is_a_saving_or_a_loss(
    usual: str, own: tuple[float, float, float], said: str
) -> None:
    """A loss would be read as a part of the saving, or a proven one be called not proven."""
    auto = {"mean": -0.05, "lo": -0.08, "hi": -0.02}
    facts = {
        "n": 8, "log": "site", "best_rule": "open_requested", "auto_against_best_rule": auto,
        "attainable_by_calibrated": {"mean": -0.04}, "oracle_against_baseline": -0.08,
        "baseline": "open_requested", "closed_first": "closed_requested",
        "chosen_by_auto": {"usual": usual},
        "closed_scenarios_against_closed_first": dict(zip(("mean", "lo", "hi"), own, strict=True)),
    }  # fmt: skip
    assert said in core.verdict(facts)


def test_a_backlog_is_what_waits_and_what_runs(found: Material) -> None:
    """Jobs would be planned that have not come yet, or that had ended."""
    jobs = found.stretch.jobs
    assert found.stretch.replayed
    assert len(found.backlogs) >= 5
    for backlog in found.backlogs:
        queued, running = jobs.iloc[backlog.queued], jobs.iloc[backlog.running]
        assert (queued["submit_s"] <= backlog.now_s).all()
        assert (queued["start_s"] > backlog.now_s).all()
        assert (running["start_s"] <= backlog.now_s).all()
        assert (running["end_s"] > backlog.now_s).all()
        assert found.stretch.width[backlog.running].sum() <= found.stretch.procs
    gaps = np.diff([b.now_s for b in found.backlogs])
    assert (gaps >= 86400).all()


def test_what_has_not_started_yet_changes_no_batch(log: Path, found: Material, model: Any) -> None:
    """A run time of the future would reach an estimate, a deadline or the cut of a batch."""
    k = len(found.backlogs) // 2
    backlog = found.backlogs[k]
    jobs = found.stretch.jobs
    ids = set(jobs.loc[jobs["start_s"] > backlog.now_s, "job_id"])
    text = []
    for line in log.read_text().splitlines():
        cells = line.split()
        if cells and cells[0] in ids:
            cells[3] = str(max(1, int(cells[3]) // 2))
            line = " ".join(cells)
        text.append(line)
    other_log = log.with_name("changed.swf")
    other_log.write_text("\n".join(text) + "\n")
    changed = material_of(str(other_log), batches=10_000)
    twin = next(b for b in changed.backlogs if b.now_s == backlog.now_s)
    assert twin.queued.tolist() == backlog.queued.tolist()
    assert twin.running.tolist() == backlog.running.tolist()
    first = batches_of(material_of(str(log), batches=10_000), model, Policy())
    one = next(b for b in first if b.backlog.now_s == backlog.now_s)
    two = next(b for b in batches_of(changed, model, Policy()) if b.backlog.now_s == backlog.now_s)
    for name in ("requested", "last_two", "model"):
        assert one.estimates[name] == two.estimates[name]
    due = [t.deadline_s for t in one.request.snapshot.pending]
    assert due == [t.deadline_s for t in two.request.snapshot.pending]
    assert one.run_s != two.run_s


def test_a_forecast_knows_what_had_ended_by_its_moment(found: Material) -> None:
    """A job in two backlogs would be forecast with what had ended by the later one."""
    as_of = moments(found.stretch, found.backlogs)
    for backlog in found.backlogs:
        assert (as_of[backlog.rows] <= backlog.now_s).all()


def test_deadlines_come_from_no_request_and_no_truth() -> None:
    """Multiples of requests would let whoever plans by requests know the deadlines' scale."""
    medians = np.full(400, 1800.0)
    assert deadlines(3, medians, 1000) == [None] * 400
    hours = {d - 1000 for d in deadlines(4, medians, 1000) if d is not None}
    assert hours == {3600, 7200, 14400}
    tiers = {d - 1000 for d in deadlines(5, medians, 1000) if d is not None}
    assert tiers == {2700, 5400, 10800}


def test_auto_sees_only_batches_that_had_ended() -> None:
    """It would choose by the outcome of the batch that it plans."""
    rng = np.random.default_rng(0)
    n = 40
    nothing = np.zeros(0, np.int64)
    backlogs = [
        Backlog(k, 1000 * k, nothing, nothing, nothing, 1000 * k + int(rng.integers(500, 4000)))
        for k in range(n)
    ]
    names = ("closed_requested", "closed_p80", "closed_scenarios")
    costs = {name: rng.uniform(1, 2, n) for name in names}
    nothing_known = PastPlans("", (), dict.fromkeys(names, ()))
    before = chosen(backlogs, costs, "closed_requested", nothing_known)
    for k, backlog in enumerate(backlogs):
        known = [b.ended_s <= backlog.now_s for b in backlogs]
        other = {name: np.where(known, cost, rng.uniform(0, 9, n)) for name, cost in costs.items()}
        after = chosen(backlogs, other, "closed_requested", nothing_known)
        assert after.taken[k] == before.taken[k]
        if sum(known) < LEAST_PAST:
            assert before.taken[k] == "closed_requested"
    assert len(set(before.taken)) > 1
    # What cost less before the first batch is taken for it.
    ways_known = {name: (1.0 + (name != "closed_p80"),) * LEAST_PAST for name in names}
    known = PastPlans("", (-1.0,) * LEAST_PAST, ways_known)
    assert chosen(backlogs, costs, "closed_requested", known).taken[0] == "closed_p80"


def test_what_auto_knows_at_first_comes_from_the_training_rows(found: Material) -> None:
    """It would learn from the batches that it is judged on, or by a model that knows them."""
    before = found.before
    assert before is not None
    assert before.queues
    known = set(found.train["job_id"])
    assert set(before.stretch.jobs["job_id"]) <= known
    assert set(before.train["job_id"]) <= known - set(before.stretch.jobs["job_id"])
    assert before.stretch.procs == found.stretch.procs
    last = max(backlog.ended_s for backlog in before.backlogs)
    assert last <= found.stretch.jobs["submit_s"].max()


def test_the_best_rule_is_chosen_on_odd_batches() -> None:
    """It would be chosen on what it is reported on."""
    costs = {"open_a": np.array([9.0, 1.0, 9.0, 1.0]), "open_b": np.array([1.0, 2.0, 1.0, 2.0])}
    assert best_rule(costs, ["a", "b"]) == "a"


def test_drawn_truths_follow_the_forecasts(batches: list[Batch]) -> None:
    """The calibrated world would be another one than the forecasts say."""
    column, below, count = LEVELS.index(0.8), 0, 0
    for batch in batches:
        ages = {r.task.id: batch.request.snapshot.now_s - r.start_s
                for r in batch.request.snapshot.running}  # fmt: skip
        for seed in range(20):
            truth = drawn(batch, LEVELS, 0.5 * (seed % 2), seed)
            for k, task in enumerate(batch.request.snapshot.pending):
                below += truth[task.id] <= np.ceil(batch.quantiles_s[k, column])
                count += 1
                assert task.requested_s is None or truth[task.id] <= task.requested_s + 1
            assert all(truth[name] > age for name, age in ages.items())
    assert abs(below / count - 0.8) < 0.06


def test_jobs_of_one_user_are_drawn_alike_where_rho_says_so() -> None:
    """The copula would be none."""
    rng = np.random.default_rng(1)
    users = np.repeat([f"u{k}" for k in range(40)], 25)
    common = np.repeat(rng.standard_normal(40), 25)
    frame = pd.DataFrame(
        {"user": users, "submit_s": np.arange(1000.0), "run_s": np.exp(common) * 100.0}
    )
    assert same_user_rho(frame, np.full(1000, 100.0)) > 0.8
    frame["run_s"] = np.exp(rng.standard_normal(1000)) * 100.0
    assert same_user_rho(frame, np.full(1000, 100.0)) < 0.15


def test_leaks_add_up() -> None:
    """Parts of a decomposition that do not sum to the whole explain nothing."""
    names = ("closed_scenarios", "closed_scenarios_known_early_ends", "oracle_order", "oracle",
             "strong_oracle", "open_requested")  # fmt: skip
    rng = np.random.default_rng(2)
    costs = {name: rng.uniform(1, 2, 9) for name in names}
    result = leaks(costs, "open_requested")
    whole = costs["closed_scenarios"].sum() - costs["strong_oracle"].sum()
    assert sum(result.values()) == pytest.approx(whole / costs["open_requested"].sum())


def test_an_interval_is_paired_over_batches() -> None:
    """A way that is 10% cheaper on every batch would seem unproven."""
    peer = np.array([1.0, 100.0, 10.0, 1000.0])
    draws = np.random.default_rng(0).integers(0, 4, (500, 4))
    result = excess(0.9 * peer, peer, draws)
    assert result["mean"] == pytest.approx(-0.1)
    assert result["hi"] == pytest.approx(-0.1)


def shortened(backlogs: list[Backlog], jobs: int) -> list[Backlog]:
    """The same with few waiting jobs: an order of many takes their square as long to search."""
    return [replace(backlog, queued=backlog.queued[:jobs]) for backlog in backlogs]


def test_the_facts_are_as_promised(
    found: Material, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the JSON by its keys would find another file; a verdict of two sentences."""
    monkeypatch.setattr(core, "DRAWS", 2)
    monkeypatch.setattr(core, "DRAWN_BATCHES", 3)
    before = found.before
    assert before is not None
    monkeypatch.setattr(core, "RuntimePredictor", lambda levels, seed: ESTIMATORS["user_median"](
        levels))  # fmt: skip
    few = replace(found, backlogs=shortened(found.backlogs[:6], 7),
                  before=replace(before, backlogs=shortened(before.backlogs[:5], 4)))  # fmt: skip
    cells: dict[str, Any] = {}
    result = worth(few, model, cells=cells, processes=1)
    assert set(result) >= KEYS
    assert result["queues"] is True
    assert result["n"] == 6
    assert result["baseline"] == "open_requested"
    wanted = {"open_requested", "open_p50", "open_p80", "closed_requested", "closed_p80",
              "closed_scenarios", "auto"}  # fmt: skip
    assert set(result["policies"]) >= wanted
    for one in result["policies"].values():
        assert set(one) == {"cost", "against_baseline"}
        assert set(one["against_baseline"]) == {"mean", "lo", "hi"}
    assert set(result["leaks"]) == {"search", "order", "early_ends", "residual"}
    assert set(result["attainable_by_calibrated"]) >= {"mean", "lo", "hi"}
    assert (
        result["oracle_against_baseline"]
        <= result["policies"]["closed_scenarios"]["against_baseline"]["mean"]
    )
    assert result["verdict"].count(". ") == 2
    assert 0 < result["unavoidable"] < 1
    known = past_of(few, result)
    assert len(known.ended_s) == 5 + 6
    assert known.is_whole()
    again = json.loads(json.dumps(cells))

    def fail(*_: Any) -> None:
        raise AssertionError("a batch whose cell is kept ran again")

    monkeypatch.setattr(core, "_costs_of", fail)
    monkeypatch.setattr(core, "_costs_in", fail)
    monkeypatch.setattr(core, "RuntimePredictor", fail)
    monkeypatch.setattr(core, "_in_drawn", fail)
    assert worth(few, model, cells=again, processes=1) == result


def test_no_order_saves_what_is_unavoidable(batches: list[Batch]) -> None:
    """The page would call something a loss to plans that no plan can win."""
    for batch in batches[:4]:
        least = carried_out(batch, ways(["requested"])["oracle"])
        assert 0 < unavoidable(batch) <= least + 1e-9


def test_rows_fill_their_pool() -> None:
    """On a machine larger than all rows together nothing queues, and all plans are alike."""
    assert pool_of_rows(np.ones(1000), 1243) == TRACE_CORES
    assert pool_of_rows(np.full(1000, 8.0), 1243) == 8 * MOST_ROWS // ROUNDS
    assert pool_of_rows(np.full(1000, 8.0), 128) == 128
    rare = np.where(np.arange(1000) == 0, 900.0, 1.0)
    assert pool_of_rows(rare, TRACE_CORES) == TRACE_CORES
    assert pool_of_rows(np.full(1000, 96.0), TRACE_CORES) == 96


def test_deadlines_go_by_the_user_where_no_application_is_named() -> None:
    """A user of long jobs would get deadlines by everybody's median that no plan can keep."""
    train = pd.DataFrame(
        {"app": "", "user": ["a", "a", "b"], "queue": "q", "run_s": [9.0, 9.0, 60.0]}
    )
    asked = pd.DataFrame({"app": "", "user": ["a", "b", "c"], "queue": "q"})
    assert app_medians(train, asked).tolist() == [9.0, 60.0, 9.0]


def test_where_nothing_queues_it_says_so_before_training(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A site would wait minutes to be told that all plans are alike."""
    monkeypatch.setattr(core, "RuntimePredictor", None)
    out = tmp_path / "worth.json"
    with pytest.raises(SystemExit) as exit_:
        main(["worth", str(log), "--procs", "100000", "--json", str(out)])
    assert exit_.value.code == 0
    result = json.loads(out.read_text())
    assert set(result) == KEYS
    assert result["queues"] is False
    assert "nothing queues" in " ".join(capsys.readouterr().out.split())


def test_rows_without_waits_make_batches_of_four_rounds(log: Path) -> None:
    """A log of tasks would give batches that fill nothing."""
    found = material_of(str(log), batches=8)
    stretch = core.stretch_of(found.stretch.jobs.assign(start_s=np.nan), 16, waits=False)
    for backlog in cut(stretch, 8):
        assert stretch.width[backlog.queued].sum() >= 4 * stretch.procs
        assert not len(backlog.running)

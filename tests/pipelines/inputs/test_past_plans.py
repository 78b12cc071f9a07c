"""auto in plan --model: what past plans cost says whose run times a plan believes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.inputs.past_plans import (
    AUTO_WAYS,
    LEAST_PAST,
    PastPlans,
    past_plans_file,
    read_past_plans,
    write_past_plans,
)
from plancast.pipelines.inputs.requests import chosen_way, request_from_files
from plancast.planner.model.domain import SCENARIOS, BadRequest
from plancast.predictor import RuntimePredictor
from plancast.predictor.schema import canonical

Run = Callable[..., Any]
FIRST_END_S = 1000.0


def past(batches: int = LEAST_PAST) -> PastPlans:
    """Batches that end every 100 s, on which scenarios were the cheapest."""
    ended = tuple(FIRST_END_S + 100 * k for k in range(batches))
    costs = {"closed_requested": 10.0, "closed_last_same": 9.5, "closed_scenarios": 9.0}
    return PastPlans("site", ended, {way: (cost,) * batches for way, cost in costs.items()})


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of jobs that ask for an hour and run for some minutes."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    n = 400
    submit = np.arange(n) * 60.0
    run = rng.integers(200, 400, n).astype(float)
    jobs = pd.DataFrame(
        {"job_id": [str(k) for k in range(n)], "submit_s": submit, "start_s": submit,
         "end_s": submit + run, "run_s": run, "requested_s": 3600.0, "cpus": 1.0, "user": "u",
         "app": "a", "outcome": "completed"}
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("past") / "runtime"
    RuntimePredictor(trees={"n_estimators": 20}).fit(canonical(jobs)).save(folder)
    return folder


@pytest.fixture
def files(tmp_path: Path, learned: Path) -> dict[str, Path]:
    """A task that names a request, one that names none, a cluster, and the model alone."""
    model = tmp_path / "runtime"
    model.symlink_to(learned, target_is_directory=True)
    tasks, cluster = tmp_path / "t.csv", tmp_path / "c.yaml"
    tasks.write_text("id,user,app,requested_s\na,u,a,3600\nb,u,a,\n")
    cluster.write_text("now_s: 100000\nworkers: [{id: w, cpus: 4}]\n")
    return {"tasks": tasks, "cluster": cluster, "model": model}


def test_only_batches_that_had_ended_by_now_count() -> None:
    """Plans would be chosen by an outcome that nobody could know."""
    found = past(20)
    for known in range(21):
        choice = found.choose(FIRST_END_S + 100 * (known - 1))
        assert choice.known == known
        assert choice.way == ("closed_scenarios" if known >= LEAST_PAST else "closed_requested")
    # What a batch of the future costs changes nothing.
    worse = PastPlans("site", found.ended_s, {**found.costs, "closed_scenarios": (9.0,) * 12
                                              + (1e6,) * 8})  # fmt: skip
    assert worse.choose(FIRST_END_S + 1100).way == "closed_scenarios"
    assert worse.choose(FIRST_END_S + 1900).way == "closed_last_same"


def test_one_lucky_batch_proves_nothing() -> None:
    """A way that is nearly alike would be taken for one batch, and lose on the next."""
    n = LEAST_PAST
    scenarios = (10.0,) * n
    lucky = (10.1,) * (n - 1) + (8.0,)
    steady = tuple(9.8 + 0.01 * k for k in range(n))

    def way(p80: tuple[float, ...]) -> str:
        costs = {"closed_requested": (11.0,) * n, "closed_p80": p80, "closed_scenarios": scenarios}
        return PastPlans("site", past(n).ended_s, costs).choose(1e9).way

    assert sum(lucky) < sum(scenarios)
    assert way(lucky) == "closed_scenarios"
    assert way(steady) == "closed_p80"


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    """A later plan would go by other figures than were measured."""
    path = past_plans_file(tmp_path / "runtime")
    assert path == tmp_path / "runtime.past-plans.json"
    write_past_plans(path, past())
    assert read_past_plans(path) == past()
    # The first way is the one taken where nothing is known, whatever the others are called.
    rule = PastPlans("site", (1.0,), {"closed_last_same": (2.0,), "closed_last_two": (1.0,)})
    write_past_plans(path, rule)
    assert read_past_plans(path).choose(0.0).way == "closed_last_same"


def test_of_few_batches_the_best_rule_is_taken_where_nobody_requests() -> None:
    """A rule that fails on a site would be believed ten times over, and a model too soon."""
    costs = {
        "closed_last_same": (2.0,) * 9, "closed_app_median": (1.0,) * 9,
        "closed_scenarios": (0.1,) * 9,
    }  # fmt: skip
    assert PastPlans("site", (1.0,) * 9, costs).choose(1.0).way == "closed_app_median"
    asked = {"closed_requested": (3.0,) * 9, **costs}
    assert PastPlans("site", (1.0,) * 9, asked).choose(1.0).way == "closed_requested"


def test_earlier_batches_count_first() -> None:
    """What is known of before would be lost, or believed of ways that it says nothing of."""
    earlier, later = past(4), past(LEAST_PAST)
    both = earlier.then(later)
    assert both.ended_s == earlier.ended_s + later.ended_s
    assert all(both.costs[way] == earlier.costs[way] + later.costs[way] for way in later.costs)
    assert both.is_whole()
    fewer = PastPlans("site", (1.0,), {"closed_requested": (1.0,), "closed_p80": (9.0,)})
    assert list(fewer.then(later).costs) == ["closed_requested"]
    other = PastPlans("site", (1.0,), {"closed_last_same": (1.0,)})
    assert other.then(later) == later
    assert PastPlans("site", (), {"closed_requested": ()}).then(later) == later


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(format=0),
        lambda c: c.update(costs={}),
        lambda c: c["costs"].update(closed_requested=[1.0]),
        lambda c: c["costs"].update(closed_requested=[float("nan")] * LEAST_PAST),
        lambda c: c.pop("ended_s"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    """Plans would silently be made by half a record."""
    path = tmp_path / "x.json"
    write_past_plans(path, past())
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BadRequest, match=r"x\.json: is no record of past plans"):
        read_past_plans(path)


def test_the_way_reaches_the_request(files: dict[str, Path]) -> None:
    """Auto would be told to the user and not be planned with."""
    kept = past_plans_file(files["model"])
    assert chosen_way(**files) is None
    ways = {"closed_scenarios": ("model", SCENARIOS), "closed_requested": ("requested", ()),
            "closed_last_same": ("last_same", ())}  # fmt: skip
    for way, (source, scenarios) in ways.items():
        write_past_plans(kept, PastPlans("site", past().ended_s, {way: (1.0,) * LEAST_PAST}))
        choice = chosen_way(**files)
        assert choice is not None
        assert choice.way == way
        request = request_from_files(**files, choice=choice)
        assert request.estimates["a"]["*"].source == source
        assert request.policy.scenarios == scenarios
        # A task that names no request has an estimate all the same.
        assert request.estimates["b"]["*"].source == ("model" if source == "requested" else source)
    assert request.estimates["a"]["*"].seconds[0] < 600


def test_a_policy_that_names_scenarios_has_the_model(files: dict[str, Path]) -> None:
    """Scenarios of requests would all be one."""
    write_past_plans(past_plans_file(files["model"]), past(1))
    policy = files["cluster"].with_name("p.yaml")
    policy.write_text("scenarios: [0.5, 0.9]\n")
    assert chosen_way(**files, policy=policy) is None
    policy.write_text("level: 0.7\n")
    assert chosen_way(**files, policy=policy) is not None


def test_every_way_of_auto_is_one_that_worth_compares() -> None:
    """A way could be chosen that was measured as another one."""
    from plancast.pipelines.worth.policies import RULES, ways

    compared = ways(RULES)
    for name, (source, scenarios) in AUTO_WAYS.items():
        way = compared[name]
        assert (way.source, way.scenarios, way.closed) == (source, scenarios, True)


def test_the_command_says_whose_run_times_count(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A user would not know that the model was passed over, nor how to ask for it."""
    from plancast.pipelines.cli import main

    def plan(*more: str) -> tuple[int, str]:
        given = [f"--{name}={path}" for name, path in files.items()]
        with pytest.raises(SystemExit) as left:
            main(["plan", *given, "--solver", "greedy", *more])
        out, err = capsys.readouterr()
        # Where it takes long, progress is said on standard error.
        return int(left.value.code or 0), out or err

    write_past_plans(past_plans_file(files["model"]), past(3))
    assert "run times of requested: 3 past batches of site are known" in plan()[1]
    facts = json.loads(plan("--json")[1])
    assert facts["chosen_by_auto"]["way"] == "closed_requested"
    assert facts["chosen_by_auto"]["known_batches"] == 3
    asked = json.loads(plan("--json", "--source", "model")[1])
    assert (asked["chosen_by_auto"], asked["estimate_source"]) == (None, "model")
    assert plan("--source", "guess") == (
        2, "plancast: --source 'guess': choose auto, requested, last_two, last_same, app_median, "
        "model\n",
    )  # fmt: skip


def test_where_nothing_queues_the_model_counts(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model would be passed over though no plan of the past cost more by it."""
    from plancast.pipelines.cli import main
    from plancast.planner.instances.generate_log import generate_log, swf_text

    log = tmp_path / "idle.swf"
    log.write_text(swf_text(generate_log(600, 12, 16, 3)))
    with pytest.raises(SystemExit) as left:
        main(["worth", str(log), "--procs", "100000", "--model", str(files["model"])])
    assert left.value.code == 0
    assert "runtime.past-plans.json" in "".join(capsys.readouterr().out.split())
    choice = chosen_way(**files)
    assert choice is not None
    assert (choice.way, choice.known) == ("closed_scenarios", 0)


@pytest.mark.slow
def test_mlflow_keeps_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could tell later by what a plan's source was chosen."""
    import mlflow

    from plancast.pipelines.tracking.contests import log_worth

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "runtime.past-plans.json"
    write_past_plans(kept, past())
    interval = {"mean": -0.1, "lo": -0.2, "hi": 0.0}
    facts = {
        "log": "site",
        "chosen_by_auto": {"usual": "closed_scenarios"},
        "auto_against_best_rule": interval,
        "policies": {"auto": {"cost": 9.0, "against_baseline": interval}},
    }
    run = mlflow.get_run(log_worth(facts, kept))
    assert run.data.tags["auto"] == "closed_scenarios"
    assert run.data.metrics == {"worth/auto_against_best_rule": -0.1, "worth/auto": 9.0}
    found = mlflow.artifacts.list_artifacts(run_id=run.info.run_id)
    assert [entry.path for entry in found] == [kept.name]

"""RuntimePredictor: what it forecasts, what it may know, how it is kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from plancast.predictor.baselines import LastTwoMean, RequestedTime
from plancast.predictor.logs import read_log
from plancast.predictor.metrics import median_abs_log2
from plancast.predictor.model_files import BadModel, data_digest
from plancast.predictor.quantile import LEVELS
from plancast.predictor.runtime import RuntimePredictor
from plancast.predictor.schema import BadLog
from plancast.predictor.splits import split_by_share
from tests.oracles.toy_logs import toy_log

TREES = {"n_estimators": 20, "min_child_samples": 20}


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """A toy log of 1,500 jobs."""
    return toy_log(1500)


@pytest.fixture(scope="module")
def trained(log: pd.DataFrame) -> RuntimePredictor:
    """A model of the toy log's first 1,000 jobs; no test may change it."""
    return RuntimePredictor(trees=TREES).fit(log.iloc[:1000])


@pytest.fixture
def folder(trained: RuntimePredictor, tmp_path: Path) -> Path:
    """The model's folder."""
    return trained.save(tmp_path / "model")


def test_forecasts_are_usable_seconds(trained: RuntimePredictor, log: pd.DataFrame) -> None:
    """A planner would be handed crossing, missing or impossible run times."""
    quantiles = trained.forecast_log(log.iloc[1000:])
    assert quantiles.shape == (500, len(LEVELS))
    assert np.isfinite(quantiles).all()
    assert (quantiles >= 1).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert (quantiles <= log["requested_s"].to_numpy()[1000:, None]).all()


def test_quantiles_cover_what_they_promise(trained: RuntimePredictor, log: pd.DataFrame) -> None:
    """A plan at the 90% level would be late far more often than one time in ten."""
    run = log["run_s"].to_numpy()[1000:, None]
    covered = (run <= trained.forecast_log(log.iloc[1000:])).mean(axis=0)
    np.testing.assert_allclose(covered, LEVELS, atol=0.1)


def test_the_kill_limit_is_learned_and_an_option(log: pd.DataFrame) -> None:
    """Forecasts would pass a limit that kills, or be cut to one that does not."""
    past = log.iloc[:1000]
    killed = past.assign(requested_s=60.0, run_s=past["run_s"].clip(upper=60.0))
    killed["end_s"] = killed["start_s"] + killed["run_s"]
    model = RuntimePredictor(trees=TREES).fit(killed)
    assert model.forecaster.grace_s == 0.0
    assert (model.predict_quantiles(killed) <= 60.0 + 1e-9).all()
    free = RuntimePredictor(trees=TREES, cap_at_request=False).fit(killed)
    assert free.forecaster.grace_s == np.inf
    ignored = RuntimePredictor(trees=TREES).fit(past.assign(requested_s=30.0))
    assert ignored.forecaster.grace_s == np.inf
    assert np.median(ignored.predict(past)) > 60


def test_rows_come_back_in_their_order(trained: RuntimePredictor, log: pd.DataFrame) -> None:
    """Forecasts would be handed to the wrong jobs when a frame is not in submission order."""
    jobs = log.iloc[1000:]
    mixed = jobs.sample(frac=1.0, random_state=0)
    place = mixed.index.to_numpy() - 1000
    np.testing.assert_array_equal(trained.forecast_log(mixed), trained.forecast_log(jobs)[place])
    moments = jobs["submit_s"].to_numpy() + 100.0
    np.testing.assert_array_equal(
        trained.forecast_log(mixed, moments[place]), trained.forecast_log(jobs, moments)[place]
    )


def test_a_batch_does_not_know_its_own_ends(trained: RuntimePredictor, log: pd.DataFrame) -> None:
    """A batch planned at one instant would be forecast with run times from its future."""
    jobs = log.iloc[1000:1100]
    now = float(jobs["submit_s"].max())
    known = jobs.drop(columns=["run_s", "start_s", "end_s", "outcome"])
    np.testing.assert_array_equal(
        trained.predict_quantiles(jobs, as_of_s=now), trained.predict_quantiles(known, as_of_s=now)
    )


def test_as_of_an_earlier_moment_later_ends_are_unknown(
    trained: RuntimePredictor, log: pd.DataFrame
) -> None:
    """A forecast as of a moment would use what ended after it."""
    jobs = log.iloc[1000:1200].copy()
    now = float(jobs["submit_s"].iloc[100])
    late = (jobs["end_s"] > now).to_numpy()
    other = jobs.assign(
        run_s=np.where(late, jobs["run_s"] * 9, jobs["run_s"]),
        end_s=np.where(late, jobs["end_s"] + jobs["run_s"] * 8, jobs["end_s"]),
    )
    before, after = trained.forecast_log(jobs, now), trained.forecast_log(other, now)
    np.testing.assert_array_equal(before, after)
    assert (trained.forecast_log(jobs) != trained.forecast_log(other)).any()


def test_one_row_is_the_replay(log: pd.DataFrame) -> None:
    """A job would get another forecast online than in the evaluation."""
    model = RuntimePredictor(trees=TREES).fit(log.iloc[:1000])
    rest = log.iloc[1000:1020]
    replayed = model.forecast_log(rest)
    rows = rest.to_dict("records")
    events = sorted(
        [(r["submit_s"], 1, i) for i, r in enumerate(rows)]
        + [(r["end_s"], 0, i) for i, r in enumerate(rows)]
    )
    for _, kind, i in events:
        if kind == 0:
            model.update(pd.DataFrame([rows[i]]))
            continue
        waiting = {
            **rows[i],
            "start_s": np.nan,
            "end_s": np.nan,
            "run_s": np.nan,
            "outcome": "unknown",
        }
        np.testing.assert_array_equal(model.predict_row(waiting), replayed[i])
        model.update(pd.DataFrame([waiting]))


def test_update_folds_in_at_once(log: pd.DataFrame) -> None:
    """What finished a moment ago would not change the next forecast."""
    model = RuntimePredictor(trees=TREES).fit(log.iloc[:1000])
    job = {"submit_s": 1e7, "user": "newcomer", "requested_s": 5e4, "cpus": 2.0}
    before = model.predict(pd.DataFrame([job]))
    done = {**job, "submit_s": 9e6, "start_s": 9e6, "end_s": 9e6 + 7, "run_s": 7.0}
    model.update(pd.DataFrame([{**done, "job_id": str(i)} for i in range(5)]))
    after = model.predict(pd.DataFrame([job]))
    assert after[0] < before[0] / 2
    np.testing.assert_array_equal(
        model.predict_row(job), model.predict_quantiles(pd.DataFrame([job]))[0]
    )


def test_a_job_told_only_at_its_end_calibrates(log: pd.DataFrame) -> None:
    """A master that tells nothing but finished jobs would keep stale quantiles forever."""
    model = RuntimePredictor(trees=TREES).fit(log.iloc[:1000])
    settled, left = (
        model.forecaster.correction.settled,
        model.forecaster.remaining.parts[0.25].settled,
    )
    slower = log.iloc[1000:1200].assign(run_s=log["run_s"] * 5.0)
    slower = slower.assign(end_s=slower["start_s"] + slower["run_s"])
    stale = RuntimePredictor(trees=TREES).fit(log.iloc[:1000])
    stale.history.see_log(slower)
    model.update(slower)
    assert model.forecaster.correction.settled == settled + 200
    assert model.forecaster.remaining.parts[0.25].settled > left
    # Told once more, the same jobs teach nothing.
    model.update(slower.iloc[:50])
    assert model.forecaster.correction.settled == settled + 200
    # A job that never ran, or was submitted nobody knows when, has no forecast to learn from.
    odd = {"job_id": ["x", "y"], "submit_s": [1e7, np.nan], "end_s": [1e7, 2e7]}
    model.update(pd.DataFrame({**odd, "run_s": [0.0, 50.0], "outcome": ["cancelled", "completed"]}))
    assert model.forecaster.correction.settled == settled + 200
    rest = log.iloc[1200:1300]
    found, before = (m.predict_quantiles(rest, as_of_s=2e7) for m in (model, stale))
    run = rest["run_s"].to_numpy()[:, None] * 5.0
    gaps = [np.abs((run <= q).mean(axis=0) - LEVELS).max() for q in (found, before)]
    assert gaps[0] < gaps[1]


def test_late_calibration_hides_what_ended_later(log: pd.DataFrame) -> None:
    """The forecast of a job first heard of at its end would know what ended after it came."""
    model = RuntimePredictor(trees=TREES).fit(log.iloc[:1000])
    found = model.forecast_log(log.iloc[1000:1100])
    seen: list[np.ndarray] = []
    replayed = model.forecaster.replay_jobs

    def spied(*arguments: Any) -> np.ndarray:
        seen.append(replayed(*arguments))
        return seen[-1]

    model.forecaster.replay_jobs = spied  # type: ignore[method-assign]
    model.update(log.iloc[1000:1100])
    np.testing.assert_array_equal(seen[0], found)


def test_levels_can_be_chosen_within_the_trained(
    trained: RuntimePredictor, log: pd.DataFrame
) -> None:
    """A policy level between the trained ones would be refused, or one beyond them invented."""
    jobs = log.iloc[1000:1050]
    full = trained.predict_quantiles(jobs)
    some = trained.predict_quantiles(jobs, (0.5, 0.7, 0.95))
    np.testing.assert_array_equal(some[:, [0, 2]], full[:, [1, 4]])
    assert (some[:, 1] >= full[:, 1]).all()
    assert (some[:, 1] <= full[:, 2]).all()
    np.testing.assert_array_equal(trained.predict(jobs), full[:, 1])
    with pytest.raises(ValueError, match="outside the trained levels"):
        trained.predict_quantiles(jobs, (0.99,))


def test_a_submission_is_needed_or_a_moment(trained: RuntimePredictor) -> None:
    """A task file without submission times would fail with a traceback, or be misread."""
    tasks = pd.DataFrame({"user": ["u1", "u2"], "requested_s": [100.0, 200.0], "cpus": [2.0, 4.0]})
    now = trained.history.known_until_s
    assert trained.predict_quantiles(tasks, as_of_s=now).shape == (2, len(LEVELS))
    with pytest.raises(BadLog, match="submit_s"):
        trained.predict_quantiles(tasks)
    with pytest.raises(BadLog, match="row 2: submit_s is unknown"):
        trained.predict_quantiles(tasks.assign(submit_s=[now, np.nan]))
    assert trained.predict_quantiles(tasks.iloc[:0], as_of_s=now).shape == (0, len(LEVELS))


def test_too_little_to_learn_from_is_said(log: pd.DataFrame) -> None:
    """A log of nothing would train a model of nothing."""
    with pytest.raises(BadLog, match="at least 20"):
        RuntimePredictor().fit(log.iloc[:15])
    with pytest.raises(BadLog, match="the log has 0 jobs"):
        RuntimePredictor().fit(log.assign(run_s=np.nan, end_s=np.nan))
    with pytest.raises(BadModel, match="learned nothing"):
        RuntimePredictor().predict(log)
    with pytest.raises(ValueError, match="'broken' is none of"):
        RuntimePredictor(outcomes=["broken"])


def test_outcomes_choose_the_training_rows(log: pd.DataFrame) -> None:
    """Rows that an explicit rule leaves out would train all the same, or go uncounted."""
    part = log.iloc[:400]
    counts = RuntimePredictor(trees=TREES, outcomes=["completed"]).fit(part).card["counts"]
    completed = int((part["outcome"] == "completed").sum())
    assert counts["outcomes"]["completed"] == completed
    assert counts["excluded_from_training"] == 400 - completed
    assert counts["trained"] + counts["calibrated"] + counts["embargoed"] == completed
    assert counts["censored_in_history"] == int((part["outcome"] == "timeout").sum())


def test_saved_model_forecasts_the_same_bits(
    trained: RuntimePredictor, folder: Path, log: pd.DataFrame
) -> None:
    """A model would forecast otherwise after it was saved and loaded."""
    loaded = RuntimePredictor.load(folder)
    jobs = log.iloc[900:]
    assert loaded.forecast_log(jobs).tobytes() == trained.forecast_log(jobs).tobytes()
    assert loaded.predict(jobs).tobytes() == trained.predict(jobs).tobytes()
    assert len(loaded.history) == len(trained.history) == 1000
    assert loaded.card == json.loads(json.dumps(trained.card))
    again = loaded.save(folder.parent / "again")
    for file in folder.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


def test_training_twice_gives_the_same_model(trained: RuntimePredictor, log: pd.DataFrame) -> None:
    """A seed would not fix the model."""
    again = RuntimePredictor(trees=TREES).fit(log.iloc[:1000])
    assert again.forecast_log(log).tobytes() == trained.forecast_log(log).tobytes()


def test_the_folder_holds_text_json_and_parquet_only(folder: Path, log: pd.DataFrame) -> None:
    """A model would need pickle, or its card not say what it was made of."""
    assert {f.suffix for f in folder.iterdir()} == {".txt", ".json", ".parquet"}
    card = json.loads((folder / "card.json").read_text())
    assert card["levels"] == list(LEVELS)
    assert card["data"]["sha256"] == data_digest(log.iloc[:1000].reset_index(drop=True))
    assert card["data"]["rows"] == 1000
    assert card["data"]["submitted_until_s"] == log["submit_s"][999]
    assert set(card["versions"]) >= {"python", "numpy", "lightgbm", "plancast"}
    assert card["metrics_before_correction"]["median_abs_log2"] < 1
    assert "user_median" in card["features"]


def test_the_card_keeps_the_logs_terms(log: pd.DataFrame) -> None:
    """Whom to acknowledge for the data would be forgotten with the log."""
    part = log.iloc[:200].copy()
    part.attrs = {"header": {"Acknowledge": "L. Malinowsky"}, "dropped": {"late": 2}}
    card = RuntimePredictor(trees=TREES).fit(part).card
    assert card["data"]["attrs"] == {
        "header": {"Acknowledge": "L. Malinowsky"},
        "dropped": {"late": 2},
    }


FILES = (
    "card.json",
    "history.parquet",
    "correction.parquet",
    "remaining.parquet",
    "quantile.json",
    "level-0.5.txt",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty"])
def test_damage_is_named(folder: Path, name: str, damage: str) -> None:
    """A damaged model would crash, or forecast nonsense without a word."""
    path = folder / name
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        path.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    else:
        path.write_bytes(b"")
    with pytest.raises(BadModel, match=name) as error:
        RuntimePredictor.load(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "key", ["settings", "builder", "correction", "experts", "features", "levels"]
)
def test_a_card_that_does_not_fit_is_named(folder: Path, key: str) -> None:
    """A card edited by hand would end in a traceback of something else."""
    card = json.loads((folder / "card.json").read_text())
    for value in (None, {"settings": 3}):
        (folder / "card.json").write_text(json.dumps({**card, key: value}))
        with pytest.raises(BadModel, match=r"card\.json"):
            RuntimePredictor.load(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A mistyped folder would give a traceback."""
    with pytest.raises(BadModel, match="nowhere"):
        RuntimePredictor.load(tmp_path / "nowhere")


def test_saving_is_all_or_nothing(
    folder: Path, log: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure while saving would destroy the older model, or leave half of a new one."""
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    model = RuntimePredictor(trees=TREES, seed=5).fit(log.iloc[:300])
    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", lambda *_, **__: (_ for _ in ()).throw(OSError()))
        with pytest.raises(OSError):  # noqa: PT011 - any text will do, the folder is what matters
            model.save(folder)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
    assert [f.name for f in folder.parent.iterdir()] == [folder.name]
    model.save(folder)
    assert len(RuntimePredictor.load(folder).history) == 300
    assert [f.name for f in folder.parent.iterdir()] == [folder.name]


def test_other_folders_are_not_overwritten(trained: RuntimePredictor, tmp_path: Path) -> None:
    """A mistyped folder would lose what is in it."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadModel, match="no model folder"):
        trained.save(tmp_path)
    shutil.rmtree(tmp_path / "new", ignore_errors=True)
    (tmp_path / "new").mkdir()
    assert (trained.save(tmp_path / "new") / "card.json").is_file()


def test_importing_the_package_is_cheap() -> None:
    """Every command line call would pay for LightGBM and numba, needed or not."""
    code = (
        "import sys\n"
        "import plancast.predictor as predictor\n"
        "heavy = {'lightgbm', 'numba', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "missing = [n for n in predictor.__all__ if not hasattr(predictor, n)]\n"
        "assert not missing, missing\n"
        "assert set(predictor.__all__) == set(predictor._HOME)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_model_beats_the_rules_on_kth(shared_data: Callable[[str], Path]) -> None:
    """On a real log the model would be no better than a rule of thumb."""
    log = read_log(shared_data("logs/KTH-SP2-1996-2.swf.gz"))
    split = split_by_share(log, 0.7)
    test = log.iloc[split.test]
    ran = (test["run_s"] > 0).to_numpy()
    error = {}
    for estimator in (RequestedTime((0.5,)), LastTwoMean((0.5,)), RuntimePredictor((0.5,))):
        forecast = estimator.fit(log.iloc[split.train]).forecast_log(test)[ran, 0]
        error[estimator.name] = median_abs_log2(test["run_s"][ran], forecast)
    # Measured: model 0.57, last_two 0.83, requested 0.97.
    assert error["model"] < 0.8 * min(error["requested"], error["last_two"])


def test_levels_up_to_995_are_learned_and_promised() -> None:
    """Limits of run time are set at levels of 0.98 to 0.995, which a plan never reserves."""
    log = toy_log(3000)
    levels = (0.5, 0.9, 0.98, 0.99, 0.995)
    model = RuntimePredictor(levels, trees={"n_estimators": 10, "min_child_samples": 20})
    model.fit(log.iloc[:2000])
    found = model.forecast_log(log.iloc[2000:])
    covered = (log["run_s"].to_numpy()[2000:, None] <= found).mean(axis=0)
    assert np.isfinite(found).all()
    assert (np.diff(found, axis=1) >= 0).all()
    assert (np.abs(covered - levels) <= [0.06, 0.04, 0.02, 0.015, 0.01]).all()


def test_it_is_cloned_with_its_settings() -> None:
    """A search over settings would try the defaults again and again."""
    model = RuntimePredictor((0.5, 0.9), window=7, decay=0.2, seed=3, trees={"n_estimators": 9})
    twin = clone(model)
    assert twin is not model
    assert twin.get_params() == model.get_params()
    assert twin.history.window == 7
    assert twin.set_params(window=5).window == 5


def test_settings_changed_later_are_checked_when_it_learns() -> None:
    """A level set later than at birth would give forecasts of nothing."""
    model = RuntimePredictor().set_params(levels=(0.9, 0.1))
    with pytest.raises(ValueError, match="strictly increasing"):
        model.fit(pd.DataFrame({"submit_s": [0.0]}))

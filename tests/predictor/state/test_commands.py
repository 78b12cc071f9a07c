"""Directories and command lines: what is compared of them, what they are worth, what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.submit_lines import made_log, with_random_texts, without_texts
from plancast.predictor.metrics import median_abs_log2, pinball
from plancast.predictor.model_files import CARD_FILE, digest_of_card
from plancast.predictor.quantile import LEVELS
from plancast.predictor.runtime import RuntimePredictor
from plancast.predictor.schema import canonical
from plancast.predictor.state.commands import digests_of, hashed_words, script_of, words_of
from plancast.predictor.state.features import DESCRIPTION_NAMES, FeatureBuilder
from plancast.predictor.state.history import HISTORY_NAMES
from plancast.predictor.state.keys import ROW
from plancast.predictor.texts import FREE_TEXTS, LONGEST_TEXT
from tests.oracles.history_replay import history_of
from tests.oracles.toy_logs import toy_log

TREES = {"n_estimators": 60, "min_child_samples": 20}


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """Jobs whose run times their directories and command lines decide."""
    return made_log(0, 2000)


@pytest.fixture(scope="module")
def trained(log: pd.DataFrame) -> RuntimePredictor:
    """A model of the first 1,500 of them; no test may change it."""
    return RuntimePredictor(trees=TREES).fit(log.iloc[:1500])


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [
        ("work_dir", "/home/ann/run_001", "/home/ann/run_002/"),
        ("work_dir", "/scratch/2024-05-01/p", "/scratch/2024-06-11/p"),
        ("submit_line", "sbatch fit.sh NA12878 10", "sbatch  fit.sh NA12891 250"),
        ("submit_line", "sbatch fit.sh 'a b'", 'sbatch fit.sh "a b"'),
        ("submit_line", "srun fit 9f86d081884c", "srun fit 2c26b46b68ff"),
    ],
)
def test_runs_of_one_thing_are_alike(column: str, one: str, other: str) -> None:
    """Each run of a numbered job would be the first of its kind."""
    assert words_of(column, one) == words_of(column, other)
    np.testing.assert_array_equal(hashed_words(column, one), hashed_words(column, other))
    kept = digests_of(column, one), digests_of(column, other)
    # Only the line as it is tells them apart.
    assert kept[0][-1] == kept[1][-1]
    assert len({digests[0] for digests in kept}) == (2 if column == "submit_line" else 1)


@pytest.mark.parametrize(
    ("line", "script"),
    [
        ("sbatch fit.sh --size large", "fit.sh"),
        ("sbatch -n 4 --time=1:00 /home/ann/fit_12.sh 7", "fit_#.sh"),
        ("sbatch --wrap='python train.py --lr 0.1'", "train.py"),
        ('sbatch --wrap "sleep 10"', "sleep"),
        ("srun ./relax input", "relax"),
        ("sbatch -p long relax input", "relax"),
        ("-l select=1:ncpus=4 -N name job.pbs", "job.pbs"),
        ("sbatch --exclusive", ""),
        ("", ""),
    ],
)
def test_a_line_names_its_script(line: str, script: str) -> None:
    """Options, or what stands before a script, would be taken for it."""
    assert script_of(line) == script


def test_different_things_are_told_apart() -> None:
    """All directories, or all lines, would be one."""
    assert digests_of("work_dir", "/a/b") != digests_of("work_dir", "/a/c")
    one, other = (digests_of("submit_line", f"sbatch {name}.sh") for name in ("fit", "fold"))
    assert not set(one) & set(other)
    assert (hashed_words("work_dir", "/a/b") != hashed_words("work_dir", "/a/c")).any()
    assert digests_of("work_dir", "") == ("",)
    assert np.isnan(hashed_words("work_dir", "")).all()


def test_a_long_line_is_cut() -> None:
    """A log with scripts pasted into its lines would fill the memory, or a row online differ."""
    line = "sbatch " + "x" * 5000
    frame = canonical(pd.DataFrame({"submit_s": [0.0], "submit_line": [line]}))
    assert len(frame["submit_line"][0]) == LONGEST_TEXT
    assert digests_of("submit_line", line) == digests_of("submit_line", frame["submit_line"][0])


def test_a_log_without_them_is_forecast_as_ever() -> None:
    """Columns that say nothing would change the features, the history or the trees of a log."""
    log = toy_log(400)
    builder = FeatureBuilder().fit(log)
    codes = [f"code_{name}" for name in builder.categories]
    assert builder.names == [*DESCRIPTION_NAMES, *HISTORY_NAMES, "num_bytes", *codes]
    model = RuntimePredictor(trees=TREES).fit(log)
    assert tuple(model.history.frame().columns) == ROW
    bare = RuntimePredictor(trees=TREES).fit(log.drop(columns=list(FREE_TEXTS)))
    assert bare.forecast_log(log).tobytes() == model.forecast_log(log).tobytes()
    assert bare.card["data"]["sha256"] == model.card["data"]["sha256"]
    # What a model does not know it does not look at.
    with_texts = log.assign(work_dir="/home/ann", submit_line="sbatch fit.sh")
    assert bare.forecast_log(with_texts).tobytes() == model.forecast_log(log).tobytes()


def test_one_row_equals_many(log: pd.DataFrame) -> None:
    """A job would get other features online than in the replay."""
    builder = FeatureBuilder().fit(log.iloc[:200])
    history = builder.new_history()
    history.see_log(log.iloc[:300])
    matrix = builder.transform(log.iloc[:300], history)
    assert matrix.shape == (300, len(builder.names))
    for i, job in enumerate(log.iloc[:300].to_dict("records")):
        assert builder.row(job, history).tobytes() == matrix[i : i + 1].tobytes()
    # A history that compares no texts has no place for them.
    assert history.width > history_of(log.iloc[:300]).width


def test_a_saved_model_forecasts_the_same_and_goes_on(
    log: pd.DataFrame, trained: RuntimePredictor, tmp_path: Path
) -> None:
    """A loaded model would not know what it had compared, or learn otherwise."""
    rest = log.iloc[1500:]
    loaded = RuntimePredictor.load(trained.save(tmp_path / "model"))
    assert loaded.forecast_log(rest).tobytes() == trained.forecast_log(rest).tobytes()
    again = RuntimePredictor.load(tmp_path / "model")
    for model in (loaded, again):
        model.update(rest.iloc[:200])
    assert loaded.forecast_log(rest).tobytes() == again.forecast_log(rest).tobytes()
    assert loaded.forecast_log(rest).tobytes() != trained.forecast_log(rest).tobytes()


def test_a_model_from_before_loads(tmp_path: Path) -> None:
    """Every site would have to train again for columns that it does not have."""
    model = RuntimePredictor(trees=TREES).fit(toy_log(400))
    folder = model.save(tmp_path / "model")
    card = json.loads((folder / CARD_FILE).read_text())
    del card["builder"]["texts"]
    card["card_sha256"] = digest_of_card(card)
    (folder / CARD_FILE).write_text(json.dumps(card))
    found = RuntimePredictor.load(folder).forecast_log(toy_log(100, seed=1))
    assert found.tobytes() == model.forecast_log(toy_log(100, seed=1)).tobytes()


def test_a_model_keeps_no_path_and_no_command(
    log: pd.DataFrame, trained: RuntimePredictor, tmp_path: Path
) -> None:
    """Whoever is given a model would read where its users work, and what they run."""
    secret = {"scratch", "_project", "align", "assemble", "sbatch", "--size", ".fq"}
    cells = " ".join([*log["work_dir"], *log["submit_line"]])
    assert all(word in cells for word in secret)
    folder = trained.save(tmp_path / "model")
    texts = []
    for path in folder.iterdir():
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            texts += [
                *frame.columns,
                *frame.select_dtypes(exclude="number").astype(str).to_numpy().ravel(),
            ]
        else:
            texts.append(path.read_text())
    kept = "\n".join(texts)
    assert digests_of("work_dir", log["work_dir"][0])[0] in kept
    assert not [word for word in secret if word in kept]


def test_scripts_and_arguments_are_learned(log: pd.DataFrame, trained: RuntimePredictor) -> None:
    """A log that tells what is run would be forecast no better than one that does not."""
    past, rest = log.iloc[:1500], log.iloc[1500:]
    run, middle = rest["run_s"].to_numpy(), LEVELS.index(0.5)
    bare = RuntimePredictor(trees=TREES).fit(without_texts(past))
    errors = [median_abs_log2(run, m.forecast_log(rest)[:, middle]) for m in (trained, bare)]
    assert errors[0] < 0.6
    assert errors[1] > 1.2


@pytest.mark.slow
def test_texts_that_say_nothing_do_no_harm() -> None:
    """Random directories and command lines would take the place of what is known."""
    log = toy_log(2000)
    past, rest = log.iloc[:1500], log.iloc[1500:]
    run = rest["run_s"].to_numpy()
    losses = []
    for seed in range(3):
        random = with_random_texts(log, seed)
        pair = [(past, rest), (random.iloc[:1500], random.iloc[1500:])]
        models = [RuntimePredictor(trees=TREES, seed=seed).fit(one) for one, _ in pair]
        found = [m.forecast_log(r) for m, (_, r) in zip(models, pair, strict=True)]
        losses.append([pinball(run, quantiles, LEVELS).mean() for quantiles in found])
    without, random = np.mean(losses, axis=0)
    assert random < 1.05 * without

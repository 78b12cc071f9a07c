"""What was known at submission: fast form, online form and slow twin agree bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.predictor.logs import read_log
from plancast.predictor.schema import canonical
from plancast.predictor.state.history import HISTORY_NAMES, History
from plancast.predictor.state.keys import PLAIN, Layout, layout_of
from plancast.predictor.state.run_statistics import BEFORE, LAST, LONG, LONG_WINDOW, Ladder
from plancast.predictor.texts import FREE_TEXTS
from tests.conftest import scaled
from tests.oracles.history_replay import answer_slowly, history_of
from tests.oracles.speed import least_cpu_s
from tests.oracles.toy_logs import toy_log, wild_logs

KTH = "logs/KTH-SP2-1996-2.swf.gz"


LAYOUTS = st.sampled_from([(), ("work_dir",), ("submit_line",), FREE_TEXTS]).map(layout_of)


def ask_online(log: pd.DataFrame, window: int = 20, layout: Layout = PLAIN) -> np.ndarray:
    """Live through the log with see and ask, as a master would."""
    rows = log.to_dict("records")
    events = [(r["submit_s"], 1, i) for i, r in enumerate(rows)]
    events += [(r["end_s"], 0, i) for i, r in enumerate(rows) if r["end_s"] == r["end_s"]]
    history = History(window, layout=layout)
    result, noted = np.empty((len(rows), history.width)), set()
    for _, group in groupby(sorted(events), key=lambda event: event[0]):
        now = list(group)
        ends, submits = [i for _, k, i in now if k == 0], [i for _, k, i in now if k == 1]
        for i in ends:
            if i in noted:
                history.see(rows[i])
        for i in submits:
            result[i] = history.ask(rows[i])
        for i in submits:
            # Until it ends nobody can tell how; a row that never says so is left as it is.
            unended = {"end_s": np.nan, "run_s": np.nan}
            if rows[i]["end_s"] == rows[i]["end_s"]:
                unended["outcome"] = "unknown"
            history.see({**rows[i], **unended})
            noted.add(i)
        for i in ends:
            history.see(rows[i])
    return result


def distinct(log: pd.DataFrame) -> pd.DataFrame:
    """The log with an id of its own for every row."""
    return log.assign(job_id=[str(i) for i in range(len(log))])


@settings(max_examples=scaled(25), deadline=None)
@given(log=wild_logs(texts=True), window=st.integers(1, 5), shift=st.floats(-5, 20), layout=LAYOUTS)
def test_fast_form_equals_slow_twin(
    log: pd.DataFrame, window: int, shift: float, layout: Layout
) -> None:
    """The kernel would tell something else than the definition, at submission or at any moment."""
    rows, submit = log.to_dict("records"), log["submit_s"].to_numpy()
    for as_of in (submit, submit + shift):
        fast = History(window, layout=layout).replay(log, as_of)
        slow = [
            answer_slowly(rows, row, as_of[i], window, layout=layout) for i, row in enumerate(rows)
        ]
        np.testing.assert_array_equal(fast, np.array(slow))


@settings(max_examples=scaled(25), deadline=None)
@given(log=wild_logs(texts=True), window=st.integers(1, 5), layout=LAYOUTS)
def test_online_form_equals_fast_form(log: pd.DataFrame, window: int, layout: Layout) -> None:
    """A forecast served online would differ from the one the model was trained on."""
    log = distinct(log)
    fast = History(window, layout=layout).replay(log)
    np.testing.assert_array_equal(ask_online(log, window, layout), fast)


@settings(max_examples=scaled(25), deadline=None)
@given(log=wild_logs(texts=True), cut=st.integers(0, 14), layout=LAYOUTS, data=st.data())
def test_stored_rows_and_own_rows_are_one_history(
    log: pd.DataFrame, cut: int, layout: Layout, data: st.DataObject
) -> None:
    """It would matter whether a job was learned before or is a row of the replayed log."""
    log = distinct(log)
    history = History(3, layout=layout)
    history.see_log(log.iloc[:cut])
    whole = History(3, layout=layout).replay(log)
    np.testing.assert_array_equal(history.replay(log), whole)
    np.testing.assert_array_equal(history.copy().replay(log), whole)
    order = data.draw(st.permutations(range(len(log))))
    late = History(3, layout=layout)
    late.see_log(log)
    for i in order:
        np.testing.assert_array_equal(late.ask(log.iloc[i].to_dict()), whole[i])


@pytest.mark.slow
def test_kth_online_equals_fast_form(shared_data: Callable[[str], Path]) -> None:
    """Rounding or ties of a real log would make the two forms drift apart."""
    log = read_log(shared_data(KTH)).iloc[:3000].reset_index(drop=True)
    fast = History().replay(log)
    np.testing.assert_array_equal(ask_online(log), fast)
    rows = log.to_dict("records")
    for i in range(299, 3000, 300):
        np.testing.assert_array_equal(fast[i], answer_slowly(rows, rows[i], rows[i]["submit_s"]))


def test_ends_inside_a_batch_are_not_seen() -> None:
    """A batch that is planned at one instant would profit from its own run times."""
    log = toy_log(60)
    now = float(log["submit_s"].iloc[-1])
    batch = log.iloc[40:].reset_index(drop=True)
    history = history_of(log.iloc[:40])
    planned = history.replay(batch, now, see_ends=False)
    assert (batch["end_s"] <= now).any()
    assert (history.replay(batch, now) != planned).any()
    other = batch.assign(run_s=batch["run_s"] * 7, end_s=batch["end_s"] * 7, outcome="failed")
    np.testing.assert_array_equal(history.replay(other, now, see_ends=False), planned)


def test_rows_are_excluded_and_censored_by_rule() -> None:
    """Jobs that never ran would enter statistics, or censored ones go uncounted."""
    log = canonical(
        pd.DataFrame(
            {
                "job_id": ["1", "2", "3", "4"],
                "submit_s": [0.0, 0.0, 0.0, 0.0],
                "run_s": [10.0, 0.0, 20.0, np.nan],
                "end_s": [10.0, 5.0, 20.0, 30.0],
                "start_s": [0.0, 5.0, 0.0, np.nan],
                "user": ["ann"] * 4,
                "outcome": ["timeout", "cancelled", "completed", "cancelled"],
            }
        )
    )
    history = history_of(log)
    answer = dict(zip(HISTORY_NAMES, history.ask({"user": "ann", "submit_s": 40.0}), strict=True))
    assert (history.excluded, history.censored, len(history)) == (2, 1, 4)
    assert answer["user_count"] == 2
    assert answer["user_bad_share"] == 0.5
    assert answer["user_last"] == pytest.approx(np.log(20.0))
    assert answer["user_last_two"] == pytest.approx(np.log(15.0))
    assert answer["user_since_end"] == 20.0
    assert answer["user_active"] == 0


def test_ties_go_by_row_order() -> None:
    """The last of two jobs that ended at the same moment would be a matter of luck."""
    log = canonical(pd.DataFrame({"submit_s": [0.0, 1.0], "run_s": [3.0, 2.0], "start_s": [0, 1]}))
    last = HISTORY_NAMES.index("all_last")
    assert history_of(log).ask({"submit_s": 3.0})[last] == np.log(2.0)
    assert history_of(log.iloc[::-1]).ask({"submit_s": 3.0})[last] == np.log(2.0)
    turned = log.iloc[::-1].assign(submit_s=[0.0, 1.0])
    assert history_of(turned).ask({"submit_s": 3.0})[last] == np.log(3.0)


def test_a_job_counts_once_and_closes() -> None:
    """A job told twice would count double, or a finished one stay active forever."""
    active = HISTORY_NAMES.index("user_active")
    waiting = {"job_id": "7", "submit_s": 1.0, "user": "ann"}
    ended = {**waiting, "start_s": 1.0, "run_s": 4.0, "end_s": 5.0, "outcome": "completed"}
    query = {"job_id": "8", "user": "ann"}
    history = History()
    for _ in range(2):
        history.see(waiting)
    assert history.ask({**query, "submit_s": 2.0})[active] == 1
    for _ in range(2):
        history.see(ended)
    assert history.ask({**query, "submit_s": 4.0})[active] == 1
    after = history.ask({**query, "submit_s": 6.0})
    assert after[active] == 0
    assert after[HISTORY_NAMES.index("user_count")] == 1


def test_what_it_saw_survives_a_frame() -> None:
    """A saved history would answer otherwise than the one that was saved."""
    history = history_of(toy_log(200))
    history.see({"job_id": "open", "submit_s": 1e5, "user": "u1"})
    twin = history.copy()
    jobs = toy_log(50, seed=1)
    np.testing.assert_array_equal(twin.replay(jobs), history.replay(jobs))
    assert (len(twin), twin.excluded, twin.censored) == (
        len(history),
        history.excluded,
        history.censored,
    )
    assert twin.known_until_s == history.known_until_s


@pytest.mark.parametrize(("window", "decay"), [(0, 0.3), (5, 0.0), (5, 1.5)])
def test_impossible_settings_are_refused(window: int, decay: float) -> None:
    """A window of nothing or a weight beyond 1 would give nonsense quietly."""
    with pytest.raises(ValueError, match="must"):
        History(window, decay)


@pytest.mark.slow
def test_sdsc_blue_replays_in_proportion(shared_data: Callable[[str], Path]) -> None:
    """A log of 243,000 jobs would take too long to train on."""
    log = read_log(shared_data("logs/SDSC-BLUE-2000-4.2-cln.swf.gz"))
    head = log.head(len(log) // 8)
    took = [least_cpu_s(lambda part=part: History().replay(part), 3) for part in (head, log)]
    # Linear is 8, quadratic 64.
    assert took[1] < 24 * took[0]


def test_quantiles_of_the_last_runs_are_numpys() -> None:
    """The rule "the user's last 20 run times" would look at other jobs or interpolate otherwise."""
    log = toy_log(300)
    levels = np.array([0.1, 0.5, 0.95])
    ladders = [
        Ladder(("user", "all"), 3),
        Ladder(("all",), 1),
        Ladder(("user", "all"), 3, LONG),
        Ladder(("all",), 1, LONG),
        Ladder(("user", "all"), 1, LAST),
        Ladder(("user", "all"), 1, BEFORE),
    ]
    history = History(window=20)
    found = history.replay_quantiles(log, ladders, levels)
    end, run, user = (log[name].to_numpy() for name in ("end_s", "run_s", "user"))
    for i in range(0, 300, 7):
        now = float(log["submit_s"][i])
        past = np.flatnonzero(end <= now)
        past = past[np.argsort(end[past], kind="stable")]
        own = past[user[past] == user[i]]
        seen = own if len(own) >= 3 else past[len(past) :] if len(past) < 3 else past
        for place, rows in enumerate((seen, past, seen, past)):
            if len(rows):
                latest = rows[-20:] if place < 2 else rows[-LONG_WINDOW:]
                expected = np.quantile(run[latest], levels)
                np.testing.assert_allclose(found[i, place], expected, rtol=1e-9)
            else:
                assert np.isnan(found[i, place]).all()
        same = run[own if len(own) else past]
        for place, back in ((4, 1), (5, 2)):
            expected = np.full(3, same[-back] if len(same) >= back else np.nan)
            np.testing.assert_array_equal(found[i, place], expected)
    history.see_log(log)
    for i in (5, 150, 299):
        job = log.iloc[i].to_dict()
        later = float(log["end_s"].max()) + 1.0
        one = history.ask_quantiles(job, ladders, levels, later)
        frame = log.iloc[[i]].reset_index(drop=True)
        many = history.replay_quantiles(frame, ladders, levels, later, see_ends=False)[0]
        assert one.tobytes() == many.tobytes()

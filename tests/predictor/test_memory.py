"""Advised amounts of memory: the promise, what they know, and the methods beside them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.predictor.memory import MemorySettings, advise_memory, judged, waste_of
from plancast.predictor.memory_baselines import METHODS, TIMES, tuned
from plancast.predictor.schema import canonical
from tests.conftest import scaled
from tests.predictor.test_target import tasks

LEVELS = (0.1, 0.5, 0.75, 0.95, 0.995)


def forecasts(log: pd.DataFrame) -> np.ndarray:
    """Quantiles around each kind's true middle, known from the start."""
    middle = np.where(log["app"] == "small", 200.0, 3000.0)
    return middle[:, None] * np.array([0.92, 1.0, 1.05, 1.09, 1.1])


def test_amounts_save_most_of_the_request_and_keep_the_promise() -> None:
    """Tasks that take 200 of 8,000 MiB would keep their request, or would die of the advice."""
    log = tasks(1000)
    found = advise_memory(log, forecasts(log), LEVELS, 0.01)
    request = log["mem_mib"].to_numpy()
    assert (found.amount_mib <= request).all()
    rows = judged(log)
    ours, users = waste_of(log, found.amount_mib, rows), waste_of(log, request, rows)
    assert ours.failures <= 0.01
    assert ours.waste_gib_h < 0.2 * users.waste_gib_h
    assert ours.waste_half_gib_h <= ours.waste_gib_h
    assert found.amount_mib[0] == request[0], "nothing had ended"
    assert (found.chance[found.amount_mib == request] == 0).all()


def test_wrong_forecasts_are_paid_from_an_allowance() -> None:
    """A forecast that is always too low would make every task die."""
    log = tasks(1000)
    log["mem_peak_mib"] = np.where(np.arange(1000) < 500, 200.0, 7000.0)
    low = np.full((1000, len(LEVELS)), 200.0) * np.array([0.9, 1.0, 1.01, 1.02, 1.03])
    found = advise_memory(log, low, LEVELS, 0.01)
    assert 0 < waste_of(log, found.amount_mib, judged(log)).failures <= 0.01


@settings(max_examples=scaled(10), deadline=None)
@given(st.integers(20, 150), st.integers(0, 1000))
def test_an_amount_knows_nothing_that_came_later(place: int, seed: int) -> None:
    """Advice would look at peaks of tasks that had not ended."""
    log = tasks(160, seed)
    later = log.copy()
    later.loc[place:, "mem_peak_mib"] = 7999.0
    both = [advise_memory(x, forecasts(x), LEVELS, 0.05).amount_mib for x in (log, later)]
    assert np.array_equal(both[0][: place + 1], both[1][: place + 1])


def test_waste_is_what_attempts_hold_beyond_the_peak() -> None:
    """A failed attempt would cost nothing, or the wrong hours."""
    log = canonical(
        pd.DataFrame(
            {
                "submit_s": [0.0, 1.0, 2.0],
                "run_s": [3600.0, 7200.0, 3600.0],
                "mem_mib": [4096.0, 4096.0, 1024.0],
                "mem_peak_mib": [1024.0, 2048.0, 2048.0],
                "outcome": "completed",
            }
        )
    )
    rows = judged(log)
    assert rows.tolist() == [True, True, False], "the third one needed more than its request"
    found = waste_of(log, np.array([2048.0, 1024.0, 1024.0]), rows)
    assert found.waste_gib_h == pytest.approx(1.0 + 2 * (1.0 + 2.0))
    assert found.waste_half_gib_h == pytest.approx(1.0 + 2 * (0.5 + 2.0))
    assert found.failures == 0.5


@pytest.mark.parametrize(
    "name",
    [pytest.param(m, marks=pytest.mark.slow) if m == "sizey" else m for m in METHODS],
)
def test_methods_look_back_only(name: str) -> None:
    """A method to compare with would see the future, or nothing at all."""
    log = tasks(60)
    log["num_size"] = log["mem_peak_mib"] * np.where(np.arange(60) % 3, 1.0, 1.1)
    later = log.copy()
    later.loc[40:, "mem_peak_mib"] = 7999.0
    families = [METHODS[name](x) for x in (log, later)]
    assert set(families[0][0]) == set(families[1][0])
    for variant, found in families[0][0].items():
        assert np.array_equal(found[:41], families[1][0][variant][:41], equal_nan=True)
        rows = np.arange(10, 60)
        error = np.abs(np.log(found[rows] / log["mem_peak_mib"].to_numpy()[rows]))
        assert np.median(error) < 0.5
    training = judged(log) & (np.arange(60) < 30)
    described, amount = tuned(log, METHODS[name], training, 0.05)
    assert any(f" x {times:g}," in described for times in TIMES)
    assert waste_of(log, amount, training).failures <= 0.05
    assert (amount <= log["mem_mib"]).all()


def test_settings_change_what_is_risked() -> None:
    """The price of a failure would be read nowhere."""
    log = tasks(600, seed=3)
    dear, cheap = (
        advise_memory(log, forecasts(log), LEVELS, 0.05, MemorySettings(price=price)).chance.sum()
        for price in (1000.0, 1.0)
    )
    assert dear < cheap

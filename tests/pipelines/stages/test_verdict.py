"""plancast.pipelines.stages.verdict: what a report says first is what its facts bear out."""

from __future__ import annotations

from typing import Any

import pytest

from plancast.pipelines.stages.verdict import (
    change_from,
    kind_name,
    tied,
    verdict_of,
    way_name,
)
from plancast.pipelines.worth.policies import ways

TRAIN = {
    "train_jobs": 700, "scored_jobs": 300,
    "estimators": {"model": {"median_abs_log2": 0.5, "coverage_p90": 0.912},
                   "requested": {"median_abs_log2": 2.0}},
}  # fmt: skip


def a_trial(requested: list[float], model: list[float], oracle: list[float]) -> dict[str, Any]:
    """Facts of a trial with these realised costs."""
    costs = {"requested": requested, "model_p50": model, "oracle": oracle}
    rows = [{k: {"realised": c[n]} for k, c in costs.items()} for n in range(len(oracle))]
    of_model = {
        "against_requested": sum(model) / sum(requested) - 1,
        "against_requested_ci": [-0.1, 0.1],
        "regret": sum(model) / sum(oracle) - 1,
    }
    kinds: dict[str, Any] = {"requested": {}, "model_p50": of_model, "oracle": {}}
    n = len(oracle)
    return {"batches": n, "batch_size": 50, "batches_that_wait": n, "kinds": kinds, "rows": rows}


def queues(mean: float, low: float, high: float) -> dict[str, Any]:
    """Facts of worth, with what auto saves against the best rule."""
    return {
        "queues": True, "n": 40, "earlier": {"ended_s": []},
        "chosen_by_auto": {"usual": "closed_scenarios"},
        "baseline": "open_requested", "closed_first": "closed_requested",
        "auto_against_best_rule": {"mean": mean, "lo": low, "hi": high},
        "closed_scenarios_against_closed_first": {"mean": -0.01, "lo": -0.03, "hi": 0.01},
        "attainable_by_calibrated": {"mean": -0.04}, "oracle_against_baseline": -0.08,
        "replays": [{"mean_wait_s": 7200.0}, {}, {"mean_wait_s": 5400.0}],
    }  # fmt: skip


FLAT = a_trial([10.0] * 8, [10.0] * 8, [9.0] * 8)


def test_the_sentences_hold_the_figures() -> None:
    """A person would read other numbers than were measured, or advice for another site."""
    found = verdict_of("site", TRAIN, FLAT, queues(-0.05, -0.08, -0.02), "log.swf", "models/m")
    assert found.sentences == (
        "Half of 300 later jobs are forecast within a factor of 1.41 of their run time (by "
        "requested times: 4.00), and 91.2% ended by their 90% quantile.",
        "On 40 queues of this log, plans made the way plancast chooses (by the model's scenarios, "
        "replanned) cost 5.0% less than those by the best simple rule (95%: -8.0% to -2.0%).",
        "Against plans by requested times, perfect forecasts would save 8.0%, forecasts of this "
        "kind whose quantiles hold exactly 4.0%; with the forecasts in backfilling the mean wait "
        "goes from 2.0 to 1.5 h.",
    )
    assert "--model models/m" in found.next_steps[0]
    assert "plancast advise log.swf" in found.next_steps[1]
    assert found.how_sure[0] == "The saving is beyond chance (95%) on 40 queues."
    assert found.how_sure[1] == (
        "The forecasts' own part: where both are replanned, plans by the model's scenarios cost "
        "1.0% less than plans by requested times (95%: -3.0% to +1.0%), not proven: it may be "
        "chance. The rest comes from searching the order anew."
    )


def test_few_queues_speak_for_the_model_and_not_for_a_choice() -> None:
    """What plancast takes before it can choose would be called its choice, and a loss of its."""
    saved = {"closed_scenarios": {"against_baseline": {"mean": -0.09, "lo": -0.12, "hi": -0.06}}}
    young = queues(0.25, 0.01, 0.5) | {"n": 8, "policies": saved}
    young["chosen_by_auto"] = {"usual": "closed_requested"}
    found = verdict_of("site", TRAIN, FLAT, young, "log.swf", "models/m")
    assert found.sentences[1] == (
        "On 8 queues of this log, plans by the model's scenarios, replanned, cost 9.0% less than "
        "plans by requested times (95%: -12.0% to -6.0%)."
    )
    assert "--model models/m --source model" in found.next_steps[0]
    assert "until then it plans by requested times" in found.how_sure[2]
    # The saving is the search's, and forecasts cost a part of it: go on by requested times.
    own = young["closed_scenarios_against_closed_first"]
    young["closed_scenarios_against_closed_first"] = {"mean": 0.017, "lo": -0.06, "hi": 0.073}
    found = verdict_of("site", TRAIN, FLAT, young, "log.swf", "models/m")
    assert "--model" not in found.next_steps[0]
    assert "scenarios cost 1.7% more than plans by requested times (" in found.how_sure[1]
    assert found.how_sure[1].endswith("The saving comes from searching the order anew.")
    young["closed_scenarios_against_closed_first"] = own
    saved["closed_scenarios"]["against_baseline"]["hi"] = 0.01
    found = verdict_of("site", TRAIN, FLAT, young, "log.swf", "models/m")
    assert "--model" not in found.next_steps[0]


def test_what_may_be_chance_is_called_so() -> None:
    """A saving whose interval holds 0 would be sold as one."""
    found = verdict_of("site", TRAIN, FLAT, queues(-0.01, -0.03, 0.01), "log.swf", "models/m")
    # Intervals shrink with the root of the batches: twice the mean takes four times as many.
    assert found.how_sure[0] == (
        "The saving is not proven: it may be chance on 40 queues; about 160 would be needed to "
        "tell."
    )
    found = verdict_of("site", TRAIN, FLAT, queues(0.03, 0.01, 0.05), "log.swf", "models/m")
    assert "a loss beyond chance" in found.how_sure[0]


def test_ties_are_ties() -> None:
    """The cheaper of two alike would be called the winner, or a clear winner a tie."""
    assert tied(FLAT) == {"requested", "model_p50"}
    chance = a_trial([10, 12, 9, 11], [11, 10, 10, 9.5], [9, 9, 9, 9])
    assert tied(chance) == {"requested", "model_p50"}
    clear = a_trial([10, 12, 9, 11], [8, 9, 7, 9], [7, 7, 7, 7])
    assert tied(clear) == {"model_p50"}
    none = {"queues": False, "n": 1}
    dear = a_trial([10, 12, 9, 11], [11, 10, 10, 19.5], [9, 9, 9, 9])
    found = verdict_of("site", TRAIN, dear, none, "log.swf", "models/m")
    assert found.next_steps[0].startswith("Go on planning by requested times"), "it says 19% more"
    cheap = a_trial([11, 10, 10, 19.5], [10, 12, 9, 11], [9, 9, 9, 9])
    found = verdict_of("site", TRAIN, cheap, none, "log.swf", "models/m")
    assert found.next_steps[0].startswith("Plan batches with the model")
    found = verdict_of("site", TRAIN, FLAT, none, "log.swf", "models/m")
    assert any("the model's median and requested times are tied" in text for text in found.how_sure)


@pytest.mark.parametrize(
    ("share", "words"),
    [(-0.05, "5.0% less than others"), (0.1234, "12.3% more than others"),
     (0.0001, "as much as others")],
)  # fmt: skip
def test_changes_read_as_words(share: float, words: str) -> None:
    """A sign would be lost, or nothing be called a saving of 0.0%."""
    assert change_from(share, "others") == words


def test_ways_have_names() -> None:
    """A reader would meet the names of our variables."""
    assert way_name("closed_p80") == "model's 80% quantile, replanned"
    assert way_name("open_requested") == "requested times"
    rules = ("requested", "last_two", "last_same", "app_median")
    named = [way_name(way) for way in (*ways(rules), "oracle_order", "closed_best_rule", "auto")]
    assert all(named)
    assert len(set(named)) == len(named)
    assert kind_name("model_p50") == "the model's median"
    assert kind_name("model_p80") == "the model's 80% quantile"

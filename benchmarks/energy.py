"""A week planned with a tariff by the hour, beside a planner that knows its mean price alone.

Run with ``make bench-energy`` or ``python -m benchmarks.energy``. Writes
``docs/benchmarks/energy.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from plancast.planner.model.domain import (
    ANY_CLASS,
    DAY_S,
    DurationEstimate,
    Hourly,
    Plan,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.plan import plan
from plancast.planner.worlds.executors import static
from plancast.planner.worlds.metrics import interval_over

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "energy.md"
TARIFF = Hourly(
    tuple(3600 * hour for hour in (0, 6, 17, 21)), (0.16, 0.28, 0.42, 0.22), utc_offset_s=3600
)
"""Night, day, evening peak and late evening, in a currency's units for each kWh."""
TASKS, NODES, DAYS = 240, 8, 7
STEPS = 10_000
LEVELS = (0.1, 0.5, 0.8, 0.9)
Z = (-1.2816, 0.0, 0.8416, 1.2816)
"""Normal quantiles of the levels."""
SIGMA = 0.4
"""Spread of the log run time about its median."""
PRICES = Prices(makespan_h=0.0, late_h=10.0, misses=1.0, wait_h=0.002, energy_cost=1.0)


@dataclass(frozen=True)
class Outcome:
    """What one plan came to: terms of the evaluator, under the tariff."""

    energy_cost: float
    kwh: float
    late_h: float
    wait_h: float


def week(seed: int, slack_h: tuple[float, float], load: float) -> PlanRequest:
    """A week's tasks, submitted by day, that fill a part of some nodes; most are due.

    Parameters
    ----------
    seed : int
    slack_h : tuple of float
        Least and most hours between the earliest end of a task and its deadline.
    load : float
        Part of the cores that the tasks take over the week.
    """
    rng = np.random.default_rng(seed)
    workers = tuple(
        Worker(f"n{k}", {"cpu": 16_000}, idle_w=90.0, busy_w=310.0, price_per_kwh=TARIFF)
        for k in range(NODES)
    )
    cores = 2 ** rng.integers(0, 5, TASKS)
    median_s = rng.lognormal(0.0, 0.8, TASKS)
    median_s *= load * NODES * 16 * DAYS * DAY_S / float((cores * median_s).sum())
    days = rng.integers(0, DAYS - 1, TASKS)
    of_day_s = np.clip(rng.normal(13.5, 3.0, TASKS), 0, 23.9) * 3600
    release_s = (days * DAY_S + of_day_s).astype(int)
    tasks, estimates = [], {}
    for i in range(TASKS):
        seconds = tuple(max(60, int(median_s[i] * np.exp(SIGMA * z))) for z in Z)
        slack_s = int(3600 * rng.uniform(*slack_h))
        due = rng.random() < 0.8
        tasks.append(
            Task(
                f"t{i}", {"cpu": 1000 * int(cores[i])}, release_s=int(release_s[i]),
                deadline_s=int(release_s[i]) + seconds[2] + slack_s if due else None,
            )
        )  # fmt: skip
        estimates[f"t{i}"] = {ANY_CLASS: DurationEstimate(LEVELS, seconds, "generated")}
    return PlanRequest(
        f"week-{seed}", Snapshot(0, 0, workers, tuple(tasks)), estimates, Policy(PRICES),
        budget=Budget(None, STEPS), seed=seed,
    )  # fmt: skip


def time_blind(request: PlanRequest) -> PlanRequest:
    """The request where energy costs its mean over the day at every hour."""
    ends = (*TARIFF.at_s[1:], DAY_S)
    each = zip(TARIFF.values, TARIFF.at_s, ends, strict=True)
    mean = sum(value * (end - at) for value, at, end in each) / DAY_S
    workers = tuple(replace(w, price_per_kwh=mean) for w in request.snapshot.workers)
    return replace(request, snapshot=replace(request.snapshot, workers=workers))


def outcome(request: PlanRequest, made: Plan, *, realised: bool = False) -> Outcome:
    """A plan, or an execution, priced under the tariff."""
    found = evaluate(request, made, realised=realised)
    assert found.valid, found.violations[:1]
    return Outcome(*(found.terms[name] for name in Outcome.__dataclass_fields__))


def compared(request: PlanRequest, seed: int) -> dict[str, Outcome]:
    """Both planners' plans as planned, and carried out with drawn run times."""
    rng = np.random.default_rng(1000 + seed)
    draws = np.exp(SIGMA * rng.standard_normal(TASKS))
    truth = {
        task.id: max(60, int(request.estimates[task.id][ANY_CLASS].seconds[1] * draw))  # type: ignore[union-attr]
        for task, draw in zip(request.snapshot.pending, draws, strict=True)
    }
    found = {}
    for name, asked in (("blind", time_blind(request)), ("tariff", request)):
        made = plan(asked).plan
        assert made is not None
        found[name] = outcome(request, made)
        ran = static(asked, made, truth).plan
        found[f"{name}, carried out"] = outcome(request, ran, realised=True)
    return found


def row(label: str, found: Sequence[Mapping[str, Outcome]], suffix: str) -> str:
    """One line of the table: means over the seeds, and the saving with its paired interval."""
    blind = [one[f"blind{suffix}"] for one in found]
    aware = [one[f"tariff{suffix}"] for one in found]

    def mean(of: Sequence[Outcome], name: str) -> float:
        return float(np.mean([getattr(one, name) for one in of]))

    saved = np.array([1 - a.energy_cost / b.energy_cost for a, b in zip(aware, blind, strict=True)])
    later = np.array([a.late_h - b.late_h for a, b in zip(aware, blind, strict=True)])
    cells = [
        label,
        f"{mean(blind, 'energy_cost'):.1f}", f"{mean(aware, 'energy_cost'):.1f}",
        f"{saved.mean():.1%} ({_between(saved, '{:.1%}')})",
        f"{mean(blind, 'late_h'):.2f}",
        f"{later.mean():+.2f} ({_between(later, '{:+.2f}')})",
        f"{mean(blind, 'kwh'):.0f}", f"{mean(aware, 'kwh'):.0f}",
        f"{mean(blind, 'wait_h') / TASKS:.1f}", f"{mean(aware, 'wait_h') / TASKS:.1f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _between(values: np.ndarray, form: str) -> str:
    low, high = interval_over(values, np.arange(len(values)))
    return f"{form.format(low)} to {form.format(high)}"


WHY = (
    "As planned, lateness is alike. Carried out it need not be: a wait uses up slack that a run",
    "longer than planned would have needed, and an execution that keeps each node's order hands",
    "the delay on to what follows. Who must not be late plans at a higher `level`, or anew as",
    "tasks end; neither is measured here.",
)
CASES = (
    ("due within 4 to 36 h, load 40%", (4.0, 36.0), 0.4),
    ("due within 4 to 36 h, load 60%", (4.0, 36.0), 0.6),
    ("due within 0 to 6 h, load 40%", (0.0, 6.0), 0.4),
)


def page(seeds: int) -> str:
    """The page."""
    lines = [
        "# Energy by the hour", "",
        f"Written by `make bench-energy`. A generated week: {TASKS} tasks of 1 to 16 cores,",
        f"submitted by day, on {NODES} nodes of 16 cores (90 W idle, 310 W more in full use);",
        "80% have a deadline. The tariff has the shape of a household's or a site's with times",
        "of use: 0.16 a kWh at night, 0.28 by day, 0.42 from 17 to 21, 0.22 until midnight. An",
        "hour of lateness costs 10, a miss 1, an hour's wait 0.002. *Blind* plans with the mean",
        f"price of the day, all else alike; both have {STEPS:,} steps, and both are priced under",
        "the tariff. *Carried out*: run times are drawn anew about the medians (spread of the",
        "log 0.4), plans reserve their 80% quantiles, each node keeps its order, and starts that",
        f"a plan chose are not brought forward. Means over {seeds} seeds, 95% intervals paired by",
        "seed. Lateness is summed over the tasks, waits are means.", "",
        "| week | cost, blind | with tariff | saved | late h, blind | more late h | kWh, blind "
        "| with tariff | wait h, blind | with tariff |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for label, slack_h, load in CASES:
        found = [compared(week(seed, slack_h, load), seed) for seed in range(seeds)]
        lines.append(row(label, found, ""))
        lines.append(row(f"{label}, carried out", found, ", carried out"))
        print("\n".join(lines[-2:]), flush=True)
    return "\n".join([*lines, "", *WHY]) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no-page", action="store_true", help="print only")
    asked = parser.parse_args()
    text = page(asked.seeds)
    if not asked.no_page:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

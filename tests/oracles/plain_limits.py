"""Advised limits in the dullest style: lists, everything counted anew for every job."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from plancast.predictor.limits import CHAIN, LimitSettings
from plancast.predictor.splits import known_at_s


def plain_limits(
    jobs: pd.DataFrame, risk: float, rules: LimitSettings
) -> tuple[list[float], list[float]]:
    """Limits (the request where none is lower; 0 without a request) and chances, by job."""
    rows = jobs.to_dict("records")
    run = [0.0 if math.isnan(r["run_s"]) else r["run_s"] for r in rows]
    asked = [0.0 if math.isnan(r["requested_s"]) else r["requested_s"] for r in rows]
    known = [k if r > 0 else math.inf for k, r in zip(known_at_s(jobs), run, strict=True)]
    ends = sorted(range(len(rows)), key=lambda j: known[j])
    limits, chances, held = list(asked), [0.0] * len(rows), [0.0] * len(rows)
    found: list[int] = []
    price, allowance, cut, forecast = math.inf, 0.0, 5.0, 5.0
    knees: list[tuple[float, float]] = [(0.0, 0.0)] * rules.price_jobs
    for job, row in enumerate(rows):
        for other in ends[len(found) :]:
            if known[other] > row["submit_s"]:
                break
            found.append(other)
            if chances[other] > 0:
                was_cut = float(run[other] > limits[other])
                allowance += held[other] - was_cut
                forecast += chances[other] - 0.002 * forecast
                cut += was_cut - 0.002 * cut
        month = [r for r in rows[: job + 1] if r["submit_s"] >= row["submit_s"] - 30 * 86400]
        allowance = min(max(1.0, rules.burst * math.sqrt(risk * len(month))), allowance + risk)
        if not asked[job] > 0:
            continue
        sample = _sample(rows, run, asked, [j for j in found if asked[j] > 0], row, rules)
        if not sample:
            continue
        optimism = max(cut / forecast, 1.0)
        if job and job % rules.price_every == 0:
            price = _price(knees[: min(job, rules.price_jobs)], risk, optimism)
        cores = row["cpus"] if row["cpus"] > 0 else 1.0
        best, knee = (0.0, asked[job], 0.0), (0.0, 0.0)
        for tried, over, gain in _candidates(sample, asked[job], cores, rules):
            if gain > knee[0] * over:
                knee = (gain / over, over)
            if gain - price * optimism * over > best[0]:
                best = (gain - price * optimism * over, tried, over)
        knees[job % rules.price_jobs] = (knee[0] / optimism, knee[1])
        crowd = sum(
            chances[j] > 0 and j not in found for j in range(job) if rows[j]["user"] == row["user"]
        )
        wanted = min(1.0, max(rules.cautious * optimism * best[2], crowd / rules.crowd))
        if best[2] > 0 and wanted <= allowance:
            limits[job], chances[job], held[job] = best[1], best[2], wanted
            allowance -= wanted
    return limits, chances


def _sample(rows, run, asked, ended, row, rules):  # type: ignore[no-untyped-def]
    """(share of the request, probability), sorted."""
    result, left = [], 1.0
    for place, columns in enumerate(CHAIN):

        def key(r):  # type: ignore[no-untyped-def]
            return [-1.0 if r[c] != r[c] else r[c] for c in columns]  # noqa: B023

        mine = [j for j in ended if key(rows[j]) == key(row)][-rules.window :]
        if not mine:
            continue
        last = place == len(CHAIN) - 1
        taken = left if last else left * len(mine) / (len(mine) + rules.prior)
        result += [(run[j] / asked[j], taken / len(mine)) for j in mine]
        left -= taken
    total = sum(w for _, w in result)
    return sorted((v, w / total) for v, w in result)


def _candidates(sample, request, cores, rules):  # type: ignore[no-untyped-def]
    """(limit, chance to be cut, saved core-hours) of every limit that is allowed."""
    values = [min(v, 1.0) * request for v, _ in sample]
    weights = [w for _, w in sample]
    excess = request - sum(v * w for v, w in zip(values, weights, strict=True))
    for tried in sorted({math.ceil(v / rules.round_s) * rules.round_s for v in values}):
        if tried >= request:
            return
        inside = [k for k in range(len(values)) if values[k] <= tried]
        over = max(1.0 - sum(weights[k] for k in inside), 0.5 / (len(values) + 1.0))
        if over > rules.worst:
            continue
        left = sum((tried - values[k]) * weights[k] for k in inside)
        yield tried, over, cores * (excess - left - rules.loss * over * tried) / 3600.0


def _price(knees, risk, optimism):  # type: ignore[no-untyped-def]
    spent = 0.0
    for knee, chance in sorted(knees, key=lambda k: -k[0]):
        spent += chance * optimism
        if spent > risk * len(knees):
            return knee
    return 0.0


def nearly(a: list[float], b: list[float]) -> bool:
    """Whether two lists are equal up to rounding."""
    return bool(np.allclose(a, b, rtol=1e-9, atol=1e-9))

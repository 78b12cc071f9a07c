"""What a plan's energy costs and emits, watt by watt and second by second."""

from __future__ import annotations

from plancast.planner.model.domain import Hourly, Plan
from plancast.planner.model.messages import PlanRequest
from plancast.planner.model.spans import spans_of


def slow_energy(request: PlanRequest, plan: Plan) -> tuple[float, float]:
    """The terms ``energy_cost`` and ``carbon_kg`` of a plan."""
    now = request.snapshot.now_s
    spans = list(spans_of(request, plan))
    runs = {w for run in request.snapshot.running for w in run.workers}
    price = carbon = 0.0
    for worker in request.snapshot.workers:
        here = [
            (span.start_s, span.end_s, share)
            for span in spans
            for on, share in zip(span.workers, span.shares, strict=True)
            if on is worker
        ]
        if not here:
            continue
        last = max(end for _, end, _ in here)
        for second in range(now, last):
            busy = sum(share for start, end, share in here if start <= second < end)
            watts = worker.busy_w * busy + worker.idle_w * (second >= worker.free_at(now))
            price += watts / 3.6e6 * value(worker.price_per_kwh, second)
            carbon += watts / 3.6e6 * value(worker.carbon_kg_per_kwh, second)
        if worker.id not in runs:
            price += worker.boot_kwh * value(worker.price_per_kwh, worker.free_at(now))
            carbon += worker.boot_kwh * value(worker.carbon_kg_per_kwh, worker.free_at(now))
    return price, carbon


def value(rate: float | Hourly, second: int) -> float:
    """A rate in a second, found by going through the day."""
    if not isinstance(rate, Hourly):
        return rate
    of_day = (second + rate.utc_offset_s) % 86_400
    return [v for at, v in zip(rate.at_s, rate.values, strict=True) if at <= of_day][-1]

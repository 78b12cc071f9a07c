"""What a living master counts, in Prometheus' text format."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from plancast.pipelines.master.living import Living

LATEST = 1000
"""Starts over which promises are judged, and ends over which forecasts are."""


class MasterMetrics:
    """Counters and gauges of one master, in a registry of their own."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter(
            "plancast_requests", "HTTP requests answered", ["path", "status"], registry=own
        )
        self.tasks = Gauge("plancast_master_tasks", "Tasks by state", ["state"], registry=own)
        self.workers = Gauge("plancast_master_workers", "Workers by state", ["state"], registry=own)
        self.kept = Gauge("plancast_master_promises_kept", "Starts as promised", registry=own)
        self.broken = Gauge(
            "plancast_master_promises_broken", "Starts later than promised", registry=own
        )
        self.share = Gauge(
            "plancast_master_promises_kept_share",
            f"Share of the latest {LATEST} promised starts that were kept", registry=own,
        )  # fmt: skip
        self.error = Gauge(
            "plancast_master_start_error_seconds",
            f"Mean distance of the latest {LATEST} starts from their promises", registry=own,
        )  # fmt: skip
        self.forecast_error = Gauge(
            "plancast_master_forecast_error_log2",
            f"Median of |log2(run time / median forecast)| over the latest {LATEST} that completed",
            registry=own,
        )
        self.coverage = Gauge(
            "plancast_master_forecast_coverage",
            f"Share of the latest {LATEST} that completed within what plans reserve "
            "(policy: level)", registry=own,
        )  # fmt: skip
        self.plan_age = Gauge(
            "plancast_master_plan_age_seconds", "Since the plan in force was made", registry=own
        )
        self.plan_cost = Gauge("plancast_master_plan_cost", "Cost of the plan", registry=own)
        self.decision = Histogram(
            "plancast_master_decision_seconds", "From a change to a plan in force",
            buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10), registry=own,
        )  # fmt: skip
        self.model = Gauge(
            "plancast_master_model", "Refits, contests and promotions of the model since the start",
            ["of"], registry=own,
        )  # fmt: skip
        self._latest: deque[tuple[int, int]] = deque(maxlen=LATEST)
        self._ends: deque[tuple[float, bool]] = deque(maxlen=LATEST)

    def answered(self, path: str, status: int) -> None:
        """Count an answer by the path of its route."""
        self.requests.labels(path, str(status)).inc()

    def look(self, living: Living, status: dict[str, Any]) -> None:
        """Take over where all stands."""
        for state in ("submitted", "waiting", "held", "running"):
            self.tasks.labels(state).set(status[state])
        for outcome, number in status["ended"].items():
            self.tasks.labels(outcome).set(number)
        workers = status["workers"]
        taking = sum(w["open"] for w in workers)
        self.workers.labels("open").set(taking)
        self.workers.labels("closed").set(len(workers) - taking)
        self.kept.set(status["promises"]["kept"])
        self.broken.set(status["promises"]["broken"])
        self.plan_age.set(status["plan"]["age_s"])
        self.plan_cost.set(status["plan"]["cost"] or 0.0)
        for name in ("refits", "contests", "promotions"):
            self.model.labels(name).set(status["model"].get(name, 0))
        starts, living.starts = living.starts, []
        self._latest.extend(starts)
        if self._latest:
            kept = sum(true <= promised for promised, true in self._latest)
            self.share.set(kept / len(self._latest))
            apart = sum(abs(true - promised) for promised, true in self._latest)
            self.error.set(apart / len(self._latest))
        ends, living.ends = living.ends, []
        self._ends.extend(ends)
        if self._ends:
            self.forecast_error.set(median(abs(error) for error, _ in self._ends))
            self.coverage.set(sum(within for _, within in self._ends) / len(self._ends))
        decided, living.decided_s = living.decided_s, []
        for seconds in decided:
            self.decision.observe(seconds)

    def text(self) -> bytes:
        """All of it, as a scrape gets it."""
        return generate_latest(self.registry)

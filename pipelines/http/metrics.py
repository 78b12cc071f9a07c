"""What the service counts, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from plancast.planner.model.messages import PlanResponse

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "plancast_requests", "HTTP requests answered", ["path", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.plans = Counter(
            "plancast_plans", "Plan responses", ["solver", "status"], registry=self.registry
        )
        self.choices = Counter(
            "plancast_replans", "Answers to replans", ["choice"], registry=self.registry
        )
        self.plan_seconds = Histogram(
            "plancast_plan_seconds", "Seconds from request to plan response",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60), registry=self.registry,
        )  # fmt: skip
        self.events = Counter(
            "plancast_events", "Events folded into the snapshot", ["kind"], registry=self.registry
        )
        self.gap = Gauge("plancast_plan_gap", "Gap of the latest plan", registry=self.registry)
        self.waiting = Gauge(
            "plancast_requests_waiting", "Requests waiting for a planner", registry=self.registry
        )
        self.lost = Gauge(
            "plancast_planners_lost", "Planners replaced since the start", registry=self.registry
        )

    def answered(self, path: str, status: int) -> None:
        """Count an answer by the path of its route."""
        self.requests.labels(path, str(status)).inc()

    def planned(self, response: PlanResponse, seconds: float) -> None:
        """Count a response."""
        self.plans.labels(response.solver or "none", response.status.value).inc()
        self.plan_seconds.observe(seconds)
        if response.gap is not None:
            self.gap.set(response.gap)

    def text(self) -> bytes:
        """All of it, as a scrape gets it."""
        return generate_latest(self.registry)

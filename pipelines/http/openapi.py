"""The OpenAPI document: schemas of all bodies, who may ask, and an example of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from plancast.pipelines.http import bodies
from plancast.pipelines.http.extender import ExtenderArgs
from plancast.planner.model.domain import DurationEstimate, Snapshot, Task, Worker
from plancast.planner.model.messages import Budget, PlanRequest, to_json
from plancast.planner.planning.controller import Choice

MEANINGS = {
    401: "No bearer token, or a wrong one.",
    404: "There is no such task.",
    408: "The body did not arrive in time.",
    409: "It does not go with what is held or served.",
    413: "The body is too long, has too many values, or is nested too deep.",
    415: "The body is packed (Content-Encoding).",
    422: "The body or a parameter cannot be used; the sentence says what to change.",
    429: "As many requests wait as may; try again after Retry-After seconds.",
    503: "The planner was lost over the request, or the service is starting.",
}
TAGS = [
    {"name": "planning", "description": "A request in, a plan out; nothing is kept."},
    {"name": "cluster", "description": "The state of one cluster and the plan in force."},
    {"name": "forecasts", "description": "Run-time quantiles of the served model."},
    {"name": "kubernetes", "description": "A Kubernetes scheduler extender."},
    {"name": "operations", "description": "Health and counters."},
]
_TAG_OF = {
    "/v1/plan": "planning", "/v1/replan": "cluster", "/v1/events": "cluster",
    "/v1/state": "cluster", "/v1/explain": "cluster", "/v1/forecast": "forecasts",
    "/k8s/filter": "kubernetes", "/k8s/prioritize": "kubernetes",
}  # fmt: skip
CHOICES = {"type": "string", "enum": [choice.value for choice in Choice]}
SCHEME = "bearer"


def tag_of(path: str) -> str:
    """The tag of a path."""
    return _TAG_OF.get(path, "operations")


def _examples() -> dict[Any, Any]:
    """A body of each kind, which is answered with 200 (after the example of a plan was held)."""
    request = PlanRequest(
        "night-batch",
        Snapshot(1, 1_700_000_000, (Worker("w1", {"cpu": 4000, "mem": 16_384}),),
                 (Task("align-7", {"cpu": 2000, "mem": 4096}, release_s=1_700_000_000),)),
        {"align-7": {"*": DurationEstimate((0.5, 0.9), (600, 1500), "requested")}},
        budget=Budget(1.0),
    )  # fmt: skip
    pod = {"metadata": {"name": "align-7", "namespace": "default"}}
    return {
        PlanRequest: json.loads(to_json(request)),
        bodies.ReplanBody: {"budget": {"seconds": 1.0, "steps": None}, "now_s": 1_700_000_060},
        bodies.EventsBody: {
            "events": [{"kind": "task_started", "at_s": 1_700_000_060, "task": "align-7",
                        "workers": ["w1"]}],
        },
        bodies.ForecastBody: {"tasks": [{"id": "align-7", "user": "ann", "cpus": 2}]},
        ExtenderArgs: {"pod": pod, "nodenames": ["w1", "w2"]},
    }  # fmt: skip


def content_of(kind: type | None) -> dict[str, Any]:
    """JSON of a kind."""
    schema = {"$ref": bodies.SCHEMA_REF.format(model=kind.__name__)} if kind else None
    return {"content": {"application/json": {"schema": schema} if schema else {}}}


def body_of(kind: type, example: Any = None) -> dict[str, Any]:
    """The body that a path takes, with an example."""
    found = content_of(kind)
    shown = _examples()[kind] if example is None else example
    found["content"]["application/json"]["example"] = shown
    return {"required": True, **found}


def fault_of(status: int) -> dict[str, Any]:
    """The answer that tells a fault."""
    return {"description": MEANINGS[status], **content_of(bodies.Fault)}


def openapi_document(
    app: FastAPI, schemas: Callable[[], dict[str, Any]] = bodies.schemas
) -> dict[str, Any]:
    """The document of a service whose bodies have these schemas."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes,
            tags=app.openapi_tags,
        )  # fmt: skip
        parts = document.setdefault("components", {})
        parts.setdefault("schemas", {}).update(schemas())
        parts["securitySchemes"] = {
            SCHEME: {"type": "http", "scheme": "bearer",
                     "description": "Asked for where the service was started with a token."}
        }  # fmt: skip
        # Either with the token, or, on the loopback address, without.
        document["security"] = [{SCHEME: []}, {}]
        app.openapi_schema = document
    return app.openapi_schema

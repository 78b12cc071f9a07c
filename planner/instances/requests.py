"""PlanRequests as instances: what any user has planned, with or without best known costs."""

from __future__ import annotations

from pathlib import Path

from plancast.planner.instances.base import InstanceSet, instance_set
from plancast.planner.model.messages import PlanRequest, from_json


def request_set(path: str | Path) -> InstanceSet:
    """The ``.json`` files of an archive or a folder, or one of them, each a PlanRequest."""
    return instance_set(path, ("*.json",), parse_request)


def parse_request(name: str, text: str) -> PlanRequest:
    """The request that a file holds.

    Raises
    ------
    BadRequest
        With the field and what is wrong with it.
    """
    return from_json(PlanRequest, text, source=f"{name}.json")

"""The policy file: what the operator wants. See ``docs/files.md``."""

from __future__ import annotations

from dataclasses import fields

from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.inputs.foreign import nearest
from plancast.pipelines.inputs.models import PolicySection
from plancast.pipelines.inputs.tables import PathLike
from plancast.pipelines.inputs.yaml_files import read_yaml, validated, yaml_text
from plancast.planner.model.domain import TERMS, BadRequest, Policy, Prices


def read_policy(path: PathLike, scenarios: tuple[float, ...] = ()) -> Policy:
    """A policy from a YAML file; what it does not name keeps its default.

    Parameters
    ----------
    path : path-like
    scenarios : tuple of float
        The scenarios of a file that names none.

    Raises
    ------
    BadRequest
        One sentence with file and field; for an unknown price with the nearest known one.
    """
    section = validated(PolicySection, read_yaml(path) or {}, str(path))
    return policy_of(section, str(path), scenarios)


def policy_of(section: PolicySection, source: str, scenarios: tuple[float, ...] = ()) -> Policy:
    """A policy from what a file or a JSON body says; errors as of ``read_policy``."""
    for name in section.prices:
        if name not in TERMS:
            raise BadRequest(f"{source}: prices.{name}: is no price; {nearest(name, TERMS)}")
    try:
        named = {**section.model_dump(), "prices": Prices(**section.prices)}
        if section.scenarios is None:
            named["scenarios"] = scenarios
        return Policy(**named)
    except BadRequest as error:
        raise BadRequest(f"{source}: {error}") from None


def write_policy(policy: Policy, path: PathLike) -> None:
    """Write a policy so that ``read_policy`` reads the same; every price is named."""
    content = {one.name: getattr(policy, one.name) for one in fields(Policy)}
    content["scenarios"] = list(policy.scenarios)
    content["prices"] = {term: policy.prices.of(term) for term in TERMS}
    write_text_atomic(path, yaml_text(content))

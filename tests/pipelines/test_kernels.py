"""All kernels compiled at once: every family is in one half, and each is gone through."""

from __future__ import annotations

import pytest

from plancast.pipelines import kernels
from plancast.planner.planning import warm


def test_the_two_halves_are_all_families_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A family would be compiled twice by two processes, or by the first plan that needs it."""
    gone: list[str] = []
    monkeypatch.setattr(kernels, "warm", lambda names, report: gone.extend(names))
    more = {name: (lambda name=name: gone.append(name)) for name in kernels.MORE}
    monkeypatch.setattr(kernels, "MORE", more)
    halves = [kernels.warm_all(half, lambda text: None) for half in ("plans", "searches")]
    assert sorted(gone) == sorted(halves[0] + halves[1])
    assert sorted(gone) == sorted([*warm.FAMILIES, *kernels.MORE])
    assert kernels.warm_all("all", lambda text: None) == [*warm.FAMILIES, *kernels.MORE]

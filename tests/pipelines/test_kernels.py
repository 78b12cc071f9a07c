"""All kernels compiled at once: every family is in one half, and each is gone through."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from plancast.pipelines import kernels
from plancast.planner.planning import warm
from plancast.planner.planning.warm import FAMILIES, LISTS, MOVES, ORDERS


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


def test_kernels_are_compiled_beside_only_where_some_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A first run would compile after it has trained; every other would start a process in vain."""
    started: list[list[str]] = []
    calls: list[str] = []

    class Process:
        def __init__(self, words: list[str], **_: Any) -> None:
            started.append(words)

        def __enter__(self) -> Process:
            return self

        def __exit__(self, *_: object) -> None:
            calls.append("left")

        def wait(self) -> None:
            calls.append("waited")

        def terminate(self) -> None:
            calls.append("ended")

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(kernels, "compiled", lambda: list(FAMILIES))
    with kernels.beside() as ready:
        ready()
    assert started == []
    monkeypatch.setattr(kernels, "warm", lambda names, report: calls.extend(names))
    monkeypatch.setattr(kernels, "compiled", lambda: [LISTS])
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with kernels.beside() as ready:
        ready()
    assert [words[2:] for words in started] == [["plancast.pipelines.kernels", MOVES]]
    assert calls == [LISTS, ORDERS, "waited", "ended", "left"]

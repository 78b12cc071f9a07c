"""Commands run in this process, and files for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.cli import main
from plancast.pipelines.inputs.user_files import (
    write_batch,
)
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.messages import Budget


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> Any:
        """Its output as JSON; NaN is no JSON."""

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        code = exit_.value.code
        assert isinstance(code, int)
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """A folder with the files of a batch of twelve tasks."""
    request = generate_batch(12, generate_cluster(4, 1), 1)
    write_batch(replace(request, budget=Budget(None, 300)), tmp_path / "batch")
    return tmp_path / "batch"


def files_of(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())

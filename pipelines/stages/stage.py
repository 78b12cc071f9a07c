"""What the stages share: facts handed on as JSON, and faults in one sentence."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plancast.json_text import json_value
from plancast.pipelines.inputs.config import Config, load_config
from plancast.pipelines.inputs.files import read_text, write_text_atomic
from plancast.planner.model.domain import BadRequest

BAD_INPUT = 2
"""Exit code."""

# Of no path: its parts are what tells the user where.
_LONG_WORD = re.compile(r"([^\s/]{60})[^\s/]{20,}([^\s/]{20})")


def read_facts(path: Path) -> dict[str, Any]:
    """What an earlier stage found.

    Raises
    ------
    BadRequest
        Where its file is missing or damaged.
    """
    if not path.exists():
        raise BadRequest(f"{path}: there is no such file; run the earlier stages first")
    text = read_text(path)
    try:
        facts = json_value(text)
    except ValueError as error:
        raise BadRequest(f"{path}: is not JSON: {error}; run the earlier stages again") from None
    if not isinstance(facts, dict):
        raise BadRequest(f"{path}: holds no facts of a stage; run the earlier stages again")
    return facts


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Hand on what a stage found."""
    write_text_atomic(path, json.dumps(facts, indent=1, allow_nan=False))


def fault_of(error: Exception) -> str | None:
    """What the user has to repair, in one sentence; None for an error that is ours.

    Of what it cites the middle is left out where a word has more than 100 letters, and what a
    terminal would obey stands as Python writes it.
    """
    sentence = _sentence_of(error)
    if sentence is None:
        return None
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in sentence)
    return _LONG_WORD.sub(r"\1...\2", printable)


def _sentence_of(error: Exception) -> str | None:
    if isinstance(error, OSError):
        path = error.filename2 or error.filename
        return f"{path}: {error.strerror}; name another path" if path else None
    if isinstance(error, BadRequest):
        return str(error)
    if isinstance(error, OverflowError):
        return "a number is too large to plan with; times are seconds, cpu millicores, mem MiB"
    # Imported only now: the planner's commands do not load the predictor.
    from plancast.predictor import BadLog, BadModel

    return str(error) if isinstance(error, BadLog | BadModel) else None


def main(run: Callable[[Config], Any]) -> None:
    """Run one stage on ``params.yaml``, as DVC does."""
    try:
        run(load_config())
    except Exception as error:
        fault = fault_of(error)
        if fault is None:
            raise
        print(f"plancast: {fault}", file=sys.stderr)
        sys.exit(BAD_INPUT)

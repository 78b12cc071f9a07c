"""Sentences for people: one task is no ``1 tasks``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from plancast.wording import counted, log_in_words

ROOT = Path(__file__).resolve().parents[1]
NOUNS = re.compile(
    r"^ (?:[a-z]+ )?(?:jobs|tasks|workers|processors|users|batches|groups|refits|violations|plans"
    r"|actions|states|nodes|threads|challengers)\b(?! have| were| had)"
)
SENTENCES = ("pipelines/cli", "pipelines/charts", "pipelines/results.py", "predictor/metrics.py")
ALWAYS_MANY = {"task.shards", "shards"}
A_WHOLE = " of "  # "1 of 1 tasks" is how one says it


def uncounted(path: Path) -> list[str]:
    """Places where a number stands before a plural without having been counted."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for before, number, text in zip([None, *parts], parts, parts[1:], strict=False):
            if isinstance(number, ast.FormattedValue) and isinstance(text, ast.Constant):
                said = ast.unparse(number.value)
                whole = isinstance(before, ast.Constant) and str(before.value).endswith(A_WHOLE)
                if NOUNS.match(str(text.value)) and not whole and said not in ALWAYS_MANY:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {said}{text.value}")
    return found


def test_a_number_of_things_is_said_as_one_says_it() -> None:
    """``0 tasks, 1 task, 1,200 tasks``."""
    assert [counted(n, "task") for n in (0, 1, 1200)] == ["0 tasks", "1 task", "1,200 tasks"]
    assert counted(2, "batch", "batches") == "2 batches"


def test_a_guess_of_the_machine_is_worded_as_one() -> None:
    """A site of 5,000 processors would read that its machine has the 3 that its jobs asked for."""
    assert log_in_words(1, 0, 3.0, False) == (
        "1 job of unknown users on 3 processors or more (the log does not say how many)"
    )
    assert log_in_words(1200, 1, 64.0, True) == "1,200 jobs of 1 user on 64 processors"


def test_no_sentence_has_one_tasks() -> None:
    """A page of figures that cannot count would not be believed."""
    files = [
        p for s in SENTENCES for p in ((ROOT / s).rglob("*.py") if "." not in s else [ROOT / s])
    ]
    assert len(files) > 30
    assert [line for path in files for line in uncounted(path)] == []

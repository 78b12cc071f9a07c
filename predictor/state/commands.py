"""Working directories and command lines of jobs: what they have in common, and their digests.

Neither leaves a model in clear: a history keeps digests, the trees see sums of hashed words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from plancast.predictor.state.names import name_of
from plancast.predictor.texts import LONGEST_TEXT

DIGESTS: dict[str, tuple[str, ...]] = {
    "work_dir": ("dir_digest",),
    "submit_line": ("line_digest", "command_digest", "script_digest"),
}
"""Text column to what a history keeps of it: digests of the directory without numbers, dates and
hashes; of the line as it is, of the line without them, and of the name of its script."""

BUCKETS = 8
"""Columns of a feature matrix that the words of a text are summed into."""

_LAUNCHERS = frozenset({"sbatch", "srun", "salloc", "qsub", "bsub", "sh", "bash", "env", "time"})
_SCRIPT = re.compile(r".*\.(?:sh|bash|csh|py|pl|r|jl|m|slurm|sbatch|job|pbs|qsub|sub)", re.I)


def words_of(column: str, text: str) -> list[str]:
    """The components of a path, or the words of a command line, without what differs by run."""
    text = text[:LONGEST_TEXT]
    parts = text.split("/") if column == "work_dir" else re.split(r"[\s\"']+", text)
    return ["#" if word.isdigit() else name_of(word) for word in parts if word]


def script_of(line: str) -> str:
    """The name of the script or program that a command line runs; "" where it names none."""
    before, first = "", ""
    for word in re.split(r"[\s\"']+", line[:LONGEST_TEXT]):
        # The command of --wrap is what is run.
        value = word.removeprefix("--wrap=")
        base = value.rsplit("/", 1)[-1]
        if not base or value.startswith("-") or (not before and base in _LAUNCHERS):
            before = before if base in _LAUNCHERS else value
            continue
        if _SCRIPT.fullmatch(base):
            return name_of(base)
        # A word behind an option may be its value.
        behind = before.startswith("-") and "=" not in before and before != "--wrap"
        if not first and not behind:
            first = name_of(base)
        before = value
    return first


@lru_cache(maxsize=1 << 16)
def digests_of(column: str, text: str) -> tuple[str, ...]:
    """What a history keeps of a text, in the order of ``DIGESTS``; "" of an unknown one."""
    common = (" " if column != "work_dir" else "/").join(words_of(column, text))
    if column == "work_dir":
        return (digest_of(common),)
    return digest_of(text[:LONGEST_TEXT]), digest_of(common), digest_of(script_of(text))


def digest_of(text: str) -> str:
    """64 bits of a one-way hash, as hexadecimal digits; "" of ""."""
    return blake2b(text.encode(errors="replace"), digest_size=8).hexdigest() if text else ""


def hashed_words(column: str, text: str) -> NDArray[np.float32]:
    """Its words and pairs of neighbours, each hashed to a bucket and a sign, summed.

    Returns
    -------
    array of float32, shape (BUCKETS,)
        NaN where the text is unknown.
    """
    if not text:
        return np.full(BUCKETS, np.nan, dtype=np.float32)
    found = np.zeros(BUCKETS, dtype=np.float32)
    for gram in _grams(words_of(column, text)):
        bucket, sign = _place(gram)
        found[bucket] += sign
    return found


def _grams(words: list[str]) -> Iterator[str]:
    yield from words
    yield from (f"{one} {other}" for one, other in pairwise(words))


@lru_cache(maxsize=1 << 16)
def _place(gram: str) -> tuple[int, int]:
    number = int.from_bytes(blake2b(gram.encode(errors="replace"), digest_size=8).digest())
    return number // 2 % BUCKETS, 1 - 2 * (number % 2)

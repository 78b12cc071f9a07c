"""Every registered reader: the frame it returns, the damage it names, what it imports."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plancast.predictor.logs import READERS, read_log, write_jobs
from plancast.predictor.schema import (
    COLUMNS,
    OUTCOMES,
    RULES,
    BadLog,
    canonical,
    check_log,
    extra_columns,
)
from tests.conftest import ROOT, scaled

DATA = ROOT / "tests" / "data" / "logs"


@dataclass(frozen=True)
class Case:
    """A small log of a format, how to read it, and a number in it to put a text for."""

    file: str
    jobs: int
    number: bytes
    named: str
    columns: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What `read_log` needs besides the file."""
        return {"columns": DATA / self.columns} if self.columns else {}


CASES = {
    "swf": Case("small.swf", 7, b"  600   2048", "line 12, field time requested: 'never'"),
    "sacct": Case("sacct.txt", 7, b"3600|1-00:00:00", "line 2, field ElapsedRaw: 'never"),
    "pbs": Case(
        "small.pbs", 4, b"start=1709280060 exec_host=n1/0-7+n2/0-7 R", "line 3: field start: 'never"
    ),
    "wfformat": Case("small.wf.json", 4, b"61.5,", "line 34: this is not JSON"),
    "table": Case("small.csv", 3, b"60000", "row 1, column ms (run_s): 'never'", "small.yaml"),
}
EVERY = pytest.mark.parametrize("name", READERS)


def damaged(tmp_path: Path, name: str, content: bytes, suffix: str = "") -> Path:
    """A file of the case's name with this content."""
    path = tmp_path / (CASES[name].file + suffix)
    path.write_bytes(content)
    return path


def refusal(path: Path, name: str, *, strict: bool = False) -> str:
    """The one sentence with which the reader refuses a file."""
    with pytest.raises(BadLog) as caught:
        read_log(path, format=name, strict=strict, **CASES[name].options)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    # What is wrong and how to repair it; a library's own words would show as its class name.
    assert "Error" not in text
    return text


def test_every_reader_has_a_case() -> None:
    """A new reader would be registered and tested by nobody."""
    assert set(CASES) == set(READERS)


@EVERY
def test_returns_a_canonical_frame(name: str) -> None:
    """The rest of the package would meet a frame it does not know."""
    case = CASES[name]
    frame = read_log(DATA / case.file, format=name, **case.options)
    assert len(frame) == case.jobs
    assert list(frame.columns) == [*COLUMNS, *extra_columns(frame)]
    for column, facts in COLUMNS.items():
        assert frame[column].dtype == (object if facts.dtype == "str" else np.float64), column
    assert frame["outcome"].isin(OUTCOMES).all()
    assert frame["submit_s"].is_monotonic_increasing
    assert check_log(frame).errors == ()
    pd.testing.assert_frame_equal(canonical(frame), frame)


@EVERY
def test_says_where_the_frame_comes_from(name: str) -> None:
    """A model card could not name its log, or would name a folder of somebody's machine."""
    case = CASES[name]
    attrs = read_log(DATA / case.file, format=name, **case.options).attrs
    assert (attrs["format"], attrs["source"]) == (name, case.file)
    assert all(isinstance(v, str) for v in attrs["header"].values())
    assert all(n > 0 for n in attrs["dropped"].values())


@EVERY
def test_auto_finds_the_reader(name: str, tmp_path: Path) -> None:
    """``--format auto`` would read a log as something else."""
    path = DATA / CASES[name].file
    takers = [n for n, reader in READERS.items() if reader.sniff(path)]
    assert takers[0] == name
    unnamed = tmp_path / "log"
    unnamed.write_bytes(gzip.compress(path.read_bytes()))
    assert [n for n, reader in READERS.items() if reader.sniff(unnamed)] == [name]


@EVERY
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_truncated_gzip_is_refused(name: str, share: float, tmp_path: Path) -> None:
    """Half a log would be taken for the whole, after an interrupted download."""
    packed = gzip.compress((DATA / CASES[name].file).read_bytes())
    path = damaged(tmp_path, name, packed[: int(len(packed) * share)], ".gz")
    assert "is cut short or damaged (gzip): fetch it again" in refusal(path, name)


@EVERY
def test_a_gzip_with_a_flipped_bit_is_refused(name: str, tmp_path: Path) -> None:
    """A log with wrong numbers in it would be read without a word."""
    packed = bytearray(gzip.compress((DATA / CASES[name].file).read_bytes()))
    packed[len(packed) // 2] ^= 1
    assert "damaged (gzip)" in refusal(damaged(tmp_path, name, bytes(packed), ".gz"), name)


@EVERY
def test_a_text_in_a_number_column_is_named(name: str, tmp_path: Path) -> None:
    """The user could not find the cell to repair."""
    case = CASES[name]
    content = (DATA / case.file).read_bytes()
    assert case.number in content
    first = case.number.split()[0].split(b"|")[0].split(b"=")[-1]
    spoilt = content.replace(case.number, case.number.replace(first, b"never"), 1)
    assert case.named in refusal(damaged(tmp_path, name, spoilt), name, strict=True)


@EVERY
@pytest.mark.parametrize("content", [b"", b"\n \n", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    """An empty log would become an empty frame, and fail much later."""
    assert "is empty" in refusal(damaged(tmp_path, name, content), name)


def noise() -> bytes:
    """Bytes of no format, the same each time."""
    return np.random.default_rng(0).bytes(4096)


@EVERY
@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: noise(),
        lambda content: content[: len(content) // 2] + noise(),
        lambda content: content.decode().encode("utf-16"),
        lambda content: content.replace(b"1", b"\xe9"),
        lambda content: b"\x7fELF\x02\x01\x01\x00" + content,
    ],
    ids=["noise", "noise at the end", "utf-16", "latin-1", "binary start"],
)
def test_binary_content_is_refused(
    name: str, spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """A program or a picture would be an error of pandas, or be read as a log."""
    content = (DATA / CASES[name].file).read_bytes()
    refusal(damaged(tmp_path, name, spoil(content)), name)


def harm(content: bytes, rng: random.Random) -> bytes:
    """`content` with one to five bytes changed, cut out, put in or repeated, or cut short."""
    result = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(result))
        kind = rng.randrange(5)
        if kind == 0:
            result[at] = rng.randrange(256)
        elif kind == 1:
            del result[at : at + rng.randrange(1, 30)]
        elif kind == 2:
            result[at:at] = bytes(rng.choices(b'|,;\n\r "-1xN:.', k=3))
        elif kind == 3:
            result[at:at] = result[at // 2 : at // 2 + 40]
        elif kind == 4:
            del result[at:]
        result = result or bytearray(b" ")
    return bytes(result)


@EVERY
@pytest.mark.parametrize("form", ["as it is", "parquet"])
def test_harmed_logs_are_read_or_refused_in_one_sentence(
    name: str, form: str, tmp_path: Path
) -> None:
    """Some damage would surface as a traceback of pandas, Arrow or Python."""
    case, options, read_as = CASES[name], CASES[name].options, name
    source = DATA / case.file
    if form == "parquet":
        source = tmp_path / "jobs.parquet"
        write_jobs(read_log(DATA / case.file, format=name, **options), source)
        options, read_as = {}, "table"
    content = source.read_bytes()
    path = tmp_path / f"harmed{source.suffix}"
    rng = random.Random(name + form)
    noticed = 0
    for _ in range(scaled(20)):
        path.write_bytes(harm(content, rng))
        noticed += read_or_refused(path, read_as, options)
    assert noticed > scaled(5)


def read_or_refused(path: Path, name: str, options: dict[str, Any]) -> bool:
    """Whether a harmed log is refused or read with bad rows; both in the way that is promised."""
    try:
        frame = read_log(path, format=name, **options)
    except BadLog as bad:
        frame, sentence = None, str(bad)
    if frame is None:
        assert "\n" not in sentence
        assert "Error" not in sentence
        return True
    assert list(frame.columns)[: len(COLUMNS)] == list(COLUMNS)
    # As check_log would, without the time that its check of the columns takes.
    assert not [rule.kind for rule in RULES if rule.error and rule.find(frame).any()]
    found = [note for note in frame.attrs["notes"] if note.startswith(("left out", "repaired"))]
    if not found:
        return False
    # Whoever wants every row hears of the same rows as a refusal.
    with pytest.raises(BadLog):
        read_log(path, format=name, strict=True, **options)
    return True


@pytest.mark.slow
@pytest.mark.timeout(3600)
@EVERY
def test_twenty_thousand_harmed_logs(name: str, tmp_path: Path) -> None:
    """Damage that one log in thousands has would surface as a traceback."""
    case = CASES[name]
    content = (DATA / case.file).read_bytes()
    path = tmp_path / f"harmed{Path(case.file).suffix}"
    rng = random.Random(name)
    for _ in range(20_000 // len(READERS)):
        path.write_bytes(harm(content, rng))
        read_or_refused(path, name, case.options)


@EVERY
def test_a_missing_file_and_a_folder_are_refused(name: str, tmp_path: Path) -> None:
    """A misspelt path would be a traceback."""
    assert "no such file" in refusal(tmp_path / "absent.log", name)
    assert "cannot be read" in refusal(tmp_path, name)


@EVERY
def test_an_option_of_another_reader_is_refused(name: str) -> None:
    """A misspelt option would be ignored."""
    with pytest.raises(BadLog, match="takes no option 'colour'"):
        read_log(DATA / CASES[name].file, format=name, colour="red")


@EVERY
def test_every_frame_survives_its_file(name: str, tmp_path: Path) -> None:
    """What was ingested would not be what is trained on."""
    case = CASES[name]
    frame = read_log(DATA / case.file, format=name, **case.options)
    write_jobs(frame, tmp_path / "jobs.parquet")
    again = read_log(tmp_path / "jobs.parquet")
    pd.testing.assert_frame_equal(again, frame)
    assert again.attrs == frame.attrs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"just some words\n", "its format cannot be recognised"),
        (b"", "is empty"),
        (noise(), "this is not UTF-8 text"),
    ],
)
def test_auto_refuses_what_nobody_knows(content: bytes, message: str, tmp_path: Path) -> None:
    """An unknown file would be handed to whichever reader comes first."""
    path = tmp_path / "thing"
    path.write_bytes(content)
    with pytest.raises(BadLog, match=message):
        read_log(path)


def test_an_unknown_format_is_refused() -> None:
    """A misspelt format would be a KeyError."""
    with pytest.raises(
        BadLog, match="format 'swff' is unknown; it is auto, swf, sacct, pbs, wfformat, table"
    ):
        read_log(DATA / "small.swf", format="swff")


def test_reading_logs_imports_no_learner() -> None:
    """The command line would take seconds to start for what needs no model."""
    heavy = ["lightgbm", "sklearn", "pandera", "numba"]
    code = f"import sys, plancast.predictor.logs; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

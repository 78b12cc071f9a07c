"""What an instance is, and a set of them in an archive, a folder or a file."""

from __future__ import annotations

import csv
import io
import lzma
import math
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from plancast.json_text import json_value
from plancast.planner.model.domain import BadRequest, Policy, Prices
from plancast.planner.model.messages import PlanRequest

MAKESPAN_SECONDS = Policy(Prices(makespan_h=3600.0, late_h=0.0, misses=0.0, wait_h=0.0))
"""The cost of a plan is its makespan in seconds."""
ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tgz", ".tar.bz2")
TABLES = ("optimum.csv", "best_known.csv", "bks.csv", "bks.json")
"""Tables of best known costs, beside ``*best_known.json``."""


@dataclass(frozen=True)
class Instance:
    """A request, and what is known of its cheapest plans.

    Parameters
    ----------
    name : str
    request : PlanRequest
    best_known, lower_bound : float, optional
        As published, in the unit of the request's cost; None where nothing is known.
    reference_10s : float, optional
        Cost that another search reached in 10 s, where the source says.
    """

    name: str
    request: PlanRequest
    best_known: float | None = None
    lower_bound: float | None = None
    reference_10s: float | None = None

    @property
    def is_solved(self) -> bool:
        """Whether the best known cost is proved to be the least."""
        return self.best_known is not None and self.best_known == self.lower_bound


Known = tuple[float | None, float | None]
"""Best known cost, lower bound."""


@dataclass(frozen=True)
class InstanceSet:
    """Instances by name; each is read when it is asked for.

    Parameters
    ----------
    source : str
        Where they come from, for messages.
    texts : mapping of str to str
        Name to what the instance's file says.
    known : mapping of str to (float or None, float or None)
        Name to best known cost and lower bound.
    parse : callable
        (name, text) to the request; ``BadRequest`` for a text that is none.
    patterns : tuple of str
        What names of instance files look like in a folder.
    """

    source: str
    texts: Mapping[str, str]
    known: Mapping[str, Known]
    parse: Callable[[str, str], PlanRequest]
    patterns: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(sorted(self.texts))

    def read(self, name: str) -> Instance:
        """One instance.

        Raises
        ------
        BadRequest
            With the source, the instance and what is wrong with it.
        """
        try:
            request = self.parse(name, self.texts[name])
        except BadRequest as error:
            raise BadRequest(f"{self.source}, {name}: {error}") from None
        best, bound = self.known.get(name, (None, None))
        return Instance(name, request, best, bound)

    def takes(self, file: Path) -> bool:
        """Whether a file at this path is, or would be, read as an instance or a table of costs."""
        source = Path(self.source)
        if _is_table(file.name):
            is_beside = file.resolve().parent == source.resolve().parent
            return in_folder(source, ("*",), file) or (not source.is_dir() and is_beside)
        return in_folder(source, self.patterns, file)


def in_folder(path: Path, patterns: Iterable[str], file: Path) -> bool:
    """Whether a file lies in a folder and is called like one of the patterns."""
    inside = path.is_dir() and file.resolve().is_relative_to(path.resolve())
    return inside and any(fnmatch(file.name, p) for p in patterns)


def instance_set(
    path: str | Path, patterns: Iterable[str], parse: Callable[[str, str], PlanRequest]
) -> InstanceSet:
    """All instances of an archive, a folder or a file.

    Parameters
    ----------
    path : path
        A tar or zip archive, a folder (looked through at any depth), or one file.
    patterns : iterable of str
        What names of instance files look like, as in ``*.sm``.
    parse : callable
        As in ``InstanceSet``.

    Notes
    -----
    An instance is called as its file without the suffix; where the tables of best known
    costs call it by file and folder (``abz5_edata``), or two folders hold a file of the
    same name, by both; where that is another's name too, as its file with folders and suffix.
    Such tables (``TABLES``) are looked for among the files, and beside an archive or a file.
    """
    path, patterns = Path(path), tuple(patterns)

    def is_wanted(name: str) -> bool:
        return any(fnmatch(PurePosixPath(name).name, p) for p in patterns)

    files = dict(_files(path, lambda name: _is_table(name) or is_wanted(name)))
    beside = {} if path.is_dir() else dict(_tables_beside(path))
    tables = {**beside, **{name: text for name, text in files.items() if _is_table(name)}}
    known: dict[str, Known] = {}
    for table, text in tables.items():
        folder = path.parent if table in beside else path
        known.update(_known(str(folder / table), PurePosixPath(table).name, text))
    wanted = [name for name in files if not _is_table(name)]
    if not wanted:
        raise BadRequest(f"{path}: holds no instance; its files should be {' or '.join(patterns)}")
    stems = [PurePosixPath(name).stem for name in wanted]
    texts: dict[str, str] = {}
    for name, stem in zip(wanted, stems, strict=True):
        with_folder = "_".join(filter(None, (stem, PurePosixPath(name).parent.name)))
        both = with_folder in known or (stem not in known and stems.count(stem) > 1)
        called = with_folder if both else stem
        texts[name if called in texts else called] = files[name]
    return InstanceSet(str(path), texts, known, parse, patterns)


def _is_table(name: str) -> bool:
    base = PurePosixPath(name).name
    return base in TABLES or base.endswith("best_known.json")


def _files(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """(name, text) of the files of an archive or a folder, or of the file itself."""
    try:
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if wanted(p.name) and p.is_file()):
                yield file.relative_to(path).as_posix(), _text(file.read_bytes())
        elif path.name.lower().endswith(ARCHIVES):
            with tarfile.open(path) as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.isfile() else None
                    if stream is not None and wanted(member.name):
                        yield member.name, _text(stream.read())
        elif path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as packed:
                for name in packed.namelist():
                    if wanted(name) and not name.endswith("/"):
                        yield name, _text(packed.read(name))
        elif wanted(path.name):
            yield path.name, _text(path.read_bytes())
    except _DAMAGES:
        raise BadRequest(f"{path}: is no archive, or a damaged one; fetch it again") from None
    except OSError as error:
        raise BadRequest(f"{path}: cannot be read: {error.strerror or error}") from None


_DAMAGES = (
    EOFError, lzma.LZMAError, zlib.error, tarfile.TarError, zipfile.BadZipFile, RuntimeError,
)  # fmt: skip
"""Of archives; the last is of zip files with a password, or packed in a way unknown to Python."""


def _text(content: bytes) -> str:
    """Text of which only numbers and names count: what is no UTF-8 in a comment is left."""
    return content.decode("utf-8-sig", errors="replace")


def _tables_beside(path: Path) -> Iterator[tuple[str, str]]:
    """Tables in the folder of an archive or file: of its own name (``jsp_...``) or of no name."""
    named = ("best", *TABLES, path.name.split(".")[0].split("_")[0])
    for file in sorted(path.parent.iterdir()) if path.parent.is_dir() else ():
        if _is_table(file.name) and file.name.split("_")[0] in named and file.is_file():
            yield file.name, _text(file.read_bytes())


def _known(source: str, table: str, text: str) -> dict[str, Known]:
    """What a table says; its rows are counted from 1, with the heading of a CSV file."""
    of: Callable[[Any], tuple[str, Known]]
    try:
        if table.endswith(".json"):
            of, rows = _of_entry, json_value(text)
        else:
            of = {"bks.csv": _of_bks, "optimum.csv": _of_optimum}.get(table, _of_row)
            rows = list(csv.reader(io.StringIO(text)))
    except (ValueError, csv.Error) as error:
        raise BadRequest(f"{source}: cannot be read as best known costs: {error}") from None
    if not isinstance(rows, list):
        raise BadRequest(f"{source}: is no list; write an entry an instance")
    known: dict[str, Known] = {}
    for number, row in enumerate(rows, 1):
        if not row or (number == 1 and of is not _of_entry):
            continue
        try:
            name, costs = of(row)
        except (ValueError, KeyError, TypeError, IndexError):
            raise BadRequest(
                f"{source}, row {number}: {row!r} tells no best known cost; "
                "write an instance and a number a row"
            ) from None
        known[name] = costs
    return known


def _of_entry(entry: Any) -> tuple[str, Known]:
    return str(entry["instance"]), (_cost(entry["upper_bound"]), _cost(entry["lower_bound"]))


def _of_bks(row: Sequence[str]) -> tuple[str, Known]:
    return PurePosixPath(row[2]).stem, (_cost(row[3]), None)


def _of_row(row: Sequence[str]) -> tuple[str, Known]:
    return PurePosixPath(row[0]).stem, (_cost(row[1]), None)


def _of_optimum(row: Sequence[str]) -> tuple[str, Known]:
    """``43`` is a proven optimum; ``71..73`` is open between the two, ``..73`` without a bound."""
    low, _, high = row[1].partition("..")
    return PurePosixPath(row[0]).stem, (_cost(high or low), _cost(low) if low else None)


def _cost(text: Any) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value

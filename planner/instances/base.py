"""What an instance is, and a set of them in an archive, a folder or a file."""

from __future__ import annotations

import csv
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from plancast.json_text import json_value
from plancast.planner.model.domain import BadRequest, Policy, Prices
from plancast.planner.model.messages import PlanRequest

MAKESPAN_SECONDS = Policy(Prices(makespan_h=3600.0, late_h=0.0, misses=0.0, wait_h=0.0))
"""The cost of a plan is its makespan in seconds."""
ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tgz")
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
    """

    source: str
    texts: Mapping[str, str]
    known: Mapping[str, Known]
    parse: Callable[[str, str], PlanRequest]

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


def instance_set(
    path: str | Path, patterns: Iterable[str], parse: Callable[[str, str], PlanRequest]
) -> InstanceSet:
    """All instances of an archive, a folder or a file.

    Parameters
    ----------
    path : path
        A tar archive, a folder (looked through at any depth), or one file.
    patterns : iterable of str
        What names of instance files look like, as in ``*.sm``.
    parse : callable
        As in ``InstanceSet``.

    Notes
    -----
    An instance is called as its file without the suffix; where the tables of best known
    costs call it by file and folder (``abz5_edata``), or two folders hold a file of the
    same name, by both. Such tables (``TABLES``) are looked for among the files, and beside an
    archive or a file.
    """
    path = Path(path)
    files = dict(_files(path))
    beside = {} if path.is_dir() else dict(_tables_beside(path))
    tables = {**beside, **{name: text for name, text in files.items() if _is_table(name)}}
    known: dict[str, Known] = {}
    for table, text in tables.items():
        known.update(_known(f"{path}, {table}", PurePosixPath(table).name, text))
    wanted = [
        name
        for name in files
        if not _is_table(name) and any(fnmatch(PurePosixPath(name).name, p) for p in patterns)
    ]
    if not wanted:
        raise BadRequest(f"{path}: holds no instance; its files should be {' or '.join(patterns)}")
    stems = [PurePosixPath(name).stem for name in wanted]
    texts = {}
    for name, stem in zip(wanted, stems, strict=True):
        with_folder = f"{stem}_{PurePosixPath(name).parent.name}"
        both = with_folder in known or (stem not in known and stems.count(stem) > 1)
        texts[with_folder if both else stem] = files[name]
    return InstanceSet(str(path), texts, known, parse)


def _is_table(name: str) -> bool:
    base = PurePosixPath(name).name
    return base in TABLES or base.endswith("best_known.json")


def _files(path: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of the files of an archive or a folder, or of the file itself."""
    try:
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                yield file.relative_to(path).as_posix(), file.read_text("utf-8", errors="replace")
        elif path.name.endswith(ARCHIVES):
            with tarfile.open(path) as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.isfile() else None
                    if stream is not None:
                        yield member.name, stream.read().decode("utf-8", errors="replace")
        else:
            yield path.name, path.read_text("utf-8", errors="replace")
    except (EOFError, lzma.LZMAError, zlib.error, tarfile.TarError):
        raise BadRequest(f"{path}: is no tar archive, or a damaged one; fetch it again") from None
    except OSError as error:
        raise BadRequest(f"{path}: cannot be read: {error.strerror or error}") from None


def _tables_beside(path: Path) -> Iterator[tuple[str, str]]:
    """Tables in the folder of an archive or file: of its own name (``jsp_...``) or of no name."""
    named = ("best", *TABLES, path.name.split(".")[0].split("_")[0])
    for file in sorted(path.parent.iterdir()) if path.parent.is_dir() else ():
        if _is_table(file.name) and file.name.split("_")[0] in named:
            yield file.name, file.read_text("utf-8")


def _known(source: str, table: str, text: str) -> dict[str, Known]:
    try:
        if table.endswith(".json"):
            return {
                row["instance"]: (float(row["upper_bound"]), float(row["lower_bound"]))
                for row in json_value(text)
            }
        rows = [row for row in list(csv.reader(io.StringIO(text)))[1:] if row]
        if table == "bks.csv":
            return {PurePosixPath(row[2]).stem: _best(row[3]) for row in rows}
        of = _optimum if table == "optimum.csv" else _best
        return {PurePosixPath(row[0]).stem: of(row[1]) for row in rows}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadRequest(
            f"{source}: is no table of best known costs ({type(error).__name__}: {error}); "
            "write an instance and a number a row"
        ) from None


def _optimum(text: str) -> Known:
    """``43`` is a proven optimum; ``71..73`` is open between the two, ``..73`` without a bound."""
    low, _, high = text.partition("..")
    return float(high or low), float(low) if low else None


def _best(text: str) -> Known:
    return float(text), None

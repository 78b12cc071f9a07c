"""The cells of what sacct prints: bars, any delimiter, or columns of fixed width.

Free texts (job names, comments, command lines) may hold the delimiter and line breaks, and
sacct quotes neither. A record is therefore put together and taken apart by what its typed
fields can be: an alignment that only one reading fits is taken, any other row is left out.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from plancast.predictor.logs.rows import Rows
from plancast.predictor.schema import BadLog

_TIME = r"\d{4}-\d\d-\d\d[T ]\d[^|]*|\d+(?:\.\d+)?|Unknown|None|N/A|"
_DURATION = r"(?:\d+-)?\d+(?::\d+){0,2}(?:\.\d+)?|UNLIMITED|Partition_Limit|INVALID|Unknown|None|"
_COUNT = r"\d+(?:\.\d+)?[KMG]?|"
_SIZE = r"\d+(?:\.\d+)?[KMGTPE]?[nc]?|\?|"
_TRES = r"(?:[\w/:.\-]+=[^,\s]*(?:,[\w/:.\-]+=[^,\s]*)*)?"
_ID = r"\d+(?:_(?:\d+|\[[^\]]*\]))?(?:\+\d+)?(?:\.[\w+]+)?"
# No name of a user, account, group, partition, QOS or cluster has a space or a slash.
_WORD = r"[^\s|/]*"

TYPES: dict[str, str] = {
    **dict.fromkeys(("JobID", "JobIDRaw"), _ID),
    **dict.fromkeys(("Submit", "Start", "End", "Eligible"), _TIME),
    **dict.fromkeys(
        ("Elapsed", "Timelimit", "TotalCPU", "SystemCPU", "UserCPU", "CPUTime", "Suspended"),
        _DURATION,
    ),
    **dict.fromkeys(("Planned", "Reserved", "ResvCPU", "PlannedCPU"), _DURATION),
    **dict.fromkeys(("ElapsedRaw", "TimelimitRaw", "CPUTimeRAW", "ResvCPURAW"), _DURATION),
    **dict.fromkeys(("ReqCPUS", "AllocCPUS", "NCPUS", "NNodes", "ReqNodes", "AllocNodes"), _COUNT),
    **dict.fromkeys(("NTasks", "Priority", "AssocID", "UID", "GID", "QOSRAW", "DBIndex"), _COUNT),
    **dict.fromkeys(("ReqMem", "MaxRSS", "AveRSS", "MaxVMSize", "AveVMSize"), _SIZE),
    **dict.fromkeys(("ReqTRES", "AllocTRES", "TRESUsageInTot", "TRESUsageInMax"), _TRES),
    "State": r"[A-Za-z_]+(?: by \S+)?\+?",
    **dict.fromkeys(("ExitCode", "DerivedExitCode"), r"\d+:\d+|"),
    **dict.fromkeys(("User", "Group", "Account", "Partition", "QOS", "Cluster"), _WORD),
    "NodeList": r"None assigned|[^\s|]*",
}
"""What the cells of sacct's typed fields look like; any other field is free text."""

FREE: dict[str, str] = {"WorkDir": r"(?:/.*)?"}
"""What a free text looks like as a whole, where that is known."""

_COMMAND = re.compile(r"(?:[^\s|]*/)?(?:sbatch|srun|salloc)\b.*|", re.DOTALL)
_NAMES = ("User", "Account", "Group", "Partition", "QOS", "Cluster")
_SPELLING = {name.lower(): name for name in [*TYPES, *FREE, "JobName", "SubmitLine", "Comment"]}
_DELIMITERS = ("|", ";", "\t", ",", "^", "~", "#", "\x1f")
_ABOVE = 6
"""So many lines are looked through for a header."""
_ALIGNMENTS = 200
"""More readings of one row than this are not distinguished."""


@dataclass
class Records:
    """The cells of a log: one row a record.

    Parameters
    ----------
    names : list of str
        Fields in sacct's spelling.
    cells : list of list of str
    places : list of str
        ``line 12``, where each record begins.
    """

    names: list[str]
    cells: list[list[str]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


def field_names(fields: str | Sequence[str]) -> list[str]:
    """Fields in sacct's spelling, from a list or from what ``sacct --format`` takes.

    Parameters
    ----------
    fields : str or sequence of str
        ``JobID,User,JobName%30`` or their list; a name that sacct does not know is left as it
        is, and its column unread.
    """
    given = re.split(r"[,|\s]+", fields.strip()) if isinstance(fields, str) else list(fields)
    names = [re.sub(r"%-?\d+$", "", name.strip()) for name in given]
    return [_SPELLING.get(name.lower(), name) for name in names]


def is_header(cells: Sequence[str]) -> bool:
    """Whether the cells are names of fields, a job's id among them."""
    return bool({"jobid", "jobidraw"} & {cell.strip().lower() for cell in cells})


def delimiter_of(line: str) -> str | None:
    """The delimiter of a header line, None where it is no header of delimited cells."""
    found = {d: line.split(d) for d in _DELIMITERS if d in line}
    headers = {d: len(cells) for d, cells in found.items() if is_header(cells)}
    return max(headers, key=lambda d: headers[d]) if headers else None


def looks_like_header(line: str) -> bool:
    """Whether a line names fields as only sacct does: a CSV may have a column JobID, too."""
    delimiter = delimiter_of(line)
    if delimiter is None or delimiter == "|":
        return delimiter is not None
    names = {cell.strip().lower() for cell in line.split(delimiter)}
    others = names & {"submit", "start", "end", "elapsed", "elapsedraw", "timelimit", "state"}
    return len(others) > 1 and all(re.fullmatch(r"\w*(%\d+)?", name) for name in names)


def is_fixed_width(lines: Sequence[str]) -> bool:
    """Whether a header stands above a line of dashes, as sacct prints by default."""
    return (
        len(lines) > 1
        and is_header(lines[0].split())
        and bool(re.fullmatch(r"\s*-+(?:\s+-+)*\s*", lines[1]))
    )


def records(
    text: str,
    rows: Rows,
    *,
    fields: Sequence[str] | None,
    default: Sequence[str],
    delimiter: str | None = None,
) -> Records:
    """Take a log apart.

    Parameters
    ----------
    text : str
    rows : Rows
        Counts the rows that are left out.
    fields : sequence of str, optional
        Names of the fields of a log without a header.
    default : sequence of str
        The fields of a log without header and `fields`.
    delimiter : str, optional
        Read from the header by default.

    Raises
    ------
    BadLog
        Where neither a header nor `fields` say what the cells are.
    """
    lines = enumerate(text.split("\n"), start=1)
    # A carriage return within a line is part of a name.
    numbered = [(k, line.rstrip("\r").replace("\r", " ")) for k, line in lines]
    while numbered and not numbered[0][1].strip():
        numbered.pop(0)
    above = _lines_above(numbered, delimiter)
    if above:
        rows.note(f"lines above the header are skipped: {above}")
        numbered = numbered[above:]
    first = numbered[0][1]
    if delimiter is None and is_fixed_width([line for _, line in numbered[:2]]):
        return _fixed(numbered, rows)
    mark = _mark(delimiter, first, len(fields or default))
    if is_header(first.split(mark)):
        table = _Delimited(field_names(first.split(mark)), mark, "its header", rows)
        numbered = numbered[1:]
        if table.is_quoted(numbered):
            return table.unquoted(numbered)
    else:
        names = _unheaded(first.split(mark), fields, default, rows.name)
        table = _Delimited(names, mark, "the list of fields", rows)
    if not any(line.strip() for _, line in numbered):
        raise BadLog(f"{rows.name} has a header and no job; give a log with finished jobs")
    return table.read(numbered)


def _lines_above(numbered: Sequence[tuple[int, str]], delimiter: str | None) -> int:
    """How many lines stand above the header, such as a prompt or a warning; 0 without one."""
    for k in range(min(_ABOVE, len(numbered))):
        lines = [line for _, line in numbered[k : k + 2]]
        mark = delimiter or delimiter_of(lines[0])
        if is_fixed_width(lines) or (mark and is_header(lines[0].split(mark))):
            return k
    return 0


def _mark(delimiter: str | None, first: str, wanted: int) -> str:
    """The delimiter that was named, or that the first line tells."""
    named = {r"\t": "\t", "tab": "\t"}.get(delimiter or "", delimiter) or delimiter_of(first)
    if named is not None:
        return named
    return next((d for d in _DELIMITERS if first.count(d) + 1 - wanted in (0, 1)), "|")


def _unheaded(
    cells: Sequence[str], fields: Sequence[str] | None, default: Sequence[str], name: str
) -> list[str]:
    """The fields of a log without a header line."""
    names = list(fields or default)
    # --parsable ends each line with a bar, --parsable2 does not.
    if len(cells) == len(names) + 1 and cells[-1] == "":
        names.append("")
    if fields is None and len(cells) < len(names):
        raise BadLog(
            f"{name} has no header line and {len(cells)} cells a line: name its fields "
            "with --fields JobID,Submit,... (fields= in Python)"
        )
    return names


def _whole_quotes(cells: list[str]) -> bool:
    """Whether each cell with a quotation mark is quoted as CSV's are."""
    return all(re.fullmatch(r'[^"]*|"(?:[^"]|"")*"', cell) for cell in cells)


class _Delimited:
    """Records of cells with a delimiter between them."""

    def __init__(self, names: list[str], mark: str, where: str, rows: Rows) -> None:
        self.names, self.mark, self.where, self.rows = names, mark, where, rows
        self.width = len(names)
        # The empty name is the end of --parsable's lines.
        types = TYPES | {"": ""}
        self.types = [
            re.compile(types[name], re.IGNORECASE) if name in types else None for name in names
        ]
        free = [k for k, kind in enumerate(self.types) if kind is None]
        self.prefix = free[0] if free else self.width
        ids = [k for k, name in enumerate(names) if name in ("JobID", "JobIDRaw")]
        self.id = ids[0] if ids and ids[0] < self.prefix else -1
        self.commands = True
        self.known: dict[str, set[str]] = {}

    def is_quoted(self, numbered: Sequence[tuple[int, str]]) -> bool:
        """Whether a program wrote the lines that quotes cells, as CSV does and sacct never.

        A name in quotes alone does not tell: more lines must be records that way than as they are.
        """
        if self.mark == "|" or len(self.mark) > 1:
            return False
        cell = re.compile(rf'(?:^|{re.escape(self.mark)})"[^"]')
        if not any(cell.search(line) for _, line in numbered):
            return False
        plain = sum(line.count(self.mark) + 1 == self.width for _, line in numbered)
        try:
            found = [row for _, row in self._csv_rows(numbered) if len(row) == self.width]
        except csv.Error:
            return False
        return len(found) > plain or (
            len(found) == plain
            and all(_whole_quotes(line.split(self.mark)) for _, line in numbered)
        )

    def _csv_rows(self, numbered: Sequence[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader((line + "\n" for _, line in numbered), delimiter=self.mark)
        begun = 0
        for row in reader:
            if row:
                yield numbered[begun][0], row
            begun = reader.line_num

    def unquoted(self, numbered: Sequence[tuple[int, str]]) -> Records:
        """The records of a program that quotes cells."""
        rows = dict(self._csv_rows(numbered))
        other = {k: row for k, row in rows.items() if len(row) != self.width}
        self._leave_out("another number of cells", other)
        whole = {k: row for k, row in rows.items() if k not in other}
        return Records(self.names, list(whole.values()), [f"line {k}" for k in whole])

    def read(self, numbered: Sequence[tuple[int, str]]) -> Records:
        """The records of numbered lines."""
        if self.id < 0:
            return self._line_by_line(numbered)
        texts = dict(self._joined(numbered))
        cells = {number: text.split(self.mark) for number, text in texts.items()}
        short = {number: row for number, row in cells.items() if len(row) < self.width}
        tails = _tails(texts, short)
        # A free text with a line break and bars can hold whole records of its own.
        after = {n for before, n in pairwise(cells) if before in short and n not in short}
        cells = {number: row for number, row in cells.items() if number not in after}
        whole = {
            number: row
            for number, row in cells.items()
            if len(row) == self.width and number not in tails
        }
        self._learn(list(whole.values()))
        odd = {
            number: [row, *self._longer(tails.get(number, []))]
            for number, row in cells.items()
            if number not in short and number not in whole
        }
        self._leave_out(f"fewer cells than {self.where} has", short)
        self.rows.drop(
            "after a line with too few cells, whose rest they may be",
            [f"line {k}" for k in sorted(after)],
        )
        whole |= self._aligned(odd)
        order = sorted(whole)
        return Records(self.names, [whole[k] for k in order], [f"line {k}" for k in order])

    def _line_by_line(self, numbered: Sequence[tuple[int, str]]) -> Records:
        """Records of a log whose ids stand behind a free text.

        Whose a broken line is cannot be known then: it and its neighbours are left out.
        """
        cells = [(number, line.split(self.mark)) for number, line in numbered]
        while cells and cells[-1][1] == [""]:
            cells.pop()
        broken = {k for k, (_, row) in enumerate(cells) if len(row) < self.width}
        beside = {k + step for k in broken for step in (-1, 0, 1)}
        rows = {number: row for k, (number, row) in enumerate(cells) if k not in beside}
        lost = {number: row for k, (number, row) in enumerate(cells) if k in beside}
        self._leave_out("a broken line, or beside one", lost)
        whole = {number: row for number, row in rows.items() if len(row) == self.width}
        self._learn(list(whole.values()))
        odd = {number: [row] for number, row in rows.items() if number not in whole}
        whole |= self._aligned(odd)
        order = sorted(whole)
        return Records(self.names, [whole[k] for k in order], [f"line {k}" for k in order])

    def _longer(self, parts: list[str]) -> list[list[str]]:
        """The cells of a record with one, two, ... of what follows it."""
        return ["\n".join(parts[:k]).split(self.mark) for k in range(2, len(parts) + 1)]

    def _leave_out(self, reason: str, lines: dict[int, list[str]]) -> None:
        if lines:
            number, cells = next(iter(lines.items()))
            fault = f"line {number}: {len(cells)} cells where {self.where} has {self.width}"
            self.rows.drop(reason, [f"line {k}" for k in lines], fault)

    def _joined(self, numbered: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """Records as (line number, text), lines that a line break cut apart joined again."""
        begun, above = 0, ""
        for number, line in numbered:
            if above and (not line.strip() or not self._begins(line, above)):
                above += "\n" + line
                continue
            if above:
                yield begun, above.rstrip("\n")
                above = ""
            if line.strip():
                begun, above = number, line
        if above:
            yield begun, above.rstrip("\n")

    def _begins(self, line: str, above: str) -> bool:
        """Whether a line begins a record, below the lines `above` of one."""
        cells, before = line.split(self.mark), above.split(self.mark)
        complete, last = len(before) >= self.width, self.types[-1]
        if len(cells) >= self.width and complete:
            return True
        if len(cells) > self.id and re.fullmatch(_ID, cells[self.id].strip()):
            if len(cells) >= self.width:
                return True
            head = zip(self.types[: self.prefix], cells, strict=False)
            if len(cells) > 1 and all(t is None or t.fullmatch(c.strip()) for t, c in head):
                return True
        # No break can follow a last cell that is no free text: the line is none of sacct's.
        return complete and last is not None and last.fullmatch(before[-1].strip()) is not None

    def _learn(self, clean: Sequence[Sequence[str]]) -> None:
        """What the rows with the right number of cells say of the fields."""
        place = {name: k for k, name in enumerate(self.names)}
        for name in _NAMES:
            if name in place:
                self.known[name] = {row[place[name]].strip() for row in clean}
        if "SubmitLine" in place:
            self.commands = all(_COMMAND.fullmatch(row[place["SubmitLine"]]) for row in clean)

    def _aligned(self, odd: dict[int, list[list[str]]]) -> dict[int, list[str]]:
        """Rows that can be read in one way only, each given as all that it may consist of."""
        result: dict[int, list[str]] = {}
        doubtful: dict[int, list[str]] = {}
        wrong: dict[int, list[str]] = {}
        for number, forms in odd.items():
            found = [row for cells in forms for row in self._readings(cells)]
            row = self._told(found)
            if row is not None:
                result[number] = row
            else:
                (doubtful if found else wrong)[number] = forms[0]
        self._leave_out(f"other cells than {self.where} has", wrong)
        self._leave_out("cells that cannot be assigned to columns", doubtful)
        return result

    def _readings(self, cells: Sequence[str]) -> list[list[str]]:
        """Every way to give the cells to the fields, in order, that their types allow."""
        surplus = len(cells) - self.width
        found: list[list[str]] = []

        def walk(k: int, at: int, left: int, row: list[str]) -> None:
            if len(found) > _ALIGNMENTS:
                return
            if k == self.width:
                if left == 0:
                    found.append(row)
                return
            kind = self.types[k]
            if kind is not None:
                if kind.fullmatch(cells[at].strip()):
                    walk(k + 1, at + 1, left, [*row, cells[at]])
                return
            for more in range(left + 1):
                text = self.mark.join(cells[at : at + more + 1])
                if self._may_be(self.names[k], text):
                    walk(k + 1, at + more + 1, left - more, [*row, text])

        walk(0, 0, surplus, [])
        return found

    def _may_be(self, name: str, text: str) -> bool:
        if name in FREE:
            return re.fullmatch(FREE[name], text, re.DOTALL) is not None
        if name == "SubmitLine" and self.commands:
            return _COMMAND.fullmatch(text) is not None
        return True

    def _told(self, found: Sequence[list[str]]) -> list[str] | None:
        """The one reading of a row; None where they differ in a field that is read."""
        if not found or len(found) > _ALIGNMENTS:
            return None
        read = [k for k, name in enumerate(self.names) if name in TYPES or name == "JobName"]

        def same(readings: Sequence[list[str]]) -> bool:
            first = [readings[0][k] for k in read]
            return all([row[k] for k in read] == first for row in readings)

        if same(found):
            return found[0]
        # Names that other rows have too: of a wrong reading several are strangers at once.
        strangers = [
            sum(
                row[k].strip() not in self.known[name]
                for k, name in enumerate(self.names)
                if name in self.known
            )
            for row in found
        ]
        likely = [row for row, count in zip(found, strangers, strict=True) if count == 0]
        if likely and same(likely) and all(count == 0 or count > 1 for count in strangers):
            return likely[0]
        return None


def _tails(texts: dict[int, str], short: Container[int]) -> dict[int, list[str]]:
    """Records with what follows them and is none itself: the rest of one that was cut too soon."""
    found: dict[int, list[str]] = {}
    above = None
    for number in texts:
        if number not in short:
            above = number
        elif above is not None:
            found.setdefault(above, [texts[above]]).append(texts[number])
    return found


def _fixed(numbered: Sequence[tuple[int, str]], rows: Rows) -> Records:
    """Records of columns that a line of dashes marks; sacct counts their width in bytes."""
    spans = [match.span() for match in re.finditer(r"-+", numbered[1][1])]
    spans[-1] = (spans[-1][0], 1 << 20)
    gaps = [(a[1], b[0]) for a, b in pairwise(spans)]

    def cells(line: bytes | str) -> list[str] | None:
        if any(line[a:b].strip() for a, b in gaps):
            return None
        parts = [line[a:b] for a, b in spans]
        return [p.decode("utf-8", "replace") if isinstance(p, bytes) else p for p in parts]

    result = Records(field_names(numbered[0][1].split()))
    if len(result.names) != len(spans):
        raise BadLog(f"{rows.name}: its line of dashes does not mark the columns of its header")
    crooked = []
    cut = 0
    for number, line in numbered[2:]:
        if not line.strip():
            continue
        row = cells(line.encode()) or cells(line)
        if row is None or not re.fullmatch(_ID + r"\+?", _cell(result.names, row)):
            crooked.append(f"line {number}")
            continue
        row = [cell.strip() for cell in row]
        pairs = zip(result.names, row, strict=True)
        cut += any(cell.endswith("+") for name, cell in pairs if name in _NAMES)
        result.cells.append(row)
        result.places.append(f"line {number}")
    rows.drop("not in the columns that the header marks", crooked)
    if cut:
        rows.note(
            f"names cut short by the width of their column in {cut:,} rows; print with "
            "sacct --parsable2"
        )
    if not result.cells and not crooked:
        raise BadLog(f"{rows.name} has a header and no job; give a log with finished jobs")
    return result


def _cell(names: Sequence[str], row: Sequence[str]) -> str:
    """The cell of the job's id."""
    place = next(k for k, name in enumerate(names) if name in ("JobID", "JobIDRaw"))
    return row[place].strip()

"""What people read is true: links, code, commands, transcripts, and the lists of what there is."""

from __future__ import annotations

import io
import itertools
import re
import runpy
import shlex
import shutil
import tokenize
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import markdown
import pytest
import typer

from plancast.pipelines.cli import app, main
from plancast.pipelines.inputs.config import Config
from plancast.pipelines.inputs.requests import request_from_files
from plancast.planner.model.domain import TERMS, Prices
from plancast.planner.model.messages import PlanRequest, Status
from plancast.planner.model.spans import running_end_s
from plancast.planner.model.violations import ViolationKind
from plancast.planner.solvers import SOLVERS
from plancast.predictor import ESTIMATORS
from plancast.predictor.logs import READERS
from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
RUN = [ROOT / "README.md", DOCS / "index.md", DOCS / "cost-terms.md"]
"""Pages whose Python runs as it stands; that of the others needs files of the reader's own."""


@cache
def program() -> Any:
    """All commands, which take 70 ms to build."""
    return typer.main.get_command(app)


LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """(info string, text) of a page's fenced blocks in one language."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(info, text) for info, text in found if info.split(" ")[0] == language]


def slugs(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def command_lines(page: Path) -> list[list[str]]:
    """The words of every command (after ``$``) in a page's console blocks."""
    lines = []
    for _, text in blocks(page, "console"):
        joined = text.replace("\\\n", " ")
        typed = (line[2:] for line in joined.splitlines() if line.startswith("$ "))
        lines += [shlex.split(line, comments=True) for line in typed]
    return lines


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A reader would be sent to a file or heading that is not there."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link} is not there"
        assert target.is_relative_to(ROOT), f"{page.name}: {link} leaves the repository"
        if anchor:
            assert anchor in slugs(target), f"{page.name}: {link} names no heading of that page"


PLACE = re.compile(r"`((?:planner|predictor|pipelines|tests|benchmarks)/[\w/.-]+?)(?:::([\w.]+))?`")
GUIDES = ("a-cost-term", "a-constraint", "a-reader", "a-solver", "an-engine")


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if p.name != "design.md"],  # it names what was planned, too
    ids=lambda p: p.name,
)
def test_every_place_in_the_code_is_there(page: Path) -> None:
    """Who adds a term by the page would look for a file or function that has moved."""
    for path, name in PLACE.findall(page.read_text(encoding="utf-8")):
        at = next((r / path for r in (ROOT, ROOT / "tests") if (r / path).exists()), None)
        assert at is not None, f"{page.name} names {path}"
        outer, _, last = name.rpartition(".")
        for one in filter(None, (outer, last)):
            defined = re.search(
                rf"^\s*(?:(?:async )?def|class) {one}\b|^{one}\b", at.read_text(), re.M
            )
            assert defined, f"{page.name} names {path}::{name}"


def test_there_is_a_page_for_whatever_is_added() -> None:
    """A newcomer would not find where to begin; each page names the places to touch."""
    linked = (DOCS / "architecture.md").read_text(encoding="utf-8")
    for guide in GUIDES:
        page = DOCS / f"adding-{guide}.md"
        assert page.name in linked
        assert len(PLACE.findall(page.read_text(encoding="utf-8"))) >= 3, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pages_are_short_and_name_no_machine(page: Path) -> None:
    """A page grew past what is read, or showed a path of the machine it was written on."""
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 160
    assert not re.search(r"/(home|root|work|tmp|Users)/", text)


@pytest.mark.parametrize("page", RUN, ids=lambda p: p.name)
def test_python_of_the_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's first ten lines would end in a traceback."""
    monkeypatch.chdir(tmp_path)
    found = blocks(page, "python")
    assert found
    for _, text in found:
        exec(compile(text, page.name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", [p for p in PAGES if p not in RUN], ids=lambda p: p.name)
def test_other_python_compiles_and_its_imports_exist(page: Path) -> None:
    """A page would import a name that was moved or renamed."""
    for _, text in blocks(page, "python"):
        compile(text, page.name, "exec")
        imports = "\n".join(
            line for line in text.splitlines() if re.match(r"(from|import) .*[^(]$", line)
        )
        exec(compile(imports, page.name, "exec"), {})


def test_every_command_takes_json() -> None:
    """README says so; a script would find the one that does not."""
    left = [("plancast", program())]
    while left:
        name, command = left.pop()
        below = getattr(command, "commands", {})
        left += [(f"{name} {word}", inner) for word, inner in below.items()]
        if not below:
            assert any("--json" in parameter.opts for parameter in command.params), name


def parse(words: list[str]) -> None:
    """Parse a ``plancast`` command line to its last option, without running it."""
    command = program()
    rest = words[1:]
    while hasattr(command, "commands") and not (rest[:1] and rest[0].startswith("-")):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(words[0], rest)


PLANCAST_LINES = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)}"[:90])
    for page in PAGES
    for words in command_lines(page)
    if words[0] == "plancast"
]


@pytest.mark.parametrize("words", PLANCAST_LINES)
def test_every_command_shown_parses(words: list[str]) -> None:
    """A reader would copy a command or an option that does not exist."""
    parse(words)


def test_a_wrong_command_line_would_be_noticed() -> None:
    """The test above would pass whatever the pages showed."""
    with pytest.raises(typer.BadParameter.__bases__[0]):
        parse(["plancast", "plan", "--bugdet", "3"])
    with pytest.raises(KeyError):
        parse(["plancast", "plam"])


def test_every_make_target_shown_exists() -> None:
    """The first command of the README would fail."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = [words for page in PAGES for words in command_lines(page) if words[0] == "make"]
    assert {"run", "test"} <= {words[1] for words in shown}
    for words in shown:
        assert words[1] in targets


def commands() -> list[str]:
    """Every command of ``plancast`` as it is typed."""
    top = program()
    names = []
    for name, command in top.commands.items():
        below = [f"plancast {name} {inner}" for inner in getattr(command, "commands", {})]
        alone = not below or command.invoke_without_command
        names += [*([f"plancast {name}"] if alone else []), *below]
    return names


LISTS = {
    "cost terms": ("cost-terms.md", [f"`{term}`" for term in TERMS]),
    "prices": ("files.md", [f"{term}:" for term in TERMS]),
    "violation kinds": ("command-line.md", [f"`{kind.value}`" for kind in ViolationKind]),
    "statuses": ("concepts.md", [f"`{status.value}`" for status in Status]),
    "solvers": ("concepts.md", [f"`{name}`" for name in (*SOLVERS, "auto")]),
    "solvers of the command line": ("command-line.md", [f"`{name}`" for name in SOLVERS]),
    "estimators": ("concepts.md", [f"`{name}`" for name in ESTIMATORS]),
    "readers": ("adding-a-reader.md", [f"**{name}**" for name in READERS]),
    "commands": ("../README.md", [f"`{name}`" for name in commands()]),
    "examples of commands": ("command-line.md operations.md", [f"$ {name}" for name in commands()]),
}


@pytest.mark.parametrize("what", LISTS)
def test_pages_list_what_there_is(what: str) -> None:
    """Something was added to a registry without a word on the page that lists its like."""
    pages, names = LISTS[what]
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in pages.split())
    assert [name for name in names if name not in text] == []


def test_default_prices_are_those_of_the_page() -> None:
    """The cost terms' page would tell a price that is not the default."""
    text = (DOCS / "cost-terms.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.MULTILINE))
    assert {term: float(price) for term, price in shown.items()} == {
        term: Prices().of(term) for term in TERMS
    }


def test_every_dependency_has_a_reason() -> None:
    """A package would be installed on everybody's machine and nobody could say why."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[<>=~!; ]", spec)[0] for group in groups for spec in group}
    names.remove("plancast")  # an extra of its own
    text = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    found = re.findall(r"^\|[^|]*?\|? ?([\w\-]+) \| \S", text, re.MULTILINE)
    assert sorted(names - set(found)) == []


def test_parameters_of_the_page_are_those_of_the_pipeline() -> None:
    """A parameter would be undocumented, or documented and refused."""
    text = (DOCS / "pipeline.md").read_text(encoding="utf-8")
    for name, field in Config.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        for key in inner or [None]:
            shown = f"`{name}.{key}`" if key else f"`{name}`"
            assert shown in text or (key and f"`.{key}`" in text), shown


def squeezed(text: str) -> list[str]:
    """Lines without the length of their gaps, nor the seconds that a run took."""
    lines = (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
    return [re.sub(r"in \d+\.\d+ s", "in ... s", line) for line in lines if line]


def test_the_worked_example_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first page of the docs would show another plan or cost than the command prints."""
    ((_, text),) = blocks(DOCS / "index.md", "console")
    line, _, shown = text.partition("\n")
    (tmp_path / "docs").mkdir()
    shutil.copytree(DOCS / "examples", tmp_path / "docs" / "examples")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(shlex.split(line.removeprefix("$ plancast")))
    assert left.value.code == 0
    assert squeezed(capsys.readouterr().out) == squeezed(shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_shows_can_be_planned_together(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who copies the tasks and the cluster of a page would read that one of them is wrong."""
    named = {
        info.split()[1]: text
        for info, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if len(info.split()) > 1
    }
    clusters = [n for n, text in named.items() if re.search("^workers:", text, re.MULTILINE)]
    tasks = [n for n in named if re.match(r"(\w+-)?tasks.*\.(csv|json)", n)]
    monkeypatch.chdir(tmp_path)
    for name, text in named.items():
        Path(name).write_text(text, encoding="utf-8")
    for cluster, task in itertools.product(clusters, tasks):
        with pytest.raises(SystemExit) as left:
            main(["plan", task, "--cluster", cluster, "--solver", "greedy"])
        # 3: tasks without a run time, which such a page gives elsewhere.
        assert left.value.code in (0, 3), (task, cluster, capsys.readouterr().err)


def test_the_example_files_are_the_example_of_the_page() -> None:
    """The files of the first page would describe another problem than its text and its Python."""
    folder = DOCS / "examples"
    found = request_from_files(
        folder / "tasks.csv", folder / "cluster.yaml", policy=folder / "policy.yaml"
    )
    ((_, text),) = blocks(DOCS / "index.md", "python")
    names: dict[str, Any] = {}
    exec(compile(text, "index.md", "exec"), names)
    meant: PlanRequest = names["request"]
    assert found.policy == meant.policy
    assert [w.capacity for w in found.snapshot.workers] == [
        w.capacity for w in meant.snapshot.workers
    ]
    for one, other in zip(found.snapshot.pending, meant.snapshot.pending, strict=True):
        assert (one.id, one.demand["cpu"], one.deadline_s) == (
            other.id, other.demand["cpu"], other.deadline_s,
        )  # fmt: skip
        assert found.estimates[one.id]["*"].at(0.5) == meant.estimates[one.id]["*"].at(0.5)
    (runs,), (ran,) = found.snapshot.running, meant.snapshot.running
    assert (runs.task.id, runs.start_s) == (ran.task.id, ran.start_s)
    assert running_end_s(found, runs) == running_end_s(meant, ran) == 3


def test_the_picture_is_what_its_script_draws() -> None:
    """The README would show a plan that the planner no longer makes; run docs/images/draw.py."""
    drawn = runpy.run_path(str(DOCS / "images" / "draw.py"))["gantt"]()
    kept = (DOCS / "images" / "gantt.svg").read_text(encoding="utf-8")
    # Where letters stand depends on the fonts of the machine; what is written and drawn does not.
    for part in (r">([^<>]+)</text>", r"<(\w+)"):
        assert re.findall(part, kept) == re.findall(part, drawn)


@pytest.mark.slow
def test_the_readme_shows_what_make_run_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The README would promise numbers that nobody gets."""
    shown = [text for info, text in blocks(ROOT / "README.md", "text") if info == "text make-run"]
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["run"])
    assert left.value.code == 0
    printed = squeezed(capsys.readouterr().out)
    assert [line for line in squeezed(shown[0]) if line not in printed and "──" not in line] == []


def said_in(path: Path) -> str:
    """A page; of a module its strings and comments, what f-strings compute left out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        kept = (t.string for t in tokens if t.type in (tokenize.STRING, tokenize.COMMENT))
        text = "\n".join(re.sub(r"\{[^{}]*\}", "{}", string) for string in kept)
    return text


def test_shares_are_written_in_one_way() -> None:
    """Pages, tables and sentences would mix two ways, with a blank before the sign and without."""
    folders = ("", "docs/**/", "notebooks/", "benchmarks/", "integrations/**/", "pipelines/**/",
               "planner/**/", "predictor/**/")  # fmt: skip
    paths = [
        p
        for folder in folders
        for end in ("md", "py", "json")
        for p in ROOT.glob(f"{folder}*.{end}")
    ]
    spaced = re.compile(r".{,20}[0-9})\]][\s\xa0]%(?![\w({%]).{,20}")
    suspects = [p for p in paths if spaced.search(p.read_text(encoding="utf-8"))]
    assert [f"{p.name}: {near}" for p in suspects for near in spaced.findall(said_in(p))] == []
    by_hand = re.compile(r"\{[^{}]*100 \* [^{}]*f\}%")
    assert [p.name for p in paths if by_hand.search(p.read_text(encoding="utf-8"))] == []


def test_code_in_tables_can_be_copied_from_the_site() -> None:
    """A label that is any of two would be copied with a backslash, and be refused."""
    site = runpy.run_path(str(DOCS / "hooks.py"))
    seen = 0
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        shown = markdown.markdown(site["plain_pipes"](text), extensions=["tables", "fenced_code"])
        cells = re.findall(r"<td>.*?</td>", shown, re.DOTALL)
        assert not [cell for cell in cells if "\\|" in cell], page.name
        seen += sum("|" in cell for cell in cells)
    assert seen > 5

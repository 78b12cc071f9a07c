"""What the site adds to the pages: the course, run or not, and links that stay within it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import jupytext
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import ExecutePreprocessor

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "build" / "course"
"""Notebooks as they ran, named after what they were."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w+) +([^\n`]+)$", re.MULTILINE)
CELLS = re.compile(r"^\|.*$", re.MULTILINE)
CODE = re.compile(r"`[^`\n]+`")
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


def run_of(notebook: Path) -> Path:
    """Where a notebook is kept once it has run; a changed one has another place."""
    digest = hashlib.sha256(notebook.read_bytes()).hexdigest()[:12]
    return RUN / f"{notebook.stem}-{digest}.ipynb"


def run_course() -> None:
    """Run every notebook that has not been run as it stands."""
    RUN.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("*.py")):
        if run_of(path).exists():
            continue
        print(f"running {path.name}", flush=True)
        notebook = jupytext.read(path)
        work = RUN / path.stem
        work.mkdir(exist_ok=True)
        runner = ExecutePreprocessor(timeout=900, kernel_name="python3")
        runner.preprocess(notebook, {"metadata": {"path": str(work)}})
        jupytext.write(notebook, run_of(path), fmt="ipynb")


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook, with its outputs where it has run."""
    titles = []
    for path in sorted((ROOT / "notebooks").glob("*.py")):
        kept = run_of(path)
        notebook = jupytext.read(kept if kept.exists() else path)
        body, resources = MarkdownExporter().from_notebook_node(
            notebook, {"unique_key": path.stem, "output_files_dir": path.stem}
        )
        body = re.sub(r"\x1b\[[0-9;]*m", "", body)
        if not kept.exists():
            note = "> Shown without its outputs: `make docs` runs the course first."
            body = TITLE.sub(lambda m, note=note: f"{m[0]}\n\n{note}", body, count=1)
        found = TITLE.search(body)
        titles.append((found[1] if found else path.stem, path.stem))
        files.append(File.generated(config, f"course/{path.stem}.md", content=body))
        for name, content in resources.get("outputs", {}).items():
            files.append(File.generated(config, f"course/{name}", content=content))
    listed = "\n".join(f"- [{title}]({stem}.md)" for title, stem in titles)
    words = (
        "# A course in nine lessons\n\nEach asks a question, answers it with plots, and ends with "
        "an exercise and its solution. The lessons are notebooks in `notebooks/` of the "
        f"repository; they run on a generated log, or on yours.\n\n{listed}\n\nTo run them, add "
        "their extra (`pip install -e '.[notebooks]'` in a clone) and open them in an editor of "
        "notebooks, or run one as a whole:\n\n```console\n$ jupytext --to notebook --execute "
        "notebooks/03_plan_your_csv.py\n```\n"
    )
    files.append(File.generated(config, "course/index.md", content=words))
    return files


def plain_pipes(markdown: str) -> str:
    r"""Code in tables without the ``\|`` that other readers of Markdown need there.

    The site's shows the backslash, and whoever copies it has another label.
    """
    return CELLS.sub(
        lambda row: CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), markdown
    )


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Name blocks by their files; of links to what the site does not hold keep the words."""
    here = Path(config["docs_dir"], page.file.src_path).parent

    def kept(match: re.Match[str]) -> str:
        target = match[3].partition("#")[0]
        if "://" in match[3] or not target:
            return match[0]
        path = (here / target).resolve()
        inside = path.is_relative_to(ROOT / "docs") and not path.is_dir()
        shown = inside and path.suffix not in (".py", ".json")
        generated = files.get_file_from_path((Path(page.file.src_uri).parent / target).as_posix())
        return match[0] if shown or generated else match[2]

    return LINK.sub(kept, FENCE.sub(r'```\1 title="\2"', plain_pipes(markdown)))


if __name__ == "__main__":
    run_course()

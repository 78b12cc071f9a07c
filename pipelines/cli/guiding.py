"""``plancast guide``: lessons of solved problems, and guides of the search learned from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from plancast.pipelines.cli.common import Json, Seed, console, print_json, progress, table
from plancast.planner.model.domain import BadRequest
from plancast.wording import counted

app = typer.Typer(
    help="Learn from solved problems which states a search should look at first.",
    no_args_is_help=True,
)


@app.command(
    "collect",
    epilog="Example: plancast guide collect --from KTH-SP2-1996-2.swf.gz --problems 90 -o lessons/",
)
def collect_command(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            help="A job log, workflow table, cluster file or folder of them, the openb folder, or "
            "'generated' (the default); may be given again.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(help="Column map (YAML) of the log whose name begins like the map's."),
    ] = None,
    terms: Annotated[str, typer.Option(help="Terms of use, where a file does not say.")] = "",
    problems: Annotated[int, typer.Option(min=1, help="Problems of each source.")] = 60,
    tasks: Annotated[str, typer.Option(help="Fewest and most tasks of a problem.")] = "7:10",
    workers: Annotated[str, typer.Option(help="Fewest and most workers.")] = "3:4",
    turns: Annotated[
        int, typer.Option(min=0, help="Wrong turns from each state of the best plan.")
    ] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Expansions spent on one state.")] = 1_000,
    seed: Seed = 0,
    processes: Annotated[int, typer.Option(min=1, help="Problems solved at once.")] = 2,
    json: Json = False,
) -> None:
    """Cut small problems from logs, solve them, and note what every state came to.

    A run that was interrupted goes on where it was.
    """
    from plancast.pipelines.guide.collect import Settings, collect
    from plancast.pipelines.guide.problems import sources_of

    settings = Settings(
        problems, _span("tasks", tasks), _span("workers", workers), turns, steps, seed
    )
    with progress("solving") as tell:
        tell(text="reading the sources")
        found = sources_of(sources or (), columns or (), terms)
        card = collect(
            found,
            output,
            settings,
            processes=processes,
            progress=lambda done, total: tell(
                done, total, f"{done} of {counted(total, 'problem')}"
            ),
        )
    if json:
        print_json(card)
        return
    rows = [
        [name, f"{entry['problems']:,}", f"{entry['states']:,}"]
        for name, entry in card["sources"].items()
    ]
    console.print(table("Lessons", ["source", "problems", "states"], rows))
    console.print(
        f"{counted(card['states'], 'state')}, {card['exact_share']:.0%} with proven costs; "
        f"a median excess "
        f"of {card['excess']['p50']:.1%} over the bound; {card['without_lesson']:,} problems had "
        "nothing to teach",
        soft_wrap=True,
    )
    console.print(f"wrote {escape(str(output))}", soft_wrap=True)


@app.command("train", epilog="Example: plancast guide train lessons/ -o guide.json")
def train_command(
    lessons: Annotated[Path, typer.Argument(help="Folder of plancast guide collect.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The guide, for plancast plan --guide."),
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="Share of the problems to judge by.")
    ] = 0.25,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(help="Judge by all problems of this source instead; may be given again."),
    ] = None,
    judge_by: Annotated[
        Path | None,
        typer.Option(help="Judge by the problems of this folder of lessons: larger ones, say."),
    ] = None,
    judged: Annotated[int, typer.Option(min=1, help="Most problems to judge by.")] = 60,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Train several guides, let each search problems it has not seen, and keep the best."""
    from plancast.pipelines.guide.train import train
    from plancast.pipelines.inputs.files import write_text_atomic
    from plancast.pipelines.tracking.contests import log_guides
    from plancast.pipelines.tracking.store import ui_command

    if judge_by is not None and hold_out:
        raise BadRequest("--judge-by and --hold-out both say what to judge by: give one of them")
    with progress("guide") as tell:
        trained = train(
            lessons, share=share, held_out=hold_out or (), judge_by=judge_by, judged=judged,
            seed=seed, progress=tell,
        )  # fmt: skip
    facts = trained.facts
    if output is not None:
        write_text_atomic(output, trained.guide.to_text())
        facts["written"] = str(output)
    facts["mlflow_run"] = log_guides(facts, lessons.name)
    if json:
        print_json(facts)
        return
    console.print(guides_table(facts))
    console.print(
        "first: share of states of whose successors a best one is liked most; dive: cost of the\n"
        "first dive of one state a depth; expansions and ms: of a search to within the weight;\n"
        "all costs over the best known. score: ms x cost, of the search without a guide 1\n"
    )
    verdict = "wins" if facts["wins"] else "does not pay: the search is better without it"
    console.print(f"best: {facts['best']}; it {verdict}")
    if output is not None:
        console.print(f"wrote {escape(str(output))}", soft_wrap=True)
    console.print(f"tracking: {ui_command()}", soft_wrap=True)


def guides_table(facts: dict[str, Any]) -> Any:
    """A row for each candidate."""
    weights = [f"{w:g}" for w in facts["weights"]]
    columns = ["guide", "first", "dive"]
    columns += [f"{what} {w}" for w in weights for what in ("expansions", "ms", "cost")]
    rows = []
    for name, entry in facts["candidates"].items():
        loss, search = entry["loss"], entry["search"]
        row = [name, f"{loss['first_is_best']:.0%}" if loss else "-"]
        row.append(f"{search['dive_cost']:.3f}" if "dive_cost" in search else "-")
        for w in weights:
            row += [
                f"{search[f'expansions_{w}']:,.0f}", f"{1000 * search[f'cpu_s_{w}']:.1f}",
                f"{search[f'cost_{w}']:.4f}",
            ]  # fmt: skip
        rows.append([*row, f"{search['score']:.3f}"])
    low, high = facts["judge_tasks"]
    title = (
        f"Guides on {counted(facts['judge_problems'], 'problem')} of {low} to "
        f"{counted(high, 'task')} they were not "
        "trained on"
    )
    return table(title, [*columns, "score"], rows)


def _span(name: str, text: str) -> tuple[int, int]:
    """Fewest and most from ``7:10``."""
    try:
        low, high = (int(part) for part in text.split(":"))
    except ValueError:
        raise BadRequest(f"--{name} {text!r}: write fewest:most, as in 7:10") from None
    return low, high

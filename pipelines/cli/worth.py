"""``plancast worth``: what forecasts are worth on a site's own log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from plancast.pipelines.cli.common import console, print_json, progress, table
from plancast.pipelines.cli.log_options import reads_log
from plancast.pipelines.inputs.reading import Reading
from plancast.wording import counted


@reads_log()
def worth(
    log: Annotated[str, typer.Argument(help="A job log in any form that ingest reads.")],
    procs: Annotated[int | None, typer.Option(min=1, help="Processors of the machine.")] = None,
    batches: Annotated[int, typer.Option(min=5, help="Most batches that are cut.")] = 60,
    json: Annotated[
        Path | None,
        typer.Option("--json", help="Where to write the facts as JSON (- prints them)."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Model whose plans go by what is found here (plan --model)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 0,
    *,
    reading: Reading,
) -> None:
    """What forecasts are worth on a log: plans with and without them, executed with the truth.

    Batches are backlogs of the log's last 30%, models learn from what had ended before.

    Example: plancast worth KTH-SP2-1996-2.swf.gz --json worth.json
    """
    from plancast.pipelines.inputs.past_plans import past_plans_file, write_past_plans
    from plancast.pipelines.stages.stage import write_facts
    from plancast.pipelines.worth.worth import material_of, past_of
    from plancast.pipelines.worth.worth import worth as found_worth
    from plancast.predictor.model_files import read_card

    if model is not None:
        read_card(model)  # a folder that is none is found before the work
    with progress("worth") as tell:
        tell(text=f"reading {Path(log).name}")
        found = material_of(log, reading=reading, procs=procs, batches=batches)
        facts = found_worth(found, seed=seed, tell=lambda done, text: tell(done, 1, text))
    alone = str(json) == "-"
    if alone:
        print_json(facts)
    elif json is not None:
        write_facts(json, facts)
    if not alone:
        print_worth(facts)
    if model is not None:
        kept = past_plans_file(model)
        write_past_plans(kept, past_of(found, facts))
        if facts["queues"]:
            _track(facts, kept)
        if not alone:
            console.print(f"plancast plan --model {model} goes by it: wrote {kept}", soft_wrap=True)
    if json is not None and not alone:
        console.print(f"wrote {json}", soft_wrap=True)


def _track(facts: Mapping[str, Any], kept: Path) -> None:
    from plancast.pipelines.tracking.contests import log_worth

    with progress("MLflow"):
        log_worth(facts, kept)


def print_worth(facts: Mapping[str, Any]) -> None:
    """The verdict, and the table behind it."""
    if facts["queues"]:
        rows = []
        for name, entry in sorted(facts["policies"].items(), key=lambda item: item[1]["cost"]):
            against = entry["against_baseline"]
            rows.append(
                [name, f"{entry['cost']:,.1f}", f"{against['mean']:+.1%}",
                 f"{against['lo']:+.1%} to {against['hi']:+.1%}"]
            )  # fmt: skip
        title = (
            f"{counted(facts['n'], 'batch', 'batches')} of {facts['log']}, executed with the truth"
        )
        console.print(table(title, ["way", "cost", f"against {facts['baseline']}", "95%"], rows))
        lost = ", ".join(f"{name} {share:.1%}" for name, share in facts["leaks"].items())
        console.print(f"closed_scenarios above the strong oracle: {lost}", soft_wrap=True)
    console.print(facts["verdict"], soft_wrap=True)


COMMANDS: dict[str, Callable[..., None]] = {"worth": worth}

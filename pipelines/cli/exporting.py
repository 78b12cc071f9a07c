"""``plancast export``: a request in the languages of other planners."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from plancast.pipelines.cli.common import Json, console, print_json

app = typer.Typer(help="Write a request in another planner's language.", no_args_is_help=True)


@app.command("pddl", epilog="Example: plancast export pddl request.json -o pddl/ --horizon-s 3600")
def export_pddl_command(
    request: Annotated[Path, typer.Argument(help="A PlanRequest (JSON).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    horizon_s: Annotated[
        int | None,
        typer.Option(min=1, help="Seconds in which all must end (default: the greedy plan's)."),
    ] = None,
    json: Json = False,
) -> None:
    """Write the basic assignment problem in PDDL, with the question if all end by the horizon."""
    from plancast.pipelines.inputs.files import read_bytes, write_text_atomic
    from plancast.planner.instances.pddl import export_pddl
    from plancast.planner.model.domain import BadRequest
    from plancast.planner.model.messages import PlanRequest, from_json
    from plancast.planner.planning.plan import plan

    asked = from_json(PlanRequest, read_bytes(request), source=str(request))
    if horizon_s is None:
        greedy = plan(asked, "greedy")
        if greedy.plan is None:
            raise BadRequest(f"{request}: there is no greedy plan; give --horizon-s")
        horizon_s = max(a.end_s for a in greedy.plan.assignments) - asked.snapshot.now_s
    exported = export_pddl(asked, horizon_s)
    written = [output / "domain.pddl", output / "problem.pddl"]
    for path, text in zip(written, (exported.domain, exported.problem), strict=True):
        write_text_atomic(path, text)
    facts = {
        "written": [str(path) for path in written],
        "step_s": exported.step_s,
        "steps": exported.steps,
        "actions": exported.actions,
    }
    if json:
        print_json(facts)
        return
    console.print(
        f"{exported.actions:,} actions over {exported.steps:,} steps of {exported.step_s:,} s"
    )
    for path in written:
        console.print(f"wrote {escape(str(path))}", soft_wrap=True)

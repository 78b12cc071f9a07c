"""The options by which a command reads a job log, in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from plancast.pipelines.inputs.reading import Reading, parse_share

Columns = Annotated[
    str | None, typer.Option(help="Column map (YAML) of a table, or nextflow or snakemake.")
]
OPTIONS: dict[str, tuple[Any, Any]] = {
    "format": (
        Annotated[str, typer.Option(help="auto, swf, sacct, pbs, wfformat or table.")], "auto"
    ),
    "columns": (Columns, None),
    "timezone": (
        Annotated[
            str | None,
            typer.Option(help="Zone of times without an offset (Europe/Berlin); else UTC."),
        ],
        None,
    ),
    "fields": (
        Annotated[
            str | None,
            typer.Option(help="Fields of a sacct log without a header: JobID,Submit,..."),
        ],
        None,
    ),
    "delimiter": (
        Annotated[
            str | None,
            typer.Option(help="Between the cells of a sacct log; else read from its header."),
        ],
        None,
    ),
    "max_bad": (
        Annotated[
            str | None,
            typer.Option(
                help="Share of bad rows above which a log is refused; 5% if not given, beyond "
                "5 rows."
            ),
        ],
        None,
    ),
    "strict": (
        Annotated[bool, typer.Option("--strict", help="Refuse a log for any bad row.")], False
    ),
}  # fmt: skip
"""Annotation and default of each option, by its name in ``Reading``."""


def reads_log(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options (all of them without names) for its parameter `reading`.

    Parameters
    ----------
    *names : str
        Of ``OPTIONS``.

    Returns
    -------
    callable
        A decorator; what it makes of a command is one to which typer gives the options.
    """
    offered = {name: OPTIONS[name] for name in names or OPTIONS}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        of_command = inspect.signature(command).parameters.values()

        @wraps(command)
        def with_reading(**given: Any) -> None:
            chosen = {name: given.pop(name) for name in offered}
            if chosen.get("max_bad") is not None:
                chosen["max_bad"] = parse_share(chosen["max_bad"])
            command(**given, reading=Reading(**chosen))

        parameters = [
            one.replace(annotation=hints[one.name]) for one in of_command if one.name != "reading"
        ] + [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=how)
            for name, (how, default) in offered.items()
        ]
        with_reading.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_reading.__annotations__ = {one.name: one.annotation for one in parameters}
        return with_reading

    return decorate

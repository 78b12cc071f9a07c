"""``plancast compare``: two runs of MLflow side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from plancast.pipelines.cli.common import Json, console, print_json, table

Run = Annotated[str, typer.Argument(help="Run id, its beginning, or a run's name.")]


def compare(one: Run, other: Run, json: Json = False) -> None:
    """Show what differs between two tracked runs, and what both measured.

    A name means the newest run of that name. Child runs of the same name (an estimator under one
    way of planning) are compared by the cost and the regret of their plans.

    Example: plancast compare 3f9a KTH-SP2-1996-2
    """
    from plancast.pipelines.tracking.mlflow_runs import compare_runs

    facts = compare_runs(one, other)
    if json:
        print_json(facts)
    else:
        print_compared(facts)


def print_compared(facts: Mapping[str, Any]) -> None:
    """Tables of parameters, metrics and child runs."""
    heads = [f"{run['name']} {run['run_id'][:8]}" for run in facts["runs"]]
    if facts["params"]:
        rows = [[name, *map(_text, pair)] for name, pair in facts["params"].items()]
        console.print(table("Parameters that differ", ["", *heads], rows))
    else:
        console.print("the same parameters")
    if facts["metrics"]:
        rows = [
            [name, *(f"{v:,.4g}" for v in found["values"]), f"{found['change']:+,.4g}"]
            for name, found in facts["metrics"].items()
        ]
        console.print(table("Metrics of both", ["", *heads, "change"], rows))
    else:
        console.print("no metric that both have")
    rows = [
        [name, *_pair(both, "plan_cost", "{:,.4g}"), *_pair(both, "regret", "{:+.1%}")]
        for name, both in facts["children"].items()
        if "regret" in both
    ]
    if rows:
        columns = ["", "cost", "of the other", "regret", "of the other"]
        console.print(table("Plans of both", columns, rows))


def _pair(metrics: Mapping[str, Any], key: str, shown: str) -> list[str]:
    values = metrics[key]["values"] if key in metrics else []
    return [shown.format(value) for value in values] or ["", ""]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


COMMANDS = {"compare": compare}

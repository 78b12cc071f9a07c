"""Constraint cells: label expressions as Slurm writes them, made ``Task.requires``."""

from __future__ import annotations

from typing import Any

from plancast.pipelines.inputs.cells import BadCell, text_cell
from plancast.planner.model.labels import BadExpression, conjuncts


def requires_cell(cell: Any) -> tuple[str, ...]:
    """Expressions that must all hold, from one or from a list; without white space in any."""
    items = cell if isinstance(cell, list | tuple | set) else [cell]
    texts = [text for item in items if (text := text_cell(item).strip())]
    try:
        return conjuncts(texts)
    except BadExpression as error:
        raise BadCell(str(error)) from None

"""Lessons for a guide: states of small problems with the cost of the best plan from each."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from plancast.json_text import json_value
from plancast.pipelines.guide.problems import Source, must_be_span
from plancast.pipelines.inputs.files import read_bytes, read_text, write_text_atomic
from plancast.planner.arrays.encode import encode
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import PlanRequest, from_json, to_json
from plancast.planner.solvers.astar.cost_to_go import COSTLIEST, states_of
from plancast.planner.solvers.astar.space import FEATURES

Progress = Callable[[int, int], None]
STATES, CARD = "states.parquet", "card.json"
FACTS = (
    "problem", "source", "tasks", "workers", "parent", "placed", "bound", "cost", "exact",
    "chosen", "best",
)  # fmt: skip
"""Columns beside the features: the problem and its size, the expanded state, tasks placed, bound
and cost of the state as ``plancast.planner.solvers.astar.cost_to_go.States`` has them, cost of
the problem's best plan."""


@dataclass(frozen=True)
class Settings:
    """What is collected.

    Parameters
    ----------
    problems : int
        Of each source.
    tasks, workers : (int, int)
        Fewest and most of a problem.
    turns : int
        Wrong turns from each state of the best trajectory.
    steps : int
        Expansions that may be spent on one state.
    seed : int
    """

    problems: int = 60
    tasks: tuple[int, int] = (7, 10)
    workers: tuple[int, int] = (3, 4)
    turns: int = 1
    steps: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        must_be_span("tasks", self.tasks)
        must_be_span("workers", self.workers)


def requests_of(
    sources: Sequence[Source], settings: Settings
) -> Iterator[tuple[str, str, PlanRequest]]:
    """(name, source, request) of every problem."""
    tasks, workers = (range(low, high + 1) for low, high in (settings.tasks, settings.workers))
    for number in range(settings.problems):
        for source in sources:
            name = f"{source.name}-{number}"
            yield name, source.name, source.problem(number, settings.seed, tasks, workers)


def lesson(name: str, source: str, request: PlanRequest, settings: Settings) -> pd.DataFrame:
    """The states of one problem, a row each; none where it has nothing to teach."""
    problem = encode(request)
    empty = pd.DataFrame({column: [] for column in (*FACTS, *FEATURES)})
    if problem.infeasible or problem.unplanned:
        return empty
    rng = np.random.default_rng([settings.seed, request.seed])
    found = states_of(problem, rng, turns=settings.turns, steps=settings.steps)
    if found is None:
        return empty
    frame = pd.DataFrame(found.features, columns=list(FEATURES))
    size = {"tasks": len(problem.tasks), "workers": len(problem.workers)}
    for column, value in {
        "problem": name, "source": source, **size, "parent": found.parent, "placed": found.placed,
        "bound": found.bound, "cost": found.cost, "exact": found.exact, "chosen": found.chosen,
        "best": found.best,
    }.items():  # fmt: skip
        frame[column] = value
    return frame[[*FACTS, *FEATURES]]


def collect(
    sources: Sequence[Source],
    folder: str | Path,
    settings: Settings,
    *,
    processes: int = 2,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Collect the states of all problems into a folder.

    Parameters
    ----------
    sources : sequence of Source
    folder : path
        Gets ``states.parquet`` and ``card.json``; in between ``parts`` has a file for each
        problem, and an interrupted run goes on after the last of them.
    settings : Settings
    processes : int
        Problems solved at once.
    progress : callable, optional
        Called with (problems done, all problems).

    Returns
    -------
    dict
        The card.
    """
    folder = Path(folder)
    asked = _asked(sources, settings)
    _claim(folder, asked)
    total = settings.problems * len(sources)

    def open_problems() -> Iterator[tuple[str, str, PlanRequest]]:
        for name, source, request in requests_of(sources, settings):
            if not _part(folder, name).exists():
                yield name, source, request

    done = total - sum(1 for _ in open_problems())
    work = (
        delayed(_save)(folder, name, source, request, settings)
        for name, source, request in open_problems()
    )
    for _ in Parallel(n_jobs=processes, return_as="generator")(work):
        done += 1
        if progress is not None:
            progress(done, total)
    names = [name for name, _, _ in requests_of(sources, settings)]
    parts = [pd.read_parquet(io.BytesIO(read_bytes(_part(folder, name)))) for name in names]
    filled = [part for part in parts if len(part)]
    if not filled:
        raise BadRequest(
            f"{folder}: none of {total} problems has anything to teach: their bounds lead straight "
            "to the best plans; ask for more tasks"
        )
    states = pd.concat(filled, ignore_index=True)
    card = {**asked, **_facts(states, sources, total)}
    _write_parquet(states, folder / STATES)
    write_text_atomic(folder / CARD, json.dumps(card, indent=1) + "\n")
    return card


def read_states(folder: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The states and the card of a folder.

    Raises
    ------
    BadRequest
        Where they are not what ``collect`` writes.
    """
    folder = Path(folder)
    path = folder / STATES
    raw = read_bytes(path)
    try:
        states = pd.read_parquet(io.BytesIO(raw))
    except (OSError, ValueError) as error:
        raise BadRequest(f"{path}: cannot be read as Parquet: {error}") from None
    for column in (*FACTS, *FEATURES):
        if column not in states:
            raise BadRequest(f"{path}: has no column {column!r}; collect the states again")
    text = read_text(folder / CARD)
    try:
        card = json_value(text)
    except ValueError:
        raise BadRequest(f"{folder / CARD}: is not JSON; collect the states again") from None
    return states, card


def _asked(sources: Sequence[Source], settings: Settings) -> dict[str, Any]:
    return {
        "sources": {source.name: {"terms": source.terms} for source in sources},
        "settings": {
            "problems": settings.problems, "tasks": list(settings.tasks),
            "workers": list(settings.workers), "turns": settings.turns, "steps": settings.steps,
            "seed": settings.seed,
        },
    }  # fmt: skip


def _claim(folder: Path, asked: dict[str, Any]) -> None:
    """Make the folder this run's, or find that it is."""
    path = folder / "parts" / "asked.json"
    if path.exists():
        text = read_text(path)
        try:
            found = json_value(text)
        except ValueError:
            found = None
        if found != asked:
            raise BadRequest(
                f"{folder}: holds states of other sources or settings; give another folder"
            )
    else:
        write_text_atomic(path, json.dumps(asked, indent=1) + "\n")


def _part(folder: Path, name: str) -> Path:
    return folder / "parts" / f"{name}.parquet"


def read_problem(folder: str | Path, name: str) -> PlanRequest:
    """The request of a problem that ``collect`` solved."""
    path = _problem(Path(folder), name)
    request: PlanRequest = from_json(PlanRequest, read_bytes(path), source=str(path))
    return request


def _problem(folder: Path, name: str) -> Path:
    return folder / "problems" / f"{name}.json"


def _save(folder: Path, name: str, source: str, request: PlanRequest, settings: Settings) -> None:
    write_text_atomic(_problem(folder, name), to_json(request))
    _write_parquet(lesson(name, source, request, settings), _part(folder, name))


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    write_text_atomic(path, buffer.getvalue())


def _facts(states: pd.DataFrame, sources: Sequence[Source], total: int) -> dict[str, Any]:
    """What the card says of the states."""
    by_source = states.groupby("source")
    found = {
        source.name: {
            "terms": source.terms,
            "problems": int(by_source["problem"].nunique().get(source.name, 0)),
            "states": int(by_source.size().get(source.name, 0)),
        }
        for source in sources
    }
    excess = states["cost"] / states["bound"].clip(lower=1e-300) - 1.0
    return {
        "sources": found,
        "problems": int(states["problem"].nunique()),
        "without_lesson": total - int(states["problem"].nunique()),
        "states": len(states),
        "exact_share": float(states["exact"].mean()),
        "excess": {f"p{level}": _quantile(excess, level) for level in (10, 50, 90)},
        "costliest": COSTLIEST,
        "columns": [*FACTS, *FEATURES],
    }


def _quantile(values: pd.Series, level: int) -> float:
    found = float(np.quantile(values[np.isfinite(values)], level / 100))
    return found if math.isfinite(found) else 0.0

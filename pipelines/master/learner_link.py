"""The model of a living master in a process of its own: it may refit while the loop goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from plancast.pipelines.planner_process import PlannerLost, PlannerProcess
from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    DurationEstimate,
    Estimates,
    Task,
)

if TYPE_CHECKING:
    from plancast.pipelines.master.learner import Learner

FORECAST_S = 10.0
"""Longest wait for a forecast of a model that is not busy; a lost process is replaced."""
LOAD_S = 600.0
"""Longest time that it may load, learn or refit; then it is replaced."""
MOST_LOST = 3
"""Processes that are lost until none is waited for any more: requested times are believed then."""

_LEARNER: list[Learner] = []
"""Of the process that has one."""


class Forecasts(Protocol):
    """What forecasts tasks for the loop, and learns."""

    facts: Mapping[str, Any]
    """Of the contest between champion and challenger; see ``Learner.facts``."""

    @property
    def busy(self) -> bool:
        """Whether tasks should wait outside the plan, as there is no forecast now."""
        ...

    def forecast(self, rows: Sequence[Any], now_s: int, classes: Collection[str]) -> Estimates:
        """Estimates of tasks of the table; those that it has none of are left out."""
        ...

    def ended(self, rows: Sequence[Any]) -> None:
        """Learn of tasks that ran to an end."""
        ...


def requested(task: Task) -> Estimates:
    """The requested time as a certain estimate: what is believed without a model."""
    if task.requested_s is None:
        return {}
    return {task.id: {ANY_CLASS: DurationEstimate.certain(task.requested_s, "requested")}}


@dataclass(frozen=True)
class ModelRow:
    """What a model knows of a task: a row of the table, which goes through a pipe."""

    row: str
    submitted_s: int
    start_s: int | None
    end_s: int | None
    outcome: str | None

    @classmethod
    def of(cls, row: Any) -> ModelRow:
        """The same of a row of the table."""
        return cls(row.row, row.submitted_s, row.start_s, row.end_s, row.outcome)


def load(model: Path, ended: Sequence[ModelRow], kept: Path | None, procs: int) -> dict[str, Any]:
    """Load a model that is ready to forecast, and tell it what has ended since; its facts."""
    # Only the process that has it waits a second for LightGBM, and no master without a model.
    from plancast.pipelines.master.learner import Learner

    _LEARNER[:] = [Learner(model, ended, kept=kept, procs=procs)]
    return _LEARNER[0].facts


def forecast(rows: Sequence[ModelRow], now_s: int, classes: Collection[str]) -> Estimates:
    """As ``Learner.forecast``."""
    return _LEARNER[0].forecast(rows, now_s, classes)


def learn(rows: Sequence[ModelRow]) -> dict[str, Any]:
    """As ``Learner.ended``; its facts. A contest that ends by it is kept in MLflow."""
    learner = _LEARNER[0]
    learner.ended(rows)
    verdict, learner.verdict = learner.verdict, None
    if verdict is not None:
        learner.facts["run"] = _kept_in_mlflow(learner, verdict)
    return learner.facts


def _kept_in_mlflow(learner: Learner, verdict: dict[str, Any]) -> str:
    """The id of its run; where the store cannot be used, why, for the contest counts anyhow."""
    # Imported only where a contest has ended: it takes a while.
    from plancast.pipelines.tracking.backtests import log_promotion

    try:
        return log_promotion("master", verdict, learner.kept)
    except (BadRequest, OSError) as why:
        return f"not kept: {why}"


class LearnerProcess:
    """Asked from the loop, which never waits for it longer than for a forecast.

    Parameters
    ----------
    model : Path
    ended : callable
        Rows of all tasks that have ended: a process that takes a lost one's place learns anew.
    kept, procs
        As of ``Learner``.
    """

    def __init__(
        self,
        model: Path,
        ended: Callable[[], Sequence[Any]],
        *,
        kept: Path | None = None,
        procs: int = 1,
    ) -> None:
        self.model, self.all_ended = model, ended
        self.kept, self.procs = kept, procs
        self.facts: Mapping[str, Any] = {}
        self.lost = 0
        self._process = PlannerProcess()
        self._news: list[ModelRow] = []
        self._since: float | None = None
        self._load()

    @property
    def busy(self) -> bool:
        """Whether it loads, learns or refits: tasks wait outside the plan meanwhile."""
        self._pump()
        return self._since is not None and self.lost < MOST_LOST

    def forecast(self, rows: Sequence[Any], now_s: int, classes: Collection[str]) -> Estimates:
        """Estimates of tasks; none where the model is lost."""
        self._pump()
        if self._since is not None:
            return {}
        asked = [ModelRow.of(row) for row in rows]
        try:
            found: Estimates = self._process.ask((forecast, (asked, now_s, classes)), FORECAST_S)
        except PlannerLost:
            self._replaced()
            return {}
        return found

    def ended(self, rows: Sequence[Any]) -> None:
        """Tell it of tasks that ran to an end, now or once it has time."""
        self._news += [ModelRow.of(row) for row in rows]
        self._pump()

    def close(self) -> None:
        """End the process."""
        self._process.stop()

    # ------------------------------------------------------------------ inside

    def _pump(self) -> None:
        """Take the answer that is there, and hand on what there is to learn."""
        try:
            if self._since is not None:
                if not self._process.ready():
                    if time.monotonic() - self._since > LOAD_S:
                        self._process.take(0.0)  # it is replaced
                    return
                self.facts = self._process.take(FORECAST_S)
                self._since = None
            if self._news:
                news, self._news = self._news, []
                self._since = time.monotonic()
                self._process.put((learn, (news,)))
        except PlannerLost:
            self._replaced()

    def _replaced(self) -> None:
        self.lost += 1
        self._load()

    def _load(self) -> None:
        self._news.clear()
        self._since = time.monotonic()
        ended = [ModelRow.of(row) for row in self.all_ended()]
        try:
            self._process.put((load, (self.model, ended, self.kept, self.procs)))
        except PlannerLost:
            self.lost += 1  # the next question finds it out

"""Forecasts of tasks as they come, by a model that learns from each that ends.

The champion forecasts, and learns what its trees need not be grown anew for. Beside it a
challenger refits on schedule, and takes its place by plan quality alone (``contest``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd

from plancast.pipelines.inputs.files import read_text, write_text_atomic
from plancast.pipelines.inputs.forecast import forecast_tasks, jobs_of
from plancast.pipelines.inputs.user_files import read_task_table, task_rows_table
from plancast.pipelines.master.contest import ENDS, Contest
from plancast.planner.model.domain import Estimates
from plancast.predictor import RuntimePredictor
from plancast.predictor.model_files import CARD_FILE, sha256_of

SOURCE = "submission"


class Learner:
    """A model, and what it is asked and what it learns.

    Parameters
    ----------
    model : Path
        Folder of a trained model; it is not changed.
    ended : sequence
        Rows of tasks that have ended since it was trained, by this master's books.
    kept : Path, optional
        Folder for a model that takes the first one's place; where one of an earlier day has, it
        goes on from that.
    procs : int
        Processors of the cluster.
    ends : int
        Tasks after which a challenger is judged.
    """

    busy = False

    def __init__(
        self,
        model: Path,
        ended: Sequence[Any] = (),
        *,
        kept: Path | None = None,
        procs: int = 1,
        ends: int = ENDS,
    ) -> None:
        self.kept, self.procs, self.ends = kept, procs, ends
        self._first = sha256_of(model / CARD_FILE)
        source = model
        if kept is not None and _came_from(kept) == self._first:
            source = kept
        self.champion = RuntimePredictor.load(source)
        if source is not model:  # it has learned from what ended before it was kept
            known_s = self.champion.history.known_until_s
            ended = [row for row in ended if row.end_s > known_s]
        self.challenger = deepcopy(self.champion)
        self.refit_s = self.challenger.forecaster.schedule.refit_s
        self.champion.forecaster.schedule.refit_s = math.inf
        self.contest: Contest | None = None
        self.facts: dict[str, Any] = {
            "refits": 0, "contests": 0, "promotions": 0, "ended": 0, "of": ends, "why": "",
        }  # fmt: skip
        """Refits, contests and promotions since the start; of the contest under way how many
        tasks have ended, and of how many; why the last one ended as it did."""
        self.verdict: dict[str, Any] | None = None
        """Of a contest that has just ended."""
        self.ended(ended)
        for one in (self.champion, self.challenger):  # compiles, imports
            self._forecast(one, [{"id": "first", "requested_s": 3600}], 0, ())

    def forecast(self, rows: Sequence[Any], now_s: int, classes: Collection[str]) -> Estimates:
        """Estimates of tasks of the table, which are noted as submitted."""
        written = [_written(row) for row in rows]
        found = self._forecast(self.champion, written, now_s, classes)
        if self.contest is not None:
            other = self._forecast(self.challenger, written, now_s, classes)
            self.contest.forecast(found, other)
        self._learn(self._jobs(rows))
        return found

    def ended(self, rows: Sequence[Any]) -> None:
        """Learn of tasks that ran to an end; refit and judge where that is due."""
        if not rows:
            return
        jobs = self._jobs(rows)
        jobs["start_s"] = [float(row.start_s) for row in rows]
        jobs["end_s"] = [float(row.end_s) for row in rows]
        jobs["run_s"] = jobs["end_s"] - jobs["start_s"]
        jobs["outcome"] = [row.outcome for row in rows]
        self._learn(jobs)
        if self.contest is None:
            return
        for row in rows:
            written = _written(row)
            run_s = max(1, row.end_s - row.start_s)
            self.contest.ended(written["id"], row.submitted_s, run_s, written)
        self.facts["ended"] = len(self.contest.found)
        if self.contest.complete:
            self._judge(self.contest.verdict())

    # ------------------------------------------------------------------ inside

    def _learn(self, jobs: pd.DataFrame) -> None:
        """Take jobs in; a challenger that refits by it does not again until it is judged."""
        refits = len(self.challenger.forecaster.refits)
        for one in (self.champion, self.challenger):
            one.update(jobs)
        if len(self.challenger.forecaster.refits) > refits:
            self.facts["refits"] += 1
            self.contest = Contest(self.procs, self.ends)
            self.challenger.forecaster.schedule.refit_s = math.inf

    def _judge(self, verdict: dict[str, Any]) -> None:
        self.contest = None
        names = {"champion": str(self.facts["promotions"]), "dispatcher": "planner",
                 "challenger": f"refit {self.facts['refits']}"}  # fmt: skip
        self.verdict = {**names, **verdict}
        self.facts |= {"contests": self.facts["contests"] + 1, "ended": 0, "why": verdict["why"]}
        self.challenger.forecaster.schedule.refit_s = self.refit_s
        if not verdict["promoted"]:
            return
        self.facts["promotions"] += 1
        self.champion = deepcopy(self.challenger)
        self.champion.forecaster.schedule.refit_s = math.inf
        if self.kept is not None:
            _origin(self.kept).unlink(missing_ok=True)
            self.challenger.save(self.kept)
            write_text_atomic(_origin(self.kept), self._first)

    def _forecast(
        self,
        predictor: RuntimePredictor,
        rows: Sequence[dict[str, Any]],
        now_s: int,
        classes: Collection[str],
    ) -> Estimates:
        table = task_rows_table(rows, SOURCE)
        return forecast_tasks(table, predictor, now_s=now_s, classes=classes)

    def _jobs(self, rows: Sequence[Any]) -> pd.DataFrame:
        table = task_rows_table([_written(row) for row in rows], SOURCE)
        jobs = jobs_of(read_task_table(table))
        jobs["submit_s"] = [float(row.submitted_s) for row in rows]
        return jobs


def _origin(kept: Path) -> Path:
    """Says of which model a kept one is the successor."""
    return kept.with_name(f"{kept.name}.from")


def _came_from(kept: Path) -> str:
    return read_text(_origin(kept)).strip() if _origin(kept).exists() else ""


def _written(row: Any) -> dict[str, Any]:
    """A task as its user wrote it."""
    found: dict[str, Any] = json.loads(row.row)["row"]
    return found

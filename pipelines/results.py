"""What the verbs of ``plancast`` give back: logs, plans, replays and evaluations to look at.

Each shows itself in a notebook and hands its facts on as a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.inputs.foreign import nearest
from plancast.pipelines.inputs.plan_files import plan_frame, write_plan
from plancast.planner.model.domain import TERMS, Assignment, BadRequest, estimate_for
from plancast.planner.model.explain import moment, span
from plancast.planner.model.messages import PlanRequest, PlanResponse, Status, to_json
from plancast.wording import counted, log_in_words

if TYPE_CHECKING:
    from plancast.pipelines.charts.drawing import Drawing

SHOWN_ROWS = 5


class JobLog(pd.DataFrame):
    """A canonical job log: a frame whose parts are plain frames.

    ``attrs`` tell the file, the machine and what became of bad rows.
    """

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    @property
    def facts(self) -> dict[str, Any]:
        """Jobs, users, processors and span of the log, JSON values."""
        from plancast.predictor.schema import machine_size, stated_size, usable

        _, counts = usable(pd.DataFrame(self))
        known = self["submit_s"].dropna()
        return {
            "log": self.attrs.get("source", "log"),
            "format": self.attrs.get("format", "table"),
            "jobs": len(self),
            "usable": counts.kept,
            "users": int(self.loc[self["user"] != "", "user"].nunique()),
            "processors": machine_size(self),
            "size_stated": stated_size(self) is not None,
            "first_s": float(known.min()) if len(known) else None,
            "last_s": float(known.max()) if len(known) else None,
            "median_run_s": None if self["run_s"].isna().all() else float(self["run_s"].median()),
            "notes": list(self.attrs.get("notes", [])),
        }

    def _repr_html_(self) -> str:
        found = self.facts
        median_s = found["median_run_s"]
        lines = [
            log_in_words(found["jobs"], found["users"], found["processors"], found["size_stated"])
            + f"; {found['usable']:,} can teach run times"
            + (f" (median {span(median_s)})" if median_s is not None else "")
        ]
        if found["first_s"] is not None:
            lines.append(f"submitted {moment(found['first_s'])} to {moment(found['last_s'])}")
        lines += [f"note: {note}" for note in found["notes"]]
        first = pd.DataFrame(self).head(SHOWN_ROWS)
        shown = {
            "job": first["job_id"],
            "submitted": first["submit_s"].map(moment, na_action="ignore"),
            "ran": first["run_s"].map(span, na_action="ignore"),
            "requested": first["requested_s"].map(span, na_action="ignore"),
            **{name: first[name] for name in ("cpus", "user", "app", "queue", "outcome")},
        }
        frame = pd.DataFrame(shown).replace("", None).dropna(axis=1, how="all")
        return card(f"Job log {found['log']}", lines, frame.to_html(index=False, na_rep=""))


@dataclass(frozen=True)
class PlannedBatch:
    """A plan, the request that it answers, and what the planner says of it.

    Parameters
    ----------
    request : PlanRequest
    response : PlanResponse
    solver : str
        As it was asked for.
    """

    request: PlanRequest
    response: PlanResponse
    solver: str = "auto"

    @property
    def status(self) -> str:
        """``optimal``, ``feasible``, ``infeasible`` or ``no_plan_in_time``."""
        return self.response.status.value

    @property
    def cost(self) -> float | None:
        """What the plan costs by the evaluator; None where there is no plan."""
        return self.response.cost

    @property
    def gap(self) -> float | None:
        """At most this share of the cost could be saved; None where no bound is known."""
        return self.response.gap

    @property
    def terms(self) -> dict[str, float]:
        """Amount of each cost term."""
        return dict(self.response.terms)

    @property
    def unplanned(self) -> dict[str, str]:
        """Tasks that cannot be placed, with the reason."""
        return dict(self.response.unplanned)

    @cached_property
    def greedy_cost(self) -> float | None:
        """What the list schedule costs that every plan is held against."""
        from plancast.planner.planning.plan import plan

        return plan(self.request, "greedy").cost

    def to_frame(self) -> pd.DataFrame:
        """Where and when each planned task runs, a row each; see ``plan_frame``."""
        return plan_frame(self.request, self.response)

    def gantt(self, path: str | Path | None = None) -> Path | Drawing:
        """Draw the plan.

        Parameters
        ----------
        path : path-like, optional
            ``.html``, ``.svg`` or ``.png``; without it the chart is given back.

        Raises
        ------
        BadRequest
            Where there is no plan, or the name has another ending.
        """
        if self.response.plan is None:
            raise BadRequest(f"there is no plan to draw ({self.status})")
        if path is None:
            return self._drawing()
        from plancast.pipelines.charts.gantt import write_gantt

        return write_gantt(self.request, self.response.plan, path)

    def _drawing(self) -> Drawing:
        # Imported only now: its libraries take a second to load.
        from plancast.pipelines.charts.gantt import gantt_chart

        assert self.response.plan is not None
        name = f"Plan for {self.request.request_id}"
        return gantt_chart(self.request, self.response.plan, title=name)

    def save(self, path: str | Path) -> Path:
        """Write the plan as ``.json`` (the whole response), ``.csv`` or ``.parquet``."""
        return write_plan(self.request, self.response, path)

    def save_request(self, path: str | Path) -> Path:
        """Write the request as JSON, which ``plancast plan`` and ``validate`` read."""
        write_text_atomic(path, to_json(self.request, indent=1))
        return Path(path)

    def explain(self, task: str) -> str:
        """Where, when and why a task runs, in a few sentences.

        Raises
        ------
        BadRequest
            For a task that the request does not name.
        """
        known = self._task(task)
        if task in self.response.unplanned:
            return f"{task} cannot be placed: {self.response.unplanned[task]}."
        found = self.response.plan.by_task.get(task) if self.response.plan else None
        now = self.request.snapshot.now_s
        if found is None:
            reason = self.response.why.get(task, "no plan was found in time")
            return f"{task} is not planned: {reason}."
        workers = " ".join(found.workers)
        away = f"in {span(found.start_s - now)}" if found.start_s > now else "now"
        said = [
            f"{task} runs on {workers} from {moment(found.start_s)} ({away}) to "
            f"{moment(found.end_s)}: {span(found.end_s - found.start_s)}",
            self._estimate_said(found),
        ]
        waits = self.response.why.get(task)
        said.append(f"It {waits}" if waits else "It starts as early as it can")
        if known.deadline_s is not None:
            spare_s = known.deadline_s - found.end_s
            said.append(
                f"It is due {moment(known.deadline_s)}, "
                + (f"{span(spare_s)} to spare" if spare_s >= 0 else f"late by {span(-spare_s)}")
            )
        followers = [t.id for t in self.request.snapshot.pending if task in t.after]
        if followers:
            said.append(f"{', '.join(followers)} can start only after it")
        return ". ".join(part for part in said if part) + "."

    def _estimate_said(self, found: Assignment) -> str:
        kind = self.request.snapshot.worker_by_id[found.workers[0]].machine_class
        estimate = estimate_for(self.request.estimates, found.task, kind, found.mode)
        if estimate is None or len(estimate.levels) < 2:
            return ""
        level = self.request.policy.level
        return (
            f"Reserved is the {100 * level:g}% quantile of its forecast, whose median is "
            f"{span(estimate.at(0.5))}"
        )

    def _task(self, name: str) -> Any:
        snapshot = self.request.snapshot
        if name in snapshot.pending_by_id:
            return snapshot.pending_by_id[name]
        if name in snapshot.running_by_id:
            return snapshot.running_by_id[name].task
        raise BadRequest(
            f"there is no task {name!r}; {nearest(name, list(snapshot.pending_by_id))}"
        )

    def summary(self) -> str:
        """Status, cost and gap in one sentence."""
        total = len(self.request.snapshot.pending)
        if self.response.plan is None or self.cost is None:
            reasons = "; ".join(self.response.why.values())
            return f"{self.status}: none of {counted(total, 'task')} planned" + (
                reasons and f" ({reasons})"
            )
        planned = len(
            self.request.snapshot.pending_by_id.keys() & self.response.plan.by_task.keys()
        )
        gap = "no bound known" if self.gap is None else f"at most {self.gap:.1%} above the least"
        if self.response.status is Status.OPTIMAL:
            gap = "proven least"
        workers = counted(len(self.request.snapshot.workers), "worker")
        return (
            f"{self.status}: {planned:,} of {counted(total, 'task')} on {workers}, "
            f"cost {self.cost:,.6g} ({gap})"
        )

    def __repr__(self) -> str:
        return f"<PlannedBatch {self.summary()}>"

    def _repr_html_(self) -> str:
        if self.response.plan is None:
            return card("Plan", [self.summary()])
        prices = self.request.policy.prices
        rows = [
            [term, f"{amount:,.4g}", f"{prices.of(term):,.4g}", f"{prices.of(term) * amount:,.4g}"]
            for term, amount in self.terms.items()
            if term in TERMS and prices.of(term) * amount
        ]
        lines = [self.summary(), *(f"{k} cannot be placed: {v}" for k, v in self.unplanned.items())]
        if self.greedy_cost is not None:
            lines.insert(1, f"the list schedule costs {self.greedy_cost:,.6g}")
        table = html_table(["term", "amount", "price", "cost"], rows)
        return card("Plan", lines, self._drawing().svg(), table)


def asked_estimate(cell: Mapping[str, Any]) -> str:
    """What a replay's cell was asked to believe, as it is written: ``model:0.8``, ``oracle:1``."""
    level = "" if cell["level"] in (None, 0.5) else f":{cell['level']:g}"
    return f"{cell['estimates']}{level}" + (f":{cell['sigma']:g}" if cell["sigma"] else "")


@dataclass(frozen=True)
class Replayed:
    """A log replayed under dispatchers and estimates.

    Parameters
    ----------
    report : dict
        As of ``plancast.pipelines.backtest.backtest.backtest``.
    """

    report: dict[str, Any]

    def to_frame(self) -> pd.DataFrame:
        """A row for each dispatcher and estimate as it was asked for: the cells of the report."""
        frame = pd.json_normalize(self.report["cells"], max_level=0)
        return frame.assign(estimates=[asked_estimate(cell) for cell in self.report["cells"]])

    def _repr_html_(self) -> str:
        rows = [
            [c["dispatcher"], asked_estimate(c), f"{c['bsld_mean']:,.2f}",
             f"{c['bsld_ci'][0]:,.2f} to {c['bsld_ci'][1]:,.2f}",
             span(c["wait_mean_s"])]
            for c in self.report["cells"]
        ]  # fmt: skip
        header = ["dispatcher", "estimates", "mean bounded slowdown", "95%", "mean wait"]
        lines = [
            f"{counted(self.report['jobs'], 'job')} on {counted(self.report['procs'], 'processor')}"
        ]
        return card(f"Replay of {self.report['log']}", lines, html_table(header, rows))


@dataclass(frozen=True)
class Evaluated:
    """Forecasts of a log, each made from the past alone, beside rules of thumb.

    Parameters
    ----------
    report : dict
        As of ``plancast.pipelines.backtest.evaluate_log.evaluate_file``.
    """

    report: dict[str, Any]

    def to_frame(self) -> pd.DataFrame:
        """A row for each estimator, by name."""
        frame = pd.DataFrame.from_dict(self.report["estimators"], orient="index")
        frame.index.name = "estimator"
        return frame

    def _repr_html_(self) -> str:
        levels = self.report["levels"]
        rows = [
            [name, f"{e['median_abs_log2']:.3f}", f"{e['within_2x']:.0%}", f"{e['pinball']:,.0f}",
             " ".join(f"{100 * e['coverage'][f'{p:g}']:.1f}" for p in levels)]
            for name, e in self.report["estimators"].items()
        ]  # fmt: skip
        asked = " ".join(f"{100 * p:g}" for p in levels)
        header = ["estimator", "|log2|", "within 2x", "pinball s", f"covered, of {asked}"]
        lines = [
            f"{self.report['evaluated']:,} of {counted(self.report['jobs'], 'job')}, "
            f"{counted(len(self.report['refits']), 'refit')}"
        ]
        return card(f"Forecasts of {self.report['log']}", lines, html_table(header, rows))


# ------------------------------------------------------------------------------- words


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as HTML, its first column text and the others numbers."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="text-align:{"left" if k == 0 else "right"}">{escape(cell)}</td>'
            for k, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def card(title: str, lines: Sequence[str], *parts: str) -> str:
    """A title, sentences and parts of HTML one below the other."""
    said = "".join(f"<div>{escape(line)}</div>" for line in lines)
    return (
        f'<div><div style="font-weight:600">{escape(title)}</div>{said}'
        f"{''.join(f'<div>{part}</div>' for part in parts)}</div>"
    )

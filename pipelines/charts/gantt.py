"""Gantt charts of plans that people can search and zoom, and pages and images of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import altair as alt

from plancast.pipelines.charts.bars import (
    Bar,
    bars_of,
    busiest_workers,
    lanes_of,
    left_out,
    longest_bars,
)
from plancast.pipelines.charts.drawing import Drawing, drawing
from plancast.pipelines.charts.drawing import rows as named
from plancast.pipelines.charts.page import THEME_BUTTON, figure, page
from plancast.pipelines.charts.theme import COLOURS, GREY, INK, LATE
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.planner.model.domain import TERMS, BadRequest, Plan, Worker, in_words
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.explain import moment, some_of, span
from plancast.planner.model.messages import PlanRequest
from plancast.wording import counted

ENDINGS = (".html", ".svg", ".png")
MOST_WORKERS, MOST_BARS, MOST_EDGES = 80, 3000, 3000
IMAGE_WIDTH = 1160
"""Pixels of an image that is written to a file."""
UNITS = (("days", 86_400), ("hours", 3600), ("minutes", 60), ("seconds", 1))
FEW = 40
"""Up to so many dependencies, or deadlines, are drawn without being asked for."""
MOST_HEIGHT = 2400
"""Pixels of all lanes together."""
LETTER, MOST_LETTERS = 6.6, 13
"""Pixels of a letter of a worker's name, and how many of them are shown."""
PICKED = "(picked.task && indexof(picked.task, datum.task) >= 0)"
HOW_TO_READ = (
    "A row for each worker, time to the right. Drag across the load below to zoom, double-click "
    "there to see all again; click a bar for its dependencies and its deadline, a colour for its "
    "tasks; type to search. Red edges and dashes: later than the deadline."
)


@dataclass(frozen=True)
class _Rows:
    """Where everything stands: lanes from the top, hours (or the like) from now."""

    request: PlanRequest
    workers: list[Worker]
    top: dict[str, int]
    unit: str
    unit_s: int

    @property
    def left(self) -> int:
        """Room for the workers' names, pixels."""
        longest = max((len(worker.id) for worker in self.workers), default=0)
        return max(44, round(LETTER * min(MOST_LETTERS, longest)) + 10)

    def at(self, seconds: int) -> float:
        return round((seconds - self.request.snapshot.now_s) / self.unit_s, 4)


def gantt_chart(
    request: PlanRequest,
    plan: Plan,
    executed: Plan | None = None,
    *,
    colour_by: str = "owner",
    title: str | None = None,
    most_workers: int = MOST_WORKERS,
    most_bars: int = MOST_BARS,
) -> Drawing:
    """A plan as a chart, its load below.

    Parameters
    ----------
    request : PlanRequest
    plan : Plan
    executed : Plan, optional
        What really ran, to be switched to.
    colour_by : {"owner", "app", "machine_class"}
        What the seven colours stand for: the most frequent ones, the others are grey.
    title : str, optional
        Stands above an image, with what is in it; a page has a heading of its own.
    most_workers, most_bars : int
        At most so many workers, those with the most reserved time, and so many pieces of tasks,
        the longest, are drawn; the notes, in the title and in ``usermeta``, say what is left out.
    """
    versions = {"planned": plan} | ({"executed": executed} if executed is not None else {})
    drawn = {name: bars_of(request, one) for name, one in versions.items()}
    workers = busiest_workers(request, drawn["planned"][0], most_workers)
    whole = {name: {w.id: of.get(w.id, []) for w in workers} for name, (of, _) in drawn.items()}
    notes = left_out(request, whole["planned"], drawn["planned"][1], most_bars)
    found = {name: longest_bars(of, most_bars) for name, of in whole.items()}
    lanes = {name: {w: lanes_of(row) for w, row in rows.items()} for name, rows in found.items()}
    top, depth = _stacked(workers, list(lanes.values()))
    ends = [b.end_s for rows in found.values() for row in rows.values() for b in row]
    length_s = max([1, *(end - request.snapshot.now_s for end in ends)])
    unit, unit_s = next((u, s) for u, s in UNITS if length_s >= 2 * s or s == 1)
    rows = _Rows(request, workers, top, unit, unit_s)
    bars = [
        _bar(rows, bar, worker, lane, name, colour_by)
        for name, by_worker in lanes.items()
        for worker, placed in by_worker.items()
        for bar, lane in placed
    ]
    last = max(ends, default=request.snapshot.now_s + length_s)
    words = None if title is None else [title, *_about(rows, bars, last), *notes]
    chart = _layers(rows, bars, _group(bars), depth, found, list(versions), last, words)
    chart.spec["usermeta"]["notes"] = notes
    return chart


def _stacked(
    workers: list[Worker], versions: list[dict[str, list[tuple[Bar, int]]]]
) -> tuple[dict[str, int], int]:
    """The first lane of each worker, and how many lanes there are."""
    top, depth = {}, 0
    for worker in workers:
        top[worker.id] = depth
        depth += 1 + max((k for rows in versions for _, k in rows[worker.id]), default=0)
    return top, depth


def _about(rows: _Rows, bars: list[dict[str, Any]], last: int) -> list[str]:
    """What is in an image, and how its marks are read, a line each."""
    now = rows.request.snapshot.now_s
    tasks, late = {b["task"] for b in bars}, {b["task"] for b in bars if b["late"]}
    facts = [
        f"{counted(len(tasks), 'task')} on {counted(len(rows.workers), 'worker')}",
        f"ends in {span(last - now)}",
        f"{len(late)} late" if late else "none late",
        f"now is {moment(now)}",
    ]
    marks = [
        ("pale: runs already", any(bar["runs"] for bar in bars)),
        ("triangles: deadlines", any("due" in bar for bar in bars)),
        ("red: later than its deadline", bool(late)),
        ("lines: waits for", 0 < len(_edges(rows, bars)) <= FEW),
        ("grey: not available", any(closed_times(rows, w, last) for w in rows.workers)),
    ]
    said = [text for text, there in marks if there]
    return ["  \u00b7  ".join(facts), *(["  \u00b7  ".join(said)] if said else [])]


def _bar(
    rows: _Rows, bar: Bar, worker: str, lane: int, version: str, colour_by: str
) -> dict[str, Any]:
    task, now = bar.task, rows.request.snapshot.now_s
    y = rows.top[worker] + lane
    machine_class = rows.request.snapshot.worker_by_id[worker].machine_class
    groups = {"owner": task.owner, "app": task.app, "machine_class": machine_class}
    known = {
        "task": task.id, "worker": worker, "version": version, "x": rows.at(bar.start_s),
        "x2": rows.at(bar.end_s), "y": y + 0.08, "y2": y + 0.92, "mid": y + 0.5,
        "group": groups[colour_by] or "(none)", "late": bar.late, "runs": bar.runs,
        "label": task.id + (f" x{bar.count}" if bar.count > 1 else ""),
        "time": f"{span(bar.start_s - now)} to {span(bar.end_s - now)} from now "
        f"({span(bar.end_s - bar.start_s)})",
        "takes": ", ".join(in_words(name, amount) for name, amount in task.demand.items())
        + (f", {bar.count} times" if bar.count > 1 else "")
        + (f", in mode {bar.mode}" if bar.mode else ""),
        "words": f"{task.id} {task.owner} {task.app} {worker}".lower(),
    }  # fmt: skip
    if task.deadline_s is not None:
        gap_s = task.deadline_s - bar.end_s
        known["due"] = rows.at(task.deadline_s)
        known["lateness"] = f"late by {span(-gap_s)}" if bar.late else f"{span(gap_s)} to spare"
    return known


def _group(bars: list[dict[str, Any]]) -> list[str]:
    """Seven groups keep a colour each, the most frequent ones; the others share the last."""
    count: dict[str, int] = defaultdict(int)
    for bar in bars:
        count[bar["group"]] += 1
    kept = sorted(count, key=lambda name: (-count[name], name))[: len(COLOURS) - 1]
    others = f"{len(count) - len(kept)} others"
    for bar in bars:
        if bar["group"] not in kept:
            bar["group"] = others
    return [*kept, *([others] if len(kept) < len(count) else [])]


def _edges(rows: _Rows, bars: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """From the end of each task to the start of each that waits for it, in each version."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for bar in bars:
        first.setdefault((bar["version"], bar["task"]), bar)
    found = []
    for (version, name), bar in first.items():
        task = rows.request.snapshot.pending_by_id.get(name)
        for before in task.after if task else ():
            one = first.get((version, before))
            if one is not None:
                found.append(
                    {"from": before, "to": name, "version": version, "x": one["x2"],
                     "y": one["mid"], "x2": bar["x"], "y2": bar["mid"]}
                )  # fmt: skip
    return found[:MOST_EDGES]


def _load(rows: _Rows, found: Mapping[str, Mapping[str, list[Bar]]]) -> list[dict[str, Any]]:
    """Share of each resource in use, where it changes, in each version."""
    capacity: dict[str, int] = defaultdict(int)
    for worker in rows.workers:
        for name, amount in worker.capacity.items():
            capacity[name] += amount
    result = []
    for version, by_worker in found.items():
        for name, whole in capacity.items():
            change: dict[int, int] = defaultdict(int)
            for bar in (b for row in by_worker.values() for b in row):
                amount = bar.task.demand.get(name, 0) * bar.count
                change[max(bar.start_s, rows.request.snapshot.now_s)] += amount
                change[bar.end_s] -= amount
            used = 0
            for at_s in sorted(change):
                used += change[at_s]
                result.append({"x": rows.at(at_s), "share": round(used / max(whole, 1), 4),
                               "resource": name, "version": version})  # fmt: skip
    return [row for row in result if any(row["resource"] == r["resource"] and r["share"]
                                         for r in result[:400])]  # fmt: skip


class _Axes:
    """The scales that all layers share; the time axis follows what is brushed below."""

    def __init__(self, rows: _Rows, depth: int, first: float, last: float) -> None:
        brushed = [alt.expr(f"zoom.x ? zoom.x[{k}] : {end}") for k, end in enumerate((first, last))]
        self.lane = min(20.0, max(760 / max(depth, 1), min(5.0, MOST_HEIGHT / max(depth, 1))))
        self._x = alt.Scale(domain=brushed, nice=False, zero=False)
        self._y = alt.Scale(domain=[0, depth], reverse=True, nice=False, zero=False)
        self._names = _names_axis(rows, depth, self.lane)

    def x(self, field: str = "x") -> Any:
        """A time."""
        return alt.X(f"{field}:Q", title=None, scale=self._x, axis=alt.Axis(tickCount=8))

    def y(self, field: str = "y") -> Any:
        """A lane."""
        return alt.Y(f"{field}:Q", scale=self._y, axis=self._names)


def _layers(
    rows: _Rows,
    bars: list[dict[str, Any]],
    groups: list[str],
    depth: int,
    found: Mapping[str, Mapping[str, list[Bar]]],
    versions: list[str],
    end_s: int,
    words: list[str] | None,
) -> Drawing:
    last = rows.at(end_s)
    first = min([0.0, *(max(bar["x"], -last / 8) for bar in bars)])
    axes, edges, load = _Axes(rows, depth, first, last), _edges(rows, bars), _load(rows, found)
    bands = alt.Chart(named("bands")).mark_rect().encode(
        x=axes.x(), x2="x2:Q", y=axes.y(), y2="y2:Q", color=alt.value(GREY),
        opacity=alt.condition("datum.closed", alt.value(0.32), alt.value(0.07)),
        tooltip=alt.Tooltip("about:N", title=" "),
    )  # fmt: skip
    room = "scale('gantt_x', datum.x2) - scale('gantt_x', datum.x) > 7 * length(datum.label) + 6"
    labels = _visible("bars").mark_text(align="left", dx=4, fontSize=10, color=INK, clip=True)
    labels = labels.encode(
        x=axes.x(), y=axes.y("mid"), text="label:N",
        opacity=alt.condition(room, alt.value(1 if axes.lane >= 10 else 0), alt.value(0)),
    )  # fmt: skip
    now = alt.Chart(named("now")).mark_rule(strokeWidth=1.5, clip=True).encode(x=axes.x())
    many = sum(1 for bar in bars if "due" in bar) > FEW
    parts = [bands, _blocks(axes, groups, versions), *([_lines(axes, edges)] if edges else []),
             *_deadlines(axes, many), labels, now]  # fmt: skip
    height = max(60, round(axes.lane * depth))
    zoom = alt.selection_interval(name="zoom", encodings=["x"])
    chart = alt.vconcat(
        alt.layer(*parts).properties(name="gantt", height=height),
        _load_chart(rows, load, versions, first, last).add_params(zoom), spacing=14,
    ).resolve_scale(color="independent")  # fmt: skip
    if words:
        chart = chart.properties(title=alt.Title(words[0], subtitle=words[1:]))
    return drawing(
        chart.properties(usermeta={"margin": rows.left + 18}), bars=bars, edges=edges, load=load,
        bands=_bands(rows, depth, first, last), now=[{"x": 0}],
    )  # fmt: skip


def _visible(data: str) -> Any:
    """The rows of the version that is shown."""
    return alt.Chart(named(data)).transform_filter("datum.version == shown")


def _blocks(axes: _Axes, groups: list[str], versions: list[str]) -> Any:
    """The tasks' bars, and what people choose among them by."""
    search = alt.param(
        name="search", value="",
        bind=alt.BindInput(input="search", name="Search ", placeholder="task, owner, app, worker"),
    )  # fmt: skip
    choice = {"bind": alt.binding_radio(options=versions, name="Show ")}
    shown = alt.param(name="shown", value=versions[0], **(choice if len(versions) > 1 else {}))
    picked = alt.selection_point(name="picked", fields=["task"], on="click", clear="dblclick")
    kept = alt.selection_point(name="kept", fields=["group"], bind="legend")
    wanted = (
        "(search == '' || indexof(datum.words, lower(search)) >= 0) && "
        "(!length(data('kept_store')) || indexof(kept.group, datum.group) >= 0)"
    )
    tips = [alt.Tooltip(f"{key}:N", title=title) for key, title in (
        ("task", "task"), ("worker", "on"), ("time", "runs"), ("takes", "takes"),
        ("group", "of"), ("lateness", "deadline"))]  # fmt: skip
    bars = _visible("bars").mark_rect(cornerRadius=2, clip=True).encode(
        x=axes.x(), x2="x2:Q", y=axes.y(), y2="y2:Q", tooltip=tips,
        color=alt.Color("group:N", title=None, sort=groups, legend=alt.Legend(columns=4),
                        scale=alt.Scale(domain=groups, range=list(COLOURS[: len(groups)]))),
        fillOpacity=alt.FillOpacityValue(0.12, condition=[
            {"test": f"{wanted} && datum.runs", "value": 0.6}, {"test": wanted, "value": 1}]),
        stroke=alt.StrokeValue(None, condition=[{"test": "datum.late", "value": LATE},
                                                {"test": PICKED, "value": GREY}]),
        strokeWidth=alt.value(2 if axes.lane >= 10 else 1),
    )  # fmt: skip
    return bars.add_params(picked, kept, search, shown).properties(name="bars")


def _lines(axes: _Axes, edges: list[dict[str, Any]]) -> Any:
    """From tasks to those that wait for them; where they are many, of the picked task."""
    touches = ("picked.task && (indexof(picked.task, datum.from) >= 0 || "
               "indexof(picked.task, datum.to) >= 0)")  # fmt: skip
    chart = _visible("edges")
    if len(edges) > FEW:
        chart = chart.transform_filter(touches)
    return chart.mark_rule(clip=True, strokeWidth=1.4).encode(
        x=axes.x(), x2="x2:Q", y=axes.y(), y2="y2:Q",
        opacity=alt.condition(touches, alt.value(1), alt.value(0.4)),
    )  # fmt: skip


def _deadlines(axes: _Axes, many: bool) -> list[Any]:
    """A line from a task's end to its deadline; where they are many, of late and picked tasks."""
    due = _visible("bars").transform_filter("isValid(datum.due)")
    if many:
        due = due.transform_filter(f"datum.late || {PICKED}")
    colour = alt.condition("datum.late", alt.value(LATE), alt.value(GREY))
    slack = due.mark_rule(clip=True, strokeDash=[3, 2], strokeWidth=1.5).encode(
        x=axes.x("x2"), x2="due:Q", y=axes.y("mid"), color=colour
    )
    triangle = due.mark_point(shape="triangle-down", filled=True, size=46, clip=True, opacity=1)
    marks = triangle.encode(
        x=axes.x("due"), y=axes.y("mid"), color=colour,
        tooltip=[alt.Tooltip("task:N", title="deadline of"), alt.Tooltip("lateness:N", title="is")],
    )  # fmt: skip
    return [slack, marks]


def _load_chart(
    rows: _Rows, load: list[dict[str, Any]], versions: list[str], first: float, last: float
) -> Any:
    resources = list(dict.fromkeys(row["resource"] for row in load))
    dash = alt.StrokeDash(
        "version:N", title=None, sort=versions,
        scale=alt.Scale(domain=versions, range=[[1, 0], [4, 3]][: len(versions)]),
        legend=alt.Legend(symbolType="stroke") if len(versions) > 1 else None,
    )  # fmt: skip
    return (
        alt.Chart(named("load"))
        .mark_line(interpolate="step-after", strokeWidth=1.8)
        .encode(
            x=alt.X("x:Q", title=f"{rows.unit} from now",
                    scale=alt.Scale(domain=[first, last], nice=False),
                    axis=alt.Axis(tickCount=8)),
            y=alt.Y("share:Q", title="load", scale=alt.Scale(domainMin=0),
                    axis=alt.Axis(format="%", tickCount=3, minExtent=rows.left, maxExtent=rows.left,
                                  titleX=-38)),
            color=alt.Color("resource:N", title=None, sort=resources,
                            scale=alt.Scale(range=[COLOURS[k] for k in (2, 1, 3, 0)])),
            strokeDash=dash,
        )
        .properties(height=84, name="load")
    )  # fmt: skip


def _names_axis(rows: _Rows, depth: int, lane: float) -> Any:
    """The workers' names, each in the middle of its lanes; where they are many, some of them."""
    names = [worker.id for worker in rows.workers]
    places = [round((rows.top[n] + _next(rows, n, depth)) / 2, 3) for n in names]
    every = max(1, round(11 * len(names) / (lane * depth)))
    short = short_names(names)
    by_place = json.dumps({f"{p:g}": n for p, n in zip(places, short, strict=True)})
    return alt.Axis(
        values=places[::every], title=None, ticks=False, grid=False, domain=False,
        minExtent=rows.left, maxExtent=rows.left, labelExpr=f"{by_place}[datum.value]",
    )  # fmt: skip


def short_names(names: Sequence[str], most: int = MOST_LETTERS) -> list[str]:
    """Names as they stand beside a chart: cut where that keeps most of them apart.

    A domain that all share goes first; then the end, the middle, or what all begin with.
    """
    if max(map(len, names), default=0) <= most:
        return list(names)
    ends = [name[::-1] for name in names]
    tail = ends[0][: _shared(ends)][::-1]
    heads = [name.removesuffix(tail[tail.find(".") :] if "." in tail else "") for name in names]
    if not all(heads):
        heads = list(names)
    same, half = _shared(heads), most // 2
    ways: tuple[Callable[[str], str], ...] = (
        lambda name: name[: most - 1] + "…",
        lambda name: name[: most - 1 - half] + "…" + name[-half:],
        lambda name: "…" + name[same:][: most - 1],
    )
    tried = [[n if len(n) <= most else cut(n) for n in heads] for cut in ways]
    return max(tried, key=lambda found: len(set(found)))


def _shared(texts: Sequence[str]) -> int:
    """With how many letters all texts begin."""
    first, last = min(texts), max(texts)  # in order of letters: all others lie between
    pairs = enumerate(zip(first, last, strict=False))
    return next((k for k, (one, other) in pairs if one != other), len(first))


def _next(rows: _Rows, name: str, depth: int) -> int:
    below = [top for top in rows.top.values() if top > rows.top[name]]
    return min(below, default=depth)


def _bands(rows: _Rows, depth: int, first: float, last: float) -> list[dict[str, Any]]:
    """Every second worker shaded, and when workers are not available."""
    found: list[dict[str, Any]] = []
    for k, worker in enumerate(rows.workers):
        y, y2 = rows.top[worker.id], _next(rows, worker.id, depth)
        about = f"{worker.id} ({worker.machine_class}): " + ", ".join(
            f"{name} {amount:,}" for name, amount in worker.capacity.items()
        )
        if k % 2:
            found.append({"x": first, "x2": last, "y": y, "y2": y2, "about": about})
        for start_s, end_s, why in closed_times(rows, worker, last):
            found.append({"x": max(first, rows.at(start_s)), "x2": min(last, rows.at(end_s)),
                          "y": y, "y2": y2, "about": why, "closed": True})  # fmt: skip
    return found


def closed_times(rows: _Rows, worker: Worker, last: float) -> list[tuple[int, int, str]]:
    """When a worker takes no task, and why."""
    now = rows.request.snapshot.now_s
    end_s = now + round(last * rows.unit_s)
    found = [(w.start_s, w.end_s, f"{worker.id} is blocked") for w in worker.blocked]
    if worker.free_at(now) > now:
        found.append((now, worker.free_at(now), f"{worker.id} is not free yet"))
    if worker.until_s is not None:
        found.append((max(now, worker.until_s), end_s, f"{worker.id} has drained"))
    return [entry for entry in found if entry[0] < min(entry[1], end_s)]


def gantt_html(
    request: PlanRequest,
    plan: Plan,
    *,
    executed: Plan | None = None,
    colour_by: str = "owner",
    title: str | None = None,
) -> str:
    """A self-contained page: the chart, the cost term by term, and what is wrong if anything.

    Parameters
    ----------
    request, plan, executed, colour_by
        As in ``gantt_chart``.
    title : str, optional

    Returns
    -------
    str
        HTML, readable on light and dark screens and on phones, without references to other files.
    """
    absent = [t.id for t in request.snapshot.pending if t.id not in plan.by_task]
    found = evaluate(request, plan, unplanned=absent)
    chart = gantt_chart(request, plan, executed, colour_by=colour_by)
    drawn = bool(plan.assignments or request.snapshot.running)
    rows = []
    for term in TERMS:
        price, amount = request.policy.prices.of(term), found.terms[term]
        quiet = "" if price * amount else ' class="quiet"'
        rows.append(
            f"<tr{quiet}><td>{term}</td><td>{amount:,.4g}</td><td>{price:,.6g}</td>"
            f"<td>{price * amount:,.4g}</td></tr>"
        )
    remarks = [v.text for v in found.violations[:20]]
    if len(found.violations) > 20:
        remarks.append(f"and {len(found.violations) - 20} more")
    if absent:
        remarks.append(f"left out: {some_of(absent)}")
    wrong = "".join(f"<li>{escape(text)}</li>" for text in remarks)
    name = title or f"Plan for {request.request_id}"
    facts = (f"{counted(len(plan.assignments), 'task')} on "
             f"{counted(len(request.snapshot.workers), 'worker')}, "
             f"cost {found.cost:,.6g}", *chart.spec["usermeta"]["notes"])  # fmt: skip
    body = (
        f"<header><h1>{escape(name)}</h1>{THEME_BUTTON}</header>"
        f'<p class="soft">{escape("; ".join(facts))}</p>'
        + (figure("gantt", "Plan", HOW_TO_READ, whole=True) if drawn else "<p>Nothing to draw.</p>")
        + (f"<h2>Remarks</h2><ul>{wrong}</ul>" if wrong else "")
        + "<h2>Cost</h2><div class='wide'><table><thead><tr><th>term</th><th>amount</th>"
        f"<th>price</th><th>cost</th></tr></thead><tbody>{''.join(rows)}</tbody><tfoot><tr>"
        f"<td>total</td><td></td><td></td><td>{found.cost:,.6g}</td></tr></tfoot></table></div>"
    )
    return page(name, body, {"gantt": chart} if drawn else {})


def gantt_svg(
    request: PlanRequest, plan: Plan, *, colour_by: str = "owner", title: str | None = None
) -> str:
    """A plan as an SVG image, titled; parameters as in ``gantt_chart``."""
    return _image(request, plan, colour_by, title).svg(width=IMAGE_WIDTH)


def _image(request: PlanRequest, plan: Plan, colour_by: str, title: str | None) -> Drawing:
    name = title or f"Plan for {request.request_id}"
    return gantt_chart(request, plan, colour_by=colour_by, title=name)


def write_gantt(
    request: PlanRequest,
    plan: Plan,
    path: str | Path,
    *,
    executed: Plan | None = None,
    title: str | None = None,
) -> Path:
    """A Gantt chart in the form that the ending names: a page, or an image.

    Parameters
    ----------
    request, plan, executed, title
        As in ``gantt_html``; an image shows the plan alone.
    path : path-like
        Ends in ``.html``, ``.svg`` or ``.png``; written whole or not at all.

    Raises
    ------
    BadRequest
        Where it ends otherwise.
    """
    check_gantt_path(path)
    target = Path(path)
    ending = target.suffix.lower()
    if ending == ".html":
        content: str | bytes = gantt_html(request, plan, executed=executed, title=title)
    else:
        image = _image(request, plan, "owner", title)
        content = (image.svg if ending == ".svg" else image.png)(width=IMAGE_WIDTH)
    write_text_atomic(target, content)
    return target


def check_gantt_path(path: str | Path) -> None:
    """Refuse a name for a chart whose ending says no form, before anything is planned."""
    if Path(path).suffix.lower() not in ENDINGS:
        raise BadRequest(f"{path}: a Gantt chart ends in {', '.join(ENDINGS)}; name it so")

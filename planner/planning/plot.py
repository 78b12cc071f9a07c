"""Gantt charts of plans as SVG images, and what is drawn of a plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import heappop, heappush
from html import escape

from plancast.planner.model.domain import Plan, Task, Worker
from plancast.planner.model.messages import PlanRequest
from plancast.planner.model.spans import running_end_s

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Okabe and Ito's colours, distinguished with any colour vision (without black)."""

OTHERS = "#999999"
_DARK = ("#0072B2", "#009E73", "#D55E00")
"""Colours that take white letters; the others take black ones."""

_WIDTH = 1160
_MARGIN = 20
_LETTER = 6.6
"""Width of a letter in the small type, pixels; generous, as fonts differ."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A task's piece on one worker; `task` as it is done in its mode."""

    task: Task
    start_s: int
    end_s: int
    runs: bool
    count: int
    mode: str = ""

    @property
    def late(self) -> bool:
        """Whether it ends after its task's deadline."""
        return self.task.deadline_s is not None and self.end_s > self.task.deadline_s


def gantt_svg(
    request: PlanRequest,
    plan: Plan,
    *,
    colour_by: str = "owner",
    max_rows: int = 60,
    max_bars: int = 4000,
    title: str | None = None,
) -> str:
    """A plan as an SVG image: one row for each worker, time to the right.

    Parameters
    ----------
    request : PlanRequest
    plan : Plan
        Planned or really run. Tasks and workers that the request does not know are left out
        and counted in the note.
    colour_by : {"owner", "app", "machine_class"}
        What the seven colours stand for: the most frequent ones, the others are grey.
    max_rows : int
        At most so many workers (1 or more) are drawn, those with the most reserved task
        time; a note in the image says how many there are.
    max_bars : int
        At most so many pieces of tasks are drawn, the longest; again with a note.
    title : str, optional

    Returns
    -------
    str
        Text of the SVG. Bars side by side on a worker lie in lanes of their own. Running tasks
        are hatched, blocked and drained times grey, deadlines of drawn tasks small triangles,
        late tasks outlined in red. Each bar has a tooltip.
    """
    bars, strangers = bars_of(request, plan)
    chosen = busiest_workers(request, bars, max_rows)
    shown = {w.id: bars.get(w.id, []) for w in chosen}
    notes = _notes(request, shown, strangers, max_bars)
    shown = longest_bars(shown, max_bars)
    return _Chart(request, chosen, shown, colour_by, notes, title).svg()


def some_of(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


# --------------------------------------------------------------------------- what to draw


def bars_of(request: PlanRequest, plan: Plan) -> tuple[dict[str, list[Bar]], int]:
    """Bars by worker, and how many assignments name an unknown task or worker."""
    snapshot = request.snapshot
    bars: dict[str, list[Bar]] = defaultdict(list)
    strangers = 0

    def add(
        task: Task, mode: str, workers: Iterable[str], start_s: int, end_s: int, runs: bool
    ) -> None:
        done, pieces = task.in_mode(mode), dict[str, int]()
        for worker in workers:
            pieces[worker] = pieces.get(worker, 0) + 1
        for worker, count in pieces.items():
            bars[worker].append(Bar(done, start_s, end_s, runs, count, mode))

    seen = set()
    for a in plan.assignments:
        run = snapshot.running_by_id.get(a.task)
        task = snapshot.pending_by_id.get(a.task) or (run.task if run else None)
        known = task is not None and task.has_mode(a.mode)
        if task is None or not known or not set(a.workers) <= set(snapshot.worker_by_id):
            strangers += 1
            continue
        seen.add(a.task)
        runs = run is not None and a.task not in plan.preempted
        add(task, a.mode, a.workers, a.start_s, a.end_s, runs)
    for run in snapshot.running:
        if run.task.id not in seen and run.task.id not in plan.preempted:
            end_s = running_end_s(request, run)
            add(run.task, run.mode, run.workers, run.start_s, end_s, True)
    return bars, strangers


def busiest_workers(request: PlanRequest, bars: dict[str, list[Bar]], most: int) -> list[Worker]:
    """All workers, or the `most` with the most reserved task time, in the request's order."""
    workers = list(request.snapshot.workers)
    if len(workers) <= most:
        return workers
    busy_s = {
        w.id: sum((b.end_s - b.start_s) * b.count for b in bars.get(w.id, ())) for w in workers
    }
    busiest = sorted(workers, key=lambda w: -busy_s[w.id])[:most]
    keep = {w.id for w in busiest}
    return [w for w in workers if w.id in keep]


def longest_bars(bars: dict[str, list[Bar]], most: int) -> dict[str, list[Bar]]:
    """All bars by worker, or about the `most` longest of them."""
    lengths = sorted((b.end_s - b.start_s for row in bars.values() for b in row), reverse=True)
    if len(lengths) <= most:
        return bars
    least_s = lengths[most - 1] + 1 if most else lengths[0] + 1
    return {w: [b for b in row if b.end_s - b.start_s >= least_s] for w, row in bars.items()}


def _notes(
    request: PlanRequest, shown: dict[str, list[Bar]], strangers: int, max_bars: int
) -> list[str]:
    workers, bars = len(request.snapshot.workers), sum(map(len, shown.values()))
    notes = []
    if len(shown) < workers:
        notes.append(f"showing {len(shown)} of {workers} workers, the busiest")
    if bars > max_bars:
        kept = sum(map(len, longest_bars(shown, max_bars).values()))
        notes.append(f"showing {kept} of their {bars} bars, the longest")
    if strangers:
        notes.append(f"{strangers} assignments of unknown tasks or workers left out")
    return notes


def lanes_of(bars: list[Bar]) -> list[tuple[Bar, int]]:
    """Each bar with the lowest lane that is free at its start."""
    free: list[int] = []
    ends: list[tuple[int, int]] = []
    lanes = 0
    result = []
    for bar in sorted(bars, key=lambda b: (b.start_s, -b.end_s, b.task.id)):
        while ends and ends[0][0] <= bar.start_s:
            heappush(free, heappop(ends)[1])
        if free:
            lane = heappop(free)
        else:
            lane, lanes = lanes, lanes + 1
        heappush(ends, (bar.end_s, lane))
        result.append((bar, lane))
    return result


# --------------------------------------------------------------------------- the image


class _Chart:
    """Places everything on the canvas; pixels from the top left."""

    def __init__(
        self,
        request: PlanRequest,
        workers: list[Worker],
        bars: dict[str, list[Bar]],
        colour_by: str,
        notes: list[str],
        title: str | None,
    ) -> None:
        self.request, self.workers, self.notes = request, workers, notes
        self.title = title or f"Plan for {request.request_id}"
        self.lanes = {w.id: lanes_of(bars.get(w.id, [])) for w in workers}
        self.colour_by = colour_by
        self.colours = self._colours()
        drawn = [bar for row in bars.values() for bar in row]
        now = request.snapshot.now_s
        self.end_s = max([now + 1, *(b.end_s for b in drawn)])
        # What ran long before now is cut at the left, or it would squeeze the plan.
        earliest_s = min([now, *(b.start_s for b in drawn)])
        self.start_s = max(earliest_s, now - max(1, (self.end_s - now) // 8))
        self.unit, self.unit_s, self.step = _ticks(self.start_s - now, self.end_s - now)
        longest = max(len(w.id) for w in workers)
        self.left = _MARGIN + min(150.0, _LETTER * longest) + 10
        self.late = {b.task.id for b in drawn if b.late}
        self.back: list[str] = []
        self.parts: list[str] = []
        self.front: list[str] = []

    def x(self, at_s: float) -> float:
        share = (at_s - self.start_s) / (self.end_s - self.start_s)
        return self.left + (_WIDTH - _MARGIN - self.left) * min(1.0, max(0.0, share))

    def svg(self) -> str:
        """The whole image: bands and grid behind, bars in the middle, marks in front."""
        top = self._legend(self._heading()) + 24
        bottom = top
        for k, worker in enumerate(self.workers):
            bottom = self._row(worker, bottom, k % 2 == 1)
        self._axis(top, bottom)
        height = bottom + 14
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="gantt" role="img" '
            f'viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" height="{height:g}" '
            f'font-family="system-ui, sans-serif" font-size="12">\n'
            f"<title>{escape(self.title)}</title>\n{_STYLE}\n"
            f'<rect class="paper" width="{_WIDTH}" height="{height:g}"/>\n'
            + "\n".join([*self.back, *self.parts, *self.front])
            + "\n</svg>\n"
        )

    def _colour_key(self, task: Task, worker: Worker) -> str:
        if self.colour_by == "machine_class":
            return worker.machine_class
        return task.app if self.colour_by == "app" else task.owner

    def _colours(self) -> dict[str, str]:
        count: dict[str, int] = {}
        for worker in self.workers:
            for bar, _ in self.lanes[worker.id]:
                key = self._colour_key(bar.task, worker)
                count[key] = count.get(key, 0) + 1
        frequent = sorted(count, key=lambda key: (-count[key], key))[: len(PALETTE)]
        return dict(zip(sorted(frequent), PALETTE, strict=False)) | dict.fromkeys(
            count.keys() - set(frequent), OTHERS
        )

    def _text(self, x: float, y: float, text: str, *, kind: str = "", anchor: str = "") -> None:
        extra = (f' class="{kind}"' if kind else "") + (
            f' text-anchor="{anchor}"' if anchor else ""
        )
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{extra}>{escape(text)}</text>')

    def _heading(self) -> float:
        """Title, what there is, and the notes; the y below them."""
        snapshot = self.request.snapshot
        now = snapshot.now_s
        drawn = {bar.task.id for row in self.lanes.values() for bar, _ in row}
        facts = [
            f"{counted(len(drawn), 'task')} on {counted(len(self.workers), 'worker')}",
            f"ends in {span(self.end_s - now)}",
            f"{len(self.late)} late" if self.late else "none late",
            f"now is {moment(now)}",
        ]
        self._text(_MARGIN, 28, self.title, kind="title")
        self._text(_MARGIN, 48, "  ·  ".join(facts), kind="soft")
        y = 48.0
        for note in self.notes:
            y += 18
            self._text(_MARGIN, y, f"Note: {note}.", kind="note")
        return y

    def _legend(self, y: float) -> float:
        """What the colours and marks stand for; the y below it."""
        named = {k or "(none)": c for k, c in sorted(self.colours.items()) if c != OTHERS}
        entries = [
            (name, f'<rect width="14" height="12" rx="2" fill="{colour}"/>')
            for name, colour in named.items()
        ]
        if len(named) < len(self.colours):
            others = f"{len(self.colours) - len(named)} others"
            entries.append((others, f'<rect width="14" height="12" rx="2" fill="{OTHERS}"/>'))
        drawn = [bar for row in self.lanes.values() for bar, _ in row]
        if any(b.runs for b in drawn):
            entries.append(
                ("running", f'<rect width="14" height="12" rx="2" fill="{OTHERS}"/>'
                 '<rect width="14" height="12" rx="2" fill="url(#hatch)"/>')
            )  # fmt: skip
        if any(b.task.deadline_s is not None for b in drawn):
            entries.append(("deadline", '<path class="due" d="M2 1h10l-5 9z"/>'))
        if self.late:
            entries.append(
                ("late", '<rect class="late" x="1" y="1" width="12" height="10" rx="2"/>')
            )
        if any(True for w in self.workers for _ in self.unavailable(w)):
            entries.append(("not available", '<rect class="blocked" width="14" height="12"/>'))
        x, y = float(_MARGIN), y + 14
        for name, mark in entries:
            shown = _short(name, 24)
            width = 22 + _LETTER * len(shown) + 16
            if x + width > _WIDTH - _MARGIN:
                x, y = float(_MARGIN), y + 18
            self.parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{mark}</g>')
            self._text(x + 20, y + 10, shown)
            x += width
        return y + 14

    def _axis(self, top: float, bottom: float) -> None:
        now = self.request.snapshot.now_s
        first = -((now - self.start_s) // (self.step * self.unit_s))
        for k in range(first, (self.end_s - now) // (self.step * self.unit_s) + 1):
            x = self.x(now + k * self.step * self.unit_s)
            kind, layer = ("now", self.front) if k == 0 else ("grid", self.back)
            layer.append(
                f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
            )
            label = "now" if k == 0 else f"{k * self.step} {self.unit}"
            fits = x + _LETTER * len(label) / 2 < _WIDTH - 4
            anchor, place = ("middle", x) if fits else ("end", _WIDTH - 4.0)
            self._text(place, top - 6, label, kind="soft", anchor=anchor)

    def _row(self, worker: Worker, y: float, odd: bool) -> float:
        """One worker's row; the y below it."""
        lanes = 1 + max((lane for _, lane in self.lanes[worker.id]), default=0)
        lane_height = 18.0 if lanes <= 2 else 14.0 if lanes <= 4 else max(4.0, 64 / lanes)
        height = lanes * lane_height + 6
        if odd:
            self.back.append(
                f'<rect class="band" x="0" y="{y:.1f}" width="{_WIDTH}" height="{height:.1f}"/>'
            )
        label = _short(worker.id, int((self.left - _MARGIN - 10) / _LETTER) + 1)
        self.parts.append(
            f'<text x="{self.left - 10:.1f}" y="{y + height / 2 + 4:.1f}" text-anchor="end">'
            f"<title>{escape(_about_worker(worker))}</title>{escape(label)}</text>"
        )
        for start_s, end_s, why in self.unavailable(worker):
            left, right = self.x(start_s), self.x(end_s)
            if right > left:
                self.back.append(
                    f'<rect class="blocked" x="{left:.1f}" y="{y:.1f}" '
                    f'width="{right - left:.1f}" height="{height:.1f}">'
                    f"<title>{escape(why)}</title></rect>"
                )
        for bar, lane in self.lanes[worker.id]:
            self._bar(bar, worker, y + 3 + lane * lane_height, lane_height)
        return y + height

    def unavailable(self, worker: Worker) -> Iterable[tuple[int, int, str]]:
        now = self.request.snapshot.now_s
        for window in worker.blocked:
            yield window.start_s, window.end_s, f"{worker.id} is blocked"
        if worker.free_at(now) > now:
            yield now, worker.free_at(now), f"{worker.id} is not free yet"
        if worker.until_s is not None:
            yield max(now, worker.until_s), self.end_s, f"{worker.id} has drained"

    def _bar(self, bar: Bar, worker: Worker, y: float, lane_height: float) -> None:
        left, right = self.x(bar.start_s), self.x(bar.end_s)
        gap = 1.0 if lane_height >= 8 else 0.5
        width = max(1.2, right - left - 0.6)
        height = lane_height - 2 * gap
        colour = self.colours[self._colour_key(bar.task, worker)]
        box = (
            f'x="{left:.1f}" y="{y + gap:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'rx="{min(3.0, height / 4, width / 4):.1f}"'
        )
        self.parts.append(
            f'<g><title>{escape(self._about(bar, worker))}</title><rect {box} fill="{colour}"/>'
        )
        if bar.runs:
            self.parts.append(f'<rect {box} fill="url(#hatch)"/>')
        if bar.late:
            self.parts.append(f'<rect class="late" {box}/>')
        label = bar.task.id + (f" x{bar.count}" if bar.count > 1 else "")
        if height >= 11 and width >= _LETTER * len(label) + 8:
            ink = "light" if colour in _DARK else "dark"
            self.parts.append(
                f'<text class="{ink}" x="{left + 5:.1f}" y="{y + lane_height / 2 + 4:.1f}" '
                f'font-size="11">{escape(label)}</text>'
            )
        self.parts.append("</g>")
        due_s = bar.task.deadline_s
        if due_s is not None and self.start_s <= due_s <= self.end_s:
            kind = "due missed" if bar.late else "due"
            size = min(4.5, height / 2)
            self.front.append(
                f'<path class="{kind}" d="M{self.x(due_s) - size:.1f} {y - 1:.1f}'
                f'h{2 * size:.1f}l{-size:.1f} {1.6 * size:.1f}z">'
                f"<title>{escape(bar.task.id)} is due</title></path>"
            )

    def _about(self, bar: Bar, worker: Worker) -> str:
        task, now = bar.task, self.request.snapshot.now_s
        lines = [
            f"{task.id} on {worker.id}"
            + (f" in mode {bar.mode}" if bar.mode else "")
            + (f", {bar.count} shards" if bar.count > 1 else ""),
            f"{span(bar.start_s - now)} to {span(bar.end_s - now)} from now "
            f"({span(bar.end_s - bar.start_s)})",
            ", ".join(f"{name} {amount}" for name, amount in task.demand.items()),
        ]
        if task.owner or task.app:
            lines.append(f"owner {task.owner or '-'}, app {task.app or '-'}")
        if bar.runs:
            lines.append("running")
        if task.deadline_s is not None:
            gap_s = task.deadline_s - bar.end_s
            verdict = f"late by {span(-gap_s)}" if bar.late else f"{span(gap_s)} to spare"
            lines.append(f"due {span(task.deadline_s - now)} from now, {verdict}")
        return "\n".join(lines)


def _about_worker(worker: Worker) -> str:
    amounts = ", ".join(f"{name} {amount}" for name, amount in worker.capacity.items())
    return f"{worker.id} ({worker.machine_class}): {amounts}; {' '.join(sorted(worker.labels))}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(1, most - 1)] + "…"


def counted(n: int, noun: str) -> str:
    """A number of things in words."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def span(seconds: float) -> str:
    """A length of time in the unit that fits it."""
    size = abs(seconds)
    for unit, unit_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if size >= 2 * unit_s:
            return f"{seconds / unit_s:.3g} {unit}"
    return f"{seconds:g} s"


def moment(at_s: float) -> str:
    """A moment as people write it; of a clock of the user's own, its second."""
    if not 10**8 <= at_s < 10**11:  # a clock of its own, not the calendar's
        return f"second {at_s:g}"
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _ticks(start_s: int, end_s: int) -> tuple[str, int, int]:
    """Unit, its seconds, and a round step in it, for at most a dozen ticks."""
    length_s = end_s - start_s
    for unit, unit_s, steps in (
        ("s", 1, (1, 2, 5, 10, 20, 30)),
        ("min", 60, (1, 2, 5, 10, 15, 20, 30)),
        ("h", 3600, (1, 2, 3, 6, 12)),
    ):
        for step in steps:
            if length_s <= 12 * step * unit_s:
                return unit, unit_s, step
    step = 1
    while length_s > 12 * step * 86_400:
        step = 2 * step if str(step)[0] in "15" else step * 5 // 2
    return "d", 86_400, step


_STYLE = """<style>
.gantt .paper{fill:#fff}.gantt text{fill:#222}.gantt .soft{fill:#5c5c5c}
.gantt .title{font-size:17px;font-weight:600}.gantt .note{fill:#9a4a00;font-weight:600}
.gantt .band{fill:#000;fill-opacity:.035}.gantt .grid{stroke:#000;stroke-opacity:.13}
.gantt .light{fill:#fff}.gantt .dark{fill:#000}
.gantt .now{stroke:#222;stroke-width:1.5}
.gantt .blocked{fill:#808080;fill-opacity:.32}
.gantt .late{fill:none;stroke:#C1121F;stroke-width:2}
.gantt .due{fill:#222;stroke:#fff;stroke-width:.7}.gantt .missed{fill:#C1121F}
@media (prefers-color-scheme:dark){
.gantt .paper{fill:#16181c}.gantt text{fill:#e6e6e6}.gantt .soft{fill:#a8a8a8}
.gantt .light{fill:#fff}.gantt .dark{fill:#000}.gantt .note{fill:#ffb45e}
.gantt .band{fill:#fff;fill-opacity:.04}
.gantt .grid{stroke:#fff;stroke-opacity:.14}.gantt .now{stroke:#e6e6e6}
.gantt .late{stroke:#ff5a65}.gantt .due{fill:#fff;stroke:#16181c}.gantt .missed{fill:#ff5a65}
}
</style>
<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse"
 patternTransform="rotate(45)"><rect width="2.4" height="6" fill="#fff" fill-opacity=".55"/>
</pattern></defs>"""

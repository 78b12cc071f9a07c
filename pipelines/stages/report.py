"""Stage 5: one page that tells what was learned and what the plans gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from plancast.pipelines.inputs.config import Config
from plancast.pipelines.inputs.files import read_bytes, write_text_atomic
from plancast.pipelines.stages.stage import main, read_facts
from plancast.planner.model.domain import TERMS
from plancast.planner.model.messages import PlanRequest, PlanResponse, from_json
from plancast.planner.planning.plot import gantt_svg

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; }
p.lead { color: #777; margin-top: .2rem; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
td { white-space: nowrap; } table.facts td { white-space: normal; text-align: left; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
tr.best td { background: var(--soft); } .note { color: #777; max-width: 60rem; }
figure, .wide { margin: 1rem 0; overflow-x: auto; }
"""


def build_report(config: Config, output: Path) -> Path:
    """Write the page from what the earlier stages left.

    Parameters
    ----------
    config : Config
    output : Path

    Raises
    ------
    BadRequest
        Where a stage has not run yet, naming its file.
    """
    paths = config.paths
    ingest, train, trial, worth = (
        read_facts(p)
        for p in (paths.ingest_facts, paths.train_facts, paths.trial_facts, paths.worth_facts)
    )
    request = from_json(PlanRequest, read_bytes(paths.request), source=str(paths.request))
    response = from_json(PlanResponse, read_bytes(paths.response), source=str(paths.response))
    sections = [
        f"<h1>plancast: {escape(config.name)}</h1>",
        f"<p class='lead'>{ingest['rows']:,} jobs of {ingest['users']:,} users on "
        f"{ingest['machine_size']:g} processors; {train['train_jobs']:,} to learn from, "
        f"{train['scored_jobs']:,} later ones to be judged by</p>",
        f"<p>{escape(worth['verdict'])}</p>",
        _verdict(trial),
        "<h2>What the plans cost, executed with the true run times</h2>",
        regret_chart(trial["kinds"]),
        _trial_table(trial),
        "<p class='note'>Each batch is planned with each kind of estimate and executed in plan "
        "order, work-conserving, with reservations by the same estimates. Regret is the realised "
        "cost against that of a plan with perfect run times; the interval is a paired bootstrap "
        "over batches.</p>",
        "<h3>Where the costs come from</h3>",
        _terms_table(trial),
        "<p class='note'>Mean amounts over the batches, before the policy's prices.</p>",
        "<h2>What the forecasts are worth</h2>",
        _forecast_table(train),
        "<p class='note'>Every job is forecast with what had ended by its submission. "
        "<i>Ended by p90</i> should read 90 %.</p>",
        "<h2>One plan</h2>",
        f"<p class='note'>{escape(request.request_id)}, planned with the model's median: "
        f"{response.status.value}, by {escape(response.solver)}, cost {response.cost or 0:,.4g}, "
        f"no plan of it costs less than {response.lower_bound or 0:,.4g}.</p>",
        f"<figure>{gantt_svg(request, response.plan)}</figure>" if response.plan else "",
        "<h2>The log</h2>",
        _log_table(ingest),
    ]
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>plancast: {escape(config.name)}</title><style>{STYLE}</style></head><body>"
        + "\n".join(sections)
        + "</body></html>\n"
    )
    write_text_atomic(output, page)
    return output


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], best: int | None = None, kind: str = ""
) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr{' class=best' if k == best else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for k, row in enumerate(rows)
    )
    return (
        f"<div class='wide'><table{f' class={kind}' if kind else ''}>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _best(kinds: Mapping[str, Any]) -> str:
    """The kind of estimate with the lowest realised cost, the oracle aside."""
    return min((k for k in kinds if k != "oracle"), key=lambda k: kinds[k]["realised_cost"])


def _verdict(trial: Mapping[str, Any]) -> str:
    waited, batches = trial["batches_that_wait"], trial["batches"]
    if waited == 0:
        return (
            "<p>No batch fills the machine, nothing waits, and every plan is alike: "
            "raise <code>trial.batch_size</code>.</p>"
        )
    model = trial["kinds"]["model_p50"]
    low, high = model["against_requested_ci"]
    return (
        f"<p>{waited} of {batches} batches fill the machine. Plans made with the model's median "
        f"cost <b>{model['against_requested']:+.1%}</b> against plans made with the requested "
        f"times (95 %: {low:+.1%} to {high:+.1%}), and {model['regret']:+.1%} against plans that "
        "know every run time.</p>"
    )


def _trial_table(trial: Mapping[str, Any]) -> str:
    kinds = trial["kinds"]
    rows = []
    for kind, found in kinds.items():
        low, high = found["regret_ci"]
        rows.append(
            [kind, f"{found['mae_s']:,.0f}", f"{found['median_abs_log2']:.2f}",
             f"{found['planned_cost']:,.1f}", f"{found['realised_cost']:,.1f}",
             f"{found['regret']:+.1%}", f"{low:+.1%} to {high:+.1%}"]
        )  # fmt: skip
    header = ["estimate", "mean error, s", "typical factor, log2", "planned cost",
              "realised cost", "regret", "95 % interval"]  # fmt: skip
    return _table(header, rows, list(kinds).index(_best(kinds)))


def _terms_table(trial: Mapping[str, Any]) -> str:
    kinds = trial["kinds"]
    shown = [t for t in TERMS if any(found["terms"][t] for found in kinds.values())]
    rows = [[kind, *(f"{found['terms'][t]:,.2f}" for t in shown)] for kind, found in kinds.items()]
    return _table(["estimate", *shown], rows, list(kinds).index(_best(kinds)))


def _forecast_table(train: Mapping[str, Any]) -> str:
    levels = [f"{100 * level:g}" for level in train["levels"]]
    rows = []
    for name, found in train["estimators"].items():
        rows.append(
            [name, f"{found['mae_s']:,.0f}", f"{found['median_abs_log2']:.2f}",
             f"{found['within_2x']:.0%}", f"{found['accuracy_minmax']:.0%}",
             f"{found['under_rate']:.0%}", *(f"{found[f'coverage_p{p}']:.1%}" for p in levels)]
        )  # fmt: skip
    header = ["estimator", "mean error, s", "typical factor, log2", "within 2x", "min/max",
              "too short", *(f"ended by p{p}" for p in levels)]  # fmt: skip
    best = min(
        (k for k, row in enumerate(rows) if row[0] != "oracle"),
        key=lambda k: train["estimators"][rows[k][0]]["median_abs_log2"],
    )
    return _table(header, rows, best)


def _log_table(ingest: Mapping[str, Any]) -> str:
    rows = [["file", ingest["log"]], ["format", ingest["format"]], ["rows", f"{ingest['rows']:,}"]]
    rows += [[f"ended: {name}", f"{count:,}"] for name, count in ingest["outcomes"].items()]
    rows += [[f"left out: {why}", f"{count:,}"] for why, count in ingest["excluded"].items()]
    rows += [[f"note {k}", text] for k, text in enumerate(ingest["findings"], 1)]
    if ingest["acknowledge"]:
        rows.append(["acknowledge", ingest["acknowledge"]])
    return _table(["the log", ""], rows, kind="facts")


def regret_chart(kinds: Mapping[str, Any]) -> str:
    """Bars of the regret of each kind of estimate with its interval, as an HTML figure.

    Parameters
    ----------
    kinds : mapping
        ``trial(...)["kinds"]``.
    """
    shown = [kind for kind in kinds if kind != "oracle"]
    width, left, row = 640, 120, 30
    top = max(max(kinds[k]["regret_ci"][1], kinds[k]["regret"]) for k in shown)
    low = min(0.0, *(kinds[k]["regret_ci"][0] for k in shown))
    scale = (width - 90) / max(top - low, 1e-9)

    def at(value: float) -> float:
        return left + (value - low) * scale

    parts = []
    for k, kind in enumerate(shown):
        found, middle = kinds[kind], k * row + row / 2
        (a, b), regret = found["regret_ci"], found["regret"]
        first, last = sorted((at(0), at(regret)))
        parts.append(
            f"<text x='{left - 8}' y='{middle + 5}' text-anchor='end' fill='currentColor'>"
            f"{escape(kind)}</text>"
            f"<rect x='{first:.1f}' y='{middle - 9}' width='{last - first:.1f}' height='18' "
            "fill='#0072b2' opacity='.75'/>"
            f"<line x1='{at(a):.1f}' x2='{at(b):.1f}' y1='{middle}' y2='{middle}' "
            "stroke='currentColor' stroke-width='2'/>"
            f"<text x='{at(max(b, regret)) + 8:.1f}' y='{middle + 5}' fill='currentColor'>"
            f"{regret:+.1%}</text>"
        )
    height = len(shown) * row
    return (
        f"<figure><svg viewBox='0 0 {left + width} {height + 4}' width='{left + width}' "
        f"role='img' aria-label='Regret against perfect run times' font-size='13'>"
        f"<line x1='{at(0):.1f}' x2='{at(0):.1f}' y1='0' y2='{height}' stroke='currentColor'/>"
        + "".join(parts)
        + "</svg><figcaption class='note'>Regret against plans with perfect run times, with "
        "95 % intervals</figcaption></figure>"
    )


def run(config: Config) -> Path:
    """Write the configured report and hand it to MLflow."""
    from plancast.pipelines.tracking import mlflow_runs as tracking

    paths = config.paths
    written = build_report(config, paths.report)
    with tracking.continued(read_facts(paths.ingest_facts)["mlflow_run"]):
        tracking.log_files(written, *(p for p in (paths.gantt,) if p.exists()))
    return written


if __name__ == "__main__":
    main(run)

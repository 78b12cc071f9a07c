"""Stage 6: one page that tells what was learned, what was planned, and what that was worth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from plancast.pipelines.charts import forecasts as of_forecasts
from plancast.pipelines.charts import worth as of_worth
from plancast.pipelines.charts.drawing import Drawing
from plancast.pipelines.charts.gantt import HOW_TO_READ, gantt_chart
from plancast.pipelines.charts.page import THEME_BUTTON, figure, page
from plancast.pipelines.inputs.config import Config
from plancast.pipelines.inputs.files import read_bytes, write_text_atomic
from plancast.pipelines.inputs.policy_files import read_policy
from plancast.pipelines.stages.replays import SHARES
from plancast.pipelines.stages.stage import main, read_facts
from plancast.pipelines.stages.verdict import (
    MODEL,
    WORDS,
    Verdict,
    batch_regrets,
    change_from,
    interval,
    kind_name,
    listed,
    priced_terms,
    saving_of,
    tied,
    verdict_of,
    way_name,
)
from plancast.planner.model.domain import TERMS, BadRequest, Plan, Policy
from plancast.planner.model.messages import PlanRequest, PlanResponse, from_json
from plancast.wording import log_in_words

Facts = Mapping[str, Any]

SIZES = {1: "1", 2: "2-3", 4: "4-7", 8: "8-15", 16: "16-31", 32: "32-63", 64: "64-127",
         128: "128+"}  # fmt: skip
"""Processors of a job in groups, by the least of each."""
COMPARED = ("model", "requested", "last_same", "user_median")
"""Estimators beside one another in the charts of errors."""


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
    write_text_atomic(output, gathered(config).page)
    return output


@dataclass(frozen=True)
class Gathered:
    """A report before it is written."""

    page: str
    charts: Mapping[str, Drawing]
    verdict: Verdict


def gathered(config: Config) -> Gathered:
    """The page of a configuration, its charts and its verdict; raises as ``build_report``."""
    paths = config.paths
    ingest, train, trial, worth = (
        read_facts(p)
        for p in (paths.ingest_facts, paths.train_facts, paths.trial_facts, paths.worth_facts)
    )
    request = from_json(PlanRequest, read_bytes(paths.request), source=str(paths.request))
    response = from_json(PlanResponse, read_bytes(paths.response), source=str(paths.response))
    executed = from_json(Plan, read_bytes(paths.executed), source=str(paths.executed))
    jobs = read_forecasts(paths.forecasts)
    policy = read_policy(config.policy) if config.policy else Policy()
    verdict = verdict_of(
        config.name, train, trial, worth, str(paths.jobs), str(paths.model)
    )  # fmt: skip
    charts: dict[str, Drawing] = {}
    sections = [
        _head(config.name, ingest, train),
        _verdict(verdict),
        _numbers(train, trial, worth),
        _more("What the words mean", _table((), list(WORDS.items()), kind="facts")),
        *_learned(charts, jobs, train, paths.model),
        *_planned(charts, request, response, executed),
        *_worth(charts, trial, worth, policy),
        "<h2 id='log'>The log</h2>",
        _log_table(ingest),
        "<footer>Made by plancast. The page holds its charts, data and libraries; it asks "
        "nothing of any network.</footer>",
    ]
    whole = page(f"plancast: {config.name}", "\n".join(sections), charts)
    return Gathered(whole, charts, verdict)


def read_forecasts(path: Path) -> pd.DataFrame:
    """What the train stage kept of each job of the test stretch.

    Raises
    ------
    BadRequest
        Where its file is missing or damaged.
    """
    if not path.exists():
        raise BadRequest(f"{path}: there is no such file; run the earlier stages first")
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError):
        raise BadRequest(f"{path}: is no Parquet; run the earlier stages again") from None


# ------------------------------------------------------------------------------ the top


def _head(name: str, ingest: Facts, train: Facts) -> str:
    links = (("learned", "learned"), ("planned", "planned"), ("worth", "worth"), ("log", "the log"))
    nav = "".join(f"<a href='#{place}'>{text}</a>" for place, text in links)
    size, stated = ingest["machine_size"], ingest.get("size_stated", True)
    machine = log_in_words(ingest["rows"], ingest["users"], size, stated)
    return (
        f"<header><h1>{escape(name)}</h1><nav>{nav}</nav>{THEME_BUTTON}</header>"
        f"<p class='soft'>{machine}; {train['train_jobs']:,} to learn from, "
        f"{train['scored_jobs']:,} later ones to be judged by</p>"
    )


def _coded(text: str) -> str:
    """Escaped, with what stands between backquotes as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _verdict(verdict: Verdict) -> str:
    def lines(items: Sequence[str]) -> str:
        return "<br>".join(_coded(item) for item in items)

    return (
        f"<section class='verdict'><p class='words'>{_coded(' '.join(verdict.sentences))}</p>"
        f"<dl><dt>What to do next</dt><dd>{lines(verdict.next_steps)}</dd>"
        f"<dt>How sure</dt><dd>{lines(verdict.how_sure)}</dd></dl></section>"
    )


def _numbers(train: Facts, trial: Facts, worth: Facts) -> str:
    model, kind = train["estimators"]["model"], trial["kinds"][MODEL]
    shown = [(f"{2 ** model['median_abs_log2']:.2f}x", "typical factor between forecast and truth")]
    if "coverage_p90" in model:
        shown.append((f"{model['coverage_p90']:.1%}", "of jobs ended by their 90% quantile"))
    if worth["queues"]:
        saving = saving_of(worth)
        shown.append((f"{saving.found['mean']:+.1%}",
                      f"cost of {saving.plans} against {saving.against}"))  # fmt: skip
    shown.append((f"{kind['regret']:+.1%}", "cost of batches against true run times (regret)"))
    waits = worth.get("replays") or []
    if waits and waits[0]["mean_wait_s"] > 0:
        share = waits[2]["mean_wait_s"] / waits[0]["mean_wait_s"] - 1
        shown.append((f"{share:+.0%}", "mean wait in a replay with forecasts"))
    boxes = "".join(f"<div class=number><b>{n}</b><span>{text}</span></div>" for n, text in shown)
    return f"<div class='numbers'>{boxes}</div>"


# ------------------------------------------------------------------------------ learned


def _learned(
    charts: dict[str, Drawing], jobs: pd.DataFrame, train: Facts, model: Path
) -> list[str]:
    from plancast.pipelines.tracking.importances import importances_of

    found = train["estimators"]
    levels = train["levels"]
    names = [name for name in COMPARED if name in jobs]
    width = jobs["cpus"].fillna(jobs["gpus"]).fillna(1)
    size = pd.cut(width, [*SIZES, float("inf")], right=False, labels=list(SIZES.values()))
    charts["reliability"] = of_forecasts.reliability(
        {name: {q: one[f"coverage_p{100 * q:g}"] for q in levels} for name, one in found.items()
         if name != "oracle"}
    )  # fmt: skip
    charts["ranking"] = of_forecasts.ranking(
        {name: of_forecasts.factor(one["median_abs_log2"]) for name, one in found.items()
         if name != "oracle"}, of_forecasts.FACTOR,
    )  # fmt: skip
    charts["truth"] = of_forecasts.against_truth(jobs, names)
    charts["importances"] = of_forecasts.importances(importances_of(model))
    grid = [
        figure("reliability", "Are the quantiles right?", "Each line should lie on the dashed "
               "diagonal: of the jobs, 90% should end by their 90% quantile. Click names."),
        figure("ranking", "Who forecasts best?", "The middle job's error: 2 is half or double "
               "the run time, 1 exact. The least is best."),
        figure("truth", "Forecast against run time", "Jobs on the dashed line are forecast "
               "exactly; above it, too long. Choose an estimator."),
        figure("importances", "What does the model look at?", "How much each fact known at "
               "submission contributes to its trees."),
    ]  # fmt: skip
    period, title = _period(jobs)
    grouped = (("month", period, title, True, "Does it get better or worse?",
                "The error over time; where it rises, something changed on the site."),
               ("size", size, "processors", True, "Small and large jobs", "The error by how many "
                "processors a job asked for."),
               ("queue", jobs["queue"], "queue", False, "Queues", "The error in each queue with "
                f"{of_forecasts.LEAST_JOBS} jobs or more."))  # fmt: skip
    for place, group, title, ordered, question, how in grouped:
        known = group[group.notna() & (group.astype(str) != "")]
        if known.nunique() < 2:
            continue
        charts[place] = of_forecasts.errors_by(jobs, group, names, title, ordered=ordered)
        grid.append(figure(place, question, how))
    users = jobs["user"]
    if (users[users.astype(str) != ""].value_counts() >= of_forecasts.LEAST_JOBS).any():
        charts["users"] = of_forecasts.unpredictable(jobs, users)
        grid.append(figure("users", "Who is unpredictable?", "The users with the largest errors: "
                           "half of their jobs lie within the bar; left of 1 the forecast was "
                           "too short."))  # fmt: skip
    return ["<h2 id='learned'>What was learned</h2>", f"<div class='grid'>{''.join(grid)}</div>",
            _more("All figures of the forecasts", _forecast_table(train))]  # fmt: skip


def _period(jobs: pd.DataFrame) -> tuple[pd.Series, str]:
    """Month of submission of each job, or its week where there are few months."""
    when = pd.to_datetime(jobs["submit_s"], unit="s", utc=True)
    month = when.dt.strftime("%Y-%m").where(jobs["submit_s"].notna())
    if month.nunique() >= 4:
        return month, "month"
    week = when.dt.tz_localize(None).dt.to_period("W").dt.start_time.dt.strftime("%m-%d")
    return week.where(jobs["submit_s"].notna()), "week from"


def _more(title: str, inside: str) -> str:
    return f"<details class='more'><summary>{escape(title)}</summary>{inside}</details>"


# ------------------------------------------------------------------------------ planned


def _planned(
    charts: dict[str, Drawing], request: PlanRequest, response: PlanResponse, executed: Plan
) -> list[str]:
    if response.plan is None:
        return []
    charts["plan"] = gantt_chart(request, response.plan, executed)
    bound = f"{response.lower_bound or 0:,.4g}"
    return [
        "<h2 id='planned'>What was planned</h2>",
        f"<p class='soft'>{escape(request.request_id)}, the first of the batches, planned with the "
        f"model's median: {response.status.value}, by {escape(response.solver)}, cost "
        f"{response.cost or 0:,.4g}; no plan of it costs less than {bound}.</p>",
        figure("plan", "Planned and executed", HOW_TO_READ, whole=True),
    ]


# ------------------------------------------------------------------------------ worth


def _worth(charts: dict[str, Drawing], trial: Facts, worth: Facts, policy: Policy) -> list[str]:
    kinds = trial["kinds"]
    grid = []
    if worth["queues"]:
        shown = {way_name(way): _span(entry["against_baseline"])
                 for way, entry in worth["policies"].items()
                 if way not in (worth["baseline"], "closed_best_rule")}  # fmt: skip
        charts["ways"] = of_worth.policies(shown, way_name(worth["baseline"]))
        grid.append(figure("ways", "Ways of planning", f"{worth['n']} queues of the log, planned "
                           "in each way and carried out with the true run times; lines are 95% "
                           "intervals. Grey: the difference may be chance."))  # fmt: skip
    replays = worth.get("replays") or []
    if replays:
        charts["waits"] = of_worth.distribution(
            replays, "wait_s", SHARES, "wait, minutes", least=0.1, floor="none", scale=60
        )
        charts["slowdowns"] = of_worth.distribution(
            replays, "slowdown", SHARES, "slowdown (wait and run over run)", least=1, floor="1"
        )
        how = "The whole test stretch, replayed: the higher the line, the shorter. Click names."
        grid += [figure("waits", "How long jobs wait", how),
                 figure("slowdowns", "How much longer jobs take", how)]  # fmt: skip
    charts["regret"] = of_worth.regrets(
        [{kind_name(k): regret for k, regret in row.items()} for row in batch_regrets(trial)],
        {
            kind_name(k): (one["regret"], *one["regret_ci"])
            for k, one in kinds.items()
            if k != "oracle"
        },
    )
    prices = {term: policy.prices.of(term) for term in TERMS}
    charts["terms"] = of_worth.terms(
        {kind_name(kind): terms for kind, terms in priced_terms(trial, prices).items()}
    )
    grid += [figure("regret", "Regret of each batch", "A dot for each batch, the diamond for all "
                    "with its 95% interval: 0 is as cheap as with true run times. Click a dot to "
                    "follow its batch."),
             figure("terms", "Where the costs come from", "Mean amounts over the batches times "
                    "the policy's prices.")]  # fmt: skip
    best = tied(trial)
    notes = [_batches(trial), *([_tie(best)] if len(best) > 1 else [])]
    return ["<h2 id='worth'>What it was worth</h2>",
            f"<p class='soft'>{_coded(' '.join(notes))}</p>",
            f"<div class='grid'>{''.join(grid)}</div>",
            _more("All figures of the batches", _trial_table(trial, best)
                  + _terms_table(trial))]  # fmt: skip


def _span(found: Facts) -> tuple[float, float, float]:
    return found["mean"], found["lo"], found["hi"]


def _batches(trial: Facts) -> str:
    waited, batches = trial["batches_that_wait"], trial["batches"]
    if waited == 0:
        return ("No batch fills the machine, nothing waits, and every plan is alike: raise "
                "trial.batch_size.")  # fmt: skip
    model = trial["kinds"][MODEL]
    asked = change_from(model["against_requested"], "plans made with the requested times")
    known = change_from(model["regret"], "plans that know every run time")
    return (
        f"{waited} of {batches} batches fill the machine. Plans made with the model's median cost "
        f"{asked} ({interval(*model['against_requested_ci'])}), and {known}."
    )


def _tie(best: set[str]) -> str:
    return f"Tied for the cheapest: plans by {listed([kind_name(kind) for kind in sorted(best)])}."


# ------------------------------------------------------------------------------ tables


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], best: Sequence[int] = (), kind: str = ""
) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr{' class=best' if k in best else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for k, row in enumerate(rows)
    )
    return (
        f"<div class='wide'><table{f' class={kind}' if kind else ''}>"
        f"{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table></div>"
    )


def _trial_table(trial: Facts, best: set[str]) -> str:
    kinds = trial["kinds"]
    rows = []
    for kind, found in kinds.items():
        low, high = found["regret_ci"]
        rows.append(
            [kind, f"{found['mae_s']:,.0f}", f"{found['median_abs_log2']:.2f}",
             f"{found['planned_cost']:,.1f}", f"{found['realised_cost']:,.1f}",
             f"{found['regret']:+.1%}", f"{low:+.1%} to {high:+.1%}",
             "tied for best" if kind in best and len(best) > 1 else ""]
        )  # fmt: skip
    header = ["estimate", "mean error, s", "typical factor, log2", "planned cost",
              "realised cost", "regret", "95% interval", ""]  # fmt: skip
    return _table(header, rows, [k for k, kind in enumerate(kinds) if kind in best])


def _terms_table(trial: Facts) -> str:
    kinds = trial["kinds"]
    shown = [t for t in TERMS if any(found["terms"][t] for found in kinds.values())]
    rows = [[kind, *(f"{found['terms'][t]:,.2f}" for t in shown)] for kind, found in kinds.items()]
    return _table(["mean amount", *shown], rows)


def _forecast_table(train: Facts) -> str:
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
    # Alike in the figure shown is a tie.
    least = min((row[2] for row in rows if row[0] != "oracle"), key=float)
    return _table(header, rows, [k for k, row in enumerate(rows)
                                 if row[2] == least and row[0] != "oracle"])  # fmt: skip


def _log_table(ingest: Facts) -> str:
    rows = [["file", ingest["log"]], ["format", ingest["format"]], ["rows", f"{ingest['rows']:,}"]]
    rows += [[f"ended: {name}", f"{count:,}"] for name, count in ingest["outcomes"].items()]
    rows += [[f"left out: {why}", f"{count:,}"] for why, count in ingest["excluded"].items()]
    rows += [[f"note {k}", text] for k, text in enumerate(ingest["findings"], 1)]
    if ingest["acknowledge"]:
        rows.append(["acknowledge", ingest["acknowledge"]])
    return _table((), rows, kind="facts")


LOGGED = ("reliability", "ranking", "truth", "importances", "ways", "waits", "regret", "terms")
"""Charts that MLflow keeps as images."""


def run(config: Config) -> Path:
    """Write the configured report; hand it, its charts and the figures of all plans to MLflow."""
    from plancast.pipelines.tracking import mlflow_runs as tracking
    from plancast.pipelines.tracking.contests import log_settings
    from plancast.pipelines.tracking.headline import best_of, settings_of

    paths = config.paths
    found = gathered(config)
    write_text_atomic(paths.report, found.page)
    ingest, train, trial, worth = (
        read_facts(p)
        for p in (paths.ingest_facts, paths.train_facts, paths.trial_facts, paths.worth_facts)
    )
    settings = settings_of(train, trial, worth)
    best = best_of(settings)
    with tracking.continued(ingest["mlflow_run"]):
        tracking.log_metrics(best.metrics)
        tracking.describe(
            "\n\n".join((*found.verdict.sentences, *found.verdict.how_sure)),
            {"kind": "pipeline", "log": config.name, "best": best.name},
        )
        tracking.log_files(paths.report, *(p for p in (paths.gantt,) if p.exists()))
        tracking.log_figures({k: one for k, one in found.charts.items() if k in LOGGED})
        log_settings(ingest["mlflow_run"], settings, best, train["model_id"], config.name)
    return paths.report


if __name__ == "__main__":
    main(run)

"""Walk-forward forecasts on ten logs, against the rules of thumb and the targets.

``python -m benchmarks.forecasts [LOG ...]`` evaluates the named logs (all by default), keeps
each report in ``docs/benchmarks/forecasts.json`` as soon as it stands, and writes
``docs/benchmarks/forecasts.md`` from that file alone. A LOG may also be the path of any log
that ``plancast evaluate`` reads: its tables are printed and nothing is kept.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from plancast.pipelines.backtest.evaluate_log import evaluate_file
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.stages.ingest import ingest_log
from plancast.predictor.evaluation import MIN_GROUP
from plancast.predictor.rows import plausible
from plancast.predictor.schema import canonical

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "docs" / "benchmarks"
FACTS = OUT / "forecasts.json"

LOGS: dict[str, tuple[str | Path, str | None]] = {
    "KTH-SP2": ("logs/KTH-SP2-1996-2.swf.gz", None),
    "SDSC-BLUE": ("logs/SDSC-BLUE-2000-4.2-cln.swf.gz", None),
    "HPC2N": ("logs/HPC2N-2002-2.1-cln.swf.gz", None),
    "LLNL-Atlas": ("logs/LLNL-Atlas-2006-2.1-cln.swf.gz", None),
    "METACENTRUM": ("logs/METACENTRUM-2009-2.swf.gz", None),
    "philly": ("gpu/philly-2017.csv.gz", "philly.yaml"),
    "galaxy": ("tasks/galaxy_main_jobs.csv.gz", "galaxy.yaml"),
    "NASA-iPSC": ("logs/NASA-iPSC-1993-3.1-cln.swf.gz", None),
    "lublin-256-1": ("logs/lublin-256-1.swf.gz", None),
    "lublin-256-2": ("logs/lublin-256-2.swf.gz", None),
}
"""File under ../shared/data and column map under data/columns, by name."""

POOR = ("METACENTRUM", "philly", "NASA-iPSC", "lublin-256-1", "lublin-256-2")
"""Logs without requested times; philly and lublin name no users either."""

EXTRA = ("NASA-iPSC", "lublin-256-1", "lublin-256-2")
"""Logs that the targets of calibration and accuracy do not name."""

BASELINES = ("requested", "last_two", "user_median", "global_median")
SECONDS = {"KTH-SP2": 60.0, "SDSC-BLUE": 360.0}
MINMAX = ("KTH-SP2", "HPC2N", "galaxy")


def run(name: str) -> dict[str, Any]:
    """The report of one log, with the seconds and the memory that it took."""
    file, columns = LOGS.get(name, (Path(name).resolve(), None))
    made_with = code()
    began, cpu = time.perf_counter(), time.process_time()
    report, walk = evaluate_file(DATA / file, reading=_reading(columns))
    report["seconds"] = time.perf_counter() - began
    report["cpu_s"] = time.process_time() - cpu
    report["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    report["code"], report["rows"] = made_with, rows_of(walk.jobs)
    return short(report)


def _reading(columns: str | None) -> Reading:
    return Reading(columns=str(ROOT / "data" / "columns" / columns) if columns else None)


def code() -> str:
    """The state of the sources that turn rows into forecasts, as a short digest.

    Readers are left out: what they read of a log has a digest of its own (`rows_of`).
    """
    digest = hashlib.sha256()
    predictor = ROOT / "predictor"
    for path in sorted(predictor.rglob("*.py")):
        if not path.is_relative_to(predictor / "logs"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def rows_of(jobs: pd.DataFrame) -> str:
    """A short digest of the jobs that were forecast: names and cells of all columns, in order."""
    cells = pd.util.hash_pandas_object(jobs, index=False).to_numpy().tobytes()
    return hashlib.sha256(json.dumps(list(jobs.columns)).encode() + cells).hexdigest()[:12]


def rows_now(name: str) -> str:
    """The digest of a log as it is read now."""
    file, columns = LOGS[name]
    jobs, _ = ingest_log(str(DATA / file), _reading(columns))
    return rows_of(plausible(canonical(jobs))[0])


def short(report: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a report: five digits, and months and deciles of the model alone."""
    kept = {
        name: found
        if name == "model"
        else {key: part for key, part in found.items() if key not in ("by_month", "by_decile")}
        for name, found in report["estimators"].items()
    }
    why = Counter(refit["why"] for refit in report["refits"])
    rounded: dict[str, Any] = _rounded({**report, "refits": dict(why), "estimators": kept})
    return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, float):
        return float(f"{value:.5g}")
    return value


def text_of(reports: dict[str, Any]) -> str:
    """The reports as JSON: a line for each estimator, and one for the rest of each log."""
    logs = []
    for name, report in reports.items():
        rest = {key: value for key, value in report.items() if key != "estimators"}
        lines = [
            f'  "{estimator}": {json.dumps(found)}'
            for estimator, found in report["estimators"].items()
        ]
        head = json.dumps(rest)[:-1]
        logs.append(f'"{name}": {head}, "estimators": {{\n' + ",\n".join(lines) + "}}")
    return "{" + ",\n".join(logs) + "}\n"


def targets(reports: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """Each target of the issue: what it asks, whether it is met, and the numbers."""
    rows: list[tuple[str, bool, str]] = []

    def each(text: str, numbers: dict[str, tuple[bool, str]], least: int | None = None) -> None:
        met = sum(good for good, _ in numbers.values())
        needed = len(numbers) if least is None else least
        result = ", ".join(f"{n} {v}{'' if good else ' (!)'}" for n, (good, v) in numbers.items())
        rows.append((text, met >= needed, result))

    whole, reports = reports, {n: r for n, r in reports.items() if n not in EXTRA}
    model = {name: report["estimators"]["model"] for name, report in reports.items()}

    def gap(found: dict[str, Any]) -> float:
        return max(abs(share - float(p)) for p, share in found["coverage"].items())

    def points(value: float, bound: float) -> tuple[bool, str]:
        return value <= bound, f"{100 * value:.1f}"

    def worst_decile(found: dict[str, Any]) -> tuple[bool, str]:
        held = [d for d in found["by_decile"].values() if d["jobs"] >= MIN_GROUP]
        met, text = points(found["worst_decile_gap"], 0.05)
        return met, f"{text} of {max(held, key=gap)['jobs']:,} jobs" if held else text

    each("Coverage within 1.5 points overall", {n: points(gap(m), 0.015) for n, m in model.items()})
    each(
        "Coverage within 5 points in every month of 200 or more jobs",
        {n: points(m["worst_month_gap"], 0.05) for n, m in model.items()},
    )
    each(
        "Coverage within 5 points in every user decile of 200 or more jobs",
        {n: worst_decile(m) for n, m in model.items()},
    )
    each("No crossing", {n: (m["crossings"] == 0, str(m["crossings"])) for n, m in model.items()})
    same = {
        n: (r["estimators"]["model"]["median_abs_log2"], r["estimators"]["last_same"])
        for n, r in whole.items()
        if "last_same" in r["estimators"] and str(LOGS[n][0]).startswith("logs/")
    }
    each(
        "Median abs log2 not above the last run of the same on 6 of the 8 logs of schedulers",
        {
            n: (mine <= rule["median_abs_log2"], f"{mine:.3f} / {rule['median_abs_log2']:.3f}")
            for n, (mine, rule) in same.items()
        },
        6,
    )
    ratio = {
        n: model[n]["median_abs_log2"]
        / min(report["estimators"][rule]["median_abs_log2"] for rule in BASELINES)
        for n, report in reports.items()
    }
    each(
        "Median abs log2 at least 10% below the best rule on 5 logs",
        {n: (r <= 0.9, f"{r:.2f}") for n, r in ratio.items()},
        5,
    )
    each(
        "Median abs log2 not above the best rule on any log",
        {n: (r <= 1.0, f"{r:.2f}") for n, r in ratio.items()},
    )
    pinball = {
        n: model[n]["pinball"] / report["estimators"]["user_last20"]["pinball"]
        for n, report in reports.items()
    }
    each(
        "Pinball at least 15% below user_last20",
        {n: (r <= 0.85, f"{r:.2f}") for n, r in pinball.items()},
    )
    better = {
        n: model[n]["accuracy_minmax"] - reports[n]["estimators"]["last_two"]["accuracy_minmax"]
        for n in MINMAX
        if n in reports
    }
    each(
        "Min/max accuracy at least 5 points above last_two",
        {n: (d >= 0.05, f"{100 * d:+.1f}") for n, d in better.items()},
    )
    for metric, text in (("median_abs_log2", "Median abs log2"), ("pinball", "Pinball")):
        against = {
            n: whole[n]["estimators"]["model"][metric]
            / min(
                found[metric] for rule, found in whole[n]["estimators"].items() if rule != "model"
            )
            for n in POOR
            if n in whole
        }
        each(
            f"{text} not above the best of all rules where requests are unknown",
            {n: (r <= 1.0, f"{r:.3f}") for n, r in against.items()},
        )
    each(
        "One forecast in 1 ms at p99",
        {
            n: (m["predict_p99_ms"] <= 1.0, f"{m['predict_p99_ms']:.2f} ms")
            for n, m in model.items()
        },
    )
    each(
        "Walk-forward of KTH in 60 s, of SDSC-BLUE in 6 min (seconds of one core)",
        {
            n: (reports[n]["cpu_s"] <= s, f"{reports[n]['cpu_s']:.0f} s")
            for n, s in SECONDS.items()
            if n in reports
        },
    )
    if "SDSC-BLUE" in reports:
        took = reports["SDSC-BLUE"]["features_s"]
        each("Features of SDSC-BLUE in 5 s", {"SDSC-BLUE": (took <= 5.0, f"{took:.1f} s")})
    each(
        "Memory at most 2 GB",
        {n: (r["peak_gb"] <= 2.0, f"{r['peak_gb']:.2f}") for n, r in reports.items()},
    )
    return rows


def _of_other_code(reports: dict[str, Any]) -> list[str]:
    """A warning where a report is not of the predictor as it stands."""
    others = [name for name, report in reports.items() if report.get("code") != code()]
    if not others:
        return []
    return [
        f"**Made with an earlier state of the predictor: {', '.join(others)}.** "
        "`make bench-forecast` makes them anew.",
        "",
    ]


def page(reports: dict[str, Any]) -> str:
    """The page of all logs and estimators."""
    lines = [
        "# Forecasts, walked forward",
        "",
        "Made by `make bench-forecast` from `forecasts.json`; do not edit. Each job of the last",
        "70% of a log is forecast with what had ended by its submission; all estimators on the",
        "same jobs. Where a log has no users the queue stands in for them, in the rules too.",
        "Pinball: seconds, the mean over the levels. Coverage: per cent of the jobs that ran no",
        "longer than the quantile. Month, decile: the worst gap, in points, at any level, of a",
        "month or user decile with 200 or more jobs. By chance alone, however right the forecasts,",
        "the share of n independent jobs below their median strays by 50 / sqrt(n) points (one",
        "standard error): by 2.9 of 300 jobs, so that a miss of 5 is no rarity there.",
        "",
        *_of_other_code(reports),
        "## Targets",
        "",
        "| target | met | by log; (!) misses |",
        "|---|---|---|",
    ]
    lines += [
        f"| {text} | {'yes' if met else '**no**'} | {entry} |"
        for text, met, entry in targets(reports)
    ]
    for name, report in reports.items():
        lines += ["", *tables(name, report)]
    return "\n".join(lines) + "\n"


def tables(name: str, report: dict[str, Any]) -> list[str]:
    """The section of one log."""
    levels = report["levels"]
    asked = " / ".join(f"{100 * p:g}" for p in levels)
    lines = [
        f"## {name}",
        "",
        f"{report['jobs']:,} jobs, {report['evaluated']:,} evaluated, of them "
        f"{report['censored']:,} cut short (timeout or cancelled, counted as they ran); "
        f"{sum(report['refits'].values())} refits ("
        + ", ".join(f"{count} {why}" for why, count in report["refits"].items())
        + f"), {report['seconds']:.0f} s, {report['peak_gb']:.1f} GB.",
        "",
        f"| estimator | median abs log2 | within 2x | min/max | MAE s | pinball s | "
        f"coverage at {asked} | month | decile | under |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for estimator, found in report["estimators"].items():
        covered = " / ".join(f"{100 * found['coverage'][f'{p:g}']:.1f}" for p in levels)
        lines.append(
            f"| {estimator} | {found['median_abs_log2']:.3f} "
            f"| {found['within_2x']:.1%} | {found['accuracy_minmax']:.1%} "
            f"| {found['mae_s']:,.0f} "
            f"| {found['pinball']:,.0f} | {covered} | {100 * found['worst_month_gap']:.1f} "
            f"| {100 * found['worst_decile_gap']:.1f} | {found['under_rate']:.0%} |"
        )
    cold = report["estimators"]["model"]["cold_start"]
    if cold["jobs"]:
        covered = " / ".join(f"{100 * cold['coverage'][f'{p:g}']:.1f}" for p in levels)
        lines += [
            "",
            f"Cold starts: {cold['jobs']:,} jobs, median abs log2 "
            f"{cold['median_abs_log2']:.2f}, coverage {covered}.",
        ]
    lines += [
        "",
        f"| remaining time after | jobs | model, coverage at {asked} | user_last20 |",
        "|---|---|---|---|",
    ]
    left = {e: report["estimators"][e]["remaining_coverage"] for e in ("model", "user_last20")}
    for share, mine in left["model"].items():
        result = [
            " / ".join(f"{100 * part[f'{p:g}']:.1f}" for p in levels) if part["jobs"] else "-"
            for part in (mine, left["user_last20"][share])
        ]
        lines.append(
            f"| {100 * float(share):g}% of the median | {mine['jobs']:,} "
            f"| {result[0]} | {result[1]} |"
        )
    return lines


def main(names: list[str]) -> None:
    """Evaluate the named logs, in this order, and write the page."""
    unknown = [name for name in names if name not in LOGS and not Path(name).is_file()]
    if unknown:
        sys.exit(f"there is no log {unknown[0]!r}; name a file or one of {', '.join(LOGS)}")
    for name in names:
        if len(names) > 1:
            # A process for each log, or the memory of one would count for the next.
            subprocess.run([sys.executable, "-m", "benchmarks.forecasts", name], check=True)
            continue
        if name not in LOGS:
            print("\n".join(tables(Path(name).name, run(name))))
            continue
        if not (DATA / LOGS[name][0]).is_file():
            print(f"{name}: ../shared/data/{LOGS[name][0]} is missing, its last report stands")
            continue
        report = run(name)
        facts = json.loads(FACTS.read_text("utf-8")) if FACTS.is_file() else {}
        facts[name] = report
        ordered = {n: facts[n] for n in LOGS if n in facts}
        write_text_atomic(FACTS, text_of(ordered))
        write_text_atomic(OUT / "forecasts.md", page(ordered))
        model = report["estimators"]["model"]
        print(
            f"{name}: {report['seconds']:.0f} s, |log2| {model['median_abs_log2']:.3f}", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1:] or list(LOGS))

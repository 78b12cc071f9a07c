"""Advised time limits on real logs: the promise, the hours, the waits.

Run with ``make bench-advise`` or ``python -m benchmarks.advise``. Writes
``docs/benchmarks/advise.md``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from plancast.pipelines.operators.advise import advise

ROOT = Path(__file__).parents[1]
LOGS = ROOT.parent / "shared" / "data" / "logs"
PAGE = ROOT / "docs" / "benchmarks" / "advise.md"
RISK = 0.01
PARTS: tuple[tuple[str, str | None, str], ...] = (
    ("KTH-SP2-1996-2", None, "whole"),
    ("HPC2N-2002-2.1-cln", None, "whole"),
    ("SDSC-BLUE-2000-4.2-cln", "0.33:1", "last two thirds; the first chose the settings"),
    ("LLNL-Atlas-2006-2.1-cln", None, "whole; ends of an FCFS replay, as the log has no waits"),
)
WORST = (0.05, 0.2, 0.5, 0.8)


def main() -> None:
    """Advise for each log, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a word that the log's name holds")
    only = parser.parse_args().only
    rows, bounds = [], []
    for name, window, said in PARTS:
        path = LOGS / f"{name}.swf.gz"
        if only not in name or not path.exists():
            print(f"left out: {name}")
            continue
        began = time.process_time()
        facts = advise(path, risk=RISK, window=window).facts
        rows.append((facts, said, time.process_time() - began))
        print(name, facts["verdict"], flush=True)
        for worst in WORST:
            found = facts
            if worst != facts["worst"]:
                found = advise(
                    path, risk=RISK, worst=worst, window=window, dispatchers=("easy",)
                ).facts
            bounds.append((worst, found))
    if not only:
        PAGE.write_text(page(rows, bounds), encoding="utf-8")


def page(rows: list[tuple[dict[str, Any], str, float]], bounds: list[Any]) -> str:
    """The page, in Markdown."""
    lines = [
        "# Time limits",
        "",
        "Written by `make bench-advise`: `plancast advise LOG` at a risk of 1%, walk-forward on",
        "the log's own clock. A job counts where it finished within its request. The best rule is",
        "the longest of the last k runs of a user or of a group, chosen in hindsight among 36 with",
        "at most 1% cut. Intervals are 95%, paired by week.",
        "",
        "| log | part | finishing jobs | cut | months broken | excess, of users' | best rule "
        "| lost runs | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for facts, said, seconds in rows:
        hours = facts["excess_core_h"]
        user = hours["user"]
        lines.append(
            f"| {facts['log']} | {said} | {facts['finishing_jobs']:,} | "
            f"{facts['cut_share']:.2%} | {len(facts['months_broken'])} of "
            f"{len(facts['cut_share_by_month'])} | {hours['advised'] / user:.1%} | "
            f"{hours['best_rule'] / user:.1%} | "
            f"{facts['lost_core_h'] / user:.1%} | {seconds:.0f} |"
        )
    lines += [
        "",
        "Mean waits, minutes; a job that is cut is submitted again at once with its old request:",
        "",
        "| log | replay | users' | advised | perfect | advised - users' | perfect - users' |",
        "|---|---|---|---|---|---|---|",
    ]
    for facts, _, _ in rows:
        for found in facts["replays"]:
            waits = found["wait_mean_min"]
            lines.append(
                f"| {facts['log']} | {found['dispatcher']} | {waits['user']:.1f} | "
                f"{waits['advised']:.1f} | {waits['perfect']:.1f} | "
                f"{_interval(found['advised_against_user'])} | "
                f"{_interval(found['perfect_against_user'])} |"
            )
    lines += ["", "The curve, excess hours as a share of users' (advised / best rule):", ""]
    risks = [p["risk"] for p in rows[0][0]["curve"]]
    lines += [
        "| log | " + " | ".join(f"{100 * r:g}%" for r in risks) + " |",
        "|---|" + "---|" * len(risks),
    ]
    for facts, _, _ in rows:
        user = facts["excess_core_h"]["user"]
        cells = []
        for point in facts["curve"]:
            kept = "" if point["promise_kept"] else " (promise broken)"
            cells.append(
                f"{100 * point['excess_core_h'] / user:.1f} / "
                f"{point['best_rule']['excess_core_h'] / user:.1%}{kept}"
            )
        lines.append(f"| {facts['log']} | " + " | ".join(cells) + " |")
    lines += _bounds(bounds)
    lines += _targets([facts for facts, _, _ in rows])
    return "\n".join([*lines, ""])


def _interval(found: dict[str, float]) -> str:
    return f"{found['mean']:+.1f} [{found['lo']:+.1f}, {found['hi']:+.1f}]"


def _bounds(bounds: list[Any]) -> list[str]:
    lines = [
        "",
        "What explains it: one job in a hundred may be cut, and *which* is free to choose. With",
        "`--worst` no single job's chance is above a bound; at .05 limits are what people mean by",
        "advice, at .8 (the default) most lowered jobs are probes: short beside the request, cheap",
        "to lose, submitted again at once.",
        "",
        "| log | worst chance | lowered jobs | of these cut | excess, of users' | lost runs | EASY "
        "wait - users' |",
        "|---|---|---|---|---|---|---|",
    ]
    for worst, facts in bounds:
        user = facts["excess_core_h"]["user"]
        lines.append(
            f"| {facts['log']} | {worst:g} | {facts['lowered_share']:.1%} | "
            f"{facts['lowered_cut_share']:.0%} | "
            f"{facts['excess_core_h']['advised'] / user:.1%} | "
            f"{facts['lost_core_h'] / user:.1%} | "
            f"{_interval(facts['replay']['advised_against_user'])} |"
        )
    return lines


def _targets(found: list[dict[str, Any]]) -> list[str]:
    """The targets, each with its figure, on the three logs that they name."""
    three = [f for f in found if f["log"].startswith(("KTH", "HPC2N", "SDSC"))]

    def share(facts: dict[str, Any], whose: str) -> float:
        return float(facts["excess_core_h"][whose] / facts["excess_core_h"]["user"])

    kept = all(f["promise_kept"] for f in three)
    below = sum(share(f, "advised") <= 0.9 for f in three)
    rule = sum(share(f, "advised") < share(f, "best_rule") for f in three)
    gains = []
    for facts in three:
        for run in facts["replays"]:
            perfect = run["perfect_against_user"]
            if perfect["hi"] < 0:
                gained = run["advised_against_user"]["mean"] / perfect["mean"]
                gains.append((f"{facts['log']} {run['dispatcher']}", gained))
    enough = all(g >= 1 / 3 for _, g in gains)
    result = ", ".join(f"{name} {g:.0%}" for name, g in gains)

    def met(value: bool) -> str:
        return "met" if value else "MISSED"

    return [
        "",
        "| target | measured | |",
        "|---|---|---|",
        "| the promise holds in every month (exact binomial, 99%, Bonferroni) | "
        f"{sum(f['promise_kept'] for f in three)} of {len(three)} logs | {met(kept)} |",
        "| excess hours at 1% at least 10% below users' on 2 of 3 logs | "
        f"{below} of {len(three)} | {met(below >= 2)} |",
        f"| ... and below the best rule on all | {rule} of {len(three)} | "
        f"{met(rule == len(three))} |",
        "| a third of the perfect limits' gain in waits, where that is significant | "
        f"{result or 'nowhere significant'} | {met(enough)} |",
    ]


if __name__ == "__main__":
    main()

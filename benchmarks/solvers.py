"""Solvers on published instances, beside peers, against the targets.

``python -m benchmarks.solvers [PART ...]`` runs the named parts (all by default), keeps every
row in ``docs/benchmarks/solvers.json`` as soon as it stands, and writes
``docs/benchmarks/solvers.md`` from that file alone. ``--minutes`` ends early; the next run goes
on where this one stopped. Rows of another state of the code are run again; ``--keep`` keeps
them. ``--quick`` draws fewer of each set: a quarter of an hour for all on two idle cores.
``--page`` only writes the page.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import Any

from plancast.pipelines.bench.bench import Settings, drawn, read_set, run_bench, summary
from plancast.pipelines.bench.peers import PEERS
from plancast.pipelines.inputs.files import write_text_atomic

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "docs" / "benchmarks"
FACTS = OUT / "solvers.json"
PUBLISHED = "benchmarks"
OURS = ("plancast.planner.planning.plan", "plancast/planner")
"""The module that plans, and where its own code is."""
CLOCK = "plancast/pipelines/bench/peers/metered.py"
"""What all are timed by: a slow clock takes from a search what it measures."""
KEPT = ("instance", "solver", "objective", "lower_bound", "best_known", "gap", "status", "proved",
        "valid", "first_s", "wall_s", "peak_mb", "reference_10s")  # fmt: skip

Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One table: which instances, how long, and who runs on them."""

    title: str
    path: str
    kind: str
    settings: Settings
    whole: str
    """What the sample is drawn from."""
    beside: int | None = None
    """On so many instances all solvers run, on the others the first alone; on all without it."""
    quick: int = 4
    """So many instances with ``--quick``; 0: none."""


def _part(
    title: str,
    path: str,
    kind: str,
    whole: str,
    solvers: str,
    limit_s: float,
    beside: int | None = None,
    quick: int = 4,
    **more: Any,
) -> Part:
    settings = Settings(tuple(solvers.split(",")), limit_s, cpu_normalised=True, **more)
    return Part(title, path, kind, settings, whole, beside, quick)


J60_SAMPLE = 60
"""Of 480: what fits an hour and a half of two idle cores with the rest."""
LARGE_SAMPLE, BESIDE = 100, 20
"""Of sets of hundreds: what fits three hours with the rest, and on how many of them peers run."""
MMLIB = f"{PUBLISHED}/mmlib_dev.tar.xz"
LARGE_SHOPS = f"{PUBLISHED}/jsp_large_dev.tar.xz"
J30_LIMIT_S = 60.0
"""The target asks for proofs and for a mean; three of the 480 take 10 to 20 s."""
PROJECTS = f"{PUBLISHED}/psplib_j30_j60.tar.xz"
SHAPE_LIMITS_S = (1, 10, 60)
"""How much more time still pays on gangs, machine classes, deadlines and all prices at once."""
PARTS: dict[str, Part] = {
    "j30": _part(
        "PSPLIB j30", PROJECTS, "rcpsp", "480", "auto", J30_LIMIT_S, quick=40, only=("j30*",)
    ),
    "j60": _part(
        "PSPLIB j60", PROJECTS, "rcpsp", "480", "auto,pyjobshop", 10.0, only=("j60*",),
        sample=J60_SAMPLE,
    ),
    "rg300": _part(
        "RG300", f"{PUBLISHED}/rcpsp_rg300_dev.tar.xz", "rg300", "24", "auto,pyjobshop", 10.0,
        BESIDE,
    ),
    "j120": _part(
        "PSPLIB j120", f"{PUBLISHED}/psplib_j120_dev.tar.xz", "rcpsp", "300", "auto,pyjobshop",
        10.0, BESIDE, sample=LARGE_SAMPLE,
    ),
    "mmlib50": _part(
        "Projects with modes, MMLIB50", MMLIB, "mmrcpsp", "324", "auto,pyjobshop", 10.0, BESIDE,
        only=("J50*",), sample=LARGE_SAMPLE,
    ),
    "mmlib100": _part(
        "Projects with modes, MMLIB100", MMLIB, "mmrcpsp", "324", "auto,pyjobshop", 10.0, BESIDE,
        only=("J100*",), sample=LARGE_SAMPLE,
    ),
    "ta": _part(
        "Job shops of Taillard", LARGE_SHOPS, "jsp", "40", "auto,pyjobshop", 10.0, BESIDE,
        only=("ta*",),
    ),
    "dmu": _part(
        "Job shops of Demirkol, Mehta and Uzsoy", LARGE_SHOPS, "jsp", "40", "auto,pyjobshop",
        10.0, BESIDE, only=("dmu*",),
    ),
    "jsp": _part(
        "Job shops ft, la, abz, orb", f"{PUBLISHED}/jsp_dev.tar.xz", "jsp", "58",
        "auto,pyjobshop", 10.0,
    ),
    "fjsp": _part(
        "Flexible job shops mk, kacem, edata", f"{PUBLISHED}/fjsp_dev.tar.xz", "fjsp", "85",
        "auto,pyjobshop", 10.0,
    ),
    "dag": _part(
        "Workflow graphs", "dags/wfinstances_tasks.csv.gz", "dag", "97", "auto,heft", 2.0, quick=20,
    ),
    "cluster": _part(
        "Cluster batches, up to 1,000 tasks", f"{PUBLISHED}/cluster", "cluster", "9",
        "auto,greedy,kube,most,edf", 10.0,
        only=("cluster-50x10-*", "cluster-200x20-*", "cluster-1000x50-*"),
    ),
    "large": _part(
        "Cluster batches, 5,000 and 10,000 tasks", f"{PUBLISHED}/cluster", "cluster", "6",
        "auto,greedy,kube", 10.0, quick=2, only=("cluster-5000x200-*", "cluster-10000x1000-*"),
    ),
    "cluster_1s": _part(
        "Cluster batches, 1 s", f"{PUBLISHED}/cluster", "cluster", "15", "auto", 1.0, quick=15
    ),
    "cluster_60s": _part(
        "Cluster batches of 200 tasks and more, 60 s", f"{PUBLISHED}/cluster", "cluster", "12",
        "auto", 60.0, quick=1, only=("cluster-200x20-*", "cluster-1000x50-*",
                                     "cluster-5000x200-*", "cluster-10000x1000-*"),
    ),
    "rg300_60s": _part(
        "RG300, 60 s", f"{PUBLISHED}/rcpsp_rg300_dev.tar.xz", "rg300", "24", "auto", 60.0, quick=1
    ),
    **{
        f"shapes_{limit_s}s_{seed}": _part(
            f"Shapes of clusters, {limit_s} s, each with three seeds", f"{PUBLISHED}/shapes",
            "request", "30", "auto", float(limit_s), quick=0 if seed else 2, seed=seed,
        )
        for limit_s in SHAPE_LIMITS_S for seed in range(3)
    },
}  # fmt: skip


@cache
def code_of(solver: str) -> str:
    """A name for the state of the code that made a row: what a solve may load, and its clock."""
    peers = ("plancast.pipelines.bench.peers", "plancast/pipelines/bench/peers")
    start, folder = peers if solver in PEERS else OURS
    digest = hashlib.sha256((ROOT / CLOCK).read_bytes())
    for file in loaded(start, ROOT / folder):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:10]


def loaded(start: str, folder: Path) -> list[Path]:
    """The files of a folder that a module imports, at whatever remove, sorted.

    Imports within functions count too; what a package holds and nobody imports does not.
    """
    found: set[Path] = set()
    names = [start]
    while names:
        name = names.pop()
        at = ROOT / name.replace(".", "/")
        file = at / "__init__.py" if at.is_dir() else at.with_suffix(".py")
        if file in found or not file.is_relative_to(folder) or not file.exists():
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return sorted(found)


def run(
    part: Part, rows: list[Row], stop_at: float, save: Callable[[list[Row]], None]
) -> list[Row]:
    """The rows of one part, those that stand already among them."""
    instances = read_set(DATA / part.path, part.kind)
    names = drawn(instances.names, part.settings)
    codes = {solver: code_of(solver) for solver in part.settings.solvers}
    kept = {(row["instance"], row["solver"]): row for row in rows if row["solver"] in codes}

    def keep(report: dict[str, Any]) -> None:
        for row in report["rows"]:
            slim = {key: row[key] for key in KEPT if key in row}
            code = row.get("code", codes[row["solver"]])
            kept[row["instance"], row["solver"]] = {**slim, "code": code}
        save(list(kept.values()))

    for settings in runs(part, names):
        run_bench(
            instances,
            settings,
            kept=dict(kept),
            save=keep,
            goes_on=lambda: time.monotonic() < stop_at,
        )
    return list(kept.values())


def quickly(part: Part) -> Part | None:
    """The part on fewer instances, which a whole run has as well; None where it is left out."""
    if part.quick == 0:
        return None
    asked = part.settings.sample or part.quick
    beside = None if part.beside is None else min(part.beside, 2)
    settings = replace(part.settings, sample=min(asked, part.quick))
    return replace(part, settings=settings, beside=beside)


def runs(part: Part, names: Sequence[str]) -> list[Settings]:
    """All solvers on the instances that peers are run on, then the first solver on all."""
    settings = replace(part.settings, only=tuple(names), sample=None)
    if part.beside is None:
        return [settings]
    spread = names[:: max(1, len(names) // part.beside)][: part.beside]
    first = replace(settings, solvers=settings.solvers[:1])
    return [replace(settings, only=tuple(spread)), first]


# ------------------------------------------------------------------ targets


def paired(rows: Sequence[Row], one: str, other: str) -> list[tuple[Row, Row]]:
    """Rows of two solvers on the same instance, where both have a valid plan."""
    by = {(row["instance"], row["solver"]): row for row in rows if row["objective"] is not None}
    names = dict.fromkeys(row["instance"] for row in rows)
    return [(by[n, one], by[n, other]) for n in names if (n, one) in by and (n, other) in by]


Verdict = tuple[str, bool | None, str]
"""What is asked, whether it is met (None: not measured), the numbers."""


def targets(parts: dict[str, list[Row]]) -> list[Verdict]:
    """Each target that these parts can speak to."""
    found: list[Verdict] = []

    def add(text: str, name: str, judge: Callable[[list[Row]], tuple[bool | None, str]]) -> None:
        rows = parts.get(name, [])
        mine = [row for row in rows if row["solver"] == "auto" and row["objective"] is not None]
        if not mine:
            found.append((text, None, "not measured"))
            return
        met, result = judge(rows)
        found.append((text, met, f"{result} ({len(mine)} of {PARTS[name].whole} instances)"))

    def means(rows: Sequence[Row], key: str, solver: str = "auto") -> float:
        return mean(row[key] for row in rows if row["solver"] == solver and row[key] is not None)

    def j30(rows: list[Row]) -> tuple[bool, str]:
        proved, gap, wall = means(rows, "proved"), means(rows, "gap"), means(rows, "wall_s")
        met = proved == 1 and abs(gap) <= 1e-9 and wall <= 0.5
        return met, f"proved {proved:.1%}, mean gap {gap:.3%}, mean {wall:.2f} s"

    def j60(rows: list[Row]) -> tuple[bool, str]:
        gap, proved = means(rows, "gap"), means(rows, "proved")
        other, its = means(rows, "gap", "pyjobshop"), means(rows, "proved", "pyjobshop")
        result = f"mean gap {gap:.2%} (PyJobShop {other:.2%}), proved {proved:.0%} ({its:.0%})"
        return gap <= 0.001 and proved >= its, result

    def at_most(rows: list[Row], most: float) -> tuple[bool, str]:
        return means(rows, "gap") <= most, f"mean gap {means(rows, 'gap'):.2%}"

    def modes(rows: list[Row], most: float) -> tuple[bool, str]:
        mine = [row for row in rows if row["solver"] == "auto"]
        planned = sum(row["objective"] is not None for row in mine)
        result = f"mean gap {means(rows, 'gap'):.2%}, planned {planned} of {len(mine)}"
        return means(rows, "gap") <= most and planned == len(mine), result

    def shop(rows: list[Row]) -> tuple[bool, str]:
        both = paired(rows, "auto", "pyjobshop")
        mine, other = mean(a["gap"] for a, _ in both), mean(b["gap"] for _, b in both)
        return mine <= max(0.0, other / 2), f"mean gap {mine:.2%}, PyJobShop {other:.2%}"

    def dag_never(rows: list[Row]) -> tuple[bool, str]:
        both = paired(rows, "auto", "heft")
        worse = sum(a["objective"] > b["objective"] * (1 + 1e-9) for a, b in both)
        return worse == 0, f"longer on {worse}"

    def dag_better(rows: list[Row]) -> tuple[bool | None, str]:
        both = paired(rows, "auto", "heft")
        open_ = [(a, b) for a, b in both if b["objective"] >= 1.05 * a["lower_bound"]]
        if not open_:
            return None, "HEFT is within 5% of the bound on all"
        saved = mean(1 - a["objective"] / b["objective"] for a, b in open_)
        return saved >= 0.05, f"{saved:.1%} on the {len(open_)} where HEFT is 5% above the bound"

    def cluster(rows: list[Row], most: float = 1e-9) -> tuple[bool, str]:
        sizes: dict[str, list[float]] = {}
        for row in rows:
            if row["solver"] == "auto" and row["gap"] is not None:
                sizes.setdefault(row["instance"].split("-")[1], []).append(row["gap"])
        result = ", ".join(f"{size} {mean(gaps):+.2%}" for size, gaps in sizes.items())
        return all(mean(gaps) <= most for gaps in sizes.values()), result

    def shapes(limit_s: int, most: float) -> tuple[bool | None, str]:
        ratios: dict[str, list[float]] = {}
        for seed in range(3):
            short, long = (
                {row["instance"]: row["objective"] for row in parts.get(f"shapes_{s}s_{seed}", [])}
                for s in (limit_s, SHAPE_LIMITS_S[-1])
            )
            for name in short.keys() & long.keys():
                ratios.setdefault(name, []).append(short[name] / long[name] - 1)
        if not ratios:
            return None, "not measured"
        count = sum(len(found) for found in ratios.values())
        worst = max(ratios, key=lambda name: mean(ratios[name]))
        text = (
            f"mean {mean(mean(found) for found in ratios.values()):+.2%}, "
            f"{worst} {mean(ratios[worst]):+.2%} ({count} of 30 instances)"
        )
        return mean(ratios[worst]) <= most, text

    add("j30: all optimal and proved, mean at most 0.5 s", "j30", j30)
    add("j60 at 10 s: mean gap at most 0.10%, proved no less than PyJobShop", "j60", j60)
    add("RG300 at 10 s: mean gap at most 0.8%", "rg300", partial(at_most, most=0.008))
    add("RG300 at 60 s: mean gap at most 1.9%", "rg300_60s", partial(at_most, most=0.019))
    add("j120 at 10 s: mean gap at most 0.8%", "j120", partial(at_most, most=0.008))
    add(
        "MMLIB50 at 10 s: mean gap at most 0.15%, all planned",
        "mmlib50",
        partial(modes, most=0.0015),
    )
    add(
        "MMLIB100 at 10 s: mean gap at most 0.35%, all planned",
        "mmlib100",
        partial(modes, most=0.0035),
    )
    add("Taillard's job shops at 10 s: mean gap at most 1.0%", "ta", partial(at_most, most=0.01))
    add("Demirkol's job shops at 10 s: mean gap at most 2.5%", "dmu", partial(at_most, most=0.025))
    add("Job shops at 10 s: at most half of PyJobShop's mean gap, or 0", "jsp", shop)
    add("Flexible job shops at 10 s: the same", "fjsp", shop)
    add("Workflows: never longer than HEFT", "dag", dag_never)
    add("Workflows: 5% shorter where HEFT is 5% above the bound", "dag", dag_better)
    add("Clusters at 10 s: mean of each size no costlier than the best known", "cluster", cluster)
    add("The same at 5,000 and 10,000 tasks", "large", cluster)
    add("Clusters at 1 s: at most 1.5% costlier", "cluster_1s", partial(cluster, most=0.015))
    add(
        "Clusters at 60 s: cheaper than the best known", "cluster_60s", partial(cluster, most=-1e-9)
    )
    for limit_s, most in ((10, 0.02), (1, 0.05)):
        text = f"Shapes at {limit_s} s: each at most {most:.0%} costlier than at 60 s"
        found.append((text, *shapes(limit_s, most)))
    return found


# ------------------------------------------------------------------ page


def page(parts: dict[str, list[Row]]) -> str:
    """The page of all parts that have rows."""
    lines = [
        "# Solvers on published instances",
        "",
        "Made by `make bench-solvers` from `solvers.json`; do not edit. Limits count the CPU",
        "seconds of a solver's busiest thread; two threads each; the evaluator judges every plan.",
        "Gap: to the best known cost, negative where the plan is cheaper. First: seconds to the",
        "first plan. MB: peak memory, libraries included. Where fewer instances are shown than a",
        "set has, they are drawn with seed 0, or those that time allowed, in order.",
        "",
        "## Targets",
        "",
        "| target | met | measured |",
        "|---|---|---|",
    ]
    lines += [
        f"| {text} | {_verdict(met, entry)} | {entry} |" for text, met, entry in targets(parts)
    ]
    by_title: dict[str, list[str]] = {}
    for name, part in PARTS.items():
        if parts.get(name):
            by_title.setdefault(part.title, []).append(name)
    for title, names in by_title.items():
        part, rows = PARTS[names[0]], [row for name in names for row in parts[name]]
        count = sum(len({row["instance"] for row in parts[name]}) for name in names)
        lines += [
            "",
            f"## {title}",
            "",
            f"{count} of {part.whole} instances, "
            f"{part.settings.limit_s:g} CPU s each." + _older(rows),
            "",
            "| solver | planned | invalid | mean gap | proved | first s | wall s | MB |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for solver, found in summary(rows).items():
            cells = [
                f"{found['answered']} of {found['instances']}",
                str(found["invalid"]),
                _shown(found["mean_gap"], "{:+.2%}"),
                _shown(found["proved_share"], "{:.0%}"),
                _shown(found["mean_first_s"], "{:.3f}"),
                _shown(found["mean_wall_s"], "{:.2f}"),
                _shown(found["peak_mb"], "{:,.0f}"),
            ]
            lines.append(f"| {solver} | {' | '.join(cells)} |")
        lines += _beside(rows)
    return "\n".join(lines) + "\n"


def _beside(rows: Sequence[Row]) -> list[str]:
    """Mean gaps on what all solvers ran on, where some ran on more."""
    names = {row["solver"] for row in rows}
    ran = [{row["instance"] for row in rows if row["solver"] == name} for name in names]
    common = set.intersection(*ran)
    if not common or all(one == common for one in ran):
        return []
    means = summary([row for row in rows if row["instance"] in common])
    shown = [f"{name} {_shown(found['mean_gap'], '{:+.2%}')}" for name, found in means.items()]
    return ["", f"On the {len(common)} that all ran on: {', '.join(shown)}."]


def _verdict(met: bool | None, text: str) -> str:
    """Nothing is met on a part of a set that is asked of the whole."""
    if met is None:
        return "-"
    counts = re.search(r"\((\d+) of (\d+) instances\)", text)
    part = counts is not None and counts.group(1) != counts.group(2)
    return ("yes, on these" if part else "yes") if met else "**no**"


def _older(rows: Sequence[Row]) -> str:
    codes = [row["code"] for row in rows]
    older = sum(code != code_of(row["solver"]) for code, row in zip(codes, rows, strict=True))
    return f" {older} of {len(rows)} rows were made by another state of the code." if older else ""


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def main() -> None:
    """Run what is asked, and write facts and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    parts: dict[str, list[Row]] = {}
    if FACTS.exists():
        parts = json.loads(FACTS.read_text(encoding="utf-8"))
    stop_at = time.monotonic() + 60 * options.minutes
    for name in [] if options.page else options.parts or PARTS:
        part = quickly(PARTS[name]) if options.quick else PARTS[name]
        if part is None:
            continue
        if not (DATA / part.path).exists():
            print(f"{name}: needs ../shared/data/{part.path}; left out")
            continue
        rows = parts.get(name, [])
        if not options.keep:
            rows = [row for row in rows if row["code"] == code_of(row["solver"])]

        def save(rows: list[Row], name: str = name) -> None:
            parts[name] = rows
            write_text_atomic(FACTS, json.dumps(parts, indent=0, allow_nan=False) + "\n")

        parts[name] = run(part, rows, stop_at, save)
    write_text_atomic(OUT / "solvers.md", page(parts))
    for text, met, entry in targets(parts):
        print(f"{'met   ' if met else '-     ' if met is None else 'MISSED'} {text}: {entry}")


if __name__ == "__main__":
    main()

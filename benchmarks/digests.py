"""Digests of plans, replays and forecasts, to compare two commits.

``python benchmarks/digests.py record FILE [--tree DIR] [--quick]`` records what the code in a
tree makes of a fixed set of requests (every solver, with a budget of steps), logs and walks;
``compare BEFORE AFTER`` says what differs. The tree may be any commit: objects are found by
their names, wherever their module lies.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

FORMS = ("best", "anytime", "focal", "beam", "guided")
SAME_COST = 1e-9
"""Relative: two costs of one plan that differ by less count as equal."""


class Tree:
    """The code of one commit; gives functions and classes by their names alone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        linked = (root / "plancast").is_dir()
        self.prefix = "plancast." if linked else ""
        sys.path[:0] = [str(root), str(root / "tests")]
        self.sources = {
            path: path.read_text()
            for package in ("planner", "predictor", "pipelines", "tests/oracles")
            for path in sorted((root / package).rglob("*.py"))
        }

    def get(self, name: str, package: str = "") -> Any:
        """The object that a module of the tree defines at its top level under this name."""
        pattern = re.compile(rf"^(?:def|class) {name}\b|^{name}\b[^=\n]*=", re.MULTILINE)
        for path, text in self.sources.items():
            module = ".".join(path.relative_to(self.root).with_suffix("").parts)
            if module.startswith(package) and pattern.search(text):
                module = module.removeprefix("tests.").removesuffix(".__init__")
                prefix = "" if module.startswith("oracles") else self.prefix
                return getattr(importlib.import_module(prefix + module), name)
        raise SystemExit(f"{self.root}: no module defines {name}")


def digest(*values: Any) -> str:
    """Short digest of arrays (their bytes) and other values (their text)."""
    found = hashlib.sha256()
    for value in values:
        found.update(value.tobytes() if hasattr(value, "tobytes") else repr(value).encode())
        found.update(b"\0")
    return found.hexdigest()[:16]


# --------------------------------------------------------------------------- requests


def small_requests(tree: Tree, count: int) -> Iterator[tuple[str, Any, str, dict[str, Any]]]:
    """Awkward requests of a few tasks, each feature among them, one solver after another."""
    random_request = tree.get("random_request")
    turns: list[tuple[str, dict[str, Any]]] = [
        ("auto", {}), ("greedy", {}), ("lns", {}), ("cpsat", {}), ("repair", {}),
        *(("astar", {"form": form, **({"weight": 1.2} if form == "focal" else {})})
          for form in FORMS),
    ]  # fmt: skip
    for seed in range(count):
        solver, parameters = turns[seed % len(turns)]
        request = random_request(seed, max_tasks=5 + seed % 4)
        yield f"small-{seed}-{solver}-{parameters.get('form', '')}", request, solver, parameters


def batches(tree: Tree, count: int) -> Iterator[tuple[str, Any, str, dict[str, Any]]]:
    """Batches as published benchmarks have them, planned anew halfway with everything priced."""
    generate_batch, generate_cluster = tree.get("generate_batch"), tree.get("generate_cluster")
    policy, prices = tree.get("Policy"), tree.get("Prices")
    everything = prices(
        makespan_h=1, late_h=5, misses=2, wait_h=1, stretch=0.1, kwh=0.3, unfair_h=1,
        imbalance_h=0.5, failures=10, moves=0.05,
    )  # fmt: skip
    for seed in range(count):
        request = generate_batch(
            (12, 25, 50)[seed % 3],
            generate_cluster((4, 7, 12)[seed // 3 % 3], seed),
            seed,
            now_s=1_000_000,
            gang_share=(0.0, 0.3)[seed % 2],
            release_spread_s=(0, 600)[seed // 2 % 2],
            policy=policy(prices=everything if seed % 3 else prices(), move_tolerance_s=30),
        )
        request = _with_windows(tree, request) if seed % 4 == 1 else request
        solver = ("lns", "greedy", "auto", "lns")[seed % 4]
        yield f"batch-{seed}-{solver}", request, solver, {}
        later = _halfway(tree, request, preemptible=seed % 3 == 1)
        solver = ("repair", "lns", "auto")[seed % 3]
        yield f"later-{seed}-{solver}", later, solver, {}


def published(tree: Tree) -> Iterator[tuple[str, Any, str, dict[str, Any]]]:
    """A job shop and a project, each by its own solver."""
    at = tree.root / "tests" / "data" / "instances"
    shop = tree.get("parse_jobshop")("tiny", (at / "shops" / "tiny.jsp").read_text())
    project = tree.get("parse_psplib")("tiny", (at / "projects" / "tiny.sm").read_text())
    for name, request in (("shop", shop), ("project", project)):
        for solver in (name, "lns", "cpsat", "auto"):
            yield f"{name}-{solver}", request, solver, {}


def _with_windows(tree: Tree, request: Any) -> Any:
    """The request with maintenance on every other worker, and some that drain or come later."""
    window, now = tree.get("Window"), request.snapshot.now_s
    workers = list(request.snapshot.workers)
    for k, worker in enumerate(workers):
        if k % 2:
            shut = tuple(window(now + s, now + s + 200) for s in range(300, 300 + 900 * k, 900))
            workers[k] = replace(worker, blocked=shut)
        elif k % 3 == 2:
            workers[k] = replace(worker, free_from_s=now + 100, health=0.95)
    return replace(request, snapshot=replace(request.snapshot, workers=tuple(workers)))


def _halfway(tree: Tree, request: Any, preemptible: bool) -> Any:
    """The request as it stands when half of the greedy plan's tasks have begun."""
    running, finished = tree.get("Running"), tree.get("Finished")
    budget = tree.get("Budget", "planner")
    found = tree.get("plan", "planner")(replace(request, budget=budget(None, 1)), "greedy").plan
    if found is None:
        return request
    starts = sorted(a.start_s for a in found.assignments)
    now = starts[len(starts) // 2] + 5
    tasks = request.snapshot.pending_by_id
    runs, ended, waits = [], [], []
    for a in found.assignments:
        if a.end_s <= now:
            ended.append(finished(a.task, a.end_s))
        elif a.start_s <= now:
            task = replace(tasks[a.task], preemptible=preemptible and len(runs) < 2)
            runs.append(running(task, a.workers, a.start_s))
        else:
            waits.append(tasks[a.task])
    snapshot = replace(
        request.snapshot, version=1, now_s=now, pending=tuple(waits), running=tuple(runs),
        finished=tuple(ended),
    )  # fmt: skip
    return replace(request, snapshot=snapshot, incumbent=found)


STEPS = {"lns": 400, "repair": 400, "cpsat": 20, "auto": 60, "project": 200, "shop": 60}


def record_plans(tree: Tree, small: int, large: int) -> dict[str, Any]:
    """Plan each request within so many steps; its digest, status and cost."""
    plan, to_json, budget = tree.get("plan", "planner"), tree.get("to_json"), tree.get("Budget")
    bad = tree.get("BadRequest")
    found: dict[str, Any] = {}
    for requests in (small_requests(tree, small), batches(tree, large), published(tree)):
        for name, request, solver, parameters in requests:
            request = replace(request, budget=budget(None, STEPS.get(solver, 200)))
            try:
                answer = plan(request, solver, **parameters)
            except bad as refusal:
                found[name] = {"refused": str(refusal)}
                continue
            except Exception as failure:  # a fault of the tree, and worth recording
                found[name] = {"failed": repr(failure)}
                continue
            placed = answer.plan and (
                sorted((a.task, a.workers, a.start_s, a.end_s) for a in answer.plan.assignments),
                sorted(answer.plan.preempted),
            )
            found[name] = {
                "request": digest(_text(to_json(request))),
                "plan": digest(placed, sorted(answer.unplanned)),
                "status": str(answer.status.value),
                "cost": answer.cost,
                "bound": answer.lower_bound,
            }
    return found


def _text(request: bytes) -> str:
    """The request's JSON with each worker's set of labels in order."""
    facts = json.loads(request)
    for worker in facts["snapshot"]["workers"]:
        worker["labels"] = sorted(worker["labels"])
    return json.dumps(facts, sort_keys=True)


# --------------------------------------------------------------------------- replays, walks


def record_replays(tree: Tree, jobs: int) -> dict[str, Any]:
    """Replay generated logs under three disciplines; a digest of what came of each job."""
    import numpy as np

    replay, log_of = tree.get("replay", "planner"), tree.get("ReplayLog")
    dispatchers, outages = tree.get("DISPATCHERS"), tree.get("seeded_outages")
    forecaster = tree.get("ReplayForecaster")
    generated = tree.get("generate_log")(jobs, users=12, procs=64, seed=3, load=0.95)
    ran = np.asarray(generated.run_s) > 0
    log = log_of(
        "generated", 64, generated.submit_s[ran], generated.run_s[ran], generated.procs[ran],
        generated.requested_s[ran], generated.user[ran],
    ).cut_to_request()  # fmt: skip
    frame = _frame(tree, generated)
    frame = frame[frame["run_s"] > 0].iloc[: len(log)].reset_index(drop=True)
    trees = {"n_estimators": 10, "min_child_samples": 20}
    cells: dict[str, Callable[[], Any]] = {
        "easy": lambda: replay(log, dispatchers["easy"], promises=True),
        "conservative": lambda: replay(
            log, dispatchers["conservative"], "last_two",
            outages=outages(log, 40_000.0, 4_000.0, 0.25, 1),
        ),
        "planner": lambda: replay(
            log, dispatchers["planner"], forecaster(frame, trees=trees), promises=True
        ),
    }  # fmt: skip
    found = {}
    for name, run in cells.items():
        cell = run()
        found[f"replay-{name}"] = {
            "plan": digest(cell.start_s, cell.end_s, cell.promise_s, cell.passes, cell.killed),
            "cost": float((cell.start_s - cell.log.submit_s).mean()),
        }
    return found


def record_walks(tree: Tree, jobs: int) -> dict[str, Any]:
    """Walk two generated logs forward; a digest of all forecasts."""
    import numpy as np

    walk_forward = tree.get("walk_forward")
    trees = {"n_estimators": 10, "min_child_samples": 20}
    found = {}
    for seed in (0, 1):
        log = _frame(tree, tree.get("generate_log")(jobs, users=10 + 20 * seed, seed=seed))
        walk = walk_forward(log, refit_s=2 * 86_400.0, trees=trees)
        left = [walk.remaining[k][1] for k in sorted(walk.remaining)]
        found[f"walk-{seed}"] = {
            "plan": digest(walk.quantiles_s, *left, [r[:2] for r in walk.refits]),
            "cost": float(np.nanmean(np.log(np.minimum(walk.quantiles_s, 1e9)))),
        }
    return found


def _frame(tree: Tree, generated: Any) -> Any:
    """A generated log as the predictor reads it."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.swf"
        path.write_text(tree.get("swf_text")(generated))
        log = tree.get("read_log")(path)
        return log[0] if isinstance(log, tuple) else log


# --------------------------------------------------------------------------- two commits


def record(tree: Tree, quick: bool) -> dict[str, Any]:
    """Everything, as one mapping of case to digest and cost."""
    began = time.process_time()
    found = record_plans(tree, 60 if quick else 400, 6 if quick else 60)
    found |= record_replays(tree, 500 if quick else 2000)
    found |= record_walks(tree, 800 if quick else 2500)
    print(f"{len(found)} cases, {time.process_time() - began:.0f} CPU s")
    return found


def compare(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Print what differs between two records; 1 if a plan, replay or forecast does."""
    shared = [name for name in before if name in after]
    fresh = {k for k, v in before.items() if "request" in v} & set(after)
    asked = [n for n in fresh if before[n].get("request") != after[n].get("request")]
    other = [n for n in shared if _outcome(before[n]) != _outcome(after[n])]
    bounds = [
        n for n in shared
        if _apart(before[n].get("bound"), after[n].get("bound")) > SAME_COST and n not in other
    ]  # fmt: skip
    costs = [
        (after[n]["cost"] - before[n]["cost"]) / max(abs(before[n]["cost"]), 1e-12)
        for n in shared
        if before[n].get("cost") is not None and after[n].get("cost") is not None
    ]
    print(f"{len(shared)} cases in both of {len(before)} and {len(after)}")
    print(f"requests written differently: {len(asked)}")
    print(f"other plan, replay or forecast: {len(other)} {' '.join(other[:20])}")
    print(f"other bound of the same plan: {len(bounds)} {' '.join(bounds[:20])}")
    worst = max(costs, key=abs, default=0.0)
    mean = sum(costs) / max(1, len(costs))
    print(f"cost after over before: mean {mean:+.5%}, largest change {worst:+.3%}")
    for n in other[:20]:
        print(f"  {n}: {_outcome(before[n])} -> {_outcome(after[n])}")
    return int(bool(other) or len(shared) != len(before))


def _outcome(case: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(case.get(key) for key in ("plan", "status", "refused", "failed"))


def _apart(a: float | None, b: float | None) -> float:
    if a is None or b is None:
        return float(a is not b)
    return 0.0 if a == b else abs(a - b) / max(abs(a), abs(b), 1e-12)


def main() -> int:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writes = verbs.add_parser("record")
    writes.add_argument("file", type=Path)
    writes.add_argument("--tree", type=Path, default=ROOT)
    writes.add_argument("--quick", action="store_true", help="a fifth of the cases")
    reads = verbs.add_parser("compare")
    reads.add_argument("before", type=Path)
    reads.add_argument("after", type=Path)
    asked = parser.parse_args()
    if asked.verb == "compare":
        return compare(json.loads(asked.before.read_text()), json.loads(asked.after.read_text()))
    found = record(Tree(asked.tree.resolve()), asked.quick)
    asked.file.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

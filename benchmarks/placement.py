"""Placement of GPU pods on the openb trace: how much of the GPUs is allocated, and who waits.

Run with ``make bench-placement`` or ``python -m benchmarks.placement``. Writes
``docs/benchmarks/placement.md``. What has been measured with the code as it is, is kept under
``data/placement`` and not measured again; ``--kept`` writes the page of that alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from plancast.pipelines.backtest.records import Playback, Record, Recorder, jittered
from plancast.pipelines.backtest.replay_forecasts import ReplayForecaster
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.inputs.openb import (
    began_s,
    deadlines_of,
    frame_of,
    read_rows,
    worker_of,
)
from plancast.pipelines.worth.batches import known_requests
from plancast.planner.model.domain import Task, Worker
from plancast.planner.worlds import node_machine as machine
from plancast.planner.worlds.metrics import paired_interval
from plancast.planner.worlds.node_replay import (
    NODE_DISPATCHERS,
    NodeDispatcher,
    NodeLog,
    cluster_of,
    has_place,
    replay_nodes,
)
from plancast.planner.worlds.replay import Estimator, ReplayLog

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ROOT = Path(__file__).parents[1]
FOLDER = ROOT.parent / "shared" / "data" / "gpu"
PAGE = ROOT / "docs" / "benchmarks" / "placement.md"

KEEP = ROOT / "data" / "placement"
CODE = ("node_machine", "node_kernel", "node_replay")

SEEDS = tuple(range(42, 52))
ASKED = 1.3
"""Pods are drawn until so many times the GPUs have been asked for."""
PUBLISHED: dict[str, dict[str, float]] = {
    "default": {"fgd": 0.9523, "best-fit": 0.9286, "random": 0.8630},
    "gpuspec33": {"fgd": 0.8784, "random": 0.8387, "best-fit": 0.8039},
}
"""Of Weng et al. (2023), with another generator's draws."""
GOALS = {"default": 0.956, "gpuspec33": 0.89}
MOST_MS = 5.0
PEERS: dict[str, NodeDispatcher] = {
    **{name: NODE_DISPATCHERS[name] for name in ("remainder", "fgd", "kube-least", "best-fit")},
    "random": NodeDispatcher(machine.RANDOM),
}

PEAKS = (0.9, 1.1, 1.3)
JITTERS = 10
FOREVER = 1 << 40


@dataclass(frozen=True)
class Pods:
    """The pods of the trace, and the nodes with GPUs.

    Parameters
    ----------
    rows : list of dict
    workers : tuple of Worker
    kinds : tuple of Task
    kind, milli : int64 (pods,)
        What each asks for; and its milli-GPU.
    """

    rows: list[dict[str, str]]
    workers: tuple[Worker, ...]
    kinds: tuple[Task, ...]
    kind: Ints
    milli: Ints

    def on(self, workers: Sequence[Worker], log: ReplayLog, which: Ints) -> NodeLog:
        """Some pods, in the order of a log, on some workers."""
        cluster = cluster_of(workers, self.kinds)
        return NodeLog(log, tuple(workers), self.kinds, self.kind[which], cluster)


def pods_of(folder: Path, labels: bool) -> Pods:
    """The trace; `labels`: whether pods keep to the GPU models that they name."""
    nodes, rows = read_rows(folder)
    workers = tuple(worker_of(node) for node in nodes if int(node["gpu"]) > 0)
    kinds: dict[tuple[int, int, int, str], int] = {}
    kind, milli = [], []
    for row in rows:
        gpu = int(row["num_gpu"]) * int(row["gpu_milli"])
        spec = "|".join(dict.fromkeys(row["gpu_spec"].split("|"))) if labels else ""
        key = (int(row["cpu_milli"]), int(row["memory_mib"]), gpu, spec)
        kind.append(kinds.setdefault(key, len(kinds)))
        milli.append(gpu)
    tasks = tuple(
        Task("pod", {"cpu": cpu, "mem": mem, "gpu": gpu}, requires=(spec,) if spec else ())
        for cpu, mem, gpu, spec in kinds
    )
    return Pods(rows, workers, tasks, np.array(kind), np.array(milli))


# -- how much is allocated -------------------------------------------------------------------


def arrivals(pods: Pods, seed: int) -> Ints:
    """All pods in shuffled order, then draws of them, until enough is asked for."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pods.rows)).tolist()
    asked = int(pods.milli.sum())
    while asked < ASKED * _milli(pods.workers):
        order.append(int(rng.integers(len(pods.rows))))
        asked += int(pods.milli[order[-1]])
    return np.array(order)


def _milli(workers: Sequence[Worker]) -> int:
    return sum(worker.capacity["gpu"] for worker in workers)


def allocation(pods: Pods, dispatcher: NodeDispatcher, seed: int) -> dict[str, float]:
    """Pods that come one at a time and stay; what does not fit is dropped.

    Returns
    -------
    dict of str to float
        ``share`` allocated where what was asked for so far rounds to all GPUs; processor
        milliseconds of a pod, ``mean_ms`` and ``p99_ms``.
    """
    order = arrivals(pods, seed)
    one = np.ones(len(order), np.int64)
    log = ReplayLog("openb", 1, np.arange(len(order)), one * FOREVER, one, one, one)
    nodes = pods.on(pods.workers, log, order)
    began = time.process_time()
    found = replay_nodes(
        nodes, dispatcher, one, mix=np.bincount(pods.kind), drops=True, seed=seed
    ).replay
    took = time.process_time() - began
    milli, whole = pods.milli[order], _milli(pods.workers)
    used = np.cumsum(milli * (found.start_s >= 0)) / whole
    full = np.rint(100 * np.cumsum(milli) / whole) == 100
    return {
        "share": float(used[full].mean()),
        "mean_ms": 1000 * took / len(order),
        "p99_ms": float(np.percentile(found.decision_us, 99)) / 1000,
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of a mean over seeds, by Student's t."""
    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
    by = float(stats.t.ppf(0.975, len(values) - 1)) * spread
    mean = float(np.mean(values))
    return mean - by, mean + by


# -- who waits -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timed:
    """The trace at its own times, for one size of the cluster.

    Parameters
    ----------
    peak : float
        Most GPUs asked for at once over those that there are.
    nodes : NodeLog
    jobs : DataFrame
    deadline : int64 (n,)
        Seconds.
    milli : int64 (n,)
    left_out : int
        Pods that fit no worker.
    """

    peak: float
    nodes: NodeLog
    jobs: pd.DataFrame
    deadline: Ints
    milli: Ints
    left_out: int


def shrunk(workers: Sequence[Worker], share: float) -> tuple[Worker, ...]:
    """The same share of the nodes of each GPU model, rounded, spread evenly over the list."""
    models: dict[frozenset[str], list[Worker]] = {}
    for worker in workers:
        models.setdefault(worker.labels, []).append(worker)
    found = []
    for alike in models.values():
        count = round(len(alike) * share)
        found += [alike[int((k + 0.5) * len(alike) / count)] for k in range(count)]
    return tuple(found)


def timed(pods: Pods, wanted: float) -> Timed:
    """The trace on nodes that were taken away, until the peak is nearest to what is wanted."""
    ran = [
        k
        for k, row in enumerate(pods.rows)
        if row["scheduled_time"] and int(row["deletion_time"]) > began_s(row)
    ]
    ran.sort(key=lambda k: (int(pods.rows[k]["creation_time"]), pods.rows[k]["name"]))
    rows = [pods.rows[k] for k in ran]
    submit = np.array([int(row["creation_time"]) for row in rows])
    run = np.array([int(row["deletion_time"]) - began_s(row) for row in rows])
    which, milli = np.array(ran), pods.milli[ran]
    peak = peak_of(submit, submit + run, milli)
    shares = [k / 10_000 for k in range(1, 1001)]
    sizes = [_milli(shrunk(pods.workers, share)) for share in shares]
    nearest = min(range(len(sizes)), key=lambda k: abs(sizes[k] - peak / wanted))
    workers = shrunk(pods.workers, shares[nearest])
    fits = has_place(cluster_of(workers, pods.kinds))[pods.kind[which]]
    deadline = np.array(deadlines_of(rows, submit.tolist(), run.tolist(), 0))[fits]
    frame = frame_of(rows, submit.tolist(), run.tolist(), (milli / 1000).tolist())
    jobs = frame[fits].reset_index(drop=True)
    submit, run, one = submit[fits], run[fits], np.ones(int(fits.sum()), np.int64)
    log = ReplayLog("openb", 1, submit, run, one, known_requests(jobs), one)
    nodes = pods.on(workers, log, which[fits])
    actual = peak_of(submit, submit + run, milli[fits]) / _milli(workers)
    return Timed(actual, nodes, jobs, deadline, milli[fits], int((~fits).sum()))


def peak_of(start: Ints, end: Ints, milli: Ints) -> int:
    """Most that is asked for at once when nobody waits; what ends makes room first."""
    at = np.concatenate([end, start])
    change = np.concatenate([-milli, milli])
    return int(np.cumsum(change[np.argsort(at, kind="stable")]).max())


def outcomes(case: Timed) -> dict[str, dict[str, Floats]]:
    """What came of each pod under each dispatcher, shape (replays, pods).

    Forecasts are learned once on the replay's own clock; in each replay every pod's are moved
    by 1%.
    """
    log = case.nodes.log
    recorder = Recorder(ReplayForecaster(case.jobs), len(log))
    replay_nodes(case.nodes, NODE_DISPATCHERS["planner"], recorder)
    record = recorder.record()
    oracle = replace(Record.nothing(), submitted_s=log.run_s[:, None].astype(float))
    ways: dict[str, tuple[str, Record | None]] = {
        "planner, forecasts": ("planner", record),
        "planner, true lifetimes": ("planner", oracle),
        "easy, forecasts": ("easy", record),
        "remainder": ("remainder", None),
        "fgd": ("fgd", None),
        "kube-least": ("kube-least", None),
    }
    return {way: _outcome(case, name, known) for way, (name, known) in ways.items()}


def _outcome(case: Timed, name: str, record: Record | None) -> dict[str, Floats]:
    log = case.nodes.log
    whole = _milli(case.nodes.workers)
    found: dict[str, list[Floats]] = {"wait": [], "missed": [], "slowdown": [], "allocated": []}
    for seed in range(JITTERS if record is not None else 1):
        source: Ints | Estimator = log.requested_s
        if record is not None:
            source = Playback(jittered(record, log, seed))
        ran = replay_nodes(case.nodes, NODE_DISPATCHERS[name], source).replay
        found["wait"].append((ran.start_s - log.submit_s).astype(float))
        found["missed"].append((ran.end_s > case.deadline).astype(float))
        turnaround = (ran.end_s - log.submit_s).astype(float)
        found["slowdown"].append(turnaround / np.maximum(ran.end_s - ran.start_s, 10))
        found["allocated"].append(np.array([_while_full(case, ran.start_s, ran.end_s) / whole]))
    # What looks at no forecast is the same whatever they are moved by.
    times = JITTERS // len(found["wait"])
    return {key: np.repeat(np.array(rows), times, axis=0) for key, rows in found.items()}


def _while_full(case: Timed, start: Ints, end: Ints) -> float:
    """Mean milli-GPU in use while somebody with a GPU waits."""
    milli, submit = case.milli, case.nodes.log.submit_s
    waits = milli > 0
    at = np.concatenate([end, start, start[waits], submit[waits]])
    used = np.concatenate([-milli, milli, np.zeros(2 * int(waits.sum()), np.int64)])
    queue = np.zeros(2 * len(start), np.int64)
    queue = np.concatenate([queue, -np.ones(int(waits.sum())), np.ones(int(waits.sum()))])
    order = np.argsort(at, kind="stable")
    lasts = np.diff(at[order], append=at[order][-1]) * (np.cumsum(queue[order]) > 0)
    return float((np.cumsum(used[order]) * lasts).sum() / max(lasts.sum(), 1))


# -- the page --------------------------------------------------------------------------------


def measured(name: str, measure: Callable[[], Any] | None) -> Any:
    """What is kept under a name for the code as it is, else what is measured now, and kept.

    Without `measure` None, where nothing is kept.
    """
    found = hashlib.sha256()
    for module in CODE:
        found.update((ROOT / "planner" / "worlds" / f"{module}.py").read_bytes())
    path = KEEP / f"{name}-{found.hexdigest()[:12]}.json"
    if path.exists() or measure is None:
        return json.loads(path.read_text("utf-8")) if path.exists() else None
    result = measure()
    write_text_atomic(path, json.dumps(result))
    return result


def cell(folder: Path, name: str, peer: str, seed: int, kept: bool) -> dict[str, float] | None:
    """One variant, peer and seed."""

    def measure() -> dict[str, float]:
        return allocation(pods_of(folder, name == "gpuspec33"), PEERS[peer], seed)

    result: dict[str, float] | None = measured(f"{name}-{peer}-{seed}", None if kept else measure)
    return result


def allocation_rows(folder: Path, name: str, kept: bool) -> tuple[list[str], list[str]]:
    """The table's rows of one variant, and whether its goals are met."""
    cells = joblib.Parallel(n_jobs=1 if kept else 2)(
        joblib.delayed(cell)(folder, name, peer, seed, kept) for peer in PEERS for seed in SEEDS
    )
    found = {
        peer: rows
        for k, peer in enumerate(PEERS)
        if None not in (rows := cells[k * len(SEEDS) : (k + 1) * len(SEEDS)])
    }
    share = {peer: [one["share"] for one in rows] for peer, rows in found.items()}
    lines = []
    for peer, rows in found.items():
        published = PUBLISHED[name].get(peer)
        more = [a - b for a, b in zip(share[peer], share["fgd"], strict=True)]
        against = "" if peer == "fgd" else f"{_points(more)}"
        lines.append(
            f"| {name} | `{peer}` | {_mean(share[peer])} | {against} | "
            f"{'' if published is None else f'{published:.2%}'} | "
            f"{np.mean([r['mean_ms'] for r in rows]):.2f} | {max(r['p99_ms'] for r in rows):.1f} |"
        )
    ours, slowest = float(np.mean(share["remainder"])), max(r["p99_ms"] for r in found["remainder"])
    lead = interval([a - b for a, b in zip(share["remainder"], share["fgd"], strict=True)])[0]
    goal = GOALS[name]
    return lines, [
        f"{name}: {goal:.1%} of the GPUs allocated: {_verdict(ours >= goal)} ({ours:.2%})",
        f"{name}: more than FGD, the interval above 0: {_verdict(lead > 0)}",
        f"{name}: at most {MOST_MS:g} ms a pod: {_verdict(slowest <= MOST_MS)} "
        f"({slowest:.1f} ms at the 99th percentile)",
    ]


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def _mean(values: Sequence[float]) -> str:
    low, high = interval(values)
    return f"{np.mean(values):.2%} [{low:.2%}, {high:.2%}]"


def _points(values: Sequence[float]) -> str:
    low, high = interval(values)
    return f"{100 * np.mean(values):+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def timed_rows(pods: Pods, wanted: float) -> tuple[str, list[str], str]:
    """What the cluster is, the table's rows of one size, and the verdict."""
    case = timed(pods, wanted)
    found = outcomes(case)
    submit = case.nodes.log.submit_s
    lines = []
    for way, outcome in found.items():
        wait, missed = outcome["wait"], outcome["missed"]
        cells = [f"{wait.mean():,.0f}", f"{np.percentile(wait, 99):,.0f}", f"{wait.max():,.0f}"]
        cells += [f"{outcome['slowdown'].mean():,.2f}", f"{missed.mean():.2%}"]
        cells += [f"{outcome['allocated'].mean():.1%}"]
        for peer in ("fgd", "kube-least"):
            low, high = paired_interval(wait - found[peer]["wait"], submit)
            more = float((wait - found[peer]["wait"]).mean())
            cells.append("" if way == peer else f"{more:+,.0f} [{low:+,.0f}, {high:+,.0f}]")
        lines.append(f"| {wanted:.0%} | {way} | " + " | ".join(cells) + " |")
    ours = found["planner, forecasts"]
    verdicts = [_less(ours, found[peer], submit, peer) for peer in ("fgd", "kube-least")]
    gpus = _milli(case.nodes.workers) // 1000
    words = (
        f"{wanted:.0%}: {len(case.nodes.workers)} nodes, {gpus} GPUs, of which "
        f"{case.peak:.0%} are asked for at the peak; {len(submit):,} pods, "
        f"{case.left_out} fit no node"
    )
    return words, lines, f"{wanted:.0%}: " + "; ".join(verdicts)


def _less(ours: Mapping[str, Floats], theirs: Mapping[str, Floats], submit: Ints, peer: str) -> str:
    """Whether less waiting and fewer misses than a peer's are more than chance."""
    words = []
    for key, name in (("wait", "less waiting"), ("missed", "fewer misses")):
        low, high = paired_interval(ours[key] - theirs[key], submit)
        found = "yes" if high < 0 else "no" if low > 0 else "not proved"
        words.append(f"{name} than `{peer}`: {found}")
    return ", ".join(words)


INTRODUCTION = """# Placement on openb

Written by `make bench-placement`.

## How much is allocated

The 1,213 nodes of Alibaba's openb cluster that have GPUs (6,212 devices). All 8,152 pods come in
shuffled order, then draws of them, until 130% of the GPUs are asked for; one pod at a time, what
does not fit is dropped, nothing ends. The score is the mean share allocated where what was asked
for rounds to 100%; mean over seeds 42 to 51 with a 95% interval (Student's t), paired against
FGD. *default* ignores the GPU models that a third of the pods name, *gpuspec33* keeps them.

`fgd` is Fragmentation Gradient Descent by its paper (Weng et al., ATC 2023), written anew, with
the whole steps of its published scores; exact scores are almost a point worse. `random` takes any
worker that fits, the others are Kubernetes' LeastAllocated and best fit by the sum of what
remains. `fgd` and `remainder` know how often the trace's pods come, not their order. Published
figures are of another generator's draws. Milliseconds are processor time.

| pods | placed by | allocated | against FGD, points | published | ms a pod | 99th percentile |
|---|---|---|---|---|---|---|
"""

RULE = """
`remainder` rates a worker as FGD does, but for three rules. Devices count as usable only as far as
the worker's processors and memory last for them: FGD counts eight devices as usable where the
processors suffice for one more pod. The mix is weighted by how many jobs a remainder serves, count
over size, since small jobs are what remainders are for. And a device of a model costs what others
want it more than the least wanted one that the pod may use: with every pod spread over what it
may use, T4 are wanted 1.9 times as much as there are, G2 0.75 times. The rules and their weights
were chosen on seeds 0 to 2. Pods that ask for 0.81 of a device strand 0.19 of a thousand devices,
which nothing but a hundred pods can use: 3% of the GPUs, whoever places.
"""

TIMED = """
## Who waits

The trace's own times: pods that were scheduled, {pods} of them, arrive when they were created and
run as long as they did; labels are ignored. Nodes of each GPU model are taken away in proportion
until the most GPUs asked for at once, if nobody waited, are about 90, 110 and 130% of what is
left. Forecasts of lifetimes are the model's, learned on the replay's own clock; deadlines are two,
four or eight times the median lifetime of the pods of the same QoS that had ended at submission.
Dispatchers that forecast are replayed {jitters} times with every forecast moved by 1%; intervals
are 95%, over those and over tenths of the trace, paired.
*In use* is the mean share of the GPUs in use while somebody waits for one. That the planner takes
workers by best fit was chosen here, with true lifetimes: few pods of eight GPUs wait longest, and
what keeps shares of devices usable breaks the whole nodes that they need.

"""

TIMED_COLUMNS = (
    "peak", "placed by", "mean wait, s", "99th percentile", "longest", "mean bounded slowdown",
    "misses", "in use", "wait against `fgd`", "wait against `kube-least`",
)  # fmt: skip


def _timed_table(found: Sequence[tuple[str, list[str], str]]) -> str:
    return (
        f"| {' | '.join(TIMED_COLUMNS)} |\n{'|---' * len(TIMED_COLUMNS)}|\n"
        + "\n".join(line for _, lines, _ in found for line in lines)
        + "\n\n"
        + "\n".join(f"- {words}" for words, _, _ in found)
        + "\n\nWith forecasts, against the others (95%, paired):\n\n"
        + "\n".join(f"- {verdict}" for _, _, verdict in found)
        + "\n"
    )


UNMEASURED = """
Not measured yet: {missing} rows or sizes of the cluster; `make bench-placement` goes on with them.
"""


def timed_part(folder: Path, peak: float, kept: bool) -> tuple[str, list[str], str] | None:
    """One size of the cluster."""

    def measure() -> tuple[str, list[str], str]:
        return timed_rows(pods_of(folder, labels=False), peak)

    result = measured(f"timed-{peak:g}", None if kept else measure)
    return None if result is None else (result[0], result[1], result[2])


def page(folder: Path, kept: bool) -> str:
    """The page, in Markdown; `kept`: of what has been measured already."""
    rows, verdicts = [], []
    for name in GOALS:
        lines, goals = allocation_rows(folder, name, kept)
        rows += lines
        verdicts += goals
    parts = joblib.Parallel(n_jobs=1 if kept else 2)(
        joblib.delayed(timed_part)(folder, peak, kept) for peak in PEAKS
    )
    found = [part for part in parts if part is not None]
    missing = len(GOALS) * len(PEERS) - len(rows) + len(PEAKS) - len(found)
    scheduled = sum(1 for row in read_rows(folder)[1] if row["scheduled_time"])
    return "".join(
        [
            INTRODUCTION,
            "\n".join(rows) + "\n\n" + "\n".join(f"- {text}" for text in verdicts) + "\n",
            RULE,
            TIMED.format(pods=f"{scheduled:,}", jitters=JITTERS) if found else "",
            _timed_table(found) if found else "",
            UNMEASURED.format(missing=missing) if missing else "",
        ]
    )


def main() -> None:
    """Replay, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--kept", action="store_true", help="of what is measured already")
    options = parser.parse_args()
    PAGE.write_text(page(options.folder, options.kept), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()

"""planner.instances.generate: what is generated is plausible, placeable and reproducible."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from plancast.planner.instances.generate import (
    GeneratedLog,
    generate_batch,
    generate_cluster,
    generate_log,
    swf_text,
    write_swf,
)
from plancast.planner.instances.generate_log import CANCELLED, FAILED, _EasyQueue
from plancast.planner.model.domain import (
    TERMS,
    Assignment,
    BadRequest,
    Outcome,
    Plan,
    Task,
    Worker,
    estimate_for,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest, from_json, to_json
from tests.oracles.random_requests import random_request


@pytest.fixture(scope="module")
def log() -> GeneratedLog:
    """The log of the embedded default."""
    return generate_log()


def fits_somewhere(request: PlanRequest, task: Task) -> bool:
    """Whether the whole gang fits on eligible workers that are otherwise empty."""
    pieces = 0
    for worker in request.snapshot.workers:
        eligible = estimate_for(request.estimates, task.id, worker.machine_class) is not None
        if eligible and worker.satisfies(task.requires):
            pieces += min(
                (worker.capacity.get(r, 0) // a for r, a in task.demand.items() if a), default=99
            )
    return pieces >= task.shards


# ------------------------------------------------------------------ logs


def test_log_is_reproducible(log: GeneratedLog) -> None:
    """Would fail if a seed did not fix the log, or did nothing."""
    assert swf_text(log) == swf_text(generate_log())
    assert swf_text(generate_log(jobs=50)) != swf_text(generate_log(jobs=50, seed=1))


def test_log_never_exceeds_the_machine(log: GeneratedLog) -> None:
    """Would fail if the waits did not belong to the run times on that many processors."""
    ran = log.run_s >= 0
    start = (log.submit_s + log.wait_s)[ran]
    times = np.concatenate([start, start + log.run_s[ran]])
    change = np.concatenate([log.procs[ran], -log.procs[ran]])
    order = np.lexsort((change, times))  # ends before starts
    in_use = np.cumsum(change[order])
    assert in_use.max() <= log.procs_total
    assert in_use.max() > 0.95 * log.procs_total


def test_log_starts_no_job_that_could_have_started_earlier_at_the_head() -> None:
    """Would fail if the replay left processors idle before the first waiting job."""
    log = generate_log(jobs=400, users=5, procs=16, seed=3)
    ran = log.run_s >= 0
    submit, run, procs = log.submit_s[ran], log.run_s[ran], log.procs[ran]
    start = submit + log.wait_s[ran]
    waited = np.flatnonzero(start > submit)
    assert waited.size > 20
    for i in waited:
        moment = start[i] - 1  # still waiting: it does not fit, or somebody is before it
        in_use = procs[(start <= moment) & (moment < start + run)].sum()
        before_it = (submit <= submit[i]) & (start > moment) & (np.arange(len(start)) < i)
        withdrawn_before = (~ran) & (log.submit_s <= submit[i])
        assert in_use + procs[i] > 16 or before_it.any() or withdrawn_before.any()


@pytest.mark.parametrize(("total", "long_narrow_wait"), [(4, 108), (5, 0)])
def test_backfilling_never_delays_the_head(total: int, long_narrow_wait: int) -> None:
    """Would fail if a long narrow job delayed a wide one that waits, or left a spare idle."""
    run = np.array([100, 10, 200, 50])
    waits = _EasyQueue(
        submit_s=np.array([0, 1, 2, 3]),
        run_s=run,
        requested_s=run,
        procs=np.array([3, 4, 1, 1]),
        patience_s=np.full(4, -1),
        total=total,
    ).waited_s()
    assert waits.tolist() == [0, 99, long_narrow_wait, 0]


def test_log_is_loaded_as_asked() -> None:
    """Would fail if the load were so low that nothing waits, or so high that waits only grow."""
    for seed in range(4):
        log = generate_log(jobs=3000, seed=seed, load=0.75)
        ran = log.run_s >= 0
        end = (log.submit_s + log.wait_s + log.run_s)[ran].max()
        use = (log.run_s * log.procs)[ran].sum() / (log.procs_total * end)
        assert 0.55 < use < 0.8
        assert np.percentile(log.wait_s, 95) > 600


def test_log_has_every_outcome_in_plausible_shares(log: GeneratedLog) -> None:
    """Would fail if kills, failures or cancellations were missing or rampant."""
    killed = log.run_s == log.requested_s
    assert np.all(log.status[killed] == FAILED)
    assert np.all(log.run_s <= log.requested_s)
    cancelled = log.status == CANCELLED
    assert np.array_equal(cancelled, log.run_s == -1)
    for share in (killed.mean(), cancelled.mean(), ((log.status == FAILED) & ~killed).mean()):
        assert 0.005 < share < 0.1


def test_history_tells_more_than_the_request() -> None:
    """Would fail if there were nothing to learn: the point of the embedded default."""
    for seed in range(3):
        log = generate_log(jobs=3000, seed=seed)
        history: dict[tuple[int, int], list[float]] = {}
        of_request, of_history = [], []
        for i in np.flatnonzero(log.run_s > 0):
            truth = np.log(log.run_s[i])
            past = history.setdefault((log.user[i], log.app[i]), [])
            if len(past) >= 3:
                of_request.append(abs(np.log(log.requested_s[i]) - truth))
                of_history.append(abs(np.median(past[-10:]) - truth))
            past.append(truth)
        assert np.mean(of_history) < 0.5 * np.mean(of_request)


def test_log_follows_day_and_week(log: GeneratedLog) -> None:
    """Would fail if arrivals came evenly round the clock."""
    hour = log.submit_s // 3600 % 24
    assert np.isin(hour, range(9, 17)).mean() > 0.45
    assert (log.submit_s // 86_400 % 7 >= 5).mean() < 0.2


def test_log_lasts_as_long_as_asked() -> None:
    """Would fail if `days` were ignored."""
    log = generate_log(jobs=500, days=10)
    assert 8 < log.submit_s[-1] / 86_400 < 11


def test_swf_rows_are_the_log(log: GeneratedLog, tmp_path: Path) -> None:
    """Would fail if a column were written in another column's place."""
    write_swf(log, tmp_path / "log.swf.gz")
    text = gzip.decompress((tmp_path / "log.swf.gz").read_bytes()).decode()
    lines = text.splitlines()
    assert "; MaxProcs: 128" in lines
    assert f"; UnixStartTime: {log.start_s}" in lines
    rows = np.array([line.split() for line in lines if not line.startswith(";")], dtype=int)
    assert rows.shape == (6000, 18)
    by_field = {2: log.submit_s, 3: log.wait_s, 4: log.run_s, 8: log.procs, 9: log.requested_s}
    by_field |= {11: log.status, 12: log.user, 13: log.group, 14: log.app, 15: log.queue}
    for field, values in by_field.items():
        assert np.array_equal(rows[:, field - 1], values)
    assert np.all(np.diff(rows[:, 1]) >= 0)
    assert [p.name for p in tmp_path.iterdir()] == ["log.swf.gz"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"jobs": 0}, "jobs is 0"),
        ({"users": 0}, "users is 0"),
        ({"procs": 1}, "procs is 1"),
        ({"load": 1.0}, "load is 1"),
        ({"days": 0.0}, "days is 0"),
    ],
)
def test_wrong_log_parameters_are_named(wrong: dict[str, float], named: str) -> None:
    """Would fail if a wrong parameter ended in NumPy's words."""
    with pytest.raises(BadRequest, match=named):
        generate_log(**wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------ clusters and batches


def test_cluster_has_the_types_of_the_published_ones() -> None:
    """Would fail if a machine type, a zone or the SSDs never came up."""
    cluster = generate_cluster(200, seed=1, disk=True, licences=True)
    assert len({w.machine_class for w in cluster}) == 8
    labels = Counter(label for w in cluster for label in w.labels)
    assert set(labels) == {"zone-0", "zone-1", "zone-2", "ssd", "t4", "a100"}
    assert {r for w in cluster for r in w.capacity} == {"cpu", "mem", "gpu", "disk_gib", "licence"}
    assert cluster == generate_cluster(200, seed=1, disk=True, licences=True)
    assert generate_cluster(3) != generate_cluster(3, seed=1)


@pytest.mark.parametrize("seed", range(8))
def test_every_task_of_a_batch_fits(seed: int) -> None:
    """Would fail if a generated batch held a task that no worker can ever run."""
    cluster = generate_cluster(1 + 3 * seed, seed, disk=True, licences=True)
    request = generate_batch(150, cluster, seed, gang_share=0.3)
    assert all(fits_somewhere(request, task) for task in request.snapshot.pending)


def test_batch_has_the_shares_it_was_asked_for() -> None:
    """Would fail if a share were ignored."""
    request = generate_batch(1000, generate_cluster(50), 1, 5000, gang_share=0.1)
    tasks = request.snapshot.pending
    assert 150 < sum(t.deadline_s is not None for t in tasks) < 250
    assert 150 < sum(bool(t.after) for t in tasks) < 300
    assert 50 < sum(t.shards > 1 for t in tasks) < 150
    assert 200 < sum(bool(t.requires) for t in tasks) < 400
    assert any("|" in group for t in tasks for group in t.requires)
    assert 200 < sum("*" not in request.estimates[t.id] for t in tasks) < 400
    assert all(t.release_s == 5000 for t in tasks)
    plain = generate_batch(200, due_share=0, workflow_share=0, label_share=0, by_class_share=0)
    for task in plain.snapshot.pending:
        assert (task.deadline_s, task.after, task.requires, task.shards) == (None, (), (), 1)
        assert set(plain.estimates[task.id]) == {"*"}


def test_batch_is_reproducible_and_goes_through_json() -> None:
    """Would fail if a benchmark could not be rerun from its seed or from its file."""
    request = generate_batch(60, seed=4, gang_share=0.2, release_spread_s=500)
    assert request == generate_batch(60, seed=4, gang_share=0.2, release_spread_s=500)
    assert from_json(PlanRequest, to_json(request)) == request


def test_batch_on_an_odd_cluster() -> None:
    """Would fail if a cluster without the usual resources or labels broke the generator."""
    cluster = (Worker("w", {"slots": 3}), Worker("v", {"cpu": 500, "mem": 7}))
    request = generate_batch(40, cluster, 2, gang_share=0.5)
    assert all(fits_somewhere(request, task) for task in request.snapshot.pending)


# ------------------------------------------------------------------ small requests


def test_random_requests_have_every_feature() -> None:
    """Would fail if a comparison of solvers never met one of the features."""
    requests = [random_request(seed) for seed in range(400)]
    tasks = [t for r in requests for t in r.snapshot.pending]
    workers = [w for r in requests for w in r.snapshot.workers]
    runs = [x for r in requests for x in r.snapshot.running]
    seen = {
        "labels": any(t.requires for t in tasks),
        "any-of": any("|" in g for t in tasks for g in t.requires),
        "precedence": any(t.after for t in tasks),
        "after a running task": any(
            set(t.after) & set(r.snapshot.running_by_id)
            for r in requests
            for t in r.snapshot.pending
        ),
        "past release": any(
            t.release_s < r.snapshot.now_s for r in requests for t in r.snapshot.pending
        ),
        "future release": any(
            t.release_s > r.snapshot.now_s for r in requests for t in r.snapshot.pending
        ),
        "deadline": any(t.deadline_s is not None for t in tasks),
        "gang of 3": any(t.shards == 3 for t in tasks),
        "weight 0": any(t.weight == 0 for t in tasks),
        "drain": any(w.until_s is not None for w in workers),
        "blocked": any(w.blocked for w in workers),
        "free_from": any(w.free_from_s for w in workers),
        "health": any(w.health < 1 for w in workers),
        "boot": any(w.boot_kwh for w in workers),
        "running": bool(runs),
        "running gang": any(x.task.shards > 1 for x in runs),
        "preemptible": any(x.task.preemptible for x in runs),
        "kill limit": any(x.task.requested_s for x in runs),
        "failed predecessor": any(
            f.outcome is not Outcome.COMPLETED for r in requests for f in r.snapshot.finished
        ),
        "class not eligible": any(
            estimate_for(r.estimates, t.id, w.machine_class) is None
            for r in requests
            for t in r.snapshot.pending
            for w in r.snapshot.workers
        ),
        "spread": any(
            len(e.levels) > 1 for r in requests for c in r.estimates.values() for e in c.values()
        ),
        "incumbent": any(r.incumbent for r in requests),
        "hard deadlines": any(r.policy.hard_deadlines for r in requests),
        "max_wait": any(r.policy.max_wait_s is not None for r in requests),
        "max_stretch": any(r.policy.max_stretch is not None for r in requests),
        "misfit": any(not fits_somewhere(r, t) for r in requests for t in r.snapshot.pending),
    } | {f"price of {term}": any(r.policy.prices.of(term) for r in requests) for term in TERMS}
    assert [name for name, found in seen.items() if not found] == []


OFF: dict[str, Callable[[PlanRequest], bool]] = {
    "classes": lambda r: {w.machine_class for w in r.snapshot.workers} == {"a"},
    "labels": lambda r: not any(g != "nowhere" for t in everything(r) for g in t.requires),
    "precedence": lambda r: not any(t.after for t in everything(r)),
    "releases": lambda r: all(t.release_s == 1_000_000 for t in r.snapshot.pending),
    "deadlines": lambda r: all(t.deadline_s is None for t in everything(r)),
    "gangs": lambda r: all(t.shards == 1 for t in everything(r)),
    "drains": lambda r: all(w.until_s is None for w in r.snapshot.workers),
    "blocked": lambda r: not any(w.blocked for w in r.snapshot.workers),
    "free_from": lambda r: not any(w.free_from_s for w in r.snapshot.workers),
    "running": lambda r: not r.snapshot.running,
    "preemption": lambda r: not any(t.preemptible for t in everything(r)),
    "finished": lambda r: not r.snapshot.finished,
    "weights": lambda r: all(t.weight == 1 for t in everything(r)),
    "power": lambda r: not any(w.idle_w or w.busy_w or w.boot_kwh for w in r.snapshot.workers),
    "health": lambda r: all(w.health == 1 for w in r.snapshot.workers),
    "spread": lambda r: all(len(e.levels) == 1 for c in r.estimates.values() for e in c.values()),
    "incumbent": lambda r: r.incumbent is None and r.policy.prices.moves == 0,
    "bounds": lambda r: (
        (r.policy.hard_deadlines, r.policy.max_wait_s, r.policy.max_stretch) == (False, None, None)
    ),
    "misfits": lambda r: all(fits_somewhere(r, t) for t in r.snapshot.pending),
}


def everything(request: PlanRequest) -> list[Task]:
    """Pending and running tasks."""
    return [*request.snapshot.pending, *(r.task for r in request.snapshot.running)]


@pytest.mark.parametrize("switch", sorted(OFF))
def test_a_switch_turns_its_feature_off(switch: str) -> None:
    """Would fail if a solver test asked to be spared a feature and met it all the same."""
    absent = OFF[switch]
    assert all(absent(random_request(seed, **{switch: False})) for seed in range(120))  # type: ignore[arg-type]
    assert not all(absent(random_request(seed)) for seed in range(120))


def test_random_requests_stay_small_and_reproducible() -> None:
    """Would fail if brute force could not enumerate them, or a failure not be repeated."""
    for seed in range(200):
        request = random_request(seed, max_tasks=4, max_workers=2)
        assert request == random_request(seed, max_tasks=4, max_workers=2)
        assert 1 <= len(request.snapshot.pending) <= 4
        assert 1 <= len(request.snapshot.workers) <= 2
        for task in request.snapshot.pending:
            for estimate in request.estimates[task.id].values():
                assert 1 <= estimate.at(request.policy.level) <= 4
        assert all(r.task.release_s <= r.start_s for r in request.snapshot.running)
    rng = np.random.default_rng(0)
    assert random_request(rng) != random_request(rng)


def test_a_second_of_any_priced_term_counts() -> None:
    """Would fail if a priced term were so cheap that solvers could ignore it unnoticed."""
    paid: Counter[str] = Counter()
    for seed in range(300):
        request = random_request(seed, misfits=False)
        worker = request.snapshot.workers[0].id
        start_s = request.snapshot.now_s + 5
        plan = Plan(
            tuple(
                Assignment(t.id, (worker,) * t.shards, start_s, start_s + 4)
                for t in request.snapshot.pending
            )
        )
        amounts = evaluate(request, plan).terms
        paid.update(t for t in TERMS if request.policy.prices.of(t) * amounts[t] >= 0.05)
    assert all(paid[term] >= 10 for term in TERMS), paid


def test_generated_log_arrays_are_of_one_length(log: GeneratedLog) -> None:
    """Would fail if a job lacked one of its columns."""
    arrays = [getattr(log, f.name) for f in fields(log)]
    assert {len(a) for a in arrays if isinstance(a, np.ndarray)} == {6000}

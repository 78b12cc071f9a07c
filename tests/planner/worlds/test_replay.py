"""The replay: its plain twin, the published tables, and that nothing is known early."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds.dispatchers import DISPATCHERS, Dispatcher, LookAhead
from plancast.planner.worlds.replay import (
    Outages,
    ReplayLog,
    bounded_slowdown,
    replay,
    seeded_outages,
)
from tests.conftest import SHARED_DATA, scaled
from tests.oracles.plain_replay import PlainReplay

LOGS = SHARED_DATA / "logs"
SEQUENCES = (1981, 2756, 4299, 8850, 3316, 2714, 5228, 7762, 4022, 7085)


@st.composite
def toy_logs(draw: st.DrawFn) -> ReplayLog:
    """Up to 14 jobs on up to 6 processors, with equal instants and overrun requests."""
    n, procs = draw(st.integers(1, 14)), draw(st.integers(1, 6))

    def numbers(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=n, max_size=n))

    return ReplayLog(
        "toy",
        procs,
        np.cumsum(numbers(0, 6)),
        np.array(numbers(0, 200)),
        np.array(numbers(1, procs)),
        np.array(numbers(1, 90)),
        np.array(numbers(0, 2)),
    )


def _same(log: ReplayLog, dispatcher: Dispatcher, estimates: list[int] | str) -> None:
    found = estimates if isinstance(estimates, str) else np.array(estimates)
    fast = replay(log, dispatcher, found, promises=True)
    slow = PlainReplay(log, dispatcher, estimates).go()
    assert fast.start_s.tolist() == slow.start
    assert fast.estimate_s.tolist() == slow.estimate
    assert fast.put_off in (None, slow.put_off)
    if dispatcher.backfill != "published":
        starts = zip(slow.promise, slow.start, log.submit_s.tolist(), strict=True)
        assert fast.promise_s.tolist() == [s if p is None else p for p, s, _ in starts]


@pytest.mark.parametrize("name", sorted(DISPATCHERS))
@settings(max_examples=scaled(12), deadline=None)
@given(log=toy_logs(), data=st.data())
def test_twin(name: str, log: ReplayLog, data: st.DataObject) -> None:
    """The kernel starts each job when the plain twin does, and promises the same."""
    estimates = data.draw(
        st.one_of(
            st.just("last_two"),
            st.lists(st.integers(0, 120), min_size=len(log), max_size=len(log)),
        )
    )
    _same(log, DISPATCHERS[name], estimates)


@pytest.mark.parametrize("name", ["easy", "easy-sjbf", "conservative", "sjf-easy", "fcfs"])
@settings(max_examples=scaled(20), deadline=None)
@given(log=toy_logs(), data=st.data())
def test_twin_with_limits(name: str, log: ReplayLog, data: st.DataObject) -> None:
    """A job cut at its limit would run on, lose its place, or keep its limit afterwards."""
    limits = [data.draw(st.integers(1, int(most))) for most in log.requested_s]
    fast = replay(log, DISPATCHERS[name], "requested", limits=np.array(limits))
    slow = PlainReplay(log, DISPATCHERS[name], limits, limits=limits).go()
    assert fast.start_s.tolist() == slow.start
    assert fast.lost_s.tolist() == slow.lost
    whole = np.minimum(log.run_s, log.requested_s)
    assert (fast.end_s - fast.start_s).tolist() == whole.tolist()
    assert (fast.lost_s == np.where(whole > limits, limits, 0)).all()


def test_limits_need_sense() -> None:
    """A limit above the request would let a job run on for longer than its user asked for."""
    one = np.ones(1)
    log = ReplayLog("toy", 1, one, 50 * one, one, 40 * one, 0 * one)
    for limits in (np.array([41]), np.array([0]), np.array([1, 1])):
        with pytest.raises(ValueError, match="limits must be"):
            replay(log, DISPATCHERS["easy"], "requested", limits=limits)
    with pytest.raises(ValueError, match="go with"):
        replay(log, DISPATCHERS["easy"], "last_two", limits=np.array([1]))


@pytest.mark.parametrize("name", ["planner", "planner-search"])
@settings(max_examples=scaled(30), deadline=None)
@given(log=toy_logs(), data=st.data())
def test_twin_of_the_planner(name: str, log: ReplayLog, data: st.DataObject) -> None:
    """With distributions, few places searched and impatience: the same starts and promises."""
    rules = LookAhead(
        level=data.draw(st.sampled_from([0.3, 0.5])),
        ageing=data.draw(st.sampled_from([0.0, 0.01])),
        patience_s=data.draw(st.sampled_from([20.0, 1e6])),
        moves=data.draw(st.integers(0, 9)),
        depth=data.draw(st.integers(1, 5)),
        rules=data.draw(st.sampled_from([1, 5])),
        slack=data.draw(st.sampled_from([0.0, 0.5, 4.0])),
        most_slack_s=data.draw(st.sampled_from([30.0, 1e6])),
    )
    dispatcher = replace(DISPATCHERS[name], rules=rules)
    levels = (0.1, 0.5, 0.9)
    numbers = st.lists(st.integers(1, 150), min_size=3, max_size=3).map(sorted)
    found = [[float(q) for q in data.draw(numbers)] for _ in range(len(log))]

    class Teller:
        def __init__(self) -> None:
            self.levels = levels

        def at_submit(self, job: int, now_s: int) -> NDArray[np.float64]:
            return np.array(found[job])

        def finished(self, job: int, run_s: int, now_s: int) -> None: ...

    fast = replay(log, dispatcher, Teller(), promises=True)
    slow = PlainReplay(log, dispatcher, fast.estimate_s.tolist(), levels=levels, quantiles=found)
    slow.go()
    assert fast.start_s.tolist() == slow.start
    assert fast.put_off == slow.put_off
    assert fast.promise_s.tolist() == [p if p is not None else -1 for p in slow.promise]


@pytest.mark.parametrize("name", ["sjf-easy", "planner", "planner-search"])
def test_a_renewed_forecast_counts(name: str) -> None:
    """A waiting job that is found to be short would go on waiting as a long one."""
    submit = np.array([0, 1, 2, 3, 50])
    run = np.array([100, 90, 90, 5, 5])
    log = ReplayLog("toy", 1, submit, run, np.ones(5), np.full(5, 1000), np.zeros(5))

    class Teller:
        levels = (0.5,) if name == "sjf-easy" else (0.1, 0.5, 0.9)

        def at_submit(self, job: int, now_s: int) -> NDArray[np.float64]:
            return np.full(len(self.levels), 80.0 + job)

        def finished(self, job: int, run_s: int, now_s: int) -> None: ...

    class Renewer(Teller):
        def renewed(
            self, waiting: NDArray[np.int64], now_s: int
        ) -> Iterator[tuple[int, NDArray[np.float64]]]:
            if now_s == 50:
                assert waiting.tolist() == [1, 2, 3]
                yield 3, np.full(len(self.levels), 5.0)

    plain, changed = (replay(log, DISPATCHERS[name], t) for t in (Teller(), Renewer()))
    assert plain.start_s[3] > 200
    assert changed.start_s[3] == 100
    assert changed.estimate_s[3] <= 5


@settings(max_examples=scaled(30), deadline=None)
@given(
    log=toy_logs(),
    data=st.data(),
    name=st.sampled_from(["easy", "sjf", "conservative", "planner", "planner-firm"]),
)
def test_twin_with_outages(log: ReplayLog, data: st.DataObject, name: str) -> None:
    """Failures kill and queue again, drains wait, as in the plain twin."""
    count = data.draw(st.integers(1, 3))

    def numbers(low: int, high: int) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    # One after the other, so that the machine is never asked for more than it has.
    gaps, lasts = numbers(1, 40), numbers(1, 30)
    begin, at = [], 0
    for gap, last in zip(gaps, lasts, strict=True):
        begin.append(at + gap)
        at += gap + last
    outages = Outages(
        np.array(begin),
        np.array(lasts),
        np.array(numbers(1, log.procs)),
        np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count))),
    )
    fast = replay(log, DISPATCHERS[name], "requested", promises=True, outages=outages)
    slow = PlainReplay(log, DISPATCHERS[name], log.requested_s.tolist(), outages).go()
    assert fast.start_s.tolist() == slow.start


@settings(max_examples=scaled(20), deadline=None)
@given(log=toy_logs())
def test_promises_are_kept(log: ReplayLog) -> None:
    """Where no run outlasts what was believed, no job starts after the start it was promised."""
    log = log.cut_to_request()
    for rules in (LookAhead(slack=0.0), LookAhead(slack=2.0, most_slack_s=40.0)):
        dispatcher = replace(DISPATCHERS["planner-firm"], rules=rules)
        kept = replay(log, dispatcher, "requested", promises=True)
        assert (kept.promise_s >= log.submit_s).all()
        assert (kept.start_s <= kept.promise_s).all()
        # Whether somebody asks for the promises changes nothing.
        assert (replay(log, dispatcher, "requested").start_s == kept.start_s).all()


@pytest.mark.parametrize(
    "name", ["easy", "sjf-easy", "conservative", "f1-published", "planner", "planner-firm"]
)
def test_machine_is_never_overfull(name: str) -> None:
    """At no moment do more processors run than there are, and no job starts before it comes."""
    log = random_log(400, 32, seed=3)
    replayed = replay(log, DISPATCHERS[name], "last_two")
    assert (replayed.start_s >= log.submit_s).all()
    moments = np.concatenate([replayed.end_s, replayed.start_s])
    change = np.concatenate([-log.width, log.width])
    use = np.cumsum(change[np.lexsort((change, moments))])
    assert use.max() <= 32


@pytest.mark.parametrize("name", ["easy", "sjf-easy", "conservative", "planner", "planner-firm"])
def test_truth_stays_hidden(name: str) -> None:
    """Other run times from some moment on change no start before it."""
    log = random_log(300, 32, seed=5)
    moment = int(log.submit_s[150])
    for estimates in ("requested", "last_two"):
        first = replay(log, DISPATCHERS[name], estimates, promises=True)
        over = first.end_s >= moment
        begun = np.maximum(first.start_s, moment) - first.start_s
        other = np.where(over, np.maximum(begun + 1, 7 + log.run_s // 3), log.run_s)
        other = np.where(over & (first.start_s < moment), np.maximum(other, begun + 1), other)
        changed = ReplayLog(
            "x", log.procs, log.submit_s, other, log.width, log.requested_s, log.user
        )
        second = replay(changed, DISPATCHERS[name], estimates, promises=True)
        before = first.start_s < moment
        assert before.sum() > 100
        assert (other != log.run_s).any()
        assert (second.start_s[before] == first.start_s[before]).all()
        early = log.submit_s < moment
        assert (second.promise_s[early] == first.promise_s[early]).all()


def test_estimator_follows_the_replay() -> None:
    """An estimator hears of an end before it is asked at the same or a later moment, once."""
    log = random_log(200, 16, seed=1)
    heard: dict[int, int] = {}
    asked: list[int] = []

    class Listener:
        levels = (0.5,)

        def at_submit(self, job: int, now_s: int) -> NDArray[np.float64]:
            assert now_s == log.submit_s[job]
            asked.append(job)
            mine = [j for j in heard if log.user[j] == log.user[job]]
            assert all(heard[j] <= now_s for j in mine)
            runs = [int(log.run_s[j]) for j in mine][-2:]
            request = int(log.requested_s[job])
            point = request if len(runs) < 2 else min(max(sum(runs) // 2, 1), request)
            return np.array([float(point)])

        def finished(self, job: int, run_s: int, now_s: int) -> None:
            assert job not in heard
            assert run_s == log.run_s[job]
            heard[job] = now_s

    found = replay(log, DISPATCHERS["easypp"], Listener())
    ready = replay(log, DISPATCHERS["easypp"], "last_two")
    assert asked == list(range(200))
    assert found.start_s.tolist() == ready.start_s.tolist()
    assert found.estimate_s.tolist() == ready.estimate_s.tolist()


def test_failures_are_seeded() -> None:
    """A seed gives the same failures again, they cost time, and every job runs in the end."""
    log = random_log(300, 32, seed=2)
    outages = seeded_outages(log, 1500.0, 300.0, 0.5, seed=4)
    assert len(outages.begin_s) > 3
    again = seeded_outages(log, 1500.0, 300.0, 0.5, seed=4)
    assert outages.begin_s.tolist() == again.begin_s.tolist()
    failed = replay(log, DISPATCHERS["easy"], "requested", outages=outages)
    whole = replay(log, DISPATCHERS["easy"], "requested")
    assert failed.killed > 0
    assert failed.lost_s.sum() > 0
    assert (failed.end_s - failed.start_s == log.run_s).all()
    assert bounded_slowdown(failed).mean() > bounded_slowdown(whole).mean()


def test_bad_logs_are_named() -> None:
    """A job that fits no machine, or comes out of order, is told of by its number."""
    good = random_log(5, 8, seed=0)
    for field, value, text in (
        ("width", 9, "exceeds the machine's 8"),
        ("submit_s", -5, "submit_s falls"),
        ("requested_s", 0, "requested_s is below 1"),
    ):
        columns = {
            name: getattr(good, name).copy()
            for name in ("submit_s", "run_s", "width", "requested_s", "user")
        }
        columns[field][3] = value
        with pytest.raises(BadRequest, match=f"job 3: .*{text}"):
            ReplayLog("bad", 8, **columns)


def random_log(n: int, procs: int, seed: int) -> ReplayLog:
    """A busy log with skewed run times and loose requests."""
    rng = np.random.default_rng(seed)
    run = np.ceil(rng.lognormal(4.0, 1.5, n)).astype(np.int64)
    request = np.ceil(run * rng.uniform(0.9, 5.0, n)).astype(np.int64)
    width = np.minimum(2 ** rng.integers(0, 6, n), procs)
    submit = np.cumsum(rng.exponential(1.2 * np.mean(run * width) / procs, n)).astype(np.int64)
    return ReplayLog("random", procs, submit, run, width, request, rng.integers(0, 8, n))


@pytest.fixture(scope="module")
def kth() -> ReplayLog:
    """KTH-SP2 by the protocol of the SC'15 tables."""
    return swf("KTH-SP2-1996-2", 100).cut_to_request()


def swf(name: str, procs: int) -> ReplayLog:
    """Job rows with a positive run time of an archive's log."""
    path = LOGS / f"{name}.swf.gz"
    if not path.is_file():
        pytest.skip(f"../shared/data/logs/{path.name} is missing")
    rows = np.loadtxt(path, comments=";", dtype=np.int64)
    rows = rows[rows[:, 3] > 0]
    width = np.where(rows[:, 7] > 0, rows[:, 7], rows[:, 4])
    # The Lublin files know no requests: a limit that no job reaches.
    request = np.where(rows[:, 8] > 0, rows[:, 8], 7 * 86400)
    return ReplayLog(
        name, procs, rows[:, 1], rows[:, 3], width, request, np.maximum(rows[:, 11], 0)
    )


@pytest.mark.parametrize(
    ("dispatcher", "estimates", "mean", "worst"),
    [
        ("easy", "requested", 92.69, 14805),
        ("easy-sjbf", "requested", 69.39, 14805),
        ("easypp", "last_two", 62.92, 31393),
        ("easy", "oracle", 71.72, 10017),
        ("easy-sjbf", "oracle", 49.85, 9942),
    ],
)
def test_table_of_kth(
    kth: ReplayLog, dispatcher: str, estimates: str, mean: float, worst: float
) -> None:
    """Gaussier et al. (2015): mean and largest bounded slowdown on KTH-SP2."""
    found = kth.run_s if estimates == "oracle" else estimates
    slowdown = bounded_slowdown(replay(kth, DISPATCHERS[dispatcher], found))
    assert slowdown.mean() == pytest.approx(mean, abs=0.01)
    assert slowdown.max() == pytest.approx(worst, abs=1)


@pytest.mark.parametrize(
    ("log", "dispatcher", "published"),
    [
        ("lublin-256-1", "fcfs-published", 235.82),
        ("lublin-256-1", "sjf-published", 73.31),
        ("lublin-256-1", "f1-published", 75.07),
        ("lublin-256-1", "run2procs-saf", 31.46),
        ("lublin-256-2", "fcfs-published", 247.61),
        ("lublin-256-2", "sjf-published", 91.99),
        ("lublin-256-2", "f1-published", 148.25),
        ("lublin-256-2", "run2procs-saf", 66.97),
    ],
)
def test_table_of_lublin(log: str, dispatcher: str, published: float) -> None:
    """Zhang et al. (2020): mean over ten sequences of 1,024 jobs, run times known."""
    whole = swf(log, 256)
    means = []
    for first in SEQUENCES:
        part = whole.part(slice(first, first + 1024))
        replayed = replay(part, DISPATCHERS[dispatcher], part.run_s)
        means.append(bounded_slowdown(replayed).mean())
    assert np.mean(means) == pytest.approx(published, rel=0.001)

"""The canonical log: its making, its check, and the rules for what a log does not say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.predictor.schema import (
    COLUMNS,
    OUTCOMES,
    RULES,
    BadLog,
    Rule,
    canonical,
    check_log,
    fill_requests,
    machine_size,
    replayed_ends,
    usable,
)
from tests.conftest import scaled
from tests.oracles.speed import least_cpu_s


def good_log(**changes: object) -> pd.DataFrame:
    """Three jobs in which `check_log` has nothing to find, with cells changed."""
    frame = canonical(
        pd.DataFrame(
            {
                "job_id": ["a", "b", "c"],
                "submit_s": [0.0, 10.0, 20.0],
                "start_s": [5.0, 15.0, 25.0],
                "run_s": [10.0, 20.0, 30.0],
                "requested_s": 60.0,
                "cpus": 2.0,
                "user": "ada",
                "queue": "q",
                "outcome": "completed",
            }
        )
    )
    for name, values in changes.items():
        frame[name] = pd.Series(values, dtype=frame[name].dtype)
    return frame


def test_canonical_fills_every_column_in_order_and_sorts_stably() -> None:
    """Otherwise readers would hand on frames of different shapes, or reshuffle equal submits."""
    frame = canonical(
        pd.DataFrame(
            {"job_id": [1, 2, 3], "num_x": [1, 2, 3], "submit_s": [5, 0, 5], "other": [0, 0, 0]}
        )
    )
    assert list(frame.columns) == [*COLUMNS, "num_x"]
    assert frame["job_id"].tolist() == ["2", "1", "3"]
    assert frame.index.tolist() == [0, 1, 2]
    for name, column in COLUMNS.items():
        assert frame[name].dtype == (object if column.dtype == "str" else np.float64)
    assert frame["outcome"].tolist() == ["unknown"] * 3


def test_canonical_is_idempotent_and_keeps_attrs_apart() -> None:
    """A second pass would change a log, or two frames would share one header."""
    first = good_log()
    first.attrs = {"header": {"MaxProcs": "4"}}
    second = canonical(first)
    pd.testing.assert_frame_equal(first, second)
    second.attrs["header"]["MaxProcs"] = "8"
    assert first.attrs == {"header": {"MaxProcs": "4"}}


def test_canonical_frame_may_be_written_to() -> None:
    """Pandas' read-only arrays would break the first reader that repairs a cell in place."""
    source = pd.DataFrame({"submit_s": [0.0, 1.0], "run_s": [1.0, 2.0]})
    frame = canonical(source)
    frame.loc[0, "run_s"] = 99.0
    assert source["run_s"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("known", "missing", "value"),
    [
        ({"start_s": 5.0, "run_s": 7.0}, "end_s", 12.0),
        ({"start_s": 5.0, "end_s": 12.0}, "run_s", 7.0),
        ({"end_s": 12.0, "run_s": 7.0}, "start_s", 5.0),
    ],
)
def test_canonical_derives_the_third_of_start_end_and_run(
    known: dict[str, float], missing: str, value: float
) -> None:
    """A log that gives two of the three would lose its ends, and history its jobs."""
    assert canonical(pd.DataFrame([{"submit_s": 0.0} | known]))[missing].tolist() == [value]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_canonical_reads_datetimes_as_seconds_in_every_resolution(unit: str) -> None:
    """A datetime column would come out a thousand times too large or small."""
    times = pd.Series(pd.to_datetime(["2024-05-01T00:00:00"])).dt.as_unit(unit)
    spans = pd.Series(pd.to_timedelta([90], unit="s")).dt.as_unit(unit)
    frame = canonical(pd.DataFrame({"submit_s": times, "run_s": spans}))
    assert frame["submit_s"].tolist() == [1_714_521_600.0]
    assert frame["run_s"].tolist() == [90.0]


def test_canonical_names_the_row_of_a_text_among_numbers() -> None:
    """The user could not find the damaged cell."""
    with pytest.raises(BadLog, match=r"row 2, column run_s: 'soon' is not a number"):
        canonical(pd.DataFrame({"submit_s": [0, 1], "run_s": ["1", "soon"]}))


def test_canonical_takes_empty_cells_and_nullable_numbers_as_unknown() -> None:
    """An empty cell of a CSV, or a null of a Parquet file, would stop the reading."""
    frame = canonical(
        pd.DataFrame(
            {
                "submit_s": [0, 1, 2],
                "run_s": pd.array([1, None, 3], dtype="Int64"),
                "cpus": ["4", " ", None],
                "user": pd.array([7, None, 8], dtype="float64"),
            }
        )
    )
    assert np.isnan(frame["run_s"][1])
    assert np.isnan(frame["cpus"][1])
    assert np.isnan(frame["cpus"][2])
    assert frame["user"].tolist() == ["7", "", "8"]


def test_canonical_refuses_a_log_without_submission_or_with_a_column_twice() -> None:
    """A frame would be made whose order, or one of whose columns, is a guess."""
    with pytest.raises(BadLog, match="no column submit_s"):
        canonical(pd.DataFrame({"run_s": [1.0]}))
    twice = pd.DataFrame([[0.0, 1.0, 2.0]], columns=["submit_s", "run_s", "run_s"])
    with pytest.raises(BadLog, match="two columns named run_s"):
        canonical(twice)


def test_a_good_log_has_no_findings() -> None:
    """A rule would cry wolf on every log, and nobody would read the report."""
    assert check_log(good_log()).findings == ()


NAN = float("nan")
BROKEN: dict[str, dict[str, object]] = {
    "no submission time": {"submit_s": [0.0, 10.0, NAN]},
    "not in submission order": {"submit_s": [0.0, 10.0, 5.0]},
    "infinite number": {"mem_mib": [1.0, np.inf, 1.0]},
    "negative run time": {"start_s": [5.0, 15.0, NAN], "end_s": [15.0, 35.0, NAN]}
    | {"run_s": [10.0, 20.0, -30.0]},
    # By half a second, so that the tolerance of "end is not start plus run time" holds.
    "end before start": {"end_s": [15.0, 35.0, 20.0], "run_s": [10.0, 20.0, 0.5]}
    | {"start_s": [5.0, 15.0, 20.5]},
    "negative request": {"mem_mib": [1.0, -1.0, 1.0]},
    "job id used before": {"job_id": ["a", "b", "a"]},
    "start before submission": {"submit_s": [0.0, 16.0, 20.0]},
    "end is not start plus run time": {"end_s": [15.0, 35.0, 99.0]},
    "no positive run time": {"run_s": [10.0, 20.0, NAN]},
    "ran without a known start": {"start_s": [5.0, 15.0, NAN], "end_s": [15.0, 35.0, NAN]},
    "no requested time": {"requested_s": [60.0, 60.0, NAN]},
    "ran past its request": {"requested_s": [60.0, 60.0, 29.0]},
    "no processors and no GPUs": {"cpus": [2.0, 0.0, 2.0]},
    "no user": {"user": ["ada", "", "ada"]},
    "unknown outcome": {"outcome": ["completed", "unknown", "completed"]},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_every_rule_is_broken_alone_by_some_log(rule: Rule) -> None:
    """A rule that never fires, or fires for another's fault, would guard nothing."""
    report = check_log(good_log(**BROKEN[rule.kind]))
    assert [f.kind for f in report.findings] == [rule.kind]
    (finding,) = report.findings
    assert (finding.count, finding.error) == (1, rule.error)
    assert f"row {finding.rows[0] + 1} (job " in str(finding)
    if rule.error:
        with pytest.raises(BadLog, match=rule.kind):
            report.raise_errors("x.swf")
    else:
        report.raise_errors("x.swf")


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda f: f.drop(columns="user"), "schema: user"),
        (lambda f: f.assign(run_s=f["run_s"].astype("int64")), "schema: run_s"),
        (lambda f: f.assign(colour="red"), "schema: colour"),
        (lambda f: f.assign(outcome=pd.Series(["won"] * 3, dtype=object)), "schema: outcome"),
        (lambda f: f.assign(user=pd.Series(["a", None, "b"], dtype=object)), "schema: user"),
        (lambda f: f[[*f.columns[::-1]]], "schema: "),
        (lambda f: f.assign(num_x=pd.Series(["1"] * 3, dtype=object)), "schema: num_x"),
    ],
)
def test_check_names_what_makes_a_frame_not_canonical(damage: object, kind: str) -> None:
    """A frame of another shape would pass and fail somewhere far from its cause."""
    report = check_log(damage(good_log()))
    assert report.errors
    assert all(finding.kind.startswith(kind) for finding in report.errors)


def test_findings_are_counted_and_the_first_rows_named() -> None:
    """The report would send the user to the wrong rows."""
    frame = canonical(
        pd.DataFrame({"job_id": range(10), "submit_s": range(10), "user": ["u"] * 4 + [""] * 6})
    )
    report = check_log(frame)
    (finding,) = [f for f in report.warnings if f.kind == "no user"]
    assert (finding.count, finding.rows, finding.job_ids) == (6, (4, 5, 6), ("4", "5", "6"))
    assert report.counts["no user"] == 6


def test_usable_leaves_out_by_reason_and_counts_outcomes() -> None:
    """Rows would vanish uncounted, or a job that never ran would teach a run time."""
    frame = canonical(
        pd.DataFrame(
            {
                "submit_s": [0, 1, 2, 3, np.nan, 5],
                "run_s": [10, 0, np.nan, -3, 10, 7],
                "outcome": ["completed", "cancelled", "failed", "failed", "completed", "timeout"],
            }
        )
    )
    frame.attrs["source"] = "x"
    kept, counts = usable(frame)
    assert kept["run_s"].tolist() == [10.0, 7.0]
    assert kept.attrs == {"source": "x"}
    assert counts.excluded == {
        "no submission time": 1,
        "run time unknown": 1,
        "run time not positive": 2,
    }
    assert counts.outcomes == {"completed": 1, "timeout": 1}
    assert counts.rows == counts.kept + sum(counts.excluded.values())
    assert usable(frame, ["completed"])[1].excluded["outcome timeout"] == 1


def test_usable_accepts_every_outcome_by_default() -> None:
    """Failed and killed jobs would be dropped silently, though they held their processors."""
    frame = canonical(pd.DataFrame({"submit_s": 0.0, "run_s": 1.0, "outcome": list(OUTCOMES)}))
    assert usable(frame)[1].kept == len(OUTCOMES)


jobs = st.lists(
    st.tuples(
        st.sampled_from(["q", "r", ""]),
        st.one_of(st.none(), st.integers(-1, 9)),
        st.integers(1, 5),
        st.integers(0, 9),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=25,
)


@given(jobs)
@settings(max_examples=scaled(40), deadline=None)
def test_filled_requests_equal_a_plain_walk_through_the_log(rows: list[tuple]) -> None:
    """An unknown request would come from a later row, another queue or the run time."""
    frame = canonical(
        pd.DataFrame(
            [
                {"submit_s": i, "queue": queue, "requested_s": request, "run_s": 1000.0}
                for i, (queue, request, *_) in enumerate(rows)
            ]
        )
    )
    largest: dict[str, float] = {}
    expected = []
    for queue, request, *_ in rows:
        if request is not None and request > 0:
            largest[queue] = max(largest.get(queue, 0), request)
            expected.append(float(request))
        else:
            expected.append(float(largest.get(queue, max(largest.values(), default=np.nan))))
    np.testing.assert_array_equal(fill_requests(frame)["requested_s"], expected)


@given(jobs, st.integers(1, 6))
@settings(max_examples=scaled(40), deadline=None)
def test_replayed_starts_equal_a_second_by_second_replay(rows: list[tuple], procs: int) -> None:
    """The fast replay would start jobs too early, out of turn, or above the machine's size."""
    submit = np.cumsum([gap for *_, gap in rows])
    frame = canonical(
        pd.DataFrame(
            {"submit_s": submit, "run_s": [r[3] for r in rows], "cpus": [r[2] for r in rows]}
        )
    )
    replay = replayed_ends(frame, procs)
    held = np.zeros(int(submit[-1]) + 10 * len(rows) + 10)
    clock = 0
    for i, (_, _, cpus, run, _) in enumerate(rows):
        width = min(cpus, procs)
        clock = max(clock, int(submit[i]))
        # A job starts when it fits at this second; those ahead started before or now.
        while held[clock] + width > procs:
            clock += 1
        held[clock : clock + run] += width
        assert replay["start_s"][i] == clock
        assert replay["end_s"][i] == clock + run


def test_replay_leaves_a_log_with_waits_as_it_is() -> None:
    """One missing wait among 200,000 would be replaced by a guessed queue of months."""
    frame = good_log(start_s=[5.0, 15.0, NAN], end_s=[15.0, 35.0, NAN])
    pd.testing.assert_frame_equal(replayed_ends(frame, 4), frame)


def test_replay_counts_gpus_where_no_processors_are_known() -> None:
    """A GPU log would be replayed as if every job took one processor."""
    frame = canonical(pd.DataFrame({"submit_s": [0, 0], "run_s": [5, 5], "gpus": [0.6, 0.6]}))
    assert replayed_ends(frame, 1)["start_s"].tolist() == [0.0, 5.0]


def test_replay_refuses_a_machine_without_processors() -> None:
    """The replay would never end, or raise something unreadable."""
    frame = canonical(pd.DataFrame({"submit_s": [0], "run_s": [5]}))
    with pytest.raises(BadLog, match=r"0\.0 processors"):
        replayed_ends(frame, 0)


def test_machine_size_believes_the_header_then_what_was_seen() -> None:
    """A replay, or a planned cluster, would have the wrong number of processors."""
    frame = good_log()
    work_over_span = 2 * (10 + 20 + 30) / 20
    assert machine_size(frame) == work_over_span
    frame.attrs = {"header": {"MaxNodes": "50"}}
    assert machine_size(frame) == 50
    frame.attrs = {"header": {"MaxNodes": "1"}}
    assert machine_size(frame) == work_over_span
    frame.attrs = {"header": {"MaxProcs": "100", "MaxNodes": "50"}}
    assert machine_size(frame) == 100


def test_machine_size_is_at_least_what_ran_at_once_and_the_widest_job() -> None:
    """A machine without a header would be smaller than the load it is known to have held."""
    apart = {"submit_s": [0, 1000], "start_s": [0, 1000], "run_s": [10, 10]}
    together = {"submit_s": [0, 1000], "start_s": [995, 1000], "run_s": [10, 10]}
    assert machine_size(canonical(pd.DataFrame(apart | {"cpus": [3, 4]}))) == 4
    assert machine_size(canonical(pd.DataFrame(together | {"cpus": [3, 4]}))) == 7


def busy_log(jobs: int) -> pd.DataFrame:
    """A log without ends, of a machine that is as busy whatever the number of jobs."""
    rng = np.random.default_rng(0)
    return canonical(
        pd.DataFrame(
            {
                "submit_s": np.sort(rng.uniform(0, 227 * jobs, jobs)),
                "run_s": rng.lognormal(7, 2, jobs),
                "cpus": rng.integers(1, 512, jobs),
            }
        )
    )


def test_a_replay_costs_in_proportion_to_the_log() -> None:
    """Reading LLNL Atlas or NASA would become the slowest part of the pipeline."""
    short, long = busy_log(5_500), busy_log(44_000)
    assert replayed_ends(long, 2048).attrs["replayed"] == len(long)
    took = [least_cpu_s(lambda log=log: replayed_ends(log, 2048), 3) for log in (short, long)]
    # Eight times the jobs: linear is 8, quadratic 64.
    assert took[1] < 24 * took[0]

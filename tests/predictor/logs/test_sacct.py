"""The sacct reader: Slurm's notations, steps and arrays, states, and a small log by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.predictor.logs import read_log
from plancast.predictor.logs.sacct import FIELDS, duration_s, gpus_of, size_mib, tres
from plancast.predictor.schema import BadLog
from tests.conftest import ROOT

LOG = ROOT / "tests" / "data" / "logs" / "sacct.txt"
NOON = 1_714_564_800  # 2024-05-01T12:00:00Z


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """The small log, by job."""
    return read_log(LOG).set_index("job_id", drop=False)


def write(tmp_path: Path, text: str) -> Path:
    """A file with this text."""
    path = tmp_path / "jobs.txt"
    path.write_text(text)
    return path


def one_job(tmp_path: Path, **cells: str) -> pd.Series:
    """The canonical row of a log of one job with these cells."""
    defaults = {"JobID": "1", "Submit": "10", "Start": "20", "End": "50", "State": "COMPLETED"}
    row = defaults | cells
    log = write(tmp_path, "|".join(row) + "\n" + "|".join(row.values()) + "\n")
    return read_log(log, strict=True).iloc[0]


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations_round_trip(days: int, hours: int, minutes: int, seconds: int) -> None:
    """A run time or limit would be read as another."""
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    clock = f"{hours:02}:{minutes:02}:{seconds:02}"
    assert duration_s(f"{days}-{clock}") == total
    assert duration_s(f"{days * 24 + hours:02}:{minutes:02}:{seconds:02}") == total
    assert duration_s(f"{days}-{clock}.250") == total + 0.25
    assert duration_s(f"{days}-{hours}") == total - minutes * 60 - seconds
    assert duration_s(f"{days}-{hours}:{minutes}") == total - seconds
    assert duration_s(f"{minutes:02}:{seconds:02}") == minutes * 60 + seconds
    assert duration_s(str(minutes)) == minutes * 60


@pytest.mark.parametrize("text", ["", "UNLIMITED", "Partition_Limit", "INVALID"])
def test_no_limit_is_unknown(text: str) -> None:
    """A job without a limit would seem to have one."""
    assert math.isnan(duration_s(text))


@pytest.mark.parametrize("text", ["soon", "1:2:3:4", "-5", "1-", "1:2x"])
def test_a_text_is_no_duration(text: str) -> None:
    """A damaged cell would become a number."""
    with pytest.raises(ValueError, match="not a duration"):
        duration_s(text)


UNIT_MIB = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3, "": 1}


@given(
    st.integers(1, 9999),
    st.sampled_from(sorted(UNIT_MIB)),
    st.integers(1, 256),
    st.integers(1, 64),
)
def test_sizes_round_trip(number: int, unit: str, cpus: int, nodes: int) -> None:
    """Memory would be wrong by a unit, or per node taken for per processor."""
    mib = number * UNIT_MIB[unit]
    assert size_mib(f"{number}{unit}") == mib
    assert size_mib(f"{number}{unit}c", cpus, nodes) == mib * cpus
    assert size_mib(f"{number}{unit}n", cpus, nodes) == mib * nodes
    assert size_mib(f"{number}.50{unit}") == pytest.approx((number + 0.5) * UNIT_MIB[unit])


def test_no_size_is_unknown_and_a_text_is_refused() -> None:
    """Memory 0 ("all of the node") would be taken for none at all."""
    assert all(math.isnan(size_mib(text)) for text in ("", "0", "0n", "?"))
    with pytest.raises(ValueError, match="not a size"):
        size_mib("4Q")


names = st.sampled_from(["cpu", "mem", "node", "billing", "gres/gpu", "gres/gpu:a100"])


@given(st.dictionaries(names, st.integers(0, 99).map(str)))
def test_tres_round_trips(resources: dict[str, str]) -> None:
    """A resource would be lost or go under another's name."""
    assert tres(",".join(f"{key}={value}" for key, value in resources.items())) == resources


@given(st.dictionaries(st.sampled_from(["a100", "v100", "h100"]), st.integers(1, 8)), st.booleans())
def test_typed_and_total_gpus_are_not_counted_twice(types: dict[str, int], total: bool) -> None:
    """A job with two A100s would seem to have asked for four GPUs."""
    resources = {"cpu": "1"} | {f"gres/gpu:{name}": str(n) for name, n in types.items()}
    if total and types:
        resources["gres/gpu"] = str(sum(types.values()))
    assert gpus_of(resources) == sum(types.values())


def test_gpus_without_type_and_without_knowledge() -> None:
    """A job without GPUs would be unknown, or an unknown one without GPUs."""
    assert gpus_of({"cpu": "1", "gres/gpu": "2", "gres/gpumem": "80G"}) == 2
    assert gpus_of({"cpu": "1"}) == 0
    assert math.isnan(gpus_of({}))
    with pytest.raises(ValueError, match="cpu"):
        tres("cpu")


def test_steps_are_folded_and_unfinished_jobs_counted(log: pd.DataFrame) -> None:
    """Steps would count as jobs, or jobs that still run would teach a run time."""
    assert log["job_id"].tolist() == ["100", "101_1", "101_2", "104+0", "104+1", "106", "107"]
    assert log.attrs["dropped"] == {
        "steps": 4,
        "steps without their job": 1,
        "not ended: RUNNING": 1,
        "not ended: PENDING": 1,
    }


def test_a_job_s_cells(log: pd.DataFrame) -> None:
    """A field would land in the wrong column."""
    job = log.loc["100"].to_dict()
    assert math.isnan(job.pop("mem_peak_mib"))
    assert job == {
        "job_id": "100",
        "submit_s": NOON - 4 * 3600,
        "start_s": NOON - 4 * 3600 + 600,
        "end_s": NOON - 4 * 3600 + 4200,
        "run_s": 3600,
        "requested_s": 86_400,
        "cpus": 8,
        "mem_mib": 32_768,
        "gpus": 2,
        "user": "ada",
        "group": "physics",
        "app": "train",
        "queue": "normal",
        "partition": "gpu",
        "work_dir": "",
        "submit_line": "",
        "outcome": "completed",
    }


def test_outcomes_of_states(log: pd.DataFrame) -> None:
    """A killed job would seem to have completed."""
    assert log["outcome"].to_dict() == {
        "100": "completed",
        "101_1": "timeout",
        "101_2": "failed",
        "104+0": "failed",
        "104+1": "failed",
        "106": "cancelled",
        "107": "cancelled",
    }


def test_memory_per_processor_and_per_node(log: pd.DataFrame) -> None:
    """Old Slurm's 4Gc and 4Gn would be the memory of the whole job."""
    assert log["mem_mib"][["101_1", "104+0", "104+1"]].tolist() == [16_384, 8192, 500]


def test_unlimited_is_no_request(log: pd.DataFrame) -> None:
    """A job without a time limit would seem to have asked for one."""
    assert log["requested_s"][["104+0", "106"]].isna().all()


def test_a_job_cancelled_in_the_queue_never_ran(log: pd.DataFrame) -> None:
    """It would teach a run time of nought."""
    assert log.loc["106", ["start_s", "run_s"]].isna().all()
    assert log.loc["106", "end_s"] == NOON - 4 * 3600 + 21 * 60


def test_a_bar_in_a_job_name_is_put_back(log: pd.DataFrame) -> None:
    """Every field after the name would be read one place off."""
    assert log.loc["106", ["app", "partition", "group"]].tolist() == ["a|b pipe", "cpu", "users"]


def test_the_header_may_be_absent(tmp_path: Path) -> None:
    """A log made with --noheader could not be read."""
    body = LOG.read_text().split("\n", 1)[1]
    pd.testing.assert_frame_equal(read_log(write(tmp_path, body)), read_log(LOG))


def test_a_field_asked_for_twice_is_read_once(tmp_path: Path) -> None:
    """A format that names a field twice would be an error of pandas."""
    log = "JobID|Submit|Submit|Start|End|State\n1|10|11|20|50|COMPLETED\n"
    assert read_log(write(tmp_path, log))["submit_s"].tolist() == [10.0]


def test_a_carriage_return_in_a_name_ends_no_line(tmp_path: Path) -> None:
    """One odd job name would shift the rows below it."""
    path = tmp_path / "jobs.txt"
    path.write_bytes(
        b"JobID|JobName|Submit|Start|End|State\r\n"
        b"1|a\rb|10|20|50|COMPLETED\r\n2|c|11|21|51|FAILED\r\n"
    )
    assert read_log(path)["app"].tolist() == ["a b", "c"]


def test_fields_can_be_named(tmp_path: Path) -> None:
    """A log of other fields without a header could not be read."""
    path = write(tmp_path, "7|2024-05-01T12:00:00|1714564810|60|1714564870|COMPLETED\n")
    fields = ["JobID", "Submit", "Start", "ElapsedRaw", "End", "State"]
    (row,) = read_log(path, format="sacct", fields=fields).to_dict("records")
    assert (row["submit_s"], row["start_s"], row["run_s"]) == (NOON, NOON + 10, 60)


def test_trailing_bars_of_parsable_are_understood(tmp_path: Path) -> None:
    """``sacct --parsable`` instead of ``--parsable2`` would be refused."""
    barred = "".join(line + "|\n" for line in LOG.read_text().splitlines())
    pd.testing.assert_frame_equal(read_log(write(tmp_path, barred)), read_log(LOG))
    headless = barred.split("\n", 1)[1]
    pd.testing.assert_frame_equal(read_log(write(tmp_path, headless)), read_log(LOG))


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2024-05-01T12:00:00", "2024-05-01T10:00:00Z"),  # Stockholm: summer time
        ("2024-01-01T12:00:00", "2024-01-01T11:00:00Z"),
        ("2024-05-01T12:00:00Z", "2024-05-01T12:00:00Z"),
        ("2024-05-01T12:00:00+05:30", "2024-05-01T06:30:00Z"),
        (str(NOON), "2024-05-01T12:00:00Z"),
        ("2024-10-27T02:30:00", "2024-10-27T00:30:00Z"),  # comes twice: the first
        ("2024-03-31T02:30:00", "2024-03-31T01:00:00Z"),  # does not exist: moved to 03:00
    ],
)
def test_local_times_follow_the_cluster_s_zone(tmp_path: Path, text: str, utc: str) -> None:
    """Times would be hours off, or a log would be refused for one night in autumn."""
    log = f"JobID|Submit|Start|End|State\n1|{text}|{text}|{text}|COMPLETED\n"
    frame = read_log(write(tmp_path, log), timezone="Europe/Stockholm")
    assert frame["submit_s"].tolist() == [pd.Timestamp(utc).timestamp()]


def test_an_hour_that_the_zone_leaves_out_is_noted(tmp_path: Path) -> None:
    """A wrong zone would move every job by hours, and nobody would hear of it."""
    night = "2024-03-31T02:30:00"
    text = f"JobID|Submit|Start|End|State\n1|{night}|{night}|2024-03-31T04:00:00|COMPLETED\n"
    table = f"job_id,submit_s,start_s,end_s\n1,{night},{night},2024-03-31T04:00:00\n"
    for name, content in (("x.txt", text), ("x.csv", table)):
        (tmp_path / name).write_text(content)
        for zone, count in (("Europe/Stockholm", 1), ("UTC", 0)):
            notes = read_log(tmp_path / name, timezone=zone).attrs["notes"]
            found = [note for note in notes if "leaves out" in note]
            assert len(found) == count
            assert all(f"1 time is in an hour that {zone} leaves out" in note for note in found)


@pytest.mark.parametrize(
    ("cells", "column", "value"),
    [
        ({"Elapsed": "1-00:00:00"}, "run_s", 86_400),
        ({"ElapsedRaw": "77", "Elapsed": "00:00:01"}, "run_s", 77),
        ({}, "run_s", 30),
        ({"TimelimitRaw": "90"}, "requested_s", 5400),
        ({"NCPUS": "6"}, "cpus", 6),
        ({"ReqCPUS": "0", "AllocTRES": "cpu=12"}, "cpus", 12),
        ({"ReqCPUS": "1.50K"}, "cpus", 1500),
        ({"ReqMem": "2Gn", "NNodes": "3"}, "mem_mib", 6144),
        ({"ReqMem": "0", "AllocTRES": "cpu=1,mem=1T"}, "mem_mib", 2**20),
        ({"Group": "staff"}, "group", "staff"),
        ({"Partition": "gpu"}, "queue", "gpu"),
        ({"State": "DEADLINE"}, "outcome", "timeout"),
        ({"State": "CANCELLED+"}, "outcome", "cancelled"),
        ({"State": "REQUEUED"}, "outcome", "cancelled"),
        ({"State": "A_NEW_STATE"}, "outcome", "unknown"),
    ],
)
def test_fields_stand_in_for_one_another(
    tmp_path: Path, cells: dict[str, str], column: str, value: object
) -> None:
    """A log made with fewer fields would lose what others of its fields say."""
    assert one_job(tmp_path, **cells)[column] == value


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"Submit": "noon"}, "line 2, field Submit: 'noon' is not a time"),
        ({"ElapsedRaw": "ten"}, "line 2, field ElapsedRaw: 'ten' is not a number"),
        ({"Timelimit": "ten"}, "line 2, field Timelimit: 'ten' is not a duration"),
        ({"ReqCPUS": "four"}, "line 2, field ReqCPUS: 'four' is not a number"),
        ({"ReqMem": "4Q"}, "line 2, field ReqMem: '4Q' is not a size"),
        ({"ReqTRES": "cpu"}, "line 2, field ReqTRES: 'cpu' is not a TRES list"),
        ({"ReqTRES": "cpu=x"}, "line 2, field ReqTRES: 'x' is not a number"),
        ({"State": "RUNNING"}, "has no ended job"),
    ],
)
def test_damage_is_named_by_line_and_field(
    tmp_path: Path, cells: dict[str, str], message: str
) -> None:
    """The user could not find the damaged cell."""
    with pytest.raises(BadLog, match=r"jobs\.txt") as caught:
        one_job(tmp_path, **cells)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("JobID|Submit|Start|End\n1|1|2|3\n", "has no field State"),
        ("JobID|Submit|State\n1|1|COMPLETED|x\n", "line 2: 4 cells where its header has 3"),
        ("JobID|JobName|Submit|State\n1|x\n", "line 2: 2 cells where its header has 4"),
        ("JobID|Submit|State\n", "has a header and no job"),
    ],
)
def test_a_log_that_lacks_something_says_what(tmp_path: Path, text: str, message: str) -> None:
    """A missing field or cell would show as an error of pandas."""
    with pytest.raises(BadLog, match=r"jobs\.txt") as caught:
        read_log(write(tmp_path, text), format="sacct")
    assert message in str(caught.value)


def test_an_unknown_zone_is_refused(tmp_path: Path) -> None:
    """A misspelt zone would be an error of pandas, or silently UTC."""
    with pytest.raises(BadLog, match="time zone 'Europe/Stokholm' is unknown"):
        read_log(LOG, timezone="Europe/Stokholm")


def test_the_default_fields_are_those_of_the_sample() -> None:
    """The documented sacct command and the reader would part ways."""
    assert LOG.read_text().splitlines()[0] == "|".join(FIELDS)


def test_peaks_come_from_steps(tmp_path: Path) -> None:
    """A job's memory in use would be that of one task, of another job, or below what killed it."""
    head = "JobID|Submit|Start|End|State|ReqMem|MaxRSS|NTasks|TRESUsageInTot"
    lines = [
        "1|10|20|50|COMPLETED|4G|||",
        "1.batch|10|20|50|COMPLETED||1024K|1|",
        "1.0|10|20|50|COMPLETED||512M|4|",
        "2|10|20|50|OUT_OF_MEMORY|4G|||",
        "2.batch|10|20|50|OUT_OF_MEMORY||100M|1|",
        "3|10|20|50|COMPLETED|4G|||",
        "3.batch|10|20|50|COMPLETED||3M|2|cpu=00:00:01,mem=2097152,vmem=5G",
        "4|10|20|50|COMPLETED|4G|||",
        "5|10|20|50|COMPLETED|4G|||",
        "5.batch|10|20|50|COMPLETED||what|1|",
    ]
    log = read_log(write(tmp_path, "\n".join([head, *lines]) + "\n"))
    peaks = log.set_index("job_id")["mem_peak_mib"]
    assert peaks[["1", "2", "3"]].tolist() == [2048.0, 4096.0, 2.0]
    assert peaks[["4", "5"]].isna().all()

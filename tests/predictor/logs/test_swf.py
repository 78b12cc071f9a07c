"""The SWF reader: what each field becomes, what is refused, and the real logs' counts."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plancast.predictor.logs import read_log
from plancast.predictor.schema import BadLog, check_log, replayed_ends, usable
from tests.conftest import ROOT
from tests.oracles.speed import least_cpu_s

SMALL = ROOT / "tests" / "data" / "logs" / "small.swf"
LINE = "1 0 5 10 2 -1 -1 2 60 -1 1 1 1 1 1 1 -1 -1\n"


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    """The small log, by job."""
    return read_log(SMALL).set_index("job_id", drop=False)


def write(tmp_path: Path, content: str | bytes, name: str = "x.swf") -> Path:
    """A file with this content."""
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_times_start_at_the_header_s_origin(small: pd.DataFrame) -> None:
    """Submissions of two logs could not be compared, and hours of the day would be wrong."""
    assert small.loc["1", "submit_s"] == 1_000_000_000
    assert small.loc["1", "start_s"] == 1_000_000_010
    assert small.loc["1", "end_s"] == 1_000_000_110


def test_rows_come_in_submission_order(small: pd.DataFrame) -> None:
    """History would meet a job before one submitted earlier."""
    assert small["job_id"].tolist() == ["1", "3", "2", "4", "5", "6", "7"]


def test_without_a_wait_start_and_end_are_unknown(small: pd.DataFrame) -> None:
    """A job without a wait time would seem to have started at once."""
    assert small.loc["2", ["start_s", "end_s"]].isna().all()


def test_a_job_without_run_time_never_started(small: pd.DataFrame) -> None:
    """A job cancelled in the queue would seem to have held processors."""
    assert small.loc["4", ["start_s", "run_s"]].isna().all()
    # It was one of its user's jobs until it was removed: its end is known then, and not earlier.
    assert small.loc["4", "end_s"] >= small.loc["4", "submit_s"]
    assert small.loc["4", "outcome"] == "cancelled"


def test_processors_are_requested_ones_else_used_ones(small: pd.DataFrame) -> None:
    """The size of jobs would be what they used, which nobody knows at submission."""
    assert small.loc["1", "cpus"] == 8
    assert small.loc["2", "cpus"] == 4


def test_memory_is_of_the_whole_job(small: pd.DataFrame) -> None:
    """Memory per processor would be taken for the job's."""
    assert small.loc["1", "mem_mib"] == 16.0
    assert np.isnan(small.loc["2", "mem_mib"])


def test_outcomes_and_the_timeout_rule(small: pd.DataFrame) -> None:
    """Jobs killed at their limit would count as cancelled or failed, completed ones as killed."""
    assert small["outcome"].to_dict() == {
        "1": "completed",
        "2": "failed",
        "3": "timeout",
        "4": "cancelled",
        "5": "completed",
        "6": "completed",
        "7": "unknown",
    }


def test_unknown_ids_are_empty_and_zero_is_an_id(small: pd.DataFrame) -> None:
    """All unknown users would be one user called -1, and queue 0 would be unknown."""
    assert small.loc["7", ["user", "group", "app", "queue", "partition"]].tolist() == [""] * 5
    assert small.loc["1", ["user", "app", "queue"]].tolist() == ["1", "7", "0"]


def test_partial_executions_are_dropped_and_counted(small: pd.DataFrame) -> None:
    """A checkpointed job would be counted three times."""
    assert small.attrs["dropped"] == {"partial executions": 2}


def test_header_is_kept(small: pd.DataFrame) -> None:
    """The machine's size and whom to acknowledge would be lost."""
    header = small.attrs["header"]
    assert header["MaxProcs"] == "64"
    assert header["Queue"] == "0 interactive\n1 batch"
    assert header["Information"] == "see\nhttp://example.org/"
    assert small.attrs["source"] == "small.swf"
    assert small.attrs["format"] == "swf"


def test_header_may_be_latin_1(tmp_path: Path) -> None:
    """An old log would be refused for a donor's name."""
    frame = read_log(write(tmp_path, "; Acknowledge: Åke\n".encode("latin-1") + LINE.encode()))
    assert len(frame) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_line_ends_and_packing_do_not_matter(
    tmp_path: Path, end: str, pack: Callable[[bytes], bytes]
) -> None:
    """A log unpacked or edited elsewhere would read differently."""
    content = SMALL.read_bytes().replace(b"\n", end.encode())
    frame = read_log(write(tmp_path, pack(content)))
    pd.testing.assert_frame_equal(frame, read_log(SMALL))
    assert frame.attrs["header"] == read_log(SMALL).attrs["header"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("; Version: 2\n" + LINE + LINE.replace("10", "ten", 1), "line 3, field run time: 'ten'"),
        (LINE + LINE.replace(" 60 ", " nan "), "line 2, field time requested: 'nan'"),
        (LINE + LINE.replace(" 60 ", " 1_0 "), "line 2, field time requested: '1_0'"),
        (LINE + "2 0 5 10\n", "line 2: 4 fields where SWF has 18"),
        (LINE + LINE.strip() + " 7\n", "line 2: 19 fields where SWF has 18"),
        ("; Version: 2\n;\n", "has no job"),
        (LINE.replace(" 1 1 1 1 1 1 ", " 2 1 1 1 1 1 "), "has no job"),
        (b"1 0 5 \xff\xfe 2\n", "line 1, field run time"),
        (
            LINE + '2 "0 5 10 2 -1 -1 2 60 -1 1 1 1 1 1 1 -1 -1\n',
            "line 2, field submit time: '\"0'",
        ),
    ],
)
def test_damage_is_named_by_line_and_field(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    """The user could not find the damage, or a shifted column would be read as another."""
    with pytest.raises(BadLog, match=r"x\.swf") as caught:
        read_log(write(tmp_path, content), strict=True)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# Jobs (as ../shared/data/README.md has them), rows without a positive run time and rows past
# their request; the latter two counted with awk from the files, fields 4 and 9.
REAL = {
    "KTH-SP2-1996-2": (28_489, 8, 475),
    "SDSC-BLUE-2000-4.2-cln": (243_306, 10_770, 23_434),
    "HPC2N-2002-2.1-cln": (202_876, 0, 14_817),
    "LLNL-Atlas-2006-2.1-cln": (43_778, 7_178, 3_351),
    "METACENTRUM-2009-2": (103_656, 3_712, 0),
    "NASA-iPSC-1993-3.1-cln": (18_239, 173, 0),
    "lublin-256-1": (10_000, 0, 0),
    "lublin-256-2": (10_000, 0, 0),
}
QUICK = ("KTH-SP2-1996-2", "LLNL-Atlas-2006-2.1-cln", "NASA-iPSC-1993-3.1-cln")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in REAL]
)
def test_real_logs_have_their_published_counts(
    name: str, shared_data: Callable[[str], Path]
) -> None:
    """Rows of a real log would be lost, or its traps not noticed."""
    frame = read_log(shared_data(f"logs/{name}.swf.gz"))
    rows, without_run, past_request = REAL[name]
    report = check_log(frame)
    assert len(frame) == rows
    assert report.errors == ()
    assert report.counts.get("no positive run time", 0) == without_run
    assert report.counts.get("ran past its request", 0) == past_request
    kept, counts = usable(frame)
    assert len(kept) == rows - without_run == rows - sum(counts.excluded.values())


def by_pandas(path: Path) -> pd.DataFrame:
    """The table of a log as its peer reads it: plain numbers, nothing looked at."""
    return pd.read_csv(path, sep=r"\s+", comment=";", header=None)


@pytest.mark.slow
def test_kth_is_read_about_as_fast_as_by_pandas(shared_data: Callable[[str], Path]) -> None:
    """Starting the pipeline on a real log would feel slow."""
    path = shared_data("logs/KTH-SP2-1996-2.swf.gz")
    frame = read_log(path)
    assert frame.attrs["header"]["MaxProcs"] == "100"
    assert frame["submit_s"].iloc[0] == 843_480_031
    assert least_cpu_s(lambda: read_log(path)) < 10 * least_cpu_s(lambda: by_pandas(path))


@pytest.mark.slow
def test_sdsc_is_read_about_as_fast_as_by_pandas(shared_data: Callable[[str], Path]) -> None:
    """A log of a quarter of a million jobs would be tiresome to try things on."""
    path = shared_data("logs/SDSC-BLUE-2000-4.2-cln.swf.gz")
    assert least_cpu_s(lambda: read_log(path), 2) < 10 * least_cpu_s(lambda: by_pandas(path), 2)


def test_atlas_without_waits_gets_ends_from_the_replay(shared_data: Callable[[str], Path]) -> None:
    """A log without waits would have no history at all."""
    frame = read_log(shared_data("logs/LLNL-Atlas-2006-2.1-cln.swf.gz"))
    assert frame["start_s"].isna().all()
    replay = replayed_ends(frame)
    assert replay["end_s"].notna().all()
    assert (replay["start_s"] >= replay["submit_s"]).all()
    starts = replay["start_s"].to_numpy()
    assert (np.diff(starts) >= 0).all()
    events = pd.concat(
        [
            pd.Series(replay["cpus"].to_numpy(), index=starts),
            pd.Series(-replay["cpus"].to_numpy(), index=replay["end_s"]),
        ]
    ).dropna()
    in_use = events.groupby(level=0).sum().cumsum()
    assert in_use.max() <= float(frame.attrs["header"]["MaxProcs"])

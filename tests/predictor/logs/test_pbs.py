"""The reader of PBS and Torque: what is peculiar to its records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from plancast.predictor.logs import read_log

RECORD = (
    "03/01/2024 14:01:00;E;88.srv;user=ann jobname=fit ctime=1709280000 {} start=1709280060 "
    "Resource_List.ncpus=2 end=1709290860 Exit_status=0 resources_used.walltime=03:00:00\n"
)


def read(folder: Path, texts: str) -> pd.Series:
    """The job of a record that also says `texts`."""
    path = folder / "log.pbs"
    path.write_text(RECORD.format(texts))
    return read_log(path).iloc[0]


@pytest.mark.parametrize(
    ("texts", "work_dir", "submit_line"),
    [
        ('jobdir=/home/ann/p Submit_arguments="-l select=1 -N fit fit.sh 7"', "/home/ann/p",
         "-l select=1 -N fit fit.sh 7"),
        ("init_work_dir=/home/ann/p submit_args=fit.sh", "/home/ann/p", "fit.sh"),
        ("Submit_arguments='-v user=bob,a=\"1\" fit.sh'", "", '-v user=bob,a="1" fit.sh'),
        ("queue=long", "", ""),
    ],
)  # fmt: skip
def test_directory_and_arguments_are_kept(
    tmp_path: Path, texts: str, work_dir: str, submit_line: str
) -> None:
    """What a job ran, and where, would be lost, or its options be taken for fields of the job."""
    job = read(tmp_path, texts)
    assert (job["work_dir"], job["submit_line"]) == (work_dir, submit_line)
    assert (job["user"], job["run_s"], job["cpus"]) == ("ann", 10_800, 2)


def test_a_quote_that_is_not_closed_is_text(tmp_path: Path) -> None:
    """One quotation mark in a name would swallow the fields behind it."""
    job = read(tmp_path, 'account="phys queue=long project="x y"')
    assert (job["queue"], job["group"], job["run_s"]) == ("long", '"phys', 10_800)


def test_an_end_in_an_hour_that_the_zone_leaves_out_is_noted(tmp_path: Path) -> None:
    """A wrong zone would move the end of every job that has it in the record's stamp alone."""
    path = tmp_path / "log.pbs"
    record = RECORD.format("").replace("03/01/2024 14:01:00", "03/31/2024 02:30:00")
    path.write_text(record.replace("end=1709290860 ", ""))
    (note,) = read_log(path, timezone="Europe/Berlin").attrs["notes"]
    assert note.startswith("1 time is in an hour that Europe/Berlin leaves out")
    assert read_log(path).attrs["notes"] == []

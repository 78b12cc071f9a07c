"""Column maps guessed for tables that come without one."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from plancast.predictor.logs import read_log
from plancast.predictor.logs.guess import guessed_map
from plancast.predictor.logs.table import read_frame
from plancast.predictor.schema import BadLog


def written(folder: Path, text: str) -> Path:
    """A CSV of a user's own."""
    path = folder / "mine.csv"
    path.write_text(text)
    return path


def test_a_foreign_csv_is_read_by_its_names(tmp_path: Path) -> None:
    """A log with other names than ours would be a dead end."""
    path = written(
        tmp_path,
        "JobID;Submitted At;Elapsed (min);Time Limit (h);Cores;Mem GB;User;State;Colour\n"
        "7;2024-05-01T12:00:00;90;2;4;16;ann;COMPLETED;red\n"
        "8;2024-05-01T12:30:00;30.5;2;1;;bob;OUT_OF_MEMORY;blue\n",
    )
    log = read_log(path)
    first, second = log.to_dict("records")
    assert first["job_id"] == "7"
    assert first["submit_s"] == 1_714_564_800
    assert (first["run_s"], first["requested_s"]) == (5400, 7200)
    assert (first["cpus"], first["mem_mib"], first["user"]) == (4, 16 * 1024, "ann")
    assert (first["outcome"], second["outcome"]) == ("completed", "failed")
    assert math.isnan(second["mem_mib"])
    note = log.attrs["notes"][0]
    assert "run_s from Elapsed (min) in min" in note
    assert "not read: Colour" in note
    assert "--columns" in note


def test_directories_and_command_lines_are_found(tmp_path: Path) -> None:
    """What was run, and where, would not be read; or a command line be taken for a moment."""
    path = written(
        tmp_path,
        "Submit,Elapsed,JobName,SubmitLine,Working Directory\n0,60,fit,sbatch fit.sh 7,/home/ann\n",
    )
    (row,) = read_log(path).to_dict("records")
    assert (row["app"], row["submit_s"]) == ("fit", 0)
    assert (row["work_dir"], row["submit_line"]) == ("/home/ann", "sbatch fit.sh 7")
    mapped = read_log(path, columns={"submit_line": "JobName", "work_dir": "SubmitLine"})
    assert (mapped["submit_line"][0], mapped["work_dir"][0]) == ("fit", "sbatch fit.sh 7")


def test_moments_in_milliseconds_and_starts_without_submissions() -> None:
    """Epoch milliseconds would lie 50,000 years ahead; a log of starts and ends has run times."""
    frame = pd.DataFrame(
        {"start": [1.7e12, 1.7e12 + 5e3], "finished": [1.7e12 + 9e3, 1.7e12 + 2e4]}
    )
    log = read_frame(frame)
    assert log["submit_s"].tolist() == [1.7e9, 1.7e9 + 5]
    assert log["run_s"].tolist() == [9, 15]
    assert "starts stand for them" in log.attrs["notes"][0]


def test_run_times_alone_are_taken_in_turn() -> None:
    """A list of run times is a history, too."""
    log = read_frame(pd.DataFrame({"duration_ms": [1000.0, 4000.0], "script": ["a", "b"]}))
    assert log["run_s"].tolist() == [1, 4]
    assert log["app"].tolist() == ["a", "b"]
    assert log["submit_s"].tolist() == [0, 1]


def test_cells_that_cannot_be_what_the_name_says_are_not_taken() -> None:
    """A column 'run' of texts would refuse every row of a log whose 'elapsed' has the times."""
    mapping = guessed_map(
        {"submit": [1, 2], "run": ["first", "second"], "elapsed": ["1h", "00:30:00"]}, "x"
    )
    assert mapping.columns["run_s"] == "elapsed"


def test_without_run_times_the_sentence_says_what_to_write(tmp_path: Path) -> None:
    """'Format cannot be recognised' tells nobody what to do."""
    with pytest.raises(BadLog, match=r"mine\.csv: none of its columns \(when, colour\)") as caught:
        read_log(written(tmp_path, "when,colour\n1,red\n"))
    assert "columns:" in str(caught.value)
    assert "submit_s: COLUMN" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exit_codes_tell_outcomes() -> None:
    """Failed jobs would count as completed, or all as unknown."""
    mapping = guessed_map({"submit": [1], "elapsed": [1], "exit_code": ["0", "137"]}, "x")
    assert mapping.outcomes == {"0": "completed", "137": "failed"}


def test_a_header_with_line_breaks_is_refused_in_one_line(tmp_path: Path) -> None:
    """A quote that is never closed makes the whole file one name, which was all printed."""
    path = tmp_path / "jobs.csv"
    path.write_text('id,"phase\n' + "1,2,3\n" * 30 + '",other\n1,2,3\n')
    for columns in (None, {"run_s": "elapsed"}):
        with pytest.raises(BadLog) as refused:
            read_log(path, columns=columns)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 400

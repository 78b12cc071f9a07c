"""Column maps guessed for tables that come without one."""

from __future__ import annotations

import importlib
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


def test_a_column_that_says_what_it_is_and_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A user would look for the fault in the names, or not see that no row has a submission."""
    path = written(tmp_path, "Submit;Runtime\n2024-01-01 10:00;12,5\n2024-01-01 10:01;13,5\n")
    with pytest.raises(BadLog, match="column Runtime cannot be read as run_s: '12,5' is not a num"):
        read_log(path)
    path = written(tmp_path, "Submit,Runtime\n05/01/2024 10:00,12\n05/01/2024 10:01,13\n")
    note = read_log(path).attrs["notes"][0]
    assert "column Submit cannot be read as submit_s: '05/01/2024 10:00' is not a number or" in note
    path = written(tmp_path, "id,runtime,End\n7,12,\n8,13,\n")
    assert "cannot be read" not in read_log(path).attrs["notes"][0], "it is empty"


@pytest.mark.parametrize(("factor", "unit"), [(1e3, "ms"), (1e6, "us"), (1e9, "ns")])
@pytest.mark.parametrize("columns", [None, {"submit_s": "submit_s", "run_s": "run_s"}])
def test_moments_of_another_unit_are_no_seconds(
    columns: dict[str, str] | None, factor: float, unit: str
) -> None:
    """Jobs would come in the year 55,840, a thousand times as far apart as they did."""
    frame = pd.DataFrame({"submit_s": factor * (1.7e9 + pd.Series(range(3))), "run_s": 5.0})
    whole = None if columns is None else {"columns": columns}
    with pytest.raises(BadLog, match=rf"column submit_s: as seconds .* {unit}; .*submit_s: {unit}"):
        read_frame(frame, whole)
    read = read_frame(
        frame, {"columns": dict(frame.columns.to_series()), "units": {"submit_s": unit}}
    )
    assert read["submit_s"].tolist() == pytest.approx([1.7e9, 1.7e9 + 1, 1.7e9 + 2])
    one = frame.assign(submit_s=[1.7e9, 1.7e9 + 1, 1.7e9 * factor])
    assert len(read_frame(one, whole)) == 2, "one bad row costs no log"


def test_lists_in_cells_are_texts(tmp_path: Path) -> None:
    """A log of nested records would end in a traceback."""
    path = tmp_path / "nested.parquet"
    cells = {"submit_s": [1.0, 2.0], "run_s": [3.0, 4.0], "user": [["a"], ["b", "c"]]}
    pd.DataFrame(cells | {"cat_x": [{"k": 1.0}, None]}).to_parquet(path)
    read = read_log(path)
    assert read["user"].tolist() == ['["a"]', '["b", "c"]']
    assert read["cat_x"].tolist() == ['{"k": 1.0}', ""]


@pytest.mark.parametrize(("module", "kind"), [("lzma", "xz"), ("bz2", "bzip2")])
def test_what_gzip_has_not_packed_is_named(tmp_path: Path, module: str, kind: str) -> None:
    """The sentence would ask for a format, which does not help."""
    path = tmp_path / "log.csv.packed"
    path.write_bytes(importlib.import_module(module).compress(b"submit_s,run_s\n1,2\n"))
    with pytest.raises(BadLog, match=f"log.csv.packed is packed with {kind}; unpack it"):
        read_log(path)

"""The table reader: column maps, units, refusals, and the canonical Parquet file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from plancast.predictor.logs import ColumnMap, read_jobs, read_log, write_jobs
from plancast.predictor.schema import COLUMNS, BadLog, canonical, check_log, replayed_ends
from tests.conftest import ROOT

DATA = ROOT / "tests" / "data" / "logs"
MAPS = ROOT / "data" / "columns"


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    """The small table, by job."""
    return read_log(DATA / "small.csv", columns=DATA / "small.yaml").set_index("job_id", drop=False)


def write_map(tmp_path: Path, **keys: object) -> Path:
    """A column-map file with these keys."""
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump(keys))
    return path


def write_csv(tmp_path: Path, text: str) -> Path:
    """A CSV file with this text."""
    path = tmp_path / "x.csv"
    path.write_text(text)
    return path


def test_units_and_scales_are_applied(small: pd.DataFrame) -> None:
    """Milliseconds would be taken for seconds, bytes for MiB."""
    assert small.loc["t-1", ["run_s", "mem_mib", "cpus"]].tolist() == [60.0, 1024.0, 2.5]
    assert small.loc["t-1", "num_input_gib"] == 50.0


def test_times_are_local_to_the_map_s_zone_or_carry_their_own(small: pd.DataFrame) -> None:
    """Submissions would be hours apart that were a minute apart."""
    assert small["submit_s"].diff().tolist()[1:] == [60.0, 7320.0]
    assert small.loc["t-2", "submit_s"] == pd.Timestamp("2024-05-01T06:01:00Z").timestamp()


def test_texts_stay_texts(small: pd.DataFrame) -> None:
    """User 007 would become user 7, and a comma in quotes would split a cell."""
    assert small.loc["t-2", "user"] == "007"
    assert small.loc["t-4", ["app", "cat_tool"]].tolist() == ["sort, then merge"] * 2


def test_unknown_cells_are_unknown(small: pd.DataFrame) -> None:
    """An empty cell would be nought, or the text NA a damage."""
    assert np.isnan(small.loc["t-2", "num_input_gib"])
    assert np.isnan(small.loc["t-4", "mem_mib"])


def test_constants_outcomes_and_header(small: pd.DataFrame) -> None:
    """What a map states for the whole log would be lost."""
    assert small["queue"].unique().tolist() == ["batch"]
    assert small["gpus"].unique().tolist() == [0.0]
    assert small["outcome"].tolist() == ["completed", "failed", "unknown"]
    assert small.attrs["header"] == {"MaxProcs": "16"}


def test_dropped_rows_are_counted_by_reason(small: pd.DataFrame) -> None:
    """Rows would vanish without a word."""
    assert small["job_id"].tolist() == ["t-1", "t-2", "t-4"]
    assert small.attrs["dropped"] == {"phase Pending": 1, "duplicate rows": 1}


def test_csv_and_parquet_read_the_same(tmp_path: Path) -> None:
    """The same table would mean two things in its two forms."""
    path = tmp_path / "small.parquet"
    pd.read_csv(DATA / "small.csv", dtype=str, keep_default_na=False).to_parquet(path)
    from_parquet = read_log(path, columns=DATA / "small.yaml")
    pd.testing.assert_frame_equal(
        from_parquet, read_log(DATA / "small.csv", columns=DATA / "small.yaml")
    )


def test_typed_parquet_columns_are_understood(tmp_path: Path) -> None:
    """A Parquet file with real timestamps, integers and nulls could not be read."""
    path = tmp_path / "typed.parquet"
    pd.DataFrame(
        {
            "at": pd.to_datetime(["2024-05-01T12:00:00Z", "2024-05-02T12:00:00Z"]),
            "done": pd.to_datetime(["2024-05-01T12:00:05Z", None]),
            "took": pd.array([5, None], dtype="Int64"),
            "who": pd.array([7, None], dtype="Int64"),
            "as": ["a", None],
        }
    ).to_parquet(path)
    names = {"submit_s": "at", "end_s": "done", "run_s": "took", "user": "who", "app": "as"}
    mapping = ColumnMap(columns=names)
    frame = read_log(path, columns=mapping)
    assert frame["submit_s"].iloc[0] == 1_714_564_800
    assert np.isnan(frame["end_s"].iloc[1])
    assert frame["user"].tolist() == ["7", ""]
    assert frame["app"].tolist() == ["a", ""]


def test_canonical_columns_need_no_map(tmp_path: Path) -> None:
    """A table that speaks our names already would need a map that says nothing."""
    path = write_csv(
        tmp_path, "submit_s,run_s,user,num_x,cat_y,colour,outcome\n5,1,NA,2,z,red,failed\n"
    )
    frame = read_log(path)
    assert list(frame.columns) == [*COLUMNS, "num_x", "cat_y"]
    row = frame.iloc[0]
    assert row[["submit_s", "run_s", "num_x"]].tolist() == [5.0, 1.0, 2.0]
    assert row[["user", "cat_y", "outcome"]].tolist() == ["NA", "z", "failed"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": {"submit_s": "creatd"}}, "map.yaml, columns.submit_s: small.csv has no"),
        ({"columns": {"submit_s": "creatd"}}, "'creatd'; the nearest are created"),
        ({"columns": {"submit_s": "created"}, "drop_if": {"fase": ["x"]}}, "drop_if.fase: small"),
        ({"columns": {"submit_s": "created"}, "numeric": {"b": "byts"}}, "numeric.b: small.csv"),
        ({"columns": {"submit_s": "created", "runtime": "ms"}}, "columns: runtime is unknown"),
        ({"columns": {"run_s": "ms"}}, "columns: submit_s is missing"),
        ({"columns": {"submit_s": "created"}, "colums": {}}, "colums is no key of a column map"),
        ({"columns": {"submit_s": "created"}, "colums": {}}, "nearest are columns"),
        ({"columns": 5}, "columns: must be a mapping of names"),
        ({"colour": 5}, "columns: is missing"),
        ({"columns": {"submit_s": "created"}, "units": {"run_s": "ms"}}, "units: run_s is unknown"),
        ({"columns": {"submit_s": "created"}, "units": {"submit_s": "sec"}}, "sec is unknown"),
        ({"columns": {"submit_s": "created"}, "scale": {"user": 2}}, "scale: user is unknown"),
        ({"columns": {"submit_s": "created"}, "unique_by": ["user"]}, "unique_by: user is unknown"),
        ({"columns": {"submit_s": "created"}, "constants": {"submit_s": 1}}, "keep one of the two"),
        ({"columns": {"submit_s": "created"}, "outcomes": {"ok": "done"}}, "outcomes.ok: "),
        ({"columns": {"submit_s": "created"}, "timezone": "Mars/Base"}, "'Mars/Base' is unknown"),
        ({"columns": {"submit_s": "created", "run_s": "who"}}, "row 1, column who (run_s): 'ada'"),
        ({"columns": {"submit_s": "who"}}, "column who (submit_s): 'ada' is not a number or"),
        ({"columns": {"submit_s": "created"}, "drop_if": {"ms": ["", "60000", "1500", "90000"]}},
         "drop_if leaves no job"),
    ],
)  # fmt: skip
def test_a_wrong_map_is_named_by_file_and_key(
    tmp_path: Path, keys: dict[str, object], message: str
) -> None:
    """The user could not tell which line of the map to repair."""
    with pytest.raises(BadLog) as caught:
        read_log(DATA / "small.csv", columns=write_map(tmp_path, **keys), strict=True)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("columns: [", "line 2: this is not YAML"),
        ("columns: {submit_s: a, submit_s: b}", "line 1: this is not YAML: 'submit_s' is there"),
        ("- a", "is not a mapping"),
        ("", "is not a mapping"),
    ],
)
def test_a_map_that_is_no_map_is_refused(tmp_path: Path, content: str, message: str) -> None:
    """A damaged map would show as an error of the YAML library."""
    path = tmp_path / "map.yaml"
    path.write_text(content)
    with pytest.raises(BadLog, match=message):
        read_log(DATA / "small.csv", columns=path)
    with pytest.raises(BadLog, match="no such column map"):
        read_log(DATA / "small.csv", columns=tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("submit_s,run_s\n1,2\n3\n", "x.csv, line 3: 1 cells where the header has 2"),
        ("submit_s,run_s\n1,2\n3,4,5\n", "x.csv, line 3: 3 cells where the header has 2"),
        ("submit_s,run_s\n", "x.csv has no job"),
        ("when,colour\n1,2\n", "x.csv: none of its columns (when, colour) is recognised"),
        ("submit_s,run_s\n1,2\n3,soon\n", "x.csv, row 2, column run_s: 'soon' is not a number"),
        ("submit_s,run_s,run_s\n1,2,3\n", "x.csv has two columns named 'run_s'"),
    ],
)
def test_a_damaged_table_is_named_by_row(tmp_path: Path, text: str, message: str) -> None:
    """The user could not find the damage."""
    with pytest.raises(BadLog) as caught:
        read_log(write_csv(tmp_path, text), strict=True)
    assert message in str(caught.value)


def test_map_defaults_change_nothing() -> None:
    """A map of nothing but names would drop, scale or rename something."""
    bare = ColumnMap(columns={"submit_s": "t"})
    assert bare.features == {}
    assert bare.separator is None
    assert bare.timezone == "UTC"
    assert "" in bare.unknown
    assert not any(
        [
            bare.names,
            bare.extract,
            bare.units,
            bare.scale,
            bare.constants,
            bare.drop_if,
            bare.unique_by,
        ]
    )


@pytest.mark.parametrize("path", sorted(MAPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_map_of_the_project_is_valid(path: Path) -> None:
    """A map that is shipped would be refused."""
    mapping = ColumnMap.load(path)
    assert mapping.submission or mapping.columns["submit_s"]


def test_the_map_in_the_docs_is_valid() -> None:
    """The page that explains column maps would show one that is refused."""
    page = (MAPS.parent.parent / "docs" / "adding-a-reader.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    mapping = ColumnMap.model_validate(yaml.safe_load(example))
    # Every key is shown, so that the page cannot fall behind the schema.
    assert mapping.model_fields_set == set(ColumnMap.model_fields)


def test_philly(shared_data: Callable[[str], Path]) -> None:
    """The Philly map would lose jobs, or miss the 65 duplicate rows."""
    path = shared_data("gpu/philly-2017.csv.gz")
    frame = read_log(path, columns=MAPS / "philly.yaml")
    assert len(frame) == 82_247 - 65
    assert frame.attrs["dropped"] == {"duplicate rows": 65}
    assert check_log(frame).errors == ()
    assert frame["queue"].nunique() == 15
    assert frame["num_submit_hour"].between(0, 23).all()
    replay = replayed_ends(frame)
    assert (replay["start_s"] == frame["submit_s"]).all()


def test_openb(shared_data: Callable[[str], Path]) -> None:
    """The openb map would take services and pods that never started for batch jobs."""
    path = shared_data("gpu/alibaba-openb-2023.csv.gz")
    frame = read_log(path, columns=MAPS / "openb.yaml")
    assert len(frame) == 2_062
    assert frame.attrs["dropped"] == {"status Pending": 897, "status Running": 5_193}
    assert frame["outcome"].value_counts().to_dict() == {"failed": 1_870, "completed": 192}
    assert check_log(frame).errors == ()
    assert (frame["gpus"] % 1 > 0).any()


def test_jobs_round_trip_with_their_attrs(tmp_path: Path) -> None:
    """A job log would change on its way through the pipeline's file."""
    frame = read_log(DATA / "small.csv", columns=DATA / "small.yaml")
    path = tmp_path / "new" / "jobs.parquet"
    write_jobs(frame, path)
    for again in (read_jobs(path), read_log(path)):
        pd.testing.assert_frame_equal(again, frame)
        assert again.attrs == frame.attrs
    assert [p.name for p in path.parent.iterdir()] == ["jobs.parquet"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk would cost the user the jobs of yesterday."""
    path = tmp_path / "jobs.parquet"
    frame = canonical(pd.DataFrame({"submit_s": [1.0]}))
    write_jobs(frame, path)
    before = path.read_bytes()

    def fail(table: object, where: Path, **options: object) -> None:
        Path(where).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("pyarrow.parquet.write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write_jobs(frame, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["jobs.parquet"]


def test_a_device_or_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    """`plancast ingest log -o /dev/null` by root would put a file in the place of the device."""
    pipe = tmp_path / "pipe.parquet"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        write_jobs(canonical(pd.DataFrame({"submit_s": [1.0]})), pipe)
        assert pipe.is_fifo()
        assert os.read(held, 4) == b"PAR1"
    finally:
        os.close(held)


def test_write_jobs_refuses_what_is_not_canonical(tmp_path: Path) -> None:
    """A file would be written that read_jobs refuses."""
    with pytest.raises(BadLog, match="not canonical"):
        write_jobs(pd.DataFrame({"submit_s": [1.0]}), tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())


def test_read_jobs_refuses_other_files(tmp_path: Path) -> None:
    """Training would start on a file that nobody checked."""
    csv = write_csv(tmp_path, "submit_s\n1\n")
    with pytest.raises(BadLog, match="no Parquet file of jobs"):
        read_jobs(csv)
    foreign = tmp_path / "foreign.parquet"
    pd.DataFrame({"submit_s": [1.0]}).to_parquet(foreign)
    with pytest.raises(BadLog, match="not written as a canonical log"):
        read_jobs(foreign)
    good = tmp_path / "good.parquet"
    write_jobs(canonical(pd.DataFrame({"submit_s": [1.0]})), good)
    good.write_bytes(good.read_bytes()[:-20])
    with pytest.raises(BadLog, match="cut short or damaged"):
        read_jobs(good)
    with pytest.raises(BadLog, match="no such file"):
        read_jobs(tmp_path / "absent.parquet")


def test_stored_attrs_are_plain_json(tmp_path: Path) -> None:
    """Attrs that are no JSON would be stored as something read_jobs gives back differently."""
    frame = canonical(pd.DataFrame({"submit_s": [1.0]}))
    frame.attrs = {"header": {"MaxProcs": "4"}, "dropped": {"steps": 3}}
    write_jobs(frame, tmp_path / "x.parquet")
    assert read_jobs(tmp_path / "x.parquet").attrs == json.loads(json.dumps(frame.attrs))
    frame.attrs = {"made": pd.Timestamp(0)}
    with pytest.raises(TypeError):
        write_jobs(frame, tmp_path / "y.parquet")
    assert not (tmp_path / "y.parquet").exists()


def turns(tmp_path: Path, submission: str, **more: Any) -> Any:
    """A table without submission times, read."""
    path = tmp_path / "runs.csv"
    path.write_text("name,ms,state\na,2000,ok\nb,,ok\nc,500,no\nd,1500,ok\n")
    mapping = {"columns": {"app": "name", "run_s": "ms"}, "units": {"run_s": "ms"}}
    mapping |= {"submission": submission, "drop_if": {"state": ["no"]}} | more
    return read_log(path, columns=ColumnMap.model_validate(mapping))


def test_rows_in_turn_follow_each_other(tmp_path: Path) -> None:
    """A row of a table without times would be forecast without what stands above it."""
    jobs = turns(tmp_path, "in_turn")
    assert jobs["app"].tolist() == ["a", "b", "d"]
    assert jobs["submit_s"].tolist() == [0.0, 2.0, 2.0]
    assert jobs["start_s"].tolist() == [0.0, 2.0, 2.0]
    assert jobs["end_s"].tolist()[0::2] == [2.0, 3.5]


def test_a_sorted_table_is_shuffled_the_same_each_time(tmp_path: Path) -> None:
    """Rows sorted by machine would put a machine that was never seen into the test stretch."""
    path = tmp_path / "runs.csv"
    path.write_text("name,s\n" + "".join(f"{i:02d},{i + 1}\n" for i in range(40)))
    mapping = {"columns": {"app": "name", "run_s": "s"}, "submission": "shuffled"}
    jobs, again = (read_log(path, columns=ColumnMap.model_validate(mapping)) for _ in range(2))
    pd.testing.assert_frame_equal(jobs, again)
    assert jobs["app"].tolist() != sorted(jobs["app"])
    assert sorted(jobs["app"]) == [f"{i:02d}" for i in range(40)]
    assert jobs["submit_s"].tolist()[1:] == jobs["end_s"].tolist()[:-1]


def test_rows_at_once_know_nothing_of_each_other(tmp_path: Path) -> None:
    """Rows of one moment would be taken for a history."""
    jobs = turns(tmp_path, "at_once")
    assert jobs["submit_s"].eq(0).all()
    assert jobs["start_s"].isna().all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("submission: in_order", "submission: must be 'in_turn', 'shuffled' or 'at_once'"),
        ("", "columns: submit_s is missing; .* or say submission: in_turn, shuffled or at_once"),
        ("submission: in_turn", "in_turn needs the run times; name the column of run_s"),
        ("submission: at_once\n  submit_s: when", "columns names submit_s; keep one of the two"),
    ],
)
def test_how_rows_were_submitted_is_said_once(change: str, sentence: str, tmp_path: Path) -> None:
    """A misspelt or doubled submission would be guessed at."""
    path = tmp_path / "map.yaml"
    key, _, column = change.partition("\n")
    path.write_text(f"columns:\n  app: name\n{column}\n{key}\n")
    with pytest.raises(BadLog, match=sentence) as caught:
        ColumnMap.load(path)
    assert str(caught.value).startswith("column map map.yaml, ")


def test_our_column_maps_are_called_by_name() -> None:
    """Who installed the wheel has no folder of maps."""
    for path in sorted((ROOT / "data/columns").glob("*.yaml")):
        assert ColumnMap.load(path.stem) == ColumnMap.load(path)
    with pytest.raises(BadLog, match="no such column map"):
        ColumnMap.load("none-of-ours")


def test_a_link_to_a_log_stays_one(tmp_path: Path) -> None:
    """A log in a store of its own would be left behind, and another be written beside it."""
    store, link = tmp_path / "store.parquet", tmp_path / "jobs.parquet"
    link.symlink_to(store)
    write_jobs(canonical(pd.DataFrame({"submit_s": [1.0], "run_s": [2.0]})), link)
    assert link.is_symlink()
    assert len(read_jobs(store)) == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<!DOCTYPE html>\n<p>not found</p>\n", "HTML or XML"),
        ('<?xml version="1.0"?>\n<a/>\n', "HTML or XML"),
    ],
)
def test_what_is_no_table_is_named(text: str, kind: str, tmp_path: Path) -> None:
    """A page of an error, in place of a log, "has no job"."""
    with pytest.raises(BadLog, match=f"x.csv is {kind}, no table; give CSV or Parquet"):
        read_log(write_csv(tmp_path, text), "table")


def test_brackets_may_begin_a_column_s_name(tmp_path: Path) -> None:
    """A table whose columns are called [id] and <x> would be taken for something else."""
    for first in ("[submit_s]", "{submit}", "<1>"):
        path = write_csv(tmp_path, f"{first},run_s\n1,3\n2,4\n")
        assert len(read_log(path, columns={"submit_s": first, "run_s": "run_s"})) == 2

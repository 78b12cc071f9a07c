"""The column maps of data/columns on the files they are for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plancast.predictor.logs import ColumnMap, read_log
from plancast.predictor.schema import check_log, extra_columns, usable
from tests.conftest import ROOT

COLUMNS = ROOT / "data" / "columns"

FILES = {
    # map: file, rows that are read, rows with a run time, machine classes, extra features
    "philly": ("gpu/philly-2017.csv.gz", 82_182, 82_182, 0, 2),
    "openb": ("gpu/alibaba-openb-2023.csv.gz", 2_062, 2_062, 0, 2),
    "nextflow-lotaru": ("tasks/nextflow-lotaru.csv.gz", 6_965, 6_965, 7, 3),
    "nextflow-sizey": ("tasks/nextflow-sizey.csv.gz", 7_483, 7_059, 13, 2),
    "spark-c3o": ("tasks/spark-c3o.csv.gz", 2_340, 2_340, 4, 8),
    "wfinstances": ("dags/wfinstances_tasks.csv.gz", 41_165, 40_980, 14, 2),
    "galaxy": ("tasks/galaxy_main_jobs.csv.gz", 633_101, 633_101, 6, 7),
}
LARGE = ("galaxy",)


def frame_of(name: str, shared_data: Callable[[str], Path]) -> Any:
    """The log of a map."""
    return read_log(shared_data(FILES[name][0]), columns=COLUMNS / f"{name}.yaml")


def test_every_map_has_a_file() -> None:
    """A map would be shipped that nobody has tried."""
    assert {path.stem for path in COLUMNS.glob("*.yaml")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_map_is_well_formed(name: str) -> None:
    """A misspelt key would show only where the data are."""
    ColumnMap.load(COLUMNS / f"{name}.yaml")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in FILES]
)
def test_a_map_reads_its_file(name: str, shared_data: Callable[[str], Path]) -> None:
    """A log would lose rows, its machine types or its features on the way in."""
    _, rows, ran, classes, extras = FILES[name]
    jobs = frame_of(name, shared_data)
    assert len(jobs) == rows
    assert check_log(jobs).errors == ()
    assert usable(jobs)[1].kept == ran
    assert jobs.loc[jobs["partition"] != "", "partition"].nunique() == classes
    extra = extra_columns(jobs)
    assert len(extra) == extras
    for column in extra:
        known = jobs[column].notna() if column.startswith("num_") else jobs[column] != ""
        assert known.any(), column

"""Fixtures every test may use."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before numba or LightGBM start their threads: two cores are shared by all test processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from filelock import FileLock
from hypothesis import settings

IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def scaled(cases: int) -> int:
    """So many cases of a test that draws them, ten times as many in the long profile."""
    return 10 * cases if IS_LONG else cases


# A kernel compiles during the first example: no deadline. CI draws the same examples each time.
settings.register_profile(
    "house", deadline=None, derandomize="CI" in os.environ, max_examples=scaled(40)
)
settings.load_profile("house")

# A shell that runs the tests in the background lets them, and what they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


def cases(few: int, many: int) -> list[Any]:
    """Cases, a test each: the first few are tried in every run, the others are slow tests."""
    return [k if k < few else pytest.param(k, marks=pytest.mark.slow) for k in range(many)]


def spans(few: range, many: range) -> list[Any]:
    """For a test that goes through cases itself: a few in every run, all where slow ones are tried.

    So that one body says what is proved, however many cases prove it.
    """
    slow = (pytest.mark.slow, pytest.mark.timeout(0))
    return [pytest.param(few, id="few"), pytest.param(many, id="many", marks=slow)]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits comes first: one test process waits then, while the others keep the cores busy.

    Each process begins with tests that lie side by side, and takes others' last ones when done.
    """
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Path of a third-party file under ../shared/data, or a skip that names it."""

    def find(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"needs ../shared/data/{name}")
        return path

    return find


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first of several test processes fills; nobody may change what is in it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, made = base / name, base / f"{name}.made"
    with FileLock(base / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store, to be copied: its tables take ten seconds to make."""

    def make(folder: Path) -> None:
        import mlflow

        from plancast.pipelines.tracking import mlflow_runs

        assert mlflow_runs  # silences MLflow
        # Any question makes the tables.
        mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()

    return made_once(tmp_path_factory, "mlflow", make) / "mlflow.db"

"""Fixtures every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

# Before numba or LightGBM start their threads: two cores are shared by all test processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from hypothesis import settings

# A kernel compiles during the first example: no deadline. CI draws the same examples each time.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("house")

# A shell that runs the tests in the background lets them, and what they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Path of a third-party file under ../shared/data, or a skip that names it."""

    def find(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"needs ../shared/data/{name}")
        return path

    return find


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store, to be copied: its tables take ten seconds to make."""
    import mlflow

    from plancast.pipelines.tracking import mlflow_runs

    assert mlflow_runs  # silences MLflow
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    # Any question makes the tables.
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path

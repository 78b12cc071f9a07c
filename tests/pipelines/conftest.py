"""Fixtures of the pipelines' tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store, to be copied: its tables take ten seconds to make."""
    import mlflow

    from pipelines import tracking  # silences MLflow

    assert tracking.STORE
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    # Any question makes the tables.
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: Path) -> Path:
    """An empty folder with an empty MLflow store in it, as the current directory."""
    from pipelines import tracking

    target = tmp_path / tracking.STORE / "mlflow.db"
    target.parent.mkdir(parents=True)
    shutil.copy(mlflow_store, target)
    monkeypatch.chdir(tmp_path)
    return tmp_path

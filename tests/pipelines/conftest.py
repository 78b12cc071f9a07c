"""Fixtures of the pipelines' tests."""

from __future__ import annotations

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

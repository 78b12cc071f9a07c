"""How MLflow loads a model folder: the loader module that ``tracking.log_model`` names."""

from __future__ import annotations

from typing import Any

from plancast.predictor import RuntimePredictor


class LoadedModel:
    """A ``RuntimePredictor`` with MLflow's face: a frame in, a frame of quantiles out."""

    def __init__(self, model: RuntimePredictor) -> None:
        self.model = model

    def predict(self, jobs: Any, params: dict[str, Any] | None = None) -> Any:
        """Quantiles in seconds, a column for each level, in the order of `jobs`."""
        import pandas as pd

        from plancast.predictor.frames import frame_of

        jobs = frame_of(jobs, "the jobs")
        names = [f"p{100 * level:g}" for level in self.model.levels]
        return pd.DataFrame(self.model.predict_quantiles(jobs), columns=names, index=jobs.index)


def _load_pyfunc(path: str) -> LoadedModel:
    return LoadedModel(RuntimePredictor.load(path))

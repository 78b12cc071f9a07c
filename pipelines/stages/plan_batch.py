"""Stage 3: plan the first batch of the test stretch with the model, for people to look at."""

from __future__ import annotations

from typing import Any

from plancast.pipelines.charts.gantt import gantt_html
from plancast.pipelines.inputs.config import Config
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.stages.stage import main
from plancast.pipelines.stages.trial import cut_batches, plan_whole
from plancast.planner.model.messages import to_json
from plancast.planner.worlds.simulate import execute
from plancast.predictor import RuntimePredictor
from plancast.predictor.logs.table import read_jobs


def run(config: Config) -> dict[str, Any]:
    """Write the request, the response, what ran of it and the Gantt chart of one batch.

    Raises
    ------
    BadRequest
        Where the batch has no whole plan.
    """
    paths = config.paths
    one = config.model_copy(update={"trial": config.trial.model_copy(update={"batches": 2})})
    batch = cut_batches(one, read_jobs(paths.jobs), RuntimePredictor.load(paths.model))[0]
    request = batch.requests["model_p50"]
    response, whole = plan_whole(request, config.trial.solver, "model_p50")
    write_text_atomic(paths.request, to_json(request, indent=1))
    write_text_atomic(paths.response, to_json(response, indent=1))
    ran = execute(request, whole, batch.run_s)
    write_text_atomic(paths.executed, to_json(ran, indent=1))
    write_text_atomic(paths.gantt, gantt_html(request, whole, executed=ran))
    return {
        "status": response.status.value,
        "solver": response.solver,
        "auto": None if response.auto is None else str(response.auto),
        "cost": response.cost,
        "lower_bound": response.lower_bound,
        "tasks": len(request.snapshot.pending),
    }


if __name__ == "__main__":
    main(run)

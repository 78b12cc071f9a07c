"""What forecasts are worth on the configured log, by the model that the pipeline trained."""

from __future__ import annotations

from typing import Any

from plancast.pipelines.inputs.config import Config
from plancast.pipelines.inputs.past_plans import write_past_plans
from plancast.pipelines.inputs.policy_files import read_policy
from plancast.pipelines.stages.replays import replays
from plancast.pipelines.stages.stage import main, read_facts, write_facts
from plancast.pipelines.worth.batches import has_waits
from plancast.pipelines.worth.worth import Progress, material, past_of, worth
from plancast.planner.model.domain import Policy
from plancast.predictor import RuntimePredictor
from plancast.predictor.logs.table import read_jobs


def run(config: Config, tell: Progress | None = None) -> dict[str, Any]:
    """The facts of ``plancast worth``, and replays of the test stretch; both logged in MLflow.

    What the batches cost is kept beside the model, for ``plan --model`` to choose by; MLflow
    keeps it too, and the way that ``auto`` takes now as a tag of the pipeline's run.
    """
    from plancast.pipelines.tracking import mlflow_runs as tracking

    paths = config.paths
    jobs = read_jobs(paths.jobs)
    found = material(
        config.name, jobs, waits=has_waits(jobs) and not jobs.attrs.get("replayed"), procs=None,
        batches=config.worth.batches, share=config.train.share,
    )  # fmt: skip
    policy = read_policy(config.policy) if config.policy else Policy()
    model = RuntimePredictor.load(paths.model)
    facts = worth(
        found, model, policy=policy, seed=config.seed, tell=tell, draws=config.worth.draws
    )
    facts["replays"] = replays(found.stretch, model)
    write_facts(paths.worth_facts, facts)
    write_past_plans(paths.past_plans, past_of(found, facts))
    if facts["queues"]:
        with tracking.continued(read_facts(paths.ingest_facts)["mlflow_run"]):
            saved = facts["auto_against_best_rule"]["mean"]
            tracking.log_metrics({"worth/auto_against_best_rule": saved})
            tracking.log_choice("auto", facts["chosen_by_auto"]["usual"])
            tracking.log_files(paths.past_plans)
    return facts


if __name__ == "__main__":
    main(run)

"""All stages in order, in one process: what ``dvc repro`` does in several."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, Protocol

from plancast.pipelines.inputs.config import Config
from plancast.pipelines.inputs.policy_files import read_policy
from plancast.pipelines.stages import ingest, plan_batch, report, train, trial, worth_of_log
from plancast.pipelines.stages.verdict import verdict_of


class Tell(Protocol):
    """Receives progress: how far a stage is, and what it does."""

    def __call__(
        self, done: float | None = None, total: float | None = None, text: str = ""
    ) -> None:
        """Show it."""


Compiling = AbstractContextManager[Callable[[], None]]
"""Compiles what plans need meanwhile; what is yielded waits for it."""


def run_all(
    config: Config, tell: Tell, compiling: Callable[[], Compiling] = lambda: nullcontext(_nothing)
) -> dict[str, Any]:
    """Run ingest, train, plan, trial, worth and report; what each found.

    Parameters
    ----------
    config : Config
    tell : Tell
    compiling : callable
        Begun once the log is read, so that a fault in it is said at once.
    """
    from plancast.pipelines.tracking.store import ui_command

    facts: dict[str, Any] = {}
    if config.policy:
        read_policy(config.policy)  # a fault in it should not show only after the training
    tell(0, 5, "ingest")
    facts["ingest"] = ingest.run(config)
    tell(1, 5, "train")
    with compiling() as ready:
        facts["train"] = train.run(config, lambda name: tell(1, 5, f"train: {name}"))
        tell(2, 5, "compiling kernels")
        ready()
    tell(2, 5, "plan")
    facts["plan"] = plan_batch.run(config)
    facts["trial"] = trial.run(
        config, lambda done, batches: tell(3 + done / batches, 5, f"trial: {done} of {batches}")
    )
    tell(4, 5, "worth")
    facts["worth"] = worth_of_log.run(config, lambda done, text: tell(4 + done, 5, text))
    tell(5, 5, "report")
    facts["report"] = str(report.run(config))
    paths = config.paths
    found = verdict_of(
        config.name, facts["train"], facts["trial"], facts["worth"], str(paths.jobs),
        str(paths.model),
    )  # fmt: skip
    facts["verdict"] = asdict(found)
    facts["mlflow"] = ui_command()
    return facts


def _nothing() -> None:
    """Nothing is awaited."""

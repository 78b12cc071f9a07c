"""The pipeline's parameters (``params.yaml``) and the files its stages hand on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from plancast.pipelines.inputs.past_plans import past_plans_file
from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.inputs.yaml_files import read_yaml, validated
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import first_fault

Share = Annotated[float, Field(gt=0, lt=1)]
Options = TypeVar("Options", bound=BaseModel)
PARAMS = "params.yaml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GenerateConfig(_Section):
    """The embedded log."""

    jobs: int = Field(8000, ge=100)
    users: int = Field(40, ge=1)
    procs: int = Field(64, ge=2)
    load: float = Field(0.75, gt=0, lt=1)


class TrainConfig(_Section):
    """The model and the stretch it learns from; what is null is left as the model has it."""

    share: Share = 0.7
    levels: tuple[Share, ...] = (0.1, 0.5, 0.8, 0.9, 0.95)
    window: int | None = Field(None, ge=1)
    decay: float | None = Field(None, gt=0, le=1)
    trees: dict[str, float | int | str] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What is set of ``window``, ``decay`` and ``trees``, as the model takes them."""
        found = {"window": self.window, "decay": self.decay, "trees": self.trees}
        return {name: value for name, value in found.items() if value is not None}

    @field_validator("levels")
    @classmethod
    def _rise(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not levels:
            raise ValueError("must name at least one level")
        if any(a >= b for a, b in pairwise(levels)):
            raise ValueError("must rise strictly")
        return levels


class TrialConfig(_Section):
    """Batches cut from the test stretch, planned and executed."""

    batches: int = Field(12, ge=2)
    batch_size: int = Field(100, ge=2)
    workers: int | None = Field(None, ge=1)
    due_share: float = Field(0.5, ge=0, le=1)
    tiers: tuple[Annotated[float, Field(gt=0)], ...] = (1.5, 3.0, 6.0)
    level: Share = 0.8
    solver: str = "lns"
    steps: int = Field(5000, ge=1)

    @field_validator("solver")
    @classmethod
    def _is_registered(cls, name: str) -> str:
        # Imported only now: the solvers' kernels take a while, and most commands need none.
        from plancast.planner.solvers import SOLVERS

        if name != "auto" and name not in SOLVERS:
            raise ValueError(f"there is no solver {name!r}; choose auto or {', '.join(SOLVERS)}")
        return name


class WorthConfig(_Section):
    """What plans are worth: a first look, for which ``plancast worth`` takes its time."""

    batches: int = Field(20, ge=1)
    draws: int = Field(4, ge=1)


GENERATOR = "planner/instances/generate_log.py"


class Config(_Section):
    """All of ``params.yaml``.

    Notes
    -----
    ``log_dep`` is the file whose change makes ``dvc repro`` ingest anew: the log or, as DVC
    knows no dependency on nothing, the generator.
    """

    name: str = Field("generated", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    log: str | None = None
    log_dep: str = GENERATOR
    format: str = "auto"
    columns: str | None = None
    timezone: str | None = None
    max_bad: float | None = Field(None, ge=0, le=1)
    seed: int = Field(0, ge=0)
    generate: GenerateConfig = GenerateConfig()
    train: TrainConfig = TrainConfig()
    trial: TrialConfig = TrialConfig()
    worth: WorthConfig = WorthConfig()
    policy: str | None = None

    def check_log_dep(self) -> None:
        """Refuse a dependency that DVC would watch in vain.

        Raises
        ------
        BadRequest
            Where it is not the file that the log comes from.
        """
        if self.log_dep != (self.log or GENERATOR):
            raise BadRequest(
                f"{PARAMS}: log_dep: is {self.log_dep}, but the log comes from "
                f"{self.log or GENERATOR}; write that, so that dvc sees its changes"
            )

    @property
    def reading(self) -> Reading:
        """How the log is read."""
        return Reading(self.format, self.columns, timezone=self.timezone, max_bad=self.max_bad)

    @property
    def paths(self) -> Paths:
        """Where this configuration's artefacts live, below the current directory."""
        return Paths(self.name)


@dataclass(frozen=True)
class Paths:
    """Files that one stage writes and a later one reads."""

    name: str

    @property
    def raw_log(self) -> Path:
        """The generated log."""
        return Path("data/raw") / f"{self.name}.swf"

    @property
    def interim(self) -> Path:
        """Folder of the ingest stage."""
        return Path("data/interim") / self.name

    @property
    def jobs(self) -> Path:
        """The canonical job log."""
        return self.interim / "jobs.parquet"

    @property
    def ingest_facts(self) -> Path:
        """What the ingest stage found, and the MLflow run it opened."""
        return self.interim / "ingest.json"

    @property
    def model(self) -> Path:
        """The trained model's folder."""
        return Path("models") / self.name / "runtime"

    @property
    def past_plans(self) -> Path:
        """What past plans cost: ``plan --model`` chooses by it."""
        return past_plans_file(self.model)

    @property
    def processed(self) -> Path:
        """Folder of the later stages."""
        return Path("data/processed") / self.name

    @property
    def train_facts(self) -> Path:
        """Forecast errors of every estimator."""
        return self.processed / "train.json"

    @property
    def forecasts(self) -> Path:
        """What every estimator forecast for each job of the test stretch that ran."""
        return self.processed / "forecasts.parquet"

    @property
    def request(self) -> Path:
        """The first batch as a request."""
        return self.processed / "request.json"

    @property
    def response(self) -> Path:
        """Its plan."""
        return self.processed / "response.json"

    @property
    def executed(self) -> Path:
        """The same plan as it ran with the true run times."""
        return self.processed / "executed.json"

    @property
    def gantt(self) -> Path:
        """Its plan, drawn."""
        return self.processed / "plan.html"

    @property
    def trial_facts(self) -> Path:
        """Realised costs by estimate."""
        return self.processed / "trial.json"

    @property
    def worth_facts(self) -> Path:
        """What forecasts are worth to plans."""
        return self.processed / "worth.json"

    @property
    def own_plan(self) -> Path:
        """The user's own tasks, planned."""
        return self.processed / "own-plan.csv"

    @property
    def own_gantt(self) -> Path:
        """The same, drawn."""
        return self.processed / "own-plan.html"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.processed / "report.html"


def load_config(path: str | os.PathLike[str] = PARAMS, **overrides: Any) -> Config:
    """The parameters of a YAML file with some of them overridden.

    Parameters
    ----------
    path : path-like
        Where it is the default and missing, the built-in defaults are meant.
    **overrides
        Top-level fields; None means "as in the file". A `log` without a `name` is named
        after its file.

    Raises
    ------
    BadRequest
        One sentence with the file and the first wrong field.
    """
    missing = str(path) == PARAMS and not Path(path).exists()
    values = {} if missing else read_yaml(path) or {}
    if not isinstance(values, dict):
        raise BadRequest(f"{path}: must be a mapping of parameters to values")
    given = {key: value for key, value in overrides.items() if value is not None}
    if "log" in given and "name" not in given:
        given["name"] = name_of_log(given["log"])
    config = validated(Config, values, str(path))
    return _overridden(config, given)


def with_trial(config: Config, **options: Any) -> Config:
    """A configuration with some parameters of its trial changed; None leaves one as it is.

    Raises
    ------
    BadRequest
        One sentence with the wrong option.
    """
    given = {key: value for key, value in options.items() if value is not None}
    return config.model_copy(update={"trial": _overridden(config.trial, given)})


def _overridden(section: Options, given: dict[str, Any]) -> Options:
    try:
        return type(section)(**{**section.model_dump(), **given})
    except ValidationError as error:
        raise BadRequest(f"--{first_fault(error)}") from None


def name_of_log(log: str) -> str:
    """A log's file name without its endings, fit to name folders."""
    stem = re.sub(r"(\.(swf|txt|csv|parquet|sacct|log))?(\.(gz|xz|zst))?$", "", Path(log).name)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "log"

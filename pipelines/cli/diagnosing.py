"""``plancast doctor``: what this installation has, and its kernels compiled."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from plancast.pipelines.cli.common import Json, console, print_json, stderr
from plancast.pipelines.inputs.shell import command

EXTRAS = {
    "dask": "distributed", "pipeline": "dvc", "bench": "pyjobshop", "notebooks": "jupytext",
}  # fmt: skip
"""Extra to a module that it brings."""
LIBRARIES = ("numpy", "pandas", "numba", "lightgbm", "scikit-learn", "ortools", "mlflow")
SLURM = ("sbatch", "squeue", "scancel", "sacct")
HALVES = ("all", "plans", "searches")


def doctor(
    warm: Annotated[
        bool, typer.Option("--warm", help="Compile all kernels now, so that nothing waits later.")
    ] = False,
    half: Annotated[
        str, typer.Option(help=f"With --warm, {', '.join(HALVES)}: two halves for two cores.")
    ] = "all",
    json: Json = False,
) -> None:
    """Say what this installation has: versions, cores, extras, compiled kernels.

    Kernels are compiled when they are first needed, once per version, which takes up to a minute
    or two in all; --warm does it now.

    Example: plancast doctor --warm
    """
    from plancast.planner.model.domain import BadRequest

    if half not in HALVES:
        raise BadRequest(f"--half {half!r}: choose {', '.join(HALVES)}")
    facts: dict[str, Any] = {}
    if warm:
        from plancast.pipelines.kernels import warm_all

        began = time.perf_counter()
        families = warm_all(half, lambda text: stderr.print(text, soft_wrap=True))
        facts["warmed"] = {"families": families, "seconds": time.perf_counter() - began}
    facts |= diagnosis()
    if json:
        print_json(facts)
        return
    shown = Table.grid(padding=(0, 2, 0, 0))
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in _rows(facts):
        shown.add_row(name, escape(str(value)))
    console.print(shown)


def our_version() -> str:
    """The installed version, or where this runs from."""
    try:
        return version("plancast")
    except PackageNotFoundError:
        return "from its source folder"


def diagnosis() -> dict[str, Any]:
    """Versions, cores, environment, extras and kernels, as JSON knows them."""
    from plancast.planner.arrays.jit import cache_folder
    from plancast.planner.planning.warm import FAMILIES, compiled

    folder = cache_folder()
    return {
        "plancast": our_version(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "command": command("plancast"),
        "libraries": {name: _version_of(name) for name in LIBRARIES},
        "kernels": str(folder) if folder else None,
        "kernels_compiled": compiled(),
        "kernels_missing": [name for name in FAMILIES if name not in compiled()],
        "extras": [name for name, module in EXTRAS.items() if find_spec(module) is not None],
        "mlflow": _store(),
        "dask": find_spec("distributed") is not None,
        "slurm": all(shutil.which(name) for name in SLURM),
    }  # fmt: skip


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _store() -> dict[str, Any]:
    """Where MLflow keeps runs, without loading it: whether there is a store already."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return {"uri": re.sub(r"//[^/@]*@", "//", given), "there": None}
    path = Path("data/mlflow/mlflow.db").absolute()
    return {"uri": f"sqlite:///{path}", "there": path.is_file()}


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What people read of the facts."""
    done, missing = facts["kernels_compiled"], facts["kernels_missing"]
    rows = [
        ("plancast", facts["plancast"]),
        ("Python", facts["python"]),
        ("called as", facts["command"]),
        ("libraries", ", ".join(f"{k} {v or 'missing'}" for k, v in facts["libraries"].items())),
        ("cores", facts["cores"]),
        ("threads of LightGBM", facts["omp_num_threads"]),
        ("compiled kernels are kept in", facts["kernels"] or "no safe folder: nothing is kept"),
        ("compiled", ", ".join(done) or "nothing yet"),
        ("compiled when first needed", ", ".join(missing) or "nothing"),
        ("extras", ", ".join(facts["extras"]) or "none"),
        (
            "MLflow's store",
            facts["mlflow"]["uri"]
            + (" (made by the first run)" if facts["mlflow"]["there"] is False else ""),
        ),
        ("Dask", "found" if facts["dask"] else "not found: install 'plancast[dask]'"),
        ("Slurm's commands", "found" if facts["slurm"] else "not found"),
    ]
    if "warmed" in facts:
        rows.append(("compiling took", f"{facts['warmed']['seconds']:.0f} s"))
    return rows


COMMANDS = {"doctor": doctor}

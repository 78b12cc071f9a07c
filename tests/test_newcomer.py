"""The first minute of a stranger: a clean clone or a wheel, and nothing but what is printed.

``pytest -m newcomer``; it installs into fresh environments, which takes minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.pipelines.charts.opened import Opened
from tests.pipelines.conftest import browser, opened  # noqa: F401

pytestmark = [pytest.mark.newcomer, pytest.mark.timeout(5400)]

CSV_ROWS = 900
TASKS = "id,user,cpus,requested_s\n" + "".join(
    f"T{k},u{k % 5},{1 + k % 4},{3600 * (1 + k % 3)}\n" for k in range(40)
)
CLUSTER = "workers:\n  - {id: n, count: 3, cpus: 4}\n"


def own_csv(path: Path) -> Path:
    """A log as some accounting tool exports it."""
    lines = ["JobID;Submitted At;Elapsed (min);Time Limit (h);Cores;User;State"]
    for k in range(CSV_ROWS):
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1_714_500_000 + 420 * k))
        minutes = (7 + 31 * (k % 5)) * (1 + 0.3 * ((k * 7919) % 11) / 10)
        state = "FAILED" if k % 13 == 0 else "COMPLETED"
        lines.append(f"{k};{at};{minutes:.1f};{4 + k % 3};{1 + k % 4};u{k % 5};{state}")
    path.write_text("\n".join(lines) + "\n")
    return path


def said(*words: str, cwd: Path, code: int = 0, path: str | None = None) -> str:
    """What a command prints, in a shell without our environment."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env = kept | {"PATH": path or "/usr/local/bin:/usr/bin:/bin"}
    found = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert found.returncode == code, found.stdout + found.stderr
    return found.stdout + found.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean clone that was set up by the first of README's two commands."""
    home = tmp_path_factory.mktemp("newcomer") / "plancast"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(home)], check=True)
    printed = said("make", "run", f"PYTHON={sys.executable}", cwd=home)
    assert "Forecasts of" in printed
    assert (home / "data/processed/generated/report.html").is_file()
    # What is printed works in this very shell, which has not activated anything.
    tracking = re.search(r"tracking: (\S+) ui", printed)
    assert tracking is not None
    assert (home / tracking[1]).is_file()
    return home


def test_the_report_answers_to_clicks(clone: Path, opened: Opened) -> None:  # noqa: F811
    """The first thing that is looked at would be blank, or ask others for its parts."""
    screens = ROOT / "build/screens"
    screens.mkdir(parents=True, exist_ok=True)
    for width, theme in ((400, "dark"), (1400, "light")):
        page = opened(clone / "data/processed/generated/report.html", width, theme)
        page.screenshot(path=screens / f"newcomer-{width}-{theme}.png", full_page=True)
    page.get_by_text("light / dark").click()
    page.get_by_role("combobox").select_option("requested")
    page.get_by_text("All figures of the batches").click()
    assert page.get_by_text("realised cost", exact=True).first.is_visible()
    assert opened.faults == []


def test_own_csv_goes_through_init_and_run(clone: Path, tmp_path: Path) -> None:
    """A CSV log would be a dead end."""
    own_csv(tmp_path / "jobs.csv")
    printed = said(str(clone / ".venv/bin/plancast"), "init", "jobs.csv", cwd=tmp_path)
    step = re.search(r"next: cd (\S+) && (\S+) run", printed)
    assert step is not None
    home = tmp_path / step[1]
    params = home / "params.yaml"
    text = params.read_text().replace("batches: 12", "batches: 3")
    params.write_text(text.replace("batch_size: 100", "batch_size: 20"))
    (home / "tasks.csv").write_text(TASKS)
    (home / "cluster.yaml").write_text(CLUSTER)
    printed = said(step[2], "run", "--tasks", "tasks.csv", "--cluster", "cluster.yaml", cwd=home)
    assert "tasks.csv: " in printed
    assert (home / "data/processed/jobs/own-plan.csv").is_file()
    assert (home / "data/processed/jobs/report.html").is_file()


def test_ctrl_c_keeps_the_plan_and_a_task_is_explained(clone: Path, tmp_path: Path) -> None:
    """Half an hour of search would be lost."""
    (tmp_path / "tasks.csv").write_text(TASKS)
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    ours = str(clone / ".venv/bin/plancast")
    words = [ours, "plan", "--tasks", "tasks.csv", "--cluster", "cluster.yaml", "-o", "plan.json",
             "--budget", "10min", "--save-request", "request.json"]  # fmt: skip
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        errors = ""
        # Into a pipe progress is a line every ten seconds.
        while "better plan" not in errors and (line := process.stderr.readline()):
            errors += line
        process.send_signal(signal.SIGINT)
        errors += process.stderr.read()
    assert process.returncode == 130, errors
    assert "interrupted: kept the best plan, cost" in errors
    said(ours, "validate", "request.json", "plan.json", cwd=tmp_path)
    code = (
        "import plancast as pc; p = pc.plan('tasks.csv', 'cluster.yaml', budget='1s'); "
        "print(p.explain('T7'))"
    )
    assert "T7 runs on n-" in said(str(clone / ".venv/bin/python"), "-c", code, cwd=tmp_path)


def test_lesson_three_plans_own_tasks(clone: Path, tmp_path: Path) -> None:
    """The course would be of its authors' tasks alone."""
    ours = clone / ".venv/bin"
    said(str(ours / "python"), "-m", "pip", "install", "-q", "-c", "constraints.txt", "-e",
         ".[notebooks]", cwd=clone)  # fmt: skip
    rows = "".join(f"own-{k},{1 + k % 8},{1 + k % 3}h,u{k % 3},,\n" for k in range(12))
    (tmp_path / "jobs.csv").write_text("Job,Cores,Limit,User,Waits for,Due\n" + rows)
    said(str(ours / "jupytext"), "--to", "notebook", "--execute", "--run-path", str(tmp_path),
         "--output", str(tmp_path / "lesson.ipynb"), str(clone / "notebooks/03_plan_your_csv.py"),
         cwd=tmp_path)  # fmt: skip
    lesson = (tmp_path / "lesson.ipynb").read_text()
    assert re.search(r"own-\d+ runs on node-", lesson)
    assert "image/svg+xml" in lesson


def test_the_wheel_works_in_an_empty_folder(clone: Path, tmp_path: Path) -> None:
    """Only whoever has the source could use it."""
    said(sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(clone),
         cwd=tmp_path)  # fmt: skip
    wheel = next(tmp_path.glob("*.whl"))
    fresh = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", str(fresh)], check=True)
    said(str(fresh / "bin/pip"), "install", "-q", "-c", str(ROOT / "constraints.txt"), str(wheel),
         cwd=tmp_path)  # fmt: skip
    empty = tmp_path / "empty"
    empty.mkdir()
    path = f"{fresh / 'bin'}:/usr/bin:/bin"
    assert said("plancast", "--version", cwd=empty, path=path).startswith("plancast 0.")
    own_csv(empty / "jobs.csv")
    said("plancast", "init", "jobs.csv", cwd=empty, path=path)
    said("plancast", "generate", "batch", "--tasks", "12", "--workers", "3", "-o", "batch",
         cwd=empty, path=path)  # fmt: skip
    said("plancast", "plan", "batch/request.json", "--budget", "1s", "-o", "plan.csv", "--gantt",
         "plan.png", cwd=empty, path=path)  # fmt: skip
    assert (empty / "plan.png").read_bytes().startswith(b"\x89PNG")
    facts = json.loads(said("plancast", "doctor", "--json", cwd=empty, path=path))
    assert facts["command"] == "plancast"
    shutil.rmtree(fresh)

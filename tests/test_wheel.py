"""What `python -m build` makes holds all that a user without the source needs, and no more."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import ROOT

FOLDERS = ("pipelines", "planner", "predictor")


def test_the_wheel_is_built_from_its_archive_and_whole(tmp_path: Path) -> None:
    """A file would be in the source alone: the wheel is built here as from a downloaded archive."""
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        about = [name for name in archive.namelist() if ".dist-info/" in name]
        licence = next(name for name in about if name.endswith("licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    modules = {
        f"plancast/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    maps = {f"plancast/predictor/logs/columns/{p.name}" for p in ROOT.glob("data/columns/*.yaml")}
    others = {
        "plancast/__init__.py", "plancast/jit.py", "plancast/jit_compiler.py",
        "plancast/json_text.py", "plancast/py.typed", "plancast/wording.py",
    }  # fmt: skip
    others |= {"plancast/pipelines/inputs/params.yaml"}
    assert set(names) == modules | maps | others
    assert len(maps) > 5

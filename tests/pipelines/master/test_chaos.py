"""The living master under faults of all kinds at once: effects and books agree afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from plancast.pipelines.engines.base import EnvironmentFailed, Unreachable
from plancast.pipelines.engines.sim import Faults, SimEngine, overloads
from plancast.pipelines.master.database import Writer
from plancast.pipelines.master.desk import Clash
from plancast.pipelines.master.state import OPEN
from plancast.pipelines.master.tables import tasks
from tests.conftest import ROOT, cases
from tests.pipelines.engines.inside import Inside
from tests.pipelines.master.postgres import HOMES
from tests.pipelines.master.test_living import QUICK, START_S, WORKERS, Town

SECONDS = float(os.environ.get("PLANCAST_CHAOS_SECONDS", "3600"))
"""How long faults befall the real engines in the slow tests; an hour for all three of them."""


class Stepping(SimEngine):
    """A cluster whose clock is off by a number of seconds that changes."""

    off_s = 0

    def now_s(self) -> int:
        """The clock as the master reads it."""
        return super().now_s() + self.off_s


class Disk:
    """A disk that is full at times: from one drawn write to another nothing can be written."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.left = int(rng.integers(20, 200))
        self.full = False

    def carried_out(self, writer: Writer, work: Any, *arguments: Any) -> Any:
        """As ``Writer._carried_out``."""
        self.left -= 1
        if self.left < 0:
            self.full = not self.full
            self.left = int(self.rng.integers(1, 6) if self.full else self.rng.integers(20, 200))
        if self.full:
            raise EnvironmentFailed("disk full")
        return USUAL(writer, work, *arguments)


USUAL = Writer._carried_out


class Life:
    """A town whose masters end by a full disk or a kill, and are started again."""

    def __init__(self, seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rng = np.random.default_rng([seed, 21])
        names = [w.id for w in WORKERS]
        deaths = tuple(
            (START_S + int(self.rng.integers(1, 1500)), name, int(self.rng.integers(1, 200)))
            for name in names[1:]
        )
        faults = Faults(lost=0.1, twice=0.1, late=0.1, deaf=0.1, deaths=deaths,
                        away=((START_S + 200, 3), (START_S + 600, 5)))  # fmt: skip
        lengths = {f"t{k}": int(self.rng.integers(5, 80)) for k in range(30)}
        self.town = Town(folder / f"{seed}.db", faults=faults, truth=lengths.__getitem__,
                         engine_kind=Stepping)  # fmt: skip
        self.disk = Disk(self.rng)
        disk = self.disk
        monkeypatch.setattr(Writer, "_carried_out", lambda *what: disk.carried_out(*what))
        self.ends = 0

    def again(self) -> None:
        """A new master, as often as one ends while it starts."""
        self.town.kill()
        while True:
            self.ends += 1
            try:
                self.town.open()
                return
            except Exception as why:
                if not about_the_engine_or_disk(why):
                    raise
                self.town.state.close()

    def step(self) -> None:
        """One step; a master that ends by it is started again."""
        try:
            self.town.step()
        except Exception as why:
            if not about_the_engine_or_disk(why):
                raise
            self.again()

    def submit(self, names: list[str]) -> None:
        """Until it is acknowledged, with the same key."""
        rows: list[dict[str, Any]] = [{"id": name} for name in names]
        while True:
            try:
                self.town.submit(*rows, key=names[0])
                return
            except EnvironmentFailed:
                self.step()

    def befall(self) -> None:
        """A kill, or a step of the clock."""
        what = self.rng.random()
        if what < 0.3:
            self.again()
        elif what < 0.6:
            assert isinstance(self.town.engine, Stepping)
            self.town.engine.off_s = int(self.rng.choice([-3600, -30, 0, 30, 3600]))


def about_the_engine_or_disk(why: Exception) -> bool:
    """Whether it is what was to befall."""
    return isinstance(why, EnvironmentFailed | Unreachable)


@pytest.mark.parametrize("seed", cases(1, 3))
def test_full_disks_steps_of_the_clock_and_kills_at_once(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone is survived; together a task could be lost, run twice, or hold its room."""
    survive(seed, tmp_path, monkeypatch)


def test_a_clock_that_is_set_back_holds_nothing_up(tmp_path: Path) -> None:
    """What was submitted meanwhile would wait until the clock is there again, for an hour, say."""
    town = Town(tmp_path / "m.db", engine_kind=Stepping)
    assert isinstance(town.engine, Stepping)
    town.engine.off_s = 3600
    town.master.step(0.0)
    town.submit({"id": "a"})
    town.engine.off_s = 0
    town.reopen()
    town.engine.off_s = 3600
    town.master.step(0.0)
    now = town.master.mind.snapshot.now_s
    later = [{"id": f"b{k}", "release_s": now + 20} for k in range(6)]
    town.submit(*later, {"id": "c", "release_s": now + 1800})
    town.master.step(0.0)
    town.engine.off_s = 0
    for _ in range(100):
        town.master.step(30.0)
        if town.master.mind.snapshot.now_s >= now + 400:
            break
    rows = {name: town.master.submitted.row(name) for name in ("a", "c", "b0", "b5")}
    assert [rows[n].outcome for n in ("a", "b0", "b5")] == ["completed"] * 3
    assert now + 20 <= rows["b0"].start_s < now + 60
    assert rows["c"].start_s is None
    assert town.engine.clock < START_S + 800
    town.kill()


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_same_two_hundred_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rare orders of these events need as many lives."""
    for seed in range(100, 300):
        survive(seed, tmp_path, monkeypatch)


def survive(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One life, and the account of it."""
    life = Life(seed, tmp_path, monkeypatch)
    came: list[str] = []
    off: set[str] = set()
    while len(came) < 24:
        wave = [f"t{k}" for k in range(len(came), len(came) + int(life.rng.integers(1, 7)))]
        life.submit(wave)
        came += wave
        for _ in range(int(life.rng.integers(1, 5))):
            life.befall()
            life.step()
        if life.rng.random() < 0.3:
            name = str(life.rng.choice(came))
            off.add(name)
            try:
                life.town.ask("cancel", name)
            except (Clash, EnvironmentFailed):
                continue
    monkeypatch.undo()
    town = life.town
    for _ in range(1_000):
        life.step()
        if town.master.done and not town.master.submitted.next(1):
            break
    assert life.ends > 2  # else nothing has befallen it
    assert overloads(town.engine) == []
    books = {row.id: row for row in town.state.base.execute(sa.select(tasks))}
    ends = Counter(run.key[0] for run in town.engine.runs.values() if run.cause == "completed")
    known = {order.key for order in town.state.orders()}
    for name in came:
        row = books[name]
        assert row.state == "ended", name
        assert ends[name] == (row.outcome == "completed"), (name, row.outcome, ends[name])
        assert row.outcome == "completed" or name in off, (name, row.outcome)
    assert all(run.cause for run in town.engine.runs.values())
    assert set(town.engine.runs) <= known
    assert not [order for order in town.state.orders() if order.state in OPEN]
    town.master.settle()
    left = town.state.restored(QUICK)
    assert left is not None
    assert (left.snapshot.running, left.snapshot.pending) == ((), ())
    kept, broken = town.master.submitted.kept_and_broken()
    promised = [r for r in books.values() if None not in (r.promised_s, r.start_s)]
    assert (kept + broken, broken) == (
        len(promised), sum(r.start_s > r.promised_s for r in promised),
    )  # fmt: skip
    town.kill()


def test_what_was_lost_on_its_way_is_found_while_the_clock_stands(tmp_path: Path) -> None:
    """Set forward and back, it would stand for an hour, and nothing be checked until then."""
    town = Town(tmp_path / "m.db", engine_kind=Stepping)
    assert isinstance(town.engine, Stepping)
    town.step()
    town.engine.off_s = 3_600
    town.step()
    town.engine.off_s = 0
    town.engine.faults = Faults(deaf=0.999_999)
    town.submit({"id": "a"})
    town.step()
    assert not town.engine.runs
    town.engine.faults = Faults()
    began = town.engine.clock
    town.finish()
    assert town.starts() == ["a"]
    assert town.engine.clock - began < 1_000
    town.kill()


def chaos(engine: str, share: float, *more: str, before: tuple[str, ...] = ()) -> None:
    """Chaos in processes of their own, which must end well."""
    command = [*before, sys.executable, "-m", "tests.pipelines.master.chaos", engine,
               "--seconds", str(SECONDS * share), *more]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 1_800)
@pytest.mark.waits
def test_chaos_on_dask() -> None:
    """Masters, workers and schedulers are killed and stopped, the disk is full, clocks step."""
    chaos("dask", 0.3)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 1_800)
@pytest.mark.waits
def test_chaos_on_dask_with_two_masters_on_postgresql() -> None:
    """The same where one takes over from the other, and their database crashes."""
    if not any((home / "initdb").exists() for home in HOMES):
        pytest.skip("PostgreSQL is not installed: its package brings initdb and pg_ctl")
    chaos("dask", 0.35, "--postgres")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 1_800)
@pytest.mark.waits
def test_chaos_on_slurm(slurm: Inside) -> None:
    """The same where slurmctld and slurmd are killed and come back."""
    net, conf = f"--net={slurm.folder}/net", f"SLURM_CONF={slurm.folder}/slurm.conf"
    chaos("slurm", 0.35, before=("nsenter", net, "env", conf))

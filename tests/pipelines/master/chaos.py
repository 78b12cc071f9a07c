"""A living master in processes of its own under faults drawn by a seed, and the account of it.

Run with ``python -m tests.pipelines.master.chaos dask --seconds 3600``. Masters are restarted as
a systemd unit would; clients hand in tasks with keys until they are acknowledged, ask again, hold
and call off. Each task writes down when an attempt of it begins and ends. Afterwards these
effects on the disk are compared with the books of the master. Ends with 1 where they differ.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from plancast.pipelines.engines.base import Unreachable
from plancast.pipelines.engines.dask import NOTE, SCHEDULER_NAME, end_left_over
from plancast.pipelines.engines.processes import ProcessId
from plancast.pipelines.engines.slurm import CommandFailed, run_command
from plancast.pipelines.inputs.user_files import ClusterFile, write_cluster
from plancast.pipelines.master import client as speaking
from plancast.pipelines.master.client import Client, NotReached
from plancast.planner.model.domain import BadRequest, Worker
from tests.pipelines.master.chaos_account import Asked, account
from tests.pipelines.master.postgres import HOMES, Server, made

speaking.ANSWER_S = 10.0  # a master that stands still is not waited for
CLOCK = "PLANCAST_CHAOS_CLOCK"
STEPPED = f"""
import mmap, os, struct, sys, time
if "serve" in sys.orig_argv and "{CLOCK}" in os.environ:
    _file = open(os.environ["{CLOCK}"], "rb")
    _map = mmap.mmap(_file.fileno(), 8, prot=mmap.PROT_READ)
    _true = time.time
    time.time = lambda: _true() + struct.unpack("d", _map[:8])[0]
"""
"""``sitecustomize`` of the masters: their clock is off by what a file says."""
TASK = (
    'f="{effects}/$PLANCAST_ID"; echo "begin $PLANCAST_ATTEMPT $(date +%s.%N)" >> "$f"; '
    'sleep "${{PLANCAST_APP#sleep-}}"; echo "end $PLANCAST_ATTEMPT $(date +%s.%N)" >> "$f"; '
    'echo "ran $PLANCAST_ATTEMPT"'
)
DISK_MIB, DISK_MIB_A_MINUTE = 24, 2
MOST_OPEN = 150
"""Tasks that have not ended with which clients wait before they submit more."""
PATIENCE_S = 900.0
"""Longest wait for the end of all, on however slow a machine."""
CLIENTS = ("ann", "bob")
FAULTS = {
    "kill_master": 3, "stop_master": 2, "kill_worker": 2, "stop_engine": 1, "kill_engine": 1,
    "fill_disk": 2, "step_clock": 2, "restart_database": 2,
}  # fmt: skip
"""What may befall, and how often relative to the others."""


@dataclass
class Slot:
    """A unit that starts its master again whenever it ends."""

    log: Path
    process: subprocess.Popen[bytes] | None = None
    codes: list[int] = field(default_factory=list)


class Chaos:
    """All of it.

    Parameters
    ----------
    engine : str
        ``dask`` or ``slurm``.
    names : list of str
        Workers.
    home : Path
    seed : int
    seconds : float
        How long faults befall it.
    gap_s : float
        Mean pause between two of them.
    server : Server, optional
        Of PostgreSQL: there are two masters then.
    """

    def __init__(
        self, engine: str, names: list[str], home: Path, seed: int, seconds: float,
        gap_s: float = 8.0, server: Server | None = None,
    ) -> None:  # fmt: skip
        self.engine, self.names, self.home = engine, names, home
        self.seed, self.seconds, self.gap_s = seed, seconds, gap_s
        self.server = server
        self.rng = np.random.default_rng([seed, 0])
        self.effects, self.disk = home / "effects", home / "disk"
        for folder in (self.effects, self.disk, home / "site"):
            folder.mkdir()
        (home / "site" / "sitecustomize.py").write_text(STEPPED)
        (home / "clock").write_bytes(struct.pack("d", 0.0))
        self.state = self.disk / "master.db" if server is None else server.database()
        self.files = self.disk / "master.db" if server is None else home / "master"
        self.slots = [Slot(home / f"log{k}") for k in range(1 if server is None else 2)]
        self.asked = Asked()
        self.befell: Counter[str] = Counter()
        self.began = time.monotonic()
        self.calm, self.ended = threading.Event(), threading.Event()
        self.saying = threading.Lock()
        self.workers = [Worker(n, {"cpu": 4000, "mem": 4096}, idle_w=50.0) for n in names]
        write_cluster(ClusterFile(tuple(self.workers)), home / "cluster.yaml")

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def say(self, text: str) -> None:
        """A line of the timeline."""
        with self.saying:
            print(f"{self.now():7.1f} s  {text}", flush=True)

    # ------------------------------------------------------------------ masters

    def unit(self, slot: Slot) -> None:
        """Start a master again whenever it ends, as its unit does."""
        paths = [str(self.home / "site"), os.environ.get("PYTHONPATH", "")]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths), CLOCK: f"{self.home}/clock"}
        while not self.ended.is_set():
            with slot.log.open("ab") as log:
                slot.process = subprocess.Popen(
                    [sys.executable, "-m", "plancast.pipelines.cli", "master", "serve",
                     "--engine", self.engine, "--cluster", str(self.home / "cluster.yaml"),
                     "--state", str(self.state), "--files", str(self.files), "--budget", "0.5",
                     "--shell", "--command", TASK.format(effects=self.effects)],
                    stdout=log, stderr=log, env=environ,
                )  # fmt: skip
            slot.codes.append(slot.process.wait())
            if slot.codes[-1] != -signal.SIGKILL and not self.ended.is_set():
                self.say(f"a master has ended with {slot.codes[-1]}: {last_line(slot.log)}")
            self.ended.wait(1.0)

    def some_master(self) -> subprocess.Popen[bytes] | None:
        """A master that runs, most often the only one."""
        there = [s.process for s in self.slots if s.process and s.process.poll() is None]
        return there[int(self.rng.integers(len(there)))] if there else None

    def client(self) -> Client:
        """Whoever asks the master that leads."""
        return Client.to(str(self.files))

    # ------------------------------------------------------------------ faults

    def faults(self) -> None:
        """Draw them one after the other until it is calm."""
        there = [name for name in FAULTS if self.can(name)]
        odds = np.array([FAULTS[name] for name in there], float)
        while not self.calm.wait(float(self.rng.exponential(self.gap_s)) + 1.0):
            self.reopen()
            name = str(self.rng.choice(there, p=odds / odds.sum()))
            self.befell[name] += 1
            getattr(self, name)()

    def can(self, fault: str) -> bool:
        """Whether it can befall this engine and state."""
        if fault == "restart_database":
            return self.server is not None
        if fault == "fill_disk" and self.server is not None:
            return False  # the state is elsewhere
        return fault != "fill_disk" or os.path.ismount(self.disk)

    def lasts(self, least_s: float, most_s: float) -> None:
        """Wait, while a master may be killed as well."""
        seconds = float(self.rng.uniform(least_s, most_s))
        if self.rng.random() < 0.3:
            self.calm.wait(seconds / 2)
            self.kill_master()
            seconds /= 2
        self.calm.wait(seconds)

    def kill_master(self) -> None:
        """Kill -9."""
        master = self.some_master()
        if master is not None:
            master.kill()
            self.say("master killed")

    def stop_master(self) -> None:
        """SIGSTOP, and on it goes."""
        master = self.some_master()
        if master is None:
            return
        seconds = float(self.rng.uniform(1, 12))
        self.say(f"master stands still for {seconds:.1f} s")
        master.send_signal(signal.SIGSTOP)
        self.calm.wait(seconds)
        master.send_signal(signal.SIGCONT)

    def kill_worker(self) -> None:
        """Kill a worker; it is back after a while."""
        name = str(self.rng.choice(self.names))
        old = self.process_of(name)
        if old is None:
            return
        old.kill()
        self.say(f"worker {name} killed")
        self.lasts(1, 14)
        if self.engine == "slurm":
            self.revive(name)  # a worker of Dask is started again by the master

    def stop_engine(self) -> None:
        """The engine's scheduler, or a worker, stands still for some seconds."""
        name = str(self.rng.choice([SCHEDULER_NAME, *self.names]))
        found = self.process_of(name)
        if found is None or not found.alive:
            return
        self.say(f"{name} stands still")
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGSTOP)
            self.lasts(1, 8)
            os.kill(found.pid, signal.SIGCONT)

    def kill_engine(self) -> None:
        """Kill the engine's scheduler; Slurm's is started again, Dask's by the next master."""
        found = self.process_of(SCHEDULER_NAME)
        if found is None or not found.alive:
            return
        found.kill()
        self.asked.lost_books.append(time.time())
        self.say("scheduler killed")
        if self.engine == "slurm":
            self.asked.lost_books.pop()  # it keeps books on its disk
            self.lasts(0, 8)
            self.revive(SCHEDULER_NAME)

    def fill_disk(self) -> None:
        """The disk of the state is full for a while."""
        filler = self.disk / "filler"
        self.say("disk full")
        self.asked.full.append(time.time())
        with suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        self.lasts(2, 10)
        filler.unlink(missing_ok=True)
        self.asked.full.append(time.time())
        self.say("disk has room")

    def step_clock(self) -> None:
        """The masters' clock steps, forward or back."""
        off = float(self.rng.choice([-3600, -90, -20, 0, 0, 20, 90, 600, 3600]))
        self.set_clock(off)
        self.say(f"clock is off by {off:.0f} s")

    def set_clock(self, off: float) -> None:
        """Masters read a clock that is off by so many seconds."""
        with (self.home / "clock").open("r+b") as file, mmap.mmap(file.fileno(), 8) as held:
            held[:8] = struct.pack("d", off)

    def restart_database(self) -> None:
        """The database crashes, and comes back."""
        assert self.server is not None
        self.say("database crashes")
        self.server.stop("immediate")
        self.lasts(0, 6)
        self.server.start()
        self.say("database is back")

    # ------------------------------------------------------------------ the engine's processes

    def process_of(self, name: str) -> ProcessId | None:
        """A process of the engine, by its name."""
        if self.engine == "dask":
            folder = self.files.with_suffix(".dask")
            if name in self.names:
                book = str(folder.resolve() / "scratch")
                for one in psutil.process_iter(["cmdline"]):
                    words = one.info["cmdline"] or []
                    if book in words and name in words:
                        return ProcessId.of(one.pid)
            with suppress(OSError, ValueError, KeyError):
                return ProcessId(*json.loads((folder / NOTE).read_text())["processes"][name])
            return None
        base = Path(os.environ["SLURM_CONF"]).parent
        kind = "slurmctld" if name == SCHEDULER_NAME else f"slurmd-{name}"
        with suppress(OSError, ValueError):
            return ProcessId.of(int((base / f"{kind}.pid").read_text()))
        return None

    def revive(self, name: str) -> None:
        """Start a process of Slurm that was killed."""
        base = Path(os.environ["SLURM_CONF"]).parent
        daemon = ["slurmctld", "-D"] if name == SCHEDULER_NAME else ["slurmd", "-D", "-N", name]
        with (base / "log" / "revived.out").open("ab") as log:
            subprocess.Popen(daemon, stdout=log, stderr=log, start_new_session=True)
        self.say(f"{name} is back")

    def reopen(self) -> None:
        """Do what a site does where Slurm has drained nodes for a number that it gave twice.

        slurmctld forgets, when it is killed, which numbers it gave last.
        """
        if self.engine != "slurm":
            return
        with suppress(CommandFailed, Unreachable):
            for line in run_command(["scontrol", "show", "nodes", "--oneliner"]).splitlines():
                if "Reason=Duplicate jobid" in line and "DRAIN" in line:
                    name = line.removeprefix("NodeName=").split()[0]
                    run_command(["scontrol", "update", f"NodeName={name}", "State=RESUME"])
                    self.befell["reopened by the site"] += 1
                    self.say(f"{name} was drained for a number given twice; it is resumed")

    # ------------------------------------------------------------------ clients

    def open_tasks(self) -> int:
        """How many tasks have not ended."""
        found = self.patiently(lambda: self.client().get("/v1/status"))
        return sum(int(found[state]) for state in ("submitted", "waiting", "held", "running"))

    def patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ask()
            except (NotReached, BadRequest, OSError, ValueError) as why:
                if "answered 500" in str(why):
                    self.asked.wrong.append(f"a client was answered 500 ({self.now():.0f} s)")
                elif isinstance(why, BadRequest) and "no master serves it" not in str(why):
                    raise
                if time.monotonic() > until:
                    raise
                time.sleep(0.3)

    def works(self, owner: str, seed: int) -> None:
        """A client: waves, asks again, calls off."""
        rng = np.random.default_rng([self.seed, seed])
        came: list[str] = []
        while not self.calm.is_set():
            wave = [f"{owner}-{len(came) + k}" for k in range(int(rng.integers(1, 6)))]
            rows = [self.row(name, owner, came, rng) for name in wave]
            body, key = {"tasks": rows}, f"{owner}-{len(came)}"
            receipt = self.patiently(lambda b=body, k=key: self.client().post("/v1/tasks", b, k))
            self.asked.tasks += wave
            came += wave
            if rng.random() < 0.3:
                again = self.patiently(lambda b=body, k=key: self.client().post("/v1/tasks", b, k))
                if again["ask"] != receipt["ask"]:
                    self.asked.wrong.append(f"key {key} was taken twice: {receipt}, {again}")
            if rng.random() < 0.15:
                name = str(rng.choice(came))
                self.asked.off.add(name)
                self.tell("cancel", name)
            if rng.random() < 0.15:
                name = str(rng.choice(came))
                if self.tell("hold", name):
                    time.sleep(float(rng.uniform(0, 3)))
                    self.tell("release", name)
            self.calm.wait(float(rng.uniform(0.5, 3.0)))
            while not self.calm.is_set() and self.open_tasks() > MOST_OPEN:
                self.calm.wait(2.0)

    def row(self, name: str, owner: str, came: list[str], rng: Any) -> dict[str, Any]:
        """A task."""
        seconds = round(float(rng.uniform(0.5, 5.0)), 1)
        more = {"after": f"afterany:{rng.choice(came)}"} if came and rng.random() < 0.2 else {}
        return {"id": name, "cpus": int(rng.integers(1, 3)), "mem_mib": 64, "owner": owner,
                "app": f"sleep-{seconds}", "requested_s": 900, **more}  # fmt: skip

    def tell(self, what: str, name: str) -> bool:
        """Ask for something of a task; whether it was there to be asked for."""
        try:
            self.patiently(lambda: self.client().post(f"/v1/tasks/{what}", {"names": [name]}))
        except BadRequest as why:
            if "has ended already" not in str(why):
                self.asked.wrong.append(f"{what} {name}: {why}")
            return False
        return True

    # ------------------------------------------------------------------ all of it

    def run(self) -> int:
        """Let it befall, wait for the end, and account for it; the exit code."""
        units = [threading.Thread(target=self.unit, args=(slot,)) for slot in self.slots]
        others = [threading.Thread(target=self.works, args=(owner, k + 1), daemon=True)
                  for k, owner in enumerate(CLIENTS)]  # fmt: skip
        facts: dict[str, Any] = {}
        try:
            for unit in units:
                unit.start()
            self.patiently(lambda: self.client().get("/readyz"))
            self.say(f"{self.engine}: the master takes tasks")
            troubles = threading.Thread(target=self.guarded, daemon=True)
            for thread in (*others, troubles):
                thread.start()
            time.sleep(self.seconds)
            self.calm.set()
            for thread in (*others, troubles):
                thread.join(PATIENCE_S)
                assert not thread.is_alive(), "a client has no answer"
            self.repair()
            facts = self.until_all_has_ended()
        finally:
            self.calm.set()
            self.ended.set()
            self.let_go(units)
        return self.judge(facts)

    def guarded(self) -> None:
        """The faults; what goes wrong with them is no fault of the master."""
        try:
            self.faults()
        except BaseException as why:
            self.asked.wrong.append(f"chaos itself failed: {why!r}")
            raise

    def repair(self) -> None:
        """Whatever is broken works again."""
        self.set_clock(0.0)
        (self.disk / "filler").unlink(missing_ok=True)
        for name in self.names if self.engine == "slurm" else ():
            found = self.process_of(name)
            if found is None or not found.alive:
                self.revive(name)

    def until_all_has_ended(self) -> dict[str, Any]:
        """What the master says when all that was acknowledged has ended."""
        until = time.monotonic() + PATIENCE_S
        while True:
            found: dict[str, Any] = self.patiently(lambda: self.client().get("/v1/status"))
            self.reopen()
            if sum(found["ended"].values()) >= len(self.asked.tasks):
                left = self.patiently(lambda: self.client().get("/v1/queue"))
                self.say(f"all has ended: {found['ended']}")
                some = str(self.asked.tasks[0])
                said = self.patiently(lambda t=some: self.client().get("/v1/log", task=t))
                return {"status": found, "queue": left, "log": {some: said}}
            if time.monotonic() > until:
                queue = self.patiently(lambda: self.client().get("/v1/queue"))
                self.asked.wrong.append(f"it does not end: {json.dumps(queue)[:2000]}")
                return {"status": found, "queue": queue, "log": {}}
            time.sleep(0.5)

    def let_go(self, units: list[threading.Thread]) -> None:
        """End the masters as a unit does, and see what they leave behind."""
        for slot in self.slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.terminate()
        until = time.monotonic() + 120.0
        for unit in units:
            unit.join(max(0.0, until - time.monotonic()))
        for slot, unit in zip(self.slots, units, strict=True):
            if unit.is_alive() and slot.process is not None:
                self.asked.wrong.append("a master does not end on SIGTERM")
                slot.process.kill()

    def judge(self, facts: dict[str, Any]) -> int:
        """Compare books and effects."""
        for slot in self.slots:
            if bad := [c for c in slot.codes if c not in (0, 6, -signal.SIGKILL)]:
                self.asked.wrong.append(f"masters ended with {bad}; see {last_line(slot.log)}")
            text = slot.log.read_text(errors="replace")
            if (at := text.find("Traceback")) >= 0:
                self.asked.wrong.append(f"a traceback: {text[at : at + 6000]}")
        found = account(self.state, self.files, self.effects, self.asked, facts)
        orphans = [
            f"{p.pid}: {' '.join(p.info['cmdline'])[:200]}"
            for p in psutil.process_iter(["cmdline"])
            if p.info["cmdline"] and any(str(self.home) in w for w in p.info["cmdline"])
            and p.pid != os.getpid() and "slurm" not in p.info["cmdline"][0]
        ]  # fmt: skip
        ours = [one for one in orphans if "distributed.cli" not in one and "postgres" not in one]
        found["orphans"] = ours
        found["befell"] = dict(self.befell)
        print(json.dumps(found, indent=1), flush=True)
        return int(bool(found["wrong"] or ours))


def last_line(log: Path) -> str:
    """The last line of a log."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


@contextmanager
def small_disk(where: Path, seconds: float) -> Iterator[None]:
    """A disk of its own that can be full, where this user may mount one."""
    size = round(DISK_MIB + DISK_MIB_A_MINUTE * seconds / 60)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}m", "plancast", str(where)],
        capture_output=True, check=False,
    )  # fmt: skip
    try:
        yield
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(where)], check=False)


def main() -> None:
    """Run it in a folder that is removed afterwards, unless something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=("dask", "slurm"))
    parser.add_argument("--nodes", default="n1,n2,n3")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--gap", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    if options.postgres and not HOMES:
        sys.exit("PostgreSQL is not installed")
    home = Path(tempfile.mkdtemp(prefix="plancast-chaos-"))
    server = made() if options.postgres else None
    try:
        chaos = Chaos(options.engine, options.nodes.split(","), home, options.seed,
                      options.seconds, options.gap, server)  # fmt: skip
        with small_disk(chaos.disk, options.seconds):
            try:
                code = chaos.run()
            finally:
                if options.engine == "dask":
                    end_left_over(chaos.files.with_suffix(".dask"))
                if options.keep:
                    subprocess.run(["cp", "-r", str(chaos.disk), str(home / "kept")], check=False)
    finally:
        if server is not None:
            server.ended()
        if not options.keep:
            subprocess.run(["rm", "-rf", str(home)], check=False)
    sys.exit(code)


if __name__ == "__main__":
    main()

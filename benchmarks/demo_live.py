"""A master that stays on a real engine: waves from two clients, a drain, kills, and the account.

Run with ``make demo-live``. Ends with 1 where a task has not run exactly once more than its
runs were lost, or the books and the effects on disk do not agree.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from plancast.pipelines.engines.dask import end_left_over
from plancast.pipelines.engines.processes import ProcessId
from plancast.pipelines.inputs.user_files import ClusterFile, write_cluster
from plancast.pipelines.master.client import Client, NotReached, note_of
from plancast.pipelines.master.living_account import living_account
from plancast.pipelines.master.state import State
from plancast.planner.model.domain import BadRequest, Worker

READY_S = 300.0
CLIENTS = ("ann", "bob")


class Demo:
    """A master in a process of its own, its clients, and what befalls them.

    Parameters
    ----------
    engine : str
    names : list of str
        Workers; nodes of Slurm.
    number : int
        Tasks.
    home : Path
    seed : int
    """

    def __init__(self, engine: str, names: list[str], number: int, home: Path, seed: int) -> None:
        self.engine, self.names, self.number, self.home = engine, names, number, home
        self.rng = np.random.default_rng(seed)
        self.state = home / "master.db"
        self.done = home / "done"
        self.master: subprocess.Popen[bytes] | None = None
        self.began = time.time()
        self.acknowledged: list[str] = []
        workers = tuple(Worker(n, {"cpu": 4000, "mem": 4096}, idle_w=50.0) for n in names)
        write_cluster(ClusterFile(workers), home / "cluster.yaml")

    def say(self, text: str) -> None:
        """A line of the timeline."""
        print(f"{time.time() - self.began:6.1f} s  {text}", flush=True)

    # ------------------------------------------------------------------ the master

    def start(self) -> None:
        """Start a master, and wait until it takes tasks."""
        note_of(self.state).unlink(missing_ok=True)
        runs = f'sleep "${{PLANCAST_APP#sleep-}}"; echo "$PLANCAST_ID" >> {self.done}'
        with (self.home / "log").open("ab") as log:
            self.master = subprocess.Popen(
                [sys.executable, "-m", "plancast.pipelines.cli", "master", "serve",
                 "--engine", self.engine, "--cluster", str(self.home / "cluster.yaml"),
                 "--state", str(self.state), "--shell", "--command", runs],
                stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self.master.poll() is None:
            with suppress(NotReached, BadRequest):
                self.client().get("/readyz")
                return
            time.sleep(0.1)
        raise SystemExit((self.home / "log").read_text()[-4000:])

    def client(self) -> Client:
        """Whoever asks the master that runs now."""
        return Client.to(str(self.state))

    def kill(self) -> None:
        """Kill -9 the master, and start another."""
        assert self.master is not None
        self.master.send_signal(signal.SIGKILL)
        self.master.wait()
        self.say("master killed (kill -9)")
        self.start()
        self.say("a new master goes on")

    def lose(self, name: str) -> None:
        """Lose a worker with what runs there; Slurm's node is back after a while."""
        if self.engine == "slurm":
            for state, reason in (("DOWN", "demo"), ("RESUME", "")):
                _scontrol(name, state, reason)
                self.say(f"node {name}: {state}")
                time.sleep(8 if state == "DOWN" else 0)
            return
        note = json.loads((self.state.with_suffix(".dask") / "cluster.json").read_text())
        ProcessId(*note["processes"][name]).kill()
        self.say(f"worker {name} killed (kill -9)")

    # ------------------------------------------------------------------ the clients

    def wave(self, owner: str, number: int, first: int) -> None:
        """A wave of tasks of one client, sent again with the same key until it is acknowledged."""
        rows, estimates = [], {}
        for k in range(first, first + number):
            seconds, name = int(self.rng.integers(2, 7)), f"{owner}-{k}"
            after = f"{owner}-{k - 1}" if k > first and self.rng.random() < 0.2 else ""
            rows.append({"id": name, "cpus": int(self.rng.integers(1, 3)), "mem_mib": 64,
                         "owner": owner, "app": f"sleep-{seconds}", "requested_s": 120,
                         **({"after": after} if after else {})})  # fmt: skip
            estimates[name] = {"*": {"levels": [0.1, 0.5, 0.9], "source": "demo",
                                     "seconds": [seconds, seconds + 1, seconds + 4]}}  # fmt: skip
        body = {"tasks": rows, "estimates": estimates}
        self.patiently(lambda: self.client().post("/v1/tasks", body, f"{owner}-{first}"))
        self.acknowledged += [row["id"] for row in rows]
        self.say(f"{owner} submits {number} tasks")

    def patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer: a master that is killed comes back."""
        while True:
            try:
                return ask()
            except (NotReached, BadRequest, FileNotFoundError) as why:
                if isinstance(why, BadRequest) and "no master serves it" not in str(why):
                    raise
                time.sleep(0.2)

    def clients(self, waves: int) -> list[threading.Thread]:
        """Two clients, each with its waves."""

        def work(owner: str) -> None:
            each = self.number // (2 * waves)
            for part in range(waves):
                self.wave(owner, each, part * each)
                time.sleep(4)

        return [threading.Thread(target=work, args=(owner,), daemon=True) for owner in CLIENTS]

    def ended(self) -> int:
        """How many tasks have ended."""
        found = self.patiently(lambda: self.client().get("/v1/status"))
        return sum(found["ended"].values())

    def until(self, share: float) -> None:
        """Wait until a share of all tasks has ended."""
        while self.ended() < share * self.number:
            time.sleep(0.3)
        self.say(f"{self.ended()} of {self.number} tasks have ended")

    # ------------------------------------------------------------------ all of it

    def run(self, waves: int, kills: int = 2) -> int:
        """What happens, in order; the exit code.

        Parameters
        ----------
        waves : int
            Of each client.
        kills : int
            Of the master: none, one or two.
        """
        try:
            self.start()
            self.say(f"{self.engine}: {len(self.names)} workers, the master takes tasks")
            clients = self.clients(waves)
            for thread in clients:
                thread.start()
            self.until(0.1)
            self.drain("drain")
            self.until(0.25)
            for _ in range(kills > 0):
                self.kill()
            self.until(0.4)
            self.lose(self.names[-1])
            self.until(0.5)
            self.drain("undrain")
            self.until(0.65)
            for _ in range(kills > 1):
                self.kill()
            for thread in clients:
                thread.join()
            self.until(1.0)
            status = self.client().get("/v1/status")
        finally:
            if self.master is not None:
                self.master.terminate()
                self.master.wait()
            if self.engine == "dask":
                end_left_over(self.state.with_suffix(".dask"))
        return self.account(status)

    def drain(self, what: str) -> None:
        """Drain the first worker, or open it again."""
        body = {"names": self.names[:1]}
        self.patiently(lambda: self.client().post(f"/v1/workers/{what}", body))
        self.say(f"{self.names[0]}: {what}")

    def account(self, status: dict[str, Any]) -> int:
        """Print what came of it, and judge it."""
        state = State(self.state)
        cost = living_account(state)
        ran = Counter(self.done.read_text().split())
        lost = Counter(o.key[0] for o in state.orders() if o.state in ("void", "stopped"))
        plans = state.plans()
        state.close()
        # A run that was lost may have printed before the news of its end did.
        wrong = [n for n in self.acknowledged if not 1 <= ran[n] <= 1 + lost[n]]
        wrong += [n for n in ran if n not in self.acknowledged]
        promises = status["promises"]
        print(f"\ntasks: {len(self.acknowledged)} acknowledged, {status['ended']}, "
              f"{sum(lost.values())} runs lost or stopped, {len(plans)} plans")  # fmt: skip
        print(f"promises: {promises['kept']} kept, {promises['broken']} broken")
        print(f"cost: as promised {cost['planned_cost']:.4g}, realised {cost['realised_cost']:.4g}")
        print(f"effects on disk: {sum(ran.values())}; wrong: {wrong or 'none'}")
        return int(bool(wrong) or status["ended"] != {"completed": len(self.acknowledged)})


def _scontrol(node: str, state: str, reason: str) -> None:
    more = [f"Reason={reason}"] if reason else []
    command = ["scontrol", "update", f"NodeName={node}", f"State={state}", *more]
    subprocess.run(command, check=True)


def main() -> None:
    """Run it in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=("dask", "slurm"))
    parser.add_argument("--nodes", default="w0,w1,w2")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--waves", type=int, default=5)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plancast-") as folder:
        demo = Demo(
            options.engine, options.nodes.split(","), options.tasks, Path(folder), options.seed
        )
        code = demo.run(options.waves, options.kills)
    sys.exit(code)


if __name__ == "__main__":
    main()

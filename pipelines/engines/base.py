"""What the master asks of an engine, and what an engine reports.

An engine serves one batch. An order has a key: the task and the number of its attempt. A key of
a batch is carried out at most once, however often it is sent; so an order whose acknowledgement
was lost is simply sent again. Messages may come late, twice, or not at all: ``status`` is the
truth that corrects them.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from plancast.planner.model.domain import Outcome, Worker

Key = tuple[str, int]
"""Task id and attempt, counted from 1."""

PREEMPT = "preempt"
"""Capability of an engine whose ``cancel`` surely stops a run: plans may count on it."""
DEVICES = "devices"
"""Capability of an engine that gives each piece the devices which the order names.

Of another one which devices a run has is not known, unless ``Started`` says so.
"""
CHARGES = "charges"
"""Capability of an engine that runs an order under the account, QOS and partition it names."""
Held = tuple[tuple[int, ...], ...]
"""Devices of each piece, in the order of its workers; none where it takes none."""


class Unreachable(Exception):
    """The engine does not answer at present: nothing is known, and the call may be repeated."""


class EnvironmentFailed(Exception):
    """What the batch runs in has failed (engine, disk); the state is safe and can be resumed."""


def of_the_disk(why: BaseException) -> BaseException:
    """A fault as ``EnvironmentFailed`` where it is the disk's; any other as it is."""
    if isinstance(why, OSError) and why.errno in DISK_FAULTS:
        where = f"{why.filename}: " if why.filename else ""
        return EnvironmentFailed(f"{where}{(why.strerror or str(why)).lower()}")
    return why


class Rejected(Exception):
    """The engine refuses this order for good; the text is its reason."""


DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""Errors of a disk that is full, broken, or lets nobody write."""
SAFE_LENGTH = 60
"""Longest part of a task id that ``safe_name`` keeps."""


def safe_name(text: str) -> str:
    """A name for files and jobs, of letters, digits, ``.``, ``_`` and ``-`` only.

    Texts that have other characters or are long get a digest appended, so that different texts
    have different names.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", text)[:SAFE_LENGTH]
    if plain == text and text.strip("."):
        return text
    return f"{plain}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Order:
    """Run a task now, on these workers, one piece on each.

    Parameters
    ----------
    key : (str, int)
    workers : tuple of str
    demand : mapping of str to int
        What each piece holds of its worker, in the planner's units.
    limit_s : int, optional
        Killed after so many seconds, outcome ``timeout``.
    argv : tuple of str
        The program and its arguments, run without a shell. Simulating engines ignore it.
    environ : mapping of str to str
        Added to the environment of the program.
    output : str
        File that takes standard output and error; each piece of a gang has its own, with the
        piece's number appended (``piece_output``). Empty: they are discarded.
    devices : tuple of tuple of int
        GPUs of each piece, by their numbers on its worker; empty where nobody chose any.
    charged : mapping of str to str
        ``account``, ``qos`` and ``partition`` that it runs under, those that were named.
    counted : mapping of str to int
        What the task as a whole takes of what is counted for the cluster: licences and the like.
    """

    key: Key
    workers: tuple[str, ...]
    demand: Mapping[str, int]
    limit_s: int | None = None
    argv: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    output: str = ""
    devices: Held = ()
    charged: Mapping[str, str] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)

    def environ_of(self, piece: int) -> dict[str, str]:
        """What is added to the environment of one piece: it sees its own devices alone."""
        mine = self.devices[piece] if self.devices else ()
        return {**self.environ, **(visible(mine) if mine else {})}


def visible(devices: Sequence[int]) -> dict[str, str]:
    """The environment in which a program sees these GPUs of its machine alone.

    CUDA numbers them by speed unless it is asked to number them by bus, as ``nvidia-smi`` does.
    """
    numbers = ",".join(str(d) for d in devices)
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": numbers}


def piece_output(output: str, piece: int, pieces: int) -> str:
    """The output file of one piece of an order."""
    return output if pieces == 1 or not output else f"{output}.{piece}"


@dataclass(frozen=True, slots=True)
class Started:
    """An order runs.

    Parameters
    ----------
    key : (str, int)
    at_s : int
    devices : mapping of str to tuple of int
        By worker, where the engine chose them; empty where it did not, or says nothing.
    """

    key: Key
    at_s: int
    devices: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def by_piece(workers: Sequence[str], devices: Mapping[str, Sequence[int]]) -> Held:
    """The devices of each piece, where those of a worker go to its pieces in turn."""
    left = {name: list(numbers) for name, numbers in devices.items()}
    each = {name: len(numbers) // workers.count(name) for name, numbers in devices.items()
            if name in workers}  # fmt: skip
    return tuple(tuple(left[w].pop(0) for _ in range(each.get(w, 0))) for w in workers)


@dataclass(frozen=True, slots=True)
class Ended:
    """An order has ended by itself, at its limit, or because it was cancelled.

    ``reason`` says how, where the outcome is not the whole story: an exit code, say.
    """

    key: Key
    start_s: int
    at_s: int
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """A worker is ready, or takes work again after ``WorkerClosed``."""

    worker: Worker
    at_s: int


@dataclass(frozen=True, slots=True)
class WorkerWindows:
    """When a worker will be closed: all windows that there are now, ``(start_s, end_s)``."""

    worker: str
    windows: tuple[tuple[int, int], ...]
    at_s: int


@dataclass(frozen=True, slots=True)
class WorkerDown:
    """A worker is gone for certain, and whatever ran there with it."""

    worker: str
    at_s: int


@dataclass(frozen=True, slots=True)
class WorkerClosed:
    """A worker takes nothing new: it drains, or is out of sight. What runs there goes on."""

    worker: str
    at_s: int


EngineEvent = Started | Ended | WorkerUp | WorkerDown | WorkerClosed | WorkerWindows


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an order stands, by the engine's own books.

    Parameters
    ----------
    state : str
        ``unknown``: never heard of. ``waiting``: taken, not begun. ``running``. ``ended``.
        ``lost``: its worker died.
    start_s, end_s : int, optional
    outcome : Outcome, optional
    reason : str
        As of ``Ended``.
    """

    state: Literal["unknown", "waiting", "running", "ended", "lost"]
    start_s: int | None = None
    end_s: int | None = None
    outcome: Outcome | None = None
    reason: str = ""


class Engine(Protocol):
    """A cluster that runs things. See the module for what it promises.

    Any call may raise ``Unreachable`` (ask again) or ``EnvironmentFailed`` (give up); ``start``
    may raise ``Rejected``.
    """

    name: str
    capabilities: frozenset[str]
    """What it can do beyond starting tasks: ``PREEMPT``, ``DEVICES``, or nothing."""
    step_s: float
    """Longest wait for a message that makes sense on its clock, seconds."""
    begins_s: int
    """Within how many seconds of its order a run usually begins, where there is room."""

    def now_s(self) -> int:
        """The engine's clock, whole seconds since the epoch; it may step back."""
        ...

    def steady_s(self) -> float:
        """Seconds that only count, for durations: no step of the clock changes them."""
        ...

    def workers(self) -> tuple[Worker, ...]:
        """The workers that are there now, those that are closed included."""
        ...

    def closed(self) -> frozenset[str]:
        """Workers that take nothing new at present."""
        ...

    def start(self, order: Order) -> None:
        """Run an order; at once or never. Reported by ``Started``, some time."""
        ...

    def cancel(self, key: Key) -> None:
        """Stop an order, if it runs; reported by ``Ended`` with outcome ``cancelled``.

        May be lost on its way, as any message: who wants it stopped repeats it until then.
        """
        ...

    def events(self, wait_s: float) -> list[EngineEvent]:
        """What has happened since the last call; waits up to `wait_s` for something to."""
        ...

    def status(self, keys: Collection[Key]) -> dict[Key, Standing]:
        """Where orders stand, of an earlier master too."""
        ...

    def close(self) -> None:
        """Let go of the engine; what runs goes on."""
        ...

    def stop(self) -> None:
        """End what was brought up for the batch; a cluster of somebody else's is let go."""
        ...

"""GPUs that are devices: what a piece takes of them, and which ones a running task holds.

A piece takes k whole devices, or a share of one, of a worker whose GPUs are devices. Which ones it
has does not change while it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from plancast.planner.model.domain import DEVICE, GPU, Running, Snapshot

Held = tuple[tuple[int, ...], ...]
"""The devices of each piece of a task, by number from 0."""


def takes(demand: Mapping[str, int]) -> tuple[int, int]:
    """How many devices a piece takes, and how much of each, in thousandths."""
    wanted = demand.get(GPU, 0)
    if not wanted:
        return 0, 0
    return (wanted // DEVICE, DEVICE) if wanted >= DEVICE else (1, wanted)


def chosen(use: Sequence[int], number: int, each: int) -> tuple[int, ...] | None:
    """The devices that a piece is given, by the one rule; None where they have no room.

    Parameters
    ----------
    use : sequence of int
        What is taken of each device, in thousandths.
    number, each : int
        Of ``takes``.

    Notes
    -----
    Whole devices are the lowest free ones; a share goes onto the fullest device with room, of
    equally full ones onto the lowest. So whole devices stay free as long as can be.
    """
    able = [d for d, used in enumerate(use) if used + each <= DEVICE]
    if len(able) < number:
        return None
    return tuple(sorted(sorted(able, key=lambda d: (-use[d], d))[:number]))


def held_devices(snapshot: Snapshot) -> dict[str, Held]:
    """The devices of each running task that takes some.

    Notes
    -----
    Those that ``Running.devices`` names; tasks of which none are named are given some after these,
    by start, then by id, each by the rule of ``chosen``. Where there is no room (more runs than a
    worker has, as real logs have it) they are the least used ones, for nothing else is known.
    """
    count = {w.id: w.device_count for w in snapshot.workers if w.device_count}
    use = {name: [0] * number for name, number in count.items()}
    found: dict[str, Held] = {}
    for run in sorted(snapshot.running, key=lambda r: (not r.devices, r.start_s, r.task.id)):
        number, each = takes(run.done.demand)
        if not number or count.keys().isdisjoint(run.workers):
            continue
        held: list[tuple[int, ...]] = []
        for k, name in enumerate(run.workers):
            here = use.get(name)
            if here is None:
                held.append(())
                continue
            mine = run.devices[k] if run.devices else chosen(here, number, each)
            if mine is None:
                mine = tuple(sorted(sorted(range(len(here)), key=lambda d: (here[d], d))[:number]))
            for d in mine:
                here[d] += each
            held.append(mine)
        found[run.task.id] = tuple(held)
    return found


def filled(snapshot: Snapshot) -> Snapshot:
    """The snapshot with the devices of all running tasks named; see ``held_devices``."""
    if not snapshot.has_devices or all(run.devices for run in snapshot.running):
        return snapshot
    held = held_devices(snapshot)

    def known(run: Running) -> Running:
        return replace(run, devices=held.get(run.task.id, run.devices))

    return replace(snapshot, running=tuple(known(run) for run in snapshot.running))

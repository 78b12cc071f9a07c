"""The process that plans ends quietly with whoever asks it."""

from __future__ import annotations

import os
import signal
import struct
import time
from dataclasses import replace
from multiprocessing import Pipe

from plancast.pipelines.planner_process import answer, left_of, plan_in_time, rethink
from plancast.planner.instances.generate import generate_batch
from plancast.planner.model.messages import Budget
from plancast.planner.planning.controller import Controller, ControlPolicy


def test_a_question_that_breaks_off_ends_it_quietly() -> None:
    """A master that is killed as it asks would leave a traceback in the log of the next one."""
    usual = signal.getsignal(signal.SIGINT)
    try:
        for sent in (b"", struct.pack("!i", 100), struct.pack("!i", 100) + b"half"):
            asks, hears = Pipe()
            os.write(asks.fileno(), sent)
            asks.close()
            answer(hears)
            hears.close()
    finally:
        signal.signal(signal.SIGINT, usual)


def test_what_a_question_waits_is_taken_off_its_budget() -> None:
    """A large request is on its way for half a second, and its answer would come as much late."""
    asked = replace(generate_batch(6), budget=Budget(seconds=60.0))
    began = time.monotonic()
    answered = plan_in_time(asked, "lns", began - 59.7)
    assert answered.plan is not None
    assert time.monotonic() - began < 30
    policy = ControlPolicy(replan_budget=Budget(60.0), repair_budget=Budget(None, 9))
    mind = Controller(asked, policy)
    rethink(mind, "greedy", time.monotonic() - 59.0)
    assert mind.control.replan_budget.seconds is not None
    assert mind.control.replan_budget.seconds <= 1.0
    assert mind.control.repair_budget == Budget(None, 9)
    assert left_of(Budget(1.0), time.monotonic() - 5.0) == Budget(0.0)

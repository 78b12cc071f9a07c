"""The process that plans ends quietly with whoever asks it."""

from __future__ import annotations

import os
import signal
import struct
from multiprocessing import Pipe

from plancast.pipelines.planner_process import answer


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

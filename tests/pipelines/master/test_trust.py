"""Workers that lose what they are given are left alone for a while."""

from __future__ import annotations

from pathlib import Path

from plancast.pipelines.engines.base import Order
from plancast.pipelines.engines.sim import Faults, SimEngine
from plancast.pipelines.master.batch import master_of
from plancast.pipelines.master.loop import Options
from plancast.pipelines.master.state import State
from plancast.pipelines.master.view import facts
from plancast.planner.model.messages import Event, WorkerJoined, from_json
from tests.pipelines.master.test_master import (
    QUICK,
    batch,
    check_truth,
    drive,
    engine_for,
    quick_plan,
)


def test_a_worker_that_flaps_is_left_alone_for_a_while(tmp_path: Path) -> None:
    """Tasks could be sent again and again to a worker that dies under each."""
    request = batch(4, tasks=24, workers=2)
    now = request.snapshot.now_s
    flaps = tuple((now + 20 + 40 * k, request.snapshot.workers[1].id, 10) for k in range(12))
    engine = engine_for(request, 4, Faults(deaths=flaps))
    options = Options(tries=50, strikes=3, banned_s=3600)
    master = master_of(
        State(tmp_path / "m.db"), engine, request, QUICK, ask=quick_plan, options=options
    )
    drive(master)
    check_truth(engine, request, master)
    found = [from_json(Event, text) for (text,) in
            master.state.base.exec_driver_sql("SELECT event FROM events ORDER BY number")]  # type: ignore[arg-type]  # fmt: skip
    joined = [e.at_s - now for e in found if isinstance(e, WorkerJoined)]
    # Back after two losses; after the third left alone until an hour after the last flap.
    assert joined[:2] == [30, 70]
    assert joined[2] >= 470 + 3600
    assert len(joined) == 3
    assert not [run for run in engine.runs.values()
                if run.workers == ("w1",) and now + 100 <= run.start_s < now + 4070]  # fmt: skip


class BlackHole(SimEngine):
    """A worker that is up loses all that it is given."""

    hole = "w1"

    def start(self, order: Order) -> None:
        """Begin a run, which may be over at once."""
        super().start(order)
        if self.hole in order.workers:
            run = self.runs[order.key]
            run.end_s, run.cause = self.clock, "died"


def test_a_worker_that_loses_all_it_is_given_gets_no_more(tmp_path: Path) -> None:
    """Free as it always is, it would draw task after task until each had been lost too often."""
    request = batch(4, tasks=90, workers=2)
    engine = engine_for(request, 4, Faults(), BlackHole)
    options = Options(banned_s=100_000)
    master = master_of(
        State(tmp_path / "m.db"), engine, request, QUICK, ask=quick_plan, options=options
    )
    drive(master)
    check_truth(engine, request, master)
    assert facts(master)["completed"] == 90
    rounds = {row.ordered_s for row in master.orders.values() if row.state == "void"}
    assert len(rounds) == options.strikes

"""Promises allow for what an engine takes from an order to its start."""

from __future__ import annotations

from pathlib import Path

from plancast.pipelines.engines.base import Order
from plancast.pipelines.engines.sim import SimEngine
from plancast.pipelines.master.leads import ENOUGH, Leads
from tests.pipelines.master.test_living import Town


class Slow(SimEngine):
    """A run begins some seconds after its order, as on Slurm."""

    def start(self, order: Order) -> None:
        """Begin it later."""
        begin = super().start
        self._at(self.clock + 3 + len(self.runs) % 3, lambda: begin(order))


def test_promises_allow_for_how_long_runs_take_to_begin(tmp_path: Path) -> None:
    """On an idle cluster every promise would be broken, by seconds."""
    town = Town(tmp_path / "m.db", engine_kind=Slow)
    for wave in range(8):
        town.submit(*({"id": f"t{wave}-{k}"} for k in range(5)))
        town.finish()
    assert 4 <= town.master.leads.delay_s <= 6
    found = town.looks.status()["promises"]
    assert found["kept"] + found["broken"] == 40
    # The first wave is promised before anything is known of this engine, the second by it alone.
    assert found["broken"] <= 10
    # What the books say while it runs is what they say afterwards.
    town.submit({"id": "last"})
    while "last" not in town.master.open or town.master.open["last"].start_s is None:
        town.step()
    at_s = town.master.submitted.row("last").start_s
    town.finish()
    assert town.master.submitted.row("last").start_s == at_s
    town.kill()


def test_what_is_usual_counts_until_enough_is_known() -> None:
    """One quick start would shorten all promises; one slow one, much later, lengthen them."""
    leads = Leads(5)
    assert leads.promised(100, 100) == 105
    for _ in range(ENOUGH - 1):
        leads.began(1)
    assert leads.delay_s == 5
    leads.began(1)
    assert leads.delay_s == 1
    leads.began(600)
    assert leads.delay_s == 1
    assert Leads(2, stretch=1.5).promised(100, 110) == 100 + 15 + 2
    assert Leads(2, delays=[9]).delay_s == 9

"""One worker with several resources, tasks with modes, makespan alone: lists and modes annealed."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.graph import priority_order, successors
from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Ints, Schedule
from plancast.planner.model.messages import Budget
from plancast.planner.solvers.base import Observe
from plancast.planner.solvers.makespan.activity_lists import Project as Activities
from plancast.planner.solvers.makespan.activity_lists import justify
from plancast.planner.solvers.makespan.list_search import ListSearch, Settings
from plancast.planner.solvers.makespan.mode_lists import Ways, anneal_in_modes, take
from plancast.planner.solvers.makespan.prover import Prover, affordable_exactly
from plancast.planner.solvers.mode_rules import affordable, scores

RULES = (0.25, 0.0, 1.0, 4.0)
"""Weights of ``mode_rules.scores`` for the modes that rounds start from, in turn."""
JITTER = 0.25
"""By how much a score counts more or less by chance in later rounds."""
FIRST_PRICE = 0.5
"""What it first counts, in mean durations, to take a usual difference too much of a budget."""
AFFORD_S = 1.0
"""Most seconds for an exact choice where the rules find none within the budgets."""


class ModeSearch(ListSearch):
    """As ``ListSearch``, over the modes as well.

    Parameters
    ----------
    settings : Settings
    choices : Choices
        A multi-mode project (``recognise.is_multimode_project``).
    rows : Activities
        Its ways as activities.
    rng, incumbent, observe
        As in ``ListSearch``.

    Notes
    -----
    Every schedule that is entered keeps to the budgets, from the first on: by rule, and where
    rules fail by an exact choice of modes alone.
    """

    growth = 1.5

    def __init__(
        self,
        settings: Settings,
        choices: Choices,
        rows: Activities,
        rng: np.random.Generator,
        incumbent: Schedule | None,
        observe: Observe | None,
    ) -> None:
        base, tasks = choices.relaxed, len(choices.tasks)
        longest = np.maximum.reduceat(rows.duration, choices.ptr[:-1])
        succ_ptr, succ = successors(base.pred_ptr, base.pred)
        activities = rows._replace(
            duration=longest.copy(), release=base.release, demand=np.zeros(tasks, np.int64),
            pred_ptr=base.pred_ptr, pred=base.pred, succ_ptr=succ_ptr, succ=succ,
        )  # fmt: skip
        super().__init__(settings, base, activities, rng, incumbent, observe)
        self.choices, self.rows = choices, rows
        self.ways = ways_of(choices, rows)
        self.after = self.tail.astype(np.int64) - base.shortest
        self.mean_s = float(rows.duration.mean())
        self.rounds = 0
        self.chosen: Ints | None = None if incumbent is None else incumbent.mode
        self.used = np.zeros(len(choices.left), np.int64)

    def run(self, budget: Budget, began: float) -> None:
        """See ``ListSearch.run``; nothing is found where no choice within the budgets is."""
        if self._choose(budget.seconds) is not None:
            super().run(budget, began)

    def _choose(self, seconds: float | None = None) -> Ints | None:
        """The modes that the next round starts from."""
        score = scores(self.choices, RULES[self.rounds % len(RULES)])
        if self.rounds:
            score = score * self.rng.uniform(1 - JITTER, 1 + JITTER, len(score))
        found = affordable(self.choices, score)
        if found is None and self.best is not None:
            found = self.best.mode
        if found is None:
            limit_s = AFFORD_S if seconds is None else min(AFFORD_S, seconds / 4)
            found = affordable_exactly(self.choices, score, limit_s)
        return found

    def _prover(self, decide: bool) -> Prover:
        return Prover(self.choices.base, self.lower_s, self.seed(), decide, self.choices)

    def _another(self) -> ModeSearch:
        rng = self.rng.spawn(1)[0]
        return ModeSearch(self.settings, self.choices, self.rows, rng, self.best, None)

    def _round_s(self, limit_s: float) -> float:
        return self.settings.round_s

    def _begin_round(self, bias: float) -> None:
        """A new list by longest tail, in modes by rule; both by chance with a bias."""
        factor = self.rng.random(len(self.tail)) ** bias
        self.order = priority_order(
            -(self.tail + 1.0) * factor, self.problem.pred_ptr, self.problem.pred
        )
        chosen = self._choose()
        assert chosen is not None  # ``run`` found one
        self.chosen = chosen.copy()
        self.rounds += 1
        self.current = np.array([np.inf, float(self.upper_s), FIRST_PRICE * self.mean_s, 0.0])
        take(self.ways, self.activities, self.used, self.chosen)
        justify(self.activities, self.room, self.order)
        found = self._of_modes(self.order, self.chosen)
        self.enter(found)
        self.champion, self.champion_modes = self.order.copy(), self.chosen.copy()
        self.order = np.argsort(-found.end, kind="stable")

    def _anneal(self, share: float, lists: int) -> None:
        settings = self.settings
        heat = self.mean_s * settings.hot * (settings.cold / settings.hot) ** share
        self.current[1] = self.upper_s
        makespan = anneal_in_modes(
            self.activities, self.ways, self.room, self.after, self.order, self.chosen,
            self.current, self.champion, self.champion_modes, lists, heat, self.seed(),
        )  # fmt: skip
        self.steps += lists
        if makespan < self.upper_s:
            self.enter(self._of_modes(self.champion, self.champion_modes))

    def _of_modes(self, order: Ints, chosen: Ints) -> Schedule:
        take(self.ways, self.activities, self.used, chosen)
        found = self._schedule(order)
        return Schedule(found.start, found.end, found.worker, chosen.copy())


def ways_of(choices: Choices, rows: Activities) -> Ways:
    """The modes as the kernel takes them."""
    starts = choices.ptr[:-1]
    differ = np.maximum.reduceat(choices.consumed, starts) - np.minimum.reduceat(
        choices.consumed, starts
    )
    usual = np.maximum(1.0, differ.mean(axis=0))
    return Ways(choices.ptr, rows.duration, rows.demand, choices.consumed, choices.left, usual)

"""What a cell of a backtest is: a dispatcher, where its estimates come from, and a seed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from plancast.pipelines.backtest.records import TRANSFORMS
from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.node_replay import NODE_DISPATCHERS

ESTIMATES = ("requested", "last_two", "model", "oracle")
"""Where estimates come from."""


@dataclass(frozen=True)
class Estimate:
    """Where a cell's estimates come from.

    Parameters
    ----------
    kind : str
        Of ``ESTIMATES``.
    level : float
        Quantile of a model's forecast that a backfilling reserves.
    sigma : float
        Log error of a noisy oracle.
    transform : str
        Of ``TRANSFORMS``: what a model's forecasts are turned into; empty: nothing.
    """

    kind: str
    level: float = 0.5
    sigma: float = 0.0
    transform: str = ""

    @property
    def name(self) -> str:
        """As it is written on the command line."""
        if self.transform:
            return f"{self.kind}~{self.transform}"
        if self.kind == "model" and self.level != 0.5:
            return f"model:{self.level:g}"
        return f"oracle:{self.sigma:g}" if self.sigma else self.kind


def parse_estimates(text: str) -> Estimate:
    """An estimate as it is written.

    ``requested``, ``last_two``, ``model[:LEVEL]``, ``model~TRANSFORM``, ``oracle[:SIGMA]``.

    Raises
    ------
    BadRequest
        Where it is none of these.
    """
    base, tilde, transform = text.partition("~")
    if tilde and base == "model" and transform in TRANSFORMS:
        return Estimate("model", transform=transform)
    kind, colon, number = text.partition(":")
    if kind in ESTIMATES and not colon:
        return Estimate(kind)
    if re.fullmatch(r"\d*\.?\d+", number):
        value = float(number)
        if kind == "model" and 0 < value < 1:
            return Estimate(kind, level=value)
        if kind == "oracle" and value <= 5:
            return Estimate(kind, sigma=value)
    raise BadRequest(
        f"--estimates {text!r}: write requested, last_two, model, model:LEVEL with a level in "
        f"(0, 1), model~TRANSFORM ({', '.join(TRANSFORMS)}), oracle or oracle:SIGMA with a log "
        "error of at most 5"
    )


@dataclass(frozen=True)
class Cell:
    """One replay of the grid."""

    dispatcher: str
    estimate: Estimate
    seed: int = 0


def cells_of(
    dispatchers: Sequence[str],
    estimates: Sequence[Estimate],
    seeds: Sequence[int],
    *,
    failures: bool = False,
    nodes: bool = False,
) -> list[Cell]:
    """The grid without repetitions.

    Seeds matter to noise and to `failures` alone, and some disciplines are defined with
    estimates of their own. On `nodes` those that look at no estimates have a cell each.
    """
    found: dict[Cell, None] = {}
    for name in dispatchers:
        if nodes:
            found.update(dict.fromkeys(_on_nodes(name, estimates, seeds)))
            continue
        if name not in DISPATCHERS:
            raise BadRequest(f"--dispatchers {name!r}: is none of {', '.join(DISPATCHERS)}")
        own = DISPATCHERS[name].estimates
        for estimate in [Estimate(own)] if own else estimates:
            for seed in seeds if estimate.sigma > 0 or failures else seeds[:1]:
                found[Cell(name, estimate, seed)] = None
    return list(found)


def _on_nodes(name: str, estimates: Sequence[Estimate], seeds: Sequence[int]) -> Iterator[Cell]:
    if name not in NODE_DISPATCHERS:
        raise BadRequest(
            f"--dispatchers {name!r}: with --cluster it is one of {', '.join(NODE_DISPATCHERS)}"
        )
    looks = NODE_DISPATCHERS[name].forecasts
    for estimate in estimates if looks else estimates[:1]:
        for seed in seeds if looks and estimate.sigma > 0 else seeds[:1]:
            yield Cell(name, estimate, seed)

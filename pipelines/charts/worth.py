"""Charts of what forecasts are worth: regret, terms of the cost, policies, waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from plancast.pipelines.charts.drawing import Drawing, drawing, rows
from plancast.pipelines.charts.theme import COLOURS, GREY

HEIGHT = 260


def regrets(
    batches: Sequence[Mapping[str, float]], summary: Mapping[str, tuple[float, float, float]]
) -> Drawing:
    """Regret of each kind of estimate: of every batch, and over all with its interval.

    Parameters
    ----------
    batches : sequence of mapping
        For each batch, kind to regret.
    summary : mapping
        Kind to (regret, low, high) over all batches.
    """
    points = [
        {
            "name": kind,
            "batch": f"batch {k}",
            "regret": round(value, 4),
            "spread": (k * 7 % 11) / 11,
        }
        for k, batch in enumerate(batches, 1)
        for kind, value in batch.items()
    ]
    whole: list[dict[str, Any]] = [{"name": kind, "regret": mean, "low": low, "high": high}
             for kind, (mean, low, high) in summary.items()]  # fmt: skip
    kinds = [row["name"] for row in sorted(whole, key=lambda row: row["regret"])]
    y = alt.Y("name:N", title=None, sort=kinds, axis=alt.Axis(ticks=False, labelLimit=190))
    x = alt.X("regret:Q", title="cost over that of true run times",
              axis=alt.Axis(format="+%", tickCount=5))  # fmt: skip
    hover = alt.selection_point(name="batch", fields=["batch"], on="click", clear="dblclick")
    dots = alt.Chart(rows("batches")).mark_circle(size=42).encode(
        x=x, y=y, yOffset=alt.YOffset("spread:Q", scale=alt.Scale(domain=[-1, 2])),
        color=alt.value(COLOURS[0]),
        opacity=alt.condition(hover, alt.value(0.6), alt.value(0.08)),
        tooltip=[alt.Tooltip("name:N", title="estimates"), alt.Tooltip("batch:N"),
                 alt.Tooltip("regret:Q", format="+.1%")],
    ).add_params(hover)  # fmt: skip
    tips = [alt.Tooltip("name:N", title="estimates"), alt.Tooltip("regret:Q", format="+.1%"),
            alt.Tooltip("low:Q", title="95% from", format="+.1%"),
            alt.Tooltip("high:Q", title="to", format="+.1%")]  # fmt: skip
    base = alt.Chart(rows("whole"))
    bars = base.mark_rule(strokeWidth=3, color=COLOURS[5]).encode(
        x=alt.X("low:Q"), x2="high:Q", y=y, tooltip=tips
    )
    means = base.mark_point(shape="diamond", filled=True, size=120, color=COLOURS[5], opacity=1)
    chart = alt.layer(dots, bars, means.encode(x=x, y=y, tooltip=tips))
    height = max(120, 46 * len(kinds))
    return drawing(chart.properties(height=height), batches=points, whole=whole)


def terms(priced: Mapping[str, Mapping[str, float]]) -> Drawing:
    """What each kind's plans cost, term by term.

    Parameters
    ----------
    priced : mapping
        Kind to price times amount by term, the mean over the batches.
    """
    names = [t for t in next(iter(priced.values()))
             if any(by_term[t] for by_term in priced.values())]  # fmt: skip
    values = [{"name": kind, "term": t, "cost": round(by_term[t], 4)}
              for kind, by_term in priced.items() for t in names]  # fmt: skip
    totals = {kind: sum(by_term.values()) for kind, by_term in priced.items()}
    kinds = sorted(totals, key=lambda kind: totals[kind])
    chart = alt.Chart(rows("terms")).mark_bar(height=20).encode(
        y=alt.Y("name:N", title=None, sort=kinds, axis=alt.Axis(ticks=False, labelLimit=190)),
        x=alt.X("cost:Q", title="mean realised cost of a batch", stack="zero",
                axis=alt.Axis(tickCount=5)),
        color=alt.Color("term:N", title=None, sort=names, legend=alt.Legend(columns=4),
                        scale=alt.Scale(domain=names, range=list(COLOURS[: len(names)]))),
        tooltip=[alt.Tooltip("name:N", title="estimates"), alt.Tooltip("term:N"),
                 alt.Tooltip("cost:Q", format=",.2f")],
    )  # fmt: skip
    return drawing(chart.properties(height=max(100, 34 * len(kinds))), terms=values)


def policies(found: Mapping[str, tuple[float, float, float]], baseline: str) -> Drawing:
    """Cost of each way of planning against the baseline, with its interval.

    Parameters
    ----------
    found : mapping
        Way to (mean, low, high), as shares of the baseline's cost.
    baseline : str
        Its name, in people's words.
    """
    kinds = ["cheaper", "no difference shown", "costlier"]
    values: list[dict[str, Any]] = [{"name": name, "mean": mean, "low": low, "high": high,
               "proven": kinds[0] if high < 0 else kinds[2] if low > 0 else kinds[1]}
              for name, (mean, low, high) in found.items()]  # fmt: skip
    values.sort(key=lambda row: row["mean"])
    y = alt.Y("name:N", title=None, sort=[row["name"] for row in values],
              axis=alt.Axis(ticks=False, labelLimit=190))  # fmt: skip
    tips = [alt.Tooltip("name:N", title="way"), alt.Tooltip("mean:Q", format="+.1%"),
            alt.Tooltip("low:Q", title="95% from", format="+.1%"),
            alt.Tooltip("high:Q", title="to", format="+.1%"), alt.Tooltip("proven:N")]  # fmt: skip
    colour = alt.Color("proven:N", title=None, sort=kinds, scale=alt.Scale(
        domain=kinds, range=[COLOURS[2], GREY, COLOURS[5]]),
        legend=alt.Legend(columns=3))  # fmt: skip
    x = alt.X("low:Q", title=f"cost against {baseline}", axis=alt.Axis(format="+%", tickCount=5))
    base = alt.Chart(rows("ways"))
    bars = base.mark_rule(strokeWidth=3).encode(x=x, x2="high:Q", y=y, color=colour, tooltip=tips)
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=alt.X("mean:Q"), y=y, color=colour, tooltip=tips
    )
    zero = alt.Chart(rows("zero")).mark_rule(strokeDash=[4, 4]).encode(x=alt.X("at:Q"))
    chart = alt.layer(zero, bars, dots).properties(height=max(120, 22 * len(values)))
    return drawing(chart, ways=values, zero=[{"at": 0}])


def distribution(
    replays: Sequence[Mapping[str, Any]], key: str, shares: Sequence[float], title: str,
    *, least: float, floor: str, scale: float = 1.0,
) -> Drawing:  # fmt: skip
    """How a number is spread over the jobs, for each way of dispatching.

    Parameters
    ----------
    replays : sequence of mapping
        With ``name`` and, under `key`, the number at each of `shares` of the jobs.
    key : str
    shares : sequence of float
    title : str
        The number, with its unit after division by `scale`.
    least : float
        Where the logarithmic axis begins; what is smaller lies there.
    floor : str
        What is written there.
    """
    values = [
        {"name": one["name"], "share": share, "value": round(max(v / scale, least), 4)}
        for one in replays
        for share, v in zip(shares, one[key], strict=True)
        if share < 1
    ]
    names = [one["name"] for one in replays]
    picked = alt.selection_point(name=f"picked_{key}", fields=["name"], bind="legend")
    chart = (
        alt.Chart(rows("spread"))
        .mark_line(strokeWidth=2.2, interpolate="monotone")
        .encode(
            x=alt.X("value:Q", title=title, scale=alt.Scale(type="log", nice=False),
                    axis=alt.Axis(values=[least, *(10.0**k for k in range(7) if 10**k > least)],
                                  labelExpr=f"datum.value <= {least} ? '{floor}' : "
                                  "format(datum.value, ',~g')")),
            y=alt.Y("share:Q", title="share of jobs below", axis=alt.Axis(format="%", tickCount=5)),
            color=alt.Color("name:N", title=None, sort=names,
                            legend=alt.Legend(columns=1, labelLimit=280, symbolType="stroke"),
                            scale=alt.Scale(domain=names, range=[GREY, *COLOURS[1:4]])),
            opacity=alt.condition(picked, alt.value(1), alt.value(0.12)),
            tooltip=[alt.Tooltip("name:N", title="way"),
                     alt.Tooltip("share:Q", title="of the jobs", format=".0%"),
                     alt.Tooltip("value:Q", title=f"below, {title}", format=",.3~g")],
        )
        .add_params(picked)
    )  # fmt: skip
    return drawing(chart.properties(height=HEIGHT), spread=values)

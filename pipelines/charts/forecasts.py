"""Charts of how good forecasts are: calibration, errors by group, forecast against truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from plancast.pipelines.charts.drawing import Drawing, drawing, rows
from plancast.pipelines.charts.theme import COLOURS, FURTHER, GREY

HEIGHT = 260
LEAST_JOBS = 20
"""Jobs of a user, queue or size, below which an error says little."""
MOST_GROUPS = 12
FACTOR = "typical factor between forecast and run time"
BINS_A_DECADE = 8


def factor(log2_error: float) -> float:
    """A typical |log2(forecast / run time)| as a factor: 1 is exact, 2 half or double."""
    return float(2.0**log2_error)


def _highlighted(name: str, first: str) -> tuple[Any, Any]:
    """A choice by the legend, and the opacity that goes with it."""
    picked = alt.selection_point(name=name, fields=["name"], bind="legend")
    main = f"datum.name == '{first}' && !length(data('{name}_store'))"
    opacity = alt.OpacityValue(0.14, condition=[
        {"test": f"length(data('{name}_store')) && indexof({name}.name, datum.name) >= 0",
         "value": 1},
        {"test": main, "value": 1},
        {"test": f"!length(data('{name}_store'))", "value": 0.55}])  # fmt: skip
    return picked, opacity


def _names(values: Sequence[Mapping[str, Any]], symbol: str = "stroke") -> Any:
    """A colour for each name in order of appearance; beyond fourteen grey.

    A `symbol` of the legend that is a stroke has no colour where the marks are points alone.
    """
    names = list(dict.fromkeys(row["name"] for row in values))
    own = [*COLOURS[:-1], *FURTHER]
    colours = [*own[: len(names)], *[GREY] * (len(names) - len(own))]
    return alt.Color("name:N", title=None, sort=names,
                     scale=alt.Scale(domain=names, range=colours),
                     legend=alt.Legend(columns=4, symbolType=symbol))  # fmt: skip


def reliability(coverage: Mapping[str, Mapping[float, float]], main: str = "model") -> Drawing:
    """Share of jobs that ended by each quantile against the share that should have.

    Parameters
    ----------
    coverage : mapping
        Estimator to share of jobs by level.
    main : str
        The estimator that stands out until another is chosen.
    """
    values = [
        {"name": name, "level": level, "share": round(share, 4)}
        for name, by_level in coverage.items()
        for level, share in by_level.items()
        if math.isfinite(share)
    ]
    values.sort(key=lambda row: row["name"] != main)
    picked, opacity = _highlighted("picked_quantiles", main)
    unit = alt.Scale(domain=[0, 1])
    x = alt.X("level:Q", title="quantile", scale=unit, axis=alt.Axis(format="%", tickCount=5))
    y = alt.Y("share:Q", title="jobs that ended by it", scale=unit,
              axis=alt.Axis(format="%", tickCount=5))  # fmt: skip
    exact = alt.Chart(rows("exact")).mark_line(strokeDash=[4, 4], color=GREY).encode(x=x, y=y)
    base = alt.Chart(rows("coverage")).encode(
        x=x, y=y, color=_names(values), opacity=opacity,
        tooltip=[alt.Tooltip("name:N", title="estimator"),
                 alt.Tooltip("level:Q", title="quantile", format=".0%"),
                 alt.Tooltip("share:Q", title="ended by it", format=".1%")],
    )  # fmt: skip
    chart = alt.layer(exact, base.mark_line(strokeWidth=2.4).add_params(picked),
                      base.mark_point(filled=True, size=55))  # fmt: skip
    return drawing(chart.properties(height=HEIGHT), coverage=values,
                   exact=[{"level": 0, "share": 0}, {"level": 1, "share": 1}])  # fmt: skip


def log2_errors(run_s: Any, forecast_s: Any) -> Any:
    """|log2(forecast / run time)| of each job."""
    return np.abs(np.log2(np.maximum(forecast_s, 1e-9) / run_s))


def errors_by(
    jobs: pd.DataFrame, group: pd.Series, names: Sequence[str], title: str, *, ordered: bool
) -> Drawing:
    """Typical factor of each estimator in each group of jobs.

    Parameters
    ----------
    jobs : DataFrame
        With ``run_s`` and a column of median forecasts for each of `names`, seconds.
    group : Series
        Of each job; jobs without one are left out.
    names : sequence of str
        The first stands out.
    title : str
        What the groups are.
    ordered : bool
        Whether groups have an order of their own: lines over time or size; else bars, the
        largest groups.
    """
    values = []
    known = group[group.notna() & (group.astype(str) != "")]
    sizes = known.value_counts()
    kept = sizes[sizes >= LEAST_JOBS].index[:MOST_GROUPS] if not ordered else sizes.index
    order = (
        [one for one in group.cat.categories if sizes.get(one, 0)]
        if isinstance(group.dtype, pd.CategoricalDtype)
        else sorted(kept) if ordered else list(kept)
    )  # fmt: skip
    for name in names:
        error = pd.Series(log2_errors(jobs["run_s"], jobs[name]), jobs.index)
        median = error.loc[known.index].groupby(known, observed=True).median()
        values += [
            {"name": name, "group": str(one), "rank": k, "jobs": int(sizes[one]),
             "factor": round(factor(median[one]), 3)}
            for k, one in enumerate(order)
        ]  # fmt: skip
    picked, opacity = _highlighted("picked_errors", names[0])
    tips = [alt.Tooltip("name:N", title="estimator"), alt.Tooltip("group:N", title=title),
            alt.Tooltip("factor:Q", title="typical factor", format=".2f"),
            alt.Tooltip("jobs:Q", format=",")]  # fmt: skip
    labels = [str(one) for one in order]
    scale = alt.Scale(type="log", nice=True)
    base = alt.Chart(rows("errors"))
    if ordered:
        base = base.encode(
            x=alt.X("group:O", title=title, sort=labels,
                    axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("factor:Q", title=FACTOR, scale=scale),
            color=_names(values), opacity=opacity, tooltip=tips,
        )  # fmt: skip
        chart = alt.layer(base.mark_line(strokeWidth=2.2).add_params(picked),
                          base.mark_point(filled=True, size=45))  # fmt: skip
        return drawing(chart.properties(height=HEIGHT), errors=values)
    base = base.encode(
        y=alt.Y("group:N", title=None, sort=labels, axis=alt.Axis(labelLimit=110, ticks=False)),
        x=alt.X("factor:Q", title=FACTOR, scale=scale), color=_names(values, "circle"),
        opacity=opacity, tooltip=tips,
    )  # fmt: skip
    chart = base.mark_point(filled=True, size=90).add_params(picked)
    return drawing(chart.properties(height=max(120, 22 * len(labels))), errors=values)


def by_decade(error: Mapping[str, Mapping[int, float]]) -> Drawing:
    """Typical factor by run time.

    Parameters
    ----------
    error : mapping
        Estimator to median |log2(forecast / run time)| by k, for run times from 10^k to
        10^(k + 1) s.
    """
    values = [
        {"name": name, "decade": f"1e{k} s", "rank": k, "factor": round(factor(one), 3)}
        for name, by_k in error.items()
        for k, one in by_k.items()
        if math.isfinite(one)
    ]
    base = alt.Chart(rows("decades")).encode(
        x=alt.X("decade:O", title="run time, from", sort=alt.SortField("rank"),
                axis=alt.Axis(labelAngle=0)),
        y=alt.Y("factor:Q", title=FACTOR, scale=alt.Scale(type="log")), color=_names(values),
        tooltip=[alt.Tooltip("name:N", title="estimator"), alt.Tooltip("decade:N"),
                 alt.Tooltip("factor:Q", title="typical factor", format=".2f")],
    )  # fmt: skip
    chart = alt.layer(base.mark_line(strokeWidth=2.2), base.mark_point(filled=True, size=45))
    return drawing(chart.properties(height=HEIGHT), decades=values)


def unpredictable(jobs: pd.DataFrame, user: pd.Series, name: str = "model") -> Drawing:
    """The users whose jobs are forecast worst, with the middle half of their errors."""
    ratio = pd.Series(np.log2(np.maximum(jobs[name], 1e-9) / jobs["run_s"]), jobs.index)
    known = user[user.notna() & (user.astype(str) != "")]
    found = ratio.loc[known.index].groupby(known).quantile([0.25, 0.5, 0.75]).unstack()
    found["jobs"] = known.value_counts()
    found["typical"] = ratio.loc[known.index].abs().groupby(known).median()
    found = found[found["jobs"] >= LEAST_JOBS].sort_values("typical", ascending=False)
    values = [
        {"user": str(one), "jobs": int(row["jobs"]), "factor": round(factor(row["typical"]), 2),
         "low": round(2.0 ** row[0.25], 4), "middle": round(2.0 ** row[0.5], 4),
         "high": round(2.0 ** row[0.75], 4)}
        for one, row in found.head(MOST_GROUPS).iterrows()
    ]  # fmt: skip
    order = [row["user"] for row in values]
    y = alt.Y("user:N", title=None, sort=order, axis=alt.Axis(labelLimit=110, ticks=False))
    x = alt.X("low:Q", title="forecast over run time (1: exact)",
              scale=alt.Scale(type="log"), axis=alt.Axis(tickCount=5))  # fmt: skip
    tips = [alt.Tooltip("user:N"), alt.Tooltip("jobs:Q", format=","),
            alt.Tooltip("factor:Q", title="typical factor"),
            alt.Tooltip("low:Q", title="a quarter below", format=".2f"),
            alt.Tooltip("high:Q", title="a quarter above", format=".2f")]  # fmt: skip
    base = alt.Chart(rows("users"))
    spread = base.mark_bar(height=9, opacity=0.45, color=COLOURS[0], cornerRadius=3).encode(
        x=x, x2="high:Q", y=y, tooltip=tips
    )
    middle = base.mark_tick(thickness=3, height=15, color=COLOURS[0]).encode(
        x=alt.X("middle:Q", scale=alt.Scale(type="log")), y=y, tooltip=tips
    )
    exact = alt.Chart(rows("exact")).mark_rule(strokeDash=[4, 4]).encode(x="at:Q")
    chart = alt.layer(exact, spread, middle).properties(height=max(120, 22 * len(order)))
    return drawing(chart, users=values, exact=[{"at": 1}])


def against_truth(jobs: pd.DataFrame, names: Sequence[str]) -> Drawing:
    """Forecast against run time, both logarithmic: how many jobs lie where."""
    values = []
    truth = np.floor(np.log10(np.maximum(jobs["run_s"], 1)) * BINS_A_DECADE).astype(int)
    for name in names:
        said = np.floor(np.log10(np.maximum(jobs[name], 1)) * BINS_A_DECADE).astype(int)
        counts = pd.DataFrame({"x": truth, "y": said}).value_counts()
        values += [
            {"name": name, "x": _edge(x), "x2": _edge(x + 1), "y": _edge(y), "y2": _edge(y + 1),
             "jobs": int(count)}
            for (x, y), count in counts.items()
        ]  # fmt: skip
    choice = alt.binding_select(options=list(names), name="Estimator ")
    shown = alt.param(name="estimator", value=names[0], bind=choice)
    top = _edge(max(int(truth.max()) + 1, BINS_A_DECADE))
    scale = alt.Scale(type="log", domain=[1, top], nice=False, clamp=True)
    axis = alt.Axis(values=list(DURATIONS), labelExpr=DURATION_LABELS, labelOverlap=True)
    cells = (
        alt.Chart(rows("cells"))
        .transform_filter("datum.name == estimator")
        .mark_rect(clip=True)
        .encode(
            x=alt.X("x:Q", title="run time", scale=scale, axis=axis), x2="x2:Q",
            y=alt.Y("y:Q", title="forecast", scale=scale, axis=axis), y2="y2:Q",
            color=alt.Color("jobs:Q", title="jobs", scale=alt.Scale(type="log", scheme="viridis"),
                            legend=alt.Legend(orient="right", gradientLength=120, tickCount=4)),
            tooltip=[alt.Tooltip("jobs:Q", format=","),
                     alt.Tooltip("x:Q", title="run time from, s", format=",.0f"),
                     alt.Tooltip("y:Q", title="forecast from, s", format=",.0f")],
        )
        .add_params(shown)
    )  # fmt: skip
    exact = alt.Chart(rows("exact")).mark_line(strokeDash=[4, 4], color=GREY).encode(
        x=alt.X("at:Q", scale=scale), y=alt.Y("at:Q", scale=scale)
    )  # fmt: skip
    chart = alt.layer(cells, exact).properties(height=HEIGHT + 40)
    return drawing(chart, cells=values, exact=[{"at": 1}, {"at": top}])


DURATIONS = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36_000: "10 h",
             86_400: "1 d", 864_000: "10 d"}  # fmt: skip
DURATION_LABELS = str({str(k): v for k, v in DURATIONS.items()}) + "[datum.value]"


def _edge(step: int) -> float:
    return float(round(10.0 ** (step / BINS_A_DECADE), 2))


def importances(shares: Mapping[str, float]) -> Drawing:
    """What the model looks at: share of each feature in the gain of all trees."""
    values = [{"name": name, "share": round(share, 4)} for name, share in shares.items()]
    values = values[:MOST_GROUPS]
    base = alt.Chart(rows("features")).encode(
        y=alt.Y("name:N", title=None, sort=[row["name"] for row in values],
                axis=alt.Axis(labelLimit=170, ticks=False)),
        x=alt.X("share:Q", title="share of the trees' gain",
                axis=alt.Axis(format="%", tickCount=4)),
        tooltip=[alt.Tooltip("name:N", title="feature"),
                 alt.Tooltip("share:Q", format=".1%")],
    )  # fmt: skip
    chart = base.mark_bar(color=COLOURS[0], cornerRadiusEnd=3, height=12)
    return drawing(chart.properties(height=max(80, 21 * len(values))), features=values)


def ranking(values: Mapping[str, float], title: str, *, main: str = "model") -> Drawing:
    """Estimators by one number, the least first; those alike in the figures shown are tied."""
    found: list[dict[str, Any]] = [
        {"name": name, "value": round(v, 4)} for name, v in values.items() if math.isfinite(v)
    ]
    found.sort(key=lambda row: row["value"])
    for row in found:
        row["words"] = f"{row['value']:,.3g}"
    ties = [row for row in found if row["words"] == found[0]["words"]]
    for row in ties if len(ties) > 1 else ():
        row["words"] += ", tied"
    base = alt.Chart(rows("values")).encode(
        y=alt.Y("name:N", title=None, sort=[row["name"] for row in found],
                axis=alt.Axis(ticks=False, labelLimit=130)),
        x=alt.X("value:Q", title=title, axis=alt.Axis(tickCount=5)),
        tooltip=[alt.Tooltip("name:N", title="estimator"),
                 alt.Tooltip("value:Q", title=title, format=",.4g")],
    )  # fmt: skip
    bars = base.mark_bar(cornerRadiusEnd=3, height=13).encode(
        color=alt.condition(f"datum.name == '{main}'", alt.value(COLOURS[0]), alt.value(GREY))
    )
    words = base.mark_text(align="left", dx=5, fontSize=11).encode(text="words:N")
    return drawing(alt.layer(bars, words).properties(height=max(80, 23 * len(found))), values=found)

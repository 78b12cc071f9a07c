"""model.labels: which workers a label expression lets a task use; and the judge's own reading."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.planner.model.domain import BadRequest, Task, Worker
from plancast.planner.model.judge_placement import meets_labels
from plancast.planner.model.labels import alternatives, conjuncts

LABELS = ("gpu", "rack1", "rack2", "a=b/c.d-1")
WORKERS = [
    Worker("w", {"cpu": 1}, frozenset(label for k, label in enumerate(LABELS) if bits >> k & 1))
    for bits in range(1 << len(LABELS))
]

expressions = st.recursive(
    st.sampled_from(LABELS),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&", " & ", ",", " "]), inner).map(
            lambda p: f"({p[0]}{p[1]}{p[2]})"
        ),
        st.tuples(inner, inner).map(lambda p: f"({p[0]} |{p[1]})"),
        inner.map(lambda e: f"! {e}"),
    ),
    max_leaves=6,
)


@given(expressions, st.sampled_from(["", " rack1|!gpu", "&[rack1 | (rack2&gpu)]"]))
def test_expressions_hold_where_python_says_so(text: str, more: str) -> None:
    """A task would run where its constraint forbids it, or the judge blame a good plan."""
    text += more
    task = Task("t", {}, requires=(text,))
    python = text.replace("[", "(").replace("]", ")")
    python = re.sub(r"(?<=[\w)])\s+(?=[\w(!])|\s*[&,]\s*", " and ", python)
    python = python.replace("a=b/c.d-1", "odd").replace("|", " or ").replace("!", " not ")
    if more.startswith(" "):
        python = python.replace(" and rack1 or  not gpu", " and (rack1 or not gpu)")
    for worker in WORKERS:
        names = {name.replace("a=b/c.d-1", "odd"): name in worker.labels for name in LABELS}
        wanted = eval(python, {"__builtins__": {}}, names)
        assert worker.satisfies(task.requires) == wanted, python
        assert meets_labels(task, worker) == wanted, python
        assert worker.satisfies(conjuncts(task.requires)) == wanted, conjuncts(task.requires)


@pytest.mark.parametrize(
    "text",
    [
        "a&&b",
        "(a",
        "a|b&c",
        "[a|b]|c",
        "![a]",
        "a*2",
        "a(b)",
        "(a)b",
        "[a][b]",
        "[a] [b]",
        "",
        "{a}",
    ],
)
def test_what_is_not_understood_is_refused_by_name(text: str) -> None:
    """A task would wait for a worker with a label of that name, forever."""
    with pytest.raises(BadRequest, match=r"task t: .*constraint"):
        Task("t", {}, requires=(text,))


def test_alternatives_are_found() -> None:
    """A gang would be spread over racks that its constraint keeps apart."""
    assert [str(a) for a in alternatives(("gpu&[rack1|(rack2&x)]",))] == ["rack1", "rack2&x"]
    assert alternatives(("gpu&(rack1|rack2)",)) == ()

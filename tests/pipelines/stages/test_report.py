"""plancast.pipelines.stages.report: one page that says what the stages found, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.stages.report import build_report
from plancast.planner.model.domain import BadRequest
from tests.pipelines.charts.opened import Opened
from tests.pipelines.conftest import SmallRun

VOID = {"meta", "br", "hr", "img", "link", "input"}

LEFT = ("ingest_facts", "train_facts", "trial_facts", "worth_facts", "request", "response",
        "executed", "forecasts")  # fmt: skip
"""What the stages before leave."""


class Page(HTMLParser):
    """Checks that every tag is closed in order, and collects texts and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.bold: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an opened tag and where it points to."""
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where it points to."""
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        """It must close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)
        if self.open[-1:] == ["b"]:
            self.bold.append(data)


@pytest.fixture
def home(small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the stages left, as the current directory."""
    for name in LEFT:
        path = small_run.path(name)
        target = tmp_path / path.relative_to(small_run.home)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copytree(small_run.path("model"), tmp_path / small_run.config.paths.model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(home: Path, path: Path, with_: Callable[[Any], None]) -> None:
    """Change a JSON file in place."""
    facts = json.loads((home / path).read_text())
    with_(facts)
    (home / path).write_text(json.dumps(facts))


def test_the_page_holds_the_figures(small_run: SmallRun) -> None:
    """The page would tell of another run, or leave out what it is for."""
    page = Page(small_run.path("report").read_text())
    text = " ".join(page.texts)
    for kind, found in small_run.facts["trial"]["kinds"].items():
        assert kind in page.texts
        assert f"{found['realised_cost']:,.1f}" in page.texts
        assert f"{found['regret']:+.1%}" in page.texts
    for name, found in small_run.facts["train"]["estimators"].items():
        assert name in page.texts
        assert f"{found['mae_s']:,.0f}" in page.texts
        assert f"{found['coverage_p90']:.1%}" in page.texts
    assert "600 jobs of 10 users on 32 processors" in text
    assert small_run.facts["ingest"]["findings"][0] in page.texts
    for task in small_run.read("request")["snapshot"]["pending"]:
        assert f'"task":"{task["id"]}"' in text


def test_people_of_all_screens_can_use_the_page(small_run: SmallRun, opened: Opened) -> None:
    """It would be blank offline or on a phone, tell others that it is read, or answer no click."""
    path = small_run.path("report")
    assert path.stat().st_size < 2_000_000
    for width, theme in ((400, "dark"), (1400, "light")):
        page = opened(path, width, theme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        drawn = page.locator(".chart svg.marks").all()
        assert len(drawn) == page.locator(".chart").count() > 8
        for chart in drawn:
            box = chart.bounding_box()
            assert box is not None
            assert 100 < box["width"] < width
    page.get_by_text("light / dark").click()
    page.evaluate("pending")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    cells = page.locator("#truth .mark-rect path").count()
    page.get_by_role("combobox").select_option("requested")
    assert page.locator("#truth .mark-rect path").count() != cells
    page.get_by_text("All figures of the batches").click()
    assert page.get_by_text("realised cost", exact=True).first.is_visible()
    assert opened.faults == []


def test_the_verdict_is_that_of_the_facts(small_run: SmallRun, home: Path) -> None:
    """The headline would claim a gain that the figures below it do not show."""
    path = small_run.config.paths.trial_facts

    def lose(facts: Any) -> None:
        facts["kinds"]["model_p50"] |= {
            "against_requested": 0.25, "against_requested_ci": [-0.125, 0.5], "regret": 0.75,
        }  # fmt: skip

    def wait_for_nothing(facts: Any) -> None:
        facts["batches_that_wait"] = 0

    change(home, path, lose)
    text = " ".join(Page(build_report(small_run.config, home / "page.html").read_text()).texts)
    assert "with the model's median they cost 25.0% more than with requested times" in text
    assert "(95%: -12.5% to +50.0%)" in text
    assert "would cost 42.9% less than these" in text
    change(home, path, wait_for_nothing)
    text = " ".join(Page(build_report(small_run.config, home / "page.html").read_text()).texts)
    assert "every plan is alike" in text


def test_names_from_a_log_are_text_and_no_markup(small_run: SmallRun, home: Path) -> None:
    """A job's name could put a script into a page that the operator opens."""
    evil = "<script>alert(1)</script>"

    def rename(facts: Any) -> None:
        facts["log"] = evil
        facts["acknowledge"] = evil
        facts["findings"].append(evil)

    def rename_task(facts: Any) -> None:
        facts["snapshot"]["pending"][0]["owner"] = evil
        facts["request_id"] = evil

    change(home, small_run.config.paths.ingest_facts, rename)
    change(home, small_run.config.paths.request, rename_task)
    text = build_report(small_run.config, home / "page.html").read_text()
    assert "<script>alert" not in text
    assert sum(evil in text for text in Page(text).texts) >= 3


@pytest.mark.parametrize("name", LEFT)
def test_a_missing_or_damaged_stage_is_named(name: str, small_run: SmallRun, home: Path) -> None:
    """Who runs `plancast report` too early would get a traceback, or half a page."""
    path: Path = getattr(small_run.config.paths, name)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"[]", None):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(BadRequest) as caught:
            build_report(small_run.config, home / "page.html")
        assert str(caught.value).startswith(f"{path}: ")
        assert not (home / "page.html").exists()

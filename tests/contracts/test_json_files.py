"""Every JSON file from outside: a byte-order mark is no fault, a key said twice and UTF-16 are."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.inputs.estimate_files import read_estimates
from plancast.pipelines.inputs.user_files import read_request, read_task_table
from plancast.pipelines.operators.slurm_queue import queue_of_files
from plancast.pipelines.stages.stage import read_facts
from plancast.planner.model.messages import to_json
from plancast.predictor.logs import read_log
from plancast.predictor.model_files import FORMAT, digest_of_card, read_card
from tests.oracles.random_requests import random_request
from tests.pipelines.operators.test_slurm_queue import JOBS, NODES

DATA = Path(__file__).parents[1] / "data"
SACCT = {"jobs": [{"job_id": 1, "time": {"submission": 5, "start": 6, "end": 9, "elapsed": 3}}]}
CARD: dict[str, Any] = {"format": FORMAT, "files": {}}


def _queue(path: Path) -> Any:
    nodes = path.with_name("nodes.json")
    nodes.write_text(json.dumps({"nodes": NODES}))
    return queue_of_files(path, nodes)


FILES: dict[str, tuple[str | bytes, Callable[[Path], Any]]] = {
    "tasks.json": ('[{"id": "a", "cpus": 2}]', read_task_table),
    "request.json": (to_json(random_request(0)), read_request),
    "estimates.json": ('{"a": {"*": {"levels": [0.5], "seconds": [5]}}}', read_estimates),
    "queue.json": (json.dumps({"jobs": JOBS}), _queue),
    "sacct.json": (json.dumps(SACCT), lambda path: read_log(path, "sacct")),
    "wf.json": ((DATA / "logs" / "small.wf.json").read_bytes(), read_log),
    "facts.json": ('{"a": 1}', read_facts),
    "card.json": (
        json.dumps({**CARD, "card_sha256": digest_of_card(CARD)}),
        lambda path: read_card(path.parent),
    ),
}


def _file(folder: Path, name: str) -> tuple[Path, bytes, Callable[[Path], Any]]:
    text, read = FILES[name]
    return folder / name, text if isinstance(text, bytes) else text.encode(), read


@pytest.mark.parametrize("name", FILES)
def test_a_byte_order_mark_is_no_fault(name: str, tmp_path: Path) -> None:
    """What an editor of Windows saved was 'not JSON'."""
    path, text, read = _file(tmp_path, name)
    path.write_bytes(codecs.BOM_UTF8 + text)
    read(path)


@pytest.mark.parametrize("name", FILES)
def test_a_key_said_twice_is_refused(name: str, tmp_path: Path) -> None:
    """The last of two was taken in silence."""
    path, text, read = _file(tmp_path, name)
    at = text.index(b"{") + 1
    end = text.index(b":", at)
    path.write_bytes(text[:end] + b":null," + text[at:])
    key = json.loads(text[at:end])
    with pytest.raises(ValueError, match=rf"{name}.*'{key}' is there twice in one object; remove"):
        read(path)


@pytest.mark.parametrize("name", FILES)
def test_utf_16_is_named(name: str, tmp_path: Path) -> None:
    """A parser's 'line 1 column 1', or a traceback, says nothing of how the file was saved."""
    path, text, read = _file(tmp_path, name)
    for form in ("utf-16", "utf-16-le"):
        path.write_bytes(text.decode().encode(form))
        with pytest.raises(ValueError, match=rf"{name}.*(?:is UTF-16|is not UTF-8) text; ") as told:
            read(path)
        assert "column 1" not in str(told.value)

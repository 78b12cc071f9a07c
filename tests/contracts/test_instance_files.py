"""Instance files of every kind with anything in them: read, or refused by name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from plancast.pipelines.bench.bench import KINDS, read_set
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import PlanRequest, to_json
from tests.conftest import ROOT, spans
from tests.planner.instances.test_cluster import small
from tests.planner.instances.test_multimode import TINY

DATA = ROOT / "tests" / "data" / "instances"
NASTY = [
    "-1", "0", "99999999999999999999", "1e3", "nan", "inf", "x", "", "-", "*", "1_0", "3.5", "..",
    '"', '"a,b"', "a\nb", '"a\nb"', "\x00", ",", "\ufeff", "{", "]", "null", "9" * 5000,
    "x" * 140_000,
]  # fmt: skip
WORDS = re.compile(r'[^\s,"]+')


def sample(kind: str, folder: Path) -> Path:
    """Instances of a kind, with a table of best known costs where one is looked for."""
    if kind == "dag":
        return Path(shutil.copy(DATA / "dag.csv", folder))
    if kind == "cluster":
        (folder / "c.json").write_text(json.dumps(small()))
    elif kind == "request":
        request = generate_batch(3, generate_cluster(2), seed=1)
        (folder / "r.json").write_bytes(to_json(request))
    elif kind == "mmrcpsp":
        (folder / "m.mm").write_text(TINY)
    else:
        name = {"rcpsp": "projects/tiny.sm", "rg300": "tiny.rcp", "jsp": "shops/tiny.jsp",
                "fjsp": "shops/flexible.fjs"}[kind]  # fmt: skip
        shutil.copy(DATA / name, folder)
    (folder / "optimum.csv").write_text("instance,cost\ntiny,7..9\n")
    shutil.copy(DATA / "shops" / "best_known.json", folder)
    return folder


def harmed(text: str, rng: np.random.Generator) -> str:
    """The text with one to three words replaced, lines repeated or left out, or its end cut off."""
    for _ in range(int(rng.integers(1, 4))):
        word = NASTY[int(rng.integers(len(NASTY)))]
        lines, k = text.split("\n"), int(rng.integers(4))
        if k == 0 and (places := [m.span() for m in WORDS.finditer(text)]):
            begin, end = places[int(rng.integers(len(places)))]
            text = text[:begin] + word + text[end:]
        elif k == 1:
            at = int(rng.integers(len(lines)))
            text = "\n".join(lines[:at] + lines[at + int(rng.integers(2)) * 2 - 1 :])
        elif k == 2:
            at = int(rng.integers(len(text) + 1))
            text = text[:at] + word + text[at:]
        else:
            text = text[: int(rng.integers(len(text) + 1))]
    return text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seeds", spans(range(100), range(1_000)))
def test_harmed_instances_are_read_or_refused_by_name(
    kind: str, seeds: range, tmp_path: Path
) -> None:
    """A benchmark would end with a traceback, never end, or compare with a best cost of nan."""
    refused = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        path = sample(kind, folder)
        files = sorted(folder.iterdir())
        file = files[int(rng.integers(len(files)))]
        file.write_text(harmed(file.read_text(), rng))
        try:
            found = read_set(path, kind)
            instances = [found.read(name) for name in found.names]
        except BadRequest as error:
            refused.append(str(error))
            continue
        assert instances
        for instance in instances:
            assert isinstance(instance.request, PlanRequest)
            known = (instance.best_known, instance.lower_bound)
            assert all(value is None or abs(value) < float("inf") for value in known), seed
    assert len(refused) > len(seeds) / 4
    assert [said for said in refused if str(tmp_path) not in said] == []

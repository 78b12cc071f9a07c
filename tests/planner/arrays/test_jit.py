"""Where machine code of kernels is kept: never stale, never anybody else's, never in the way."""

from __future__ import annotations

import ast
import gc
import os
import re
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from plancast import jit, predictor
from plancast.jit import Kernels
from plancast.planner.arrays.jit import KERNELS as PLANNERS
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.planning.plan import plan
from plancast.predictor.jit import KERNELS as PREDICTORS
from tests.conftest import ROOT

PACKAGES = (PLANNERS, PREDICTORS)
CALLER = """
from {package}.jit import kernel
from {package}.helper import helped

@kernel
def called(x):
    return helped(x) + 1
"""
HELPER = """
from {package}.jit import inner

@inner
def helped(x):
    return {factor} * x
"""
DECORATORS = {"brief", "inner", "kernel"}
SCALARS = {"latest_start"}
"""Inner functions of a few operations, which Python calls as they stand."""
ASK = "from planner.caller import called; print(called(10), len(called.compiled.stats.cache_hits))"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A package named planner with a kernel that calls a kernel of another file."""
    package = tmp_path / "root" / "planner"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "jit.py").write_text((Path(predictor.__file__).parent / "jit.py").read_text())
    (package / "caller.py").write_text(CALLER.format(package="planner"))
    write_helper(package, 10)
    return package.parent


def write_helper(package: Path, factor: int) -> None:
    """The other file, with its factor."""
    (package / "helper.py").write_text(HELPER.format(package="planner", factor=factor))


def run(
    root: Path, code: str = ASK, *args: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in a fresh process that finds the toy package."""
    clean = {k: v for k, v in os.environ.items() if k not in (jit.NOTED, "NUMBA_CACHE_DIR")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args], cwd=root, check=True, text=True,
        capture_output=True, env={**clean, "PYTHONPATH": f"{root}{os.pathsep}{ROOT}", **environ},
    )  # fmt: skip


def test_a_changed_helper_in_another_file_is_seen(toy: Path, tmp_path: Path) -> None:
    """A caller would go on with the machine code of the helper as it was."""
    cache = str(tmp_path / "cache")
    assert run(toy, NUMBA_CACHE_DIR=cache).stdout == "101 0\n"
    assert run(toy, NUMBA_CACHE_DIR=cache).stdout == "101 1\n"
    write_helper(toy / "planner", 20)
    assert run(toy, NUMBA_CACHE_DIR=cache).stdout == "201 0\n"
    folders = sorted(Path(cache).iterdir())
    assert len(folders) == 2
    assert all(f.stat().st_mode & 0o777 == 0o700 for f in folders)


@pytest.mark.slow
def test_a_changed_record_in_another_file_is_seen(toy: Path, tmp_path: Path) -> None:
    """A kernel would read one field of a record in the place of another."""
    cache, record = str(tmp_path / "cache"), toy / "planner" / "record.py"
    text = "from typing import NamedTuple\n\n\nclass Pair(NamedTuple):\n    {}: int\n    {}: int\n"
    record.write_text(text.format("first", "second"))
    caller = toy / "planner" / "caller.py"
    caller.write_text(
        "from planner.jit import kernel\nfrom planner.record import Pair\n\n\n"
        "@kernel\ndef called(pair):\n    return pair.first\n"
    )
    ask = "from planner.caller import Pair, called; print(called(Pair(1, 2)))"
    assert run(toy, ask, NUMBA_CACHE_DIR=cache).stdout == "1\n"
    record.write_text(text.format("second", "first"))
    assert run(toy, ask, NUMBA_CACHE_DIR=cache).stdout == "2\n"


AT_ONCE = """
import os, sys, time
from pathlib import Path
from planner.caller import called

def wait(name):
    while not Path(name).exists():
        time.sleep(0.01)

def replace(source, target, real=os.replace):
    global written
    written += 1
    if sys.argv[1] == "first":
        Path("first-writes").touch()
        wait("second-wrote")
    else:
        wait("first-writes" if written == 1 else "first-ended")
    real(source, target)
    if sys.argv[1] == "second":
        Path("second-wrote").touch()

written, os.replace = 0, replace
called(10 if sys.argv[1] == "first" else 10.5)
Path(sys.argv[1] + "-ended").touch()
"""


def test_processes_that_compile_at_once_keep_their_code_apart(toy: Path, tmp_path: Path) -> None:
    """A kernel would run with arguments of other types than it was compiled for."""
    environ = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(run, toy, AT_ONCE, name, **environ) for name in ("first", "second")]
    assert all(one.result().returncode == 0 for one in both)
    found = run(toy, ASK.replace("called(10)", "called(10), called(10.5)"), **environ)
    assert found.stdout == "101 106.0 2\n"


def test_without_a_safe_folder_nothing_is_kept_and_one_line_says_so(
    toy: Path, tmp_path: Path
) -> None:
    """Planning would stop on a read-only disk, or run what another user has written there."""
    blocked = tmp_path / "file"
    blocked.touch()
    found = run(toy, NUMBA_CACHE_DIR=str(blocked / "below"))
    assert found.stdout == "101 0\n"
    assert found.stderr.count("cannot be kept") == 1
    assert "set NUMBA_CACHE_DIR" in found.stderr
    shared = tmp_path / "shared"
    run(toy, NUMBA_CACHE_DIR=str(shared))
    (folder,) = shared.iterdir()
    folder.chmod(0o777)
    found = run(toy, NUMBA_CACHE_DIR=str(shared))
    assert found.stdout == "101 0\n"
    assert "others may open" in found.stderr


def test_other_libraries_keep_their_own_place(toy: Path, tmp_path: Path) -> None:
    """A kernel of another library would land in our folder and never be compiled anew."""
    code = """
    from numba.core import config
    before = config.CACHE_DIR
    from planner.caller import called
    print(config.CACHE_DIR == before, not getattr(config, "CACHE_LOCATOR_CLASSES", ""))
    """
    assert run(toy, code, HOME=str(tmp_path)).stdout == "True True\n"


@pytest.mark.slow
def test_the_users_cache_folder_is_used_and_never_a_shared_one(toy: Path, tmp_path: Path) -> None:
    """Machine code would lie in /tmp, where anybody can put some."""
    home = tmp_path / "home"
    run(toy, HOME=str(home), XDG_CACHE_HOME="")
    (folder,) = (home / ".cache" / "plancast" / "kernels").iterdir()
    assert folder.name.startswith("planner-")
    run(toy, HOME=str(home), XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert list((tmp_path / "xdg" / "plancast" / "kernels").iterdir())


@pytest.mark.slow
def test_old_digests_are_removed_and_the_latest_are_kept(toy: Path, tmp_path: Path) -> None:
    """Every version ever used would stay on the disk; or two versions in use remove each other."""
    cache = tmp_path / "cache"
    for age_days in range(8):
        old = cache / f"planner-{age_days}"
        old.mkdir(parents=True)
        os.utime(old, (time.time() - 86_400 * (age_days + 0.5),) * 2)
    (cache / "predictor-0").mkdir()
    run(toy, NUMBA_CACHE_DIR=str(cache))
    left = {p.name for p in cache.iterdir()}
    assert {"planner-0", "planner-1", "planner-2", "predictor-0"} < left
    assert len(left) == jit.KEPT + 1


@pytest.mark.parametrize("kernels", PACKAGES, ids=lambda found: found.package.name)
def test_the_digest_covers_whatever_kernels_read(kernels: Kernels) -> None:
    """A constant or helper of a file outside the digest could change without being noticed."""
    covered, package = set(kernels.files), kernels.package
    assert len(covered) > 1
    for path in covered:
        tree = ast.parse(path.read_text())
        defined = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and decorators(node) & DECORATORS
        ]
        read = {n.id for k in defined for n in ast.walk(k) if isinstance(n, ast.Name)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            parts = node.module.removeprefix("plancast.").split(".")
            if parts[0] != package.name or parts[-1] == "jit":
                continue
            source = package.joinpath(*parts[1:])
            for name in node.names:
                if (name.asname or name.name) not in read:
                    continue  # of the classes and functions beside the kernels
                file = source / f"{name.name}.py" if source.is_dir() else source.with_suffix(".py")
                assert file in covered, f"{path.name} imports {name.name} of {node.module}"


def decorators(node: ast.FunctionDef) -> set[str]:
    """Names of a function's plain decorators."""
    return {d.id for d in node.decorator_list if isinstance(d, ast.Name)}


@cache
def parsed() -> dict[Path, ast.Module]:
    """The syntax trees of files that define kernels, or import such a file or of it."""
    folders = ("planner", "predictor", "pipelines", "benchmarks", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    texts = {path: path.read_text() for path in files}
    defined = re.compile(rf"^@({'|'.join(DECORATORS)})\ndef ", re.MULTILINE)
    stems = {path.stem for path, text in texts.items() if defined.search(text)}
    imported = re.compile(r"^ *from \S*?(\w+) import (\([^)]*\)|.*)$", re.MULTILINE)

    def concerns(path: Path, text: str) -> bool:
        names = {word for found in imported.finditer(text) for word in re.findall(r"\w+", found[0])}
        return path.stem in stems or not stems.isdisjoint(names)

    gc.disable()  # it would go through the trees again and again
    try:
        return {path: ast.parse(text) for path, text in texts.items() if concerns(path, text)}
    finally:
        gc.enable()


def test_no_python_code_calls_an_inner_kernel() -> None:
    """Such a call runs uncompiled: a hundred times as long."""
    inside = ("planner", "predictor", "tests")
    trees = {p: t for p, t in parsed().items() if p.relative_to(ROOT).parts[0] in inside}
    inner: dict[str, set[str]] = {}  # by the last part of a module's name
    for path, tree in trees.items():
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef)
                and "inner" in decorators(node)
                and node.name not in SCALARS
            ):
                inner.setdefault(path.stem, set()).add(node.name)
    assert sum(map(len, inner.values())) > 50
    for path, tree in trees.items():
        known = dict.fromkeys(inner.get(path.stem, ()), path.stem)
        modules = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                stem = node.module.rpartition(".")[2]
                for name in node.names:
                    if name.name in inner.get(stem, ()):
                        known[name.asname or name.name] = stem
                    if name.name in inner:
                        modules[name.asname or name.name] = name.name
        if not known and not modules:
            continue
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            if decorators(function) & DECORATORS:
                continue
            for node in ast.walk(function):
                called = node.func if isinstance(node, ast.Call) else None
                if isinstance(called, ast.Name):
                    assert called.id not in known, f"{path}:{node.lineno} calls {called.id}"
                if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                    of = inner.get(modules.get(called.value.id, ""), set())
                    assert called.attr not in of, f"{path}:{node.lineno} calls {called.attr}"


def test_kernels_are_called_with_as_many_arguments_as_they_take() -> None:
    """Type checkers see no kernel's parameters: a call of old would fail only when it is made."""
    trees = parsed()
    takes: dict[str, dict[str, set[int]]] = {}  # by the last part of a module's name, and function
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and decorators(node) & DECORATORS:
                count = len(node.args.args)
                takes.setdefault(path.stem, {}).setdefault(node.name, set()).add(count)
    checked = 0
    for path, tree in trees.items():
        known = dict(takes.get(path.stem, {}))
        modules = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                of = takes.get(node.module.rpartition(".")[2], {})
                known |= {n.asname or n.name: of[n.name] for n in node.names if n.name in of}
                modules |= {
                    n.asname or n.name: takes[n.name] for n in node.names if n.name in takes
                }
        if not known and not modules:
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or any(isinstance(a, ast.Starred) for a in node.args):
                continue
            called, counts = node.func, None
            if isinstance(called, ast.Name):
                counts = known.get(called.id)
            elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                counts = modules.get(called.value.id, {}).get(called.attr)
            if counts is not None:
                checked += 1
                given = len(node.args) + len(node.keywords)
                assert given in counts, f"{path}:{node.lineno} gives {given} of {counts}"
    assert checked > 300


PARTS = """
import numpy as np
from {package}.jit import KERNELS, brief, inner, kernel

@inner
def power(x, times):
    result = 1
    for _ in range(times):
        result *= x
    return result

@kernel
def fifth(x):
    return power(x, 2) * power(x, 3)

@inner
def spread(row):
    result = 0
    for k in range(row.shape[0]):
        for j in range(row.shape[0]):
            if (row[k] + k) % 7 > (row[j] + j) % 5:
                result += row[k] * row[j] // (1 + abs(row[k] - row[j]))
            elif (row[k] - k) % 3 > (row[j] - j) % 11:
                result -= row[k] * row[j] % (1 + abs(row[k] + row[j]))
            else:
                result += (row[k] ^ row[j]) % 13
    return result

@inner
def halves(row):
    middle = row.shape[0] // 2
    low, high = row[:middle], row[middle:]
    return spread(low) + 2 * spread(high)

@inner
def doubled(row):
    return row + row

@kernel
def spread_of_doubled(row):
    result = 0
    for _ in range(1000):
        result += halves(doubled(row)) + halves(row)
    return result

@brief
def total(row):
    result = 0
    for k in range(row.shape[0]):
        result += power(row[k], 2)
    return result
"""


@pytest.mark.slow
def test_what_kernels_call_is_compiled_once_and_kept_with_them(toy: Path, tmp_path: Path) -> None:
    """Each number handed on would compile a function anew; a part that Python calls, end it all."""
    (toy / "planner" / "parts.py").write_text(PARTS.format(package="planner"))
    code = """
    from planner.parts import fifth, power
    print(fifth(2), power(2, 3), len(power.part.overloads), fifth.compiled.stats.cache_misses != {})
    """
    found = run(toy, code, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert found.stdout == "32 8 1 True\n"
    (kept,) = (tmp_path / "cache").rglob("*.nbc")
    assert kept.name.startswith("parts.fifth")


@pytest.mark.slow
def test_long_parts_join_every_kernel_and_leave_no_array_behind(toy: Path, tmp_path: Path) -> None:
    """A part would be missing from a kernel, or borrowed arrays be freed early or never."""
    (toy / "planner" / "parts.py").write_text(PARTS.format(package="planner"))
    code = """
    import sys
    import numba
    from numba.core.runtime import rtsys
    from planner.parts import doubled, halves, np, spread, spread_of_doubled
    row = np.arange(40)
    expected = 1000 * (halves(doubled(row)) + halves(row))
    print(spread_of_doubled(row) == expected)
    before, held = rtsys.get_allocation_stats(), sys.getrefcount(row)
    print(spread_of_doubled(row) == expected, sys.getrefcount(row) == held)
    after = rtsys.get_allocation_stats()
    print(after.alloc - before.alloc == after.free - before.free >= 1000)
    print(all(made.library.is_long for made in spread.part.overloads.values()))
    print(numba.njit(lambda row: halves(row) + 1)(row) == halves(row) + 1)
    """
    environ = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "NUMBA_NRT_STATS": "1"}
    for _ in ("compiled", "kept"):
        assert run(toy, code, **environ).stdout.split() == ["True"] * 6


REUSED = """
import numpy as np
from {package}.jit import inner, kernel

@kernel
def ranked(row):
    if row.shape[0] == 0:
        raise ValueError("nothing", row.shape[0])
    return np.argsort(row)[::-1].copy()

@kernel
def last_ranked(row):
    return ranked(np.sort(row))[0] + row.sum()
"""


@pytest.mark.slow
def test_a_kernel_that_kernels_call_is_compiled_once_for_python_too(
    toy: Path, tmp_path: Path
) -> None:
    """Seventeen kernels were compiled twice; or Python's way into such a one leads elsewhere."""
    (toy / "planner" / "reused.py").write_text(REUSED.format(package="planner"))
    code = """
    import sys
    from planner.reused import last_ranked, np, ranked
    row = np.array([3, 1, 2])
    held = sys.getrefcount(row)
    print(last_ranked(row) == 8, (ranked(row) == [0, 2, 1]).all(), sys.getrefcount(row) == held)
    (entry,) = ranked.compiled.overloads.values()
    print(sum(part.fndesc.uid == entry.fndesc.uid for part in ranked.part.overloads.values()))
    try:
        ranked(row[:0])
    except ValueError as error:
        print(error.args == ("nothing", 0))
    """
    for shared in "10":  # compiled, then kept
        found = run(toy, code, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
        assert found.stdout.split() == ["True", "True", "True", shared, "True"]


@pytest.mark.slow
def test_numba_is_left_as_it_was_and_its_functions_of_use_to_others(
    toy: Path, tmp_path: Path
) -> None:
    """Another library's functions would be compiled as parts of kernels, or not at all."""
    (toy / "planner" / "reused.py").write_text(REUSED.format(package="planner"))
    code = """
    import gc
    import numba
    from numba import types
    from numba.core import errors
    from numba.core.compiler import Compiler
    def patched():
        seen = vars(errors.termcolor()), vars(types.Function).get("get_call_type"), gc.isenabled()
        return (*map(repr, seen), Compiler.define_pipelines)
    before = patched()
    from planner.reused import last_ranked, np
    row = np.array([3, 1, 2])
    print(last_ranked(row) == 8, patched() == before)
    try:
        last_ranked(None)
    except numba.TypingError:
        print(patched() == before)
    sort, total = numba.njit(lambda row: np.sort(row)), numba.njit(lambda row: row.sum() * 2.5)
    print((sort(row) == [1, 2, 3]).all(), total(row) == 15.0)
    print((numba.njit(lambda row: [k * 2 for k in np.argsort(row)])(row)) == [2, 4, 0])
    """
    found = run(toy, code, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert found.stdout.split() == ["True"] * 6


@pytest.mark.slow
def test_brief_kernels_run_small_arrays_uncompiled_only_when_asked(
    toy: Path, tmp_path: Path
) -> None:
    """A large batch would be planned by the interpreter, or a small one wait for the compiler."""
    (toy / "planner" / "parts.py").write_text(PARTS.format(package="planner"))
    code = """
    from planner.parts import KERNELS, np, total
    from plancast import jit
    small, large = np.arange(5), np.arange(jit.SMALL + 1)
    with KERNELS.interpreted():
        print(total(small), len(total.compiled.overloads))
        print(total(large) > 0, len(total.compiled.overloads))
    print(total(small), len(total.compiled.overloads))
    """
    found = run(toy, code, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert found.stdout.split() == ["30", "0", "True", "1", "30", "1"]


@pytest.mark.slow
def test_kernels_run_as_they_stand_where_numba_is_off() -> None:
    """Nobody could step through a kernel: importing one would end in a traceback."""
    code = (
        "from plancast.planner.instances.generate import generate_batch, generate_cluster\n"
        "from plancast.planner.planning.plan import plan\n"
        "print(plan(generate_batch(4, generate_cluster(2), 1), 'greedy').cost)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    ).stdout  # fmt: skip
    compiled = plan(generate_batch(4, generate_cluster(2), 1), "greedy").cost
    assert float(found) == pytest.approx(compiled)

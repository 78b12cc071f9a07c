"""The house stays one that strangers find their way in: sizes, namesakes, pages of rooms."""

from __future__ import annotations

import ast
import re
import runpy
from functools import cache
from pathlib import Path

import pytest
from radon.complexity import cc_visit

from tests.conftest import ROOT

FOLDERS = ("planner", "predictor", "pipelines", "plancast")
FILE_LINES, FUNCTION_LINES, PARAMETERS, COMPLEXITY = 600, 80, 14, 20

OPTIONS = "the options of a command are its parameters"
KERNEL = "a numba kernel: records and more calls cost 5 to 11% of the moves a second"

EXCEPTIONS = {
    "pipelines/cli/advising.py::advise": OPTIONS,
    "pipelines/cli/backtesting.py::backtest": OPTIONS,
    "pipelines/cli/mastering.py::master": OPTIONS,
    "pipelines/cli/planning.py::plan": OPTIONS,
    "pipelines/cli/staying.py::serve": OPTIONS,
    "planner/arrays/schedule.py::_place_gang": KERNEL,
    "planner/arrays/list_schedule.py::list_schedule": KERNEL,
    "planner/planning/rollouts.py::sampled_costs": KERNEL,
    "planner/solvers/astar/best_first.py::best_first": KERNEL,
    "planner/solvers/astar/focal.py::dive": KERNEL,
    "planner/solvers/astar/look.py::look": KERNEL,
    "planner/solvers/lns/order_kernel.py::_lay": KERNEL,
    "planner/solvers/lns/order_kernel.py::search": KERNEL,
    "planner/solvers/lns/row_kernel.py::_line_up": KERNEL,
    "planner/solvers/lns/row_kernel.py::_proposed": KERNEL,
    "planner/solvers/lns/row_kernel.py::search": KERNEL,
    "planner/solvers/lns/scenario_course.py::_hold": KERNEL,
    "planner/solvers/lns/scenario_course.py::_start_at_level": KERNEL,
    "planner/solvers/lns/scenario_course.py::_timed": KERNEL,
    "planner/solvers/lns/scenario_kernel.py::search": KERNEL,
    "planner/solvers/lns/insert.py::_at_best_hour": KERNEL,
    "planner/solvers/lns/insert.py::_insert": KERNEL,
    "planner/solvers/lns/gangs.py::_place_gang": KERNEL,
    "planner/solvers/lns/state.py::_put": KERNEL,
    "planner/solvers/lns/ruin.py::_recreate": KERNEL,
    "planner/solvers/lns/ruins.py::_ruin": KERNEL,
    "planner/solvers/lns/ruins.py::_settle": KERNEL,
    "planner/solvers/lns/state.py::_take": KERNEL,
    "planner/solvers/lns/ruin.py::_undo": KERNEL,
    "planner/solvers/lns/ruin.py::search": KERNEL,
    "planner/worlds/replay_kernel.py::advance": KERNEL,
    "planner/worlds/wait_kernel.py::waits_along": KERNEL,
}
"""What may be larger, ``path`` or ``path::function``, each with its reason."""

TESTED_IN = {
    "pipelines/backtest/execute_batch": "planner/worlds/test_executors",
    "pipelines/backtest": "pipelines/backtest/test_backtest",
    "pipelines/bench": "pipelines/bench/test_bench",
    "pipelines/charts": "pipelines/charts/test_gantt",
    "pipelines/cli": "pipelines/cli/test_cli",
    "pipelines/engines/dask_plugin": "pipelines/engines/test_dask",
    "pipelines/engines/dask_tls": "pipelines/engines/test_dask",
    "pipelines/engines/slurm_answers": "pipelines/engines/test_slurm",
    "pipelines/engines": "pipelines/master/test_master",
    "pipelines/guide": "pipelines/guide/test_guiding",
    "pipelines/http": "pipelines/http/test_service",
    "pipelines/inputs": "pipelines/inputs/test_user_files",
    "pipelines/master": "pipelines/master/test_master",
    "pipelines/operators/eta_backtest": "pipelines/operators/test_eta",
    "pipelines/operators/live_queue": "pipelines/operators/test_slurm_queue",
    "predictor/memory_baselines": "predictor/test_memory",
    "pipelines/operators/months": "pipelines/operators/test_advise",
    "pipelines/operators/waits": "pipelines/operators/test_eta",
    "pipelines/inputs/plan_files": "pipelines/test_verbs",
    "pipelines/inputs/shell": "pipelines/cli/test_initialising",
    "pipelines/project": "pipelines/cli/test_initialising",
    "pipelines/results": "pipelines/test_verbs",
    "pipelines/stages/ingest": "pipelines/cli/test_cli",
    "pipelines/stages/pipeline": "pipelines/stages/test_dvc",
    "pipelines/stages/plan_batch": "pipelines/stages/test_report",
    "pipelines/stages/worth_of_log": "pipelines/stages/test_report",
    "pipelines/stages/stage": "pipelines/stages/test_dvc",
    "pipelines/tracking/backtests": "pipelines/backtest/test_backtest",
    "pipelines/tracking/contests": "pipelines/stages/test_tune",
    "pipelines/tracking/store": "pipelines/tracking/test_mlflow_runs",
    "pipelines/tracking": "pipelines/tracking/test_tracking_evaluations",
    "planner/model/spans": "planner/model/test_evaluate",
    "planner/planning/response": "planner/planning/test_plan",
    "planner/solvers/mode_rules": "planner/arrays/test_modes",
    "planner/solvers/astar/in_modes": "planner/arrays/test_modes",
    "planner/solvers/lns/mode_search": "planner/arrays/test_modes",
    "planner/arrays/cost": "planner/arrays/test_rates",
    "planner/arrays/device_use": "planner/arrays/test_devices",
    "planner/arrays/encode": "planner/arrays/test_problem",
    "planner/arrays/unplaceable": "planner/arrays/test_problem",
    "planner/arrays/graph": "planner/arrays/test_schedule",
    "planner/arrays/heap": "planner/arrays/test_schedule",
    "planner/arrays/list_schedule": "planner/arrays/test_schedule",
    "planner/arrays/rows": "planner/arrays/test_schedule",
    "planner/bounds/levels": "planner/bounds/test_shops",
    "planner/bounds": "planner/bounds/test_lower_bound",
    "planner/instances/generate_log": "planner/instances/test_generate",
    "planner/instances": "planner/instances/test_instances",
    "planner/model/domain": "contracts/test_bad_input",
    "planner/model/explain": "planner/planning/test_plan",
    "planner/model/faults": "contracts/test_bad_input",
    "planner/model/judge_devices": "planner/model/test_devices",
    "planner/model/judge_placement": "planner/model/test_labels",
    "planner/model/judge_precedence": "planner/model/test_evaluate",
    "planner/model/judge_response": "contracts/test_damaged_responses",
    "planner/model/violations": "planner/model/test_evaluate",
    "planner/planning/expected_starts": "planner/planning/test_controller",
    "planner/planning/partial_order": "planner/planning/test_risk",
    "planner/planning/rollouts": "planner/planning/test_risk",
    "planner/solvers/astar/cost_to_go": "pipelines/guide/test_guiding",
    "planner/solvers/astar/trees": "planner/solvers/astar/test_guides",
    "planner/solvers/astar": "planner/solvers/astar/test_astar",
    "planner/solvers/base": "contracts/test_solvers",
    "planner/solvers/cpsat": "planner/solvers/cpsat/test_worker_classes",
    "planner/solvers/greedy": "planner/solvers/greedy/test_priority_rules",
    "planner/solvers/lns/gangs": "planner/solvers/lns/test_gangs",
    "planner/solvers/lns/home_orders": "planner/solvers/lns/test_home_orders",
    "planner/solvers/lns/order_kernel": "planner/solvers/lns/test_orders",
    "planner/solvers/lns/reinsertion": "planner/planning/test_repair",
    "planner/solvers/lns/row_kernel": "planner/solvers/lns/test_rows",
    "planner/solvers/lns/scenario_course": "planner/solvers/lns/test_scenario_rows",
    "planner/solvers/lns/scenario_kernel": "planner/solvers/lns/test_scenario_rows",
    "planner/solvers/lns/relaxed_starts": "planner/solvers/lns/test_local_search",
    "planner/solvers/lns/subproblem": "planner/planning/test_repair",
    "planner/solvers/lns": "planner/solvers/lns/test_lns",
    "planner/solvers/makespan/shop_orders": "planner/solvers/makespan/test_shop",
    "planner/solvers/makespan/tabu": "planner/solvers/makespan/test_shop",
    "planner/solvers/makespan/walk": "planner/solvers/makespan/test_shop",
    "planner/solvers/makespan": "planner/solvers/makespan/test_project",
    "planner/solvers/repair": "planner/planning/test_repair",
    "planner/worlds/dispatch_arrays": "planner/worlds/test_dispatch",
    "planner/worlds/shrinkage": "planner/worlds/test_executors",
    "planner/worlds/simulate": "pipelines/stages/test_trial",
    "planner/worlds": "planner/worlds/test_replay",
    "pipelines/worth": "pipelines/worth/test_worth",
    "predictor/distribution": "predictor/test_quantile",
    "predictor/model_card": "predictor/test_runtime",
    "predictor/model_files": "predictor/test_runtime",
    "predictor/training": "predictor/test_runtime",
    "predictor/evaluation": "predictor/test_walk",
    "predictor/jit": "planner/arrays/test_jit",
    "predictor/logs": "contracts/test_readers",
    "predictor/remaining": "predictor/test_walk",
    "predictor/state/experts": "predictor/test_runtime",
    "predictor/state/keys": "predictor/state/test_history",
    "predictor/state/learned": "predictor/state/test_online",
    "predictor/state/mixture": "predictor/state/test_online",
    "predictor/state/run_statistics": "predictor/state/test_history",
}
"""Modules and rooms whose modules without a namesake of their own are tested elsewhere: where."""


def modules() -> list[Path]:
    """Every module of the packages; the links below ``plancast`` are not followed."""
    return [
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).glob("*.py" if folder == "plancast" else "**/*.py"))
    ]


def functions(tree: ast.Module) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions and methods with their qualified names, inner ones left to their outer ones."""
    found: list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]] = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((prefix + child.name, child))
            elif isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}{child.name}.")

    visit(tree, "")
    return found


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    last = node.end_lineno or node.lineno
    doc = node.body[0] if ast.get_docstring(node) is not None else None
    inside = 0 if doc is None else (doc.end_lineno or doc.lineno) - doc.lineno + 1
    return last - node.lineno + 1 - inside


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many parameters a function has, ``self`` counted too."""
    args = node.args
    return len(args.posonlyargs) + len(args.args) + len(args.kwonlyargs)


@cache
def oversized() -> dict[str, str]:
    """What exceeds a limit, with its figures."""
    found: dict[str, list[str]] = {}
    for path in modules():
        name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > FILE_LINES:
            found.setdefault(name, []).append(f"{lines} lines")
        for called, node in functions(ast.parse(text)):
            where = f"{name}::{called}"
            if (lines := body_lines(node)) > FUNCTION_LINES:
                found.setdefault(where, []).append(f"{lines} lines")
            if (count := parameters(node)) > PARAMETERS:
                found.setdefault(where, []).append(f"{count} parameters")
        for block in cc_visit(text):
            if block.letter in "FM" and block.complexity > COMPLEXITY:
                where = f"{name}::{block.fullname}"
                found.setdefault(where, []).append(f"complexity {block.complexity}")
    return {where: ", ".join(figures) for where, figures in found.items()}


def test_nothing_is_larger_than_can_be_read_without_a_reason() -> None:
    """A file or a function would grow until nobody changes it without fear."""
    found = oversized()
    assert {where: found[where] for where in sorted(set(found) - set(EXCEPTIONS))} == {}


def test_no_file_of_tests_is_larger_than_can_be_read() -> None:
    """What a test proves would be found by nobody."""
    found = [
        p for p in (ROOT / "tests").rglob("*.py") if len(p.read_text().splitlines()) > FILE_LINES
    ]
    assert found == []


def test_every_exception_is_still_one() -> None:
    """The list would excuse what was repaired long ago, and let it grow again."""
    assert sorted(set(EXCEPTIONS) - set(oversized())) == []


def test_every_module_has_a_test_of_its_name_or_a_named_one() -> None:
    """A module would be tested nowhere, or nobody would find where."""
    missing = []
    for path in modules():
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        if path.stem.startswith("__") or path.parent.name == "plancast":
            continue
        folder, _, leaf = name.rpartition("/")
        if (ROOT / "tests" / folder / f"test_{leaf}.py").exists():
            continue
        rooms = [name, *(p.as_posix() for p in path.relative_to(ROOT).parents)]
        where = next((TESTED_IN[room] for room in rooms if room in TESTED_IN), None)
        if where is None or not (ROOT / "tests" / f"{where}.py").exists():
            missing.append(name)
    assert missing == []


def test_rooms_that_say_where_they_are_tested_exist() -> None:
    """The list would name a module that was moved, and no one would see that it has no test."""
    gone = [n for n in TESTED_IN if not (ROOT / f"{n}.py").exists() and not (ROOT / n).is_dir()]
    assert gone == []


PLACE = re.compile(
    r"`((?:planner|predictor|pipelines|tests|docs)/[\w/.-]+\.(?:py|md|svg))(?:::(\w+))?`"
)
PAGES = [ROOT / "docs" / "architecture.md", *sorted((ROOT / "docs").glob("adding-*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_places_that_a_page_names_are_there(page: Path) -> None:
    """Who follows the page would look for a file or a name that was moved."""
    places = PLACE.findall(page.read_text(encoding="utf-8"))
    assert places
    for path, name in places:
        assert (ROOT / path).exists(), f"{page.name}: {path}"
        if name:
            text = (ROOT / path).read_text(encoding="utf-8")
            defined = re.search(rf"^(?:def |class )?{name}\b", text, re.MULTILINE)
            assert defined, f"{page.name}: {path}::{name}"


def test_the_page_of_the_house_names_every_room() -> None:
    """A room would be found by nobody who does not know it."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = [
        init.parent.relative_to(ROOT).as_posix()
        for folder in FOLDERS[:3]
        for init in sorted((ROOT / folder).glob("*/__init__.py"))
    ]
    assert [room for room in rooms if f"`{room}`" not in text] == []


def test_the_picture_of_the_house_is_what_the_contracts_say() -> None:
    """The picture would show rooms that are gone; run docs/images/rooms.py."""
    images = ROOT / "docs" / "images"
    drawn = runpy.run_path(str(images / "rooms.py"))["rooms"]()
    assert (images / "rooms.svg").read_text(encoding="utf-8") == drawn


if __name__ == "__main__":
    for where, figures in sorted(oversized().items()):
        print(where, "|", figures)

"""Every kernel is called as it was compiled: a function for kernels alone never from Python."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

COMPILED = ("kernel", "inner")
FOLDERS = ("planner", "predictor", "pipelines", "tests", "benchmarks")


def decorators(node: ast.AST) -> set[str]:
    """Names of a function's decorators."""
    found = getattr(node, "decorator_list", [])
    return {d.id for d in found if isinstance(d, ast.Name)}


def calls_from_python(tree: ast.AST) -> list[str]:
    """Names that are called outside of compiled functions, attributes by their last part."""
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        if decorators(node) & set(COMPILED):
            return
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                found.append(node.func.id)
            elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                found.append(node.func.attr)
        for inner in ast.iter_child_nodes(node):
            visit(inner)

    visit(tree)
    return found


def texts(*folders: str) -> dict[Path, str]:
    """Every module below some folders."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path: path.read_text(encoding="utf-8") for path in paths}


@pytest.mark.parametrize("package", ["planner", "predictor"])
def test_functions_for_kernels_alone_are_never_called_from_python(package: str) -> None:
    """The call would end the process: there is no door from Python to such a function."""
    inner = {
        name
        for text in texts(package).values()
        for name in re.findall(r"^@inner\ndef (\w+)\(", text, re.MULTILINE)
    }
    assert inner
    called = re.compile(rf"(?<!def )\b(?:{'|'.join(inner)})\(")
    for path, text in texts(*FOLDERS).items():
        if called.search(text):
            tree = ast.parse(text)
            own = {
                node.name
                for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef) and not decorators(node) & set(COMPILED)
            }
            wrong = set(calls_from_python(tree)) & (inner - own)
            assert not wrong, f"{path.relative_to(ROOT)}: {sorted(wrong)}"

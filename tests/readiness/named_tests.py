"""Tests by their names in documents."""

from __future__ import annotations

import ast
from pathlib import Path


def is_test(node: str, root: Path) -> bool:
    """Whether there is a test, or a module of tests, of that node id (``tests/x.py::test_y[z]``) below a directory.

    Parameters are not looked at: only a collection knows them.
    """
    path, _, name = node.partition("::")
    file = root / path
    if not file.is_file() or not file.name.startswith("test_"):
        return False
    functions = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    names = {node.name for node in functions if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return name.partition("[")[0] in names if name else any(one.startswith("test_") for one in names)

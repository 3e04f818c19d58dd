"""Tests by their names in documents."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path


def is_test(node: str, root: Path) -> bool:
    """Whether there is a test, or a module of tests, of that node id (``tests/x.py::test_y[z]``) below a directory.

    Parameters are not looked at: only a collection knows them.
    """
    path, _, name = node.partition("::")
    file = root / path
    if not file.is_file() or not file.name.startswith("test_"):
        return False
    names = defined(file.read_text(encoding="utf-8"))
    return name.partition("[")[0] in names if name else any(one.startswith("test_") for one in names)


@cache
def defined(source: str) -> frozenset[str]:
    """The names of a source's functions, as the formatter writes them."""
    return frozenset(re.findall(r"^ *(?:async )?def (\w+)\(", source, re.MULTILINE))

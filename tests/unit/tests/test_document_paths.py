"""Source files and tests that documents name exist, and documents are whole: without the remains of a merge."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.harness import ROOT

ROOMS = ("orchestrator", "worker", "sandbox_image", "deploy", "tests")
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("deploy/**/*.md"), ROOT / "tests" / "README.md"]
)
NAMED = re.compile(r"`(\w[\w./-]*\.(?:py|lua|sh|js|c))`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)")
REMAINS = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)
FILES = [str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*.*") if path.is_file()]


def missing(text: str, files: Iterable[str]) -> list[str]:
    """Named files that are not among ``files``, neither by their path nor by the end of it."""
    ends = tuple(f"/{path}" for path in files)
    return [name for name in NAMED.findall(text) if not any(end.endswith(f"/{name}") for end in ends)]


def lost_tests(text: str, root: Path) -> list[str]:
    """Named tests, as in ``tests/x.py::test_y``, that their module does not have."""
    return [
        name
        for module, name in TEST.findall(text)
        if not (path := root / module).is_file() or f"def {name}(" not in path.read_text()
    ]


def faults(find: Callable[[str], list[str]]) -> dict[str, list[str]]:
    """The findings in each document that has some, by its path."""
    found = {str(path.relative_to(ROOT)): find(path.read_text()) for path in DOCUMENTS}
    return {path: texts for path, texts in found.items() if texts}


def test_named_tests_exist() -> None:
    assert faults(lambda text: lost_tests(text, ROOT)) == {}


def test_lost_test_is_found(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "x.py").write_text("def test_y(): pass")
    text = "`tests/x.py::test_y`, `tests/x.py::test_z` and `tests/z.py::test_a`"
    assert lost_tests(text, tmp_path) == ["test_z", "test_a"]


def test_named_files_exist() -> None:
    assert faults(lambda text: missing(text, FILES)) == {}


def test_missing_file_is_found() -> None:
    text = "see `store/steps.py`, `steps.py`, `lost.py`, `room/steps.py`, `bench.md`, and `/usr/lib/own.py` in an image"
    assert missing(text, ["orchestrator/store/steps.py"]) == ["lost.py", "room/steps.py"]


def test_no_merge_has_left_its_marks() -> None:
    assert faults(lambda text: [mark for mark, _ in REMAINS.findall(text)]) == {}


@pytest.mark.parametrize("mark", ["<<<<<<< HEAD", "=======", ">>>>>>> main", "||||||| base"])
def test_marks_of_a_merge_are_found(mark: str) -> None:
    assert REMAINS.search(f"| a |\n{mark}\n| b |\n")
    assert not REMAINS.search(f"a {mark}\n==========\n")

"""The code of releases, for processes of several versions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.releases.recorded import RELEASES

# The commit that has the tag: a clone of a branch alone has its commits, and not the tags.
COMMITS = {"v0.1.0": "e3ea3c0a72ed2ef9a456cb545adbdc630aa462df"}


def tags() -> list[str]:
    """The releases, oldest first."""
    return sorted(path.name.removesuffix(".tar.xz") for path in RELEASES.glob("v*.tar.xz"))


def code_of(tag: str, directory: Path) -> Path:
    """The directory with the code of a release; skips the test in a checkout whose history does not reach it."""
    packed = subprocess.run(
        ["git", "archive", COMMITS.get(tag, "HEAD"), "orchestrator", "worker", "sandbox_image"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if packed.returncode != 0:
        pytest.skip(f"the history of this checkout does not reach {tag}")
    code = directory / tag
    code.mkdir()
    subprocess.run(["tar", "x"], cwd=code, input=packed.stdout, check=True)
    return code


def command(code: Path, module: str) -> list[str]:
    """The command of a process with that code: a module is looked for in the working directory first."""
    return ["sh", "-c", 'cd "$0" && exec "$@"', str(code), sys.executable, "-m", module]

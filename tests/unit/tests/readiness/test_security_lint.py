"""The rules of bandit, as ruff has them, over the product: no finding without a reason in the source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness import ROOT

INTENDED = "S603,S607"  # subprocesses get lists of arguments, and are found on PATH: pyproject.toml
PRODUCT = ("orchestrator", "worker", "sandbox_image", "deploy")


def findings(*paths: str | Path) -> str:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--quiet",
        "--no-cache",
        "--select",
        "S",
        "--ignore",
        INTENDED,
        *map(str, paths),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout


def test_product_has_no_security_finding() -> None:
    assert findings(*PRODUCT) == ""


def test_dangerous_call_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("import subprocess\nsubprocess.run(input(), shell=True)\n")
    assert "S602" in findings(tmp_path / "x.py")

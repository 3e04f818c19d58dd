"""``make bench`` in its short form: it runs, and its ratios are within a third of what is wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT


@pytest.mark.usefixtures("images")
def test_the_short_bench(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.bench", "--short", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(path.read_text())
    assert figures["warm_runs"] >= figures["runs"] * 0.8
    assert set(figures["phases"]) == {"queue_seconds", "start_seconds", "run_seconds", "collect_seconds"}

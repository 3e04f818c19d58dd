"""Missing requirements are named before the first test, and then no test runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import preflight
from tests.engine import ENGINE
from tests.harness import ROOT


def test_each_missing_command_is_named_with_its_package() -> None:
    assert preflight.missing_commands({"sh": "dash", "no-such-command": "its-package"}) == [
        "no-such-command is not installed (package its-package)"
    ]


def test_each_missing_runtime_is_named() -> None:
    assert preflight.missing_of_engine(frozenset({"runc", "crun", "runsc", "another"})) == []
    (lacking,) = preflight.missing_of_engine(frozenset({"runc", "crun"}))
    assert "no runtime runsc" in lacking
    assert preflight.missing_of_engine(None) == [f"no container engine answers at {ENGINE}"]


@pytest.mark.parametrize("there", [True, False])
def test_command_runs_only_without_missing_requirements(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], there: bool
) -> None:
    run: list[list[str]] = []
    monkeypatch.setattr(preflight, "runtimes_of_engine", lambda: frozenset(preflight.RUNTIMES) if there else None)
    monkeypatch.setattr(preflight, "COMMANDS", {"sh": "dash"})
    monkeypatch.setattr(os, "execvp", lambda _, command: run.append(command))
    assert preflight.main(["--", "pytest", "-k", "a or b"]) == (0 if there else 1)
    assert run == ([["pytest", "-k", "a or b"]] if there else [])
    assert ("no container engine answers" in capfd.readouterr().err) is not there


def test_tools_of_the_whole_run_are_required_only_for_that_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "runtimes_of_engine", lambda: frozenset(preflight.RUNTIMES))
    monkeypatch.setattr(preflight, "COMMANDS", {})
    monkeypatch.setattr(preflight, "FOR_ALL", {"no-such-command": "its-package"})
    assert (preflight.main([]), preflight.main(["--all"])) == (0, 1)
    assert "its-package" in capfd.readouterr().err


def test_run_without_engine_fails_and_names_the_engine(tmp_path: Path) -> None:
    """``deploy/with_engine.sh`` where no engine can be started: the given command is not run."""
    with_engine = tmp_path / "deploy" / "with_engine.sh"
    with_engine.parent.mkdir()
    with_engine.write_bytes((ROOT / "deploy" / "with_engine.sh").read_bytes())
    mayfly = tmp_path / ".venv" / "bin" / "mayfly"
    mayfly.parent.mkdir(parents=True)
    mayfly.write_text('#!/bin/sh\n[ "$2" = stop ]\n')
    mayfly.chmod(0o755)
    done = subprocess.run(
        ["bash", str(with_engine), sys.executable, "-c", "print('ran')"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is none" in done.stderr
    mayfly.write_text("#!/bin/sh\n")
    done = subprocess.run(
        ["bash", str(with_engine), sys.executable, "-c", "print('ran')"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "ran\n")

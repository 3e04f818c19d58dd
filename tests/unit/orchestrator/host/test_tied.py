"""A command that is tied to its parent never outlives the parent, whenever the parent is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness import ROOT, eventually, is_running

PARENT = """
import subprocess, sys
from orchestrator.host.tied import tied
subprocess.run([*tied(), "sh", "-c", 'echo $$ > "$0/command"; exec sleep 600', sys.argv[1]])
"""
# In place of setpriv: waits until it may ask the kernel, as on a machine that is busy with others.
LATE = """#!/bin/sh
echo $$ > "{directory}/asking"
until [ -e "{directory}/go" ]; do sleep 0.01; done
exec {setpriv} "$@"
"""


def number_in(path: Path) -> int | None:
    """The number in a file, once all of it is there."""
    with suppress(FileNotFoundError):
        text = path.read_text()
        return int(text) if text.endswith("\n") else None
    return None


@pytest.mark.parametrize("when", ["before the kernel was asked", "afterwards"])
def test_command_ends_with_its_killed_parent(tmp_path: Path, when: str) -> None:
    late = tmp_path / "setpriv"
    late.write_text(LATE.format(directory=tmp_path, setpriv=shutil.which("setpriv")))
    late.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    go = tmp_path / "go"
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], env=env, cwd=ROOT) as parent:
        started = eventually(lambda: number_in(tmp_path / "asking"), "setpriv has started")
        if when == "afterwards":
            go.touch()
            assert eventually(lambda: number_in(tmp_path / "command"), "the command runs") == started
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    go.touch()
    try:
        eventually(lambda: not is_running(started), "the command has ended")
    finally:
        with suppress(ProcessLookupError):
            os.kill(started, signal.SIGKILL)
    assert (number_in(tmp_path / "command") is None) is (when != "afterwards")

"""`mayfly up` with a declared tool server, as a newcomer types it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.brokers import MODULE
from tests.builders.processes.installed import Installation, installed
from tests.harness import ROOT, eventually

DECLARED = f"""
command = ["{sys.executable}", "-m", "{MODULE}", "stdio"]
env = {{PYTHONPATH = "{ROOT}", PYTHONDONTWRITEBYTECODE = "1"}}
connect_seconds = 60
"""


@pytest.fixture(scope="module")
def running(engine: None, images: Path) -> Iterator[Installation]:
    with installed(images, TOOL_COMMANDS="true") as made:
        (made.state / "tool-servers").mkdir()
        (made.state / "tool-servers" / "test.toml").write_text(DECLARED)
        made.up("--no-sample")
        eventually(lambda: b"\tready\t" in made.mayfly("tools", "servers").stdout, "the tool server is ready", 120)
        yield made


def printed(running: Installation, *words: str, code: int = 0) -> str:
    done = running.mayfly("tools", *words)
    assert done.returncode == code, (done.stdout + done.stderr).decode()
    return (done.stdout + done.stderr).decode()


def test_up_starts_a_broker_and_its_supervisor_restarts_a_dead_broker(running: Installation) -> None:
    before = running.pids()
    assert set(before) == {"redis", "api", "worker", "broker", "supervisor"}
    os.kill(before["broker"], signal.SIGKILL)
    eventually(lambda: running.pids()["broker"] != before["broker"], "the broker is started again", 60)
    assert {name for name, pid in running.pids().items() if before[name] != pid} == {"broker"}
    # The listed state may be the dead broker's report.
    call = ("tools", "call", "test.add", "a=1", "b=1")
    eventually(lambda: running.mayfly(*call).stdout == b"2\n", "the new broker serves", 120)


def test_tool_is_called_from_the_command_line(running: Installation) -> None:
    assert printed(running, "call", "test.add", "a=1", "b=2") == "3\n"

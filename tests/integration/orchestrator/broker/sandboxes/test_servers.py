"""Published tool servers of PyPI and npm in sandboxes, served by a broker; brokers and servers killed."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from orchestrator.broker.declared.users import preferred
from orchestrator.broker.sandboxes.leftovers import LOCK, cgroups_of
from tests.builders.brokers import Brokers, code
from tests.builders.tools.tool_sandboxes import SECRET, bundle_of, declared, launcher_in, shared_images
from tests.harness import ROOT, eventually, is_running

CGROUPS = Path("/sys/fs/cgroup")
LAUNCH = """
import sys
from pathlib import Path
from orchestrator.host.tied import tied
from tests.builders.tools.tool_sandboxes import SECRET, declared, launcher_in, started
launcher = launcher_in(Path(sys.argv[1]), Path(sys.argv[2]))
command = launcher.command("t", declared(name=sys.argv[4]), SECRET)
words = command.words[len(tied()):] if sys.argv[3] == "weaker" else command.words
process = started(type(command)(words, command.environment))
print(process.pid, flush=True)
process.wait()
"""


def processes_of(server: str) -> list[int]:
    """The processes of a tool server of tenant ``t``."""
    uid = preferred("t", server)
    return [process.pid for process in psutil.process_iter() if uid in _uids(process)]


def _uids(process: psutil.Process) -> tuple[int, ...]:
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE
        return () if ended else tuple(process.uids())
    except psutil.NoSuchProcess:
        return ()


@pytest.fixture
def name() -> str:
    """The name of a tool server, whose user no other run of the tests has."""
    return f"time-{secrets.token_hex(4)}"


@pytest.fixture
def brokers(brokers_with: Callable[..., Brokers], tool_images: Path, tmp_path: Path) -> Brokers:
    """An installation whose brokers find the images."""
    return brokers_with(images_dir=tool_images, oci_dir=shared_images(tmp_path), installation=f"test-{os.getpid()}")


def test_servers_of_pypi_and_npm_are_listed_and_called(brokers: Brokers, node_images: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "a.txt").write_text("hello")
    brokers.declare(declared("time", connect_seconds=60))
    brokers.declare(declared("filesystem", files={str(shared): "/data"}, connect_seconds=60, destructive=True))
    brokers.start()
    assert {"get_current_time", "convert_time"} <= {tool.name for tool in brokers.ready("time").tools}
    now = json.loads(brokers.call("get_current_time", "time", timezone="Asia/Tokyo").result or "")
    assert now["datetime"].endswith("+09:00")
    assert code(brokers.call("get_current_time", "time", timezone="Nowhere/Else")) == "tool_failed"
    assert "read_text_file" in {tool.name for tool in brokers.ready("filesystem").tools}
    assert "hello" in (brokers.call("read_text_file", "filesystem", path="/data/a.txt").result or "")
    assert code(brokers.call("read_text_file", "filesystem", path="/etc/passwd")) == "tool_failed"
    written = brokers.call("write_file", "filesystem", path="/data/b.txt", content="x")
    assert code(written) == "tool_failed"  # the declaration gives the directory read-only
    assert os.listdir(shared) == ["a.txt"]


def test_server_that_was_killed_is_started_again(brokers: Brokers, name: str) -> None:
    brokers.declare(declared(name=name, connect_seconds=60))
    broker = brokers.start()
    brokers.ready(name)
    (before,) = processes_of(name)
    os.kill(before, signal.SIGKILL)

    def again() -> bool:
        return brokers.call("get_current_time", name, timezone="UTC").failure is None and processes_of(name) != []

    eventually(again, "the tool server answers again", 60)
    assert processes_of(name) != [before]
    broker.stop()
    assert processes_of(name) == []
    place = Path(f"/dev/shm/mayfly-tool-servers-{brokers.settings.installation}")
    assert list(place.iterdir()) == []
    place.rmdir()


@contextmanager
def launched(directory: Path, images: Path, name: str, how: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that has started a sandbox, as a broker does, and the sandbox's first process."""
    command = [sys.executable, "-c", LAUNCH, str(directory), str(images), how, name]
    broker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert broker.stdout is not None
        first = next(int(line) for line in broker.stdout if line.strip().isdigit())  # after lines of the log
        eventually(lambda: processes_of(name), "the tool server runs", 60)
        yield broker, first
    finally:
        broker.kill()
        broker.communicate()


def swept(directory: Path, images: Path) -> None:
    """Remove the remains of a killed broker, as the next broker of the host does."""
    (directory / "later").mkdir()
    later = launcher_in(directory / "later", images)
    later.bundles = directory / "bundles"
    left = bundle_of(later)
    assert cgroups_of(CGROUPS, left.name) != []
    moment = time.time() - 3600
    os.utime(left / LOCK, (moment, moment))
    later.command("t", declared(), SECRET).clean()
    assert cgroups_of(CGROUPS, left.name) == []
    assert list(later.bundles.iterdir()) == []


def test_killed_broker_leaves_no_process(tool_images: Path, tmp_path: Path, name: str) -> None:
    with launched(tmp_path, tool_images, name, "as usual") as (broker, first):
        broker.kill()
        broker.wait()
        eventually(lambda: not is_running(first), "the kernel has killed the first process")
        eventually(lambda: processes_of(name) == [], "no process of the tool server is left")
    swept(tmp_path, tool_images)


def test_control_server_stays_if_its_end_is_not_tied_to_the_brokers(
    tool_images: Path, tmp_path: Path, name: str
) -> None:
    with launched(tmp_path, tool_images, name, "weaker") as (broker, first):
        with open(f"/proc/{first}/fd/0", "wb", 0):  # the server's input stays open: nothing else ends the server
            broker.kill()
            broker.wait()
            assert processes_of(name) != []
            assert is_running(first)
            os.kill(first, signal.SIGKILL)
        eventually(lambda: processes_of(name) == [], "no process of the tool server is left")
    swept(tmp_path, tool_images)

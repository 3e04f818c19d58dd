"""The engine proxy of ``mayfly host run``: started again when it ends, and ended with the worker."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from orchestrator.cli.commands.hosts.proxy import start_proxy
from orchestrator.cli.console import CommandFailed
from tests.harness import ROOT, eventually, free_port

MODULE = "orchestrator.cli.commands.hosts.proxy"


class Kept:
    """A kept proxy, and the pipe whose end is that of its worker."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "engine.sock"
        own = {
            "STATE_DIR": directory,
            "ENGINE_PROXY_SOCKET": self.path,
            "ENGINE_METRICS_PORT": free_port(),
            "DOCKER_URL": f"unix://{directory}/none.sock",
        }
        self.env = {**os.environ, **{f"MAYFLY_{name}": str(value) for name, value in own.items()}}
        reader, self.writer = os.pipe()
        command = [sys.executable, "-m", MODULE, str(reader), str(self.path)]
        self.keeper = psutil.Popen(command, env=self.env, cwd=ROOT, pass_fds=[reader])
        os.close(reader)

    def proxy(self) -> psutil.Process | None:
        """The proxy that answers now."""
        for child in self.keeper.children():
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                if "worker.engine_proxy" in child.cmdline():
                    with closing(socket.socket(socket.AF_UNIX)) as client, suppress(OSError):
                        client.connect(str(self.path))
                        return child
        return None


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    if made.keeper.poll() is None:
        made.keeper.kill()
        made.keeper.wait()


def test_killed_proxy_is_started_again_and_ends_with_the_worker(kept: Kept) -> None:
    first = eventually(kept.proxy, "the proxy listens", 60)
    first.kill()
    other = eventually(lambda: (found := kept.proxy()) and found.pid != first.pid and found, "another listens", 60)
    os.close(kept.writer)
    assert kept.keeper.wait(60) == 0
    assert not other.is_running()
    assert not kept.path.exists()


def test_proxy_dies_with_its_keeper(kept: Kept) -> None:
    proxy = eventually(kept.proxy, "the proxy listens", 60)
    kept.keeper.kill()
    kept.keeper.wait()
    os.close(kept.writer)
    psutil.wait_procs([proxy], 60)
    assert not psutil.pid_exists(proxy.pid) or proxy.status() == psutil.STATUS_ZOMBIE


def test_proxy_that_cannot_start_ends_the_command(tmp_path: Path) -> None:
    own = {"STATE_DIR": tmp_path, "ENGINE_PROXY_SOCKET": tmp_path / "engine" / "engine.sock", "DOCKER_URL": "tcp://x:1"}
    env = {**os.environ, **{f"MAYFLY_{name}": str(value) for name, value in own.items()}}
    with pytest.raises(CommandFailed, match="ended right after its start"):
        start_proxy(env, None)

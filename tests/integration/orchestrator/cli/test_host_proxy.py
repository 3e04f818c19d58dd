"""The engine proxy of ``mayfly host run``: started again when it ends, and ended with the worker."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from orchestrator.cli.commands.hosts import proxy
from orchestrator.cli.commands.hosts.proxy import lock_proxy, start_proxy
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
        start_proxy(env, None, lock_proxy(env))


def test_proxy_without_its_port_for_metrics_ends_the_command(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        own = {"STATE_DIR": tmp_path, "ENGINE_PROXY_SOCKET": path, "DOCKER_URL": f"unix://{tmp_path}/none.sock"}
        own |= {"METRICS_HOST": "127.0.0.1", "ENGINE_METRICS_PORT": taken.getsockname()[1]}
        env = {**os.environ, **{f"MAYFLY_{name}": str(value) for name, value in own.items()}}
        with pytest.raises(CommandFailed, match="ended right after its start"):
            start_proxy(env, None, lock_proxy(env))
    assert not path.exists()


WORKER = f"""
import os
from {MODULE} import lock_proxy, start_proxy
start_proxy(os.environ, None, lock_proxy(os.environ))
os.execvp("cat", ["cat"])
"""


def test_second_worker_leaves_the_socket_to_the_first_and_its_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker becomes another program, as by the command."""
    path = tmp_path / "engine.sock"
    own = {"STATE_DIR": tmp_path, "ENGINE_PROXY_SOCKET": path, "DOCKER_URL": f"unix://{tmp_path}/none.sock"}
    own |= {"ENGINE_METRICS_PORT": 0}
    env = {**os.environ, **{f"MAYFLY_{name}": str(value) for name, value in own.items()}}
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(b"runs\n")
        worker.stdin.flush()
        assert worker.stdout.readline() == b"runs\n"
        monkeypatch.setattr(proxy, "LOCK_SECONDS", 0.0)
        with pytest.raises(CommandFailed, match="Another worker uses"):
            lock_proxy(env)
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(path))
        worker.kill()
    monkeypatch.setattr(proxy, "LOCK_SECONDS", 60.0)
    os.close(lock_proxy(env))
    assert not path.exists(), "the lock ends after the proxy"

"""Hosts of a swarm: an engine each, in namespaces of network, mounts and host name, with a directory of its own.

All see their directory at the same path, as hosts do. Two links lead out of a host: to the tests, and to the other.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

from tests.builders.processes.deployment import CLEAN
from tests.builders.processes.hosts import Host, ip
from tests.harness import ROOT, Process, eventually

# The second host's own directory is put over the path that all have.
SCRIPT = 'set -e; mount --bind "$1" "$2"; hostname "$3"; shift 3; exec "$@"'


class SwarmHost:
    """One host. ``shared`` is the path of its directory, as its engine sees it."""

    def __init__(self, name: str, shared: Path, own: Path) -> None:
        self.name, self._shared, self.directory = name, shared, own
        self._data = Path(tempfile.mkdtemp(prefix="mayfly-swarm-"))  # pytest's own are too deep for an engine's sockets
        for path in (own / "run", shared):
            path.mkdir(parents=True, exist_ok=True)
        self.host = Host(name, self._data)
        self.address = self.host.address.removesuffix(".1") + ".2"
        self._engine: Process | None = None
        self._lost: list[str] = []  # the containers of a lost host, whose cgroups no engine removes

    @property
    def env(self) -> dict[str, str]:
        """Of commands that are typed on this host."""
        return {**CLEAN, "DOCKER_HOST": f"unix://{self.directory / 'run' / 'docker.sock'}"}

    def start(self) -> None:
        """Start its engine, as docs/operations/swarm.md asks for it."""
        engine = [
            "dockerd", "--host", f"unix://{self._shared / 'run' / 'docker.sock'}", "--no-new-privileges", "--data-root",
            str(self._data / "data"), "--exec-root", str(self._data / "exec"), "--pidfile", str(self._data / "pid"),
        ]  # fmt: skip
        inside = [*self.host.inside, "unshare", "--mount", "--uts", "bash", "-c", SCRIPT, "bash"]
        words = [*inside, str(self.directory), str(self._shared), self.name, *engine]
        self._engine = Process(words, {"PATH": f"/usr/sbin:/sbin:{os.environ['PATH']}"}, self._data / "engine.log")
        eventually(self._answers, "the engine answers", 120)

    def __call__(self, command: str, **env: str) -> str:
        """Type a command, with bash; it must succeed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, cwd=ROOT,
            env={**self.env, **env}, stdin=subprocess.DEVNULL, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{self.log()}"
        return done.stdout

    def log(self) -> str:
        return "\n".join((self._data / "engine.log").read_text(errors="replace").splitlines()[-30:])

    def lose(self) -> None:
        """As a host without power: no packet and no process of it is left."""
        self._lost = self("docker ps --all --quiet --no-trunc").split()
        self.host.cut()
        ip("-n", self.name, "link", "set", "swarm", "down")
        self._kill()

    def remove(self) -> None:
        if self._engine is not None and self._engine.popen.poll() is None:
            self("docker swarm leave --force || true")
            self("docker ps --all --quiet | xargs --no-run-if-empty docker rm --force")
            self._engine.stop()
        self._kill()
        for group in (path for id in self._lost for path in Path("/sys/fs/cgroup").glob(f"*/docker/{id}")):
            group.rmdir()
        self.host.remove()
        shutil.rmtree(self._data, ignore_errors=True)

    def _answers(self) -> bool:
        assert self._engine is not None
        assert self._engine.popen.poll() is None, self.log()
        return subprocess.run(["docker", "version"], env=self.env, capture_output=True).returncode == 0

    def _processes(self) -> list[psutil.Process]:
        """The engine, its containerd and shims, and all that these have started."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self._data) in word for word in process.info["cmdline"] or ()):
                with suppress(psutil.NoSuchProcess):
                    found |= {one.pid: one for one in (process, *process.children(recursive=True))}
        return list(found.values())

    def _kill(self) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        if self._engine is not None:
            self._engine.popen.wait(60)
        eventually(lambda: not self._processes(), "no process of the host is left")


def join(first: SwarmHost, second: SwarmHost) -> tuple[str, str]:
    """Lay a link between two hosts; the addresses of its ends."""
    number = secrets.randbelow(254)
    ends = (f"198.19.{number}.1", f"198.19.{number}.2")
    ip("link", "add", "swarm", "netns", first.name, "type", "veth", "peer", "name", "swarm", "netns", second.name)
    for host, address in zip((first, second), ends, strict=True):
        ip("-n", host.name, "address", "add", f"{address}/30", "dev", "swarm")
        ip("-n", host.name, "link", "set", "swarm", "up")
    return ends

"""A private container engine of the tests, without other containers, images or processes."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import docker
import psutil

from tests.harness import Process, eventually

ENGINE = Path("/var/run/docker.sock")  # the one that most tests use
RUNTIMES = ("containerd-shim", "runc")  # what stands between an engine and its containers


class Engine:
    """One engine, which may be killed and started again. What it logs is in ``log``."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._home = Path(tempfile.mkdtemp(prefix="mayfly-engine-"))  # pytest's own are too deep for its sockets' paths
        self._address = self._home / "engine.sock"
        self._started: list[Process] = []

    @property
    def url(self) -> str:
        return f"unix://{self._address}"

    def start(self, *options: str) -> Process:
        """Start it (again), and wait until it answers."""
        for stale in (self._home / "engine.pid", self._address):
            stale.unlink(missing_ok=True)
        command = [
            "dockerd", "--host", self.url, "--data-root", str(self._home / "data"), "--exec-root",
            str(self._home / "exec"), "--pidfile", str(self._home / "engine.pid"), "--bridge", "none",
            "--iptables=false", *options,
        ]  # fmt: skip
        self._started.append(Process(command, {}, self._log))
        eventually(lambda: pings(self._address), "the engine answers", 60)
        return self._started[-1]

    def kill(self, *, everything: bool = False) -> None:
        """Kill its daemon; with ``everything`` also what that has started, but for the processes in containers.

        The kernel then ends containerd, its child; another daemon would wait in vain for a containerd that is about to
        end. The containers and their shims continue.
        """
        self._started[-1].stop(signal.SIGKILL)
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                if everything:
                    process.kill()
                if everything or process.name() == "containerd":
                    process.wait(30)
        # The next parent may reap it late, and until then dockerd takes it for alive.
        (self._home / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def processes(self, *names: str) -> list[psutil.Process]:
        """Its own processes, or those of them whose names begin so; not those in containers."""
        found = []
        for process in psutil.process_iter(["name", "cmdline"]):
            ours = any(str(self._home) in argument for argument in process.info["cmdline"] or ())
            if ours and process.info["name"].startswith(names or ("dockerd", "containerd", *RUNTIMES)):
                found.append(process)
        return found

    def containers(self, installation: str) -> list[str]:
        """Names of that installation's containers, ended ones included."""
        api = docker.APIClient(base_url=self.url)
        try:
            label = f"dev.mayfly.installation={installation}"
            found = api.containers(all=True, filters={"label": label})
            return [name.lstrip("/") for one in found for name in one["Names"] or ()]  # none of one that is removed
        finally:
            api.close()

    def close(self) -> None:
        """End it, and remove what it has."""
        for process in self._started:
            process.stop(signal.SIGTERM, 60)
        for left in self.processes():  # of one that was killed
            with suppress(psutil.NoSuchProcess):
                left.kill()
        for line in Path("/proc/self/mounts").read_text().splitlines():
            mount = line.split()[1]
            if mount.startswith(str(self._home)):
                subprocess.run(["umount", mount], check=True)
        shutil.rmtree(self._home)


def pings(address: Path) -> bool:
    """Whether an engine answers there."""
    with socket.socket(socket.AF_UNIX) as engine:  # docker-py leaks its own socket without an answer
        engine.settimeout(2)
        try:
            engine.connect(str(address))
            engine.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return b" 200 " in engine.recv(64)
        except OSError:
            return False

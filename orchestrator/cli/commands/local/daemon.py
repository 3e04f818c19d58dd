"""Starts a container engine where none runs, and stops it without leftovers.

``engine.json`` in the state directory records an engine that was started here. An engine that was running before is
never changed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.cli.commands.local.engine import Engine
from orchestrator.cli.commands.local.mounts import mount_points, unmount_below
from orchestrator.cli.commands.local.processes import Process, boot_id, end
from orchestrator.cli.commands.local.runtimes import add_runtimes, value_of
from orchestrator.cli.console import CommandFailed
from orchestrator.settings import inherited_environment

START_SECONDS = 60.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.1
SYSTEMD = Path("/run/systemd/system")
EXEC_ROOT = "/var/run/docker"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Daemon:
    """The engine at a URL and, where this command started it, its process."""

    def __init__(
        self, url: str, state_dir: Path, arguments: Sequence[str] = (), runsc_arguments: Sequence[str] = ()
    ) -> None:
        self.engine = Engine(url)
        self._arguments = list(arguments)
        self._runsc_arguments = list(runsc_arguments)
        self._directory = state_dir
        self._memory = state_dir / "engine.json"
        self._process = Process("engine", state_dir)

    def ensure(self) -> bool:
        """Make sure an engine answers; ``True`` if it had to be started. Raises :class:`CommandFailed`."""
        if self.engine.answers():
            return False
        url, socket = self.engine.url, self.engine.socket
        if socket is None:
            raise CommandFailed(f"The container engine at {url} does not answer. Start it there.")
        root = os.geteuid() == 0
        if socket.exists() and not os.access(socket, os.R_OK | os.W_OK):
            raise CommandFailed(
                f"You may not use the container engine at {socket}. Type: sudo usermod -aG docker $(id -un)\n"
                "  then log in again; or run this command as root."
            )
        if SYSTEMD.is_dir():
            if not root:
                raise CommandFailed("The container engine is not running. Type: sudo systemctl start docker")
            self._start_by_systemd()
        else:
            dockerd = shutil.which("dockerd", path=SYSTEM_PATH)
            if dockerd is None:
                raise CommandFailed("There is no container engine here. Type: sudo deploy/setup.sh")
            if not root:
                raise CommandFailed("The container engine is not running. Type: sudo .venv/bin/mayfly engine start")
            self._start_process(dockerd)
        return True

    def started_by_us(self) -> bool:
        """Whether this command started the running engine."""
        how = self._remembered().get("how")
        return how == "systemd" or (how == "process" and self._process.pid() is not None)

    def stop(self) -> str | None:
        """Stop the engine if this command started it, and clean up; returns how it ended, or ``None`` if the engine was
        not started here.
        """
        memory = self._remembered()
        if memory.get("how") == "systemd":
            subprocess.run(["systemctl", "stop", "docker.socket", "docker.service"], check=False)
            how: str | None = "stopped"
        elif memory.get("how") == "process":
            how = self._process.stop(STOP_SECONDS)
            self._clean(memory)
        else:
            return None
        self._memory.unlink(missing_ok=True)
        return how or "was gone already"

    def _start_by_systemd(self) -> None:
        done = subprocess.run(["systemctl", "start", "docker"], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise CommandFailed(f"The container engine cannot be started: {done.stderr.strip()}\n"
                                "  See: journalctl -u docker")  # fmt: skip
        self._remember(how="systemd")
        self._await(lambda: True, "journalctl -u docker")

    def _start_process(self, dockerd: str) -> None:
        own = self._directory / "dockerd.pid"
        own.unlink(missing_ok=True)
        arguments = add_runtimes(self._arguments, self._directory.absolute(), SYSTEM_PATH, self._runsc_arguments)
        for option, value in (("--host", self.engine.url), ("--pidfile", str(own))):
            if not value_of(arguments, option):
                arguments += [option, value]
        exec_root = os.path.realpath(value_of(arguments, "--exec-root") or EXEC_ROOT)
        self._remember(how="process", exec_root=exec_root, mounts=sorted(mount_points()))
        environment = inherited_environment(PATH=SYSTEM_PATH)
        self._process.start([dockerd, *arguments], environment, Path("/"))
        self._await(lambda: self._process.pid() is not None, str(self._process.log_file))
        self._remember(
            how="process",
            exec_root=exec_root,
            mounts=self._remembered()["mounts"],
            data_root=self.engine.info()["DockerRootDir"],
        )

    def _await(self, lives: Callable[[], bool], log: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.engine.answers():
            if not lives() or time.monotonic() > deadline:
                words = self._process.last_words()
                self.stop()
                raise CommandFailed(f"The container engine did not start; see {log}\n{words}")
            time.sleep(POLL_SECONDS)

    def _clean(self, memory: dict[str, Any]) -> None:
        """Remove a daemon's leftovers: its containerd if the daemon was killed, mounts and sockets."""
        if self.engine.answers():
            return  # the pid now belongs to another process, which also owns the files
        exec_root = Path(memory["exec_root"])
        before = set(memory["mounts"])
        _end_orphans(exec_root)
        for root in filter(None, (str(exec_root), memory.get("data_root"))):
            unmount_below(root, before)
        sockets = [path for path in exec_root.rglob("*") if path.is_socket()] if exec_root.is_dir() else []
        for path in [*sockets, *([self.engine.socket] if self.engine.socket else [])]:
            path.unlink(missing_ok=True)

    def _remember(self, **memory: Any) -> None:
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        self._memory.write_text(json.dumps({**memory, "boot": boot_id()}) + "\n", encoding="utf-8")

    def _remembered(self) -> dict[str, Any]:
        try:
            memory = dict(json.loads(self._memory.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}
        return memory if memory.get("boot") == boot_id() else {}  # after a reboot the recorded processes are gone


def _end_orphans(exec_root: Path) -> None:
    """End the processes of a killed daemon: its containerd, its containers and their shims."""
    address = f"{exec_root}/containerd/"
    for pid in _processes_with(address):
        command = _command_line(pid)
        if "containerd-shim" in command[0]:
            for child in _children(pid):
                end(child, 0, partial(_is_child, child, pid))
        elif "containerd" not in command[0]:
            continue
        end(pid, STOP_SECONDS, partial(_is_running, pid, command))


def _is_child(pid: int, parent: int) -> bool:
    return pid in _children(parent)


def _is_running(pid: int, command: list[str]) -> bool:
    return _command_line(pid) == command


def _processes_with(text: str) -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if any(text in word for word in _command_line(pid))]


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return [""]


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):  # the process has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # the thread has ended
                children += map(int, (task / "children").read_text(encoding="ascii").split())
    return children

"""Installations as `mayfly up` makes them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mayfly import Client
from orchestrator.cli.commands.local.engine import Engine
from orchestrator.cli.commands.local.mounts import mount_points
from orchestrator.cli.commands.local.processes import start_time
from orchestrator.settings import PREFIX, inherited_environment
from tests.harness import ROOT, eventually, free_uids

UP_SECONDS = 240


class Installation:
    """An installation of `mayfly up`, in a state directory of its own and far from any other installation."""

    def __init__(self, images: Path, **settings: str) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="mayfly-up-"))  # pytest's own are too deep for a socket's path
        self.installation = f"test-{secrets.token_hex(6)}"
        self.prefix: list[str] = []
        chosen = {
            "STATE_DIR": str(self.state),
            "IMAGES_DIR": str(images),
            "INSTALLATION": self.installation,
            "API_PORT": "0",
            "METRICS_PORT": "0",
            "TOOL_METRICS_PORT": "0",
            "ENGINE_METRICS_PORT": "0",
            "TOOL_USERS_DIR": str(self.state / "tool-users"),
            "POOL_SIZE": "0",
            "POOL_SIZES": '{"python": 1}',
            "UID_FIRST": str(free_uids()),
        } | settings
        clean = {name: value for name, value in inherited_environment().items() if not name.startswith(PREFIX)}
        paths = os.pathsep.join(filter(None, (str(ROOT), clean.get("PYTHONPATH"))))
        self.env = clean | {PREFIX + name: value for name, value in chosen.items()} | {"PYTHONPATH": paths}

    def command(self, *words: str) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "orchestrator.cli", *words]

    def mayfly(self, *words: str, input: bytes | None = None, **env: str) -> subprocess.CompletedProcess[bytes]:
        """Run the command; without ``input`` its standard input is empty and no pipe."""
        given: dict[str, Any] = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            self.command(*words), **given, env=self.env | env, capture_output=True, timeout=UP_SECONDS, check=False
        )

    def up(self, *words: str) -> str:
        done = self.mayfly("up", *words)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    def down(self) -> str:
        done = self.mayfly("down")
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    def pids(self) -> dict[str, int]:
        return {
            path.stem: json.loads(path.read_text())["pid"]
            for path in self.state.glob("*.pid")
            if path.stem != "dockerd"
        }

    def kill(self, *names: str) -> None:
        """Kill processes, the supervisor first, so that none is restarted; wait for their ends."""
        pids = self.pids()
        for name in ("supervisor", *names):
            if pid := pids.get(name):  # earlier releases have no supervisor
                os.kill(pid, signal.SIGKILL)
                eventually(partial(_is_dead, pid), f"{name} is dead")

    def client(self) -> Client:
        return Client((self.state / "url").read_text().strip(), (self.state / "api-key").read_text().strip())

    def containers(self) -> list[str]:
        with Engine("unix:///var/run/docker.sock") as engine:
            return engine.containers(self.installation)

    def left(self) -> list[str]:
        """Everything that must be gone after `down`."""
        found = [f"container {id}" for id in self.containers()]
        found += [f"mount {point}" for point in mount_points() if point.startswith(str(self.state))]
        found += [str(path) for path in self.state.rglob("*") if path.is_socket() or path.suffix == ".pid"]
        found += [str(path) for pattern in ("sandboxes/*", "oci/bundles/*/*") for path in self.state.glob(pattern)]
        return found


def _is_dead(pid: int) -> bool:
    return start_time(pid) is None


@contextmanager
def installed(images: Path, **settings: str) -> Iterator[Installation]:
    made = Installation(images, **settings)
    try:
        yield made
    finally:
        pids = made.pids()
        made.down()
        left = [*made.left(), *(f"process {name}" for name, pid in pids.items() if start_time(pid) is not None)]
        shutil.rmtree(made.state)
        assert left == []

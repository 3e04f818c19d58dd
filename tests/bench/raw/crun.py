"""crun without a daemon: a run from nothing, and containers that were started ahead and wait.

Run as ``python -m tests.bench.raw.crun`` by ``bench/systems/child.py``. Variants: ``run`` starts a container for each
program and waits for its end. ``waiting`` and ``waiting, agent`` keep containers ahead: each run takes the oldest, and
starts the next one the moment it has the result, which then boots beside other runs. Nothing checks, records or
guards anything here: it is the ceiling for a control plane that does.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from tests.bench.parts.variants import bare
from tests.bench.peers.serve import Contestant, check, serve
from tests.bench.raw.bundle import bundle_config, environments, export, leased, profile_of
from tests.bench.raw.waiting import Agent, Bare

AHEAD = 2  # containers that wait for each run at a time: with more of them, none ran faster here


class Crun(Contestant):
    """The common part: one bundle for all containers of a program, and crun's command line."""

    def __init__(self, setting: dict[str, Any]) -> None:
        self._images: dict[str, str] = setting["images"]
        self._rootfs = Path(setting["state"]) / "rootfs"
        self._environments = environments()
        self._directory = tempfile.TemporaryDirectory(prefix="mayfly-bench-")  # gone with this process
        self._work = Path(self._directory.name)
        self._lease = leased(self._work)

    def about(self) -> dict[str, str]:
        printed = subprocess.run(["crun", "--version"], capture_output=True, text=True, check=True).stdout
        return {"crun": printed.split()[2]}

    def lay_out(self, program: dict[str, Any], args: list[str]) -> None:
        """The bundle: the environment's image, its default limits, and the program among the inputs."""
        environment = self._environments[program["environment"]]
        (self._lease.inputs / environment.file_name).write_text(program["code"], encoding="utf-8")
        image = self._images[environment.name]
        profile = profile_of(environment, image, "crun", self._lease, "bench")
        config = bundle_config(export(image, self._rootfs), profile, environment.env, args)
        self.change(config)
        (self._work / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def change(self, config: dict[str, Any]) -> None:
        """Change the bundle's configuration; here nothing."""

    def start(self, **pipes: Any) -> subprocess.Popen[bytes]:
        """A container; crun continues as long as it does, reports its exit code, and has removed it then."""
        name = f"mayfly-bench-{secrets.token_hex(6)}"
        command = ["crun", "--cgroup-manager=cgroupfs", f"--root={self._work / 'state'}", "run"]
        return subprocess.Popen([*command, f"--bundle={self._work}", name], close_fds=False, **pipes)

    def close(self) -> None:
        for left in self._lease.inputs.iterdir():
            left.unlink()


class Run(Crun):
    """``crun run`` for each program."""

    def prepare(self, program: dict[str, Any], at_once: int) -> None:
        self.lay_out(program, program["command"])

    def run(self, program: dict[str, Any]) -> float:
        began = time.monotonic()
        process = self.start(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        out, _ = process.communicate()
        seconds = time.monotonic() - began
        assert process.returncode == 0, f"crun ended with {process.returncode}"
        check(program, out)
        return seconds


class Waiting(Crun):
    """Containers started ahead."""

    def __init__(self, setting: dict[str, Any], kind: type[Bare] | type[Agent]) -> None:
        super().__init__(setting)
        self._kind = kind
        self._waiting: deque[tuple[subprocess.Popen[bytes], threading.Event]] = deque()

    def prepare(self, program: dict[str, Any], at_once: int) -> None:
        self._side = self._kind(self._environments[program["environment"]])
        self.lay_out(program, self._side.command)
        for _ in range(AHEAD * at_once):
            self._refill()

    def settle(self) -> None:
        for process, known in list(self._waiting):
            self._await_ready(process, known)

    def run(self, program: dict[str, Any]) -> float:
        process, known = self._waiting.popleft()
        began = time.monotonic()
        self._await_ready(process, known)
        self._side.converse(process.stdin.fileno(), process.stdout.fileno(), program)  # type: ignore[union-attr]
        code = process.wait(60)
        seconds = time.monotonic() - began
        assert code == 0, f"crun ended with {code}"
        process.stdin.close()  # type: ignore[union-attr]
        process.stdout.close()  # type: ignore[union-attr]
        self._refill()
        return seconds

    def close(self) -> None:
        while self._waiting:
            process, known = self._waiting.popleft()
            self._await_ready(process, known)
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(60)
            process.stdout.close()  # type: ignore[union-attr]
        super().close()

    def _refill(self) -> None:
        process = self.start(stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._waiting.append((process, threading.Event()))

    def _await_ready(self, process: subprocess.Popen[bytes], known: threading.Event) -> None:
        if not known.is_set():
            self._side.ready(process.stdout.fileno())  # type: ignore[union-attr]
            known.set()


class BareWaiting(Waiting):
    """The same without a wall: no filter, no masked paths, no limits of processes, and the fewest mounts."""

    def change(self, config: dict[str, Any]) -> None:
        bare(config, self._work)


def make(setting: dict[str, Any]) -> dict[str, Contestant]:
    """The variants."""
    os.environ.setdefault("LC_ALL", "C")
    return {
        "run": Run(setting),
        "waiting": Waiting(setting, Bare),
        "waiting, agent": Waiting(setting, Agent),
        "waiting, bare": BareWaiting(setting, Bare),
    }


if __name__ == "__main__":
    serve(make)

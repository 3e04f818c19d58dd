"""A driver whose containers cost nothing, to measure the control plane alone.

Its sandbox answers at once, in the frames an agent sends, that the program printed ``1`` and exited 0. Nothing runs, so
it lives among the tests: no setting of the product names it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.environments import Environment
from orchestrator.host.posture import EngineFacts
from orchestrator.models import Isolation, Limits
from worker.agent.frames import HEADER, FromAgent, ToAgent
from worker.counters import Counters, Ended
from worker.drivers.base import Image, Owned
from worker.sandbox.profile import SandboxProfile
from worker.sandbox.readback import CAPABILITIES, SECCOMP_FILTER

COUNTED = Counters(cpu_seconds=0.01, throttled_seconds=0.0, peak_memory_bytes=10 * 2**20, peak_processes=2)


def frame(kind: FromAgent, payload: bytes | dict[str, Any]) -> bytes:
    """One frame as an agent sends it."""
    body = msgspec.json.encode(payload) if isinstance(payload, dict) else payload
    return HEADER.pack(kind.value, len(body)) + body


ENDED: dict[str, Any] = {"exit_code": 0, "signal": None, "stopped": None, "disk_full": [], "wall_seconds": 0.001}
STARTED = frame(FromAgent.RUNNING, {}) + frame(FromAgent.STDOUT, b"1\n")
OVER = frame(FromAgent.EXIT, ENDED)


class EmptySandbox:
    """A sandbox that is one queue of answers."""

    diagnostics = b""
    cgroup_survives_exit = True

    def __init__(self, profile: SandboxProfile) -> None:
        self.profile = profile
        self._answers = deque([frame(FromAgent.READY, report(profile))])
        self._changed = threading.Condition()

    def start(self) -> None:
        pass

    def send(self, data: bytes, timeout_seconds: float) -> None:
        if data[:1] == ToAgent.START.value:
            with self._changed:
                self._answers += [STARTED, OVER]
                self._changed.notify()

    def receive(self, timeout_seconds: float) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._answers, timeout_seconds)
            arrived = b"".join(self._answers)
            self._answers.clear()
            return arrived or None

    def counters(self) -> Counters:
        return COUNTED

    def restore_cpu_weight(self) -> None:
        pass

    def adjust(self, limits: Limits) -> None:
        pass

    def wait(self, timeout_seconds: float) -> Ended | None:
        return Ended(exit_code=0, oom_killed=False)

    def kill(self) -> None:
        pass

    def destroy(self) -> None:
        pass


class EmptyDriver:
    """Every environment, no container."""

    name = "empty"

    def runtimes(self) -> dict[Isolation, str]:
        return {"standard": "none"}

    def image(self, environment: Environment) -> Image:
        return Image(environment.name, "sha256:none", 0)

    def sandbox(self, profile: SandboxProfile) -> EmptySandbox:
        return EmptySandbox(profile)

    def owned(self) -> Sequence[Owned]:
        return []

    def places(self) -> dict[str, Path]:
        return {}

    def version(self) -> str:
        return "no engine"

    def facts(self) -> EngineFacts:
        return EngineFacts({"Runtimes": {}, "SecurityOptions": []}, {"Version": "28.0.0"}, [])


def report(profile: SandboxProfile) -> dict[str, Any]:
    """The agent's report of a container of that profile."""
    mounts = [["/", "overlay", "ro"], ["/inputs", "ext4", "ro"], ["/run/identity", "ext4", "ro"]]
    for mount in profile.tmpfs:
        options = f"rw,nosuid,nodev,size={mount.size_bytes // 1024}k,nr_inodes={mount.inodes}"
        mounts.append([mount.path, "tmpfs", options if mount.executable else f"{options},noexec"])
    mounts.append(["/dev/shm", "tmpfs", f"rw,nosuid,nodev,noexec,size={profile.shm_bytes // 1024}k"])
    return {
        "agent": 1, "uid": profile.uid, "gid": profile.uid, "groups": [],
        "caps": dict.fromkeys(CAPABILITIES["standard"], "0"), "seccomp": SECCOMP_FILTER, "no_new_privs": 1,
        "mounts": mounts, "limits": {name: [bound, bound] for name, bound in profile.ulimits.items()},
    }  # fmt: skip

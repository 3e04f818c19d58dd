"""One program in one sandbox, through the real driver and launcher, without API and Redis.

A test may edit what the engine is asked for (``edit``), so that a control differs from the true sandbox in one field.
The worker's two refusals, of the engine's container and of the agent's report, then record their messages instead of
ending the launch: ``Sandbox.refusals``.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.environments import load_environments
from orchestrator.errors import WeakContainer
from orchestrator.models import Isolation, Limits
from orchestrator.settings import Settings
from tests.harness import ROOT, Way, free_uids, share_unpacked
from worker.agent.frames import FromAgent, ToAgent, encode
from worker.counters import Ended
from worker.drivers.base import Driver
from worker.drivers.docker import config
from worker.drivers.docker import sandbox as engine_sandbox
from worker.host.hostdirs import HostDirs
from worker.pool import launcher as launching
from worker.pool.launcher import Launcher, Lease
from worker.process import driver_of
from worker.sandbox import readback
from worker.sandbox.profile import SandboxProfile
from worker.upkeep.reaper import reap

ENVIRONMENTS = load_environments([ROOT / "sandbox_image" / "environments", ROOT / "tests" / "environments"])
WORKER = "test-sandbox"
USUAL = Way("docker-runc")
DEADLINE_SECONDS = 60.0
Edit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Ran:
    """A program's output, and the agent's report of its end."""

    stdout: str
    stderr: str
    exit: dict[str, Any]


@dataclass
class Sandbox:
    """A container whose agent waits for a program, or has run one."""

    lease: Lease
    driver: Driver
    made: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    def run(self, code: str, *args: str, cpu_seconds: float = 30, denial_log: bytes = b"") -> Ran:
        """Run the container's one program, up to the agent's last word; it then waits for ``end``."""
        self.begin(code, *args, cpu_seconds=cpu_seconds, denial_log=denial_log)
        received = dict.fromkeys(FromAgent, b"")
        asked = time.monotonic()
        while (frames := self.lease.frames(DEADLINE_SECONDS)) is not None:
            came = time.monotonic() - asked < DEADLINE_SECONDS  # perhaps a part of a frame
            assert frames or came, f"nothing came for {DEADLINE_SECONDS:g} s"
            asked = time.monotonic()
            for frame in frames:
                received[frame.kind] += frame.payload
                if frame.kind is FromAgent.EXIT:
                    stdout, stderr = (received[kind].decode() for kind in (FromAgent.STDOUT, FromAgent.STDERR))
                    return Ran(stdout, stderr + received[FromAgent.COMPILE_STDERR].decode(), frame.json())
        raise AssertionError(f"the sandbox ended before its program: {received}")

    def begin(
        self,
        code: str,
        *args: str,
        cpu_seconds: float = 30,
        denial_log: bytes = b"",
        leave: bool = False,
        tools: dict[str, int] | None = None,
    ) -> None:
        """Start the container's one program, after which the agent waits for ``end`` or leaves.

        Without ``denial_log``, what is denied is the container's own doing and not that of the agent's filter.
        """
        environment = ENVIRONMENTS[self.lease.environment]
        (self.lease.host_dir.inputs / environment.file_name).write_text(code)
        entrypoint = f"/work/{environment.file_name}"
        command, compiler = (
            [entrypoint if part == "{entrypoint}" else part for part in argv]
            for argv in (environment.run, environment.compile or ())
        )
        start = {
            "run": command, "fork": environment.fork, "entrypoint": entrypoint, "args": args, "env": environment.env,
            "compile": compiler or None, "wall_seconds": 50, "cpu_seconds": cpu_seconds, "cpu_cores": 1,
            "artifacts": [], "artifact_bytes": 0, "artifact_files": 0, "copy_bytes": 2**25,
            "denial_log": base64.b64encode(denial_log).decode(), "leave": leave, **({"tools": tools} if tools else {}),
        }  # fmt: skip
        self.lease.sandbox.send(encode(ToAgent.START, start) + encode(ToAgent.STDIN), 30)

    def end(self) -> Ended | None:
        """Let the agent go, and wait for the container."""
        self.lease.sandbox.send(encode(ToAgent.BYE), 30)
        return self.lease.sandbox.wait(60)


class Bench:
    """Makes sandboxes one after the other, under an installation of its own."""

    def __init__(self, directory: Path, images: Path, way: Way = USUAL) -> None:
        self.settings = Settings(
            images_dir=images,
            installation=f"test-{secrets.token_hex(6)}",
            oci_dir=directory / "oci",
            driver=way.driver,
            standard_runtime=way.runtime if way.isolation == "standard" else "runc",
            hardened_runtime=way.runtime if way.isolation == "hardened" else "no-such-runtime",
        )
        share_unpacked(self.settings.oci_path)
        self.driver: Any = driver_of(self.settings, WORKER)
        self._host_dirs = HostDirs(directory / "sandboxes", WORKER, free_uids(), 1000)
        self.launcher = Launcher(self.driver, self._host_dirs, ENVIRONMENTS, WORKER)

    @contextmanager
    def sandbox(
        self,
        *,
        environment: str = "python",
        isolation: Isolation = "standard",
        limits: Limits | None = None,
        edit: Edit | None = None,
    ) -> Iterator[Sandbox]:
        """A sandbox, destroyed at the end; ``edit`` changes in place what the engine is asked for."""
        declared = ENVIRONMENTS[environment]
        with _edited(edit) as sandboxes:
            lease = self.launcher.launch(declared, isolation, limits or declared.defaults)
        try:
            made = Sandbox(lease, self.driver, *sandboxes)
            yield made
        finally:
            self.launcher.destroy(lease)

    def close(self) -> None:
        """Fail if anything is left."""
        reap(self.driver, self.launcher, self._host_dirs, WORKER, set)
        assert self.driver.owned() == []
        assert not self.launcher.live


@contextmanager
def _edited(edit: Edit | None) -> Iterator[tuple[dict[str, Any], dict[str, Any], list[str]]]:
    """Within, launches ask for the edited configuration; gives what was made, reported, and would have been refused."""
    made: dict[str, Any] = {}
    report: dict[str, Any] = {}
    refusals: list[str] = []
    true: dict[str, Any] = {}
    render, refuse_made, refuse_reported = (
        config.container_config,
        config.refuse_weaker,
        readback.refuse_weaker,
    )

    def rendered(profile: SandboxProfile) -> dict[str, Any]:
        true.update(render(profile))
        asked = deepcopy(true)
        if edit is not None:
            edit(asked)
        return asked

    def check_made(_asked: dict[str, Any], inspected: dict[str, Any]) -> None:
        made.update(inspected)
        try:
            refuse_made(true, inspected)
        except WeakContainer as error:
            refusals.append(error.message)

    def check_reported(profile: SandboxProfile, received: dict[str, Any]) -> None:
        report.update(received)
        try:
            refuse_reported(profile, received)
        except WeakContainer as error:
            refusals.append(error.message)

    def check_limits(sandbox: Any, *about: Any) -> None:
        try:
            refuse_limits(sandbox, *about)
        except WeakContainer as error:
            refusals.append(error.message)

    refuse_limits = engine_sandbox.DockerSandbox._refuse_other_limits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_sandbox, "container_config", rendered)
        patch.setattr(engine_sandbox.DockerSandbox, "_refuse_other_limits", check_limits)
        patch.setattr(engine_sandbox, "refuse_weaker", check_made)
        patch.setattr(launching, "refuse_weaker", check_reported)
        yield made, report, refusals

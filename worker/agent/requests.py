"""Requests to the agent: to prepare a program's process ahead, and to run a program."""

from __future__ import annotations

import base64
import platform
from collections.abc import Mapping
from functools import cache
from typing import Any

from orchestrator.environments import Environment
from orchestrator.models import Isolation, Limits, Specification
from worker.agent.frames import ToAgent, encode
from worker.sandbox import answers
from worker.sandbox.log_filter import log_filter

# The sandbox kernel's counters of attempts to leave the sandbox, for hosts that cannot count the attempts themselves.
# gVisor counts failed connections, and no datagrams. It answers each connection refused within the sandbox by a reset,
# so the resets are subtracted.
COUNTERS: dict[Isolation, tuple[str, ...]] = {
    "standard": ("Ip.OutNoRoutes", "Ip6OutNoRoutes"),
    "hardened": ("Tcp.AttemptFails", "-Tcp.OutRsts"),
}
CALL_WINDOW_BYTES = 64 * 1024  # of tool calls that the agent may send before the host has read them
IDLE_SECONDS = 0.5  # after this wait a container's imports no longer compete with the making of the next container


def prepare(environment: Environment, isolation: Isolation, limits: Limits, cpu_seconds: float) -> bytes | None:
    """Have the agent start the program's process (``Environment.fork`` or ``spawn``), which waits for its program.

    ``None`` where the environment has neither. The agent does not answer; it decides whether a program gets that
    process or a new one. ``cpu_seconds`` is the CPU limit that the agent enforces, here and below.
    """
    if not environment.spawn and not environment.fork:
        return None
    entrypoint = f"/work/{environment.file_name}"
    ahead = {
        "run": _filled(environment.spawn or environment.run, entrypoint),
        "fork": environment.fork,
        "entrypoint": entrypoint,
        "env": environment.env,
        "cpu_seconds": cpu_seconds,
        "memory_bytes": limits.memory_bytes,
        "answers": _answers(isolation),
        "denial_log": _denial_log(isolation),
        "preload": environment.preload_idle,
        "idle_seconds": IDLE_SECONDS,
    }
    return encode(ToAgent.PREPARE, ahead)


def start(
    specification: Specification,
    environment: Environment,
    cpu_seconds: float,
    artifact_bytes: int,
    artifact_files: int,
    results: Mapping[str, Any],
    leave: bool,
    prepared: bool = False,
    tool_wait_seconds: float | None = None,
) -> bytes:
    """Have the agent run a program: the START frame, and standard input unless it is streamed (``Feeder``).

    The agent sends at most the given bytes and files of ``/output`` and ``/work``, results within those bounds, and
    with ``leave`` exits after EXIT.
    ``prepared``: whether the agent already has the program's seccomp filters, from :func:`prepare`. A program has tools
    unless ``tool_wait_seconds`` is ``None``: the agent adds these seconds to the wall time, and the host, which knows
    how long the program waited for tools, enforces the exact wall time.
    """
    entrypoint = f"/work/{specification.entrypoint}"
    order = {
        "run": _filled(environment.cell if specification.mode == "cell" else environment.run, entrypoint),
        "cell": specification.mode == "cell",
        "fork": environment.fork,
        "entrypoint": entrypoint,
        "args": specification.args,
        "env": {**environment.env, **specification.env},
        "compile": _filled(environment.compile, entrypoint) or None,
        "wall_seconds": specification.limits.wall_seconds,
        "cpu_seconds": cpu_seconds,
        "memory_bytes": specification.limits.memory_bytes,
        "cpu_cores": specification.limits.cpu_cores,
        "artifacts": specification.artifacts,
        "artifact_bytes": artifact_bytes,
        "artifact_files": artifact_files,
        "results": results,
        "counters": COUNTERS[specification.isolation] if specification.loopback else (),
        "copy_bytes": copy_bytes(specification.limits),
        "leave": leave,
    }
    if tool_wait_seconds is not None:
        order["tools"] = {"room_bytes": CALL_WINDOW_BYTES}
        order["wall_seconds"] = specification.limits.wall_seconds + tool_wait_seconds
    if not prepared or specification.loopback:  # a loopback has other filters, which a prepared agent refuses
        order["answers"] = _answers(specification.isolation)
        order["denial_log"] = _denial_log(specification.isolation, specification.loopback)
    stdin = bytes_in(specification)
    if stdin is None:
        return encode(ToAgent.START, {**order, "stream_stdin": True})
    return encode(ToAgent.START, order) + encode(ToAgent.STDIN, stdin)


def bytes_in(specification: Specification) -> bytes | None:
    """The standard input inside a specification; ``None`` if it is streamed or in a blob."""
    stdin = specification.stdin
    if isinstance(stdin, str):
        return stdin.encode()
    if stdin.content is None:
        return None
    return base64.b64decode(stdin.content) if stdin.encoding == "base64" else stdin.content.encode()


def copy_bytes(limits: Limits) -> int:
    """The bytes of inputs that are copied into the working directory; further inputs become links.

    The copies count as the program's own files and memory, so at most half of its disk and an eighth of its memory.
    """
    return min(limits.disk_bytes // 2, limits.memory_bytes // 8)


@cache
def _answers(isolation: Isolation) -> str:
    """The filter that gives some refused calls another error code. gVisor refuses these calls itself, like an old
    kernel.
    """
    instructions = answers.answer_filter(platform.machine()) if isolation == "standard" else b""
    return base64.b64encode(instructions).decode()


@cache
def _denial_log(isolation: Isolation, loopback: bool = False) -> str:
    """The filter with which the kernel logs denied calls. gVisor writes no audit records."""
    instructions = log_filter(platform.machine(), loopback) if isolation == "standard" else b""
    return base64.b64encode(instructions).decode()


def _filled(command: tuple[str, ...], entrypoint: str) -> list[str]:
    """A command of an environment, with the program's path in it."""
    return [entrypoint if part == "{entrypoint}" else part for part in command]

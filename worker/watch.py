"""Security events from the facts of an execution: what was blocked, with the number it was held against."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Facts, Limits
from orchestrator.states import Reason, Verdict

MIB = 2**20


def events_of(facts: Facts, verdict: Verdict, limits: Limits, rejected: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Events as ``{"kind", "detail", …}``, each with a sentence on what to do about it."""
    events: list[dict[str, Any]] = []

    def add(kind: str, detail: str, **more: Any) -> None:
        events.append({"kind": kind, "detail": detail, **more})

    match verdict.reason:
        case Reason.SECURITY_VIOLATION if facts.killed == "frames":
            add("frame_violation", "The sandbox sent bytes that its agent never sends; it was killed.")
        case Reason.SECURITY_VIOLATION:
            add(
                "seccomp_violation", "The program made a system call that no sandboxed program may make; it was killed."
            )
        case Reason.TIMED_OUT:
            detail = f"The program ran longer than {limits.wall_seconds:g} s. Ask for more with limits.wall_seconds."
            add("timeout", detail, limit=limits.wall_seconds)
        case Reason.CPU_EXCEEDED:
            detail = f"The program used more than {limits.cpu_seconds:g} CPU seconds. Ask for more: limits.cpu_seconds."
            add("timeout", detail, limit=limits.cpu_seconds)
        case Reason.OUTPUT_EXCEEDED:
            detail = (
                f"The program wrote more than {limits.output_bytes} bytes of output. Write files to /output instead."
            )
            add("output_limit", detail, limit=limits.output_bytes)
    if facts.oom_events or facts.oom_killed:
        detail = f"Memory and files together passed {limits.memory_bytes // MIB} MiB; the kernel ended a process."
        add("oom_killed", detail, limit=limits.memory_bytes, count=max(1, facts.oom_events))
    if facts.pids_events:
        detail = f"More than {limits.processes} processes and threads were wanted. Ask for more with limits.processes."
        add("pids_limit", detail, limit=limits.processes, count=facts.pids_events)
    for path in facts.disk_full:
        detail = f"{path} was full at {limits.disk_bytes // MIB} MiB. Ask for more with limits.disk_bytes."
        add("disk_limit", detail, limit=limits.disk_bytes, path=path)
    for entry in rejected:
        add("artifact_rejected", "Only regular files of bounded size and number are collected.", **entry)
    return events

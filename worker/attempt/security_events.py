"""Security events: reports of blocked actions that a person or a program can act on.

The kernel's records of a uid go to the attempt that runs under the uid (:class:`Watch`); plain functions turn the
host's counters, and the attempt's end, into events. ``attribution`` is the source of an event: ``kernel``, ``cgroup``,
``host`` (the worker itself), ``agent``, or ``inferred`` if only the program's exit code indicates the cause.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestrator.models import Facts, Limits, RejectedArtifact, RejectionReason, SecurityKind
from orchestrator.models.security import (
    Attribution,
    DeniedCall,
    KilledProcess,
    ReachedLimit,
    Refusal,
    SecurityEvent,
)
from orchestrator.states import SIGSYS, Reason, Verdict
from worker.agent.conversation import MAX_SOCKETS
from worker.attempt.incidents import MAX_DENIALS, Incidents
from worker.counters import Counters
from worker.host.audit import Denial, KernelWatch
from worker.host.locks import MAX_LOCKS, LockWatch, Why
from worker.sandbox import seccomp
from worker.sandbox.log_filter import has_usual_arguments
from worker.sandbox.syscalls import name_of

MIB = 2**20
FEW_CORES = 0.1
LATE_SECONDS = 5.0  # after an attempt's end, in which its audit records are still accepted
DRAIN_SECONDS = 2.0  # bound on reading records before an attempt's end; 10,000 denials take a tenth of a second
RECORD_SECONDS = 1.0  # bound on the wait for the record of a kill, which usually takes a millisecond
# Kind, sentence and address families of a socket that was denied, and of a socket for which the program was killed.
NETWORK_SOCKET: tuple[SecurityKind, str, str] = (
    "network_attempt",
    "Programs have no network: opening a socket other than a Unix socket failed with EPERM. Send the data as an input "
    "file, or ask for a tool.",
    "AF_INET, AF_INET6 or AF_NETLINK",
)
UNROUTED = (
    "The sandbox has a loopback and no other network: a connection or datagram to another address had no route. Send "
    "the data as an input file, or ask for a tool."
)
ODD_SOCKET: tuple[SecurityKind, str, str] = (
    "seccomp_violation",
    "The program requested a socket of a family that only attacks on the kernel use, such as AF_ALG, AF_VSOCK or "
    "AF_PACKET; the process was killed. Unix sockets are allowed.",
    "none of AF_UNIX, AF_INET, AF_INET6, AF_NETLINK",
)
LOCKED: dict[Why, str] = {
    "shared_lock": "The program tried to lock an event descriptor or a namespace, which all programs of the host "
    "share; the program was ended. Lock files in /work.",
    "many_locks": f"The program had more than {MAX_LOCKS} file locks at a time, whose memory the kernel charges to no "
    "sandbox; the program was ended. Lock files whole, or fewer ranges.",
}
LINKS_AND_DEVICES = "only regular files leave a sandbox. Copy the content into a regular file in /output."
REJECTED: dict[RejectionReason, str] = {
    "symlink": LINKS_AND_DEVICES,
    "fifo": LINKS_AND_DEVICES,
    "socket": LINKS_AND_DEVICES,
    "device": LINKS_AND_DEVICES,
    "too_deep": "its path has more than {bound} directories. Use fewer directories, or an archive.",
    "bad_name": "its path has control characters, is not UTF-8, or is longer than {bound} bytes. Rename it.",
    "too_many": "an execution has at most {bound} artifacts. Ask for fewer with `artifacts`, or make an archive.",
    "too_large": "an execution's artifacts have at most {bound} bytes together. Ask for fewer with `artifacts`.",
    "unreadable": "it cannot be read. Change its mode before the program ends.",
    "duplicate": "/output has another file of the same path, which was collected. Rename one of the two.",
}
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - paths inside the sandbox, also below
WRITABLE = ("/work", "/tmp", "/output", SHARED_MEMORY)  # noqa: S108


class Watch:
    """The map from uids to attempts. Thread-safe."""

    def __init__(self, kmsg: Path = Path("/dev/kmsg")) -> None:
        self._lock = threading.Lock()
        self._attempts: dict[int, tuple[Incidents, int]] = {}  # with the number of records lost before each attempt
        self._settled: dict[int, float] = {}  # monotonic, oldest first
        self.kernel = KernelWatch(self._denied, kmsg)
        self.locks = LockWatch(self._running, self._locked)

    def follow(self, uid: int, incidents: Incidents) -> None:
        """Attribute the kernel's records of ``uid`` to these incidents from now on."""
        with self._lock:
            now = time.monotonic()
            while self._settled and now - self._settled[oldest := next(iter(self._settled))] > LATE_SECONDS:
                del self._settled[oldest], self._attempts[oldest]
            self._settled.pop(uid, None)
            self._attempts[uid] = incidents, self.kernel.lost
        self.locks.need()

    def settled(self, uid: int) -> None:
        """Record the end of the attempt; late records of the kernel are attributed for a moment more."""
        with self._lock:
            self._settled[uid] = time.monotonic()

    def kills(self, uid: int, signal: int | None) -> int | None:
        """The number of processes killed by the seccomp filter; ``None`` if the kernel's records are unavailable or
        incomplete.

        If the program died of the filter's signal, this method waits for the record of the kill, but not for a flood of
        other records.
        """
        if self.kernel.source is None:
            return None
        with self._lock:
            incidents, lost = self._attempts[uid]
        until = time.monotonic() + DRAIN_SECONDS
        while not (drained := self.kernel.drain()) and time.monotonic() < until:
            pass
        found = incidents.kills(RECORD_SECONDS if signal == SIGSYS else 0.0)
        # The kernel log drops records silently.
        complete = drained and self.kernel.lost == lost and self.kernel.source == "audit"
        return found if found or complete else None

    def _running(self) -> set[int]:
        with self._lock:
            return self._attempts.keys() - self._settled.keys()

    def _locked(self, uid: int, why: Why) -> None:
        with self._lock:
            attempt = self._attempts.get(uid)
        if attempt is not None:
            attempt[0].note(SecurityEvent("seccomp_violation", LOCKED[why], "host", Refusal(why)))
            attempt[0].end()

    def _denied(self, denial: Denial) -> None:
        with self._lock:
            attempt = self._attempts.get(denial.uid)
        if attempt is not None:
            note_denial(attempt[0], denial)


def note_denial(incidents: Incidents, denial: Denial) -> None:
    """Record a system call that failed with EPERM, or whose caller was killed."""
    incidents.note(_event_of(denial))


@lru_cache(maxsize=256)
def _event_of(denial: Denial) -> SecurityEvent:
    name = name_of(denial.number, denial.architecture) or f"number {denial.number}"
    call = DeniedCall(name, denial.architecture, denial.killed, denial.process, denial.pid)
    if name in ("socket", "socketpair"):  # a record has no arguments, but `killed` separates two groups of families
        kind, detail, family = ODD_SOCKET if denial.killed else NETWORK_SOCKET
        return SecurityEvent(kind, detail, "kernel", replace(call, family=family))
    why = seccomp.reason(name, denial.architecture)
    done = "the process was killed" if denial.killed else "the call failed with EPERM"
    what = "with forbidden arguments" if has_usual_arguments(name) else "which is forbidden"
    detail = f"The program made the system call {name}, {what}: {why}; {done}."
    return SecurityEvent("seccomp_violation", detail, "kernel", call)


def weak_container(what: str) -> SecurityEvent:
    """The event for a container that is weaker than its profile."""
    detail = f"{what} The container was not used. Check the host's engine and kernel with `mayfly doctor --security`."
    return SecurityEvent("weak_container", detail, "host", count=1)


def note_counters(incidents: Incidents, counters: Counters, limits: Limits, oom_killed: bool = False) -> None:
    """Record events for the cgroup's counters."""
    if oom := max(counters.oom_events, int(oom_killed)):
        detail = (
            f"Memory and files together exceeded {limits.memory_bytes // MIB} MiB; the kernel killed a process. Ask "
            "for more with limits.memory_bytes, or keep less in memory at a time."
        )
        incidents.note(SecurityEvent("oom_killed", detail, "cgroup", ReachedLimit(limits.memory_bytes)), oom)
    if counters.unrouted:
        note_unrouted(incidents, counters.unrouted, "kernel")
    if counters.pids_events:
        detail = (
            f"The program tried to have more than {limits.processes} processes and threads; the kernel refused. Ask "
            "for more with limits.processes, or start fewer at a time."
        )
        event = SecurityEvent("pids_limit", detail, "cgroup", ReachedLimit(limits.processes))
        incidents.note(event, counters.pids_events)


def note_unrouted(incidents: Incidents, count: int, attribution: Attribution) -> None:
    """Record attempts of a program to leave a sandbox with a loopback."""
    incidents.note(SecurityEvent("network_attempt", UNROUTED, attribution, Refusal("no_route")), count)


def note_full(incidents: Incidents, paths: Any, limits: Limits) -> None:
    """Record full directories, as reported by the agent."""
    for path in paths if isinstance(paths, list) else ():
        if path in WRITABLE:
            name = "memory_bytes" if path == SHARED_MEMORY else "disk_bytes"
            limit = getattr(limits, name)
            detail = (
                f"{path} was full at {limit // MIB} MiB, or had no room for more files; a program that writes to a "
                f"memory-mapped file there dies of SIGBUS. Ask for more with limits.{name}, or remove files."
            )
            incidents.note(SecurityEvent("disk_limit", detail, "agent", ReachedLimit(limit, path=path)))


def note_end(
    incidents: Incidents,
    facts: Facts,
    verdict: Verdict,
    limits: Limits,
    rejected: list[RejectedArtifact],
    violation: str = "",
) -> None:
    """Record events for the end of an attempt: exceeded limits, rejected artifacts, an unexplained kill.

    ``violation`` describes the invalid frames of a sandbox that was killed for them.
    """
    match verdict.reason:
        case Reason.SECURITY_VIOLATION if facts.killed == "frames":
            what = f" ({violation})" if violation else ""
            detail = f"The sandbox sent bytes that its agent never sends{what}; it was killed."
            incidents.note(SecurityEvent("frame_violation", detail, "host"))
        case Reason.SECURITY_VIOLATION if facts.killed == "denials" and not incidents.denied_too_often:
            pass  # the event was recorded when the program was ended
        case Reason.SECURITY_VIOLATION if facts.killed == "denials":
            detail = (
                f"The program made more than {MAX_DENIALS} forbidden system calls, and was ended. A repeated call is "
                "refused again: ask for a tool, or do without the call."
            )
            incidents.note(SecurityEvent("seccomp_violation", detail, "host", ReachedLimit(MAX_DENIALS)))
        case Reason.SECURITY_VIOLATION if not facts.seccomp_kills:
            detail = "The program was killed by SIGSYS, the signal for a forbidden system call."
            incidents.note(SecurityEvent("seccomp_violation", detail, "inferred", KilledProcess()))
        case Reason.OOM_KILLED if facts.killed == "sockets":
            detail = (
                f"The program had more than {MAX_SOCKETS} sockets and connections on its loopback, and was ended: no "
                "other limit bounds their memory. Accept and close connections before you open more."
            )
            incidents.note(SecurityEvent("oom_killed", detail, "host", ReachedLimit(MAX_SOCKETS)))
        case Reason.TIMED_OUT if facts.killed == "collect":
            detail = (
                "Collecting the files of /output took too long. Write fewer files, or use simpler patterns in "
                "`artifacts`."
            )
            incidents.note(SecurityEvent("timeout", detail, "host", ReachedLimit(clock="collect")))
        case Reason.TIMED_OUT:
            seconds = limits.wall_seconds
            detail = f"The program ran longer than {seconds:g} s. Ask for more with limits.wall_seconds."
            if limits.cpu_cores < FEW_CORES:
                detail += f" It had {limits.cpu_cores:g} of a core, also for its start: raise limits.cpu_cores."
            incidents.note(SecurityEvent("timeout", detail, "host", ReachedLimit(seconds, "wall")))
        case Reason.CPU_EXCEEDED:
            seconds = limits.cpu_seconds
            detail = f"The program used more than {seconds:g} CPU seconds. Ask for more with limits.cpu_seconds."
            incidents.note(SecurityEvent("timeout", detail, "host", ReachedLimit(seconds, "cpu")))
        case Reason.OUTPUT_EXCEEDED:
            bound = limits.output_bytes
            detail = (
                f"The program printed more than {bound} bytes. Ask for more with limits.output_bytes, or write files."
            )
            incidents.note(SecurityEvent("output_limit", detail, "host", ReachedLimit(bound)))
    for entry in rejected:
        detail = f"It was not collected: {REJECTED[entry.reason].format(bound=entry.bound)}"
        incidents.note(SecurityEvent("artifact_rejected", detail, "agent", Refusal(entry.reason, entry.path)))

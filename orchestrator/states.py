"""The states, reasons and faults of executions, and the pure function that turns facts into a verdict.

``TRANSITIONS`` is the whole state machine. The compare-and-set scripts in :mod:`orchestrator.store` receive it as data,
so that Redis refuses transitions outside this table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the command line reads states without loading the models
    from orchestrator.models import Facts, Limits

SIGSYS = 31


class State(StrEnum):
    """The state of an execution. The last four are terminal."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ERRORED = "errored"
    CANCELLED = "cancelled"


class Fault(StrEnum):
    """The party at fault for an end. Only ``platform`` faults are retried."""

    USER = "user"
    POLICY = "policy"
    PLATFORM = "platform"


class Reason(StrEnum):
    """The reason of an end without success."""

    NONZERO_EXIT = "nonzero_exit"
    SIGNALLED = "signalled"
    TIMED_OUT = "timed_out"
    CPU_EXCEEDED = "cpu_exceeded"
    OOM_KILLED = "oom_killed"
    PIDS_EXCEEDED = "pids_exceeded"
    DISK_EXCEEDED = "disk_exceeded"
    OUTPUT_EXCEEDED = "output_exceeded"
    COMPILE_FAILED = "compile_failed"
    SECURITY_VIOLATION = "security_violation"
    ENVIRONMENT_UNAVAILABLE = "environment_unavailable"
    RUNTIME_UNAVAILABLE = "runtime_unavailable"
    WORKER_LOST = "worker_lost"
    QUEUE_EXPIRED = "queue_expired"
    INTERNAL = "internal"
    CANCELLED_BY_USER = "cancelled_by_user"
    CANCELLED_BY_OPERATOR = "cancelled_by_operator"


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.ERRORED, State.CANCELLED})

# starting → queued and running → queued are a platform fault being retried by another attempt.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.STARTING, State.ERRORED, State.CANCELLED}),
    State.STARTING: frozenset({State.RUNNING, State.FAILED, State.ERRORED, State.CANCELLED, State.QUEUED}),
    State.RUNNING: TERMINAL | {State.QUEUED},
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.ERRORED: frozenset(),
    State.CANCELLED: frozenset(),
}


class Verdict(NamedTuple):
    """The verdict on an execution: its terminal state, and without success the reason and fault."""

    state: State
    reason: Reason | None = None
    fault: Fault | None = None


SUCCEEDED = Verdict(State.SUCCEEDED)


def failed(reason: Reason) -> Verdict:
    """The verdict for an end that the program or its submitter caused."""
    fault = Fault.POLICY if reason is Reason.SECURITY_VIOLATION else Fault.USER
    return Verdict(State.FAILED, reason, fault)


def cancelled(reason: Reason = Reason.CANCELLED_BY_USER) -> Verdict:
    """The verdict for a cancellation."""
    return Verdict(State.CANCELLED, reason)


def errored(reason: Reason) -> Verdict:
    """The verdict for an end that Mayfly or its host caused."""
    return Verdict(State.ERRORED, reason, Fault.PLATFORM)


def classify(facts: Facts, limits: Limits) -> Verdict:
    """Decide how an execution ended, from observed facts alone.

    The checks are ordered by certainty: the host's own actions, the kernel's counters, the agent's report, the exit
    code. A program that reached a limit but exited 0 has succeeded; the facts show the limit.
    """
    match facts.killed or facts.stopped:
        case "cancel":
            return cancelled()
        case "platform":
            return errored(Reason.INTERNAL)
        case "frames" | "denials":
            return failed(Reason.SECURITY_VIOLATION)
        case "output":
            return failed(Reason.OUTPUT_EXCEEDED)
        case "wall" | "collect":
            return failed(Reason.TIMED_OUT)
        case "cpu":
            return failed(Reason.CPU_EXCEEDED)
    if facts.exit_code is None:
        return errored(Reason.INTERNAL)
    if facts.exit_code == 0 and not facts.compile_exit_code:
        return SUCCEEDED
    if facts.oom_killed or facts.oom_events or facts.killed == "sockets":  # whose memory no cgroup counts
        return failed(Reason.OOM_KILLED)
    if facts.signal == SIGSYS and facts.seccomp_kills != 0:  # a program can send itself that signal
        return failed(Reason.SECURITY_VIOLATION)
    if facts.pids_events:
        return failed(Reason.PIDS_EXCEEDED)
    if facts.disk_full:
        return failed(Reason.DISK_EXCEEDED)
    if facts.compile_exit_code:
        return failed(Reason.COMPILE_FAILED)
    if facts.signal is not None:
        return failed(Reason.SIGNALLED)
    return failed(Reason.NONZERO_EXIT)

"""The command's message and exit code for an execution's end or a refused request. Pure.

``docs/cli.md`` has the whole table. 125 always means a fault of Mayfly: a caller may retry such a command.
"""

from __future__ import annotations

import signal

from mayfly import Execution, MayflyError
from orchestrator.logs import printable
from orchestrator.states import Fault, Reason, State

FAILED_HERE = 1  # this machine lacks something, or a file could not be saved
MISTAKE = 2  # a mistake in the request
TIMED_OUT = 124
MAYFLYS_FAULT = 125
REFUSED_BY_POLICY = 126
SIGNAL_BASE = 128
MAX_LINE = 300
SHORT_LIST = 3  # at most so many errors are shown in one line
TOO_MANY_REQUESTS = 429
SERVER_ERRORS = range(500, 600)
POLICY_CODES = ("forbidden", "not_allowed_by_key", "not_allowed_by_tenant", "policy_violation", "tenant_disabled")
MISTAKEN_CODES = ("invalid_token", "invalid_url", "no_mayfly")

EXPLANATIONS = {
    Reason.TIMED_OUT: "it was stopped after {wall_seconds:g} s of wall time; --timeout gives it more",
    Reason.CPU_EXCEEDED: "it was stopped after {cpu_seconds:g} s of CPU time; --timeout gives it more",
    Reason.OOM_KILLED: "it needed more than its {memory_mib:g} MiB of memory; --memory gives it more",
    Reason.PIDS_EXCEEDED: "it tried to have more than its {processes} processes and threads",
    Reason.DISK_EXCEEDED: "it wrote more than its {disk_mib:g} MiB of disk",
    Reason.OUTPUT_EXCEEDED: "it printed more than its {output_mib:g} MiB of output",
    Reason.COMPILE_FAILED: "it did not compile",
    Reason.SIGNALLED: "it was killed by {signal}",
    Reason.SECURITY_VIOLATION: "it was killed for a forbidden system call or a broken sandbox rule",
    Reason.ENVIRONMENT_UNAVAILABLE: "no worker has an image of this environment",
    Reason.RUNTIME_UNAVAILABLE: "the container engine could not give a sandbox",
    Reason.WORKER_LOST: "the worker that ran it was lost",
    Reason.QUEUE_EXPIRED: "it waited in the queue for too long",
    Reason.INTERNAL: "an internal error of Mayfly occurred",
    Reason.CANCELLED_BY_USER: "it was cancelled",
    Reason.CANCELLED_BY_OPERATOR: "it was cancelled by an operator",
}


def exit_code(execution: Execution) -> int:
    """The command's exit code for an execution that ended."""
    state, reason, own = execution.state, execution.reason, execution.exit_code
    if state == State.SUCCEEDED:
        return 0
    if state == State.CANCELLED:
        return SIGNAL_BASE + signal.SIGINT
    if state == State.ERRORED or execution.fault == Fault.PLATFORM:
        return MAYFLYS_FAULT
    if execution.fault == Fault.POLICY:
        return REFUSED_BY_POLICY
    if reason in (Reason.TIMED_OUT, Reason.CPU_EXCEEDED):
        return TIMED_OUT
    if reason == Reason.SIGNALLED:
        return SIGNAL_BASE + _number(execution.signal, own)
    if reason == Reason.OOM_KILLED:
        return own or SIGNAL_BASE + signal.SIGKILL
    if reason == Reason.OUTPUT_EXCEEDED:  # Mayfly stopped the program, so the exit code is not the program's
        return SIGNAL_BASE + signal.SIGKILL
    if reason == Reason.COMPILE_FAILED:
        return (execution.compile.exit_code if execution.compile else None) or own or 1
    return own or 1


def explanation(execution: Execution) -> str | None:
    """A line with the reason of an execution's failure; ``None`` if its own exit code suffices."""
    reason = execution.reason
    if execution.state == State.SUCCEEDED or reason == Reason.NONZERO_EXIT:
        return None
    limits = execution.limits.document if execution.limits else {}
    known = {f"{name.removesuffix('_bytes')}_mib": value / 2**20 for name, value in limits.items() if "_bytes" in name}
    try:
        text = EXPLANATIONS[Reason(str(reason))].format(**limits, **known, signal=execution.signal or "a signal")
    except (KeyError, ValueError):
        text = f"it ended {execution.state}"
    return f"{reason}: {text}" + (f" ({execution.message})" if execution.message else "")


def refusal_code(error: MayflyError) -> int:
    """The command's exit code for a request that was refused.

    Policy is the static policy, a scope that the key lacks, and a tenant's share (429). Other refusals below 500 are
    usage mistakes, including a wrong key and an unknown id.
    """
    if error.code in POLICY_CODES or error.status == TOO_MANY_REQUESTS:
        return REFUSED_BY_POLICY
    if error.code in MISTAKEN_CODES:
        return MISTAKE
    return MAYFLYS_FAULT if error.status is None or error.status in SERVER_ERRORS else MISTAKE


def left_out(execution: Execution) -> list[str]:
    """A line for each file that was not collected, with the reason and the bound."""
    lines = []
    for rejected in execution.artifacts_rejected:
        why = rejected.reason + (f", the bound is {rejected.bound}" if rejected.bound is not None else "")
        lines.append(printable(f"{rejected.path}: {why}", MAX_LINE))
    return lines


def refusal(error: MayflyError) -> str:
    """A refusal as text: each invalid field, on separate lines if many, with code and request id for an operator."""
    lines = [f"{field}: {message}" for field, message in error.errors] or [error.detail]
    if error.code == "unauthenticated":
        lines[-1] += " Give the key as MAYFLY_TOKEN; the key of `mayfly up` is in .mayfly/api-key."
    origin = f" [{error.code}{f', request {error.request_id}' if error.request_id else ''}]"
    return ("; " if len(lines) <= SHORT_LIST else "\n  ").join(lines) + origin


def _number(name: str | None, own: int | None) -> int:
    try:
        return int(signal.Signals[name or ""])
    except KeyError:
        return own - SIGNAL_BASE if own is not None and own > SIGNAL_BASE else 0

"""The end of an attempt: the exit of its sandbox, its last security events, its result, log line and metrics."""

from __future__ import annotations

import signal

import structlog

from orchestrator import metrics
from orchestrator.models import Facts, Limits, Result, Specification, Timings, Usage
from orchestrator.states import Verdict
from orchestrator.store.executions.records import Claim
from worker.attempt.incidents import Incidents
from worker.attempt.security_events import note_counters, note_end, note_full, note_unrouted
from worker.attempt.session import END_SECONDS, Session
from worker.counters import KILLED, Ended

log = structlog.get_logger()


def await_end(session: Session) -> Ended | None:
    """The sandbox's end; a sandbox that outstays its last frame is killed."""
    lease, conversation = session.lease, session.conversation
    ended = lease.sandbox.wait(END_SECONDS)
    if ended is None and conversation.complete:
        lease.discard_during(session.kill)
        ended = lease.sandbox.wait(END_SECONDS)
        if ended is not None and ended.exit_code == KILLED:
            conversation.overstay()
    return ended


def note_incidents(incidents: Incidents, session: Session, facts: Facts, verdict: Verdict, limits: Limits) -> None:
    """Record the security events that the end of an attempt shows."""
    counters, last = session.counters, session.conversation.exit
    note_counters(incidents, counters, limits, facts.oom_killed)
    if counters.unrouted is None and last is not None and last.unrouted:
        note_unrouted(incidents, last.unrouted, "agent")
    note_full(incidents, list(facts.disk_full), limits)
    note_end(incidents, facts, verdict, limits, session.artifacts.rejected, session.conversation.violation)


def result_of(session: Session, driver: str, facts: Facts, verdict: Verdict, timings: Timings) -> Result:
    """The result of an ended attempt, for its record."""
    lease, counters, output, artifacts = session.lease, session.counters, session.output, session.artifacts
    return Result(
        state=verdict.state,
        reason=verdict.reason,
        fault=verdict.fault,
        facts=facts,
        driver=driver,
        runtime=lease.runtime,
        start="warm" if lease.warm else "cold",
        exit_code=facts.exit_code,
        signal=None if facts.signal is None else _signal_name(facts.signal),
        stdout_bytes=output.seen_bytes["stdout"],
        stderr_bytes=output.seen_bytes["stderr"],
        compile=session.conversation.compile,
        artifacts=tuple(artifacts.artifacts.values()),
        artifacts_rejected=tuple(artifacts.rejected),
        tool_calls=session.tool_calls,
        usage=Usage(
            wall_seconds=session.conversation.run_seconds,
            cpu_seconds=facts.cpu_seconds,
            peak_memory_bytes=counters.peak_memory_bytes,
            peak_processes=counters.peak_processes,
            throttled_seconds=counters.throttled_seconds,
            tool_seconds=session.conversation.tool_seconds,
        ),
        timings=timings,
    )


def report(specification: Specification, claim: Claim, result: Result) -> None:
    """Log and count a committed end."""
    name, timings = specification.environment, result.timings
    log.info(
        "execution.finished",
        execution=claim.id,
        attempt=claim.attempt,
        state=result.state,
        reason=result.reason,
        traceparent=specification.traceparent,
    )
    metrics.count_end(name, result.state, result.reason, result.fault, result.start)
    metrics.observe_times(
        name, timings.queue_seconds, timings.start_seconds, timings.run_seconds, timings.collect_seconds
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"SIG{number}"

"""Security events of one attempt: each once, counted, bounded, and never lost between threads."""

from __future__ import annotations

import threading

from orchestrator.models.security import DeniedCall, ReachedLimit, SecurityEvent
from worker.attempt.incidents import MAX_DENIALS, MAX_DISTINCT, Incidents


def denied(syscall: str, killed: bool = False) -> SecurityEvent:
    call = DeniedCall(syscall, "x86_64", killed, process="x", pid=1)
    return SecurityEvent("seccomp_violation", "Not allowed.", "kernel", call)


def full(path: str) -> SecurityEvent:
    return SecurityEvent("disk_limit", "Full.", "agent", ReachedLimit(64, path=path))


def calls(events: list[SecurityEvent]) -> list[str]:
    return [event.evidence.syscall for event in events if isinstance(event.evidence, DeniedCall)]


def test_the_first_goes_out_at_once_and_the_count_at_the_end() -> None:
    incidents = Incidents()
    for _ in range(1000):
        incidents.note(denied("ptrace"))
    assert [event.count for event in incidents.take()] == [1]
    assert incidents.take() == []
    incidents.note(denied("mount", killed=True))
    events = incidents.finish()
    assert (calls(events), [event.count for event in events]) == (["mount", "ptrace"], [1, 1000])
    assert incidents.finish() == []


def test_count_of_a_counting_source_is_used() -> None:
    incidents = Incidents()
    for total in (2, 2, 5):
        incidents.note(SecurityEvent("pids_limit", "Many.", "cgroup", ReachedLimit(64)), total)
    assert [event.count for event in incidents.finish()] == [2, 5]


def test_events_are_bounded() -> None:
    incidents = Incidents()
    for number in range(MAX_DISTINCT + 50):
        incidents.note(full(f"/{number}"))
    events = incidents.finish()
    assert len(events) == MAX_DISTINCT + 1
    assert (events[-1].count, events[-1].detail[:15]) == (50, "50 more actions")


def test_too_many_denials_are_a_flood() -> None:
    incidents = Incidents()
    for number in range(MAX_DENIALS):
        incidents.note(denied(f"number {number % (2 * MAX_DISTINCT)}", killed=True))
        incidents.note(full("/work"))
    assert not incidents.flooded
    incidents.note(denied("bpf", killed=True))
    assert incidents.flooded


def test_kills_are_awaited_and_counted() -> None:
    incidents = Incidents()
    incidents.note(denied("socket"))
    assert incidents.kills(0) == 0
    timer = threading.Timer(0.05, lambda: incidents.note(denied("bpf", killed=True)))
    timer.start()
    assert incidents.kills(30) == 1
    timer.join()


def test_incidents_after_the_end_are_passed_to_the_late_handler() -> None:
    incidents = Incidents()
    late: list[SecurityEvent] = []
    incidents.note(denied("bpf"))
    incidents.finish()
    incidents.note(denied("mount"))
    incidents.settle(late.append)
    assert calls(late) == ["mount"]
    incidents.note(denied("keyctl"))
    incidents.note(denied("keyctl"))
    assert calls(late) == ["mount", "keyctl"]

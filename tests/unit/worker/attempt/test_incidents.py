"""Security events of one attempt: each once, counted, bounded, and never lost between threads."""

from __future__ import annotations

import threading
from typing import Any

from worker.attempt.incidents import MAX_DENIALS, MAX_DISTINCT, Incidents


def note(incidents: Incidents, total: int | None = None, **more: Any) -> None:
    incidents.note("seccomp_violation", "Not allowed.", "kernel", more, total)


def test_the_first_goes_out_at_once_and_the_count_at_the_end() -> None:
    incidents = Incidents()
    for _ in range(1000):
        note(incidents, syscall="ptrace", killed=False)
    assert [event["count"] for event in incidents.take()] == [1]
    assert incidents.take() == []
    note(incidents, syscall="mount", killed=True)
    assert [(event["syscall"], event["count"]) for event in incidents.finish()] == [("mount", 1), ("ptrace", 1000)]
    assert incidents.finish() == []


def test_count_of_a_counting_source_is_used() -> None:
    incidents = Incidents()
    for total in (2, 2, 5):
        note(incidents, total, limit=64)
    assert [event["count"] for event in incidents.finish()] == [2, 5]


def test_events_are_bounded() -> None:
    incidents = Incidents()
    for number in range(MAX_DISTINCT + 50):
        note(incidents, path=f"/{number}")
    events = incidents.finish()
    assert len(events) == MAX_DISTINCT + 1
    assert (events[-1]["count"], events[-1]["detail"][:15]) == (50, "50 more actions")


def test_too_many_denials_are_a_flood() -> None:
    incidents = Incidents()
    for number in range(MAX_DENIALS):
        note(incidents, syscall=f"number {number % (2 * MAX_DISTINCT)}", killed=True)
        note(incidents, path="/work")
    assert not incidents.flooded
    note(incidents, syscall="bpf", killed=True)
    assert incidents.flooded


def test_kills_are_awaited_and_counted() -> None:
    incidents = Incidents()
    note(incidents, syscall="socket", killed=False)
    assert incidents.kills(0) == 0
    timer = threading.Timer(0.05, lambda: note(incidents, syscall="bpf", killed=True))
    timer.start()
    assert incidents.kills(30) == 1
    timer.join()


def test_incidents_after_the_end_are_passed_to_the_late_handler() -> None:
    incidents = Incidents()
    late: list[dict[str, Any]] = []
    note(incidents, syscall="bpf")
    incidents.finish()
    note(incidents, syscall="mount")
    incidents.settle(late.append)
    assert [event["syscall"] for event in late] == ["mount"]
    note(incidents, syscall="keyctl")
    note(incidents, syscall="keyctl")
    assert [event["syscall"] for event in late] == ["mount", "keyctl"]

"""The circuit breaker of a tool server."""

from __future__ import annotations

from orchestrator.broker.upstreams.breaker import FAILURES, LEAST_SECONDS, MOST_SECONDS, Breaker

BAD = "tool_timed_out"


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        assert breaker.allows(0.0)
        breaker.record(BAD, 0.0)
    return breaker


def test_opens_after_consecutive_failures_and_lets_one_call_through() -> None:
    breaker = opened()
    assert breaker.is_open
    assert not breaker.allows(LEAST_SECONDS / 2)
    assert breaker.seconds_left(LEAST_SECONDS / 4) == LEAST_SECONDS * 3 / 4
    assert breaker.allows(LEAST_SECONDS)
    assert not breaker.allows(LEAST_SECONDS), "the trial is alone"


def test_success_closes_the_breaker() -> None:
    breaker = opened()
    breaker.record(None, LEAST_SECONDS)
    assert not breaker.is_open
    assert breaker.allows(LEAST_SECONDS)


def test_pauses_grow_up_to_a_bound() -> None:
    breaker, now = opened(), 0.0
    pauses = []
    for _ in range(10):
        now += breaker.seconds_left(now)
        assert breaker.allows(now)
        breaker.record(BAD, now)
        pauses.append(breaker.seconds_left(now))
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (2 * LEAST_SECONDS, MOST_SECONDS)


def test_failures_of_single_calls_do_not_open_the_breaker() -> None:
    breaker = Breaker()
    for code in ("tool_failed", "tool_result_too_large", "tool_result_invalid", None) * FAILURES:
        breaker.record(code, 0.0)
    for code in (BAD, "tool_failed") * FAILURES:
        breaker.record(code, 0.0)
    assert not breaker.is_open

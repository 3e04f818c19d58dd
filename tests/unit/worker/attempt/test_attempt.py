"""Attempts whose program is to start, and those that stop it, in every order."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from orchestrator.errors import HandedBack, LeaseLost
from worker.attempt import Attempt, CancelledBeforeStart

STOPS = ("cancel", "hand_back", "lose_lease")


class Program:
    """A session that notes what is done to it."""

    def __init__(self, complete: bool = False) -> None:
        self.complete, self.aborted, self.kills = complete, False, 0
        self.stops: list[str] = []

    def stop(self, why: str) -> None:
        self.stops.append(why)

    def abort(self) -> bool:
        self.aborted = not self.complete
        return self.aborted

    def kill(self) -> None:
        self.kills += 1


def start(attempt: Attempt, session: Any) -> str:
    """What came of it: ``started``, or why the program was not started."""
    try:
        attempt.start(session)
    except (CancelledBeforeStart, HandedBack, LeaseLost) as error:
        return type(error).__name__
    return "started"


def orders() -> list[tuple[str, ...]]:
    """Every order of the start and of some of the stops."""
    return sorted({order[:length] for length in range(1, 5) for order in permutations(("start", *STOPS), length)})


@pytest.mark.parametrize("order", [order for order in orders() if "start" in order], ids=" ".join)
def test_program_starts_only_while_nothing_else_is_intended(order: tuple[str, ...]) -> None:
    attempt, session = Attempt(), Program()
    came = ""
    for call in order:
        if call == "start":
            came = start(attempt, session)
        else:
            getattr(attempt, call)()
    before = order[: order.index("start")]
    highest = max(before, key=STOPS.index, default=None)
    errors = {None: "started", "cancel": "CancelledBeforeStart", "hand_back": "HandedBack", "lose_lease": "LeaseLost"}
    assert came == errors[highest]
    assert attempt.started is (highest is None)
    assert attempt.cancelled is ("cancel" in order)


@pytest.mark.parametrize("order", orders(), ids=" ".join)
def test_intent_only_rises(order: tuple[str, ...]) -> None:
    attempt = Attempt()
    for call in order:
        if call == "start":
            start(attempt, Program())
        else:
            getattr(attempt, call)()
    wanted = LeaseLost if "lose_lease" in order else HandedBack if "hand_back" in order else type(None)
    assert type(attempt.error) is wanted
    assert attempt.stopped.is_set() is (wanted is not type(None))


@pytest.mark.parametrize("stop", STOPS)
def test_started_program_is_stopped(stop: str) -> None:
    attempt, session = Attempt(), Program()
    assert start(attempt, session) == "started"
    getattr(attempt, stop)()
    assert (session.stops, session.aborted) == ((["cancel"], False) if stop == "cancel" else ([], True))


def test_complete_attempt_is_committed_although_handed_back_and_not_without_lease() -> None:
    attempt = Attempt()
    assert start(attempt, Program(complete=True)) == "started"
    attempt.hand_back()
    attempt.check()
    attempt.lose_lease()
    with pytest.raises(LeaseLost):
        attempt.check()

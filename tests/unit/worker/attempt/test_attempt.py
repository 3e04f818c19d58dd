"""The start of an attempt's program and all stops, in every order."""

from __future__ import annotations

from itertools import permutations

import pytest

from orchestrator.errors import HandedBack, LeaseLost
from tests.harness import eventually
from worker.attempt.attempt import Attempt, CancelledBeforeStart

STOPS = ("cancel", "hand_back", "lose_lease")


class Program:
    """A program that notes what is done to it."""

    def __init__(self) -> None:
        self.stops, self.kills = 0, 0

    def request_stop(self) -> bool:
        self.stops += 1
        return True

    def kill(self) -> None:
        self.kills += 1

    def feed(self) -> None:
        """It reads nothing."""


def start(attempt: Attempt, program: Program) -> str:
    """The outcome of a start: ``started``, or the reason against it."""
    try:
        attempt.start(program)
    except (CancelledBeforeStart, HandedBack, LeaseLost) as error:
        return type(error).__name__
    return "started"


def sequences() -> list[tuple[str, ...]]:
    """Every order of the start and of some of the stops."""
    return sorted({order[:length] for length in range(1, 5) for order in permutations(("start", *STOPS), length)})


@pytest.mark.parametrize("order", [order for order in sequences() if "start" in order], ids=" ".join)
def test_program_starts_only_with_intent_to_run(order: tuple[str, ...]) -> None:
    attempt, program = Attempt(), Program()
    came = ""
    for call in order:
        if call == "start":
            came = start(attempt, program)
        else:
            getattr(attempt, call)()
    before = order[: order.index("start")]
    highest = max(before, key=STOPS.index, default=None)
    errors = {None: "started", "cancel": "CancelledBeforeStart", "hand_back": "HandedBack", "lose_lease": "LeaseLost"}
    assert came == errors[highest]
    assert attempt.started is (highest is None)
    assert attempt.cancelled is ("cancel" in order)


@pytest.mark.parametrize("order", sequences(), ids=" ".join)
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
    attempt, program = Attempt(), Program()
    assert start(attempt, program) == "started"
    getattr(attempt, stop)()
    assert attempt.aborted is (stop != "cancel")
    if stop == "cancel":
        assert (program.stops, program.kills) == (1, 0)
    else:
        eventually(lambda: program.kills == 1, "the program is killed")


def test_complete_attempt_continues_when_handed_back_but_not_without_lease() -> None:
    attempt, program = Attempt(), Program()
    assert start(attempt, program) == "started"
    attempt.complete()
    attempt.hand_back()
    attempt.check()
    assert not attempt.aborted
    attempt.lose_lease()
    with pytest.raises(LeaseLost):
        attempt.check()
    assert program.kills == 0


def test_aborted_attempt_ignores_later_frames() -> None:
    attempt = Attempt()
    assert start(attempt, Program()) == "started"
    attempt.hand_back()
    attempt.complete()
    attempt.cancel()
    assert attempt.aborted
    with pytest.raises(HandedBack):
        attempt.check()

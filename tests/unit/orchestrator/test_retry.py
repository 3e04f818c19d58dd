"""The one rule by which an attempt without a result is repeated or ends its execution."""

from __future__ import annotations

from itertools import product

import pytest

from orchestrator.retry import Cause, End, Requeue, decide
from orchestrator.states import Reason, State

MOST = 3
LOST = Reason.WORKER_LOST
ERRORED = End(State.ERRORED, LOST)


def decided(cause: Cause, attempt: int = 1, spoilt: int = 1, **about: bool) -> Requeue | End:
    given = {"started": True, "may_repeat": True, "cancelled": False, **about}
    return decide(cause, LOST, attempt=attempt, spoilt=spoilt, most=MOST, **given)


# The attempt, the number of spoilt attempts with it, whether its program started and may be repeated; the decision.
TABLE = [
    (Cause.FAULT, 1, 1, True, True, Requeue(1, counts=True)),
    (Cause.FAULT, 2, 2, True, True, Requeue(2, counts=True)),
    (Cause.FAULT, 3, 3, True, True, ERRORED),
    (Cause.FAULT, 5, 2, True, True, Requeue(2, counts=True)),
    (Cause.FAULT, 1, 1, True, False, ERRORED),
    (Cause.FAULT, 1, 1, False, False, Requeue(1, counts=True)),
    (Cause.FAULT, 3, 3, False, True, ERRORED),
    (Cause.LOST, 1, 1, True, True, Requeue(1, counts=True)),
    (Cause.LOST, 3, 3, True, True, ERRORED),
    (Cause.LOST, 1, 1, True, False, ERRORED),
    (Cause.LOST, 1, 1, False, True, Requeue(1, counts=False)),
    (Cause.LOST, 3, 1, False, False, Requeue(3, counts=False)),
    (Cause.LOST, 4, 1, False, True, Requeue(1, counts=True)),
    (Cause.LOST, 6, 3, False, True, ERRORED),
    (Cause.DRAINED, 1, 1, True, True, Requeue(0, counts=False)),
    (Cause.DRAINED, 9, 3, True, True, Requeue(0, counts=False)),
    (Cause.DRAINED, 1, 1, True, False, ERRORED),
    (Cause.DRAINED, 1, 1, False, False, Requeue(0, counts=False)),
    (Cause.REJECTED, 1, 1, False, True, ERRORED),
]


@pytest.mark.parametrize(("cause", "attempt", "spoilt", "started", "may_repeat", "follows"), TABLE)
def test_attempt_without_result_is_repeated_or_ends(
    cause: Cause, attempt: int, spoilt: int, started: bool, may_repeat: bool, follows: Requeue | End
) -> None:
    assert decided(cause, attempt, spoilt, started=started, may_repeat=may_repeat) == follows


@pytest.mark.parametrize(("cause", "started", "may_repeat"), list(product(Cause, (True, False), (True, False))))
def test_cancelled_execution_is_never_repeated(cause: Cause, started: bool, may_repeat: bool) -> None:
    assert decided(cause, started=started, may_repeat=may_repeat, cancelled=True) == End(State.CANCELLED, None)


@pytest.mark.parametrize("cause", [Cause.FAULT, Cause.LOST])
@pytest.mark.parametrize("started", [True, False])
def test_attempts_are_bounded(cause: Cause, started: bool) -> None:
    attempt, spoilt = 1, 0
    while isinstance(decision := decided(cause, attempt, spoilt + 1, started=started), Requeue):
        spoilt, attempt = spoilt + decision.counts, attempt + 1
        assert attempt <= 2 * MOST
    assert spoilt == MOST - 1

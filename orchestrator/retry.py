"""Whether an attempt that came to no result is followed by another one: one pure rule, for workers and the janitor.

Only what the platform spoilt is repeated. What may not be started twice (``"retry": false``) is repeated only while its
program certainly has not started. An attempt that the platform did not spoil, because its worker drained or never
started it, counts towards no bound of its own but ``most``, so that an execution that kills each worker which prepares
it ends, too.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from orchestrator.states import Reason, State


class Cause(Enum):
    """What kept an attempt from a result."""

    REJECTED = "its specification is wrong, and will be in each attempt"
    DRAINED = "its worker drained"
    LOST = "its worker is gone"
    FAULT = "the platform failed"


class Requeue(NamedTuple):
    """Queue the execution again. ``pauses`` says how many times the pause before that doubles, from 1; 0 is none.

    ``counts`` says whether the attempt counts as spoilt by the platform.
    """

    pauses: int
    counts: bool


class End(NamedTuple):
    """End the execution in ``state``; ``reason`` is ``None`` where the record has it, which is who cancelled."""

    state: State
    reason: Reason | None


def decide(
    cause: Cause,
    reason: Reason,
    *,
    attempt: int,
    spoilt: int,
    started: bool,
    may_repeat: bool,
    cancelled: bool,
    most: int,
) -> Requeue | End:
    """What becomes of an execution whose attempt, the ``attempt``-th, came to no result because of ``cause``.

    ``spoilt`` of its attempts count as the platform's fault if this one does; ``started`` says whether its program may
    have started; at most ``most`` attempts may be spoilt, and as many given back. ``reason`` is what it ends for if the
    cause ends it.
    """
    if cancelled:
        return End(State.CANCELLED, None)
    if cause is Cause.REJECTED or (started and not may_repeat):
        return End(State.ERRORED, reason)
    if cause is Cause.DRAINED:
        return Requeue(0, counts=False)
    if cause is Cause.LOST and not started and attempt - spoilt < most:  # to prepare it may be what kills workers
        return Requeue(attempt, counts=False)
    if spoilt < most:
        return Requeue(spoilt, counts=True)
    return End(State.ERRORED, reason)

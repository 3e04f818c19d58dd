"""Decides between a retry and the end after an attempt without a result: one pure rule, for workers and the janitor.

Only attempts spoilt by the platform are retried. An execution that may not be started twice (``"retry": false``) is
retried only while its program certainly has not started. An attempt that a drained worker hands back is always retried.
Attempts lost before their program started have a bound of their own, so that an execution that kills each worker
preparing it ends, too.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from orchestrator.states import Reason, State


class Cause(Enum):
    """The cause of an attempt without a result."""

    REJECTED = "its specification is wrong, and will be in each attempt"
    DRAINED = "its worker drained"
    LOST = "its worker is gone"
    FAULT = "the platform failed"


class Requeue(NamedTuple):
    """Queue the execution again. ``pauses`` is the number of the pause, which doubles each time, from 1; 0 means no
    pause.

    ``counts``: whether the attempt counts as spoilt by the platform.
    """

    pauses: int
    counts: bool


class End(NamedTuple):
    """End the execution in ``state``; ``reason`` is ``None`` for a cancellation, whose reason is in the record."""

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
    """The decision for an execution whose attempt number ``attempt`` has no result because of ``cause``.

    ``spoilt`` is the number of spoilt attempts including this one; ``started``: whether the program may have started;
    at most ``most`` attempts may be spoilt. An attempt that was lost before the program started counts as spoilt only
    from the moment ``most`` attempts were handed back or lost so. ``reason`` is the reason of an end by this cause.
    """
    if cancelled:
        return End(State.CANCELLED, None)
    if cause is Cause.REJECTED or (started and not may_repeat):
        return End(State.ERRORED, reason)
    if cause is Cause.DRAINED:
        return Requeue(0, counts=False)
    if cause is Cause.LOST and not started and attempt - spoilt < most:  # preparing the execution may kill its workers
        return Requeue(attempt, counts=False)
    if spoilt < most:
        return Requeue(spoilt, counts=True)
    return End(State.ERRORED, reason)

"""Changes of an active execution: stream entries and state transitions, in one round trip.

One script applies a step completely or not at all: a step of an attempt that lost its ownership is refused as a whole.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from orchestrator.errors import StoreFull
from orchestrator.models.security import SecurityEvent
from orchestrator.states import State
from orchestrator.store import scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.security import LogBounds, encoded, report, written_form

# Kinds of entries: output, a security event, and output in the blob directory (with offset and length as data).
OUTPUT, SECURITY, OUTSIDE = 0, 1, 2
# Type, data, kind.
NewEntry = tuple[str, bytes | SecurityEvent, int]
NO_ROOM = 2  # the answer of the script


class Step(NamedTuple):
    """Entries for an execution's stream and a change of its state, which one script makes together or not at all.

    ``attempt`` must own the execution (``None``: any attempt or none), and its state must be one of ``sources`` (none:
    any). ``to`` is the new state, ``fields`` are the new fields of the record, ``counts_as`` the class under which an
    ended attempt counts, and ``usage`` the amounts that an ended execution used (``accounting.USAGE``). If the answer
    of a step was lost, the process sends the step again with the same ``token``, and it takes effect once. An end with
    ``started_at`` is of an execution whose start is not written yet: the step writes start, entries and end.
    """

    id: str
    attempt: int | None
    to: State | None = None
    sources: tuple[State, ...] = ()
    fields: Mapping[str, Any] = MappingProxyType({})
    counts_as: str = ""
    entries: Sequence[NewEntry] = ()
    token: str | None = None
    usage: Sequence[int] = ()
    started_at: float | None = None


class Steps:
    """Takes steps. Thread-safe."""

    def __init__(self, connection: StoreConnection, bounds: LogBounds, retention_seconds: float, share: float) -> None:
        """``share``: the part of Redis's ``maxmemory`` that output may fill; the rest is for claims and ends."""
        self._bounds = bounds
        self._retention_seconds, self._share = retention_seconds, share
        self._script = connection.script(scripts.STEP)
        self._script_when_full = connection.script(scripts.STEP_WHEN_FULL)

    def take(self, step: Step) -> bool:
        """Take a step; ``False``, and no effect, if the attempt or the state forbids it.

        The same step writes a security event to the security logs; only this method counts and logs the event.

        Raises :class:`StoreFull`, without effect, if Redis, or the tenant's share of it, has no memory for the entries'
        output. Even a full Redis accepts a step without output.
        """
        set_fields = [part for pair in step.fields.items() for part in pair]
        args: list[str | bytes | int | float] = [
            step.id, "" if step.attempt is None else step.attempt, time.time(), self._retention_seconds,
            step.to.value if step.to else "", ",".join(step.sources), step.counts_as, step.token or new_token(),
            *self._bounds, self._share, ",".join(map(str, step.usage)),
            "" if step.started_at is None else step.started_at, len(set_fields), *set_fields,
        ]  # fmt: skip
        events = []
        for type, data, kind in step.entries:
            if isinstance(data, SecurityEvent):
                events.append(written_form(data))
                data = encoded(events[-1])
            args += [type, data, int(kind)]
        grows = any(kind == OUTPUT for _, _, kind in step.entries)
        taken = (self._script if grows else self._script_when_full)(args=args)[0]
        if taken == NO_ROOM:
            raise StoreFull("Redis, or the tenant's share of it, has no memory for more output.")
        if not taken:
            return False
        for event in events:
            report(event, execution=step.id, attempt=step.attempt)
        return True


def new_token() -> str:
    """A new unique name for one step of an execution."""
    return secrets.token_hex(6)

"""How an execution changes once it is with a worker: entries on its stream and steps of its state, in one round trip.

Everything goes through one script, which does all of a step or nothing: what an attempt that lost its right sends is
refused whole.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.errors import StoreFull
from orchestrator.models.security import SecurityEvent
from orchestrator.states import State
from orchestrator.store import scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.security import LogBounds, encoded, report, written_form

# Kinds of entries: output, a security event, and output that lies in the blob directory (its data says where: offset
# and length).
OUTPUT, SECURITY, OUTSIDE = 0, 1, 2
# Type, data, kind.
NewEntry = tuple[str, bytes | SecurityEvent, int]
NO_ROOM = 2  # what the script answers


class Steps:
    """Takes steps. Thread-safe."""

    def __init__(self, connection: StoreConnection, bounds: LogBounds, retention_seconds: float, share: float) -> None:
        """``share``: of Redis's ``maxmemory``, that output may fill; the rest is for claims and ends."""
        self._bounds = bounds
        self._retention_seconds, self._share = retention_seconds, share
        self._script = connection.script(scripts.STEP)
        self._script_when_full = connection.script(scripts.STEP_WHEN_FULL)

    def step(
        self,
        id: str,
        attempt: int | None,
        to: State | None = None,
        sources: Iterable[State] = (),
        fields: Mapping[str, Any] | None = None,
        *,
        counts_as: str = "",
        entries: Sequence[NewEntry] = (),
        token: str | None = None,
    ) -> bool:
        """Append entries, and go to another state if one is named; ``False`` if the attempt or the state forbids it.

        ``counts_as`` is how an attempt that ends here counts. A security event comes into the security logs in the same
        step, and is counted and logged here, so nobody else needs to. Who does not know whether a step was taken, since
        Redis did not answer, sends it again with the same ``token``: it is taken once.

        Raises :class:`StoreFull` if Redis, or the tenant's share of it, has no room for the output among the entries;
        then nothing was written. Without such a step is always taken, however full Redis is.
        """
        set_fields = [part for pair in (fields or {}).items() for part in pair]
        args: list[str | bytes | int | float] = [
            id, "" if attempt is None else attempt, time.time(), self._retention_seconds, to.value if to else "",
            ",".join(sources), counts_as, token or new_token(), *self._bounds, self._share,
            len(set_fields), *set_fields,
        ]  # fmt: skip
        events = []
        for type, data, kind in entries:
            if isinstance(data, SecurityEvent):
                events.append(written_form(data))
                data = encoded(events[-1])
            args += [type, data, int(kind)]
        grows = any(kind == OUTPUT for _, _, kind in entries)
        taken = (self._script if grows else self._script_when_full)(args=args)[0]
        if taken == NO_ROOM:
            raise StoreFull("Redis, or the tenant's share of it, has no room for more output.")
        if not taken:
            return False
        for event in events:
            report(event, execution=id, attempt=attempt)
        return True


def new_token() -> str:
    """Names one step; no other one of the same execution has that name."""
    return secrets.token_hex(6)

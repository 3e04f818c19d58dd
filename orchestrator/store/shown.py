"""Builds executions for clients from their records in Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any

import msgpack
from pydantic_core import from_json

from orchestrator.errors import NotFound
from orchestrator.models import Execution
from orchestrator.models.stream import Entry
from orchestrator.states import TERMINAL, State
from orchestrator.store.malformed import MALFORMED, report_malformed
from orchestrator.store.output import entry_of
from orchestrator.store.scripts import FIELDS, TIMES, TOKENS

Outside = Callable[[int, str, int, int], bytes]  # as :meth:`Blobs.read_output`, of one execution


def assembled(row: Sequence[bytes | None], outside: Outside | None = None) -> Execution | None:
    """The execution of a record's :data:`FIELDS`, without its output; ``None`` without a record.

    ``outside`` reads a large result from the blob directory, without unreadable parts. Raises :class:`NotFound` for an
    unreadable result.
    """
    values = dict(zip(FIELDS, row, strict=True))
    if values["view"] is None or values["state"] is None:
        return None
    state = State(values["state"].decode())
    fields: dict[str, Any] = from_json(values["view"])
    if values["result"] is not None and state in TERMINAL:
        fields |= from_json(values["result"])
        if (size := values["result_bytes"]) is not None:
            fields |= _large(outside, int(values["attempt"] or 0), int(size))
    fields |= {name: datetime.fromtimestamp(float(raw), UTC) for name in TIMES if (raw := values[name])}
    fields |= {
        "state": state.value,
        "attempt": int(values["attempt"] or 0),
        "security_events": int(values["security_events"] or 0),
        **{name: int(values[name] or 0) for name in TOKENS},
    }
    return Execution.model_validate(fields)


def _large(outside: Outside | None, attempt: int, size: int) -> dict[str, Any]:
    if outside is None:
        raise NotFound("The result lies in the blob directory.")
    try:
        found: dict[str, Any] = from_json(outside(attempt, "result", 0, size))
    except NotFound:
        return {}
    return found


def readable(row: Any, outside: Outside) -> Execution | None:
    """The execution, as above; also ``None`` for a malformed record or an error of Redis, which is reported."""
    try:
        return assembled(row, outside)
    except MALFORMED as error:
        report_malformed("record", f"{type(error).__name__}: {error}")
        return None


def matches(row: Any, values: Mapping[str, str], labels: AbstractSet[tuple[str, str]]) -> bool:
    """Whether a record with this ``state`` and ``view`` has all the values and labels. A malformed record never
    matches.
    """
    try:
        state, view = row
        if state is None or view is None:
            return False
        fields = {**from_json(view), "state": state.decode()}
        return all(fields.get(name) == value for name, value in values.items()) and labels <= fields["labels"].items()
    except MALFORMED as error:
        report_malformed("record", f"{type(error).__name__}: {error}")
        return False


def shown(
    id: str, row: Sequence[bytes | None], entries: Sequence[Any], outside: Outside | None = None
) -> tuple[Execution, list[Entry]]:
    """The execution, and entries of its stream, from a script's answer. Raises :class:`NotFound`."""
    execution = assembled(row, outside)
    if execution is None:
        raise NotFound(f"There is no execution {id!r}.")
    return execution, [entry_of((entry, dict(zip(*[iter(parts)] * 2, strict=True)))) for entry, parts in entries]


def decode_pushed_result(id: str, answer: bytes) -> tuple[Execution, list[Entry]]:
    """An ended execution, from the result that Redis pushed."""
    row, entries = msgpack.unpackb(answer, raw=True)
    return shown(id, [part or None for part in row], entries)  # a missing field is false

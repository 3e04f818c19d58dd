"""Streamed standard inputs: kept complete until the end, so that a retry gets the input again.

The bytes are one string, so a chunk's position is its offset, and a repeated chunk has no effect. The record has the
fields ``stdin_room`` (the most bytes; only for streamed inputs), ``stdin_read`` (the bytes that the current attempt's
program has received) and ``stdin_end``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from orchestrator.errors import (
    AlreadyFinished,
    NotFound,
    PayloadTooLarge,
    StdinFull,
    StdinRefused,
    TenantStoreFull,
)
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection

UNREAD_BYTES = 2**20  # unread by the program, at most
NOT_STREAMED = 'The standard input came with the submission; to feed it later, submit "stdin": {"stream": true}.'


class Received(NamedTuple):
    """The received bytes of a standard input, and whether it has ended."""

    bytes: int
    ended: bool


class Piece(NamedTuple):
    """The next bytes of a standard input, and whether they are the last."""

    data: bytes
    last: bool


class StreamedStdin:
    """The streamed standard inputs of every tenant. Thread-safe."""

    def __init__(self, connection: StoreConnection) -> None:
        self._append = connection.script(scripts.APPEND_STDIN)
        self._read = connection.script(scripts.READ_STDIN)

    def append(self, id: str, tenant: str, chunk: bytes, offset: int | None, last: bool) -> Received:
        """Append a chunk at ``offset`` (``None``: after the last chunk), and end the input if ``last``.

        Received bytes are skipped. Raises :class:`NotFound`, :class:`StdinRefused`, :class:`AlreadyFinished`,
        :class:`StdinFull`, :class:`TenantStoreFull` and :class:`PayloadTooLarge`; then nothing was written.
        """
        answer: list[Any] = self._append(
            keys=[keys.execution(id), keys.stdin(id)],
            args=[tenant, id, "" if offset is None else offset, chunk, int(last), UNREAD_BYTES],
        )
        match answer:
            case [b"ok", total, ended]:
                return Received(total, bool(ended))
            case [b"unknown", owner]:
                raise NotFound(f"There is no execution {id!r}.", owner=owner.decode() or None)
            case [b"not streamed"]:
                raise StdinRefused("stdin_not_streamed", NOT_STREAMED)
            case [b"finished"]:
                raise AlreadyFinished("The execution has already ended; its standard input is closed.")
            case [b"gap", total]:
                message = f"The chunk begins at byte {offset}, but {total} have arrived: send the bytes between."
                raise StdinRefused("stdin_gap", message)
            case [b"ended", total]:
                message = f"The standard input was ended at byte {total}; no bytes can follow."
                raise StdinRefused("stdin_ended", message)
            case [b"too large", room]:
                message = f"Standard input and input files would be too large: at most {room} bytes of it."
                raise PayloadTooLarge(message, bound=room)
            case [b"full"]:
                raise StdinFull(bound=UNREAD_BYTES)
            case [b"tenant store full"]:
                raise TenantStoreFull()
        raise AssertionError(answer)

    def read(self, id: str, attempt: int, offset: int, taken: int, most: int) -> Piece | None:
        """Up to ``most`` bytes from ``offset`` on; ``taken`` is the number of bytes received by the program, which
        frees their room.

        ``None`` if the attempt no longer owns the execution.
        """
        answer = self._read(keys=[keys.execution(id), keys.stdin(id)], args=[attempt, offset, taken, most])
        return None if answer is None else Piece(answer[0], bool(answer[1]))

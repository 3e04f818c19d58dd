"""The standard input of executions that stream it: kept whole until the end, so that another attempt gets it again.

The bytes are one string, so a chunk's place is its offset, and a chunk that is sent twice changes nothing. Fields of
the record say the rest: ``stdin_room`` (most bytes there may be; only executions that stream have it), ``stdin_read``
(how many the program of the present attempt has taken) and ``stdin_end``.
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
from orchestrator.store import keys
from orchestrator.store.connection import StoreConnection
from orchestrator.store.functions import CHARGE

UNREAD_BYTES = 2**20  # most that may wait for the program
NOT_STREAMED = 'The standard input came with the submission; to feed it later, submit "stdin": {"stream": true}.'

# KEYS: record, bytes   ARGV: tenant, id, offset or '', chunk, '1' if it is the last, most unread bytes
# Appends what of a chunk is new, ends the input, and wakes the worker. Returns {'ok', total, 1 if it has ended}, or
# {why nothing was written, a number or name that goes with it}.
APPEND = (
    CHARGE
    + """
local found = redis.call('HMGET', KEYS[1], 'tenant', 'state', 'stdin_room', 'stdin_read', 'stdin_end', 'worker')
if not found[1] or found[1] ~= ARGV[1] then return {'unknown', found[1] or ''} end
if not found[3] then return {'not streamed'} end
if found[2] ~= 'queued' and found[2] ~= 'starting' and found[2] ~= 'running' then return {'finished'} end
local total = redis.call('STRLEN', KEYS[2])
local offset = total
if ARGV[3] ~= '' then offset = tonumber(ARGV[3]) end
if offset > total then return {'gap', total} end
local fresh = string.sub(ARGV[4], total - offset + 1)
if #fresh > 0 then
  if found[5] then return {'ended', total} end
  if total + #fresh > tonumber(found[3]) then return {'too large', tonumber(found[3])} end
  if total + #fresh - tonumber(found[4] or 0) > tonumber(ARGV[6]) then return {'full'} end
  if not has_room(found[1], #fresh) then return {'tenant store full'} end
  charge(KEYS[1], found[1], #fresh)
  total = redis.call('APPEND', KEYS[2], fresh)
end
local ended = found[5]
if ARGV[5] == '1' and offset + #ARGV[4] >= total and not ended then
  redis.call('HSET', KEYS[1], 'stdin_end', 1)
  ended = '1'
end
if found[6] and found[6] ~= '' then redis.call('PUBLISH', 'mayfly:stdin-wake:' .. found[6], ARGV[2]) end
return {'ok', total, ended and 1 or 0}
"""
)

# KEYS: record, bytes   ARGV: attempt, offset, how many bytes the program has taken, most bytes
# Returns {bytes from the offset on, 1 if they are the last}, or nothing if the attempt does not own the execution.
READ = """
local found = redis.call('HMGET', KEYS[1], 'attempt', 'state', 'stdin_end', 'stdin_read')
if found[1] ~= ARGV[1] or (found[2] ~= 'starting' and found[2] ~= 'running') then return nil end
if found[4] ~= ARGV[3] then redis.call('HSET', KEYS[1], 'stdin_read', ARGV[3]) end
local offset = tonumber(ARGV[2])
local chunk = redis.call('GETRANGE', KEYS[2], offset, offset + tonumber(ARGV[4]) - 1)
if ARGV[4] == '0' then chunk = '' end
local last = found[3] and offset + #chunk >= redis.call('STRLEN', KEYS[2])
return {chunk, last and 1 or 0}
"""


class Received(NamedTuple):
    """How many bytes of a standard input have arrived, and whether they are all."""

    bytes: int
    ended: bool


class Piece(NamedTuple):
    """The next bytes of a standard input, and whether none follow."""

    data: bytes
    last: bool


class StreamedStdin:
    """The streamed standard inputs of every tenant. Thread-safe."""

    def __init__(self, connection: StoreConnection) -> None:
        self._append = connection.script(APPEND)
        self._read = connection.script(READ)

    def append(self, id: str, tenant: str, chunk: bytes, offset: int | None, last: bool) -> Received:
        """Add a chunk that begins at ``offset`` (``None``: where the last one ended), and end the input if ``last``.

        Bytes that arrived before are passed over. Raises :class:`NotFound`, :class:`StdinRefused`,
        :class:`AlreadyFinished`, :class:`StdinFull`, :class:`TenantStoreFull` and :class:`PayloadTooLarge`; then
        nothing was written.
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
                raise AlreadyFinished("The execution has already ended; its standard input takes nothing more.")
            case [b"gap", total]:
                message = f"The chunk begins at byte {offset}, but {total} have arrived: send the bytes between."
                raise StdinRefused("stdin_gap", message)
            case [b"ended", total]:
                message = f"The standard input was ended at byte {total}; no bytes can follow."
                raise StdinRefused("stdin_ended", message)
            case [b"too large", room]:
                raise PayloadTooLarge(f"Standard input and input files would be too large: at most {room} bytes of it.")
            case [b"full"]:
                raise StdinFull()
            case [b"tenant store full"]:
                raise TenantStoreFull()
        raise AssertionError(answer)

    def read(self, id: str, attempt: int, offset: int, taken: int, most: int) -> Piece | None:
        """Up to ``most`` bytes from ``offset`` on; ``taken`` of all are with the program and make room for others.

        ``None`` if the attempt does not own the execution any more.
        """
        answer = self._read(keys=[keys.execution(id), keys.stdin(id)], args=[attempt, offset, taken, most])
        return None if answer is None else Piece(answer[0], bool(answer[1]))

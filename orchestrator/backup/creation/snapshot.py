"""Reads Redis at one moment, as a new replica does.

Redis forks, and the child sends the data of that moment (RDB); ``redis-cli --rdb`` does the same. The stream goes
straight into the encryption, so no clear copy of it touches a disk. By default Redis waits five seconds for further
replicas (``repl-diskless-sync-delay``) before it forks.
"""

from __future__ import annotations

from typing import Any

from redis import exceptions

from orchestrator.backup.errors import BackupError
from orchestrator.store.address import pool_of

CONNECT_SECONDS = 5.0
SILENT_SECONDS = 60.0  # Redis sends an empty line each second until it begins
LONGEST_LINE = 256
MARK_BYTES = 40  # the length of the random mark that ends a stream of unknown length
NOT_ALLOWED = (
    "Redis refused to send its data: {}. The user in MAYFLY_REDIS_URL needs the commands REPLCONF and SYNC"
    " (docs/operations/backup.md)."
)


class Snapshot:
    """The stream of one snapshot. Close it: Redis would then send changes."""

    def __init__(self, url: str) -> None:
        """Ask for the data. Raises :class:`BackupError`."""
        options = {"socket_timeout": SILENT_SECONDS, "socket_connect_timeout": CONNECT_SECONDS, "protocol": 2}
        pool = pool_of(url, **options)
        self._connection: Any = pool.connection_class(**pool.connection_kwargs)
        self._left: int | None = None
        self._mark, self._tail = b"", b""
        try:
            self._connection.connect()
            for capability in (("capa", "eof"), ("rdb-only", "1")):
                self._connection.send_command("REPLCONF", *capability)
                self._connection.read_response()
            self._socket = self._connection._sock  # redis-py offers no stream of bytes
            self._socket.sendall(b"SYNC\r\n")
            self._begin()
        except exceptions.ResponseError as error:
            self.close()
            raise BackupError(NOT_ALLOWED.format(error)) from error
        except (exceptions.RedisError, OSError) as error:
            self.close()
            raise BackupError(f"Redis did not send its data: {error}") from error

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes; empty at the end. Raises :class:`BackupError` if the stream breaks."""
        if self._left == 0:
            return b""
        wanted = size if size > 0 else 2**16
        try:
            if self._left is not None:
                data = self._received(min(wanted, self._left))
                self._left -= len(data)
                return data
            while len(self._tail) <= MARK_BYTES and self._tail != self._mark:
                self._tail += self._received(wanted)
        except OSError as error:
            raise BackupError(f"The stream from Redis broke: {error}") from error
        if self._tail.endswith(self._mark):
            self._left = 0
            return self._tail[:-MARK_BYTES]
        data, self._tail = self._tail[:-MARK_BYTES], self._tail[-MARK_BYTES:]
        return data

    def close(self) -> None:
        """Disconnect. Idempotent."""
        self._connection.disconnect()

    def _begin(self) -> None:
        """Read up to the length, or up to the mark that will end the stream."""
        line = b""
        while not line.endswith(b"\n") or line == b"\n":
            line = b"" if line == b"\n" else line
            line += self._received(1)
            if len(line) > LONGEST_LINE:
                raise BackupError("Redis answered SYNC without its data.")
        text = line.strip()
        if text.startswith(b"-"):
            raise exceptions.ResponseError(text[1:].decode(errors="replace"))
        if text.startswith(b"$EOF:"):
            self._mark = text.removeprefix(b"$EOF:")
        elif text[:1] == b"$" and text[1:].isdigit():
            self._left = int(text[1:])
        else:
            raise BackupError("Redis answered SYNC without its data.")

    def _received(self, size: int) -> bytes:
        data: bytes = self._socket.recv(size)
        if not data:
            raise BackupError("Redis closed the stream before its end.")
        return data

"""Backups in a bucket of S3 or of a server that speaks its protocol.

Keys, region and endpoint come from the usual variables: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_REGION``, ``AWS_ENDPOINT_URL``; ``AWS_ALLOW_HTTP=true`` for an endpoint without TLS.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import obstore
from obstore.exceptions import BaseError

from orchestrator.backup.errors import BackupError, Damaged
from orchestrator.store.content.bucket import connected


class Bucket:
    """A prefix of a bucket. An object exists once its upload has ended, and never before."""

    def __init__(self, address: str) -> None:
        self._address = address
        with _failures(address):
            self._store = connected(address)

    def put(self, name: str, source: IO[bytes]) -> None:
        """As :class:`Target` has it."""
        with _failures(self._address):
            obstore.put(self._store, name, source)

    def flush(self) -> None:
        """As :class:`Target` has it: an upload that has ended is durable."""

    def open(self, name: str) -> Any:
        """As :class:`Target` has it."""
        try:
            with _failures(self._address):
                return io.BufferedReader(_Download(obstore.get(self._store, name).stream()))
        except FileNotFoundError as error:
            raise Damaged(f"{name} is missing.") from error

    def sizes(self, prefix: str) -> dict[str, int]:
        """As :class:`Target` has it."""
        with _failures(self._address):
            return {item["path"]: item["size"] for page in obstore.list(self._store, prefix) for item in page}

    def delete(self, name: str) -> None:
        """As :class:`Target` has it."""
        with _failures(self._address):
            obstore.delete(self._store, name)


class _Download(io.RawIOBase):
    """The chunks of a download as a stream."""

    def __init__(self, chunks: Any) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            with _failures("The bucket"):
                chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(bytes(chunk))
        taken = min(len(buffer), len(self._rest))
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken


@contextmanager
def _failures(address: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except BaseError as error:
        reason = str(error).partition("\n\nDebug source")[0]
        raise BackupError(f"{address} failed: {' '.join(reason.split())}") from error

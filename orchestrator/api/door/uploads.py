"""Incoming bodies: large bodies are written to disk as they arrive, and only a few are in memory at a time.

A body over 1 MiB is written to an unnamed file in the blob directory, and read back only when one of a few places in
memory is free: parsing takes several times its size. A body of unknown length counts as one over 64 KiB.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, TypeVar
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread
from fastapi import Request

from orchestrator.api.door.in_flight import InFlight
from orchestrator.errors import (
    AnswersFull,
    BlobsUnavailable,
    PayloadTooLarge,
    TooManyAnswers,
    TooManyUploads,
    UploadsFull,
)
from orchestrator.settings import Settings

SMALL_BYTES = 64 * 1024  # a body up to here is not counted
PIECE_BYTES = 256 * 1024  # of a blob, on the way to disk
FEW_BYTES = 2**20  # a body up to here waits for no place; of a larger body, a piece on the way to disk
MOST_CHUNKS = 1024  # of a piece, then joined: a chunk of two bytes takes thirty times as much memory
PLACES = 4  # for larger bodies and outputs that are in memory
TENANT_PLACES = PLACES // 2
T = TypeVar("T")


class TenantLimiters:
    """A limiter for each tenant with calls that run or wait: further tenants take no memory."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._limiters: WeakValueDictionary[str, CapacityLimiter] = WeakValueDictionary()

    def __getitem__(self, tenant: str) -> CapacityLimiter:
        return self._limiters.setdefault(tenant, CapacityLimiter(self._places))

    def __len__(self) -> int:
        return len(self._limiters)


class Places:
    """A few places for memory-intensive work, by default at most half of them for one tenant."""

    def __init__(self, tenant_places: int = TENANT_PLACES) -> None:
        self._all, self._single = CapacityLimiter(PLACES), CapacityLimiter(1)
        self._tenants, self._turns = TenantLimiters(tenant_places), TenantLimiters(1)

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a place, and occupy it until the context ends."""
        async with self._tenants[tenant], self._all:
            yield

    async def run(self, tenant: str, call: Callable[[], T]) -> T:
        """Call in a thread, with a place."""
        async with self.place(tenant):
            return await to_thread.run_sync(call)

    async def alone(self, tenant: str, call: Callable[[], T]) -> T:
        """Call in a thread, one call at a time, tenants by turns: for C code that keeps the interpreter's lock.

        Concurrent calls would be no faster, and the event loop would wait for all of them instead of a single call.
        """
        async with self._turns[tenant]:
            return await to_thread.run_sync(call, limiter=self._single)


class Traffic:
    """The transfers in and out of one API process."""

    def __init__(self, settings: Settings) -> None:
        self.uploads = InFlight((settings.tenant_uploads, TooManyUploads), (settings.uploads, UploadsFull))
        self.answers = InFlight((settings.tenant_answers, TooManyAnswers), (settings.answers, AnswersFull))
        self.places, self.readings = Places(), Places()  # for bodies; for lists and exact output
        # Each has a helper process, of at most 768 MiB, for seconds. Three tenants leave a place to others.
        self.images = Places(tenant_places=1)
        self.directory = settings.blobs_path

    @asynccontextmanager
    async def body(self, request: Request, tenant: str) -> AsyncIterator[bytes]:
        """The whole body, in memory only until the context ends."""
        if is_small(request):
            yield await request.body()
            return
        with self.uploads.counted(tenant), ExitStack() as cleanup:
            file: IO[bytes] | None = None
            async for chunks in pieces(request, FEW_BYTES):
                if file is None and sum(map(len, chunks)) > FEW_BYTES:
                    file = cleanup.enter_context(await to_thread.run_sync(unnamed_file, self.directory))
                if file is not None:
                    await to_thread.run_sync(_write, file, chunks)
            if file is None:
                yield b"".join(chunks)
            else:
                async with self.places.place(tenant):
                    yield await to_thread.run_sync(_contents, file)

    async def chunk(self, request: Request, tenant: str, most_bytes: int) -> bytes:
        """A body of at most ``most_bytes``. Raises :class:`PayloadTooLarge`."""
        if is_small(request):
            return await request.body()
        found = bytearray()
        with self.uploads.counted(tenant):
            async for piece in request.stream():
                found += piece
                if len(found) > most_bytes:
                    message = f"A chunk has at most {most_bytes} bytes; this chunk has more."
                    raise PayloadTooLarge(message, bound=most_bytes)
        return bytes(found)


def is_small(request: Request) -> bool:
    """Whether a request declares a small body, or none."""
    if "transfer-encoding" in request.headers:
        return False
    length = request.headers.get("content-length", "0")
    return length.isdigit() and int(length) <= SMALL_BYTES


async def pieces(request: Request, size: int) -> AsyncIterator[list[bytes]]:
    """The body in pieces of more than ``size`` bytes, and the rest, which may be empty; each as its chunks."""
    chunks: list[bytes] = []
    left = size
    async for chunk in request.stream():
        chunks.append(chunk)
        left -= len(chunk)
        if len(chunks) == MOST_CHUNKS:
            chunks = [b"".join(chunks)]
        if left < 0:
            yield chunks
            chunks, left = [], size
    yield chunks


def unnamed_file(directory: Path) -> IO[bytes]:
    """An unnamed file, deleted when it is closed. Raises :class:`BlobsUnavailable`."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=directory)
    except OSError as error:
        raise BlobsUnavailable() from error


def _write(file: IO[bytes], chunks: list[bytes]) -> None:
    try:
        file.writelines(chunks)
    except OSError as error:
        raise BlobsUnavailable() from error


def _contents(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()

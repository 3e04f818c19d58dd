"""Outgoing answers: sent in pieces, and from disk if they are large or their reader is slow.

A body on disk is an unnamed file; the route ends and frees its memory, and the pieces are sent afterwards, each when
the reader has read the previous pieces. So a slow reader occupies no memory for longer than a moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from anyio import to_thread

from orchestrator.api.door.uploads import unnamed_file
from orchestrator.errors import BlobsUnavailable

PIECE_BYTES = 64 * 1024
READ_BYTES = 4 * PIECE_BYTES
LARGE_BYTES = 2**20  # larger answers count among the tenant's large answers
STORED_BYTES = 2 * LARGE_BYTES  # larger answers are stored on disk at once


def split(body: bytes) -> Iterator[bytes]:
    """Split a body into pieces; an empty body is one piece."""
    if len(body) <= PIECE_BYTES:
        yield body
        return
    for begin in range(0, len(body), PIECE_BYTES):
        yield body[begin : begin + PIECE_BYTES]


async def stored(body: bytes, directory: Path) -> IO[bytes]:
    """Store a body in an unnamed file. Raises :class:`BlobsUnavailable`."""
    return await to_thread.run_sync(_store, body, directory)


async def read_pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    """The content of a file, piece by piece."""
    while read := await to_thread.run_sync(file.read, READ_BYTES):
        for piece in split(read):
            yield piece


def _store(body: bytes, directory: Path) -> IO[bytes]:
    file = unnamed_file(directory)
    try:
        file.write(body)
        file.seek(0)
    except OSError as error:
        file.close()
        raise BlobsUnavailable() from error
    return file

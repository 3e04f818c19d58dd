"""Sources of bytes that are read piece by piece: an output in memory, or an artifact's file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Protocol

from orchestrator.errors import NotFound
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.models import Artifact
from orchestrator.models.results import Content

BLOCK_BYTES = 2**18


class Source(Protocol):
    """A source of bytes with a known size."""

    size: int

    def read(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes from an offset."""


class Memory:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def read(self, offset: int, count: int) -> bytes:
        return self._data[offset : offset + count]


class File:
    """A file that does not change. Raises :class:`NotFound` once it is deleted."""

    def __init__(self, opened: Callable[[], Content], named: str) -> None:
        self._opened, self._named = opened, named
        with closing(self._open()) as content:
            self.size = content.size

    def read(self, offset: int, count: int) -> bytes:
        with closing(self._open()) as content:
            return b"".join(content.chunks(offset, min(offset + count, content.size)))

    def _open(self) -> Content:
        try:
            return self._opened()
        except NotFound as error:
            raise NotFound(f"The file of artifact {self._named!r} was deleted.") from error


def stream_of(parts: Parts, caller: Caller, id: str, name: str) -> Source:
    """An execution's ``stdout`` or ``stderr``. Raises :class:`NotFound`."""
    return Memory(parts.results.output(caller.principal, id, name))


def artifact_of(parts: Parts, caller: Caller, id: str, path: str) -> tuple[Artifact, Source]:
    """An artifact. Raises :class:`NotFound`, which lists the execution's artifacts."""
    try:
        artifact, opened = parts.results.artifact(caller.principal, id, path)
    except NotFound as error:
        listed = [one.path for one in parts.results.artifacts(caller.principal, id)]
        known = ", ".join(listed[:10]) + (f", and {len(listed) - 10} more" if len(listed) > 10 else "")
        raise NotFound(f"{error.message} The execution's files: {known or 'none'}.") from error
    return artifact, File(opened, path)


def blocks(source: Source, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The blocks of a source, each with its offset; of whole lines, if lines are shorter than a block."""
    while offset < source.size:
        block = source.read(offset, BLOCK_BYTES)
        if not block:
            return
        end = block.rfind(b"\n") + 1
        if end and offset + len(block) < source.size:
            block = block[:end]
        yield offset, block
        offset += len(block)


def offset_of_line(source: Source, line: int) -> int:
    """The offset at which a line begins, counted from 1; the size for a line after the last."""
    left = line - 1
    for offset, block in blocks(source) if left else ():
        count = block.count(b"\n")
        if count < left:
            left -= count
            continue
        position = -1
        for _ in range(left):
            position = block.index(b"\n", position + 1)
        return offset + position + 1
    return source.size if left else 0


def line_at(source: Source, offset: int) -> int:
    """The number of the line that has the byte at an offset, from 1."""
    counted = 1
    for begin, block in blocks(source):
        if begin + len(block) >= offset:
            return counted + block.count(b"\n", 0, offset - begin)
        counted += block.count(b"\n")
    return counted

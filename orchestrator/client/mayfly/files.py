"""Bytes to and from the API: uploads, standard input, and artifacts.

Artifacts are saved under a directory and nowhere else, for any names and any existing files. The names come from a
program that is not trusted. Every directory on the way is opened without following symbolic links, relative to the one
before; the file is written under a new name and then renamed, so that a link with its name is replaced, not followed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import ExitStack, aclosing, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from mayfly.errors import RateLimited, UnsafeArtifact
from mayfly.exchange import API, FIRST_PAUSE_SECONDS, Exchange, execution_path
from mayfly.inputs import Blob
from mayfly.results import Artifact, Execution, member
from mayfly.steps import Next, Pause, Send, Work

CHUNK_BYTES = 64 * 1024
UPLOAD_SECONDS = 120.0

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def components(path: str) -> list[str]:
    """The names of a plain relative path. Raises :class:`UnsafeArtifact` for any other path."""
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise UnsafeArtifact(f"{path!r} is not a plain relative path; it was not saved.")
    return parts


class Destination:
    """The destination of one artifact: ``path`` under ``directory``, which is made if necessary.

    Used in a ``with`` statement: :meth:`write` each piece, then :meth:`commit`, which replaces a file of that name.
    Without :meth:`commit` no file remains. Raises :class:`UnsafeArtifact` if the path is not plain or crosses a
    symbolic link, ``OSError`` if the file cannot be written.
    """

    def __init__(self, directory: Path, path: str, sha256: str | None = None) -> None:
        import hashlib  # imported here: most programs leave nothing to save, and it takes as long as a request

        *parents, self._name = components(path)
        self._path, self._place, self._sha256 = path, directory / path, sha256
        self._partial = f".{os.urandom(8).hex()}.partial"
        self._digest = hashlib.sha256()
        directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._within = _opened(stack, directory, None)
            for parent in parents:
                with suppress(FileExistsError):
                    os.mkdir(parent, dir_fd=self._within)
                try:
                    self._within = _opened(stack, parent, self._within)
                except OSError as error:
                    raise UnsafeArtifact(
                        f"{path!r} crosses {parent!r}, which is no directory; it was not saved."
                    ) from error
            self._file = stack.enter_context(
                os.fdopen(os.open(self._partial, NEW_FILE, 0o666, dir_fd=self._within), "wb")
            )
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack, suppress(FileNotFoundError):
            os.unlink(self._partial, dir_fd=self._within)

    def write(self, piece: bytes) -> None:
        """Add bytes. Raises ``OSError``."""
        self._digest.update(piece)
        self._file.write(piece)

    def commit(self) -> Path:
        """Give the file its name; return its path. Raises :class:`UnsafeArtifact` if the bytes have another digest."""
        if self._sha256 is not None and self._digest.hexdigest() != self._sha256:
            raise UnsafeArtifact(f"{self._path!r} arrived with another digest than announced; it was not saved.")
        self._file.flush()
        os.rename(self._partial, self._name, src_dir_fd=self._within, dst_dir_fd=self._within)
        return self._place


def _opened(stack: ExitStack, name: str | Path, within: int | None) -> int:
    follow = 0 if within is None else os.O_NOFOLLOW  # the directory itself was the user's own choice
    descriptor = os.open(name, DIRECTORY | follow, dir_fd=within)
    stack.callback(os.close, descriptor)
    return descriptor


class Transfers:
    """The calls of one API that transfer bytes."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def artifact(self, id: str, path: str) -> AsyncGenerator[bytes, None]:
        """An artifact's bytes, in pieces."""
        return self._exchange.pieces(Send("GET", f"{execution_path(id, 'artifacts')}/{quote(path)}", streamed=True))

    async def save_artifact(self, id: str, artifact: Artifact, directory: Path) -> Path:
        """Save an artifact under its own name below ``directory`` and nowhere else; returns its path.

        The bytes are compared with the announced SHA-256. A file of that name is replaced. Raises
        :class:`mayfly.UnsafeArtifact`, and ``OSError`` if it cannot be written; then no file is left behind.
        """
        return await self._save(id, artifact.path, Path(directory), artifact.path, artifact.sha256)

    async def save_artifacts(self, execution: Execution, directory: Path) -> list[Path]:
        """Save every artifact of an execution as :meth:`save_artifact` does; return their paths."""
        return [await self.save_artifact(execution.id, artifact, directory) for artifact in execution.artifacts]

    async def download(self, id: str, path: str, to: Path) -> Path:
        """Save an artifact as the file ``to``, which replaces an existing file. Raises ``OSError``."""
        target = Path(to)
        return await self._save(id, path, target.parent, target.name, None)

    async def _save(self, id: str, path: str, directory: Path, name: str, sha256: str | None) -> Path:
        with await Work(partial(Destination, directory, name, sha256)) as destination:
            async with aclosing(self.artifact(id, path)) as pieces:
                async for piece in pieces:
                    await Work(partial(destination.write, piece))
            return await Work(destination.commit)

    async def put_blob(self, data: bytes | Path) -> Blob:
        """Upload bytes, or a file, for use as an input. The same bytes give the same blob."""
        content = await Work(data.read_bytes) if isinstance(data, Path) else data
        request = Send("PUT", f"{API}/blobs", content=content, timeout_seconds=UPLOAD_SECONDS)
        return Blob(str(member(await self._exchange.json(request), "blob")))

    async def append_stdin(self, id: str, data: bytes, offset: int, *, end: bool = False) -> None:
        """Append bytes to a streamed standard input; ``end`` marks the last bytes. Never retries.

        ``offset`` is the number of earlier bytes, so that a repeated chunk is not appended twice.
        """
        await self._exchange.json(_chunk(id, data, offset, end=end), retry=False)

    async def feed(self, id: str, data: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        """Stream bytes as the standard input of an execution submitted with ``stdin=STREAMED``, then end the input.

        While the input is full, the call retries until the program has read. Raises :class:`mayfly.Conflict` once the
        execution has ended.
        """
        source = aiter(data) if isinstance(data, AsyncIterable) else iter(data)
        sent = 0
        while (piece := await Next(source)) is not None:
            for at in range(0, len(piece), CHUNK_BYTES):
                chunk = piece[at : at + CHUNK_BYTES]
                await self._append(id, chunk, sent)
                sent += len(chunk)
        await self._append(id, b"", sent, end=True)

    async def _append(self, id: str, chunk: bytes, offset: int, *, end: bool = False) -> None:
        while True:
            try:
                await self._exchange.json(_chunk(id, chunk, offset, end=end))
            except RateLimited as error:
                if error.code != "stdin_full":
                    raise
                await Pause(error.retry_after_seconds or FIRST_PAUSE_SECONDS)
            else:
                return


def _chunk(id: str, data: bytes, offset: int, *, end: bool) -> Send:
    return Send("POST", execution_path(id, "stdin"), content=data, params={"offset": offset, "end": end})

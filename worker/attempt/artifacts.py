"""Files collected from a sandbox, as an untrusted stream of frames.

The host never opens a path that the program chose: bytes are written to a file named by their digest, and the path is
only stored as text, after the same checks as a client's path.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, cast, get_args

from orchestrator.errors import FrameError
from orchestrator.models import Artifact, RejectedArtifact, RejectionReason, has_control_characters
from orchestrator.store.content.blobs import Blobs, BlobWriter
from worker.attempt.media_types import media_type

MAX_REJECTIONS = 100
MAX_PATH = 1024
MAX_DEPTH = 32  # the agent's bound
LEAST_PIECE = (
    4096  # bytes of each piece of a file except the last: the agent reads 60 KiB, and a kernel returns a page or more
)
REASONS = frozenset(get_args(RejectionReason))


class ArtifactSink:
    """Receives the artifacts of one attempt, bounded in number and bytes. Used by one thread."""

    def __init__(self, blobs: Blobs, execution: str, attempt: int, max_bytes: int, max_files: int) -> None:
        self._blobs, self._execution, self._attempt = blobs, execution, attempt
        self.left_bytes, self.left_files = max_bytes, max_files
        self._bounds = {
            "too_large": max_bytes, "too_many": max_files, "too_deep": MAX_DEPTH, "bad_name": MAX_PATH,
        }  # fmt: skip
        self._writer: BlobWriter | None = None
        self._path, self._size, self._pieces = "", 0, 0
        self.artifacts: dict[str, Artifact] = {}
        self.rejected: list[RejectedArtifact] = []

    def begin(self, header: dict[str, Any]) -> None:
        """Begin a file. Raises :class:`FrameError` for a header that an agent never sends."""
        path, size = header.get("path"), header.get("size")
        if self._writer is not None:
            raise FrameError("a file began before the last one ended")
        if not isinstance(path, str) or not acceptable_path(path) or path in self.artifacts:
            raise FrameError("a file has no acceptable path")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= self.left_bytes:
            raise FrameError("a file larger than allowed")
        if self.left_files < 1:
            raise FrameError("more files than allowed")
        self.left_files -= 1
        self.left_bytes -= size
        self._path, self._size, self._pieces = path, size, 0
        self._writer = self._blobs.artifact_writer(self._execution, self._attempt)
        self._end_if_complete()

    def data(self, chunk: bytes) -> None:
        """Append bytes to the current file."""
        if self._writer is None or self._writer.size + len(chunk) > self._size:
            raise FrameError("file data without a header")
        self._pieces += 1
        if self._pieces > 2 + self._size // LEAST_PIECE:
            raise FrameError("file data in pieces smaller than any agent's")
        self._writer.write(chunk)
        self._end_if_complete()

    def reject(self, detail: dict[str, Any]) -> None:
        """Record a file that the agent did not collect. Raises :class:`FrameError` for a reason that an agent never
        gives.
        """
        path, reason = detail.get("path"), str(detail.get("why"))
        if not isinstance(path, str) or reason not in REASONS:
            raise FrameError("a rejected file without an acceptable path and reason")
        if len(self.rejected) < MAX_REJECTIONS:
            known = cast(RejectionReason, reason)
            self.rejected.append(RejectedArtifact(path=path[:MAX_PATH], reason=known, bound=self._bounds.get(reason)))

    def close(self) -> None:
        """Discard an incomplete file. Idempotent."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _end_if_complete(self) -> None:
        if self._writer is not None and self._writer.size == self._size:
            sha256, size = self._writer.commit()
            self._writer.close()
            self._writer = None
            self.artifacts[self._path] = Artifact(
                path=self._path, size=size, media_type=media_type(self._path), sha256=sha256.removeprefix("sha256:")
            )


def acceptable_path(path: str) -> bool:
    """Whether a path is relative, normalised, without control characters and short enough to be shown to a client."""
    return (
        0 < len(path.encode(errors="surrogatepass")) <= MAX_PATH
        and not has_control_characters(path)
        and str(PurePosixPath(path)) == path
        and not path.startswith("/")
        and ".." not in PurePosixPath(path).parts
        and path != "."
    )

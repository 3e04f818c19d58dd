"""Transfers: what workers without the blob directory read and write."""

from __future__ import annotations

import threading
import time

from orchestrator.errors import AttemptNotOwner, BlobNotFound, BlobsUnavailable, PayloadTooLarge
from orchestrator.models.results import Content
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.content.blobs import UPLOAD

LARGEST_OUTPUT_BYTES = 2**30
ROOM_SECONDS = 5.0  # for which an answer about room holds


class Transfers:
    """Blobs of every tenant, to read; files of the attempt that owns an execution, to write. Thread-safe."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._blobs = store, store.own_blobs
        self._artifact_bytes, self._artifact_files = settings.artifact_bytes, settings.artifact_files
        self._looking, self._look_at = threading.Lock(), 0.0
        self._no_room: BlobsUnavailable | None = None

    def check_room(self) -> None:
        """Raise :class:`BlobsUnavailable` unless contents can be stored, :class:`BlobsFull` without free space.

        One thread looks at a time, and its answer holds for a moment: a store that does not answer holds up no other.
        """
        if time.monotonic() >= self._look_at and self._looking.acquire(blocking=False):
            try:
                self._blobs.check_writable()
                self._no_room = None
            except BlobsUnavailable as error:
                self._no_room = error
            finally:
                self._look_at = time.monotonic() + ROOM_SECONDS
                self._looking.release()
        if self._no_room is not None:
            raise self._no_room.with_traceback(None)

    def blob(self, tenant: str, sha256: str) -> Content:
        """A tenant's blob. Raises :class:`BlobNotFound`."""
        if (found := self._blobs.open(tenant, sha256)) is None:
            raise BlobNotFound()
        return found

    def write(self, id: str, attempt: int, name: str, offset: int, piece: bytes, sha256: str | None) -> None:
        """Write a piece of an attempt's output or artifact; ``sha256``: of the whole artifact, with its last piece.

        Raises :class:`AttemptNotOwner` unless that attempt owns the execution, :class:`PayloadTooLarge`,
        :class:`BlobsFull` and :class:`DigestMismatch`.
        """
        is_upload = UPLOAD.fullmatch(name) is not None
        if offset + len(piece) > (most := self._artifact_bytes if is_upload else LARGEST_OUTPUT_BYTES):
            raise PayloadTooLarge(f"The file would have more than {most} bytes.", bound=most)
        (holder,) = self._store.records.holders([id])
        if holder.attempt != attempt or not holder.since:  # it has ended, or is queued again
            raise AttemptNotOwner()
        if not is_upload:
            self._blobs.write_output(id, attempt, name, offset, piece)
            return
        self._check_bounds(id, attempt)
        self._blobs.write_upload(id, attempt, name, offset, piece)
        if sha256 is not None:
            self._blobs.finish_upload(id, attempt, name, sha256)

    def _check_bounds(self, id: str, attempt: int) -> None:
        """Bound the artifacts and uploads of an attempt: twice the bytes and a piece, since a finished upload may be
        sent again.
        """
        files, stored = self._blobs.stored(id, attempt)
        if files > self._artifact_files:
            raise PayloadTooLarge("The attempt has too many artifacts.", bound=self._artifact_files)
        if stored > (most := 2 * self._artifact_bytes):
            raise PayloadTooLarge("The attempt's artifacts and uploads have too many bytes.", bound=most)

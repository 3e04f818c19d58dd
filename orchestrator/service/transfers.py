"""Transfers: what workers without the blob directory read and write."""

from __future__ import annotations

from orchestrator.errors import NotFound, PayloadTooLarge
from orchestrator.models.results import Content
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.content.blobs import UPLOAD

LARGEST_OUTPUT_BYTES = 2**30


class Transfers:
    """Blobs of every tenant, to read; files of the attempt that owns an execution, to write. Thread-safe."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._blobs = store, store.own_blobs
        self._artifact_bytes = settings.artifact_bytes

    def blob(self, tenant: str, sha256: str) -> Content:
        """A tenant's blob. Raises :class:`NotFound`."""
        if (found := self._blobs.open(tenant, sha256)) is None:
            raise NotFound("There is no such blob.")
        return found

    def write(self, id: str, attempt: int, name: str, offset: int, piece: bytes, sha256: str | None) -> None:
        """Write a piece of an attempt's output or artifact; ``sha256``: of the whole artifact, with its last piece.

        Raises :class:`NotFound` unless that attempt owns the execution, :class:`PayloadTooLarge`, and
        :class:`DigestMismatch`.
        """
        is_upload = UPLOAD.fullmatch(name) is not None
        if offset + len(piece) > (most := self._artifact_bytes if is_upload else LARGEST_OUTPUT_BYTES):
            raise PayloadTooLarge(f"The file would have more than {most} bytes.", bound=most)
        (holder,) = self._store.records.holders([id])
        if holder.attempt != attempt or not holder.since:  # it has ended, or is queued again
            raise NotFound("This attempt does not own the execution.")
        if not is_upload:
            self._blobs.write_output(id, attempt, name, offset, piece)
            return
        self._blobs.write_upload(id, attempt, name, offset, piece)
        if sha256 is not None:
            self._blobs.finish_upload(id, attempt, name, sha256)

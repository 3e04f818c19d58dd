"""Large contents shared by API and workers: uploaded blobs, large inputs, artifacts, output beyond Redis.

A blob is content-addressed within its tenant, so a tenant cannot find out whether another has the same bytes. Files of
an attempt are deleted with its execution: artifacts, named by their SHA-256; ``stdout`` and ``stderr``, which have the
output beyond Redis's share and grow while the program runs; ``bundles`` has the same of the program's results;
``result`` has the end of an execution where it is too large for Redis.

Contents lie in a directory (``directory.py``) or in a bucket (``bucket.py``); a worker without either reaches them
through the API (``remote.py``). One conformance test has the behaviour of all three.

Names of tenants and executions come from Redis, where an attacker may have written them: names with a path are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

from orchestrator.models.results import Content

HEX = frozenset("0123456789abcdef")
OUTPUTS = ("stdout", "stderr", "bundles", "result")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")  # of tenants and executions
UPLOAD = re.compile(r"upload-[0-9a-f]{32}")  # an artifact that arrives in pieces


class BlobWriter(Protocol):
    """Writes bytes that get the name of their SHA-256. Raises :class:`BlobsUnavailable`."""

    size: int

    def write(self, chunk: bytes) -> None:
        """Append bytes."""

    def commit(self) -> tuple[str, int]:
        """Make the content visible, complete; returns ``sha256:…`` and its size in bytes."""

    def close(self) -> None:
        """Discard uncommitted bytes. Idempotent."""


class Blobs(Protocol):
    """The contents as a worker needs them. Thread- and process-safe. Raises :class:`BlobsUnavailable`."""

    def fetch(self, tenant: str, reference: str, target: Path) -> bool:
        """Copy a tenant's blob to a new file; ``False`` for an absent blob. Using a blob renews its retention.

        Raises ``OSError`` if the file cannot be written.
        """

    def artifact_writer(self, execution: str, attempt: int) -> BlobWriter:
        """A writer for one artifact of an attempt."""

    def write_output(self, execution: str, attempt: int, type: str, offset: int, data: bytes) -> None:
        """Write output of an attempt at an offset. Idempotent."""

    def read_output(self, execution: str, attempt: int, type: str, offset: int, length: int) -> bytes:
        """Output of an attempt. Raises :class:`NotFound` for incomplete output."""

    def check_writable(self) -> None:
        """Raise :class:`BlobsUnavailable` unless contents can be stored, :class:`BlobsFull` without free space."""


@runtime_checkable
class OwnBlobs(Blobs, Protocol):
    """The contents as the API has them, with uploads, reading and deletion."""

    def put(self, tenant: str, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Store bytes; return ``sha256:…`` and their number. Leaves the reserve for artifacts of running programs."""

    def writer(self, tenant: str) -> BlobWriter:
        """A writer for bytes as they arrive; otherwise like :meth:`put`."""

    def open(self, tenant: str, reference: str) -> Content | None:
        """A tenant's blob, or ``None``. Using a blob renews its retention."""

    def open_artifact(self, execution: str, attempt: int, sha256: str) -> Content | None:
        """An artifact, or ``None``."""

    def write_upload(self, execution: str, attempt: int, upload: str, offset: int, data: bytes) -> None:
        """Write a piece of an artifact that a worker sends. Idempotent. Leaves half of the reserve."""

    def stored(self, execution: str, attempt: int) -> tuple[int, int]:
        """The number of an attempt's artifacts and unfinished uploads, and the sum of their bytes."""

    def finish_upload(self, execution: str, attempt: int, upload: str, sha256: str) -> None:
        """Make an artifact of an upload. Idempotent. Raises :class:`DigestMismatch`; then the bytes are removed."""

    def delete_artifacts(self, execution: str) -> None:
        """Remove every file of an execution. Idempotent."""

    def delete_tenant(self, tenant: str) -> None:
        """Remove all blobs of a tenant. Idempotent."""

    def executions(self, older_than_seconds: float) -> list[str]:
        """Executions with files here that have not changed for that long."""

    def expire(self, older_than_seconds: float) -> int:
        """Remove blobs unused for that long, and remains of interrupted uploads; returns their number."""


def checked_name(name: str) -> str:
    """The name of a tenant or an execution. Raises ``ValueError`` for any other text."""
    if not NAME.fullmatch(name):
        raise ValueError("not a name of a tenant or an execution")
    return name


def checked_digest(reference: str) -> str:
    """The digest of ``sha256:…`` or of a digest alone. Raises ``ValueError``."""
    digest = reference.removeprefix("sha256:")
    if len(digest) != 64 or not HEX.issuperset(digest):
        raise ValueError("not a SHA-256 reference")
    return digest


def checked_output(type: str) -> str:
    """The name of an output. Raises ``ValueError``."""
    if type not in OUTPUTS:
        raise ValueError("not a name of an output")
    return type


def checked_upload(name: str) -> str:
    """The name of an upload. Raises ``ValueError``."""
    if not UPLOAD.fullmatch(name):
        raise ValueError("not a name of an upload")
    return name

"""Places for backups: a directory or a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, Protocol

from orchestrator.backup.errors import BackupError


class Target(Protocol):
    """Named files. All methods raise :class:`BackupError` when the place fails."""

    def put(self, name: str, source: IO[bytes]) -> None:
        """Store a file under a name: whole, or not at all."""

    def flush(self) -> None:
        """Make all files that were put durable, so that they survive a loss of power."""

    def open(self, name: str) -> Any:
        """A readable stream of a file. Raises :class:`Damaged` if no file has that name."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """The sizes of all files whose names begin with ``prefix``, by name."""

    def delete(self, name: str) -> None:
        """Remove a file. Idempotent."""


def open_target(address: str) -> Target:
    """The target of an address: ``s3://bucket/prefix``, or a directory. Raises :class:`BackupError`."""
    if not address:
        raise BackupError("Set MAYFLY_BACKUP_TARGET to a directory or to s3://bucket/prefix, or give --target.")
    scheme, separator, _ = address.partition("://")
    if not separator:
        from orchestrator.backup.targets.directory import Directory

        return Directory(Path(address))
    if scheme != "s3":
        raise BackupError(f"{address} is neither a directory nor s3://bucket/prefix.")
    try:
        from orchestrator.backup.targets.bucket import Bucket
    except ModuleNotFoundError as error:
        raise BackupError("Buckets need the package obstore: pip install -r deploy/s3.lock") from error
    return Bucket(address)

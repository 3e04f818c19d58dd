"""Encryption with age to public keys; the one module that uses pyrage.

pyrage drops an error that the last write raises (its buffer is flushed as it is dropped), so the streams here remember
errors, and each result is checked against digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyrage

from orchestrator.backup.errors import BackupError, Damaged
from orchestrator.backup.manifest import Part


class Encrypted(NamedTuple):
    """Digest and size of a file, clear and encrypted."""

    clear: Part
    stored: Part


class Digested:
    """A stream that digests the bytes read from it or written to it, and keeps the error that stopped it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes."""
        try:
            return self._counted(self._stream.read(size))
        except (OSError, BackupError) as error:
            self.error = error
            raise

    def write(self, data: bytes) -> int:
        """Write all bytes."""
        try:
            self._stream.write(data)
        except (OSError, BackupError) as error:
            self.error = error
            raise
        return len(self._counted(data))

    def flush(self) -> None:
        """Do nothing: the stream below is flushed by its owner."""

    @property
    def part(self) -> Part:
        """The digest and the number of all bytes. Raises the stream's error."""
        if self.error is not None:
            raise self.error
        return Part(sha256=self._digest.hexdigest(), size=self.size)

    def _counted(self, data: bytes) -> bytes:
        self._digest.update(data)
        self.size += len(data)
        return data


class Recipients:
    """The public keys that backups are encrypted to. Raises :class:`BackupError` without keys, and for other text."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise BackupError("No backup is written unencrypted: set MAYFLY_BACKUP_RECIPIENTS to public keys of age.")
        try:
            self._keys = [pyrage.x25519.Recipient.from_str(key) for key in keys]
        except pyrage.RecipientError as error:
            raise BackupError("MAYFLY_BACKUP_RECIPIENTS has a value that is no public key of age (age1…).") from error

    def encrypt(self, source: Any, to: IO[bytes]) -> Encrypted:
        """Encrypt a stream into another. Raises ``OSError``, and what ``source`` raises."""
        clear, stored = Digested(source), Digested(to)
        try:
            pyrage.encrypt_io(clear, stored, self._keys)
        except (pyrage.EncryptError, OSError) as error:
            raise clear.error or stored.error or BackupError(f"age could not encrypt: {error}") from error
        to.flush()
        return Encrypted(clear.part, stored.part)


class Identities:
    """The identities of a file, as age-keygen writes it."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`BackupError` for a file without identities, and ``OSError``."""
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        try:
            self._keys = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
        except pyrage.IdentityError as error:
            raise BackupError(f"{path} has a line that is no identity of age (AGE-SECRET-KEY-1…).") from error
        if not self._keys:
            raise BackupError(f"{path} has no identity of age.")

    def decrypt(self, source: Any, to: Any) -> Encrypted:
        """Decrypt a stream into another. Raises :class:`Damaged` for a damaged stream, or one for other identities."""
        clear, stored = Digested(to), Digested(source)
        try:
            pyrage.decrypt_io(stored, clear, self._keys)
        except pyrage.DecryptError as error:
            raise Damaged(f"It cannot be decrypted with this identity: {error}") from error
        except OSError as error:
            changed = Damaged("It was changed after it was encrypted, or has lost its end.")
            raise clear.error or stored.error or changed from error
        return Encrypted(clear.part, stored.part)


def write_identity(path: Path) -> str:
    """Write a new identity to a new file, as age-keygen does; returns its public key. Raises ``FileExistsError``."""
    made = pyrage.x25519.Identity.generate()
    public = str(made.to_public())
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(f"# public key: {public}\n{made}\n", encoding="ascii")
    return public

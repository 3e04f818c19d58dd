"""The documents of a backup: its summary, which anyone may read, and its contents, which are encrypted. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orchestrator.audit import canonical
from orchestrator.audit.chain import Seal
from orchestrator.backup.errors import BackupError
from orchestrator.models import Frozen

FORMAT = 1
REDIS, CONTENTS, OBJECTS, SUMMARY = "redis.age", "contents.age", "objects", "backup.json"


class Part(Frozen):
    """A stored file of a backup: the SHA-256 and the number of its bytes as they are stored."""

    sha256: str
    size: int


class Summary(Frozen):
    """A complete backup. ``snapshot_at`` is the moment by Redis's clock; ``audit`` the last seal before that moment.

    ``files`` and ``bytes`` count the files of the blob directory, ``new_objects`` and ``new_bytes`` those that no
    earlier backup had.
    """

    format: int = FORMAT
    id: str
    snapshot_at: datetime
    finished_at: datetime
    version: str
    parts: dict[str, Part]
    files: int
    bytes: int
    new_objects: int
    new_bytes: int
    audit: Seal
    recipients: tuple[str, ...]
    signature: str = ""


class OwnFile(Frozen):
    """A file of the installation that its data depends on. ``role`` names the setting that has its path.

    ``name`` is its name within the directory of that setting, or empty if the setting is a file.
    """

    role: str
    name: str
    data: str  # in base64


class StoredFile(Frozen):
    """A file of the blob directory: its path there, and the object with its content.

    ``size`` is the file's, which differs from its content's if the file was truncated after an earlier backup.
    """

    path: str
    object: str
    sha256: str
    size: int


class Contents(Frozen):
    """All that a restore needs besides Redis. ``images`` has the digest of each environment's image by name.

    ``settings`` are the variables that were set, except for credentials, ``database`` the number of Redis's database.
    """

    id: str
    database: int = 0
    own_files: tuple[OwnFile, ...]
    files: tuple[StoredFile, ...]
    images: dict[str, str]
    settings: dict[str, str]


class Keys(NamedTuple):
    """The keys of an installation's backups, derived from its secret: for objects' names, and for signatures."""

    names: bytes
    signer: Ed25519PrivateKey

    @classmethod
    def of(cls, secret: bytes) -> Keys:
        """The keys that belong to a secret."""
        names, seed = (hmac.digest(secret, f"mayfly backup {use}".encode(), hashlib.sha256) for use in ("name", "seal"))
        return cls(names, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def public_key(self) -> str:
        """The key that summaries are verified with, in base64."""
        return base64.b64encode(self.signer.public_key().public_bytes_raw()).decode()

    def object_name(self, sha256: str) -> str:
        """The name of the object with that content."""
        name = hmac.digest(self.names, bytes.fromhex(sha256), hashlib.sha256).hex()
        return f"objects/{name[:2]}/{name}"

    def sign(self, summary: Summary) -> Summary:
        """The summary with a valid signature."""
        return summary.model_copy(update={"signature": base64.b64encode(self.signer.sign(_signed(summary))).decode()})


def is_signed(summary: Summary, public_key: str) -> bool:
    """Whether the installation with that key made the summary."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key))
        key.verify(base64.b64decode(summary.signature), _signed(summary))
    except (InvalidSignature, ValueError):
        return False
    return True


def secret_of(contents: Contents) -> bytes:
    """The secret of the installation that the contents are of. Raises :class:`BackupError` if it is missing."""
    for file in contents.own_files:
        if file.role == "secret_file":
            return base64.b64decode(file.data).strip()
    raise BackupError("The backup has no signing key, so nothing in it could be used.")


def place(id: str, part: str) -> str:
    """The name of a backup's part in the target."""
    return f"backups/{id}/{part}"


def found_ids(names: Mapping[str, int]) -> dict[str, bool]:
    """The backups that stored names belong to, and whether each is complete."""
    ids = sorted({name.split("/")[1] for name in names if name.startswith("backups/")})
    return {id: place(id, SUMMARY) in names for id in ids}


def _signed(summary: Summary) -> bytes:
    return canonical(summary.model_dump(mode="json", exclude={"signature"})).encode()

"""The files of an installation: its own files, which its data depends on, and the files of the blob directory.

Own files are the secret (it seals specifications, the audit log, sessions and backups), the admin key, the keys of
access tokens, the operator's environments and issuers, and the declarations and secrets of tool servers. Backups omit
images, which are built again from environments with the same digest (their digests are kept), files that every start
creates, and the password of Redis, which belongs to that Redis.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from orchestrator.backup.errors import BackupError
from orchestrator.backup.manifest import OwnFile
from orchestrator.settings import PACKAGE_ROOT, PREFIX, Settings

CREDENTIALS = {"token", "redis_url"}  # settings whose values may be credentials
CONTENT_NAME = re.compile(r"[0-9a-f]{64}")  # a SHA-256


class BlobFile(NamedTuple):
    """A file of the blob directory; ``sha256`` if the file is named by the digest of its content."""

    path: Path
    relative: str
    sha256: str | None


def check_contents(settings: Settings) -> None:
    """Raise :class:`BackupError` if the contents lie in no directory, which a backup without them would hide."""
    if settings.blobs_url:
        raise BackupError(
            f"Blobs and artifacts lie at {settings.blobs_url}, and `mayfly backup` copies a directory. Use a bucket's "
            "own versions or replication; if that is an API, make the backup on its host."
        )


def own_files(settings: Settings) -> list[OwnFile]:
    """All own files that exist. Raises ``OSError``."""
    found = []
    for role, path in single_files(settings).items():
        if path.is_file():
            found.append(_own(role, "", path))
    for role, directory in directories(settings).items():
        found += [_own(role, path.name, path) for path in sorted(directory.glob("*.toml"))]
    return found


def single_files(settings: Settings) -> dict[str, Path]:
    """The own files by role."""
    issuers = {} if settings.issuers_file is None else {"issuers_file": settings.issuers_file.absolute()}
    return {
        "secret_file": settings.secret_path,
        "admin_key_file": settings.admin_key_path,
        "token_keys_file": settings.token_keys_path,
        **issuers,
    }


def directories(settings: Settings) -> dict[str, Path]:
    """The directories of own files by role, without the environments that Mayfly ships."""
    chosen = [path.absolute() for path in settings.environments_dirs]
    own = [path for path in chosen if not path.resolve().is_relative_to(PACKAGE_ROOT)]
    return {
        "tool_servers_dir": settings.tool_servers_path,
        "tool_secrets_dir": settings.tool_secrets_path,
        **{f"environments_dirs/{number}": path for number, path in enumerate(own)},
    }


def place_of(settings: Settings, file: OwnFile) -> Path:
    """The path of an own file in an installation. Raises :class:`BackupError` if its setting is missing."""
    if file.name:
        directory = directories(settings).get(file.role)
        if directory is not None and Path(file.name).name == file.name and file.name.endswith(".toml"):
            return directory / file.name
    elif (path := single_files(settings).get(file.role)) is not None:
        return path
    variable = PREFIX + file.role.partition("/")[0].upper()
    raise BackupError(f"The backup has {file.role} {file.name}, but {variable} names no place for it; set it first.")


def images(settings: Settings) -> dict[str, str]:
    """The digest of each built image, by the environment's name. Raises :class:`BackupError`."""
    found = {}
    for path in sorted(settings.images_path.glob("*.json")):
        if path.name.count(".") == 1:  # not a list of packages
            try:
                found[path.stem] = str(json.loads(path.read_bytes())["image_id"])
            except (ValueError, KeyError, TypeError) as error:
                raise BackupError(f"{path} describes no image; remove it, and build the image again.") from error
    return found


def chosen_settings(settings: Settings) -> dict[str, str]:
    """The variables that were set, without credentials."""
    names = settings.model_fields_set - CREDENTIALS
    values = settings.model_dump(mode="json", include=names)
    return {
        PREFIX + name.upper(): value if isinstance(value, str) else json.dumps(value)
        for name, value in sorted(values.items())
    }


def blob_files(root: Path) -> Iterator[BlobFile]:
    """Every file of the blob directory that has its final name. Raises ``OSError`` for an unreadable directory."""
    for directory, _, names in os.walk(root, onerror=_unless_removed):
        for name in sorted(names):
            if not name.startswith("."):  # an upload in progress
                path = Path(directory) / name
                yield BlobFile(path, str(path.relative_to(root)), name if CONTENT_NAME.fullmatch(name) else None)


def _unless_removed(error: OSError) -> None:
    """Raise the failure to list a directory, which would hide its files."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _own(role: str, name: str, path: Path) -> OwnFile:
    return OwnFile(role=role, name=name, data=base64.b64encode(path.read_bytes()).decode())

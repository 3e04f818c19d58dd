"""Image archives unpacked to root directories, once for each digest, which all containers share read-only.

``<directory>/<digest>/`` holds ``root`` and ``config.json`` (the image's own). The directory is made under another name
and renamed when it is complete, so several workers of a host can unpack concurrently, and a killed worker leaves no
partial image under the final name. The image's configuration and its layers are hashed and compared with the digest.

Containers share the blocks of the image's files, but not the inodes, since each container has an overlay of its own.
With shared inodes two containers could communicate by locks (``flock``), leases and watches (``inotify``) on a file.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import structlog

from orchestrator.errors import EnvironmentUnavailable

CHUNK_BYTES = 2**20
UNUSED_SECONDS = 86400.0
REMOVING = ".removing-"  # how the name of an image begins whose removal has begun
MS_RDONLY, MS_NOSUID, MS_NODEV, MNT_DETACH = 1, 2, 4, 2  # linux/mount.h
libc = ctypes.CDLL(None, use_errno=True)
log = structlog.get_logger()


class Rootfs(NamedTuple):
    """An unpacked image: its root directory and its process (``Entrypoint``, ``Env``, ``WorkingDir``)."""

    path: Path
    process: dict[str, Any]

    def used(self) -> bool:
        """Mark the image as used, so that it is not pruned; ``False`` if it is gone."""
        try:
            os.utime(self.path.parent)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def own(self, at: Path) -> Iterator[Path]:
        """A private overlay of the image, mounted while a container is made. Raises ``OSError``."""
        at.mkdir()
        layers = f"lowerdir={self.path.with_name('nothing')}:{self.path}"  # an overlay needs two layers
        _check(libc.mount(b"overlay", bytes(at), b"overlay", MS_RDONLY | MS_NOSUID | MS_NODEV, layers.encode()), at)
        try:
            yield at
        finally:
            release(at)


class Pruned(NamedTuple):
    """The end of a removal: the number of removed images, and the names of those that could not be removed."""

    removed: int
    left: tuple[str, ...]


def release(at: Path) -> None:
    """Detach an overlay, if it is mounted; containers that use it keep it. Raises ``OSError``."""
    while os.path.ismount(at):
        try:
            _check(libc.umount2(bytes(at), MNT_DETACH), at)
        except OSError:
            if os.path.ismount(at):  # otherwise another worker was faster
                raise


def _check(result: int, at: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(at))


def prune(directory: Path, older_than_seconds: float = UNUSED_SECONDS) -> Pruned:
    """Remove images that no worker of this host has used for that long, and partial images.

    The age must exceed the longest run of a container. An image that cannot be removed is logged, and the others are
    removed all the same. Raises ``OSError`` if the directory cannot be read.
    """
    removed, left = 0, []
    for place in sorted(directory.iterdir()) if directory.exists() else ():
        doomed = directory / f"{REMOVING}{place.name.removeprefix(REMOVING).lstrip('.')}"
        try:
            if time.time() - place.stat().st_mtime < older_than_seconds:
                continue
            place.rename(doomed)  # first, so that no worker finds a partial directory
            shutil.rmtree(doomed)
        except FileNotFoundError:  # another worker was faster
            continue
        except OSError as error:
            there = place if place.exists() else doomed
            log.warning("image.not_removed", image=str(there), detail=str(error))
            left.append(there.name)
            continue
        removed += 1
    return Pruned(removed, tuple(left))


def unpacked(directory: Path, archive: Path, image_id: str) -> Rootfs:
    """An image's root directory, unpacked if necessary.

    Raises :class:`EnvironmentUnavailable` if the archive is missing or has another digest.
    """
    place = directory / image_id.removeprefix("sha256:")
    if not place.exists():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=directory))
        try:
            _unpack(archive, image_id, fresh)
            fresh.rename(place)
        except FileNotFoundError as error:
            raise EnvironmentUnavailable(f"There is no image {archive}; build it with `make images`.") from error
        except OSError:
            if not place.exists():  # another worker was faster
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return Rootfs(place / "root", json.loads((place / "config.json").read_text(encoding="utf-8"))["config"])


def check(archive: Path, image_id: str) -> None:
    """Raise :class:`EnvironmentUnavailable` unless an archive is that image, complete."""
    try:
        with tarfile.open(archive) as image:
            for _ in _verified(image, archive, image_id)[1]:
                pass
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise EnvironmentUnavailable(f"{archive} is no image archive: {error}") from error


def _unpack(archive: Path, image_id: str, target: Path) -> None:
    with tarfile.open(archive) as image:
        config, layers = _verified(image, archive, image_id)
        root = target / "root"
        root.mkdir(mode=0o755)
        (target / "nothing").mkdir()
        for layer in layers:
            with tarfile.open(fileobj=layer) as files:
                files.extractall(root, numeric_owner=True)  # noqa: S202 - ours, by its digest
        (target / "config.json").write_bytes(config)


def members(image: tarfile.TarFile) -> tuple[bytes, list[IO[bytes]]]:
    """The configuration and the layers of an archive, as they are. Raises ``KeyError`` and ``ValueError``."""
    (described,) = json.loads(_open(image, "manifest.json").read())
    return _open(image, described["Config"]).read(), [_open(image, name) for name in described["Layers"]]


def _verified(image: tarfile.TarFile, archive: Path, image_id: str) -> tuple[bytes, Iterator[IO[bytes]]]:
    """The configuration of an image, and its layers, each compared with its digest before it is given."""
    config, found = members(image)
    _expect(hashlib.sha256(config).hexdigest(), image_id, archive)

    def layers() -> Iterator[IO[bytes]]:
        for layer, diff_id in zip(found, json.loads(config)["rootfs"]["diff_ids"], strict=True):
            digest = hashlib.sha256()
            while chunk := layer.read(CHUNK_BYTES):
                digest.update(chunk)
            _expect(digest.hexdigest(), diff_id, archive)
            layer.seek(0)
            yield layer

    return config, layers()


def _open(image: tarfile.TarFile, name: str) -> IO[bytes]:
    file = image.extractfile(name)
    if file is None:
        raise EnvironmentUnavailable(f"{image.name!r} is not an image archive: {name!r} is not a file in it.")
    return file


def _expect(digest: str, wanted: str, archive: Path) -> None:
    if f"sha256:{digest}" != wanted:
        raise EnvironmentUnavailable(f"{archive} is not the image {wanted}; build it anew with `make images`.")

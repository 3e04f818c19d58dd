"""Restores a backup into an empty installation.

The data of Redis is first loaded into a temporary Redis, so that damaged data changes nothing. Then a mark is set, and
files are written, Redis last. An interrupted restore leaves the mark, and is repeated with the same backup.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from orchestrator.backup import files
from orchestrator.backup.errors import Occupied
from orchestrator.backup.manifest import Contents, OwnFile
from orchestrator.backup.restoration.marker import Marker
from orchestrator.backup.restoration.reading import Reader
from orchestrator.backup.restoration.scratch import scratch_redis
from orchestrator.backup.restoration.transfer import copy, delay
from orchestrator.settings import Settings
from orchestrator.store import open_store
from orchestrator.store.connection import connect
from orchestrator.store.content.files import mode_in

PATIENCE_SECONDS = 60.0  # for one batch of keys
SHOWN = 3  # of the data that makes an installation occupied


class Restored(NamedTuple):
    """Numbers of restored keys and files, the outage since the backup, and missing images: names and digests."""

    keys: int
    files: int
    outage_seconds: float
    images: dict[str, str]


def restore(reader: Reader, settings: Settings, progress: Callable[[str], None] = lambda text: None) -> Restored:
    """Restore a backup into the installation of these settings, of which only Redis may run.

    Raises :class:`Occupied`, :class:`Damaged`, :class:`BackupError`, ``OSError`` and :class:`StoreUnavailable`.
    """
    files.check_contents(settings)
    id = reader.summary.id
    contents = reader.contents()
    places = [(files.place_of(settings, file), file) for file in contents.own_files]
    store = open_store(settings.model_copy(update={"redis_timeout_seconds": PATIENCE_SECONDS}))
    with closing(store.redis), tempfile.TemporaryFile() as snapshot:
        marker = Marker(settings.state_dir, store.redis)
        progress("loading the data of Redis")
        reader.write_redis(snapshot)
        with scratch_redis(snapshot, contents.database) as url, closing(connect(url, PATIENCE_SECONDS)) as source:
            _check_empty(settings, marker, id, places, store.redis.dbsize())
            marker.set(id)
            for path, own in places:
                _write(path, base64.b64decode(own.data))
            progress(f"restoring {len(contents.files)} files")
            with _shared_with_group(settings.blobs_path):
                for stored in contents.files:
                    reader.restore_file(stored, settings.blobs_path)
            progress("restoring Redis")
            keys = copy(source, store.redis)
            outage = max(0.0, store.now() - reader.summary.snapshot_at.timestamp())
            delay(store.redis, outage)
            settings.sealed_path.touch()  # a backup has only sealed records: any other record is forged
            os.sync()  # once for all files: until here a loss of power leaves the mark
            marker.remove()
    return Restored(keys, len(contents.files), outage, _missing_images(contents, settings))


def _check_empty(settings: Settings, marker: Marker, id: str, places: list[tuple[Path, OwnFile]], size: int) -> None:
    """Raise :class:`Occupied` unless the installation is empty, or a restore of this backup was interrupted."""
    begun = marker.found()
    if begun == {id}:
        return
    if begun:
        raise Occupied(f"The restore of backup {', '.join(sorted(begun))} was interrupted here; run that one again.")
    found = [f"{size} keys in Redis"] if size else []
    found += [str(path) for path, file in places if path.exists() and path.read_bytes() != base64.b64decode(file.data)]
    found += [str(file.path) for _, file in zip(range(SHOWN), files.blob_files(settings.blobs_path), strict=False)]
    if found:
        raise Occupied(
            f"This installation is not empty: {', '.join(found[:SHOWN])}. Restore into an empty one: end it with "
            "`mayfly down`, and move its state directory, blobs and the data of its Redis away."
        )


@contextmanager
def _shared_with_group(root: Path) -> Iterator[None]:
    """Where a group may write the directory, as API and workers share it, let it write new directories there, too."""
    if not root.is_dir() or mode_in(root) != 0o660:
        yield
        return
    before = os.umask(0o007)
    try:
        yield
    finally:
        os.umask(before)


def _write(path: Path, data: bytes) -> None:
    """Write an own file, readable to its owner alone, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.restore")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    partial.replace(path)


def _missing_images(contents: Contents, settings: Settings) -> dict[str, str]:
    """The images that the backup lists and this host lacks."""
    here = files.images(settings)
    return {name: digest for name, digest in contents.images.items() if here.get(name) != digest}

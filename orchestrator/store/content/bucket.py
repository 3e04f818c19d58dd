"""Contents in a bucket of S3 or of a server that speaks its protocol. Keys of the bucket are in the usual ``AWS_``
variables (``docs/operations/backup.md``).

``blobs/<tenant>/<sha256>`` and ``artifacts/<execution>/<attempt>/<sha256>`` are objects, complete or absent. Objects
cannot grow, so each piece of an output or an upload is an object, ``…/<name>/<offset>``. Its time is that of its
upload, so a blob's use is an empty object, ``used/<tenant>/<sha256>``. A content is written to a file on this host
first, since its key is its digest.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from orchestrator.errors import BlobsUnavailable, DigestMismatch, NotFound
from orchestrator.store.content.blobs import OUTPUTS, checked_digest, checked_name, checked_output, checked_upload

RETRIES, PATIENCE = 5, timedelta(seconds=60)  # of one request
CHUNK_BYTES = 2**20
IN_MEMORY_BYTES = 2**16  # of a content that is written; more goes to a file
PROBE = ".probe"


def connected(address: str) -> S3Store:
    """The bucket and prefix of ``s3://bucket/prefix``; nothing is sent yet. Raises ``BaseError``."""
    return S3Store.from_url(address, retry_config={"max_retries": RETRIES, "retry_timeout": PATIENCE})


class BucketWriter:
    """Writes bytes to a file on this host, then to the bucket."""

    def __init__(self, store: S3Store, prefix: str) -> None:
        self._store, self._prefix = store, prefix
        self._digest = hashlib.sha256()
        self.size = 0
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - see close

    def write(self, chunk: bytes) -> None:
        """As :class:`BlobWriter` has it."""
        self._digest.update(chunk)
        self.size += len(chunk)
        try:
            self._spool.write(chunk)
        except OSError as error:
            raise BlobsUnavailable() from error

    @property
    def digest(self) -> str:
        """The digest of the written bytes."""
        return self._digest.hexdigest()

    def commit(self) -> tuple[str, int]:
        """As :class:`BlobWriter` has it."""
        self._spool.seek(0)
        with _failures():
            obstore.put(self._store, f"{self._prefix}/{self.digest}", self._spool)
        return f"sha256:{self.digest}", self.size

    def close(self) -> None:
        """As :class:`BlobWriter` has it."""
        self._spool.close()


class BucketContent:
    """An object. Raises ``FileNotFoundError`` without it; each range is a request of its own."""

    file: IO[bytes] | None = None

    def __init__(self, store: S3Store, path: str) -> None:
        self._store, self._path = store, path
        with _failures():
            self.size = obstore.head(store, path)["size"]

    def chunks(self, begin: int, end: int) -> Iterator[bytes]:
        """As :class:`Content` has it."""
        end = min(end, self.size)
        if begin >= end:
            return
        try:
            with _failures():
                for chunk in obstore.get(self._store, self._path, options={"range": (begin, end)}).stream(CHUNK_BYTES):
                    yield bytes(chunk)
        except FileNotFoundError as error:
            raise BlobsUnavailable("The content was deleted while it was read.") from error

    def close(self) -> None:
        """As :class:`Content` has it."""


class BucketBlobs:
    """The contents in a prefix of a bucket. Thread- and process-safe."""

    def __init__(self, address: str) -> None:
        with _failures():
            self._store = connected(address)

    def put(self, tenant: str, chunks: Iterable[bytes]) -> tuple[str, int]:
        """As :class:`OwnBlobs` has it."""
        with closing(self.writer(tenant)) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()

    def writer(self, tenant: str) -> BucketWriter:
        """As :class:`OwnBlobs` has it."""
        return BucketWriter(self._store, f"blobs/{checked_name(tenant)}")

    def fetch(self, tenant: str, reference: str, target: Path) -> bool:
        """As :class:`Blobs` has it. Raises :class:`BlobsUnavailable` for other bytes than the reference names."""
        if (content := self.open(tenant, reference)) is None:
            return False
        digest = hashlib.sha256()
        with target.open("wb") as file:
            for chunk in content.chunks(0, content.size):
                file.write(chunk)
                digest.update(chunk)
        if digest.hexdigest() != checked_digest(reference):
            raise BlobsUnavailable("The bucket has other bytes than the digest names.")
        return True

    def open(self, tenant: str, reference: str) -> BucketContent | None:
        """As :class:`OwnBlobs` has it."""
        path = f"{checked_name(tenant)}/{checked_digest(reference)}"
        if (found := self._opened(f"blobs/{path}")) is not None:
            self._put(f"used/{path}", b"")
        return found

    def open_artifact(self, execution: str, attempt: int, sha256: str) -> BucketContent | None:
        """As :class:`OwnBlobs` has it."""
        return self._opened(f"{_of(execution, attempt)}/{checked_digest(sha256)}")

    def artifact_writer(self, execution: str, attempt: int) -> BucketWriter:
        """As :class:`Blobs` has it."""
        return BucketWriter(self._store, _of(execution, attempt))

    def write_output(self, execution: str, attempt: int, type: str, offset: int, data: bytes) -> None:
        """As :class:`Blobs` has it."""
        self._put(_piece(f"{_of(execution, attempt)}/{checked_output(type)}", offset), data)

    def read_output(self, execution: str, attempt: int, type: str, offset: int, length: int) -> bytes:
        """As :class:`Blobs` has it."""
        try:
            found = b"".join(self._pieces(f"{_of(execution, attempt)}/{checked_output(type)}", offset, offset + length))
        except FileNotFoundError as error:  # deleted meanwhile
            raise NotFound(f"The bytes of {type} are gone.") from error
        if offset < 0 or len(found) != length:
            raise NotFound(f"The bytes of {type} are gone.")
        return found

    def write_upload(self, execution: str, attempt: int, upload: str, offset: int, data: bytes) -> None:
        """As :class:`OwnBlobs` has it."""
        self._put(_piece(f"{_of(execution, attempt)}/{checked_upload(upload)}", offset), data)

    def stored(self, execution: str, attempt: int) -> tuple[int, int]:
        """As :class:`OwnBlobs` has it."""
        sizes = dict[str, int]()
        with _failures():
            for page in obstore.list(self._store, f"{_of(execution, attempt)}/"):
                for item in page:
                    name = item["path"].split("/")[3]
                    sizes[name] = sizes.get(name, 0) + item["size"]
        found = [size for name, size in sizes.items() if name not in OUTPUTS]
        return len(found), sum(found)

    def finish_upload(self, execution: str, attempt: int, upload: str, sha256: str) -> None:
        """As :class:`OwnBlobs` has it."""
        prefix, wanted = f"{_of(execution, attempt)}/{checked_upload(upload)}", checked_digest(sha256)
        with closing(self.artifact_writer(execution, attempt)) as writer:
            with suppress(FileNotFoundError):  # the same request, sent twice, has finished and removes the pieces
                for piece in self._pieces(prefix, 0, None):
                    writer.write(piece)
            if writer.digest == wanted:
                writer.commit()
        self._delete(f"{prefix}/")
        if writer.digest != wanted and self.open_artifact(execution, attempt, sha256) is None:
            raise DigestMismatch()

    def delete_artifacts(self, execution: str) -> None:
        """As :class:`OwnBlobs` has it."""
        self._delete(f"artifacts/{checked_name(execution)}/")

    def delete_tenant(self, tenant: str) -> None:
        """As :class:`OwnBlobs` has it."""
        for kind in ("blobs", "used"):
            self._delete(f"{kind}/{checked_name(tenant)}/")

    def executions(self, older_than_seconds: float) -> list[str]:
        """As :class:`OwnBlobs` has it."""
        deadline, latest = self._now() - timedelta(seconds=older_than_seconds), dict[str, datetime]()
        for path, changed in self._times("artifacts/"):
            id = path.split("/")[1]
            latest[id] = max(latest.get(id, changed), changed)
        return [id for id, changed in latest.items() if changed < deadline]

    def expire(self, older_than_seconds: float) -> int:
        """As :class:`OwnBlobs` has it."""
        deadline = self._now() - timedelta(seconds=older_than_seconds)
        used = {path.removeprefix("used/"): changed for path, changed in self._times("used/")}
        blobs = {path.removeprefix("blobs/"): changed for path, changed in self._times("blobs/")}
        doomed = [name for name, changed in blobs.items() if max(changed, used.get(name, changed)) < deadline]
        left = [name for name, changed in used.items() if name not in blobs and changed < deadline]
        with _failures():
            obstore.delete(self._store, [f"blobs/{name}" for name in doomed])
            obstore.delete(
                self._store, [f"used/{name}" for name in [*left, *(name for name in doomed if name in used)]]
            )
        return len(doomed)

    def check_writable(self) -> None:
        """As :class:`Blobs` has it."""
        self._put(PROBE, b"")

    def _now(self) -> datetime:
        """The current time by the bucket's clock."""
        self._put(PROBE, b"")
        with _failures():
            return obstore.head(self._store, PROBE)["last_modified"]

    def _opened(self, path: str) -> BucketContent | None:
        try:
            return BucketContent(self._store, path)
        except FileNotFoundError:
            return None

    def _put(self, path: str, data: bytes) -> None:
        with _failures():
            obstore.put(self._store, path, data)

    def _times(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        with _failures():
            for page in obstore.list(self._store, prefix):
                for item in page:
                    yield item["path"], item["last_modified"]

    def _delete(self, prefix: str) -> None:
        with _failures():
            obstore.delete(self._store, [path for path, _ in self._times(prefix)])

    def _pieces(self, prefix: str, begin: int, end: int | None) -> Iterator[bytes]:
        """The bytes of a range, from the pieces that have it, up to the first gap."""
        with _failures():
            found = sorted(
                (int(item["path"].rpartition("/")[2]), item["size"], item["path"])
                for page in obstore.list(self._store, f"{prefix}/")
                for item in page
            )
            for offset, size, path in found:
                if offset > begin or (end is not None and begin >= end):
                    return
                stop = offset + size if end is None else min(offset + size, end)
                if stop > begin:
                    yield bytes(obstore.get_range(self._store, path, start=begin - offset, end=stop - offset))
                    begin = stop


def _of(execution: str, attempt: int) -> str:
    return f"artifacts/{checked_name(execution)}/{int(attempt)}"


def _piece(prefix: str, offset: int) -> str:
    return f"{prefix}/{offset:020}"


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except BaseError as error:
        raise BlobsUnavailable("The bucket did not answer; the request was not accepted.") from error

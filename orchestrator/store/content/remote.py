"""Contents through the API, for a worker that shares no directory with it.

A blob is streamed into its file; after a broken connection the rest is requested as a range. An artifact is sent in
pieces, each at its offset, so that a piece can be repeated; the API makes the artifact visible if all bytes have the
digest that comes with the last piece. Each end computes every digest itself, and has one piece in memory.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import httpx2

from orchestrator.errors import AttemptNotOwner, BlobNotFound, BlobsFull, BlobsUnavailable, NotFound, StaleAttempt
from orchestrator.store.content.blobs import checked_digest, checked_name, checked_output

PATH = "/api/v1/transfers"
PIECE_BYTES = 2**20
PAUSES_SECONDS = (0.1, 0.3, 1.0, 2.0)  # before each repetition of a request
TIME_OUT = httpx2.Timeout(10, connect=5)
# Of an artifact's last piece: the API reads all pieces from a bucket and stores them as one object. Proxies wait 90 s.
LAST_TIME_OUT = httpx2.Timeout(85, connect=5)
LOOK_TIME_OUT = httpx2.Timeout(2)
BUSY = 429


class ApiBlobs:
    """The contents of an installation whose API has the ``url``. Thread-safe."""

    def __init__(self, url: str, token: str, authorities: Path | None, most_bytes: int) -> None:
        """``most_bytes``: of a blob. Raises ``ValueError`` for an address that would send the token unencrypted."""
        if urlsplit(url).scheme != "https" and not _is_local(urlsplit(url).hostname or ""):
            raise ValueError(f"MAYFLY_BLOBS_URL is {url}: a worker sends its token by https:// alone")
        self._most_bytes = most_bytes
        self._client = httpx2.Client(
            base_url=url.rstrip("/") + PATH,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIME_OUT,
            verify=ssl.create_default_context(cafile=None if authorities is None else str(authorities)),
            trust_env=False,
        )

    def fetch(self, tenant: str, reference: str, target: Path) -> bool:
        """As :class:`Blobs` has it. Raises :class:`BlobsUnavailable` for other bytes than the reference names."""
        wanted = checked_digest(reference)
        path = f"/blobs/{checked_name(tenant)}/{wanted}"
        with target.open("wb") as file:
            if self._download(path, file, wanted):
                return True
        target.unlink()
        return False

    def artifact_writer(self, execution: str, attempt: int) -> ApiWriter:
        """As :class:`Blobs` has it."""
        return ApiWriter(self, execution, attempt)

    def write_output(self, execution: str, attempt: int, type: str, offset: int, data: bytes) -> None:
        """As :class:`Blobs` has it. One attempt: the worker's session waits for it, and repeats it later."""
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self.send(execution, attempt, checked_output(type), offset + start, piece, pauses=())

    def check_writable(self) -> None:
        """As :class:`Blobs` has it. One attempt."""
        try:
            answer = self._client.get("/room", timeout=LOOK_TIME_OUT)
        except httpx2.HTTPError as error:
            raise BlobsUnavailable(f"The API cannot be reached: {error}") from error
        if _has_code(answer, BlobsFull.code):
            raise BlobsFull()
        is_older = _has_code(answer, NotFound.code)  # an API without this route
        if not answer.is_success and not is_older:
            raise BlobsUnavailable(f"The API refused to look, with status {answer.status_code}.")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def read_output(self, execution: str, attempt: int, type: str, offset: int, length: int) -> bytes:
        """Raise :class:`NotFound`: a worker's token reads no output, and no worker needs it."""
        raise NotFound(f"The bytes of {type} are read from the API.")

    def send(
        self,
        execution: str,
        attempt: int,
        name: str,
        offset: int,
        piece: bytes,
        sha256: str | None = None,
        pauses: tuple[float, ...] = PAUSES_SECONDS,
    ) -> None:
        """Send a piece of an attempt's file; ``sha256``: of the whole file, with its last piece.

        Raises :class:`StaleAttempt` if another attempt owns the execution.
        """
        path = f"/files/{checked_name(execution)}/{int(attempt)}/{name}"
        digest = base64.b64encode(hashlib.sha256(piece).digest()).decode()
        parameters: dict[str, Any] = {"offset": offset} | ({} if sha256 is None else {"sha256": sha256})
        for pause in _attempts(pauses):
            try:
                answer = self._client.put(
                    path,
                    params=parameters,
                    content=piece,
                    headers={"Content-Digest": f"sha-256=:{digest}:"},
                    timeout=TIME_OUT if sha256 is None else LAST_TIME_OUT,
                )
            except httpx2.TransportError as error:
                _wait(pause, error)
                continue
            if answer.is_success:
                return
            if _has_code(answer, AttemptNotOwner.code):
                raise StaleAttempt()
            _refuse_or_wait(answer, pause)

    def _download(self, path: str, file: IO[bytes], wanted: str) -> bool:
        digest = hashlib.sha256()
        for pause in _attempts(PAUSES_SECONDS):
            begin = file.tell()
            try:
                with self._client.stream("GET", path, headers={"Range": f"bytes={begin}-"} if begin else {}) as answer:
                    if answer.is_success:
                        if begin and not answer.headers.get("content-range", "").startswith(f"bytes {begin}-"):
                            raise BlobsUnavailable("The API answered a range with other bytes.")
                        self._receive(answer.iter_raw(), file, digest)
                        break
                    if not (begin and answer.status_code == 416):  # all bytes had arrived
                        answer.read()
                        if _has_code(answer, BlobNotFound.code):
                            return False
                        _refuse_or_wait(answer, pause)
                        continue
                    break
            except httpx2.TransportError as error:
                _wait(pause, error)
        if digest.hexdigest() != wanted:
            raise BlobsUnavailable("The API sent other bytes than the digest names.")
        return True

    def _receive(self, chunks: Iterator[bytes], file: IO[bytes], digest: Any) -> None:
        for chunk in chunks:
            if file.tell() + len(chunk) > self._most_bytes:
                raise BlobsUnavailable(f"The blob has more than {self._most_bytes} bytes.")
            file.write(chunk)
            digest.update(chunk)


class ApiWriter:
    """Sends an artifact in pieces. The API removes an uncommitted one with its execution."""

    def __init__(self, blobs: ApiBlobs, execution: str, attempt: int) -> None:
        self._blobs, self._execution, self._attempt = blobs, execution, attempt
        self._name, self._sent = f"upload-{secrets.token_hex(16)}", 0
        self._digest, self._piece = hashlib.sha256(), bytearray()
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """As :class:`BlobWriter` has it."""
        self._digest.update(chunk)
        self.size += len(chunk)
        self._piece += chunk
        while len(self._piece) > PIECE_BYTES:  # the last piece is sent with the digest
            self._send(bytes(self._piece[:PIECE_BYTES]), None)

    def commit(self) -> tuple[str, int]:
        """As :class:`BlobWriter` has it."""
        self._send(bytes(self._piece), self._digest.hexdigest())
        return f"sha256:{self._digest.hexdigest()}", self.size

    def close(self) -> None:
        """As :class:`BlobWriter` has it."""
        self._piece.clear()

    def _send(self, piece: bytes, sha256: str | None) -> None:
        self._blobs.send(self._execution, self._attempt, self._name, self._sent, piece, sha256)
        self._sent += len(piece)
        del self._piece[: len(piece)]


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _attempts(pauses: tuple[float, ...]) -> tuple[float | None, ...]:
    """For each attempt the pause before the next; ``None`` for the last."""
    return (*pauses, None)


def _wait(pause: float | None, error: Exception) -> None:
    if pause is None:
        raise BlobsUnavailable(f"The API cannot be reached: {error}") from error
    time.sleep(pause)


def _has_code(answer: httpx2.Response, code: str) -> bool:
    """Whether an answer is the API's problem of that code. A 404 may also be a proxy's, or another version's."""
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return False
    try:
        found = answer.json()
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("code") == code


def _refuse_or_wait(answer: httpx2.Response, pause: float | None) -> None:
    """Wait after an answer that may be another one later; raise :class:`BlobsUnavailable` for any other."""
    if pause is None or (answer.status_code < 500 and answer.status_code != BUSY):
        raise BlobsUnavailable(f"The API refused a transfer: {answer.status_code} {answer.text[:200]}")
    time.sleep(pause)

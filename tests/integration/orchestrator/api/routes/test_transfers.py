"""Transfers of contents between workers and the API: rights, ranges, digests, bounds, broken connections."""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from orchestrator.errors import BlobsUnavailable, NotFound
from orchestrator.settings import Settings
from orchestrator.store import Store, open_store
from orchestrator.store.content.remote import PAUSES_SECONDS, PIECE_BYTES, ApiBlobs
from tests.builders.processes.cutter import Cut, cutter
from tests.builders.records import claimed, now, result, submit
from tests.harness import Stack, bearer, free_port

DATA = secrets.token_bytes(2 * PIECE_BYTES + 17)
DIGEST = hashlib.sha256(DATA).hexdigest()
PATH = "/api/v1/transfers"


class Made(NamedTuple):
    """An API without workers, its store, a worker's key, and an execution that the worker has."""

    stack: Stack
    store: Store
    token: str
    execution: str

    @contextmanager
    def blobs(self, url: str = "", token: str = "", most_bytes: int = 2**24) -> Iterator[ApiBlobs]:
        with closing(ApiBlobs(url or self.stack.env["MAYFLY_URL"], token or self.token, None, most_bytes)) as made:
            yield made

    def put(self, data: bytes, digest: str | None = None, token: str = "", **query: int) -> httpx2.Response:
        announced = base64.b64encode(hashlib.sha256(data).digest()).decode()
        return self.stack.client.put(
            f"{PATH}/files/{self.execution}/1/stdout",
            params=query,
            content=data,
            headers={**bearer(token or self.token), "Content-Digest": digest or f"sha-256=:{announced}:"},
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    stack = Stack(
        tmp_path_factory.mktemp("api"), driver="oci", lease_seconds=86400, artifact_bytes=4 * PIECE_BYTES,
        rate_limit="30/hour",
    )  # fmt: skip
    try:
        stack.start(workers=0)
        store = open_store(Settings(state_dir=stack.directory / "state", redis_url=stack.redis.url))
        with closing(store.redis):
            id = submit(store)
            claimed(store, id)
            yield Made(stack, store, stack.new_key("worker")["secret"], id)
    finally:
        stack.stop()


def test_only_a_key_of_a_worker_transfers_contents(made: Made) -> None:
    """A worker reads the blobs of every tenant, so not even `admin` has the scope."""
    made.store.own_blobs.put("school", [DATA])
    path = f"{PATH}/blobs/school/{DIGEST}"
    others = ("admin", "executions:write", "executions:read", "blobs:write", "fleet:write", "tenant:admin")
    for token in (made.stack.key, *(made.stack.new_key(scope)["secret"] for scope in others)):
        assert made.stack.client.get(path, headers=bearer(token)).status_code == 403
        assert made.put(b"x", token=token).status_code == 403
    assert made.stack.client.get(path, headers=bearer(made.token)).content == DATA
    for call in ("/executions", "/workers", "/api-keys", "/audit"):
        assert made.stack.client.get(f"/api/v1{call}", headers=bearer(made.token)).status_code == 403


def test_output_of_an_ended_execution_is_final(made: Made) -> None:
    ended = made._replace(execution=submit(made.store))
    claim = claimed(made.store, ended.execution)
    assert ended.put(b"its output").status_code == 204
    made.store.records.start(claim, now())
    made.store.records.commit(claim, result())
    assert ended.put(b"forged").status_code == 404


def test_transfers_are_not_counted_towards_the_rate(made: Made) -> None:
    """More than any other key may send. The control: the other key."""
    assert [made.put(b"x").status_code for _ in range(40)] == [204] * 40
    other = made.stack.new_key("executions:read")["secret"]
    answers = [made.stack.client.get("/api/v1/executions", headers=bearer(other)).status_code for _ in range(40)]
    assert answers[-1] == 429


def test_blob_is_sent_by_ranges(made: Made) -> None:
    made.store.own_blobs.put("t", [DATA])
    for range, part in (("bytes=5-8", DATA[5:9]), (f"bytes={len(DATA) - 3}-", DATA[-3:]), ("bytes=-2", DATA[-2:])):
        answer = made.stack.client.get(f"{PATH}/blobs/t/{DIGEST}", headers={**bearer(made.token), "Range": range})
        assert (answer.status_code, answer.content) == (206, part)
    beyond = {**bearer(made.token), "Range": f"bytes={len(DATA)}-"}
    assert made.stack.client.get(f"{PATH}/blobs/t/{DIGEST}", headers=beyond).status_code == 416
    assert made.stack.client.get(f"{PATH}/blobs/u/{DIGEST}", headers=bearer(made.token)).status_code == 404


def test_broken_download_is_resumed(made: Made, tmp_path: Path) -> None:
    made.store.own_blobs.put("t", [DATA])
    cuts = (Cut(received=PIECE_BYTES), Cut(received=100), Cut(received=9000))
    with cutter(made.stack.port, *cuts) as broken, made.blobs(broken.url) as blobs:
        assert blobs.fetch("t", DIGEST, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == DATA
    ranges = [bytes(sent).lower().partition(b"range: bytes=")[2].partition(b"-")[0] for sent in broken.sent]
    assert len(ranges) == 4
    assert ranges[0] == b""
    assert 0 < int(ranges[1]) <= int(ranges[2]) < int(ranges[3])


def test_download_that_always_breaks_ends(made: Made, tmp_path: Path) -> None:
    made.store.own_blobs.put("t", [DATA])
    with (
        cutter(made.stack.port, *[Cut(received=400)] * 99) as broken,
        made.blobs(broken.url) as blobs,
        pytest.raises(BlobsUnavailable),
    ):
        blobs.fetch("t", DIGEST, tmp_path / "fetched")
    assert len(broken.sent) == len(PAUSES_SECONDS) + 1
    with made.blobs(f"http://127.0.0.1:{free_port()}") as blobs, pytest.raises(BlobsUnavailable):
        blobs.write_output(made.execution, 1, "stdout", 0, b"x")


def test_broken_upload_is_resumed(made: Made) -> None:
    with (
        cutter(made.stack.port, Cut(sent=PIECE_BYTES + 5000), Cut(sent=300), Cut(received=0)) as broken,
        made.blobs(broken.url) as blobs,
        closing(blobs.artifact_writer(made.execution, 1)) as writer,
    ):
        writer.write(DATA)
        assert writer.commit() == (f"sha256:{DIGEST}", len(DATA))
    assert len(broken.sent) > 3
    content = made.store.own_blobs.open_artifact(made.execution, 1, DIGEST)
    assert content is not None
    with closing(content):
        assert b"".join(content.chunks(0, content.size)) == DATA


def test_half_a_piece_is_not_stored(made: Made) -> None:
    """Its sender is gone before the rest; then the API answers others, and has nothing of it."""
    head = f"PUT {PATH}/files/{made.execution}/1/stderr HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    head += f"Authorization: Bearer {made.token}\r\nContent-Digest: sha-256=:{'A' * 43}=:\r\n\r\n"
    with socket.create_connection(("127.0.0.1", made.stack.port)) as connection:
        connection.sendall(head.encode() + b"x" * 500)
    assert made.put(b"whole").status_code == 204
    with pytest.raises(NotFound):
        made.store.own_blobs.read_output(made.execution, 1, "stderr", 0, 1)


def test_piece_is_refused_with_another_digest_and_beyond_its_bounds(made: Made) -> None:
    first = made.put(b"first")
    assert first.status_code == 204
    wrong = f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"
    for answer, status in (
        (made.put(b"other", digest=wrong), 422),
        (made.put(b"other", digest="sha-256=:x:"), 422),
        (made.put(bytes(PIECE_BYTES + 1)), 413),
        (made.put(b"other", offset=2**30), 413),
        (made.put(b"other", offset=-1), 422),
    ):
        assert answer.status_code == status, answer.text
    assert made.store.own_blobs.read_output(made.execution, 1, "stdout", 0, 5) == b"first"


def test_artifact_has_the_bound_of_artifacts(made: Made) -> None:
    with made.blobs() as blobs, pytest.raises(BlobsUnavailable, match="413"):
        blobs.artifact_writer(made.execution, 1).write(bytes(6 * PIECE_BYTES))


def test_blob_beyond_the_bound_of_inputs_is_not_fetched(made: Made, tmp_path: Path) -> None:
    made.store.own_blobs.put("t", [DATA])
    with made.blobs(most_bytes=PIECE_BYTES) as blobs, pytest.raises(BlobsUnavailable, match="more than"):
        blobs.fetch("t", DIGEST, tmp_path / "fetched")
    assert (tmp_path / "fetched").stat().st_size <= PIECE_BYTES


def test_revoked_key_transfers_nothing(made: Made) -> None:
    key = made.stack.new_key("worker")
    with made.blobs(token=key["secret"]) as blobs:
        blobs.write_output(made.execution, 1, "bundles", 0, b"x")
        assert made.stack.client.delete(f"/api/v1/api-keys/{key['id']}").status_code == 204
        with pytest.raises(BlobsUnavailable, match="401"):
            blobs.write_output(made.execution, 1, "bundles", 0, b"x")


@pytest.mark.parametrize("url", ["http://mayfly.example.com", "http://10.0.0.1", "ftp://x.example.com", "mayfly"])
def test_token_is_sent_by_tls_alone(url: str) -> None:
    with pytest.raises(ValueError, match="https://"):
        ApiBlobs(url, "token", None, 1)

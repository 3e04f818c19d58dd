"""The same contents in a directory, through an API, and in a bucket."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import obstore
import pytest

from orchestrator.errors import BlobsUnavailable, DigestMismatch, NotFound, PayloadTooLarge, StaleAttempt
from orchestrator.models.results import Content
from orchestrator.service.transfers import Transfers
from orchestrator.settings import Settings
from orchestrator.store import open_store
from orchestrator.store.content.blobs import Blobs, OwnBlobs
from orchestrator.store.content.bucket import BucketBlobs, connected
from orchestrator.store.content.directory import DirectoryBlobs
from orchestrator.store.content.remote import PIECE_BYTES, ApiBlobs
from tests.builders.backups.s3 import bucket_server, variables
from tests.builders.records import claimed, submit
from tests.harness import Stack, eventually

DATA = secrets.token_bytes(2 * PIECE_BYTES + 17)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
SAMPLES = {"empty": b"", "a zero": b"\0", "zeros": bytes(PIECE_BYTES), "a piece": DATA[:PIECE_BYTES], "pieces": DATA}


class Place(NamedTuple):
    """Contents as the API has them and as a worker has them, and an execution that the worker has."""

    own: OwnBlobs
    worker: Blobs
    execution: str


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An API without workers; an execution that is claimed stays claimed."""
    made = Stack(tmp_path_factory.mktemp("api"), driver="oci", lease_seconds=86400)
    try:
        yield made.start(workers=0)
    finally:
        made.stop()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bucket_server("contents", tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture(params=["directory", "api", pytest.param("bucket", marks=pytest.mark.thorough)])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    match request.param:
        case "directory":
            directory = DirectoryBlobs(tmp_path / "blobs")
            yield Place(directory, directory, secrets.token_hex(16))
        case "api":
            stack: Stack = request.getfixturevalue("installation")
            store = open_store(Settings(state_dir=stack.directory / "state", redis_url=stack.redis.url))
            with closing(store.redis):
                id = submit(store)
                claimed(store, id)
            token = stack.new_key("worker")["secret"]
            with closing(ApiBlobs(stack.env["MAYFLY_URL"], token, None, 2**24)) as worker:
                yield Place(store.own_blobs, worker, id)
        case "bucket":
            for name, value in variables(request.getfixturevalue("bucket")).items():
                monkeypatch.setenv(name, value)
            both = BucketBlobs(f"s3://contents/{tmp_path.name}")
            yield Place(both, both, secrets.token_hex(16))


def read(content: Content | None, begin: int = 0, end: int | None = None) -> bytes | None:
    if content is None:
        return None
    with closing(content):
        return b"".join(content.chunks(begin, content.size if end is None else end))


def stored_artifact(blobs: Blobs, execution: str, data: bytes, piece: int = 60_000) -> str:
    with closing(blobs.artifact_writer(execution, 1)) as writer:
        for begin in range(0, len(data), piece):
            writer.write(data[begin : begin + piece])
        reference, size = writer.commit()
    assert size == len(data)
    return reference


@pytest.mark.parametrize("data", SAMPLES.values(), ids=SAMPLES)
def test_worker_fetches_uploaded_blobs(place: Place, tmp_path: Path, data: bytes) -> None:
    reference, size = place.own.put("t", [data[:100], data[100:]])
    assert (reference, size) == (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    assert place.worker.fetch("t", reference, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == data
    assert not place.worker.fetch("another", reference, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("data", SAMPLES.values(), ids=SAMPLES)
def test_api_reads_collected_artifacts(place: Place, data: bytes) -> None:
    reference = stored_artifact(place.worker, place.execution, data)
    assert reference == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert read(place.own.open_artifact(place.execution, 1, reference)) == data
    assert read(place.own.open_artifact(place.execution, 1, reference), 5, 9) == data[5:9]
    assert place.own.open_artifact(place.execution, 2, reference) is None


def test_output_grows_and_is_read_by_ranges(place: Place) -> None:
    for begin in (0, PIECE_BYTES, PIECE_BYTES):  # the last one is repeated
        place.worker.write_output(place.execution, 1, "stdout", begin, DATA[begin : begin + PIECE_BYTES])
    place.worker.write_output(place.execution, 1, "stdout", 2 * PIECE_BYTES, DATA[2 * PIECE_BYTES :])
    for begin, end in ((0, len(DATA)), (PIECE_BYTES - 3, PIECE_BYTES + 3), (len(DATA) - 1, len(DATA))):
        assert place.own.read_output(place.execution, 1, "stdout", begin, end - begin) == DATA[begin:end]
    for begin, length in ((0, len(DATA) + 1), (len(DATA), 1), (-1, 1)):
        with pytest.raises(NotFound):
            place.own.read_output(place.execution, 1, "stdout", begin, length)
    with pytest.raises(NotFound):
        place.own.read_output(place.execution, 1, "stderr", 0, 1)


def test_contents_can_be_stored(place: Place) -> None:
    place.own.check_writable()
    place.worker.check_writable()


def test_unfinished_contents_are_not_seen(place: Place) -> None:
    """A process that is killed runs no line more, so its writers are neither committed nor closed here."""
    left = [place.worker.artifact_writer(place.execution, 1), place.own.writer("t")]
    for writer in left:
        writer.write(DATA)
    assert place.own.open_artifact(place.execution, 1, DIGEST) is None
    assert place.own.open("u", DIGEST) is None
    assert stored_artifact(place.worker, place.execution, DATA) == DIGEST
    assert read(place.own.open_artifact(place.execution, 1, DIGEST)) == DATA
    for writer in left:
        writer.close()


def test_upload_with_another_digest_is_removed(place: Place) -> None:
    upload, wrong = f"upload-{secrets.token_hex(16)}", hashlib.sha256(b"other").hexdigest()
    place.own.write_upload(place.execution, 1, upload, 0, DATA[:10])
    with pytest.raises(DigestMismatch):
        place.own.finish_upload(place.execution, 1, upload, wrong)
    assert place.own.open_artifact(place.execution, 1, wrong) is None
    place.own.write_upload(place.execution, 1, upload, 10, DATA[10:])
    with pytest.raises(DigestMismatch):  # the first ten bytes are gone
        place.own.finish_upload(place.execution, 1, upload, DIGEST)


def test_upload_is_finished_once_more_after_a_lost_answer(place: Place) -> None:
    upload = f"upload-{secrets.token_hex(16)}"
    for begin in (0, PIECE_BYTES, 2 * PIECE_BYTES):
        place.own.write_upload(place.execution, 1, upload, begin, DATA[begin : begin + PIECE_BYTES])
    place.own.finish_upload(place.execution, 1, upload, DIGEST)
    place.own.write_upload(place.execution, 1, upload, 2 * PIECE_BYTES, DATA[2 * PIECE_BYTES :])
    place.own.finish_upload(place.execution, 1, upload, DIGEST)
    assert read(place.own.open_artifact(place.execution, 1, DIGEST)) == DATA


def test_artifacts_and_uploads_are_counted_without_output(place: Place) -> None:
    assert place.own.stored(place.execution, 1) == (0, 0)
    place.worker.write_output(place.execution, 1, "stdout", 0, b"output")
    stored_artifact(place.worker, place.execution, DATA)
    assert place.own.stored(place.execution, 1) == (1, len(DATA))
    upload = f"upload-{secrets.token_hex(16)}"
    for begin in (0, 10, 10):
        place.own.write_upload(place.execution, 1, upload, begin, DATA[:10])
    assert place.own.stored(place.execution, 1) == (2, len(DATA) + 20)
    assert place.own.stored(place.execution, 2) == (0, 0)


@pytest.mark.thorough
def test_repeated_end_of_an_upload_loses_its_pieces_to_the_first(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request, whose time was out at the worker, ends while the second reads."""
    for name, value in variables(bucket).items():
        monkeypatch.setenv(name, value)
    blobs, id, upload = BucketBlobs(f"s3://contents/{tmp_path.name}"), secrets.token_hex(16), f"upload-{'0' * 32}"
    blobs.write_upload(id, 1, upload, 0, DATA)
    read_range = obstore.get_range

    def read_after_the_first(*words: Any, **named: Any) -> object:
        monkeypatch.setattr(obstore, "get_range", read_range)
        blobs.finish_upload(id, 1, upload, DIGEST)
        return read_range(*words, **named)

    monkeypatch.setattr(obstore, "get_range", read_after_the_first)
    blobs.finish_upload(id, 1, upload, DIGEST)
    assert obstore.get_range is read_range
    assert read(blobs.open_artifact(id, 1, DIGEST)) == DATA
    blobs.write_output(id, 1, "stdout", 0, DATA)

    def read_after_deletion(*words: Any, **named: Any) -> object:
        monkeypatch.setattr(obstore, "get_range", read_range)
        blobs.delete_artifacts(id)
        return read_range(*words, **named)

    monkeypatch.setattr(obstore, "get_range", read_after_deletion)
    with pytest.raises(NotFound):
        blobs.read_output(id, 1, "stdout", 0, 1)


def test_deletion_leaves_nothing(place: Place, tmp_path: Path) -> None:
    stored_artifact(place.worker, place.execution, DATA)
    place.worker.write_output(place.execution, 1, "stdout", 0, b"output")
    tenant = f"t{secrets.token_hex(4)}"
    place.own.put(tenant, [DATA])
    for _ in range(2):
        place.own.delete_artifacts(place.execution)
        place.own.delete_tenant(tenant)
    assert place.own.open_artifact(place.execution, 1, DIGEST) is None
    assert not place.worker.fetch(tenant, DIGEST, tmp_path / "fetched")
    with pytest.raises(NotFound):
        place.own.read_output(place.execution, 1, "stdout", 0, 1)
    assert place.execution not in place.own.executions(-60)


def test_old_contents_are_listed_and_removed(place: Place) -> None:
    """A negative age is that of contents which are new."""
    stored_artifact(place.worker, place.execution, DATA)
    place.own.put("old", [DATA])
    assert place.execution not in place.own.executions(3600)
    assert place.own.expire(3600) == 0
    assert place.execution in place.own.executions(-60)
    assert place.own.expire(-60) >= 1
    assert place.own.open("old", DIGEST) is None
    assert read(place.own.open_artifact(place.execution, 1, DIGEST)) == DATA


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "a\n"])
def test_forged_names_are_refused(place: Place, tmp_path: Path, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: place.own.put(name, [b""]),
        lambda: place.worker.fetch(name, DIGEST, tmp_path / "fetched"),
        lambda: place.worker.fetch("t", name, tmp_path / "fetched"),
        lambda: place.worker.write_output(name, 1, "stdout", 0, b"x"),
        lambda: place.worker.write_output(place.execution, 1, name, 0, b"x"),
        lambda: place.own.open_artifact(place.execution, 1, name),
        lambda: place.own.delete_artifacts(name),
        lambda: place.own.delete_tenant(name),
        lambda: place.own.write_upload(place.execution, 1, name, 0, b"x"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="not a"):
            call()


def test_worker_refuses_other_bytes_from_the_api(installation: Stack, tmp_path: Path) -> None:
    """The bytes that lie there were changed, at the same length."""
    path = installation.directory / "state" / "blobs" / "blobs" / "t" / hashlib.sha256(b"other").hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(DATA)
    token = installation.new_key("worker")["secret"]
    worker = closing(ApiBlobs(installation.env["MAYFLY_URL"], token, None, 2**24))
    with worker as blobs, pytest.raises(BlobsUnavailable, match="other bytes"):
        blobs.fetch("t", path.name, tmp_path / "fetched")


@pytest.mark.thorough
def test_worker_refuses_other_bytes_from_a_bucket(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables(bucket).items():
        monkeypatch.setenv(name, value)
    address, digest = f"s3://contents/{tmp_path.name}", hashlib.sha256(b"other").hexdigest()
    obstore.put(connected(address), f"blobs/t/{digest}", DATA)
    with pytest.raises(BlobsUnavailable, match="other bytes"):
        BucketBlobs(address).fetch("t", digest, tmp_path / "fetched")


def test_stale_attempt_writes_nothing(installation: Stack) -> None:
    store = open_store(Settings(state_dir=installation.directory / "state", redis_url=installation.redis.url))
    with ExitStack() as stack:
        stack.enter_context(closing(store.redis))
        id = submit(store)
        claimed(store, id)
        token = installation.new_key("worker")["secret"]
        blobs = stack.enter_context(closing(ApiBlobs(installation.env["MAYFLY_URL"], token, None, 2**24)))
        for execution, attempt in ((id, 2), (secrets.token_hex(16), 1)):
            with pytest.raises(StaleAttempt):
                blobs.write_output(execution, attempt, "stdout", 0, b"x")
            with pytest.raises(StaleAttempt):
                blobs.artifact_writer(execution, attempt).commit()
        names = {path.name for path in (installation.directory / "state" / "blobs" / "artifacts").glob("*")}
        assert names.isdisjoint({execution})
        assert not (installation.directory / "state" / "blobs" / "artifacts" / id / "2").exists()
        blobs.write_output(id, 1, "stdout", 0, b"x")  # the control
        assert store.own_blobs.read_output(id, 1, "stdout", 0, 1) == b"x"


@pytest.mark.thorough
def test_use_renews_the_retention_of_a_blob_in_a_bucket(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of this test is an hour after the upload's second, and the use is awaited to be later than that."""
    for name, value in variables(request.getfixturevalue("bucket")).items():
        monkeypatch.setenv(name, value)
    address = f"s3://contents/{tmp_path.name}"
    blobs, store = BucketBlobs(address), connected(address)
    reference, _ = blobs.put("t", [DATA])
    name = f"t/{reference.removeprefix('sha256:')}"
    put_at = obstore.head(store, f"blobs/{name}")["last_modified"]

    def is_used_later() -> bool:
        assert blobs.open("t", reference) is not None
        return obstore.head(store, f"used/{name}")["last_modified"] >= put_at + timedelta(seconds=2)

    eventually(is_used_later, "the blob is used in a later second")
    monkeypatch.setattr(blobs, "_now", lambda: put_at + timedelta(seconds=3601))
    assert blobs.expire(3600) == 0
    obstore.delete(store, f"used/{name}")  # the control
    assert blobs.expire(3600) == 1


def test_uploads_of_an_attempt_are_bounded(installation: Stack) -> None:
    """The bytes of uploads that were never finished count; twice the bound, for uploads that are sent again."""
    state = installation.directory / "state"
    settings = Settings(state_dir=state, redis_url=installation.redis.url, artifact_bytes=20, artifact_files=5)
    store = open_store(settings)
    with closing(store.redis):
        transfers = Transfers(store, settings)
        large, many = submit(store), submit(store)
        for id in (large, many):
            claimed(store, id)
        for number in range(4):
            transfers.write(large, 1, f"upload-{number:032}", 0, b"0123456789", None)
        transfers.write(large, 1, f"upload-{4:032}", 0, b"x", None)  # the last piece before the bound counts
        for name, offset, bound in ((f"upload-{4:032}", 1, 40), (f"upload-{0:032}", 20, 20)):
            with pytest.raises(PayloadTooLarge) as refused:
                transfers.write(large, 1, name, offset, b"x", None)
            assert refused.value.bound == bound
        for number in range(6):
            transfers.write(many, 1, f"upload-{number:032}", 0, b"x", None)
        with pytest.raises(PayloadTooLarge) as refused:
            transfers.write(many, 1, f"upload-{6:032}", 0, b"x", None)
        assert refused.value.bound == 5

"""Links in the blob directory, which a worker that was taken over has placed, lead the API nowhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.errors import BlobsUnavailable, DigestMismatch, NotFound
from orchestrator.store.content.directory import DirectoryBlobs

DATA = b"the admin's key"
SHA256 = hashlib.sha256(DATA).hexdigest()
UPLOAD = f"upload-{0:032x}"
# Below the state directory as below the blob directory, so a link at each step leads to a file of the same name.
FILES = (f"artifacts/e1/1/{SHA256}", "artifacts/e1/1/stdout", f"artifacts/e1/1/.{UPLOAD}", f"blobs/t1/{SHA256}")
STEPS = ("artifacts", "artifacts/e1", "artifacts/e1/1", "blobs", "blobs/t1")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """The directory that only the API may read; it is unchanged at the end, down to the times of its files."""
    state = tmp_path / "state"
    for name in FILES:
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_bytes(DATA)
        os.utime(state / name, (1, 1))
    yield state
    found = sorted(str(path.relative_to(state)) for path in state.rglob("*") if path.is_file())
    assert found == sorted(FILES)
    assert all((state / name).read_bytes() == DATA for name in FILES)
    assert {(state / name).stat().st_mtime for name in FILES} == {1}


@pytest.fixture(params=[*STEPS, "each file"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, state: Path) -> DirectoryBlobs:
    root = tmp_path / "root"
    for name in FILES if request.param == "each file" else (request.param,):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(state / name)
    return DirectoryBlobs(root)


def test_links_lead_no_reader_out_of_the_directory(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    assert blobs.open_artifact("e1", 1, SHA256) is None
    assert blobs.open("t1", SHA256) is None
    assert not blobs.fetch("t1", SHA256, tmp_path / "fetched")
    with pytest.raises(NotFound):
        blobs.read_output("e1", 1, "stdout", 0, 1)
    assert blobs.stored("e1", 1) != (2, 2 * len(DATA))


def test_links_lead_no_writer_out_of_the_directory(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    """Where only the file is a link, a rename replaces it, and a write at an offset is refused."""
    for write in (
        lambda: blobs.put("t1", [DATA]),
        lambda: blobs.artifact_writer("e1", 1).close(),
        lambda: blobs.write_output("e1", 1, "stdout", 0, b"other"),
        lambda: blobs.write_upload("e1", 1, UPLOAD, 0, b"other"),
        lambda: blobs.finish_upload("e1", 1, UPLOAD, SHA256),
    ):
        with suppress(BlobsUnavailable, DigestMismatch):
            write()
    names = [path.name for path in (tmp_path / "root").rglob("*") if path.is_file() and not path.is_symlink()]
    assert set(names) <= {SHA256, "stdout", f".{UPLOAD}"}


def test_links_lead_no_deletion_out_of_the_directory(blobs: DirectoryBlobs) -> None:
    assert (blobs.executions(3600), blobs.expire(3600)) == ([], 0), "a link's age is its own"
    assert set(blobs.executions(-60)) <= {"e1"}
    assert blobs.expire(-60) <= 1
    blobs.delete_artifacts("e1")
    blobs.delete_tenant("t1")


def test_link_to_another_directory_lists_none_of_its_names(tmp_path: Path, state: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for kind in ("artifacts", "blobs"):
        (root / kind).symlink_to(state)
    assert DirectoryBlobs(root).executions(-60) == []
    assert DirectoryBlobs(root).expire(-60) == 0


def test_upload_replaces_a_link_of_its_name(tmp_path: Path, state: Path) -> None:
    """The digest is compared with the bytes of the upload, never with those that a link leads to."""
    blobs, place = DirectoryBlobs(tmp_path / "root"), tmp_path / "root" / "artifacts" / "e1" / "1"
    blobs.write_upload("e1", 1, UPLOAD, 0, DATA)
    (place / SHA256).symlink_to(state / FILES[0])
    blobs.finish_upload("e1", 1, UPLOAD, SHA256)
    assert (place / SHA256).lstat().st_size == len(DATA)
    blobs.write_upload("e1", 1, UPLOAD, 0, b"other")
    with pytest.raises(DigestMismatch):
        blobs.finish_upload("e1", 1, UPLOAD, "0" * 64)


def test_pipe_blocks_no_reader(tmp_path: Path) -> None:
    place = tmp_path / "artifacts" / "e1" / "1"
    place.mkdir(parents=True)
    os.mkfifo(place / SHA256)
    content = DirectoryBlobs(tmp_path).open_artifact("e1", 1, SHA256)
    assert content is not None
    assert content.size == 0
    content.close()


def test_root_itself_may_be_a_link(tmp_path: Path) -> None:
    """It is the operator's choice."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    blobs = DirectoryBlobs(tmp_path / "root")
    blobs.put("t1", [DATA])
    assert (tmp_path / "disk" / "blobs" / "t1" / SHA256).read_bytes() == DATA
    content = blobs.open("t1", SHA256)
    assert content is not None
    content.close()

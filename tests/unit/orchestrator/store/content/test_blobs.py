"""Files of blobs: their disk usage, which is none for zeros, and their modes."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.errors import BlobsFull, BlobsUnavailable
from orchestrator.store.content.directory import DirectoryBlobs
from orchestrator.store.content.files import HOLE_BYTES, IN_MEMORY_BYTES

MIB = 2**20
PIECE_BYTES = 60 * 1024  # of an artifact, as the agent reads it
BLOCK_BYTES = 512  # what `st_blocks` counts
DATA = bytes(range(1, 256)) * 300


def stored(root: Path, content: bytes, piece_bytes: int = PIECE_BYTES) -> Path:
    """Where it lies after it came in such pieces."""
    blobs = DirectoryBlobs(root)
    writer = blobs.artifact_writer("e1", 1)
    for start in range(0, len(content), piece_bytes):
        writer.write(content[start : start + piece_bytes])
    sha256, size = writer.commit()
    writer.close()
    assert (sha256, size) == (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))
    return root / "artifacts" / "e1" / "1" / sha256.removeprefix("sha256:")


def taken_bytes(path: Path) -> int:
    """The disk space of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())  # some file systems allocate late
        return os.fstat(file.fileno()).st_blocks * BLOCK_BYTES


def test_zeros_take_no_room_on_the_disk(tmp_path: Path) -> None:
    path = stored(tmp_path, bytes(63 * MIB))
    assert path.stat().st_size == 63 * MIB
    assert taken_bytes(path) < MIB
    assert path.read_bytes() == bytes(63 * MIB)


def test_uploads_of_workers_leave_half_of_the_reserve(tmp_path: Path) -> None:
    """The factors leave room for what others write to the disk meanwhile."""
    free, upload = shutil.disk_usage(tmp_path).free, f"upload-{'0' * 32}"
    DirectoryBlobs(tmp_path / "a", int(1.5 * free)).write_upload("e1", 1, upload, 0, b"x")
    with pytest.raises(BlobsFull):
        DirectoryBlobs(tmp_path / "a", int(1.5 * free)).writer("t")
    with pytest.raises(BlobsFull):
        DirectoryBlobs(tmp_path / "b", 3 * free).write_upload("e1", 1, upload, 0, b"x")
    DirectoryBlobs(tmp_path / "b", 3 * free).artifact_writer("e1", 1).close()  # of a worker on this host


def test_content_without_zero_pages_takes_its_full_size(tmp_path: Path) -> None:
    """The control: a single byte in each piece is kept on the disk."""
    content = bytearray(8 * MIB)
    content[:: PIECE_BYTES // 2] = b"x" * len(content[:: PIECE_BYTES // 2])
    assert taken_bytes(stored(tmp_path, bytes(content))) >= 8 * MIB


@pytest.mark.parametrize("piece_bytes", [1000, HOLE_BYTES, PIECE_BYTES, 2 * MIB])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        bytes(HOLE_BYTES),
        bytes(MIB + 1),
        DATA + bytes(MIB),
        bytes(MIB) + DATA,
        DATA + bytes(MIB + 17) + DATA + bytes(3) + DATA,
        bytes(PIECE_BYTES) + b"x" + bytes(PIECE_BYTES),
    ],
    ids=["empty", "a zero", "a page", "a hole", "at the end", "at the beginning", "within", "around a byte"],
)
def test_holes_change_no_byte(tmp_path: Path, content: bytes, piece_bytes: int) -> None:
    assert stored(tmp_path, content, piece_bytes).read_bytes() == content


@pytest.mark.parametrize(("mode", "expected"), [(0o700, 0o600), (0o755, 0o600), (0o2770, 0o660), (0o775, 0o660)])
def test_group_of_a_shared_directory_may_write_its_files(tmp_path: Path, mode: int, expected: int) -> None:
    """API and workers may be two users, each of which changes and removes what the other has stored."""
    blobs, name = DirectoryBlobs(tmp_path), f"upload-{0:032x}"
    for directory in (tmp_path / "artifacts" / "e1" / "1", tmp_path / "blobs" / "t1"):
        directory.mkdir(parents=True)
        directory.chmod(mode)
    earlier = os.umask(0o007)  # as in the units
    try:
        stored(tmp_path, DATA)
        blobs.put("t1", [DATA])
        blobs.write_output("e1", 1, "stdout", 0, DATA)
        blobs.write_upload("e1", 1, name, 0, DATA)
    finally:
        os.umask(earlier)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {expected}


def test_same_content_keeps_its_file(tmp_path: Path) -> None:
    """Its retention begins anew; a file that lost its end to a power failure is replaced."""
    path = stored(tmp_path, DATA)
    os.utime(path, (0, 0))
    first = path.stat()
    stored(tmp_path, DATA)
    assert path.stat().st_ino == first.st_ino
    assert path.stat().st_mtime > 0
    os.truncate(path, 10)
    stored(tmp_path, DATA)
    assert path.read_bytes() == DATA
    assert [other.name for other in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("size", [len(DATA), IN_MEMORY_BYTES + MIB])
def test_stored_content_costs_no_file(tmp_path: Path, size: int) -> None:
    """A small content in pieces, and one of any size that comes at once, as inputs do."""
    content, blobs = os.urandom(size), DirectoryBlobs(tmp_path)
    directory = tmp_path / "blobs" / "t1"
    blobs.put("t1", [content])
    os.utime(directory, (0, 0))  # a name that is made or removed in it sets the time
    with closing(blobs.writer("t1")) as writer:
        for piece in [content, b""] if size > IN_MEMORY_BYTES else [content[:1000], content[1000:]]:
            writer.write(piece)
        reference, _ = writer.commit()
    assert directory.stat().st_mtime == 0
    blobs.put("t1", [b"another"])
    assert directory.stat().st_mtime > 0
    assert (directory / reference.removeprefix("sha256:")).read_bytes() == content


def test_upload_makes_no_directory_of_a_tenant_that_is_deleted_meanwhile(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    with closing(blobs.writer("t1")) as writer:
        writer.write(DATA)
        blobs.delete_tenant("t1")
        with pytest.raises(BlobsUnavailable):
            writer.commit()
    assert not (tmp_path / "blobs" / "t1").exists()


def test_link_and_another_users_file_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"12345"
    path = stored(tmp_path, content)
    path.unlink()
    path.symlink_to("x" * len(content))
    stored(tmp_path, content)
    assert path.read_bytes() == content
    first = path.stat()

    def refuse(path: Path, *, follow_symlinks: bool) -> None:
        raise PermissionError

    monkeypatch.setattr("orchestrator.store.content.files.os.utime", refuse)
    stored(tmp_path, content)
    assert path.stat().st_ino != first.st_ino

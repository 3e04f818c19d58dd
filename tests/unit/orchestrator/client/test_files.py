"""Artifacts are saved under the directory that was named, and nowhere else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mayfly import UnsafeArtifact
from mayfly.files import Destination


def save(directory: Path, path: str, pieces: list[bytes], sha256: str | None = None) -> Path:
    with Destination(directory, path, sha256) as destination:
        for piece in pieces:
            destination.write(piece)
        return destination.commit()


def everything(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*")}


def test_saved_with_directories_and_replaced(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    digest = hashlib.sha256(b"onetwo").hexdigest()
    assert save(out, "a/b/plot.png", [b"one", b"two"], digest) == out / "a/b/plot.png"
    save(out, "a/b/plot.png", [b"three"])
    assert (out / "a/b/plot.png").read_bytes() == b"three"
    assert everything(out) == {"a", "a/b", "a/b/plot.png"}


@pytest.mark.parametrize("path", ["", "/etc/x", "../x", "a/../../x", "a//x", "./x", "a/", "x\0y", ".."])
def test_artifact_paths_outside_the_target_are_refused(tmp_path: Path, path: str) -> None:
    out = tmp_path / "out"
    with pytest.raises(UnsafeArtifact):
        save(out, path, [b"x"])
    assert everything(tmp_path) <= {"out"}


def test_links_on_the_way_are_not_followed(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "link").symlink_to(elsewhere)
    with pytest.raises(UnsafeArtifact):
        save(out, "link/x", [b"x"])
    assert everything(elsewhere) == set()


def test_a_link_of_the_files_name_is_replaced(tmp_path: Path) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious"
    out.mkdir()
    precious.write_bytes(b"mine")
    (out / "x").symlink_to(precious)
    save(out, "x", [b"theirs"])
    assert precious.read_bytes() == b"mine"
    assert (out / "x").read_bytes() == b"theirs"
    assert not (out / "x").is_symlink()


def test_download_with_a_wrong_digest_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnsafeArtifact, match="another digest"):
        save(tmp_path, "x", [b"x"], hashlib.sha256(b"y").hexdigest())
    assert everything(tmp_path) == set()


def test_broken_download_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        save(tmp_path, "x", broken())  # type: ignore[arg-type]
    assert everything(tmp_path) == set()

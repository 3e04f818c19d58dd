"""An artifact's media type: by a fixed table, of the file itself, not of its compressed content."""

from __future__ import annotations

import mimetypes

import pytest

from worker.attempt.media_types import TYPES, UNKNOWN, media_type

GZIP = "application/gzip"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.csv.gz", GZIP), ("a.tgz", GZIP), ("a.svgz", GZIP), ("deep/a.tar.gz", GZIP), ("A.TAR.GZ", GZIP),
        ("a.csv.bz2", "application/x-bzip2"), ("a.csv.xz", "application/x-xz"), ("a.tar.Z", "application/x-compress"),
        ("a.json.zst", "application/zstd"), ("a.ts", "application/typescript"), ("a.csv", "text/csv"),
        ("a.txt", "text/plain"), ("a.png", "image/png"), ("a.svg", "image/svg+xml"), ("a.html", "text/html"),
        ("data:text/html,x", UNKNOWN), ("x.csv/data", UNKNOWN), (".gz", UNKNOWN), ("a.", UNKNOWN), ("a", UNKNOWN),
        ("a.nosuchtype", UNKNOWN),
    ],
)  # fmt: skip
def test_a_name_stands_for_a_type(path: str, expected: str) -> None:
    assert media_type(path) == expected


def test_no_type_claims_a_charset_and_no_file_of_a_host_changes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("charset" in type or "linguist" in type for type in TYPES.values())
    assert all(suffix == suffix.lower() for suffix in TYPES)
    monkeypatch.setitem(mimetypes.types_map, ".ts", "text/vnd.trolltech.linguist")
    monkeypatch.setitem(mimetypes.types_map, ".nosuchtype", "text/html")
    assert (media_type("a.ts"), media_type("a.nosuchtype")) == ("application/typescript", UNKNOWN)

"""Bodies: bounds, compression, text."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from orchestrator.broker.http.bodies import Unpacker, rendered
from orchestrator.broker.http.failures import CallFailed

TEXT = b"It is what it is. " * 1000
BOUND = 2**20


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def unpacked(coding: str, packed: bytes, bound: int = BOUND, piece: int = 2**16) -> bytes:
    unpacker = Unpacker({"content-encoding": coding} if coding else {}, bound)
    for start in range(0, len(packed), piece):
        unpacker.add(packed[start : start + piece])
    return unpacker.finish()


def failed(coding: str, packed: bytes, bound: int = BOUND) -> str:
    with pytest.raises(CallFailed) as caught:
        unpacked(coding, packed, bound)
    return caught.value.failure.code


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "plain": ("", bytes),
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "two gzip files": ("gzip", lambda body: gzip.compress(body[:100]) + gzip.compress(body[100:])),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
}


@pytest.mark.parametrize("piece", [1, 7, 2**16])
@pytest.mark.parametrize("name", PACKERS)
def test_body_is_unpacked(name: str, piece: int) -> None:
    coding, pack = PACKERS[name]
    assert unpacked(coding, pack(TEXT), piece=piece) == TEXT
    assert unpacked(coding, pack(b"")) == b""


@pytest.mark.parametrize("name", PACKERS)
def test_body_beyond_the_bound_is_refused(name: str) -> None:
    coding, pack = PACKERS[name]
    assert unpacked(coding, pack(TEXT), len(TEXT)) == TEXT
    assert failed(coding, pack(TEXT), len(TEXT) - 1) == "tool_result_too_large"


def test_empty_gzip_files_without_end_are_refused() -> None:
    assert failed("gzip", gzip.compress(b"") * 2**16) == "tool_result_too_large"


def test_gzip_bomb_costs_no_more_than_the_bound() -> None:
    bomb = gzip.compress(bytes(64 * 2**20), 9)
    assert len(bomb) < 2**17
    tracemalloc.start()
    try:
        assert failed("gzip", bomb) == "tool_result_too_large"
        bounded = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        gzip.decompress(bomb)
        unbounded = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bounded < 4 * BOUND < unbounded


MALFORMED = {
    "brotli": ("br", TEXT),
    "twice": ("gzip, gzip", gzip.compress(gzip.compress(TEXT))),
    "not gzip": ("gzip", TEXT),
    "not deflate": ("deflate", TEXT),
    "short gzip": ("gzip", gzip.compress(TEXT)[:-1]),
    "one byte": ("gzip", b"\x1f"),
    "garbage at the end": ("gzip", gzip.compress(TEXT) + b"garbage"),
    "short deflate": ("deflate", raw_deflate(TEXT)[:-1]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_compression_fails(name: str) -> None:
    assert failed(*MALFORMED[name]) == "tool_failed"


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain", "grün".encode(), "grün"),
        ("text/html; charset=ISO-8859-1", "grün".encode("latin-1"), "grün"),
        ('text/html; charset="windows-1252"', "€".encode("cp1252"), "€"),
        ("Text/CSV; header=present; Charset=Shift_JIS", "日本".encode("shift_jis"), "日本"),
        ("application/json", b'{"a": 1}', '{"a": 1}'),
        ("application/json", b'\xef\xbb\xbf{"a": 1}', '{"a": 1}'),
        ("application/problem+json", b"{}", "{}"),
        ("image/svg+xml", b"<svg/>", "<svg/>"),
        ("text/plain", "ü".encode("utf-16"), "ü"),
        ("text/plain", b"\xff\xfa", "\ufffd\ufffd"),
        ("text/plain; charset=idna", "ü".encode(), "ü"),
        ("text/plain; charset=zlib", b"a", "a"),
        ("text/plain; charset=\0", b"a", "a"),
        ("", "ü".encode(), "ü"),
        ("text/plain", b"", ""),
    ],
)
def test_text_is_decoded(content_type: str, body: bytes, text: str) -> None:
    assert rendered(body, content_type) == (text, None)


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "application/zip", ""])
def test_other_bytes_are_base64(content_type: str) -> None:
    assert rendered(b"\x89PNG\xff", content_type) == (None, "iVBOR/8=")

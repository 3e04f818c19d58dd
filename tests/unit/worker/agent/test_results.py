"""Results as an untrusted stream of frames: what becomes a bundle, what is left out and why, what no agent sends."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from orchestrator.errors import FrameError
from orchestrator.models.results import ResultBundle
from worker.agent.results import HTML, JSON, MAX_JSON_DEPTH, MAX_PIXELS, PNG, TEXT, TYPE_BYTES, ResultSink

HEADER = {"number": 0, "source": "named", "media_type": TEXT, "size": 3, "length": 3}


def image(width: int = 2, height: int = 3) -> bytes:
    """The beginning of a PNG image, with the chunk that names its size."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", width, height, 8, 6, 0, 0, 0, 0)


def sink(max_bytes: int = 2**23, max_count: int = 4) -> ResultSink:
    return ResultSink(max_bytes, max_count)


def send(into: ResultSink, media_type: str, content: bytes, length: int | None = None, **header: Any) -> None:
    length = len(content) if length is None else length
    into.begin({**HEADER, "media_type": media_type, "size": len(content), "length": length, **header})
    for start in range(0, length, 60 * 1024):
        into.data(content[start : min(length, start + 60 * 1024)])


def received(media_type: str, content: bytes, length: int | None = None) -> ResultBundle:
    into = sink()
    send(into, media_type, content, length)
    [bundle] = into.bundles()
    return bundle


def test_representations_of_a_result_become_one_bundle() -> None:
    into = sink()
    send(into, JSON, b'{"a": [1, 2.5, null, "\xc3\xa9"]}')
    send(into, TEXT, b"text")
    send(into, HTML, b"<b>x</b>")
    send(into, PNG, image())
    send(into, TEXT, b"shown", number=2, source="display")
    first, second = into.bundles()
    assert first.data == {
        TEXT: "text",
        JSON: {"a": [1, 2.5, None, "é"]},
        HTML: "<b>x</b>",
        PNG: base64.b64encode(image()).decode(),
    }
    assert next(iter(first.data)) == TEXT
    assert (first.source, first.omitted) == ("named", ())
    assert (second.source, second.data) == ("display", {TEXT: "shown"})
    assert ResultBundle.model_validate_json(first.model_dump_json()) == first


def test_text_that_is_not_utf_8_is_replaced() -> None:
    assert received(TEXT, b"a\xff\x00").data == {TEXT: "a�\x00"}


def test_text_beyond_its_bound_is_cut_between_characters_with_the_reason() -> None:
    most = TYPE_BYTES[TEXT]
    bundle = received(TEXT, b"x" + "é".encode() * most, most)
    assert bundle.data[TEXT] == "x" + "é" * ((most - 1) // 2)
    [omitted] = bundle.omitted
    assert (omitted.media_type, omitted.size_bytes) == (TEXT, 2 * most + 1)
    assert str(most) in omitted.reason


def test_an_image_beyond_its_bound_is_left_out_with_the_reason() -> None:
    bundle = received(PNG, image() + bytes(TYPE_BYTES[PNG]), 0)
    assert bundle.data == {TEXT: "[nothing was kept]"}
    [omitted] = bundle.omitted
    assert omitted.media_type == PNG
    assert str(TYPE_BYTES[PNG]) in omitted.reason


def test_results_beyond_the_bound_of_all_are_left_out_with_the_reason() -> None:
    into = sink(max_bytes=10)
    send(into, TEXT, b"12345678")
    send(into, JSON, b'"12345"', length=0)
    [bundle] = into.bundles()
    assert bundle.data == {TEXT: "12345678"}
    assert "10 bytes" in bundle.omitted[0].reason


def test_further_results_are_counted() -> None:
    into = sink(max_count=1)
    send(into, TEXT, b"1")
    into.begin({"omitted": 4968})
    [bundle] = into.bundles()
    assert into.bundles() == (bundle,)
    assert bundle.omitted[0].media_type == "*/*"
    assert "4968" in bundle.omitted[0].reason


def test_an_image_without_text_gets_one() -> None:
    assert received(PNG, image()).data[TEXT] == "[image/png]"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"NaN", b"[Infinity]", b"1e999", b'"\\ud800"', b"'a'", b"\xff", b"1" * 5000, b"1 2",
    ],
)  # fmt: skip
def test_content_that_is_not_json_is_left_out(content: bytes) -> None:
    bundle = received(JSON, content)
    assert JSON not in bundle.data
    assert "JSON" in bundle.omitted[0].reason


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH, True),
        (b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1), False),
        (b"[" * 500_000 + b"]" * 500_000, False),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, False),
        (json.dumps(["[" * 1000 + '"\\' for _ in range(100)]).encode(), True),
        (b"[]" + b",[]" * 300_000, False),
        (b"[" + b"[]," * 300_000 + b"[]]", True),
    ],
)
def test_json_has_a_bounded_depth(content: bytes, kept: bool) -> None:
    assert (JSON in received(JSON, content).data) == kept


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a" + bytes(40),
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        image()[:20],
        image(0, 5),
        image(MAX_PIXELS, 2),
        image(2**32 - 1, 2**32 - 1),
    ],
)
def test_images_that_are_no_png_or_too_many_pixels_are_left_out(content: bytes) -> None:
    bundle = received(PNG, content)
    assert PNG not in bundle.data
    assert bundle.omitted[0].media_type == PNG


@pytest.mark.parametrize(
    "header",
    [
        {},
        {**HEADER, "number": 4},
        {**HEADER, "number": True},
        {**HEADER, "source": "other"},
        {**HEADER, "source": []},
        {**HEADER, "media_type": "text/other"},
        {**HEADER, "media_type": ["text/plain"]},
        {**HEADER, "size": -1},
        {**HEADER, "length": 4},
        {**HEADER, "length": 2.0},
        {**HEADER, "size": 2**40, "length": TYPE_BYTES[TEXT] + 1},
        {**HEADER, "media_type": JSON, "length": 2},
        {"omitted": -1},
        {"omitted": "1"},
    ],
)
def test_headers_that_no_agent_sends_are_frame_errors(header: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        sink().begin(header)


def test_frames_out_of_order_are_frame_errors() -> None:
    into = sink()
    with pytest.raises(FrameError):
        into.data(b"1")
    send(into, TEXT, b"1", number=1)
    with pytest.raises(FrameError):
        send(into, JSON, b"1", number=0)
    with pytest.raises(FrameError):
        send(into, JSON, b"1", number=1, source="display")
    with pytest.raises(FrameError):
        send(into, TEXT, b"1", number=1)
    into.begin({**HEADER, "number": 2})
    with pytest.raises(FrameError):
        into.begin({**HEADER, "number": 3})
    with pytest.raises(FrameError):
        into.data(b"1234")


def test_a_flood_of_small_pieces_is_a_frame_error() -> None:
    into = sink()
    into.begin({**HEADER, "size": 5000, "length": 5000})
    for _ in range(3):
        into.data(b"x")
    with pytest.raises(FrameError, match="smaller"):
        into.data(b"x")

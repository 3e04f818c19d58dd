"""The pipe's framing, with input that no agent of ours would send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import FrameError
from worker.agent.frames import HEADER, MAX_FRAME_BYTES, MAX_JSON_BYTES, Decoder, Frame, FromAgent, ToAgent, encode

frames = st.lists(st.tuples(st.sampled_from(list(FromAgent)), st.binary(max_size=300)), max_size=20)


def raw(kind: FromAgent, payload: bytes) -> bytes:
    return HEADER.pack(kind.value, len(payload)) + payload


@given(frames, st.integers(min_value=1, max_value=50))
def test_frames_survive_any_cut(sent: list[tuple[FromAgent, bytes]], step: int) -> None:
    data = b"".join(raw(kind, payload) for kind, payload in sent)
    decoder = Decoder()
    got = [frame for i in range(0, len(data), step) for frame in decoder.feed(data[i : i + step])]
    assert [Frame(kind, payload) for kind, payload in sent] == got
    assert decoder.pending_bytes == 0


@given(st.binary(max_size=2000))
def test_noise_is_frames_or_an_error_and_never_piles_up(noise: bytes) -> None:
    decoder = Decoder()
    try:
        list(decoder.feed(noise))
    except FrameError:
        return
    assert decoder.pending_bytes <= MAX_FRAME_BYTES + HEADER.size


@pytest.mark.parametrize(
    "data",
    [
        b"?" + (0).to_bytes(4, "big"),
        FromAgent.STDOUT.value + (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        FromAgent.STDOUT.value + b"\xff\xff\xff\xff",
        ToAgent.START.value + (0).to_bytes(4, "big"),
    ],
)
def test_a_frame_of_another_kind_or_size_is_refused_at_its_header(data: bytes) -> None:
    with pytest.raises(FrameError):
        list(Decoder().feed(data))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b"\xff",
        b"[" * 50_000,
        b'{"a": ' * 9_000,
        b'{"a": "' + b"x" * MAX_JSON_BYTES + b'"}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": %s}' % (b"9" * 5000),
        '{"a": 1}'.encode("utf-16"),
    ],
    ids=[
        "empty",
        "list",
        "number",
        "cut",
        "no text",
        "deep list",
        "deep object",
        "large",
        "no number",
        "infinite",
        "too large",
        "half of a pair",
        "half of a pair in bytes",
        "too many digits",
        "utf-16",
    ],
)
def test_a_control_frame_must_be_a_small_json_object(payload: bytes) -> None:
    with pytest.raises(FrameError):
        Frame(FromAgent.EXIT, payload).json()


def test_a_control_frame_may_have_any_text_and_number() -> None:
    fields = {"a": "\ud83d\ude00é\\u", "b": [1, -1.5, 1e308, None, True], "c": {}}
    assert Frame(FromAgent.EXIT, json.dumps(fields).encode()).json() == json.loads(json.dumps(fields))
    assert Frame(FromAgent.EXIT, '{"a": "é😀"}'.encode()).json() == {"a": "é😀"}


def test_frames_to_the_agent_are_encoded() -> None:
    assert encode(ToAgent.BYE) == b"B\0\0\0\0"
    frame = encode(ToAgent.START, {"a": 1})
    assert (frame[:1], json.loads(frame[5:])) == (b"S", {"a": 1})

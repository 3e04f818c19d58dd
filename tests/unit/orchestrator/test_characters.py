"""Output is cut between characters, wherever the bound falls; bytes that are no UTF-8 are replaced as before."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.characters import character_at, whole_characters
from orchestrator.queries import results
from orchestrator.queries.results import INLINE_OUTPUT_BYTES, shortened
from orchestrator.store.executions.records import Claim
from worker.attempt.output import OutputSink

REPLACED = "\ufffd"
TEXTS = st.text(st.sampled_from("aé日\U0001f98b\n\0") | st.characters(exclude_categories=["Cs"]), max_size=60).filter(
    lambda text: REPLACED not in text
)


@given(TEXTS, st.integers(0, 300))
def test_a_cut_at_either_side_of_a_character_leaves_text(text: str, at: int) -> None:
    data = text.encode()
    at = min(at, len(data))
    begin, end = character_at(data, at)
    assert begin <= at <= end
    assert end - begin <= 4
    assert data[:begin].decode() + data[begin:end].decode() + data[end:].decode() == text
    assert whole_characters(data[:at]) == begin


@given(st.binary(max_size=40), st.integers(0, 40))
def test_invalid_utf8_is_cut_at_the_given_byte(data: bytes, at: int) -> None:
    at = min(at, len(data))
    begin, end = character_at(data, at)
    assert (begin, end) == (at, at) or len(data[begin:end].decode()) == 1


@given(TEXTS, st.integers(1, 40))
def test_head_and_tail_of_a_long_text_are_whole_characters(text: str, bound: int) -> None:
    data = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "INLINE_OUTPUT_BYTES", bound)
        found = shortened(data, len(data))
    assert REPLACED not in found
    if len(data) <= bound:
        assert found == text
        return
    head, _, rest = found.partition("\n[… ")
    missing, _, tail = rest.partition(" bytes missing …]\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head.encode()) + int(missing) + len(tail.encode()) == len(data)
    assert len(head.encode()) + len(tail.encode()) > bound - 8


def test_a_text_of_three_byte_characters_is_shortened_without_a_replacement() -> None:
    data = ("日" * 600_000).encode()
    assert len(data) > INLINE_OUTPUT_BYTES
    assert REPLACED in data[: INLINE_OUTPUT_BYTES // 2].decode(errors="replace"), "a plain cut falls into a character"
    assert REPLACED not in shortened(data, len(data))


def test_invalid_utf8_output_is_replaced() -> None:
    assert shortened(b"a\xff\xe6", 3) == f"a{REPLACED}{REPLACED}"


class Appended:
    """The target of an :class:`OutputSink`."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def append(self, id: str, attempt: int, entries: list[tuple[str, bytes, bool]], token: str) -> bool:
        self.data += [data for _, data, _ in entries]
        return True


@given(TEXTS, st.integers(0, 100), st.integers(1, 9))
def test_the_bound_of_output_leaves_whole_characters(text: str, bound: int, step: int) -> None:
    stream, data = Appended(), text.encode()
    output = OutputSink(SimpleNamespace(output=stream), Claim("id", 1, b"", ""), bound)  # type: ignore[arg-type]
    for start in range(0, len(data), step):
        output.write("stdout", data[start : start + step])
        output.flush()
    output.finish()
    output.flush()
    kept = "".join(piece.decode() for piece in stream.data)  # each entry is text, as a live stream shows it
    assert text.startswith(kept)
    assert len(kept.encode()) > min(len(data), bound) - 4
    assert output.seen_bytes["stdout"] == len(data)


@pytest.mark.parametrize(("bound", "kept"), [(3, b"a\xe6\x97"), (2, b"a"), (1, b"a")])
def test_character_cut_off_by_the_program_is_kept(bound: int, kept: bytes) -> None:
    stream = Appended()
    output = OutputSink(SimpleNamespace(output=stream), Claim("id", 1, b"", ""), bound)  # type: ignore[arg-type]
    output.write("stdout", b"a\xe6\x97")
    output.finish()
    output.flush()
    assert b"".join(stream.data) == kept

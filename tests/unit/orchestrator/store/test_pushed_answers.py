"""Decoding any published result raises only errors that the API expects."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import NotFound
from orchestrator.store.malformed import MALFORMED
from orchestrator.store.output import entry_of
from orchestrator.store.scripts import FIELDS
from orchestrator.store.shown import decode_pushed_result

ID = "0" * 32
EXPECTED = (*MALFORMED, NotFound)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.binary(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=12
)
JSON = st.sampled_from([b"{}", b"[]", b"null", b'{"id": 1}', b"\xff", b"1e999", b'{"a": {"b": []}}'])
ROWS = st.lists(JSON | st.binary(max_size=10) | st.none(), min_size=len(FIELDS), max_size=len(FIELDS))


def reads_or_raises_what_is_expected(answer: bytes) -> None:
    try:
        decode_pushed_result(ID, answer)
    except EXPECTED:
        return


@given(st.binary(max_size=300))
def test_any_bytes_raise_only_the_declared_error(answer: bytes) -> None:
    reads_or_raises_what_is_expected(answer)


@given(VALUES)
def test_any_structure_raises_only_the_declared_error(value: Any) -> None:
    reads_or_raises_what_is_expected(msgpack.packb(value, strict_types=False))


@given(ROWS, st.lists(st.tuples(st.binary(max_size=9), st.lists(st.binary(max_size=9), max_size=8)), max_size=3))
def test_any_record_raises_only_the_declared_error(row: list[bytes | None], entries: list[Any]) -> None:
    reads_or_raises_what_is_expected(msgpack.packb([row, entries]))


@given(st.dictionaries(st.sampled_from([b"t", b"d", b"a", b"f", b"s"]), st.binary(max_size=30)))
def test_any_entry_raises_only_the_declared_error(fields: dict[bytes, bytes]) -> None:
    try:
        entry_of((b"1-1", fields))
    except MALFORMED:
        return


def test_malformed_pushed_result_raises() -> None:
    """The control: these functions do raise."""
    with pytest.raises(EXPECTED):
        decode_pushed_result(ID, b"\xc1")

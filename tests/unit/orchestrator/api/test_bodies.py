"""JSON bodies: a bound on values, and duplicate names."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.bodies import MAX_TOKENS, SMALL_BYTES, JsonBody, value_of
from orchestrator.api.door.uploads import Traffic
from orchestrator.errors import ValidationFailed
from orchestrator.models.submission import Submission
from orchestrator.settings import Settings
from orchestrator.tools.checking.sizes import FEW_SEPARATORS

SUBMISSION = JsonBody(Submission)
NAMES = st.text(max_size=3)
VALUES = st.recursive(st.none() | st.floats(allow_nan=False), lambda some: st.lists(some, max_size=3), max_leaves=5)


def body(text: str) -> bytes:
    """A submission with a text among its files."""
    return json.dumps({"environment": "python", "code": "1", "files": [{"path": "a", "content": text}]}).encode()


def test_separators_within_texts_are_no_values() -> None:
    text = "," * (2 * MAX_TOKENS)
    assert SUBMISSION.parse(body(text)).files[0].content == text


@pytest.mark.parametrize("value", ["[]", "{}", "1"])
def test_number_of_values_is_bounded_before_they_are_made(value: str) -> None:
    """Also where the first separators lie close together, and the rest far away."""
    for gap in ("", " " * 30 * FEW_SEPARATORS):
        many = f"[{f'{value},' * FEW_SEPARATORS}{gap}{f'{value},' * MAX_TOKENS}{value}]"
        with pytest.raises(ValidationFailed, match="has more than 1000000 values"):
            SUBMISSION.parse(f'{{"tools": {many}}}'.encode())


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4))
def test_exactly_duplicate_names_are_refused(pairs: list[tuple[str, object]]) -> None:
    text = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs)
    document = f'[{{"outer": {{{text}}}}}]'.encode()
    if len({name for name, _ in pairs}) == len(pairs):
        value_of(document)
    else:
        with pytest.raises(ValidationFailed, match=re.escape("appears twice in an object")):
            value_of(document)


def test_duplicate_is_found_by_its_meaning_and_named() -> None:
    with pytest.raises(ValidationFailed, match=r"^ab: ") as refused:
        value_of(rb'{"ab": 1, "a\u0062": 2}')
    assert refused.value.code == "duplicate_field"


class Slow(JsonBody[Submission]):
    """Parses a body when it is released."""

    def __init__(self) -> None:
        super().__init__(Submission)
        self.begun, self.released = 0, threading.Event()

    def parse(self, body: bytes) -> Submission:
        self.begun += 1
        assert self.released.wait(60)
        return super().parse(body)


async def read_two(traffic: Traffic, sent: bytes) -> int:
    """Read two bodies at once. Returns how many are being parsed while the first is not released."""
    slow, app = Slow(), SimpleNamespace(state=SimpleNamespace(parts=SimpleNamespace(traffic=traffic)))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(sent)).encode())]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": sent, "more_body": False}

    async def read(tenant: str) -> None:
        request = Request({"type": "http", "headers": headers, "app": app}, receive)
        async with slow.read(request, cast(Any, SimpleNamespace(tenant=tenant))) as (made, _):
            assert made.environment == "python"

    reads = [asyncio.create_task(read(tenant)) for tenant in ("a", "b")]
    while slow.begun < 2 and not traffic.places._single.statistics().tasks_waiting:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0)
    begun = slow.begun
    slow.released.set()
    await asyncio.gather(*reads)
    return begun


def test_bodies_that_may_take_long_are_parsed_one_at_a_time(tmp_path: Path) -> None:
    """The event loop waits for the interpreter's lock, and would wait for all that are parsed at once."""
    assert asyncio.run(read_two(Traffic(Settings(blob_dir=tmp_path)), body("x" * SMALL_BYTES))) <= 1

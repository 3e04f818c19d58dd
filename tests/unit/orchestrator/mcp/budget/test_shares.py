"""Shares of a view: sentences, files, results, images and binary output leave room to the others."""

from __future__ import annotations

import math
import re
from typing import get_args

import pytest

from orchestrator.mcp.budget import Carrier, Material, Stream, render
from orchestrator.mcp.budget.excerpts import BYTES_PER_BINARY_TOKEN
from orchestrator.mcp.budget.rendering import FEWEST_TOKENS, MOST_IMAGES
from orchestrator.models import Artifact
from orchestrator.models.results import OmittedResult, ResultBundle
from orchestrator.states import Reason

ID = "0123456789abcdef" * 2
NEEDLES = Stream.of(b"".join(b"needle %c%c\n" % (97 + n // 26, 97 + n % 26) for n in range(600)))


@pytest.mark.parametrize(("words", "is_shown"), [(60, True), (95, False)])
def test_sentence_that_takes_most_of_the_room_gives_way_to_output(words: int, is_shown: bool) -> None:
    material = Material(ID, "failed", explanation="word " * words, stdout=NEEDLES)
    shown = render(material, 130, "structured").structured["output"]
    assert ("word" in shown) is is_shown
    assert "needle" in shown


def test_many_files_leave_most_of_the_room_to_output() -> None:
    files = tuple(Artifact(path=f"{n}-{'name-' * 18}", size=7, media_type="text/plain", sha256="") for n in range(20))
    found = render(Material(ID, "succeeded", stdout=NEEDLES, artifacts=files), 300, "text").text
    assert "Files: 20 files" in found
    assert len(re.findall("^needle ..$", found, re.MULTILINE)) > 40


@pytest.mark.parametrize("carrier", get_args(Carrier))
@pytest.mark.parametrize("reason", Reason)
def test_least_budget_has_the_whole_end(reason: Reason, carrier: Carrier) -> None:
    text = Stream.of(b"{" * 9999)
    material = Material(
        ID, "errored", reason.value, "platform", 255, "SIGRTMIN+12", "why " * 99, stdout=text, stderr=text
    )
    found = render(material, FEWEST_TOKENS, carrier)
    assert found.tokens_returned <= FEWEST_TOKENS
    assert reason.value in found.text


def test_images_beyond_a_few_are_left_out() -> None:
    results = tuple(ResultBundle(source="display", data={"text/plain": "x", "image/png": "AAAA"}) for _ in range(6))
    assert len(render(Material(ID, "succeeded", results=results), 500, "text").images) == MOST_IMAGES == 4


def test_omitted_representation_of_a_result_is_named_with_its_reason() -> None:
    omitted = OmittedResult(media_type="image/png", size_bytes=9_000_000, reason="more than 8388608 bytes")
    result = ResultBundle(source="expression", data={"text/plain": "<Figure>"}, omitted=(omitted,))
    shown = render(Material(ID, "succeeded", results=(result,)), 500, "text").text
    assert "[image/png, 9,000,000 bytes, left out: more than 8388608 bytes]" in shown


def test_binary_output_is_withheld_as_a_whole() -> None:
    data = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100
    found = render(Material(ID, "succeeded", stdout=Stream.of(data)), 500, "text")
    assert f"[binary, image/png, {len(data):,} bytes" in found.text
    assert found.tokens_withheld == math.ceil(len(data) / BYTES_PER_BINARY_TOKEN)

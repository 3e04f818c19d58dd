"""For any output, text and structured content together are within the budget, and nothing raises."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.mcp.budget import Material, Stream, render
from orchestrator.mcp.budget.material import Carrier
from orchestrator.mcp.budget.rendering import allotted
from orchestrator.mcp.budget.tokens import encoding
from orchestrator.models import Artifact
from orchestrator.models.results import OmittedResult, ResultBundle

ID = "0123456789abcdef" * 2
CARRIERS: tuple[Carrier, ...] = ("text", "structured", "both")
PIECES = [
    b"a", b" ", b"\n", b"\r", b"\x1b[31m", b"<data>", b"</data>", b"{", b"}", b"[", b"1,", b'"', b"\\", b"\0", b"\xff",
    "é🙂".encode(), b"<|endoftext|>", b"word ", b"a,b,c\n", b"| a | b |\n|--|--|\n",
    b"Traceback (most recent call last):\n",
    b'  File "/usr/lib/python3/dist-packages/x.py", line 1, in f\n', b'{"a": 1}\n', b"epoch 1 loss 0.2\n",
]  # fmt: skip
OUTPUT = st.lists(st.tuples(st.sampled_from(PIECES), st.integers(1, 300)), max_size=30).map(
    lambda parts: b"".join(piece * times for piece, times in parts)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8), inner, max_size=8),
    max_leaves=60,
)
OMITTED = st.builds(OmittedResult, media_type=st.just("image/png"), size_bytes=st.just(5), reason=st.text())
FILE = st.builds(
    Artifact, path=st.text(max_size=300), size=st.just(7), media_type=st.just("text/plain"), sha256=st.just("")
)
RESULTS = st.lists(
    st.builds(
        ResultBundle,
        source=st.sampled_from(["named", "expression", "display"]),
        data=st.fixed_dictionaries(
            {"text/plain": st.text(max_size=2000)}, optional={"application/json": VALUES, "text/html": st.text()}
        ),
        omitted=st.lists(OMITTED, max_size=2).map(tuple),
    ),
    max_size=6,
).map(tuple)
MATERIALS = st.builds(
    Material,
    execution_id=st.just(ID),
    state=st.sampled_from(["succeeded", "failed", "running"]),
    reason=st.sampled_from([None, "timed_out", "nonzero_exit"]),
    fault=st.sampled_from([None, "user"]),
    exit_code=st.sampled_from([None, 0, 1, 137]),
    explanation=st.none() | st.text(max_size=3000),
    results=RESULTS,
    stdout=OUTPUT.map(Stream.of),
    stderr=OUTPUT.map(Stream.of),
    artifacts=st.lists(FILE, max_size=30).map(tuple),
    security=st.lists(st.text(max_size=400), max_size=6).map(tuple),
)


def cost(text: str, structured: Any) -> int:
    written = json.dumps(structured, ensure_ascii=False, separators=(",", ":"))
    return len(encoding().encode_ordinary(text)) + len(encoding().encode_ordinary(written))


@settings(max_examples=60)
@given(MATERIALS, st.integers(50, 900), st.sampled_from(CARRIERS))
def test_everything_together_is_within_the_budget(material: Material, budget: int, carrier: Carrier) -> None:
    rendered = render(material, budget, carrier)
    assert cost(rendered.text, rendered.structured) <= budget
    assert rendered.tokens_returned == cost(rendered.text, rendered.structured)
    assert rendered.tokens_withheld >= 0
    assert (material.reason or material.state) in rendered.text
    assert rendered.structured["execution_id"] == ID


@settings(max_examples=40)
@given(MATERIALS, st.integers(50, 900))
def test_no_output_opens_or_closes_the_frame(material: Material, budget: int) -> None:
    text = render(material, budget, "text").text
    assert text.count("<data from=") == text.count("</data>") <= 6
    inside = text.split("<data from=")[1:]
    assert all(part.count("</data>") == 1 for part in inside)


@settings(max_examples=30)
@given(st.integers(0, 40_000), st.integers(0, 40_000), st.integers(50, 600))
def test_streams_of_which_the_middle_is_missing(head: int, tail: int, budget: int) -> None:
    stream = Stream(b"begin\n" + b"x y\n" * head, b"x y\n" * tail + b"end\n", 10 * (head + tail) + 1000)
    rendered = render(Material(ID, "succeeded", stdout=stream), budget, "text")
    assert rendered.tokens_returned == cost(rendered.text, rendered.structured) <= budget
    assert rendered.tokens_withheld > 0


NOTE = re.compile(r"\[… (?:([\d,]+) lines, )?([\d,]+) bytes withheld: read_output stream=stdout offset=(\d+) …\]")


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 2500), min_size=1, max_size=400),
    st.integers(0, 9000),
    st.integers(100, 900),
    st.sampled_from(["x", "é", "🙂"]),
    st.booleans(),
)
def test_shown_and_withheld_parts_together_are_the_whole(
    widths: list[int], short: int, budget: int, letter: str, is_split: bool
) -> None:
    lines = [f"{n}{letter * width}{'ab'[n % 2]}" for n, width in enumerate(widths)] + [
        f"{n * n}!" for n in range(short)
    ]
    data = "".join(f"{line}\n" for line in lines).encode()
    keep = max(1, len(data) // 3)
    stream = Stream(data[:keep], data[-keep:], len(data)) if is_split else Stream.of(data)
    rendered = render(Material(ID, "succeeded", stdout=stream), budget, "text")
    shown = rendered.text.partition('<data from="stdout">\n')[2].partition("\n</data>")[0].encode()
    note = NOTE.search(shown.decode())
    if note is None:
        assert shown + b"\n" == data and rendered.tokens_withheld == 0
        return
    begin, size = int(note[3]), int(note[2].replace(",", ""))
    head, tail = shown.decode().split(note[0])
    assert rendered.tokens_withheld > 0
    assert data[:begin].removesuffix(b"\n") == head.encode().removesuffix(b"\n")
    assert data[begin + size :].removesuffix(b"\n") == tail.encode().removeprefix(b"\n")
    if note[1]:
        assert data[begin : begin + size].count(b"\n") == int(note[1].replace(",", ""))


def test_large_budgets_are_kept_too() -> None:
    text = "".join(f"{n} lorem ipsum {n * 7919 % 1000}\n" if n % 3 else f"{n}\n" for n in range(200_000))
    for carrier in CARRIERS:
        rendered = render(Material(ID, "succeeded", stdout=Stream.of(text.encode())), 25_000, carrier)
        assert cost(rendered.text, rendered.structured) <= 25_000


def lines(word: str) -> Stream:
    """More lines than any budget has room for, of one length, of which no two are alike."""
    named = (f"{word} {chr(97 + n // 676)}{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}\n" for n in range(3000))
    return Stream.of("".join(named).encode())


def test_sections_come_in_the_order_of_their_worth() -> None:
    results = tuple(
        ResultBundle(source=one, data={"text/plain": f"a {one}"}) for one in ("display", "expression", "named")
    )
    material = Material(ID, "failed", results=results, stdout=Stream.of(b"printed"), stderr=Stream.of(b"complained"))
    shown = render(material, 500, "text").text
    places = [shown.index(one) for one in ("a named", "a expression", "a display", "complained", "printed")]
    assert places == sorted(places)


@pytest.mark.parametrize(("state", "longer"), [("failed", "stderr"), ("succeeded", "stdout")])
def test_a_failed_program_shows_more_of_stderr_and_its_end_alone(state: str, longer: str) -> None:
    shown = render(Material(ID, state, stdout=lines("out"), stderr=lines("err")), 500, "text").text
    stderr, stdout = (re.findall(rf"^{word} .*$", shown, re.MULTILINE) for word in ("err", "out"))
    parts = {"stderr": "".join(stderr), "stdout": "".join(stdout)}
    assert max(parts, key=lambda name: len(parts[name])) == longer
    assert "err aab" not in stderr and "out aab" in stdout
    assert (stderr[-1], stdout[-1]) == ("err elj", "out elj")


def test_of_many_security_events_three_are_shown() -> None:
    security = tuple(f"Sentence {n}." for n in range(5))
    shown = render(Material(ID, "failed", security=security), 500, "text").text
    assert shown.count("Blocked: ") == 3
    assert "2 more security events: see get_execution." in shown


def test_no_budget_exceeds_the_bound_of_clients() -> None:
    words = " ".join(f"w{n}" for n in range(60_000)).encode()
    assert 20_000 < render(Material(ID, "succeeded", stdout=Stream.of(words)), 10**9, "text").tokens_returned <= 25_000


def test_lines_between_the_ends_are_counted_exactly() -> None:
    """Also where a newline stands at the end or the begin of a block that is counted at once."""
    line = b"x" * 1023
    for first in (b"", b"y"):
        data = first + (line + b"\n") * 3000
        shown = render(Material(ID, "succeeded", stdout=Stream.of(data)), 200, "text").text
        note = re.search(r"\[… ([\d,]+) lines, ([\d,]+) bytes withheld: read_output stream=stdout offset=(\d+)", shown)
        assert note is not None
        lines, size, begin = (int(number.replace(",", "")) for number in note.groups())
        assert lines == data[begin : begin + size].count(b"\n") > 2900


def test_small_output_is_shown_unchanged() -> None:
    rendered = render(Material(ID, "succeeded", exit_code=0, stdout=Stream.of(b"4\n")), 500, "text")
    assert rendered.text == 'succeeded\n<data from="stdout">\n4\n</data>'
    assert rendered.structured == {"execution_id": ID, "state": "succeeded", "exit_code": 0}
    assert rendered.tokens_withheld == 0


@pytest.mark.parametrize("carrier", CARRIERS)
def test_each_carrier_has_the_output_in_its_part(carrier: Carrier) -> None:
    rendered = render(Material(ID, "succeeded", stdout=Stream.of(b"needle\n")), 500, carrier)
    assert ("needle" in rendered.text) is (carrier != "structured")
    assert ("needle" in rendered.structured.get("output", "")) is (carrier != "text")


def test_a_sentence_that_repeats_the_explanation_is_left_out() -> None:
    explanation = "It was stopped after 5 s; pass limits.wall_seconds."
    security = ("It ran long. Ask for more with limits.wall_seconds.", "No network.", "Full: limits.disk_bytes.")
    text = render(Material(ID, "failed", "timed_out", explanation=explanation, security=security), 500, "text").text
    assert "It ran long" not in text and "Blocked: No network." in text and "limits.disk_bytes" in text
    assert "It ran long" in render(Material(ID, "failed", security=security), 500, "text").text


def test_the_id_is_where_the_model_reads_on() -> None:
    material = Material(ID, "succeeded", stdout=Stream.of(b"".join(b"%d\n" % n for n in range(9999))))
    assert f'read_output(execution_id="{ID}"' in render(material, 500, "text").text
    structured = render(material, 500, "structured").structured
    assert structured["execution_id"] == ID
    assert "offset=" in structured["output"] and ID not in structured["output"]


def test_fifty_tokens_show_the_end_of_stderr() -> None:
    stderr = Stream.of(b"working\n" * 1000 + b"ValueError: bad shape\n")
    rendered = render(Material(ID, "failed", "nonzero_exit", "user", 1, stderr=stderr), 50, "text")
    assert "bad shape" in rendered.text and rendered.tokens_returned <= 50


@pytest.mark.parametrize(
    ("needs", "weights", "room", "shares"),
    [
        ([10, 10], [1, 1], 100, [10, 10]),
        ([10, 500], [1, 1], 100, [10, 90]),
        ([500, 500], [3, 1], 100, [75, 25]),
        ([500, 20, 500], [5, 1, 4], 110, [55, 11, 44]),
        ([500], [1], -5, [0]),
    ],
)
def test_rooms_are_allotted_by_need_and_weight(
    needs: list[int], weights: list[float], room: int, shares: list[int]
) -> None:
    assert allotted(needs, weights, room) == shares

"""The view of 500 tokens of each program of the table, for a model, from materials recorded in containers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.mcp.budget import Material, Stream, load, render
from tests.builders.sandboxes.shown import PROGRAMS, faults, material_of, recorded

RECORDED = recorded()
ID = "0123456789abcdef" * 2
# Made when a test needs one: all together take half a second of each lane, and 140 MB.
MEGABYTES_10: dict[str, Callable[[], bytes]] = {
    "lines": lambda: b"".join(b"%d: request handled\n" % (n * 7919 % 10007) for n in range(400_000)),
    "numbers": lambda: b"".join(b"%d\n" % n for n in range(1_400_000)),
    "JSON": lambda: b"[" + b",".join(b'{"id": %d, "name": "user"}' % n for n in range(360_000)) + b"]",
    "CSV": lambda: b"a,b,c\n" + b"".join(b"%d,%d,x\n" % (n, n * n) for n in range(500_000)),
    "letter": lambda: b"a" * 10_000_000,
    "spaces": lambda: b" " * 10_000_000,
    "newlines": lambda: b"\n" * 10_000_000,
    "brackets": lambda: b"[" * 10_000_000,
    "quotes": lambda: b'["' + b'\\"' * 5_000_000,
    "escapes": lambda: b"\x1b[" * 5_000_000,
    "tags": lambda: b"<data " * 1_600_000,
    "carriage returns": lambda: b"x\r" * 5_000_000,
    "pipes": lambda: b"|-|" * 3_300_000,
    "frames": lambda: b'  File "/usr/lib/python3/x.py", line 1, in f\n' * 220_000,
}


def test_the_table_has_sixty_programs_and_a_material_of_each() -> None:
    assert len(PROGRAMS) >= 60
    assert {program["name"] for program in PROGRAMS} == RECORDED.keys()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program["name"])
def test_model_gets_the_needed_facts_within_500_tokens(program: dict[str, Any]) -> None:
    assert faults(program, material_of(RECORDED[program["name"]])) == []


def test_a_fault_is_found() -> None:
    program = {"name": "x", "contains": ["needle"], "lacks": ["hay"], "most": 30}
    found = faults(program, Material(ID, "succeeded", stdout=Stream.of(b"hay\n")))
    assert {"text has no 'needle'", "structured has no 'needle'"} <= set(found)
    assert {f"{carrier} has 'hay'" for carrier in ("text", "structured", "both")} <= set(found)
    assert [fault for fault in found if fault.endswith(" tokens")]


@pytest.mark.parametrize("make", MEGABYTES_10.values(), ids=MEGABYTES_10.keys())
def test_ten_megabytes_cost_as_little_as_a_fiftieth(make: Callable[[], bytes]) -> None:
    def seconds(shown: bytes) -> float:
        material = Material(ID, "failed", stdout=Stream.of(shown), stderr=Stream.of(shown))
        begin = time.thread_time()
        rendered = render(material, 500, "text")
        assert rendered.tokens_returned <= 500
        return time.thread_time() - begin

    load()
    data = make()
    small = min(seconds(data[:200_000]) for _ in range(3))
    large = min(seconds(data) for _ in range(3))
    assert large < 8 * small + 0.02  # in proportion it would be 50 times; the newlines of the whole are counted

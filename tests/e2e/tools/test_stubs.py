"""The stubs under ``/tools`` in real sandboxes: programs run them, and read the shape of earlier results."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.builders.tier import Tier
from tests.builders.tools.stack_tools import StackTools
from tests.harness import eventually

IMPORTING = """
import runpy
add, text = (runpy.run_path(f"/tools/test/{name}.py")[name] for name in ("add", "text"))
print(add(a=1, b=2), text(text="x"))
try:
    add(a=1)
except TypeError as error:
    print("missing" in str(error))
"""
READING = "print(open('/tools/test/text.py').read().count('def text(*, text: str) -> str:  # seen before'))"
READING_IN_NODE = "console.log(require('fs').readFileSync('/tools/test/text.d.ts', 'utf8'))"


@pytest.fixture
def tools(tier: Tier) -> Iterator[StackTools]:
    made = StackTools(tier.stack)
    yield made
    made.close()


def test_stubs_are_called_and_learn_shapes(tools: StackTools, tier: Tier) -> None:
    found = tools.run(IMPORTING, isolation=tier.isolation)
    assert (found["stdout"], found["stderr"]) == ("3 x\nTrue\n", "")
    assert [call["tool"] for call in found["tool_calls"]] == ["test.add", "test.text"]
    eventually(
        lambda: tools.run(READING, isolation=tier.isolation)["stdout"] == "1\n", "the stub has the shape that was seen"
    )
    node = tools.run(READING_IN_NODE, "node", isolation=tier.isolation)["stdout"]
    assert 'export function text(arguments: { "text": string }): Promise<string>;  // seen before' in node

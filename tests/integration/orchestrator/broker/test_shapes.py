"""A broker learns the shape of results that their tools do not promise, and of no others."""

from __future__ import annotations

from orchestrator.tools.grants import ALL
from orchestrator.tools.index.search import ToolIndex
from tests.builders.brokers import Brokers
from tests.harness import eventually


def test_shapes_of_untyped_results_are_learnt(brokers: Brokers) -> None:
    catalogue = brokers.ready()
    assert brokers.call("add", a=1, b=2).result == "3"
    assert brokers.call("text", text="a secret of a person").result == '"a secret of a person"'
    shapes = brokers.store.tools.shapes
    eventually(lambda: "test.text" in shapes.of("t").shapes, "the shape of a text is known")
    assert shapes.of("t").shapes == {"test.text": {"type": "string"}}
    index = ToolIndex([catalogue], (ALL,), shapes.of("t").shapes)
    tool = index.named("test.text")
    assert tool is not None
    assert index.signature(tool) == "test.text(text: str) -> str  # seen before"


def test_failed_call_changes_no_shape(brokers: Brokers) -> None:
    brokers.ready()
    assert brokers.call("fail").failure is not None
    brokers.call("text", text="x")
    shapes = brokers.store.tools.shapes
    eventually(lambda: bool(shapes.of("t").shapes), "the shape of a text is known")
    assert set(shapes.of("t").shapes) == {"test.text"}

"""Catalogues: which tools are taken, what changed, and what must be accepted first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.broker.links import definitions
from orchestrator.broker.upstreams import catalogue as catalogues
from orchestrator.broker.upstreams.catalogue import difference, digest, is_accepted, selected
from orchestrator.models.tool_servers import CatalogueChange, ToolServer
from orchestrator.models.tools import Catalogue, Tool

NOW = datetime.now(UTC)


def server(**fields: Any) -> ToolServer:
    return ToolServer(name="s", url="http://x/mcp", **fields)


def tools(*names: str, description: str = "") -> tuple[Tool, ...]:
    return tuple(Tool(server="s", name=name, description=description, input_schema={}) for name in names)


def listed(found: tuple[Tool, ...], accepted: bool = True) -> Catalogue:
    return catalogues.catalogue(server(), found, digest(found), 0, accepted, NOW)


def test_declaration_selects_tools_and_replaces_hints() -> None:
    chosen = selected(
        server(tools=["a", "c"], hints={"a": {"read_only": True, "destructive": False}}), tools("c", "b", "a")
    )
    assert [(tool.name, tool.hints.read_only, tool.hints.destructive) for tool in chosen] == [
        ("a", True, False),
        ("c", False, True),
    ]


def test_second_tool_of_a_name_is_not_taken() -> None:
    assert selected(server(), tools("a", description="1") + tools("a", description="2")) == tools("a", description="1")


def test_catalogue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogues, "MOST_TOOLS", 2)
    assert [tool.name for tool in selected(server(), tools("a", "b", "c"))] == ["a", "b"]
    monkeypatch.setattr(catalogues, "MOST_CATALOGUE", 500)
    assert len(selected(server(), tools("a", "b", description="x" * 200))) == 1
    assert definitions.MOST_TOOLS >= 1000


def test_digest_depends_on_tools_alone() -> None:
    assert digest(tools("a", "b")) == listed(tools("a", "b")).digest
    assert len({digest(tools("a")), digest(tools("b")), digest(tools("a", description="x")), digest(())}) == 4


def test_difference_names_the_changed_tools() -> None:
    before, after = listed(tools("a", "b")), listed(tools("b", description="new") + tools("c"))
    change = difference(before, after)
    assert change is not None
    assert (change.added, change.removed) == (("c",), ("a",))
    assert [(old.description, new.description) for old, new in change.changed] == [("", "new")]
    assert (change.before, change.after) == (before.digest, after.digest)
    assert difference(before, before) is None
    assert difference(None, after) is None


def test_difference_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may change megabytes again and again, and the store keeps each change."""
    long = "e" * 128
    before = listed(tools(*"ab") + tools("c", description="x" * 2000) + tools("d"))
    after = listed(tools("a", description="new") + tools("c", description="y" * 2000) + tools("d", "f", long))
    monkeypatch.setattr(catalogues, "MOST_CHANGE", 130 + 2 * len(after.tools[0].model_dump_json()))
    change = difference(before, after)
    assert change is not None
    assert [new.name for _, new in change.changed] == ["a"]
    assert (change.added, change.removed, change.left_out) == (("f", long), ("b",), 1)
    monkeypatch.setattr(catalogues, "MOST_CHANGE", 127)
    least = difference(before, after)
    assert least is not None
    assert (least.added, least.removed, least.changed, least.left_out) == (("f",), ("b",), (), 3)
    monkeypatch.undo()
    whole = difference(listed(tools(*"ab")), listed(tools("a", description="new")))
    assert whole is not None
    assert whole.left_out == 0


def test_left_out_definitions_are_reported() -> None:
    assert "2 definition(s) left out" in catalogues.catalogue(server(), (), digest(()), 2, True, NOW).detail


def test_quarantine_follows_the_accepted_catalogue() -> None:
    one, two, three = tools("a"), tools("a", "b"), tools("a", "b", "c")
    careful = server(quarantine=True)

    def accepted(found: tuple[Tool, ...], before: Catalogue | None, *history: CatalogueChange | None) -> bool:
        return is_accepted(careful, digest(found), before, [change for change in history if change])

    assert accepted(one, None), "the first catalogue is trusted"
    assert accepted(one, listed(one))
    assert not accepted(two, listed(one))
    held = listed(two, accepted=False)
    change = difference(listed(one), held)
    assert not accepted(two, held, change), "it stays in quarantine"
    later = difference(held, listed(three, accepted=False))
    assert not accepted(three, held, change)
    assert not accepted(two, listed(three, accepted=False), later, change)
    assert accepted(one, listed(three, accepted=False), later, change), "it returned to what was accepted"
    assert is_accepted(server(), digest(two), listed(one), ()), "without quarantine everything is"


def test_accepted_digest_decides() -> None:
    careful = server(quarantine=True, accepted=digest(tools("b")))
    assert is_accepted(careful, digest(tools("b")), listed(tools("a")), ())
    assert not is_accepted(careful, digest(tools("a")), None, ())

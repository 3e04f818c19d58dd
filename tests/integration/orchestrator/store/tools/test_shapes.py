"""Shapes of results: by tenant, bounded, cached until they change, and hints that no forger can make harmful."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.store import Store, keys
from orchestrator.store.tools import shapes
from orchestrator.store.tools.shapes import Seen

TEXT = {"type": "string"}


def test_shapes_are_read_again_only_when_they_change(store: Store) -> None:
    assert store.tools.shapes.of("t") == Seen()
    assert store.tools.shapes.put("t", "files.read", TEXT)
    found = store.tools.shapes.of("t")
    assert found.shapes == {"files.read": TEXT}
    assert store.tools.shapes.of("t") is found
    assert store.tools.shapes.put("t", "files.list", {"type": "array", "items": TEXT})
    assert set(store.tools.shapes.of("t").shapes) == {"files.read", "files.list"}
    assert store.tools.shapes.of("u") == Seen()


def test_number_and_size_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "MOST_SHAPES", 2)
    assert [store.tools.shapes.put("t", name, TEXT) for name in ("s.a", "s.b", "s.c", "s.a")] == [
        True, True, False, True,
    ]  # fmt: skip
    assert not store.tools.shapes.put("t", "s.a", {"title": "x" * shapes.MOST_CHARACTERS})
    assert store.tools.shapes.of("t").shapes == {"s.a": TEXT, "s.b": TEXT}


def test_shapes_of_results_expire(store: Store) -> None:
    store.tools.shapes.put("t", "s.a", TEXT)
    for key in (keys.tool_shapes("t"), keys.tool_shapes_version("t")):
        assert 0 < store.redis.ttl(key) <= shapes.KEPT_SECONDS


@pytest.mark.parametrize("forged", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"a": "' + b"x" * 40_000 + b'"}'])
def test_malformed_shapes_are_left_out(store: Store, forged: Any) -> None:
    store.tools.shapes.put("t", "s.a", TEXT)
    store.redis.hset(keys.tool_shapes("t"), "s.b", forged)
    assert store.tools.shapes.of("t").shapes == {"s.a": TEXT}

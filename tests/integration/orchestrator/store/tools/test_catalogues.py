"""Catalogues and declarations: cached until they change, and only with a valid seal."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.errors import TooManyToolServers
from orchestrator.models.tool_servers import CatalogueChange, ToolServer
from orchestrator.store import Store, keys
from orchestrator.store.tools import catalogues, servers
from tests.builders.records import KEY
from tests.builders.tool_calls import catalogue, declare, serving


def test_catalogue_is_read_again_only_after_a_change(store: Store) -> None:
    assert store.tools.catalogues.of("t") == ()
    git, files = catalogue("log", server="git"), catalogue("read")
    assert store.tools.catalogues.put("t", git)
    assert store.tools.catalogues.put("t", files)
    found = store.tools.catalogues.of("t")
    assert found == (files, git)
    assert store.tools.catalogues.of("t") is found
    store.tools.catalogues.put("t", catalogue("write"))
    assert [tool.name for tool in store.tools.catalogues.of("t")[0].tools] == ["write"]
    assert store.tools.catalogues.of("u") == ()


def test_tenants_whose_catalogues_changed_equally_often_have_their_own(store: Store) -> None:
    for tenant, tool in (("t", "read"), ("u", "write")):
        assert store.tools.catalogues.put(tenant, catalogue(tool))
    found = [store.tools.catalogues.of(tenant) for tenant in ("t", "u")]
    assert [[tool.name for tool in one.tools] for [one] in found] == [["read"], ["write"]]


def test_only_the_broker_that_serves_an_upstream_writes_its_catalogue(store: Store) -> None:
    serving(store)
    assert not store.tools.catalogues.put("t", catalogue("read"), broker="c")
    assert store.tools.catalogues.of("t") == ()
    assert store.tools.catalogues.put("t", catalogue("read"), broker="b")


def test_changes_are_kept_with_their_difference(store: Store) -> None:
    [before], [after] = catalogue("read").tools, catalogue("read", idempotent=True).tools
    change = CatalogueChange(
        server="files", at=datetime.now(UTC), before="1", after="2", added=("write",), changed=((before, after),)
    )
    later = change.model_copy(update={"before": "2", "after": "3"})
    for one in (change, later):
        store.tools.catalogues.put("t", catalogue("read"), change=one)
    assert store.tools.catalogues.history("t") == (later, change)
    assert store.tools.catalogues.history("t", 1) == (later,)
    assert store.tools.catalogues.history("u") == ()


def test_history_is_bounded_in_number(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogues, "MOST_CHANGES", 3)
    for number in range(200):
        change = CatalogueChange(server="files", at=datetime.now(UTC), before=str(number), after=str(number + 1))
        store.tools.catalogues.put("t", catalogue("read"), change=change)
    assert [change.after for change in store.tools.catalogues.history("t")] == ["200", "199", "198"]


def test_removed_server_has_no_catalogue(store: Store) -> None:
    declare(store, "files")
    store.tools.catalogues.put("t", catalogue("read", idempotent=True))
    assert len(store.tools.catalogues.of("t")) == 1
    assert store.tools.servers.remove("t", "files")
    assert store.tools.catalogues.of("t") == ()
    assert not store.redis.exists(keys.tool_idempotent("t/files"))
    assert not store.tools.servers.remove("t", "files")


def test_declarations_are_per_tenant_and_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ToolServer(name="git", url="https://git.example/mcp", secret="git")
    before = store.tools.servers.version()
    store.tools.servers.put("t", server, KEY)
    assert store.tools.servers.version() != before
    assert store.tools.servers.of("t", KEY) == (server,)
    assert store.tools.servers.get("t", "git", KEY) == server
    assert store.tools.servers.of("u", KEY) == ()
    assert store.tools.servers.get("u", "git", KEY) is None
    monkeypatch.setattr(servers, "MOST_SERVERS", 1)
    with pytest.raises(TooManyToolServers):
        declare(store, "files")
    store.tools.servers.put("t", server.model_copy(update={"concurrency": 2}), KEY)
    [found] = store.tools.servers.of("t", KEY)
    assert found.concurrency == 2


def test_unchanged_declaration_is_no_change(store: Store) -> None:
    declare(store, "files")
    before = store.tools.servers.version()
    declare(store, "files")
    assert store.tools.servers.version() == before


def test_declaration_without_a_valid_seal_is_left_out(store: Store) -> None:
    declare(store, "files", "git")
    sealed = store.redis.hget(keys.tool_servers("t"), "files")
    store.redis.hset(keys.tool_servers("t"), "files", sealed.replace(b"127.0.0.1", b"evil.test"))
    store.redis.hset(keys.tool_servers("u"), "git", store.redis.hget(keys.tool_servers("t"), "git"))
    store.redis.hset(keys.tool_servers("t"), "other", store.redis.hget(keys.tool_servers("t"), "git"))
    assert [server.name for server in store.tools.servers.of("t", KEY)] == ["git"]
    assert store.tools.servers.get("t", "other", KEY) is None
    assert store.tools.servers.of("u", KEY) == ()
    assert store.tools.servers.of("t", b"another key") == ()

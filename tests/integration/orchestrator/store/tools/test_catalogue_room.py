"""The share of Redis that a tenant's catalogues, the history of their changes and shapes take from its executions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator import queue
from orchestrator.errors import StoreFull, TenantStoreFull
from orchestrator.models.tool_servers import CatalogueChange
from orchestrator.models.tools import Catalogue
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from orchestrator.store.executions.records import QueueBounds
from orchestrator.store.executions.sealing import seal
from orchestrator.store.tools.shapes import MOST_CHARACTERS, MOST_SHAPES
from tests.builders.records import KEY, specification
from tests.builders.tool_calls import catalogue, declare
from tests.harness import RedisServer, eventually

MIB = 2**20


@pytest.fixture(scope="module")
def small_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--maxmemory", "32mb")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def small(small_redis: RedisServer, tmp_path: Path) -> Iterator[Store]:
    """A store of 32 MB, of which a tenant may have 14.4."""
    store = open_store(Settings(state_dir=tmp_path, redis_url=small_redis.url))
    store.redis.flushall()
    yield store
    store.redis.close()


def large(server: str, mebibytes: float, **fields: object) -> Catalogue:
    """A catalogue whose description has so many MiB."""
    made = catalogue("read", server=server)
    tool = made.tools[0].model_copy(update={"description": "x" * int(mebibytes * MIB)})
    return made.model_copy(update={"tools": (tool,), **fields})


def charged(store: Store) -> int:
    return int(store.redis.get(keys.tenant_catalogues("t")) or 0)


def test_catalogue_beyond_the_tenants_share_is_refused_and_others_are_written(small: Store) -> None:
    put = small.tools.catalogues.put
    for number in range(4):
        assert put("t", large(f"s{number}", 3))
    assert 12 * MIB <= charged(small) < 13 * MIB
    with pytest.raises(TenantStoreFull, match="catalogue has 3146") as refused:
        put("t", large("s4", 3))
    assert refused.value.code == "tenant_store_full"
    assert [found.server for found in small.tools.catalogues.of("t")] == ["s0", "s1", "s2", "s3"]
    assert put("u", large("s4", 3)), "another tenant has its own share"
    assert put("t", large("s0", 3, state="down", detail="it ended")), "a server's state is always written"
    assert put("t", large("s0", 1)), "a smaller catalogue has room"

    def fits() -> bool:  # Redis's free memory is read twice a second
        try:
            return put("t", large("s4", 2))
        except TenantStoreFull:
            raise
        except StoreFull:
            return False

    eventually(fits, "the share has room for two MiB")


def test_submission_beyond_the_share_is_refused_until_the_server_is_removed(small: Store) -> None:
    declare(small, "s0")
    small.tools.catalogues.put("t", large("s0", 3))

    def submit() -> None:
        made = specification("t")
        bounds = QueueBounds(1000, 1000, 3 * MIB)
        small.records.submit(made, *seal(made, KEY), queue.envelope(made), bounds, None)

    with pytest.raises(TenantStoreFull):
        submit()
    assert small.tools.servers.remove("t", "s0")
    assert charged(small) == 0
    submit()


def test_history_of_changes_counts(small: Store) -> None:
    names = tuple(f"{n:0128}" for n in range(400))
    for number in range(50):
        change = CatalogueChange(
            server="files", at=datetime.now(UTC), before=str(number), after=str(number + 1), added=names
        )
        small.tools.catalogues.put("t", catalogue("read"), change=change)
    real = small.redis.memory_usage(keys.tool_history("t"), samples=0)
    assert real > 2 * MIB
    assert real <= charged(small) < real + 10_000


def shaped(store: Store) -> int:
    return int(store.redis.get(keys.tenant_shapes("t")) or 0)


def test_shapes_count_and_are_refused_beyond_the_share(small: Store) -> None:
    large_shape = {"title": "x" * (MOST_CHARACTERS - 100)}
    put = small.tools.shapes.put
    assert put("t", "s.a", large_shape)
    before = shaped(small)
    assert before == small.redis.memory_usage(keys.tool_shapes("t"), samples=0) > MOST_CHARACTERS - 100
    assert put("t", "s.a", {}), "a smaller shape in its place"
    assert 0 < shaped(small) < before
    assert 0 < small.redis.ttl(keys.tenant_shapes("t")) <= small.redis.ttl(keys.tool_shapes("t"))
    for number in range(4):
        assert small.tools.catalogues.put("t", large(f"s{number}", 3))
    written = [name for name in (f"s.{n}" for n in range(MOST_SHAPES)) if put("t", name, large_shape)]
    assert 100 < len(written) < MOST_SHAPES
    assert set(small.tools.shapes.of("t").shapes) == {"s.a", *written}
    assert charged(small) + shaped(small) <= 0.45 * 32 * MIB + 100_000
    assert put("u", "s.a", large_shape), "another tenant has its own share"
    with pytest.raises(TenantStoreFull):
        small.tools.catalogues.put("t", large("s4", 1))


def test_shapes_of_a_tenant_have_at_most_the_documented_bytes(store: Store) -> None:
    """`docs/redis.md` has the number."""
    for number in range(MOST_SHAPES):
        store.tools.shapes.put("t", f"server.{number:0121}", {"title": "x" * (MOST_CHARACTERS - 14)})
    assert len(store.tools.shapes.of("t").shapes) == MOST_SHAPES
    assert 8 * MIB < shaped(store) <= 11 * MIB

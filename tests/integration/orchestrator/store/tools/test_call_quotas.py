"""The quota of calls a day: one count of the calls of programs and of clients, by tenant and by API key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.models.fleet import Switch
from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from tests.builders.records import KEY
from tests.builders.tool_calls import running, serving, submitted, taken, tool_call

UP = "tool_quota_exceeded"


def direct(store: Store, key: str | None = None, tenant: str = "t") -> str | None:
    """The code of a client's call, if it was settled at once."""
    return _code(store, submitted(store, key=key, tenant=tenant))


def from_program(store: Store, by: tuple[str, int]) -> str | None:
    return _code(store, submitted(store, execution=by[0], attempt=by[1]))


def _code(store: Store, id: str) -> str | None:
    found = dict(store.tools.calls.answered("me", 0)).get(id)
    return found.failure.code if found is not None and found.failure is not None else None


def test_calls_of_programs_and_clients_are_counted_together(store: Store) -> None:
    serving(store)
    store.quotas.put_tenant("t", TenantQuotas(tool_calls_per_day=3))
    by = running(store)
    assert [direct(store), from_program(store, by), direct(store)] == [None] * 3
    assert [direct(store), from_program(store, by)] == [UP, UP]
    assert len(taken(store)) == 3, "what is refused reaches no broker"
    assert direct(store, tenant="u") != UP, "another tenant has its own"
    assert store.quotas.use_of_tenant("t").tool_calls == 3
    store.redis.hincrby(keys.tenant_counters("t"), "calls_day", -1)  # and then it is midnight
    assert store.quotas.use_of_tenant("t").tool_calls == 0
    assert direct(store) is None
    assert store.redis.hget(keys.execution(by[0]), "called") == b"1"


def test_refused_call_does_not_keep_an_attempt_from_being_repeated(store: Store) -> None:
    serving(store)
    store.quotas.put_tenant("t", TenantQuotas(tool_calls_per_day=0))
    by = running(store)
    assert from_program(store, by) == UP
    assert store.redis.hget(keys.execution(by[0]), "called") is None


def test_key_has_a_quota_of_its_own_for_its_programs_and_its_calls(store: Store) -> None:
    serving(store)
    store.quotas.put_key("k1", KeyQuotas(tool_calls_per_day=2))
    by = running(store)
    store.redis.hset(keys.execution(by[0]), "key", "k1")
    assert [direct(store, "k1"), from_program(store, by), direct(store, "k1")] == [None, None, UP]
    assert from_program(store, by) == UP
    assert [direct(store, "k2"), direct(store)] == [None, None]
    assert store.quotas.use_of_key("k1").tool_calls == 2
    assert store.quotas.use_of_tenant("t").tool_calls == 4, "a call that the key refuses is not the tenant's either"


def test_call_that_is_sent_again_counts_once(store: Store) -> None:
    serving(store)
    call = tool_call()
    for _ in range(3):
        store.tools.calls.submit(call, KEY)
    assert store.quotas.use_of_tenant("t").tool_calls == 1


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (lambda store: None, UP),
        (lambda store: store.quotas.put_tenant("t", TenantQuotas(queued=5)), UP),
        (lambda store: store.quotas.put_tenant("t", TenantQuotas(tool_calls_per_day=None)), None),
        (lambda store: store.quotas.put_tenant("t", TenantQuotas(tool_calls_per_day=2)), None),
        (lambda store: store.redis.hset(keys.QUOTAS, "tt", "01234567 tool_calls_per_day {"), UP),
    ],
    ids=["none", "others", "null", "own", "unreadable"],
)
def test_tenant_without_a_quota_of_its_own_has_the_installations(
    store: Store, tmp_path: Path, own: Callable[[Store], object], expected: str | None
) -> None:
    url = f"unix://{store.redis.connection_pool.connection_kwargs['path']}"
    defaults = open_store(Settings(state_dir=tmp_path, redis_url=url, tenant_quotas=TenantQuotas(tool_calls_per_day=1)))
    serving(store)
    own(store)
    assert direct(defaults) is None
    assert direct(defaults) == expected
    defaults.redis.close()


def test_call_fails_at_once_while_tools_are_switched_off(store: Store) -> None:
    serving(store)
    by = running(store)
    store.switches.put(Switch(feature="tools", enabled=False))
    assert [direct(store), from_program(store, by)] == ["tool_unavailable"] * 2
    assert (len(taken(store)), store.quotas.use_of_tenant("t").tool_calls) == (0, 0)
    store.switches.put(Switch(feature="tools"))
    assert [direct(store), from_program(store, by)] == [None] * 2

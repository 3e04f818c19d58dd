"""The number of the data's schema, and which processes may use the data."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orchestrator.store import Store, keys
from orchestrator.store.platform.presence import Presence
from orchestrator.store.platform.schema import NUMBER, Process, Schema

API, WORKER = (Process("x", kind, "v", NUMBER) for kind in ("api", "worker"))


@pytest.fixture
def schema(store: Store) -> Schema:
    return store.schema


def test_new_data_gets_the_schema_of_the_first_process(schema: Schema, store: Store) -> None:
    assert schema.announce(API) == (NUMBER, None, True)
    assert store.redis.hget(keys.SCHEMA, "number") == b"%d" % NUMBER
    assert schema.state().processes == (API,)
    schema.leave(API)
    assert schema.state().processes == ()


@pytest.mark.parametrize("name", [keys.API_KEYS, keys.USERS])
def test_data_with_records_of_version_0_1_0_has_the_first_schema(schema: Schema, store: Store, name: str) -> None:
    store.redis.hset(name, "a", "{}")
    assert schema.announce(API) == (1, None, False)
    assert schema.state().processes == (), "a process that waits writes nothing"
    assert not store.redis.exists(keys.SCHEMA)
    assert schema.announce(WORKER).is_given, "schema 2 does not concern workers"


@pytest.mark.parametrize(
    ("number", "target", "kinds", "process", "is_given"),
    [
        (NUMBER, None, {}, API, True),
        (NUMBER, NUMBER - 1, {}, API, False),
        (NUMBER, NUMBER + 1, {NUMBER + 1: "worker,broker"}, API, True),
        (NUMBER, NUMBER + 1, {NUMBER + 1: "worker,api"}, API, False),
        (NUMBER + 1, None, {NUMBER + 1: "worker"}, API, True),
        (NUMBER + 1, None, {NUMBER + 1: "worker"}, WORKER, False),
        (NUMBER + 1, None, {}, API, False),
        (NUMBER + 2, None, {NUMBER + 1: "worker"}, API, False),
        (NUMBER + 2, None, {NUMBER + 1: "worker", NUMBER + 2: "broker"}, API, True),
    ],
)
def test_process_may_use_schemas_that_do_not_concern_its_kind(
    schema: Schema,
    store: Store,
    number: int,
    target: int | None,
    kinds: dict[int, str],
    process: Process,
    is_given: bool,
) -> None:
    fields = {
        "number": number,
        **({"target": target} if target else {}),
        **{f"kinds{at}": k for at, k in kinds.items()},
    }
    store.redis.hset(keys.SCHEMA, mapping=fields)
    assert schema.announce(process).is_given is is_given
    assert schema.state().processes == ((process,) if is_given else ())


@pytest.mark.parametrize("damage", [("DEL",), ("HSET", "number", "x"), ("HSET", "number", "0"), ("SET", "x")])
def test_process_mends_a_known_number(schema: Schema, store: Store, damage: Sequence[str]) -> None:
    store.redis.hset(keys.USERS, "a", "{}")  # so that data without a number has the first schema
    schema.end(NUMBER)
    assert schema.announce(API, NUMBER).is_given
    store.redis.execute_command(damage[0], keys.SCHEMA, *damage[1:])
    assert schema.announce(API, NUMBER) == (NUMBER, None, True)
    assert schema.state().number == NUMBER


def test_malformed_leases_are_replaced(schema: Schema, store: Store) -> None:
    store.redis.set(keys.PROCESSES, "x")
    assert schema.state().processes == ()
    assert schema.announce(API).is_given
    store.redis.zadd(keys.PROCESSES, {"{": 2**40, "{}": 2**40})
    assert schema.state().processes == (API,)


def test_lease_of_a_silent_process_ends(schema: Schema, store: Store) -> None:
    schema.announce(API)
    store.redis.zadd(keys.PROCESSES, {store.redis.zrange(keys.PROCESSES, 0, -1)[0]: 1})
    assert schema.state().processes == ()
    schema.announce(WORKER)
    assert store.redis.zcard(keys.PROCESSES) == 1


def test_presence_gives_the_reason(schema: Schema, store: Store) -> None:
    presence = Presence(schema, API)
    assert not presence.is_valid()
    assert presence.look() is None
    assert presence.is_valid()
    schema.begin(NUMBER, NUMBER - 1, 0, ("api",))
    reason = presence.look()
    assert reason is not None
    assert reason.code == "migrating"
    assert f"schema {NUMBER}, and a migration to {NUMBER - 1} has begun" in reason.message

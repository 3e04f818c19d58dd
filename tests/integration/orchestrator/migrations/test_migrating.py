"""Migrations of real data: forward, back, and continued after a kill at any command to Redis."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.backup.creation.lease import BackupLease
from orchestrator.backup.errors import BackupError
from orchestrator.cli import app
from orchestrator.errors import Unauthenticated
from orchestrator.identity.api_keys import ApiKeys, NewKey
from orchestrator.identity.tenants import Records
from orchestrator.identity.users import NewUser
from orchestrator.identity.users.records import Users
from orchestrator.migrations import Migration, checking, next_stop
from orchestrator.migrations.applying import MigrationRefused, migrate
from orchestrator.migrations.checking import check
from orchestrator.migrations.context import Context
from orchestrator.migrations.upgrading import opened, upgrade
from orchestrator.models.tenants.records import Tenant
from orchestrator.settings import PREFIX, Settings, create_secret_file
from orchestrator.store import Store, keys, open_store
from orchestrator.store.connection import StoreConnection
from orchestrator.store.platform.schema import NUMBER, Process
from tests.builders.processes.workers import heartbeat

HASHES = (keys.API_KEYS, keys.USERS, keys.USER_PASSWORDS)
API = Process("a", "api", "0.2.0", 2)
KILLED = -signal.SIGKILL


@pytest.fixture
def context(settings: Settings, store: Store) -> Context:
    """An installation with two keys and two users, one of which must change its password."""
    create_secret_file(settings.secret_path)
    Records(store).put(b"", Tenant(id="t"), "")
    for name in ("one", "two"):
        ApiKeys(store, None, settings.secret()).create(NewKey(name=name, tenant="t", scopes=("mcp",)))
        wanted = NewUser(name=name, roles=("developer",), password="not stored", must_change_password=name == "two")
        Users(store, settings.secret()).create(wanted, f"$argon2id${name}", "key:admin", None, lambda id: "")
    store.schema.end(NUMBER)
    return Context(store, settings)


def stored(context: Context) -> dict[str, dict[bytes, bytes]]:
    return {name: context.store.redis.hgetall(name) for name in HASHES}


def in_a_child(call: Callable[[], Any]) -> int:
    """Call in a forked process; how it ended, as of ``subprocess``."""
    pid = os.fork()
    if pid == 0:
        try:
            call()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(command: int, settings: Settings, wanted: int) -> int:
    """Migrate in a process that is killed before it sends that command to Redis; how the process ended."""

    def run() -> None:
        sent = 0
        exchange = StoreConnection._exchange

        def counted(self: StoreConnection, *args: Any) -> Any:
            nonlocal sent
            sent += 1
            if sent == command:
                os.kill(os.getpid(), signal.SIGKILL)
            return exchange(self, *args)

        StoreConnection._exchange = counted  # type: ignore[method-assign,assignment] # in this process alone
        upgrade(settings, wanted)

    return in_a_child(run)


def test_data_of_the_first_schema_is_sealed_and_unsealed(context: Context) -> None:
    sealed = stored(context)
    assert check(context).found == NUMBER
    assert upgrade(context.settings, 1) == NUMBER
    old = stored(context)
    assert check(context).found == 1
    assert not context.settings.sealed_path.exists()
    assert {record[:1] for records in old.values() for record in records.values()} == {b"{", b"$"}
    users = [json.loads(record) for record in old[keys.USERS].values()]
    assert [user for user in users if "must_change_password" in user] == []  # version 0.1.0 refuses unknown fields
    context.store.redis.delete(keys.SCHEMA)  # as version 0.1.0 leaves it
    assert upgrade(context.settings) == 1
    assert context.settings.sealed_path.exists()
    again = stored(context)
    assert again[keys.API_KEYS] == sealed[keys.API_KEYS]
    assert again[keys.USER_PASSWORDS] == sealed[keys.USER_PASSWORDS]
    assert {user.name for user in Users(context.store, context.settings.secret()).page(10, None)[0]} == {"one", "two"}
    assert upgrade(context.settings) == NUMBER, "a repetition changes nothing"
    assert stored(context) == again


def put_back(context: Context, before: dict[str, dict[bytes, bytes]], *, is_marked: bool) -> None:
    """The data as it was before a migration."""
    with context.store.redis.pipeline() as pipe:
        for name, fields in before.items():
            pipe.delete(name)
            pipe.hset(name, mapping=fields)
        pipe.execute()
    context.settings.sealed_path.unlink(missing_ok=True)
    if is_marked:
        context.settings.sealed_path.touch()


@pytest.mark.thorough
@pytest.mark.parametrize("wanted", [NUMBER, 1])
def test_migration_killed_at_any_command_continues(context: Context, wanted: int) -> None:
    other = 1 if wanted == NUMBER else NUMBER
    for schema in (1, NUMBER, wanted):
        upgrade(context.settings, schema)
    aim = stored(context)
    upgrade(context.settings, other)
    before = {name: context.store.redis.hgetall(name) for name in (*HASHES, keys.SCHEMA)}
    kills = 0
    for command in range(1, 200):
        put_back(context, before, is_marked=other == NUMBER)
        how = killed_at(command, context.settings, wanted)
        upgrade(context.settings, wanted)
        assert (stored(context), check(context).found, check(context).target) == (aim, wanted, None), command
        if how != KILLED:
            break
        kills += 1
    assert kills > 20


def test_migration_that_was_interrupted_is_completed_before_the_way_back(context: Context) -> None:
    sealed = stored(context)
    upgrade(context.settings, 1)
    old = stored(context)
    context.store.schema.begin(1, 2, 0, ("api",))
    found = {name: dict(records) for name, records in old.items()}
    id = next(iter(old[keys.API_KEYS]))
    context.store.redis.hset(keys.API_KEYS, id, sealed[keys.API_KEYS][id])  # the first of two keys
    assert found != stored(context)
    upgrade(context.settings, 1)
    assert stored(context) == old


def test_way_back_makes_no_forged_record_valid(context: Context) -> None:
    redis = context.store.redis
    id, record = next(iter(redis.hgetall(keys.USERS).items()))
    forged = record.partition(b" ")[2]
    redis.hset(keys.USERS, "forged", forged)
    redis.hset(keys.USERS, "copied", record)
    redis.hset(keys.API_KEYS, "forged", "{}")
    upgrade(context.settings, 1)
    assert b"forged" not in redis.hgetall(keys.USERS)
    assert b"copied" not in redis.hgetall(keys.USERS)
    assert b"forged" not in redis.hgetall(keys.API_KEYS)
    assert json.loads(redis.hget(keys.USERS, id) or b"")["id"] == id.decode()


def test_marked_installation_seals_no_record_of_a_writer(context: Context) -> None:
    upgrade(context.settings)
    secret = context.settings.secret()
    [key, _] = ApiKeys(context.store, None, secret).page(10, None)[0]
    context.store.redis.hset(keys.API_KEYS, key.id, key.model_dump_json())
    context.store.redis.delete(keys.SCHEMA)
    assert upgrade(context.settings) == 1
    assert key.id not in {one.id for one in ApiKeys(context.store, None, secret).page(10, None)[0]}


def steps_of(done: list[str], number: int) -> Migration:
    """A migration that only records its steps."""

    def step(name: str) -> tuple[str, Callable[[Context], None]]:
        return name, lambda context: done.append(name)

    forward, back = [step(f"{number}a"), step(f"{number}b")], [step(f"-{number}a"), step(f"-{number}b")]
    return Migration(number, f"to {number}", ("api",), forward, back, lambda context: 0)


def test_several_migrations_are_made_in_order_and_recorded(context: Context) -> None:
    done: list[str] = []
    known = [steps_of(done, number) for number in (3, 4)]
    context.store.schema.end(2)
    assert migrate(context, 4, migrations=known) == 2
    assert done == ["3a", "3b", "4a", "4b"]
    assert migrate(context, 2, migrations=known) == 2
    assert done[4:] == ["-4a", "-4b", "-3a", "-3b"]
    assert migrate(context, 2, migrations=known) == 0
    texts = [text for _, text in context.store.schema.logged()]
    assert texts[:4] == ["begin 2 to 3: to 3", "step 2 to 3: 3a", "step 2 to 3: 3b", "end 2 to 3"]


def test_migration_killed_before_its_end_is_recorded_repeats_no_step(context: Context) -> None:
    done: list[str] = []
    known, schema, texts = [steps_of(done, 3)], context.store.schema, []

    def progress(text: str) -> None:
        texts.append(text)
        assert len(texts) < 10, f"a migration without an end begins again: {texts}"

    def run() -> None:
        with opened(context.settings) as own:
            own.store.schema.end = lambda number: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
            migrate(own, 3, progress, known)

    assert in_a_child(run) == KILLED
    assert schema.state()[:3] == (2, 3, 2), "both steps are recorded, and the end is not"
    assert migrate(context, 3, progress, known) == 1
    assert (done, schema.state()[:3]) == ([], (3, None, 0))
    assert schema.logged()[-1][1] == "end 2 to 3"


def test_migration_waits_for_concerned_processes(context: Context) -> None:
    done: list[str] = []
    known = [steps_of(done, 3)]
    context.store.schema.end(2)
    worker = API._replace(id="w", kind="worker")
    assert all(context.store.schema.announce(one).is_given for one in (API, worker))
    with pytest.raises(MigrationRefused, match=r"api a \(version 0.2.0\)"):
        migrate(context, 3, migrations=known, patience_seconds=0)
    assert done == []
    assert context.store.schema.announce(API).is_given, "a migration that did not begin is taken back"

    def progress(text: str) -> None:
        if text.startswith("waiting"):
            assert not context.store.schema.announce(API).is_given, "a migration has begun"
            assert context.store.schema.announce(worker).is_given, "it does not concern workers"
            context.store.schema.leave(API)

    assert migrate(context, 3, progress, known, patience_seconds=0) == 1
    assert not context.store.schema.announce(API).is_given, "its version does not know schema 3"
    assert context.store.schema.announce(worker).is_given, "the data declares that workers may continue"
    assert context.store.schema.announce(API._replace(schema=3)).is_given


def test_migration_without_its_lease_stops_before_the_next_step(context: Context) -> None:
    done: list[str] = []
    known, redis = [steps_of(done, 3)], context.store.redis
    context.store.schema.end(2)

    def progress(text: str) -> None:
        if text.endswith("3a"):
            redis.set(keys.BACKUP, "another", ex=60)

    with pytest.raises(BackupError, match=r"lost the migration's lease.* repeat the command"):
        migrate(context, 3, progress, known)
    assert (done, context.store.schema.state().step) == (["3a"], 1)
    redis.delete(keys.BACKUP)
    assert migrate(context, 3, migrations=known) == 1
    assert done == ["3a", "3b"]


def test_backup_and_migration_exclude_each_other(context: Context) -> None:
    with BackupLease(context.store.deletions, "a backup"), pytest.raises(BackupError):
        migrate(context, 1)
    assert check(context).found == NUMBER


def test_check_names_each_obstacle(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def codes(**changes: Any) -> list[str]:
        return [
            refusal.code
            for refusal in check(context._replace(settings=context.settings.model_copy(update=changes))).refusals
        ]

    assert codes(disk_free_bytes=2**60) == [], "nothing is to be written"
    upgrade(context.settings, 1)
    assert codes() == []
    heartbeat(context.store, "w")
    assert context.store.redis.expire(keys.worker("w"), 3600)
    assert [one.kind for one in check(context).processes] == ["worker"], "of a version without leases"
    assert codes() == [], "the migration does not concern workers"
    assert codes(disk_free_bytes=2**60) == ["disk_full", "disk_full"]
    redis = context.store.redis
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 2**20)
    try:
        assert codes() == ["redis_full"]
    finally:
        redis.config_set("maxmemory", 0)
    other = open_store(context.settings)
    subscription = other.redis.pubsub()
    subscription.subscribe(keys.ENDED)
    assert subscription.get_message(timeout=10) is not None
    try:
        assert codes() == ["old_processes"]
        with pytest.raises(MigrationRefused, match=r"before 0\.2\.0"):
            upgrade(context.settings)
    finally:
        subscription.close()
        other.redis.close()
    redis.hset(keys.SCHEMA, "number", 9)
    assert codes() == ["schema_newer"]
    redis.hset(keys.SCHEMA, "number", 1)
    monkeypatch.setattr(checking, "next_stop", lambda found: next_stop(found, [steps_of([], 3)]))
    assert codes() == ["next_stop"], "a version that begins with schema 2 does not read the data of schema 1"


def test_command_exits_with_1_for_an_obstacle(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STATE_DIR", context.settings.state_dir), ("REDIS_URL", context.settings.redis_url)):
        monkeypatch.setenv(f"{PREFIX}{name}", str(value))
    good = CliRunner().invoke(app, ["upgrade", "check"])
    assert (good.exit_code, "Nothing to migrate." in good.output) == (0, True), good.output
    context.store.redis.hset(keys.SCHEMA, "number", 9)
    refused = CliRunner().invoke(app, ["upgrade", "check"])
    assert (refused.exit_code, "schema_newer: " in refused.output) == (1, True), refused.output


def test_key_of_the_first_schema_counts_after_the_migration(context: Context) -> None:
    secret = context.settings.secret()
    key, token = ApiKeys(context.store, None, secret).create(NewKey(name="x", tenant="t", scopes=("mcp",)))

    def authenticated() -> bool:
        try:
            return ApiKeys(context.store, None, secret).authenticate(f"Bearer {token}").id == f"key:{key.id}"
        except Unauthenticated:
            return False

    assert authenticated()
    upgrade(context.settings, 1)
    assert not authenticated()
    upgrade(context.settings)
    assert authenticated()

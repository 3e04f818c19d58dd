"""Redis's users under compose may do what their service's code does, and no more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from deploy.service_image.redis_users import DEFAULT, ROLES, users
from orchestrator.backup.errors import BackupError
from orchestrator.errors import StoreUnavailable
from orchestrator.identity.api_keys import ApiKeys, NewKey
from orchestrator.identity.tenants import Records
from orchestrator.migrations.upgrading import upgrade
from orchestrator.models.security import Refusal, SecurityEvent
from orchestrator.models.tenants.records import Tenant
from orchestrator.settings import Settings, create_secret_file
from orchestrator.store import Store, scripts
from orchestrator.store.connection import connect
from orchestrator.store.platform.schema import NUMBER
from orchestrator.store.security import LogBounds, SecurityLog
from tests.builders.backups.installations import OPTIONS, Backups
from tests.builders.records import submit
from tests.harness import RedisServer

# The scripts that each process calls.
WORKER = (
    *("take", "step", "beat", "enrol", "dismiss", "renew", "requeue", "log", "count", "read_stdin", "forget_worker"),
    "announce",
    *(f"tools/{name}" for name in ("submit_call", "cancel_calls", "collect_outcomes", "call_caller")),
)
BROKER = (
    *("append_audit", "log", "tools/take_calls", "tools/begin_call", "tools/settle_calls", "tools/serve_upstreams"),
    *("tools/leave_upstreams", "tools/put_catalogue", "tools/put_server", "tools/put_shape", "announce"),
)
API = [
    str(path.relative_to(str(scripts._FILES)).with_suffix(""))
    for path in Path(str(scripts._FILES)).rglob("*.lua")
    if path.parent.name != "functions"
]
CALLED = re.compile(r"redis\.p?call\('(\w+)'")
KEYS = re.compile(r"'(mayfly:[^']*)'(?: \.\. of)?(?: \.\. '([^']*)')?")
SAMPLE = "x"
# A call's command, and its first argument: a key by its name, by a function of keys, or in a variable.
ACCESS = re.compile(r"redis\.p?call\('(\w+)', (\w+)")
DEFINED = re.compile(r"^ *local (\w[\w, ]*) = (.+)$", re.MULTILINE)
FUNCTION = re.compile(r"^local function (\w+)\(of\) return '([^']*)' \.\. of(?: \.\. '([^']*)')? end$", re.MULTILINE)
READING = {
    *("EXISTS", "GET", "GETRANGE", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSTRLEN", "HVALS"),
    *("LINDEX", "LLEN", "LPOS", "LRANGE", "MGET", "PTTL", "SCARD", "SISMEMBER", "SMEMBERS", "SRANDMEMBER", "STRLEN"),
    *("TTL", "TYPE", "XLEN", "XRANGE", "XREVRANGE", "ZCARD", "ZRANGE", "ZRANGEBYSCORE", "ZREVRANGE", "ZSCORE"),
}
# Written by a function that these scripts have and do not call.
UNCALLED = {(f"tools/{name}", f"mayfly:key:{SAMPLE}:counters") for name in ("put_catalogue", "put_shape")}
# Of a script that others call, too, the parts for the API alone.
APIS_ALONE = {"announce": ({"hvals"}, {"mayfly:api-keys", "mayfly:users"})}


@pytest.mark.parametrize(("role", "names"), [("worker", WORKER), ("broker", BROKER), ("api", API)])
def test_role_has_each_command_and_key_of_its_scripts(role: str, names: tuple[str, ...]) -> None:
    allowed = ROLES[role]
    commands = {command.partition("|")[0] for command in allowed.commands.split()}
    patterns = [*allowed.keys.split(), *allowed.reads.split(), *allowed.channels.split()]
    for name in names:
        text = scripts.load(name)
        without = APIS_ALONE.get(name, (set(), set())) if role != "api" else (set(), set())
        assert {command.lower() for command in CALLED.findall(text)} - without[0] <= commands, name
        keys = {
            f"{before}{SAMPLE if after or before.endswith(':') else ''}{after}" for before, after in KEYS.findall(text)
        }
        keys -= without[1]
        assert [key for key in keys if not any(fnmatchcase(key, pattern) for pattern in patterns)] == [], name


def written(text: str) -> set[str]:
    """The keys that a script writes, where the call or a variable names them."""
    known = {name: {f"{before}{SAMPLE}{after}"} for name, before, after in FUNCTION.findall(text)}
    for names, values in DEFINED.findall(text):
        for name, value in zip(names.split(", "), re.split(r", (?![^(]*\))", values), strict=False):
            if key := value[1:-1] if value[:1] == "'" else next(iter(known.get(value.partition("(")[0], ())), ""):
                known.setdefault(name, set()).add(key)
    found = {key for command, name in ACCESS.findall(text) if command not in READING for key in known.get(name, ())}
    return {f"{key}{SAMPLE}" if key.endswith(":") else key for key in found if key.startswith("mayfly:")}


@pytest.mark.parametrize(("role", "names"), [("worker", WORKER), ("broker", BROKER), ("api", API)])
def test_role_may_write_each_key_of_its_scripts(role: str, names: tuple[str, ...]) -> None:
    patterns = [*ROLES[role].keys.split(), *ROLES[role].channels.split()]
    found = {name: written(scripts.load(name)) for name in names}
    refused = {(name, key) for name in names for key in found[name] if not any(fnmatchcase(key, p) for p in patterns)}
    assert refused - UNCALLED == set()
    assert len(set().union(*found.values())) > 10


class UsersServer(RedisServer):
    """One whose test is the user ``api``."""

    def __init__(self, directory: Path, *options: str) -> None:
        super().__init__(directory, *options)
        self.url = f"unix://api:password@{self.socket}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis with these users, and beside them the tests' own, who may do everything."""
    directory = tmp_path_factory.mktemp("users")
    for role in ROLES:
        (directory / f"redis-{role}").write_text(f"{role}-password\n")
    made = RedisServer(directory, *OPTIONS)
    made.start()
    with made.client() as client:
        for one in users(directory).splitlines()[1:]:
            client.execute_command("ACL", "SETUSER", *one.split()[1:])
    yield made
    made.stop()


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Callable[..., str]]:
    """Whether Redis lets a user send a command: ``OK``, or why not."""
    client: Any = server.client()

    def ask(role: str, command: str) -> str:
        return str(client.execute_command("ACL", "DRYRUN", role, *command.split()).decode())

    yield ask
    client.close()


def as_user(settings: Settings, role: str) -> Settings:
    """The settings of a process that is this user of Redis."""
    url = settings.effective_redis_url.replace("unix://", f"unix://{role}:{role}-password@")
    return settings.model_copy(update={"redis_url": url})


# No user may send these; but a backup is a replica (SYNC).
NEVER = (
    *("FLUSHALL", "FLUSHDB", "CONFIG SET dir /", "CONFIG REWRITE", "KEYS *", "MONITOR", "REPLICAOF a 1", "SHUTDOWN"),
    *(
        "DEBUG SLEEP 0",
        "MODULE LIST",
        "ACL LIST",
        "ACL SETUSER x",
        "FUNCTION LIST",
        "SCRIPT FLUSH",
        "SYNC",
        "PSYNC ? -1",
    ),
    *("CLIENT KILL ID 1", "CLIENT LIST", "MIGRATE a 1 k 0 1", "RESTORE k 0 v", "SWAPDB 0 1", "BGREWRITEAOF", "SAVE"),
    *("DUMP mayfly:users", "RANDOMKEY", "COPY a b", "SORT mayfly:queued"),
)
REFUSED = {
    "worker": (
        *("HGET mayfly:users u", "HGET mayfly:user-passwords u", "GET mayfly:api-key:d", "HSET mayfly:api-keys k v"),
        *("HSET mayfly:tenants t v", "HSET mayfly:quotas t v", "XADD mayfly:audit * a b", "XRANGE mayfly:audit - +"),
        *("HGETALL mayfly:session:s", "SET mayfly:backup x", "HSET mayfly:tools:servers:t s v", "GET LIMITS:x"),
        *("HSET mayfly:tools:accepted:t s v", "SMEMBERS mayfly:tenant:t:keys", "GET foreign", "PUBLISH other x"),
    ),
    "broker": (
        *(
            "HSET mayfly:execution:e state x",
            "LPUSH rq:queue:t:default e",
            "XRANGE mayfly:stream:e - +",
            "GET LIMITS:x",
        ),
        *("HGET mayfly:users u", "GET mayfly:api-key:d", "HSET mayfly:tenants t v", "HSET mayfly:worker:w a b"),
        *("PUBLISH mayfly:cancel e", "SUBSCRIBE mayfly:ended", "HGETALL mayfly:session:s", "ZADD mayfly:queued 1 e"),
    ),
    "engine-proxy": (
        *("XRANGE mayfly:security - +", "XREAD STREAMS mayfly:security 0", "XADD mayfly:tenant:t:security * a b"),
        *(
            "HGETALL mayfly:execution:e",
            "HSET mayfly:execution:e a b",
            "GET mayfly:users",
            "LPUSH rq:queue:t:default e",
        ),
        *("XADD mayfly:audit * a b", "PUBLISH mayfly:cancel e", "SUBSCRIBE mayfly:ended", "HSET mayfly:worker:w a b"),
    ),
    "backup": (
        *("GET mayfly:users", "HGETALL mayfly:execution:e", "SET mayfly:users u", "DEL mayfly:queued", "INFO"),
        *("XRANGE mayfly:audit - +", "HSET mayfly:audit:base s v", "SET mayfly:restoring x", "RESTORE mayfly:x 0 v"),
    ),
    "exporter": ("GET mayfly:turn", "HGETALL mayfly:execution:e", "SET x y", "CONFIG GET *", "EVAL return 0"),
    "api": ("GET foreign", "SUBSCRIBE other"),
}
ALLOWED = {
    "worker": (
        "HSET mayfly:execution:e a b",
        "XADD mayfly:stream:e * a b",
        "HGET mayfly:quotas t",
        "BLPOP mayfly:bell:x 1",
        "SREM mayfly:tools:taken:b c",
        "PEXPIRE mayfly:worker-drain:w 1000",
    ),
    "broker": ("HGET mayfly:execution:e spec", "HSET mayfly:tools:call:c a b", "XADD mayfly:audit * a b"),
    "engine-proxy": ("XADD mayfly:security * a b", "HINCRBY mayfly:security:counts:engine_call_refused x 1"),
    "backup": (
        "SYNC",
        "REPLCONF capa eof",
        "SET mayfly:backup b EX 60",
        "EXISTS mayfly:queued mayfly:active mayfly:expiry",
        "HGET mayfly:audit:base s",
    ),
    "exporter": ("PING", "INFO", "ACL LOG"),
    "api": ("HSET mayfly:users u v", "LPUSH rq:queue:t:default e", "INCRBY LIMITS:x 1", "SUBSCRIBE mayfly:ended"),
}


@pytest.mark.parametrize("role", ROLES)
def test_role_may_do_nothing_else(redis: Callable[..., str], role: str) -> None:
    """The control is what each may do."""
    assert [command for command in ALLOWED[role] if redis(role, command) != "OK"] == []
    assert [command for command in (*NEVER, *REFUSED[role]) if redis(role, command) == "OK"] == (
        ["SYNC"] if role == "backup" else []
    )


def test_engine_proxy_may_write_security_events(settings: Settings, store: Store) -> None:
    """The control is a user that may not."""
    store.redis.acl_log_reset()
    event = SecurityEvent("engine_call_refused", "A call.", "host", Refusal("call"), 1)
    with closing(connect(as_user(settings, "engine-proxy").effective_redis_url, 5)) as connection:
        security = SecurityLog(connection, LogBounds(100, 100))
        assert security.count("engine_call_refused", "call") == ("call", 1)
        security.add(event, tenant=None, source="engine-proxy")
    assert store.redis.acl_log() == []
    assert [entry.kind for entry in store.security.read(tenant=None).items] == ["engine_call_refused"]
    with (
        closing(connect(as_user(settings, "exporter").effective_redis_url, 5)) as connection,
        pytest.raises(NoPermissionError),
    ):
        SecurityLog(connection, LogBounds(100, 100)).add(event, tenant=None, source="x")


def test_api_may_migrate_forward_and_back(settings: Settings, store: Store) -> None:
    """``mayfly upgrade`` runs with the settings of the API. The control is a user that may not."""
    create_secret_file(settings.secret_path)
    Records(store).put(b"", Tenant(id="t"), "")
    ApiKeys(store, None, settings.secret()).create(NewKey(name="one", tenant="t", scopes=("mcp",)))
    store.schema.end(NUMBER)
    store.redis.acl_log_reset()
    api = as_user(settings, "api")
    assert upgrade(api, NUMBER - 1) == NUMBER
    assert upgrade(api, NUMBER) == NUMBER - 1
    assert store.schema.state().number == NUMBER
    assert store.redis.acl_log() == []
    with pytest.raises(StoreUnavailable) as refused:
        upgrade(as_user(settings, "broker"), NUMBER - 1)
    assert isinstance(refused.value.__cause__, NoPermissionError)


def test_backup_is_made_by_its_user_alone(settings: Settings, store: Store, tmp_path: Path) -> None:
    create_secret_file(settings.secret_path)
    submit(store)
    settings.blobs_path.mkdir()
    backups = Backups(tmp_path, str(tmp_path / "backups"))
    settings = settings.model_copy(update={"backup_recipients": [backups.recipient]})
    store.redis.acl_log_reset()
    first, second = (backups.create(as_user(settings, "backup"), keep=1) for _ in range(2))
    assert second.removed.backups == (first.summary.id,)
    assert store.redis.acl_log() == []
    verified = backups.verify(settings)
    assert (verified.executions, verified.faults) == ({"queued": 1}, ())
    for role in ("api", "worker", "broker"):
        with pytest.raises(BackupError):
            backups.create(as_user(settings, role))


def test_file_of_users_has_no_password(tmp_path: Path) -> None:
    for role in ROLES:
        (tmp_path / f"redis-{role}").write_text(f"{role}-password\n")
    written = users(tmp_path)
    assert "-password" not in written
    assert written.startswith("user default off resetpass ")
    assert len(written.splitlines()) == 1 + len(ROLES)


@pytest.mark.parametrize("restricted", [False, True], ids=["as delivered", "control"])
def test_restart_keeps_writes_of_scripts(tmp_path: Path, restricted: bool) -> None:
    """Redis loads transactions with the rights of ``default``, also where that user is off. The control has none."""
    for role in ROLES:
        (tmp_path / f"redis-{role}").write_text("password\n")
    written = users(tmp_path)
    file = tmp_path / "users.acl"
    file.write_text(written.replace(DEFAULT, "user default off") if restricted else written)
    server = UsersServer(tmp_path, "--aclfile", str(file), "--appendfsync", "always")
    server.start()
    with server.client() as client:
        client.eval("redis.call('SET', 'mayfly:a', 1) redis.call('SET', 'mayfly:b', 1)", 0)
        client.set("mayfly:alone", 1)
    server.stop()
    server.start()
    with server.client() as client:
        kept = [client.exists(f"mayfly:{name}") for name in ("a", "b", "alone")]
        with (
            Redis.from_url(server.url.replace("api:password@", "")) as stranger,
            pytest.raises(AuthenticationError),
        ):
            stranger.ping()
    server.stop()
    assert kept == ([0, 0, 1] if restricted else [1, 1, 1])

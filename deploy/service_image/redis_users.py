"""Redis's users under compose: for each role the commands and keys that it uses, and no more.

``python -m deploy.service_image.redis_users DIR`` reads each role's password from ``DIR/redis-ROLE`` and prints the
file of users (ACL), which has only digests. A refused command is in Redis's log: ``ACL LOG``.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import NamedTuple


class Role(NamedTuple):
    """The commands, written and read keys, and channels of one service."""

    commands: str
    keys: str
    reads: str = ""
    channels: str = ""


# Off, so that no client logs in as this user, and with all rights: with these Redis loads its append-only file, and
# drops refused commands of transactions without an error (decision 35).
DEFAULT = "user default off resetpass ~* &* +@all"
CONNECTION = "hello auth ping select client|setname multi exec discard eval evalsha time info "
# Commands of the scripts (tests/integration/deploy/test_redis_users.py); the worker and the API have further ones.
COMMANDS = (
    "blpop del exists expire get hdel hexists hget hgetall hincrby hkeys hlen hmget hset hstrlen incr incrby llen lpop "
    "lpush lrange memory|usage mget pttl publish rpush sadd set sismember smembers srandmember srem type xadd xlen "
    "xtrim zadd zcard zrange zrem zremrangebyscore "
)
WORKER = (
    "config|get copy getrange lindex linsert lpos lrem ltrim pexpire strlen subscribe ttl unsubscribe xrange zpopmin "
    "zrevrange zscore "
)
API = (
    "append hincrbyfloat hscan hsetnx hvals pubsub|numsub rename scan scard script|load xread xrevrange zincrby "
    "zrangebyscore "
)
ROLES: dict[str, Role] = {
    "api": Role(CONNECTION + COMMANDS + WORKER + API, keys="mayfly:* rq:* LIMITS:*", channels="mayfly:*"),
    "worker": Role(
        CONNECTION + COMMANDS + WORKER,
        keys="mayfly:active mayfly:bell:* mayfly:execution:* mayfly:expiry mayfly:holding mayfly:key:* "
        "mayfly:leaving-bell:* mayfly:line:* mayfly:processes mayfly:queued mayfly:rates:* mayfly:retrying "
        "mayfly:room-left mayfly:schema mayfly:security* mayfly:stdin:* mayfly:stream:* mayfly:tenant:*:catalogues "
        "mayfly:tenant:*:counters mayfly:tenant:*:room mayfly:tenant:*:security* mayfly:tenant:*:shapes "
        "mayfly:tools:answers:* mayfly:tools:bell:* mayfly:tools:call:* mayfly:tools:calls-of:* "
        "mayfly:tools:cancelled:* mayfly:tools:taken:* mayfly:tools:waiting:* mayfly:turn mayfly:turns "
        "mayfly:usage:* mayfly:worker:* mayfly:worker-drain:* mayfly:workers rq:*",
        reads="mayfly:backup mayfly:quotas mayfly:switches mayfly:tenants mayfly:tools:*",
        channels="mayfly:answers:* mayfly:cancel mayfly:ended mayfly:stdin-wake:* mayfly:wake:*",
    ),
    "broker": Role(
        CONNECTION + COMMANDS,
        keys="mayfly:audit mayfly:processes mayfly:rates:* mayfly:room-left mayfly:schema mayfly:security* "
        "mayfly:tenant:*:catalogues "
        "mayfly:tenant:*:room mayfly:tenant:*:security* mayfly:tenant:*:shapes mayfly:tools:*",
        reads="mayfly:active mayfly:execution:* mayfly:key:*:counters mayfly:queued mayfly:switches",
        channels="mayfly:wake:*",
    ),
    # It writes security events of the installation, and reads none.
    "engine-proxy": Role(
        "hello auth ping select client|setname eval evalsha time expire hexists hget hincrby hlen incrby memory|usage "
        "publish set xadd xlen xtrim",
        keys="mayfly:rates:* mayfly:security mayfly:security:*",
        reads="mayfly:tenant::room",
        channels="mayfly:wake:security",
    ),
    # SYNC sends all data, whatever the keys: no service has this password.
    "backup": Role(
        "hello auth ping select client|setname eval evalsha time replconf sync del exists expire get hget set ttl type "
        "xrevrange",
        keys="mayfly:backup",
        reads="mayfly:active mayfly:audit:base mayfly:audit:seals mayfly:expiry mayfly:queued",
    ),
    # The exporter of metrics asks for the last four, too, and the histogram has names of commands alone; compose keeps
    # no slow log, which would have others' data.
    "exporter": Role("hello auth ping info acl|log latency|latest latency|histogram slowlog|get slowlog|len", keys=""),
}


def line(name: str, role: Role, password: str) -> str:
    """The user's line of the file."""
    rules = ["on", f"#{hashlib.sha256(password.encode()).hexdigest()}", "resetkeys", "resetchannels", "-@all"]
    rules += [f"+{command}" for command in role.commands.split()]
    rules += [f"~{pattern}" for pattern in role.keys.split()]
    rules += [f"%R~{pattern}" for pattern in role.reads.split()]
    rules += [f"&{pattern}" for pattern in role.channels.split()]
    return " ".join(["user", name, *rules])


def users(secrets: Path) -> str:
    """The whole file, by the passwords in a directory."""
    lines = [DEFAULT]
    for name, role in ROLES.items():
        password = (secrets / f"redis-{name}").read_text(encoding="ascii").strip()
        lines.append(line(name, role, password))
    return "".join(f"{one}\n" for one in lines)


if __name__ == "__main__":
    sys.stdout.write(users(Path(sys.argv[1])))

"""Every Redis key of Mayfly. RQ's own keys (``rq:…``) belong to :mod:`orchestrator.queue`."""

from __future__ import annotations

QUEUED = "mayfly:queued"  # zset: execution id by time it was queued
TURN = "mayfly:turn"  # string: how many turns to be served tenants have had
TURNS = "mayfly:turns"  # hash: tenant to the number of its last turn
RETRYING = "mayfly:retrying"  # zset: id of queued executions whose next attempt has to wait, by its earliest start
ACTIVE = "mayfly:active"  # zset: id of starting and running executions by time of claim
EXPIRY = "mayfly:expiry"  # zset: id of finished executions by time of deletion
WORKERS = "mayfly:workers"  # set: ids of workers that announced themselves
API_KEYS = "mayfly:api-keys"  # hash: key id to the sealed SHA-256 of its secret, and its JSON
API_KEY_DIGESTS = "mayfly:api-key-digests"  # hash: key id to the SHA-256 of its secret
API_KEY_USES = "mayfly:api-key-uses"  # hash: key id to the time of its last use, in whole seconds
TENANTS = "mayfly:tenants"  # hash: tenant to the letter of its state and its JSON
TENANTS_DELETING = "mayfly:tenants:deleting"  # set: tenants whose deletion is not complete
TENANTS_DELETED = "mayfly:tenants:deleted"  # zset: deleted tenants by the end of what is kept under their names
HOLDING = "mayfly:holding"  # set: ids of API keys with held executions
ISSUERS = "mayfly:issuers"  # hash: id of a declared OIDC issuer to its sealed JSON
USERS = "mayfly:users"  # hash: user id to its sealed JSON
USER_NAMES = "mayfly:user-names"  # hash: name of a user to its id
USER_PASSWORDS = "mayfly:user-passwords"  # hash: user id to the sealed argon2id hash of its password
LOGINS = "mayfly:logins"  # string: log-ins that were tried within a minute from addresses new to their users
JANITOR = "mayfly:janitor"  # string: the process that has the janitor's lease
BACKUP = "mayfly:backup"  # string: the backup that is being made; while it is there, no files are deleted
RESTORING = "mayfly:restoring"  # string: the backup whose restore has begun and not ended
SCHEMA = "mayfly:schema"  # hash: the number of the data's schema, and the migration that has begun
PROCESSES = "mayfly:processes"  # zset: processes that use the data, as JSON, by the time at which their lease ends
MIGRATIONS = "mayfly:migrations"  # list: steps of migrations, each after its time
SECURITY = "mayfly:security"  # stream: every security event of the installation
SECURITY_COUNTS = "mayfly:security:counts:"  # prefix of hashes: recent counts of events of one kind by source
ROOM_LEFT = "mayfly:room-left"  # string: cached number of bytes of output that Redis may still take
QUOTAS = "mayfly:quotas"  # hash: `t` and a tenant, or `k` and an API key, to a version and the quotas as JSON
SWITCHES = "mayfly:switches"  # hash: feature that is switched off to its state as JSON
RATES = "mayfly:rates:"  # prefix of hashes, one for each bucket of time: the counts of each series
RATES_SINCE = "mayfly:rates-since"  # string: the first bucket of time that counted
AUDIT = "mayfly:audit"  # stream: the audit log
AUDIT_SEALS = "mayfly:audit:seals"  # stream: seal of the audit log by the position it seals
AUDIT_BASE = "mayfly:audit:base"  # hash: the seal up to which older entries were removed, and its position
ALARMS = "mayfly:alarms"  # hash: currently unusual series, to their first and last unusual time
CANCEL = "mayfly:cancel"  # pub/sub channel: id of an execution its worker shall stop
ENDED = "mayfly:ended"  # pub/sub channel: id of an execution that has ended
ANSWERS = "mayfly:answers:"  # pub/sub channel prefix, one for each API process: results of executions it waits for
WAKE = "mayfly:wake:"  # pub/sub channel prefix: changes of this execution
SECURITY_WAKE = "security"  # the suffix of ``WAKE`` for the channel of all security events

TOOL_BROKERS = "mayfly:tools:brokers"  # zset: ids of brokers by time of their last heartbeat
TOOL_OWNERS = "mayfly:tools:owners"  # hash: upstream to the broker that serves it
TOOL_UPSTREAMS = "mayfly:tools:upstreams"  # set: every declared upstream, as `tenant/server`
TOOL_DECLARATIONS = "mayfly:tools:declarations"  # string: the version of all declarations of tool servers


def bell(lane: str) -> str:
    """List: a token for every queued job of that lane, on which idle workers block."""
    return f"mayfly:bell:{lane}"


def spare_bell(lane: str) -> str:
    """List: a token for every job of a tenant without running executions; spare slots of busy workers block on it."""
    return f"mayfly:bell:{lane}:spare"


def leaving_bell(worker: str) -> str:
    """List: a token for every slot of a draining worker, on which its idle slots block, too."""
    return f"mayfly:leaving-bell:{worker}"


def line(lane: str) -> str:
    """Zset: tenants with queued executions of that lane, in order of service."""
    return f"mayfly:line:{lane}"


def execution(id: str) -> str:
    """Hash: the record."""
    return f"mayfly:execution:{id}"


def stream(id: str) -> str:
    """Stream: state changes, output and security events of one execution, in order."""
    return f"mayfly:stream:{id}"


def shrunk(stream: str) -> str:
    """Stream: the copy of the stream with that key, while a script shrinks it."""
    return f"{stream}:copy"


def stdin(id: str) -> str:
    """String: all bytes of a streamed standard input, until the execution ends."""
    return f"mayfly:stdin:{id}"


def stdin_wake(worker: str) -> str:
    """Pub/sub channel: ids of that worker's executions with new streamed standard input, or with its end."""
    return f"mayfly:stdin-wake:{worker}"


def tenant_index(tenant: str) -> str:
    """Zset: the tenant's execution ids by time of creation."""
    return f"mayfly:tenant:{tenant}:executions"


def tenant_counters(tenant: str) -> str:
    """Hash: the tenant's queued and active executions, other amounts that its quotas bound, and two of the quotas."""
    return f"mayfly:tenant:{tenant}:counters"


def key_counters(key: str) -> str:
    """Hash: the same counters of an API key, and the bytes of its executions."""
    return f"mayfly:key:{key}:counters"


def key_held(key: str) -> str:
    """Zset: executions that wait outside of the queues for their API key's quota of running executions, by age."""
    return f"mayfly:key:{key}:held"


def tenant_room(tenant: str) -> str:
    """Hash: the bytes of the tenant's executions in Redis, and their bound."""
    return f"mayfly:tenant:{tenant}:room"


def tenant_catalogues(tenant: str) -> str:
    """String: the bytes of the tenant's catalogues of tools and of their changes, which its share includes."""
    return f"mayfly:tenant:{tenant}:catalogues"


def tenant_shapes(tenant: str) -> str:
    """String: the bytes of the shapes of the tenant's results, which its share includes; expires with them."""
    return f"mayfly:tenant:{tenant}:shapes"


def tenant_usage(day: str) -> str:
    """Hash with a time to live: usage on ``tenant:day``, by ``k`` and key or ``e`` and environment; see ``USAGE``."""
    return f"mayfly:usage:{day}"


def tenant_security(tenant: str) -> str:
    """Stream: the tenant's security events."""
    return f"mayfly:tenant:{tenant}:security"


def security_bytes(log: str) -> str:
    """String with a time to live: the bytes added to a log of security events since it was measured."""
    return f"{log}:bytes"


def tenant_security_wake(tenant: str) -> str:
    """The suffix of ``WAKE`` for the channel of a tenant's security events; distinct from execution ids."""
    return f"{SECURITY_WAKE}:{tenant}"


def tenant_calls(tenant: str) -> str:
    """Hash: the tenant's running calls of agents, and cancellations that preceded their calls."""
    return f"mayfly:tenant:{tenant}:calls"


def idempotency(tenant: str, key: str) -> str:
    """String: body digest and execution id of an Idempotency-Key."""
    return f"mayfly:idempotency:{tenant}:{key}"


def tenant_idempotency(tenant: str) -> str:
    """Zset: the idempotency keys of one tenant by their expiry, so that their memory counts for the tenant."""
    return f"mayfly:tenant:{tenant}:idempotency"


def service_accounts(tenant: str) -> str:
    """Hash: name of a service account to the letter of its state and its JSON."""
    return f"mayfly:tenant:{tenant}:service-accounts"


def tenant_keys(tenant: str) -> str:
    """Set: ids of the tenant's API keys."""
    return f"mayfly:tenant:{tenant}:keys"


def api_key(digest: str) -> str:
    """String: id, tenant and service account, if any, of the API key with that SHA-256."""
    return f"mayfly:api-key:{digest}"


def api_key_request(principal: str, key: str) -> str:
    """String with a time to live: the request for an API key with that Idempotency-Key of a principal."""
    return f"mayfly:api-key-request:{principal} {key}"


def user_request(principal: str, key: str) -> str:
    """String with a time to live: the request for a user with that Idempotency-Key of a principal."""
    return f"mayfly:user-request:{principal} {key}"


def user_addresses(id: str) -> str:
    """Hash with a time to live: addresses from which the user has logged in, to the time of the last."""
    return f"mayfly:user:{id}:addresses"


def user_sessions(id: str) -> str:
    """Zset with a time to live: ids of the user's sessions by the time of the log-in."""
    return f"mayfly:user:{id}:sessions"


def login_attempts(digest: str) -> str:
    """Hash with a time to live: failed log-ins under one name from one address, and the end of the pause."""
    return f"mayfly:login:{digest}"


def session(id: str) -> str:
    """Hash with a time to live: a session of a user, its times, and the number of its current refresh token."""
    return f"mayfly:session:{id}"


def worker(id: str) -> str:
    """Hash with a time to live: a worker's last status."""
    return f"mayfly:worker:{id}"


def worker_drain(id: str) -> str:
    """String with a longer time to live: ``1`` if the last request was to drain that worker, ``0`` if to end that."""
    return f"mayfly:worker-drain:{id}"


def tool_broker(id: str) -> str:
    """String with a time to live: a broker's lease, renewed by its heartbeats."""
    return f"mayfly:tools:broker:{id}"


def tool_taken(broker: str) -> str:
    """Set: ids of calls that the broker took and has not settled."""
    return f"mayfly:tools:taken:{broker}"


def tool_cancelled(broker: str) -> str:
    """List: ids of taken calls that were cancelled."""
    return f"mayfly:tools:cancelled:{broker}"


def tool_call(id: str) -> str:
    """Hash with a time to live: a call of a tool, and its outcome until it was read."""
    return f"mayfly:tools:call:{id}"


def tool_calls_of(attempt: str) -> str:
    """Set: ids of the open calls of ``execution:attempt``."""
    return f"mayfly:tools:calls-of:{attempt}"


def tool_waiting(upstream: str) -> str:
    """List: ids of calls that no broker has taken, of the upstream ``tenant/server``."""
    return f"mayfly:tools:waiting:{upstream}"


def tool_answers(process: str) -> str:
    """List: ids of settled calls of that process, until it acknowledges their outcomes."""
    return f"mayfly:tools:answers:{process}"


def tool_bell(process: str) -> str:
    """List: a token while calls wait for that broker, or outcomes for that process, which blocks on it."""
    return f"mayfly:tools:bell:{process}"


def tool_servers(tenant: str) -> str:
    """Hash: server name to its sealed declaration."""
    return f"mayfly:tools:servers:{tenant}"


def tool_accepted(tenant: str) -> str:
    """Hash: server name to the sealed digest of the catalogue that was accepted."""
    return f"mayfly:tools:accepted:{tenant}"


def tool_catalogues(tenant: str) -> str:
    """Hash: server name to its catalogue."""
    return f"mayfly:tools:catalogues:{tenant}"


def tool_catalogues_version(tenant: str) -> str:
    """String: counts the changes of the tenant's catalogues."""
    return f"mayfly:tools:catalogues-version:{tenant}"


def tool_shapes(tenant: str) -> str:
    """Hash: full name of a tool to the shape of its earlier results."""
    return f"mayfly:tools:shapes:{tenant}"


def tool_shapes_version(tenant: str) -> str:
    """String: counts the changes of the tenant's shapes."""
    return f"mayfly:tools:shapes-version:{tenant}"


def tool_idempotent(upstream: str) -> str:
    """Set: the tools of ``tenant/server`` that may be called twice."""
    return f"mayfly:tools:idempotent:{upstream}"


def tool_history(tenant: str) -> str:
    """Stream: changes of the tenant's catalogues, with their differences."""
    return f"mayfly:tools:history:{tenant}"

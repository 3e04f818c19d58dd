"""Every Redis key of ours, in one place. RQ's own keys (``rq:…``) are :mod:`orchestrator.queue`'s."""

from __future__ import annotations

QUEUED = "mayfly:queued"  # zset: execution id by time it was queued
TURN = "mayfly:turn"  # string: how many turns to be served tenants have had
TURNS = "mayfly:turns"  # hash: tenant to the number of its last turn
RETRYING = "mayfly:retrying"  # zset: id of queued executions whose next attempt has to wait, by when it may begin
ACTIVE = "mayfly:active"  # zset: id of starting and running executions by time of claim
EXPIRY = "mayfly:expiry"  # zset: id of finished executions by time of deletion
WORKERS = "mayfly:workers"  # set: ids of workers that announced themselves
API_KEYS = "mayfly:api-keys"  # hash: key id to its JSON
API_KEY_DIGESTS = "mayfly:api-key-digests"  # hash: key id to the SHA-256 of its secret
JANITOR = "mayfly:janitor"  # string: who cleans up now
SECURITY = "mayfly:security"  # stream: every security event of the installation
SECURITY_COUNTS = "mayfly:security:counts:"  # prefix of hashes: who did something of one kind how often lately
ROOM_LEFT = "mayfly:room-left"  # string: how many bytes of output Redis may still take, for a moment
RATES = "mayfly:rates:"  # prefix of hashes, one for each bucket of time: how many of what each series counted
RATES_SINCE = "mayfly:rates-since"  # string: the first bucket of time that counted
ALARMS = "mayfly:alarms"  # hash: series that are unusual now, by when that began and was last so
CANCEL = "mayfly:cancel"  # pub/sub channel: id of an execution its worker shall stop
ENDED = "mayfly:ended"  # pub/sub channel: id of an execution that has ended
ANSWERS = "mayfly:answers:"  # pub/sub channel prefix, one for each API process: what became of executions it waits for
WAKE = "mayfly:wake:"  # pub/sub channel prefix: something about this execution changed


def bell(isolation: str, spare: bool = False) -> str:
    """List: a token for every queued job of that isolation, what idle workers that offer it block on.

    The spare slots of busy ones have another, with a token for jobs of tenants that have nothing running.
    """
    return f"mayfly:bell:{isolation}:spare" if spare else f"mayfly:bell:{isolation}"


def line(isolation: str) -> str:
    """Zset: tenants that have something of that isolation queued, who is served next first."""
    return f"mayfly:line:{isolation}"


def execution(id: str) -> str:
    """Hash: the record."""
    return f"mayfly:execution:{id}"


def stream(id: str) -> str:
    """Stream: state changes, output and security events of one execution, in order."""
    return f"mayfly:stream:{id}"


def stdin(id: str) -> str:
    """String: all bytes of a streamed standard input, until the execution ends."""
    return f"mayfly:stdin:{id}"


def stdin_wake(worker: str) -> str:
    """Pub/sub channel: ids of executions with that worker whose streamed standard input has more, or has ended."""
    return f"mayfly:stdin-wake:{worker}"


def tenant_index(tenant: str) -> str:
    """Zset: the tenant's execution ids by time of creation."""
    return f"mayfly:tenant:{tenant}:executions"


def tenant_counters(tenant: str) -> str:
    """Hash: how many executions of the tenant are queued and active."""
    return f"mayfly:tenant:{tenant}:counters"


def tenant_room(tenant: str) -> str:
    """Hash: how many bytes the tenant's executions take here, and the most they may."""
    return f"mayfly:tenant:{tenant}:room"


def tenant_security(tenant: str) -> str:
    """Stream: the tenant's security events."""
    return f"mayfly:tenant:{tenant}:security"


def security_wake(tenant: str | None) -> str:
    """What follows ``WAKE`` in the channel that tells of a tenant's security events, or of all; no execution's id."""
    return "security" if tenant is None else f"security:{tenant}"


def idempotency(tenant: str, key: str) -> str:
    """String: body digest and execution id of an Idempotency-Key."""
    return f"mayfly:idempotency:{tenant}:{key}"


def tenant_idempotency(tenant: str) -> str:
    """Zset: the keys above of one tenant, by when each expires: what they take is bounded with the rest."""
    return f"mayfly:tenant:{tenant}:idempotency"


def api_key(digest: str) -> str:
    """String: id of the API key with that SHA-256."""
    return f"mayfly:api-key:{digest}"


def worker(id: str) -> str:
    """Hash with a time to live: what a worker last said of itself."""
    return f"mayfly:worker:{id}"

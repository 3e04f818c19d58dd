"""Every Redis key of Mayfly. RQ's own keys (``rq:…``) belong to :mod:`orchestrator.queue`."""

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
JANITOR = "mayfly:janitor"  # string: the process that has the janitor's lease
SECURITY = "mayfly:security"  # stream: every security event of the installation
SECURITY_COUNTS = "mayfly:security:counts:"  # prefix of hashes: recent counts of events of one kind by source
ROOM_LEFT = "mayfly:room-left"  # string: how many bytes of output Redis may still take, for a moment
RATES = "mayfly:rates:"  # prefix of hashes, one for each bucket of time: the counts of each series
RATES_SINCE = "mayfly:rates-since"  # string: the first bucket of time that counted
ALARMS = "mayfly:alarms"  # hash: series that are unusual now, by when that began and was last so
CANCEL = "mayfly:cancel"  # pub/sub channel: id of an execution its worker shall stop
ENDED = "mayfly:ended"  # pub/sub channel: id of an execution that has ended
ANSWERS = "mayfly:answers:"  # pub/sub channel prefix, one for each API process: results of executions it waits for
WAKE = "mayfly:wake:"  # pub/sub channel prefix: something about this execution changed


def bell(isolation: str, spare: bool = False) -> str:
    """List: a token for every queued job of that isolation, on which idle workers block.

    Spare slots of busy workers have another list, with tokens for jobs of tenants that have nothing running.
    """
    return f"mayfly:bell:{isolation}:spare" if spare else f"mayfly:bell:{isolation}"


def line(isolation: str) -> str:
    """Zset: tenants with queued executions of that isolation, in order of service."""
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
    """Pub/sub channel: ids of that worker's executions with new streamed standard input, or with its end."""
    return f"mayfly:stdin-wake:{worker}"


def tenant_index(tenant: str) -> str:
    """Zset: the tenant's execution ids by time of creation."""
    return f"mayfly:tenant:{tenant}:executions"


def tenant_counters(tenant: str) -> str:
    """Hash: the numbers of the tenant's queued and active executions."""
    return f"mayfly:tenant:{tenant}:counters"


def tenant_room(tenant: str) -> str:
    """Hash: the bytes of the tenant's executions in Redis, and their bound."""
    return f"mayfly:tenant:{tenant}:room"


def tenant_security(tenant: str) -> str:
    """Stream: the tenant's security events."""
    return f"mayfly:tenant:{tenant}:security"


def security_wake(tenant: str | None) -> str:
    """The suffix of ``WAKE`` for the channel of a tenant's security events, or of all; distinct from execution ids."""
    return "security" if tenant is None else f"security:{tenant}"


def idempotency(tenant: str, key: str) -> str:
    """String: body digest and execution id of an Idempotency-Key."""
    return f"mayfly:idempotency:{tenant}:{key}"


def tenant_idempotency(tenant: str) -> str:
    """Zset: the idempotency keys of one tenant by their expiry, so that their memory counts for the tenant."""
    return f"mayfly:tenant:{tenant}:idempotency"


def api_key(digest: str) -> str:
    """String: id of the API key with that SHA-256."""
    return f"mayfly:api-key:{digest}"


def worker(id: str) -> str:
    """Hash with a time to live: a worker's last status."""
    return f"mayfly:worker:{id}"

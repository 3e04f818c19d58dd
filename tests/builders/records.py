"""Executions on a real store, brought as far as a test wants them."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from orchestrator import queue
from orchestrator.environments import DEFAULT_LIMITS
from orchestrator.models import ISOLATIONS, Facts, Isolation, Priority, Result, Specification, Timings
from orchestrator.store import Store
from orchestrator.store.allowance import StaleQuotas
from orchestrator.store.executions.records import Claim, Idempotency, QueueBounds
from orchestrator.store.executions.sealing import seal
from orchestrator.store.steps import NewEntry

KEY = b"a key"


def specification(
    tenant: str = "t",
    priority: Priority = "default",
    isolation: Isolation = "standard",
    environment: str = "python",
) -> Specification:
    return Specification(
        id=secrets.token_hex(16), tenant=tenant, environment=environment, entrypoint="main.py", files=(), args=(),
        env={}, stdin="", isolation=isolation, limits=DEFAULT_LIMITS, artifacts=("**",), labels={}, priority=priority,
        created_at=datetime.now(UTC),
    )  # fmt: skip


def now() -> float:
    return datetime.now(UTC).timestamp()


def submit(
    store: Store,
    idempotency: Idempotency | None = None,
    limit: int = 100,
    retry: bool = True,
    tenant_limit: int = 1000,
    key: str = "k",
    **about: str,
) -> str:
    made = specification(**about).model_copy(update={"retry": retry})  # type: ignore[arg-type]
    sealed, signature = seal(made, KEY)
    envelope = queue.envelope(made)
    bounds = QueueBounds(limit, tenant_limit)
    submitter = {"principal": f"key:{key}", "key_id": key}
    while True:  # as the API does: once more if the quotas have changed
        known = store.quotas.known(made.tenant, key)
        try:
            return store.records.submit(
                made, sealed, signature, envelope, bounds, idempotency, submitter=submitter, allowance=known
            )[0]
        except StaleQuotas as stale:
            store.quotas.learn(made.tenant, key, stale.current)


def take(store: Store, worker: str = "w") -> Claim | None:
    taken = queue.Deliveries(store.redis, store.redis, worker).take(ISOLATIONS)
    return None if taken is None else taken.claim


def claimed(store: Store, id: str, worker: str = "w") -> Claim:
    """Claim that execution; what was queued before it and is left over is claimed, too."""
    while (claim := take(store, worker)) is not None and claim.id != id:
        pass
    assert claim is not None
    return claim


def result(state: str = "succeeded") -> Result:
    return Result(
        state=state, reason=None, fault=None, facts=Facts(exit_code=0), driver="docker", runtime="runc", start="warm",
        exit_code=0, signal=None, stdout_bytes=0, stderr_bytes=0, compile=None, artifacts=(), usage=None,
        timings=Timings(),
    )  # fmt: skip


def loud_execution(store: Store, size_bytes: int, result_line: bytes = b"") -> str:
    """An execution of the default tenant that has ended, with so much output, and perhaps a result."""
    id = submit(store, tenant="default")
    claim = claimed(store, id)
    store.records.start(claim, store.now())
    entries: list[NewEntry] = [("stdout", b"x" * 65536, False)] * (size_bytes // 65536)
    entries += [("result", result_line[at : at + 65536], False) for at in range(0, len(result_line), 65536)]
    for begin in range(0, len(entries), 32):
        assert store.output.append(id, claim.attempt, entries[begin : begin + 32])
    store.records.commit(claim, result().model_copy(update={"stdout_bytes": size_bytes}))
    return id


LATER = 10.0  # seconds by which the janitor's clock is ahead in these tests

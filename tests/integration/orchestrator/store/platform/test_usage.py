"""Usage on a real Redis: the sums equal the records, however executions ended, and each is counted once."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from orchestrator import queue
from orchestrator.errors import StaleAttempt
from orchestrator.identity import Principal
from orchestrator.janitor.janitor import Janitor
from orchestrator.models import ISOLATIONS, Artifact, Execution, Result, Usage
from orchestrator.models.tenants.usage import UsageAmounts, UsageDimension, UsageReport
from orchestrator.models.tools import CallRecord
from orchestrator.service.administration.usage import EPOCH, UsageReports
from orchestrator.settings import Settings
from orchestrator.states import Reason, State, cancelled
from orchestrator.store import Store, keys
from orchestrator.store.accounting import MOST_USAGE_SERIES, USAGE_SECONDS, microseconds
from orchestrator.store.executions.records import Claim
from tests.builders.records import LATER, claimed, now, result, submit

ADMIN = Principal(id="key:admin", key_id="admin", tenant="default", scopes=frozenset({"admin"}))
TENANTS, KEYS, ENVIRONMENTS = ("a", "b", "c"), ("k1", "k2"), ("python", "node")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_attempts": 2, "retry_seconds": 0.0, "queue_seconds": 3600.0})


def report(store: Store, tenant: str, by: UsageDimension = "day") -> UsageReport:
    return UsageReports(store).read(ADMIN, tenant, None, None, by)


def some_result(dice: random.Random, state: str = "succeeded", reason: str | None = None) -> Result:
    used = Usage(wall_seconds=dice.random() * 9, cpu_seconds=dice.choice([None, dice.random()]))
    artifact = Artifact(path="a", size=dice.randrange(10**6), media_type="text/plain", sha256="0" * 64)
    call = CallRecord(id="c", tool="s.t", request_bytes=1, response_bytes=1, seconds=0.1, outcome="ok")
    changes = {
        "state": state, "reason": reason, "usage": used, "stdout_bytes": dice.randrange(1000),
        "stderr_bytes": dice.randrange(10), "artifacts": (artifact,) * dice.randrange(3),
        "tool_calls": (call,) * dice.randrange(3),
    }  # fmt: skip
    return result().model_copy(update=changes)


def live(store: Store, dice: random.Random) -> None:
    """Take the next execution, and bring it to one of many ends, or leave it as a killed worker does."""
    taken = queue.Deliveries(store.redis, store.redis, f"w{dice.randrange(10**9)}").take(ISOLATIONS)
    if taken is None:
        return
    claim = taken.claim
    match dice.choice(["succeeded", "timed out", "twice", "stale", "requeued", "killed", "cancelled", "tokens"]):
        case "timed out":
            end(store, claim, some_result(dice, "failed", "timed_out"))
        case "cancelled":
            store.records.request_cancel(claim.id, Reason.CANCELLED_BY_USER)
            end(store, claim, some_result(dice, "cancelled", "cancelled_by_user"))
        case "twice":  # the answer of the first was lost
            token, made = secrets.token_hex(6), some_result(dice)
            store.records.start(claim, now())
            for _ in range(2):
                store.records.commit(claim, made, token=token)
        case "requeued":
            assert store.records.requeue(claim.id, claim.attempt, handed_back=True)
            queue.put_back(store, claim.id)
        case "stale":
            assert store.records.requeue(claim.id, claim.attempt, handed_back=True)
            with suppress(StaleAttempt):
                store.records.commit(claim, some_result(dice))
            queue.put_back(store, claim.id)
        case "killed":
            store.records.start(claim, now())
        case "tokens":
            end(store, claim, some_result(dice))
            for _ in range(3):
                store.usages.add_tokens(claim.id, dice.randrange(500), dice.randrange(10**4))
        case _:
            end(store, claim, some_result(dice))


def end(store: Store, claim: Claim, made: Result) -> None:
    store.records.start(claim, now())
    store.records.commit(claim, made)


def sums(executions: Iterable[Execution]) -> UsageAmounts:
    """The sums over the records."""
    total: Counter[str] = Counter()
    for execution in executions:
        used = execution.usage
        total["executions"] += 1
        total["wall"] += microseconds(used.wall_seconds if used else 0)
        total["cpu"] += microseconds((used.cpu_seconds if used else 0) or 0)
        total["output_bytes"] += execution.stdout_bytes + execution.stderr_bytes
        total["artifact_bytes"] += sum(artifact.size for artifact in execution.artifacts)
        total["tool_calls"] += len(execution.tool_calls)
        total["tokens_returned"] += execution.tokens_returned
        total["tokens_withheld"] += execution.tokens_withheld
    seconds = {"wall_seconds": total.pop("wall", 0) / 1e6, "cpu_seconds": total.pop("cpu", 0) / 1e6}
    return UsageAmounts.model_validate({**total, **seconds})


def by_name(found: UsageReport) -> dict[str, UsageAmounts]:
    fields = set(UsageAmounts.model_fields)
    return {row.name: UsageAmounts(**row.model_dump(include=fields)) for row in found.items}


@pytest.mark.parametrize("seed", range(2))
def test_sums_of_usage_equal_the_records(store: Store, settings: Settings, seed: int) -> None:
    dice = random.Random(seed)
    key_of: dict[str, str] = {}
    for _ in range(300):
        key, tenant, environment = dice.choice(KEYS), dice.choice(TENANTS), dice.choice(ENVIRONMENTS)
        key_of[submit(store, limit=1000, key=key, tenant=tenant, environment=environment)] = key
    for id in dice.sample(sorted(key_of), 40):
        if store.records.end(id, cancelled(Reason.CANCELLED_BY_USER), "", None, (State.QUEUED,)):
            queue.withdraw(store, store.records.get(id, None))
    janitor = Janitor(store, settings)
    with ThreadPoolExecutor(8) as threads:
        while any(store.records.counts().values()):
            list(threads.map(lambda n: live(store, random.Random(n)), [dice.random() for _ in range(100)]))
            janitor.round(now() + LATER)  # gives back, or ends, what killed workers had
    found = store.records.get_many(key_of)
    assert len(found) == len(key_of)
    ends = Counter(execution.reason for execution in found)
    assert ends.keys() >= {None, "timed_out", "cancelled_by_user", "worker_lost"}
    assert max(execution.attempt for execution in found) > 2
    for id in dice.sample(sorted(key_of), 50):  # what is deleted stays counted
        store.records.delete(id, store.records.get(id, None).tenant)
    for tenant in TENANTS:
        own = [execution for execution in found if execution.tenant == tenant]
        today = str(EPOCH.fromordinal(EPOCH.toordinal() + store.usages.today()))
        assert by_name(report(store, tenant)) == {today: sums(own)}
        assert report(store, tenant).total == sums(own)
        for by, name_of in PARTS.items():
            names = {name_of(execution, key_of) for execution in own}
            parts = {name: sums(e for e in own if name_of(e, key_of) == name) for name in names}
            assert by_name(report(store, tenant, by)) == parts


PARTS: dict[UsageDimension, Callable[[Execution, dict[str, str]], str]] = {
    "key": lambda execution, key_of: key_of[execution.id],
    "environment": lambda execution, key_of: execution.environment,
}


def finished(store: Store, tenant: str = "t", key: str = "k") -> str:
    id = submit(store, tenant=tenant, key=key)
    end(store, claimed(store, id), result())
    return id


def test_usage_is_kept_400_days_and_of_a_bounded_number_of_keys(store: Store) -> None:
    name = keys.tenant_usage(f"t:{store.usages.today()}")
    packed = b"\x98\x01\x00\x00\x00\x00\x00\x00\x00"
    store.redis.hset(name, mapping={f"k{n}": packed for n in range(MOST_USAGE_SERIES)})
    for key in ("0", "new", "newer"):
        finished(store, key=key)
    found = {row.name: row.executions for row in report(store, "t", "key").items}
    assert (found["0"], found["*"], len(found)) == (2, 2, MOST_USAGE_SERIES + 1)
    finished(store, "fresh")
    left = store.redis.ttl(keys.tenant_usage(f"fresh:{store.usages.today()}"))
    assert 400 * 86400 < left <= USAGE_SECONDS


def test_tokens_count_on_the_day_of_creation_and_never_below_zero(store: Store) -> None:
    """An agent that reads the rest on the next day makes less withheld: of the first day, not of the next."""
    id = finished(store)
    store.redis.hset(keys.execution(id), "created_at", f"{now() - 86400:.6f}")
    store.usages.add_tokens(id, 10, 500)
    store.usages.add_tokens(id, 490, 0)
    rows = report(store, "t").items
    assert [(row.executions, row.tokens_returned, row.tokens_withheld) for row in rows] == [(0, 500, 0), (1, 0, 0)]


@pytest.mark.parametrize("value", [None, b"\x07", b"\xc1"], ids=["no hash", "no array", "not msgpack"])
def test_malformed_usage_stops_no_end(store: Store, value: bytes | None) -> None:
    name = keys.tenant_usage(f"t:{store.usages.today()}")
    if value is None:
        store.redis.set(name, "x")
    else:
        store.redis.hset(name, "kk", value)
    assert report(store, "t", "key").items == []
    finished(store)
    assert [row.executions for row in report(store, "t", "key").items] == [1]


def test_execution_of_an_older_version_has_no_key(store: Store) -> None:
    id = submit(store)
    store.redis.hdel(keys.execution(id), "key")
    end(store, claimed(store, id), result())
    assert [(row.name, row.executions) for row in report(store, "t", "key").items] == [("", 1)]

"""Two hundred tenants with fifty keys each, all of which submit: quotas and usage are exact while a process is killed.

Some keys of each tenant submit to two API processes, the others to Redis as an API process does: by its script, with a
cache of quotas.
"""

from __future__ import annotations

import random
import secrets
import signal
import sys
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import httpx2
import pytest
from httpx2 import TransportError

from orchestrator import queue
from orchestrator.errors import QuotaExceeded
from orchestrator.identity.api_keys import ApiKeys, NewKey
from orchestrator.identity.tenants import Records
from orchestrator.models import ISOLATIONS, Usage
from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas
from orchestrator.models.tenants.records import Tenant
from orchestrator.settings import Settings
from orchestrator.states import Reason, cancelled
from orchestrator.store import Store, open_store
from orchestrator.store.accounting import microseconds
from tests.builders.records import result, submit
from tests.harness import Process, Stack, bearer, eventually, free_port

TENANTS, KEYS, SUBMITTERS = 200, 50, 16
TRIES = 2  # submissions over HTTP with each key
OF_KEY, OF_TENANT = 1, 5  # executions a day; every eighth tenant is bounded by its keys alone
KILLS = (2000, 5000)  # answers after which a process is killed
FIELDS = ("executions", "wall_seconds", "cpu_seconds", "output_bytes")
Sums = defaultdict[tuple[str, str], Counter[str]]


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"janitor_seconds": 3600}  # its rounds would repair wrong counters before they are judged


def names(over_http: int) -> list[str]:
    """Those of one row: rows share a Redis, in which a tenant's quota of the day is used up."""
    return [f"t{over_http}-{number:03}" for number in range(TENANTS)]


def expected(tenant: str) -> int:
    return OF_TENANT if int(tenant.rpartition("-")[2]) % 8 else OF_KEY * KEYS


def secrets_of(store: Store, api_keys: ApiKeys, tenant: str) -> list[tuple[str, str]]:
    """Make a tenant with its keys; their ids and secrets."""
    Records(store).put(b"", Tenant(id=tenant), "")
    if expected(tenant) == OF_TENANT:
        store.quotas.put_tenant(tenant, TenantQuotas(executions_per_day=OF_TENANT))
    quotas = KeyQuotas(executions_per_day=OF_KEY)
    new = NewKey(name="n", tenant=tenant, scopes=("executions:write",), quotas=quotas)
    return [(key.id, secret) for key, secret in (api_keys.create(new) for _ in range(KEYS))]


class Restarted:
    """A second API process, which is started again at once when it was killed."""

    def __init__(self, api: Stack) -> None:
        self._api, self._port, self.kills = api, free_port(), 0
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Restarted:
        self._start()
        eventually(self._answers, "the second process answers", 180)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop(signal.SIGKILL)

    def kill(self) -> None:
        self._process.stop(signal.SIGKILL)
        self.kills += 1
        self._start()

    def _start(self) -> None:
        environment = {**self._api.env, "MAYFLY_API_PORT": str(self._port)}
        log = self._api.directory / f"second-{self.kills}.log"
        self._process = Process([sys.executable, "-m", "orchestrator.api"], environment, log)

    def _answers(self) -> bool:
        with suppress(TransportError):
            return httpx2.get(f"{self.url}/livez").status_code == 200
        return False


def run_executions(store: Store, sums: Sums, is_done: threading.Event, seed: int) -> None:
    """A worker without containers: attempts are lost, cancelled or committed with some usage."""
    dice, deliveries, last = random.Random(seed), queue.Deliveries(store.redis, store.redis, f"w{seed}"), None
    while not is_done.is_set():
        last = deliveries.take(ISOLATIONS, last)
        if last is None:
            is_done.wait(0.01)
            continue
        claim, tenant = last.claim, last.queue.partition(":")[0]
        key = store.records.get(claim.id, None).key_id or ""
        kind = dice.random()
        if kind < 0.1:
            assert store.records.requeue(claim.id, claim.attempt)
            queue.put_back(store, claim.id)
            continue
        own = sums[tenant, key]
        own["executions"] += 1
        if kind < 0.2:
            assert store.records.end(claim.id, cancelled(Reason.CANCELLED_BY_USER), "", claim.attempt)
            continue
        used = Usage(wall_seconds=dice.random(), cpu_seconds=dice.random())
        out = dice.randrange(1000)
        store.records.start(claim, store.now())
        store.records.commit(claim, result().model_copy(update={"usage": used, "stdout_bytes": out}))
        own["wall_seconds"] += microseconds(used.wall_seconds)
        own["cpu_seconds"] += microseconds(used.cpu_seconds or 0)
        own["output_bytes"] += out


@pytest.mark.timeout(900)  # a minute on an idle machine
@pytest.mark.parametrize("over_http", [4, pytest.param(KEYS, marks=pytest.mark.complete)])
def test_usage_and_quotas_of_many_tenants_are_exact_while_a_process_is_killed(api: Stack, over_http: int) -> None:
    """``over_http``: keys of each tenant."""
    settings = Settings(state_dir=api.directory / "state", redis_url=api.redis.url)
    tenants = names(over_http)
    store, third = open_store(settings), open_store(settings)
    api_keys = ApiKeys(store, None, settings.secret())
    with (
        closing(store.redis),
        closing(third.redis),
        ThreadPoolExecutor(SUBMITTERS + 2) as threads,
        Restarted(api) as second,
    ):
        made = dict(zip(tenants, threads.map(lambda name: secrets_of(store, api_keys, name), tenants), strict=True))
        todo: list[tuple[str, str, str | None]] = []  # tenant, key, and its secret for a submission over HTTP
        for name, own in made.items():
            todo += [(name, id, secret) for id, secret in own[:over_http] for _ in range(TRIES)]
            todo += [(name, id, None) for id, _ in own[over_http:]]
        random.Random(1).shuffle(todo)
        sums: Sums = defaultdict(Counter)
        is_done, lock = threading.Event(), threading.Lock()
        answered: list[int] = []
        accepted: defaultdict[str, set[str]] = defaultdict(set)

        def submitter(number: int) -> None:
            with httpx2.Client(timeout=30) as http:
                for position in range(number, len(todo), SUBMITTERS):
                    name, key, secret = todo[position]
                    if secret is None:
                        status, id = offer(third, name, key)
                    else:
                        headers = {**bearer(secret), "Idempotency-Key": secrets.token_hex(8)}
                        answer = send(http, [str(api.client.base_url), second.url], position, headers)
                        status, id = answer.status_code, answer.json().get("id", "")
                    with lock:
                        answered.append(status)
                        if status == 202:
                            accepted[name].add(id)
                        if len(answered) in KILLS:
                            second.kill()

        workers = [threads.submit(run_executions, store, sums, is_done, seed) for seed in (1, 2)]
        try:
            list(threads.map(submitter, range(SUBMITTERS)))
            eventually(lambda: store.records.counts() == {"queued": 0, "active": 0}, "every execution has ended", 200)
        finally:
            is_done.set()
        for worker in workers:
            worker.result()
        assert set(answered) == {202, 429}
        assert {name: len(ids) for name, ids in accepted.items()} == {name: expected(name) for name in tenants}
        assert second.kills == len(KILLS)
        for name in tenants:
            check_usage(api, store, name, {key: sums[name, key] for key, _ in made[name] if sums[name, key]})
        assert store.records.recount() == 0, "the janitor finds nothing to repair"


def offer(store: Store, tenant: str, key: str) -> tuple[int, str]:
    """Submit as an API process does; the status of its answer, and the execution's id."""
    try:
        return 202, submit(store, tenant=tenant, key=key, limit=10**6, tenant_limit=10**6)
    except QuotaExceeded:
        return 429, ""


def send(http: httpx2.Client, urls: list[str], turn: int, headers: dict[str, str]) -> httpx2.Response:
    """The answer of one of the processes; the same submission again until one answers."""
    while True:
        with suppress(TransportError):
            answer = http.post(
                f"{urls[turn % 2]}/api/v1/executions", json={"environment": "python", "code": "1"}, headers=headers
            )
            if answer.status_code != 503:
                return answer
        turn += 1


def check_usage(api: Stack, store: Store, tenant: str, own: dict[str, Counter[str]]) -> None:
    """A tenant's usage by key is what was committed, and equals its records; nothing is in use."""
    report = api.client.get(f"/api/v1/tenants/{tenant}/usage", params={"by": "key"}).json()
    shown = {
        row["name"]: {name: microseconds(row[name]) if "seconds" in name else row[name] for name in FIELDS}
        for row in report["items"]
    }
    assert shown == {key: {name: sums[name] for name in FIELDS} for key, sums in own.items()}
    records = store.records.get_many(id for _, id in store.records.page_ids(tenant, None, 200))
    total = sum((record.usage.cpu_seconds or 0 for record in records if record.usage), 0.0)
    use = store.quotas.use_of_tenant(tenant)
    assert len(records) == report["total"]["executions"] == use.accepted == expected(tenant)
    assert (use.queued, use.active, use.reserved_microseconds) == (0, 0, 0)
    assert abs(use.cpu_microseconds - microseconds(total)) <= len(records)
    assert use.cpu_microseconds == microseconds(report["total"]["cpu_seconds"])

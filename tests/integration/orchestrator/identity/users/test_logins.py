"""Log-ins under attack: pauses that slow an attacker but not the user, equal answers and times, few hashes."""

from __future__ import annotations

import hashlib
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.identity.users.passwords import MOST_WAITING
from orchestrator.store.keys import login_attempts
from tests.builders.people.own_users import LOGIN, USERS, OwnUser, OwnUsers
from tests.harness import Stack, eventually

FREE = 4  # wrong passwords without a pause
PROXY = "127.0.0.9"


@pytest.fixture(scope="module")
def users(api: Stack) -> OwnUsers:
    return OwnUsers(api)


@pytest.fixture(autouse=True)
def forget_attempts(api: Stack) -> Iterator[None]:
    """Each test has the bound of the whole installation for itself."""
    with api.redis.client() as client:
        client.delete("mayfly:logins")
        yield


def attempt(api: Stack, name: str, password: str, address: str = "127.0.0.1") -> httpx2.Response:
    """A log-in from one of this host's addresses."""
    transport = httpx2.HTTPTransport(local_address=address)
    with httpx2.Client(base_url=api.env["MAYFLY_URL"], transport=transport, timeout=60) as client:
        return client.post(LOGIN, json={"name": name, "password": password})


def place(name: str) -> str:
    """The key of the failed log-ins from this host."""
    return login_attempts(hashlib.sha256(f"{name}\0{'127.0.0.1'}".encode()).hexdigest()[:32])


def same(answer: httpx2.Response) -> tuple[int, dict[str, Any], list[str]]:
    return answer.status_code, {**answer.json(), "request_id": ""}, sorted(answer.headers)


def test_unknown_wrong_and_disabled_are_one_answer(api: Stack, users: OwnUsers) -> None:
    user, disabled = users.create(), users.create()
    assert api.client.patch(f"{USERS}/{disabled.id}", json={"disabled": True}).status_code == 200
    answers = [
        attempt(api, user.name, "a wrong password"),
        attempt(api, "nobody-here", "a wrong password"),
        attempt(api, "NO name \u00fc", "x"),
        attempt(api, disabled.name, disabled.password),
        attempt(api, user.name, "x" * 1000),
    ]
    assert answers[0].json()["code"] == "login_refused"
    assert answers[0].headers["www-authenticate"] == "Bearer", "it had no token that could be invalid"
    assert [same(answer) for answer in answers] == [same(answers[0])] * len(answers)


def test_pauses_grow_for_an_attacker_and_are_for_no_other_address(api: Stack, users: OwnUsers) -> None:
    user = users.create()
    for name in (f"unknown-{user.name}", user.name):
        statuses = [attempt(api, name, f"wrong {number}").status_code for number in range(FREE + 1)]
        assert statuses == [401] * (FREE + 1), name
        with api.redis.client() as client:
            left = int(client.hget(place(name), "ends") or 0) / 1000 - client.time()[0]
            assert left > -30, "a pause has begun, however slow this machine is"
            client.hset(place(name), "ends", (client.time()[0] + 60) * 1000)
        assert attempt(api, name, "wrong").status_code == 429, name
    slowed = attempt(api, user.name, user.password)
    assert (slowed.status_code, slowed.json()["code"]) == (429, "login_slowed"), "the right password waits, too"
    assert int(slowed.headers["retry-after"]) >= 1
    assert attempt(api, user.name, user.password, PROXY).status_code == 200, "the victim is let in from elsewhere"
    pauses = []
    with api.redis.client() as client:
        for _ in range(4):
            client.hset(place(user.name), "ends", 0)
            assert attempt(api, user.name, "wrong").status_code == 401
            pauses.append(int(client.hget(place(user.name), "ends") or 0) / 1000 - client.time()[0])
    assert all(later > 1.4 * earlier for earlier, later in pairwise(pauses)), pauses
    assert max(pauses) < 120, "a few mistakes delay a user for a short time"


def test_lock_is_an_event_and_the_failures_are_on_record(api: Stack, users: OwnUsers) -> None:
    user = users.create()
    with api.redis.client() as client:
        client.delete("mayfly:security:counts:login_refused", "mayfly:security:counts:account_locked")
    for number in range(FREE + 1):
        assert attempt(api, user.name, f"wrong {number}").status_code == 401

    def details(kind: str) -> list[str]:
        items = api.client.get("/api/v1/security-events", params={"type": kind, "limit": 200}).json()["items"]
        return [item["data"]["detail"] for item in items]

    eventually(lambda: any(user.id in text for text in details("account_locked")), "account_locked names the user")
    assert any("Failed log-ins of own users" in text for text in details("auth_failure"))
    entries = api.client.get("/api/v1/audit", params={"action": "session.create", "limit": 1000}).json()["items"]
    refused = [entry for entry in entries if entry["outcome"] == "refused"]
    assert refused[-1]["resource"] == f"user/{user.id}"
    assert refused[-1]["code"] == "login_refused"


def test_flood_from_many_addresses_is_bounded_and_locks_no_owner_out(api: Stack, users: OwnUsers) -> None:
    user = users.create()
    assert attempt(api, user.name, user.password).status_code == 200, "from now on the address is the user's"
    with api.redis.client() as client:
        client.set("mayfly:logins", 120, ex=60)  # as many as a flood of a minute
    assert attempt(api, user.name, "wrong", PROXY).status_code == 429
    assert attempt(api, "nobody", "wrong", PROXY).status_code == 429
    assert attempt(api, user.name, user.password).status_code == 200


def test_concurrent_guesses_do_not_evade_the_pauses(api: Stack, users: OwnUsers) -> None:
    user = users.create()
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda n: attempt(api, user.name, f"wrong {n}").status_code, range(16)))
    assert statuses.count(401) == FREE + 1, statuses


def test_unknown_and_known_users_take_the_same_time(api: Stack, users: OwnUsers) -> None:
    """Two distributions of one run, taken in turns; a dummy hash left out makes one a tenth of the other."""
    names: list[OwnUser] = [users.create() for _ in range(8)]
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(16):
        for known in (True, False):
            name = names[number % 8].name if known else f"nobody-{number % 8}"
            begun = time.perf_counter()
            assert attempt(api, name, "a wrong password").status_code == 401
            seconds[known].append(time.perf_counter() - begun)
    there, absent = (statistics.quantiles(seconds[which])[0] for which in (True, False))  # the rest has others' work
    assert 0.7 < there / absent < 1.4, seconds


def test_no_more_than_two_hashes_at_a_time_and_others_wait_or_are_refused(api: Stack, users: OwnUsers) -> None:
    assert api.api is not None
    most, stop = [0], threading.Event()
    status = Path(f"/proc/{api.api.pid}/status")

    def watch() -> None:
        while not stop.is_set():
            resident = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
            most[0] = max(most[0], int(resident.split()[1]))
            stop.wait(0.005)

    attempt(api, "nobody", "wrong")
    before = int(next(line for line in status.read_text().splitlines() if line.startswith("VmRSS")).split()[1])
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(60) as pool:
            answers = list(pool.map(lambda n: attempt(api, f"nobody-{n}-x", "wrong").status_code, range(120)))
    finally:
        stop.set()
        watcher.join()
    assert set(answers) <= {401, 429}
    assert answers.count(401) > MOST_WAITING
    assert most[0] - before < 4 * 64 * 1024, "KiB: two hashes take 128 MiB, and the rest is small"

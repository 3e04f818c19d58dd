"""Security events over the API and the command line: visible to the right tenants, followed without loss, printed
escaped.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.models import SECURITY_KINDS
from orchestrator.queries import cursors
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from orchestrator.store.steps import SECURITY
from tests.builders.events import security_event
from tests.builders.records import claimed, submit
from tests.harness import ROOT, Stack, eventually, logged

LIST = "/api/v1/security-events"
# CloudEvents 1.0.2, 3.1 and 3.2: what is required, what is allowed, and what each is made of.
REQUIRED = {"id", "source", "specversion", "type"}
ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")
URI_REFERENCE = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
HOSTILE = '\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u202etxt\u2028{"event": "forged"}\x7f'


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"proxies": ["127.0.0.1"], "lease_seconds": 600.0}  # no worker renews the leases of these executions


@pytest.fixture
def store(api: Stack, tmp_path: Path) -> Iterator[Store]:
    """The API's own store, empty of events."""
    made = open_store(Settings(state_dir=tmp_path, redis_url=api.redis.url))
    for key in (keys.SECURITY, *made.redis.keys("mayfly:tenant:*:security"), *made.redis.keys("mayfly:security:*")):
        made.redis.delete(key)
    yield made
    made.redis.close()


def page(stack: Stack, headers: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
    answer = stack.client.get(LIST, params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert set(found) == {"items", "next_cursor", "follow_cursor"}
    return found


def details(found: dict[str, Any]) -> list[str]:
    return [item["data"]["detail"] for item in found["items"]]


def check_cloud_event(event: dict[str, Any]) -> None:
    assert set(event) >= REQUIRED
    assert event["specversion"] == "1.0"
    for name, value in event.items():
        if name == "data":
            continue
        assert ATTRIBUTE.fullmatch(name), name
        assert isinstance(value, str), name
        assert value, name
    assert URI_REFERENCE.fullmatch(event["source"])
    assert TIME.fullmatch(event["time"])
    assert event["datacontenttype"] == "application/json"
    assert isinstance(event["data"], dict)
    assert re.fullmatch(r"dev\.mayfly\.(security|execution)\.[a-z_]+", event["type"])


def test_events_are_cloud_events(api: Stack, store: Store) -> None:
    id = submit(store, tenant="a")
    claim = claimed(store, id, "host-1-ab")
    event = security_event("oom_killed", "Much.", limit=1, process=None)
    assert store.output.append(id, claim.attempt, [("security", event, SECURITY)])
    store.security.add(security_event("anomaly", "Odd.", count=3), tenant=None, source="janitor")
    blocked, anomaly = page(api)["items"]
    for found in (blocked, anomaly):
        check_cloud_event(found)
    assert (blocked["type"], blocked["subject"]) == ("dev.mayfly.security.oom_killed", id)
    assert blocked["source"] == "/mayfly/worker/host-1-ab"
    assert blocked["data"] == {"kind": "oom_killed", "detail": "Much.", "limit": 1, "process": None}
    assert (blocked["tenant"], blocked["environment"]) == ("a", "python")
    assert (anomaly["source"], anomaly["data"]["count"]) == ("/mayfly/janitor", 3)
    assert not {"subject", "tenant", "environment"} & set(anomaly), "what does not apply is left out"
    own = store.records.get(id, "a")
    owner = api.headers_of("a", "executions:read")
    listed = api.client.get(f"/api/v1/executions/{id}/events", headers=owner).json()["items"]
    for found in listed:
        check_cloud_event(found)
    assert [item["type"].rpartition(".")[2] for item in listed] == ["queued", "starting", "oom_killed"]
    assert listed[-1] == blocked, "it is the same event wherever it is read"
    assert listed[1]["data"] == {"state": "starting", "attempt": 1}
    assert own.security_events == 1
    pairs = {(item["source"], item["id"]) for item in [*listed, anomaly]}
    assert len(pairs) == 4


def test_tenants_see_their_own_and_operators_all(api: Stack, store: Store) -> None:
    for tenant in ("a", "b", None):
        store.security.add(security_event("timeout", f"of {tenant}"), tenant=tenant, source="api")
    assert details(page(api, api.headers_of("a", "security:read"))) == ["of a"]
    assert details(page(api, api.headers_of("b", "security:read"))) == ["of b"]
    assert details(page(api, api.headers_of("c", "security:read"))) == []
    everything = ["of a", "of b", "of None"]
    assert details(page(api, api.headers_of("a", "security:read", "fleet:read"))) == everything
    assert details(page(api, api.headers_of("a", "admin"))) == everything
    for scopes in (("fleet:read",), ("executions:read", "audit:read")):
        refused = api.client.get(LIST, headers=api.headers_of("a", *scopes))
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_cursor_is_valid_only_in_its_own_log(api: Stack, store: Store) -> None:
    own, others = api.headers_of("a", "security:read"), api.headers_of("b", "security:read")
    cursor = page(api, own)["follow_cursor"]
    assert page(api, own, cursor=cursor)["items"] == []
    for headers in (others, None):
        answer = api.client.get(LIST, params={"cursor": cursor}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"since": "yesterday"}, "invalid_since"),
        ({"since": "2026-01-31"}, "invalid_since"),
        ({"since": "2026-01-31T12:00:00"}, "invalid_since"),
        ({"since": "2026-01-31T12:00:00 00:00"}, "invalid_since"),  # a + that was not escaped
        ({"since": "2026-02-30T12:00:00Z"}, "invalid_since"),
        ({"since": "2026-W05-6T12:00:00Z"}, "invalid_since"),
        ({"since": "1"}, "invalid_since"),
        ({"since": ""}, "invalid_since"),
        ({"since": "x" * 100}, "validation_failed"),
        ({"type": "meltdown"}, "unknown_event_type"),
        ({"type": "dev.mayfly.execution.running"}, "unknown_event_type"),
        ({"type": ""}, "unknown_event_type"),
        ({"cursor": "x"}, "invalid_cursor"),
        ({"cursor": ""}, "invalid_cursor"),
        ({"cursor": "\u0661"}, "invalid_cursor"),
        ({"limit": "0"}, "validation_failed"),
        ({"limit": "201"}, "validation_failed"),
        ({"wait": "-1"}, "validation_failed"),
        ({"wait": "nan"}, "validation_failed"),
    ],
)
def test_invalid_security_log_query_is_refused(api: Stack, params: dict[str, str], code: str) -> None:
    answer = api.client.get(LIST, params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert answer.json()["errors"][0]["field"] == next(iter(params))


def test_forged_positions_are_refused(api: Stack) -> None:
    mine = cursors.list_id("security", None)
    for position in ("", "-", "x-y", "1", "1-2-3", "-1-0", f"{2**64}-0", f"0-{2**64}", 5, None, ["0-0"], "9" * 300):
        answer = api.client.get(LIST, params={"cursor": cursors.closed(mine, position)})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor"), position
    assert page(api, cursor=cursors.closed(mine, "0-0"))  # the control


def test_type_since_and_limit(api: Stack, store: Store) -> None:
    for kind in SECURITY_KINDS:
        store.security.add(security_event(kind, kind), tenant="a", source="api")
    assert details(page(api, type="anomaly")) == details(page(api, type="dev.mayfly.security.anomaly")) == ["anomaly"]
    first = page(api, limit=5)
    assert details(first) == list(SECURITY_KINDS[:5])
    assert first["next_cursor"] == first["follow_cursor"]
    rest = page(api, cursor=first["next_cursor"])
    assert details(rest) == list(SECURITY_KINDS[5:])
    assert rest["next_cursor"] is None
    assert page(api, cursor=rest["follow_cursor"])["items"] == []
    # Since the time of an event means from that event on, in any way to write that time.
    last = rest["items"][-1]["time"]
    moment = datetime.fromisoformat(last)
    elsewhere = moment.astimezone(tz=datetime.strptime("+0530", "%z").tzinfo).isoformat()
    for since in (last, elsewhere, last.replace("T", "t").replace("Z", "z")):
        found = page(api, since=since)["items"]
        assert found[-1] == rest["items"][-1]
        assert all(item["time"] >= last for item in found)
    assert details(page(api, since="1970-01-01T00:00:00Z")) == details(page(api, since="0001-01-01T00:00:00+23:59"))
    assert page(api, since="9999-12-31T23:59:59Z")["items"] == []
    assert page(api, since=(moment + timedelta(seconds=1)).isoformat())["items"] == []


def test_paging_loses_and_repeats_nothing_while_events_arrive(api: Stack, store: Store) -> None:
    def write(number: int) -> None:
        for count in range(60):
            store.security.add(security_event("timeout", f"{number}:{count}"), tenant="a", source="api")

    with ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(write, number) for number in range(4)]
        seen: list[dict[str, Any]] = []
        cursor, pages, deadline = None, 0, time.monotonic() + 60
        while True:
            over = all(writer.done() for writer in writers)
            found = page(api, limit=9, **({"cursor": cursor} if cursor else {}))
            seen += found["items"]
            cursor, pages = found["follow_cursor"], pages + bool(found["items"])
            if over and not found["items"]:
                break
            assert time.monotonic() < deadline
        for writer in writers:
            writer.result()
    assert pages > 5
    assert len(seen) == len({event["id"] for event in seen}) == 240
    assert {event["data"]["detail"] for event in seen} == {f"{n}:{count}" for n in range(4) for count in range(60)}


def test_a_wait_is_over_as_soon_as_an_event_comes(api: Stack, store: Store) -> None:
    own = api.headers_of("a", "security:read")
    cursor = page(api, own)["follow_cursor"]
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(page, api, own, cursor=cursor, wait=60, type="anomaly")
        eventually(lambda: subscribed(api), "the API listens")
        store.security.add(security_event("anomaly", "of another"), tenant="b", source="api")
        store.security.add(security_event("timeout", "of another kind"), tenant="a", source="api")
        with pytest.raises(TimeoutError):
            waiting.result(0.5)
        wrote = time.monotonic()
        store.security.add(security_event("anomaly", "awaited"), tenant="a", source="api")
        found = waiting.result(60)
    assert details(found) == ["awaited"]
    assert time.monotonic() - wrote < 40  # on a busy machine; its wait had nearly a minute
    began = time.monotonic()
    assert page(api, own, cursor=found["follow_cursor"], wait=0.3)["items"] == []
    assert time.monotonic() - began >= 0.3


def subscribed(stack: Stack) -> bool:
    client = stack.redis.client()
    try:
        return bool(client.pubsub_channels("mayfly:wake:*"))
    finally:
        client.close()


def test_waiting_sends_no_command_to_redis(api: Stack, store: Store) -> None:
    def commands() -> int:
        return sum(
            int(stats["calls"])
            for name, stats in store.redis.info("commandstats").items()
            if name == "cmdstat_xrange"
        )  # fmt: skip

    cursor = page(api)["follow_cursor"]
    before = commands()
    assert page(api, cursor=cursor, wait=1.5)["items"] == []
    # Once it is subscribed, and at the end; an earlier request's channel may just have been left.
    assert commands() - before in (2, 3)


def test_wrong_keys_are_events_that_do_not_fill_the_log(api: Stack, store: Store) -> None:
    wrong = {"Authorization": "Bearer mfk_" + secrets.token_urlsafe(32)}
    for _ in range(25):
        assert api.client.get("/api/v1/executions", headers=wrong).status_code == 401
    eventually(lambda: len(page(api)["items"]) == 2, "the events are stored")
    found = page(api, type="auth_failure")["items"]
    assert [item["data"]["count"] for item in found] == [1, 10]
    assert [item["data"]["address"] for item in found] == ["127.0.0.1"] * 2
    assert "tenant" not in found[0]
    for place in (json.dumps(found), (api.directory / "api.log").read_text(), dump(store)):
        assert wrong["Authorization"].split()[1][4:] not in place
    # A request without a key is no attempt with a wrong key.
    assert httpx2.get(api.env["MAYFLY_URL"] + LIST, timeout=60).status_code == 401
    revoked = api.headers_of("a", "executions:read")
    id = api.client.get("/api/v1/api-keys").json()["items"][-1]["id"]
    assert api.client.get("/api/v1/executions", headers=revoked).status_code == 200
    assert api.client.delete(f"/api/v1/api-keys/{id}").status_code == 204
    store.redis.delete(keys.SECURITY_COUNTS + "auth_failure")
    assert api.client.get("/api/v1/executions", headers=revoked).status_code == 401
    eventually(lambda: len(page(api)["items"]) == 3, "a revoked key is an event")


def test_claimed_client_addresses_are_validated(api: Stack, store: Store) -> None:
    wrong = {"Authorization": "Bearer mfk_wrong"}
    for claimed_address in ("203.0.113.9", HOSTILE.encode("unicode_escape").decode(), "2001:db8::1", "2001:db8::2"):
        api.client.get("/api/v1/executions", headers={**wrong, "X-Forwarded-For": claimed_address})
    found = eventually(lambda: len(items := page(api)["items"]) == 3 and items, "three events are stored")
    assert {item["data"]["address"] for item in found} == {"203.0.113.9", "unknown", "2001:db8::/64"}


def dump(store: Store) -> str:
    """Everything Redis holds about security events."""
    held = [store.redis.xrange(key) for key in [keys.SECURITY, *store.redis.keys("mayfly:tenant:*:security")]]
    counts = [(key, store.redis.hgetall(key)) for key in store.redis.keys(keys.SECURITY_COUNTS + "*")]
    return repr((held, counts))


def test_asking_for_another_tenants_id_is_an_event_only_operators_see(api: Stack, store: Store) -> None:
    owner, other = (api.headers_of(tenant, "executions:read", "executions:write", "security:read") for tenant in "ab")
    id = api.client.post("/api/v1/executions", json={"environment": "bash", "code": ":"}, headers=owner).json()["id"]
    for _ in range(12):
        never = api.client.get(f"/api/v1/executions/{secrets.token_hex(16)}", headers=other)
        assert api.client.get(f"/api/v1/executions/{id}", headers=other).status_code == never.status_code == 404
    assert api.client.get(f"/api/v1/executions/{id}/stream", headers=other).status_code == 404
    assert api.client.get(f"/api/v1/executions/{id}", headers=owner).status_code == 200
    found = eventually(lambda: len(items := page(api)["items"]) == 2 and items, "two events are stored")
    assert [item["data"]["count"] for item in found] == [1, 10]
    for item in found:
        assert (item["type"], item["subject"]) == ("dev.mayfly.security.cross_tenant_access", id)
        assert (item["data"]["asked_by"], item["data"]["owned_by"]) == ("b", "a")
    assert page(api, owner)["items"] == page(api, other)["items"] == []
    listed = api.client.get(f"/api/v1/executions/{id}/events", headers=owner).json()["items"]
    assert [item["data"]["state"] for item in listed] == ["queued"]


def test_refusals_stay_the_same_when_no_event_can_be_written(api: Stack, store: Store) -> None:
    owner, other = (api.headers_of(tenant, "executions:read", "executions:write") for tenant in "ab")
    id = api.client.post("/api/v1/executions", json={"environment": "bash", "code": ":"}, headers=owner).json()["id"]
    store.redis.config_set("maxmemory", 1)
    try:
        assert api.client.get(f"/api/v1/executions/{id}", headers=other).status_code == 404
        wrong = {"Authorization": "Bearer mfk_wrong"}
        assert api.client.get(f"/api/v1/executions/{id}", headers=wrong).status_code == 401
        log = api.directory / "api.log"
        eventually(lambda: log.read_text().count('"stored": false') >= 2, "the events are log lines only")
    finally:
        store.redis.config_set("maxmemory", 0)
    assert page(api)["items"] == []


def test_changed_specification_is_a_security_event(stack: Stack, tmp_path: Path) -> None:
    store = open_store(Settings(state_dir=tmp_path, redis_url=stack.redis.url))
    id = submit(store)  # sealed with another key than the installation's
    ended = eventually(lambda: (e := store.records.get(id, "t")).finished_at is not None and e, "the execution ends")
    store.redis.close()
    assert (ended.state, ended.reason, ended.attempt) == ("errored", "internal", 1)
    items = page(stack, type="queue_tampering")["items"]
    assert [item["subject"] for item in items] == [id]
    assert ended.security_events == 1


def test_program_text_in_events_is_escaped(stack: Stack) -> None:
    names = [HOSTILE.replace("/", ""), "half \udcff"]
    code = f"import os\nfor name in {names!r}: os.symlink('/x', '/output/' + name)"
    began = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    id = stack.run(code=code)["id"]
    found = [item for item in page(stack, since=began, type="artifact_rejected")["items"] if item["subject"] == id]
    assert [item["data"] for item in found] == stack.security(id)
    assert len(found) == 2
    done = mayfly(stack, "events", "--since", began, "--kind", "artifact_rejected")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.isprintable() and id in line for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) == 2
    lines = [line for line in logged(stack.directory / "worker-0.log") if line["event"] == "security.event"]
    written = [line for line in lines if id in str(line)]
    assert [line["kind"] for line in written] == ["artifact_rejected"] * 2
    assert stack.worker_metrics()['mayfly_security_events_total{kind="artifact_rejected"}'] >= 2


def test_hostile_strings_are_data_to_programs_and_harmless_to_people(api: Stack, store: Store) -> None:
    """As they would come from a sandbox whose agent was taken over: even halves of surrogate pairs break nothing."""
    id = submit(store, tenant="default")
    claim = claimed(store, id)
    for path in (HOSTILE, "half \ud800"):
        event = security_event("artifact_rejected", "Only files.", path=path, seen={path: HOSTILE})
        assert store.output.append(id, claim.attempt, [("security", event, SECURITY)])
    assert [event["path"] for event in api.security(id)] == [HOSTILE, "half \\ud800"]
    for words in (["events"], ["events", id], ["events", "--json"], ["events", id, "--json"]):
        done = mayfly(api, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.replace("\n", "").isprintable()
        assert "owned" in done.stdout
        if "--json" in words:
            assert HOSTILE in {item["data"].get("path") for item in json.loads(done.stdout)["items"]}
        else:
            assert all(line.startswith("20") and id in line for line in done.stdout.splitlines())


def mayfly(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *words],
        env={**os.environ, **stack.env}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


class Following:
    """``mayfly events -f`` as a process, and the lines it has printed."""

    def __init__(self, stack: Stack, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", "events", "-f", *words],
            env={**os.environ, **stack.env}, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))

    def interrupt(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        self._reader.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        printed = self.process.stderr.read().decode()
        self.process.stdout.close()
        self.process.stderr.close()
        return code, printed


def test_following_survives_the_api_and_ends_when_interrupted(api: Stack, store: Store) -> None:
    store.security.add(security_event("anomaly", "before"), tenant=None, source="api")
    following = Following(api, "--kind", "anomaly")
    try:
        eventually(lambda: len(following.lines) == 1, "the earlier event is printed")
        store.security.add(security_event("timeout", "of another kind"), tenant=None, source="api")
        store.security.add(security_event("anomaly", HOSTILE, path=HOSTILE), tenant=None, source="api")
        eventually(lambda: len(following.lines) == 2, "the new event is printed")
        assert api.api is not None
        api.api.stop(signal.SIGKILL)
        store.security.add(security_event("anomaly", "while it was away"), tenant=None, source="api")
        api.start_api()
        store.security.add(security_event("anomaly", "after"), tenant=None, source="api")
        eventually(lambda: len(following.lines) == 4, "following resumes after the last event", 180)
    finally:
        code, printed = following.interrupt()
    assert (code, printed) == (130, "")
    assert all(line.isprintable() for line in following.lines)
    assert [line.split()[1] for line in following.lines] == ["anomaly"] * 4
    assert "\\x1b[2J" in following.lines[1]
    assert [line.rpartition("  ")[2] for line in following.lines[2:]] == ["while it was away", "after"]


def test_following_as_json_is_a_line_for_each_event(api: Stack, store: Store) -> None:
    store.security.add(security_event("anomaly", HOSTILE), tenant="a", source="api")
    following = Following(api, "--json", "--since", "1h")
    try:
        eventually(lambda: following.lines, "the earlier event is printed")
    finally:
        assert following.interrupt()[0] == 130
    (line,) = following.lines
    assert line.isprintable()
    assert json.loads(line)["data"]["detail"] == HOSTILE


def test_events_command_refuses_invalid_options(api: Stack) -> None:
    for words in (["--kind", "meltdown"], ["--since", "yesterday"], [secrets.token_hex(16)]):
        done = mayfly(api, "events", *words)
        assert done.returncode == 2, done
        assert done.stdout == ""
        assert done.stderr.startswith("mayfly: ")
    assert mayfly(api, "events", "x", "-f").returncode == 2

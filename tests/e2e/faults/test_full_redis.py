"""A small Redis and tenants that print all they may: each execution ends with its output, and others continue."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.store import keys
from tests.harness import LONG_LEASE_SECONDS, Stack, bearer, eventually

MIB = 2**20
SIZE = 16 * MIB
MUCH: dict[str, Any] = {
    "environment": "python",
    "code": "import os, sys\nblock = bytes(range(256)) * 4096\nfor n in range(16): sys.stdout.buffer.write(block)",
    "limits": {"output_bytes": SIZE, "wall_seconds": 60, "cpu_seconds": 60},
}
BLOCK = bytes(range(256)) * 4096
SMALL: dict[str, Any] = {"environment": "python", "code": "print('here')", "limits": {"wall_seconds": 60}}


@pytest.fixture
def small(own_stack: Callable[..., Stack]) -> Stack:
    """A stack whose Redis has 64 MB."""
    return with_little_memory(own_stack(slots=2, lease_seconds=LONG_LEASE_SECONDS).start())


def with_little_memory(stack: Stack) -> Stack:
    with stack.redis.client() as client:
        client.config_set("maxmemory", 64 * MIB)
    return stack


def as_tenant(stack: Stack, tenant: str) -> dict[str, str]:
    return bearer(stack.new_key("executions:read", "executions:write", tenant=tenant)["secret"])


def shown(stack: Stack, headers: dict[str, str], id: str, wait: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = stack.client.get(f"/api/v1/executions/{id}", params={"wait": wait}, headers=headers).json()
    return found


def used_bytes(stack: Stack) -> int:
    with stack.redis.client() as client:
        return int(client.info("memory")["used_memory"])


def test_output_of_many_executions_leaves_room_for_other_tenants(small: Stack) -> None:
    """Twelve executions with 16 MB of output each have three times the memory of Redis."""
    loud, quiet = as_tenant(small, "loud"), as_tenant(small, "quiet")
    before = used_bytes(small)
    ids = []
    for _ in range(12):
        answer = small.submit(headers=loud, **MUCH)
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["id"])
        assert small.submit(60, headers=quiet, **SMALL).json()["stdout"] == "here\n"
    for id in ids:
        ended = small.client.get(f"/api/v1/executions/{id}", params={"wait": 60}, headers=loud).json()
        assert (ended["state"], ended["attempt"], ended["stdout_bytes"]) == ("succeeded", 1, SIZE), ended
        assert ended["stdout_truncated"]
    assert used_bytes(small) - before < 6 * MIB
    whole = small.client.get(f"/api/v1/executions/{ids[0]}/stdout", headers=loud).content
    assert hashlib.sha256(whole).digest() == hashlib.sha256(BLOCK * 16).digest()
    part = small.client.get(
        f"/api/v1/executions/{ids[0]}/stdout", headers={**loud, "Range": f"bytes={MIB - 100}-{MIB + 99}"}
    )
    assert (part.status_code, part.content) == (206, whole[MIB - 100 : MIB + 100])
    reported, resumed = b"", None
    for _ in range(2):  # from the start, and on from the middle
        headers = loud if resumed is None else {**loud, "Last-Event-ID": resumed}
        with small.client.stream("GET", f"/api/v1/executions/{ids[0]}/stream", headers=headers) as stream:
            kind = id_ = ""
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("id: "):
                    id_ = line.removeprefix("id: ")
                elif line.startswith("data: ") and kind == "stdout":
                    reported += data_of(json.loads(line.removeprefix("data: ")))
                if resumed is None and len(reported) > SIZE // 2 and not line:
                    resumed = id_
                    break
    assert reported == whole
    for id in ids:
        assert small.client.delete(f"/api/v1/executions/{id}", headers=loud).status_code == 204
    left = small.directory / "state" / "blobs" / "artifacts"
    assert list(left.iterdir()) == []


def data_of(event: dict[str, str]) -> bytes:
    return base64.b64decode(event["base64"]) if "base64" in event else event["text"].encode()


@pytest.mark.timeout(900)
def test_accepted_execution_ends_for_its_true_reason_while_others_fill_redis(small: Stack) -> None:
    """Nine executions print 16 MB each, beside four tenants that fill Redis with inputs of queued executions."""
    with small.redis.client() as client:
        client.config_set("maxmemory", 24 * MIB)
    loud = as_tenant(small, "loud")
    endings = [
        ("", SIZE, ("succeeded", None, None)),
        ("\nsys.exit(3)", SIZE, ("failed", "nonzero_exit", "user")),
        ("", SIZE // 4, ("failed", "output_exceeded", "user")),
    ]
    expected: dict[str, tuple[str, str | None, str | None]] = {}
    for end, bound, verdict in 3 * endings:
        body = {**MUCH, "code": MUCH["code"] + end, "limits": {**MUCH["limits"], "output_bytes": bound}}
        expected[small.submit(headers=loud, **body).json()["id"]] = verdict
    others = [as_tenant(small, f"other-{number}") for number in range(4)]
    files = [{"path": f"{number}.txt", "content": "x" * 60_000} for number in range(16)]
    large: dict[str, Any] = {
        "environment": "python",
        "code": "import time\ntime.sleep(0.2)\nprint(len(open('7.txt').read()))",
        "limits": {"wall_seconds": 60},
    }
    accepted, refused = [], Counter[str]()
    waits = time.monotonic() + 600
    while any(shown(small, loud, id)["state"] in ("queued", "starting", "running") for id in expected):
        assert time.monotonic() < waits, refused
        for headers in others:
            while (answer := small.submit(headers=headers, files=files, **large)).status_code == 202:
                accepted.append((headers, answer.json()["id"]))
            found = answer.json()
            assert (answer.status_code, found["code"]) in ((503, "store_full"), (429, "tenant_store_full")), found
            assert int(answer.headers["Retry-After"]) > 0
            refused[found["code"]] += 1
    assert min(refused["store_full"], refused["tenant_store_full"]) > 0, refused  # the control: there was no room
    for id, verdict in expected.items():
        ended = shown(small, loud, id)
        assert (ended["state"], ended["reason"], ended["fault"], ended["attempt"]) == (*verdict, 1), ended
        assert ended["stdout_bytes"] == SIZE or (ended["reason"] == "output_exceeded" and ended["stdout_truncated"])
    for headers, id in accepted:
        ended = shown(small, headers, id, 60)
        assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "60000\n", 1), ended
    for headers in (loud, *others):
        assert small.submit(60, headers=headers, **SMALL).json()["stdout"] == "here\n"


def test_single_bytes_by_turns_are_read_as_fast_as_pages(small: Stack) -> None:
    """Read one by one, the entries took a hundred times as long."""
    count = 200_000
    limits = {"output_bytes": 2 * count, "wall_seconds": 60, "cpu_seconds": 60}
    bytewise = f"import os\nfor _ in range({count}):\n    os.write(1, b'x')\n    os.write(2, b'y')"
    pagewise = f"import os\nos.write(1, b'x' * {count})\nos.write(2, b'y' * {count})"
    seconds = []
    for code in (bytewise, pagewise):
        ended = small.run(code=code, limits=limits)
        assert (ended["state"], ended["stdout"], ended["stderr"]) == ("succeeded", "x" * count, "y" * count)
        tries = []
        for _ in range(7):
            began = time.monotonic()
            small.show(ended["id"])
            tries.append(time.monotonic() - began)
        seconds.append(min(tries))
    assert seconds[0] < 5 * seconds[1], seconds
    with small.redis.client() as client:
        assert all(client.xlen(key) < 5_000 for key in client.keys(keys.stream("*")))


def test_tenant_at_its_share_is_refused_while_others_are_accepted(own_stack: Callable[..., Stack]) -> None:
    """Each execution keeps 100 KB of inputs in Redis until it runs, and none runs: both slots are busy."""
    small = with_little_memory(own_stack(slots=2, spare_slots=0, lease_seconds=LONG_LEASE_SECONDS).start())
    loud, quiet = as_tenant(small, "loud"), as_tenant(small, "quiet")
    sleeper: dict[str, Any] = {"code": "import time; time.sleep(280)", "limits": {"wall_seconds": 290}}
    sleepers = [small.submit(environment="python", **sleeper).json()["id"] for _ in range(2)]
    eventually(lambda: small.client.get("/api/v1/queues").json()["active"] == 2, "both slots are busy")
    files = [{"path": f"{n}.txt", "content": "x" * 60_000} for n in range(16)]
    refused = None
    for _ in range(60):
        answer = small.submit(headers=loud, environment="python", code="print(1)", files=files)
        if answer.status_code != 202:
            refused = answer
            break
    assert refused is not None
    assert (refused.status_code, refused.json()["code"]) == (429, "tenant_store_full")
    assert int(refused.headers["Retry-After"]) > 0
    assert small.submit(headers=quiet, **SMALL).status_code == 202
    for id in sleepers:  # else the worker's end waits for them
        assert small.client.post(f"/api/v1/executions/{id}/cancel").is_success


def test_execution_keeps_its_output_while_redis_fills_up(small: Stack) -> None:
    """Foreign data fill all of Redis, which refuses every write that needs memory."""
    code = (
        "import sys, time\nprint('begun', flush=True)\nsys.stdin.read()\n"
        "time.sleep(2)  # so that Redis is full when this ends\nprint('x' * 200_000)\nprint('y', file=sys.stderr)"
    )
    body = {"environment": "python", "stdin": {"stream": True}, "limits": {"wall_seconds": 60}}
    id = small.submit(code=code, **body).json()["id"]  # type: ignore[arg-type]
    other = small.submit(code=code, **body).json()["id"]  # type: ignore[arg-type]
    for one in (id, other):
        eventually(lambda one=one: small.show(one)["stdout"] == "begun\n", "the execution runs")  # type: ignore[misc]
    queued = small.submit(**SMALL).json()["id"]
    with small.redis.client() as client:
        client.config_set("maxmemory", 1)
        assert small.submit(**SMALL).json()["code"] == "store_full"
        client.config_set("maxmemory", 0)
        for one in (id, other):
            path = f"/api/v1/executions/{one}/stdin"  # the API knows the memory for half a second

            def sent(path: str = path) -> bool:
                return small.client.post(path, params={"end": "true"}, content=b"go").status_code == 202

            eventually(sent, "the input is taken")
        client.config_set("maxmemory", 1)
        assert small.client.post(f"/api/v1/executions/{other}/cancel").status_code in (202, 409)
        ended = small.ended(id)
        assert (ended["state"], ended["attempt"], ended["stdout_bytes"]) == ("succeeded", 1, 200_007), ended
        assert ended["stderr"] == "y\n"
        assert small.ended(other)["state"] in ("cancelled", "succeeded")
        assert len(small.fleet()) == 1
        assert small.show(queued)["state"] == "queued"
        assert small.client.delete(f"/api/v1/executions/{id}").status_code == 204
        client.config_set("maxmemory", 0)
    assert small.ended(queued)["state"] == "succeeded"
    with small.redis.client() as client:
        assert client.zcard(keys.ACTIVE) == 0

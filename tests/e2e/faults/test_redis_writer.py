"""An attacker writes to Redis while executions run, with all commands, or only with those that Mayfly needs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from orchestrator.store import keys
from tests.harness import ROOT, RedisServer, Stack, eventually

USER = re.compile(r"^user mayfly .*(?:\n .*)*", re.MULTILINE)
PROGRAM: dict[str, Any] = {"environment": "python", "code": "print('fine')"}
WAITING: dict[str, Any] = {
    "environment": "python",
    "code": "print('begun', flush=True)\nprint(input())",
    "stdin": {"stream": True},
    "limits": {"wall_seconds": 60},
}


FORBIDDEN = (
    "CONFIG SET maxmemory 1", "FLUSHALL", "REPLICAOF host 1", "SHUTDOWN", "KEYS *", "FUNCTION LOAD x", "ACL LIST",
    "MONITOR", "CLIENT LIST", "CLIENT KILL TYPE normal", "MODULE LIST", "SET elsewhere x",
    "PUBLISH elsewhere x", "BGREWRITEAOF", "MIGRATE host 1 mayfly:x 0 1", "SCRIPT FLUSH",
)  # fmt: skip


@pytest.fixture
def attacked(own_stack: Callable[..., Stack]) -> Iterator[tuple[Stack, Any]]:
    """A stack with one slot, and a client of its Redis."""
    stack = own_stack(slots=1, spare_slots=0, retry_seconds=0).start()
    with stack.redis.client() as writer:
        yield stack, writer


def begun(stack: Stack) -> str:
    id: str = stack.submit(**WAITING).json()["id"]
    eventually(lambda: stack.show(id)["stdout"] == "begun\n", "the execution runs")
    return id


def feed(stack: Stack, id: str) -> int:
    path = f"/api/v1/executions/{id}/stdin"
    return stack.client.post(path, params={"end": "true"}, content=b"go\n").status_code


def test_a_specification_of_another_execution_is_not_run(attacked: tuple[Stack, Any]) -> None:
    """The seal is for one id: an intact specification under another id does not run, and is an event."""
    stack, writer = attacked
    busy = begun(stack)
    first, second = (stack.submit(environment="python", code=f"print({n})").json()["id"] for n in (1, 2))
    sealed = dict(zip(("spec", "signature"), writer.hmget(keys.execution(first), "spec", "signature"), strict=True))
    writer.hset(keys.execution(second), mapping=sealed)
    assert feed(stack, busy) == 202
    assert stack.ended(first)["stdout"] == "1\n"
    ended = stack.ended(second)
    assert (ended["state"], ended["fault"], ended["stdout"]) == ("errored", "platform", "")
    assert [event["kind"] for event in stack.security(second)] == ["queue_tampering"]


def test_repeated_execution_runs_only_its_sealed_specification(attacked: tuple[Stack, Any]) -> None:
    """A kept sealed specification can be repeated under its own id, unchanged, and no more."""
    stack, writer = attacked
    busy = begun(stack)
    id = stack.submit(environment="python", code="print('once')").json()["id"]
    kept = writer.hmget(keys.execution(id), "spec", "signature", "queue", "isolation")
    assert feed(stack, busy) == 202
    assert stack.ended(id)["stdout"] == "once\n"
    queued = {"state": "queued", "spec": kept[0].replace(b"once", b"evil"), "signature": kept[1]}
    queued |= {"queue": kept[2], "isolation": kept[3]}  # which an ended record has no longer
    writer.hset(keys.execution(id), mapping=queued)
    writer.zadd(keys.QUEUED, {id: int(writer.time()[0])})
    ended = eventually(
        lambda: (found := stack.show(id))["state"] == "errored" and found, "the execution is refused", 60
    )
    assert (ended["attempt"], ended["stdout"]) == (2, "")
    assert [event["kind"] for event in stack.security(id)] == ["queue_tampering"]
    assert stack.run(**PROGRAM)["stdout"] == "fine\n"


def test_forged_ends_jobs_and_scripts_affect_no_other_execution(attacked: tuple[Stack, Any]) -> None:
    stack, writer = attacked
    id = begun(stack)
    forged = {"state": "succeeded", "result": json.dumps({"exit_code": 0}), "finished_at": "1"}
    writer.hset(keys.execution(id), mapping=forged)
    assert stack.show(id)["state"] == "succeeded"  # results can be falsified
    writer.xadd(keys.stream(id), {"t": "stdout", "d": b"forged", "a": 1})
    for name, value in (("data", "os.system"), ("status", "queued"), ("func_name", "os.system")):
        writer.hset("rq:job:" + "0" * 32, name, value)
    library = "#!lua name=mayfly\nredis.register_function('evalsha', function() return 'stolen' end)"
    writer.function_load(library, replace=True)
    writer.script_flush()
    writer.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    # Its worker finds that it has ended otherwise, gives its slot back, and continues.
    assert stack.client.post(f"/api/v1/executions/{id}/cancel").status_code == 409
    writer.publish(keys.CANCEL, id)
    queued = stack.submit(**PROGRAM).json()["id"]
    writer.hset(f"rq:job:{queued}", mapping={"data": b"cos\nsystem\n(S'id'\ntR.", "func_name": "os.system"})
    ended = stack.ended(queued)
    assert (ended["state"], ended["stdout"]) == ("succeeded", "fine\n")
    eventually(lambda: [worker["busy"] for worker in stack.fleet()] == [0], "no slot is lost")


PROTECTED = (
    "CONFIG SET dir /etc/cron.d", "CONFIG SET dbfilename root", "CONFIG SET appendfilename root",
    "MODULE LOAD /tmp/evil.so", "DEBUG SLEEP 0",
)  # fmt: skip


def test_writer_cannot_change_protected_redis_settings(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        with server.client() as writer:
            for command in PROTECTED:
                try:
                    answer = writer.execute_command(*command.split())
                except ResponseError as error:
                    answer = error
                assert re.search("protected|not allowed|immutable", str(answer)), f"{command}: {answer}"
            assert writer.config_set("timeout", 0)  # the control: other settings can be changed
    finally:
        server.stop()


def test_documented_redis_rights_suffice(own_stack: Callable[..., Stack]) -> None:
    """API and worker run as the user of ``docs/redis.md``; the control: what that user may not do."""
    (rules,) = USER.findall((ROOT / "docs" / "redis.md").read_text())
    words = rules.replace("\\\n", " ").replace(">PASSWORD", ">stolen").split()
    stack = own_stack(rate_limit="1000/second")
    stack.redis.start()
    with stack.redis.client() as owner:
        owner.execute_command("ACL", "SETUSER", *words[1:])
        owner.execute_command("ACL", "SETUSER", "default", "off")
        owner.execute_command("ACL", "LOG", "RESET")
        stack.env["MAYFLY_REDIS_URL"] = f"unix://mayfly:stolen@{stack.redis.socket}"
        stack.start_api()
        worker = stack.start_worker()
        stack.ready()
        id = begun(stack)
        with stack.client.stream("GET", f"/api/v1/executions/{id}/stream") as stream:
            assert feed(stack, id) == 202
            assert any(line == "event: done" for line in stream.iter_lines())
        assert stack.run(**PROGRAM)["stdout"] == "fine\n"
        cancelled = begun(stack)
        assert stack.client.post(f"/api/v1/executions/{cancelled}/cancel").status_code == 202
        assert stack.ended(cancelled)["state"] == "cancelled"
        made = stack.new_key("executions:read", tenant="t")
        assert stack.client.get("/api/v1/security-events").status_code == 200
        assert stack.client.get("/api/v1/queues").status_code == 200
        assert stack.client.delete(f"/api/v1/api-keys/{made['id']}").status_code == 204
        assert stack.client.delete(f"/api/v1/executions/{id}").status_code == 204
        eventually(lambda: not owner.exists(keys.execution(id)), "the record is deleted")
        assert worker.stop() == 0
        stack.workers.clear()
        refused = owner.execute_command("ACL", "LOG")
        denied = {entry[b"object"] for entry in refused if entry[b"reason"] != b"auth"}
        assert denied <= {b"config|get"}, refused
        with stack.redis.client() as stranger, pytest.raises(AuthenticationError):
            stranger.get("x")
        thief: Any = stack.redis.client()
        thief.connection_pool.connection_kwargs |= {"username": "mayfly", "password": "stolen"}
        for command in FORBIDDEN:
            with pytest.raises(NoPermissionError):
                thief.execute_command(*command.split())
        thief.close()
        owner.execute_command("ACL", "SETUSER", "default", "on")

"""The life of an execution as a client drives it: submit, wait, read, cancel, delete, in ones and in batches."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import docker
import httpx2
import pytest

from tests.harness import Stack, eventually

EXECUTIONS = "/api/v1/executions"
PROGRAM: dict[str, Any] = {"environment": "python", "code": "print(1)"}
PATIENT: dict[str, Any] = {"limits": {"wall_seconds": 60}}  # of programs that run, beside others on a busy machine
SLEEPER = "import os, time\nprint(os.getuid(), flush=True)\ntime.sleep(200)\n"
CANCEL_SECONDS = 30.0  # on a busy machine; half of one on an idle one, where the program would sleep for 200
FIELDS = {
    "id", "state", "reason", "fault", "environment", "isolation", "driver", "runtime", "exit_code", "signal", "stdout",
    "stderr", "stdout_truncated", "stderr_truncated", "stdout_bytes", "stderr_bytes", "compile", "artifacts", "usage",
    "timings", "start", "limits", "security_events", "attempt", "labels", "tenant", "created_at", "started_at",
    "finished_at", "expires_at", "cancel_requested_at",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(stack: Stack) -> dict[str, Any]:
    """An execution that has succeeded."""
    return stack.run(code="print('hello')", labels={"team": "x"})


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def containers_of(uid: int) -> list[str]:
    """Names of the containers that run as ``uid``, which no two of a host share."""
    engine = docker.APIClient()
    try:
        found = engine.containers(all=True, filters={"label": f"dev.mayfly.uid={uid}"})
        return [container["Names"][0] for container in found]
    finally:
        engine.close()


def uid_of(stack: Stack, id: str) -> int:
    """The uid a running sleeper has printed."""
    text: bytes = eventually(
        lambda: stack.client.get(f"{EXECUTIONS}/{id}/stdout").content.strip(), "the program has printed its uid"
    )
    return int(text)


def test_accepted_submission_has_a_location(api: Stack) -> None:
    answer = api.submit(**PROGRAM)
    assert answer.status_code == 202
    found = answer.json()
    assert answer.headers["location"] == f"{EXECUTIONS}/{found['id']}"
    assert "preference-applied" not in answer.headers
    assert set(found) >= FIELDS
    assert found["state"] == "queued"
    assert found["attempt"] == 0
    assert (found["started_at"], found["finished_at"]) == (None, None)
    read = api.client.get(answer.headers["location"])
    assert read.json() == {**found, "wait_reason": "No worker is alive."}
    assert "etag" not in read.headers


def test_a_finished_execution_has_every_field_of_the_contract(finished: dict[str, Any]) -> None:
    assert set(finished) >= FIELDS
    assert (finished["state"], finished["reason"], finished["fault"]) == ("succeeded", None, None)
    assert (finished["exit_code"], finished["signal"]) == (0, None)
    assert (finished["stdout"], finished["stdout_bytes"], finished["stdout_truncated"]) == ("hello\n", 6, False)
    assert (finished["stderr"], finished["stderr_bytes"], finished["stderr_truncated"]) == ("", 0, False)
    assert (finished["tenant"], finished["labels"], finished["attempt"]) == ("default", {"team": "x"}, 1)
    assert finished["start"] in ("warm", "cold")
    assert set(finished["usage"]) >= {"wall_seconds", "cpu_seconds", "peak_memory_bytes", "peak_processes"}
    assert set(finished["timings"]) == {"queue_seconds", "start_seconds", "run_seconds", "collect_seconds"}
    assert finished["created_at"] <= finished["started_at"] <= finished["finished_at"] < finished["expires_at"]
    assert finished["created_at"].endswith("Z")


def test_a_preferred_wait_gives_the_finished_execution(stack: Stack) -> None:
    answer = stack.submit(59, **PROGRAM, **PATIENT)
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=59"
    assert answer.headers["location"] == f"{EXECUTIONS}/{answer.json()['id']}"
    assert (answer.json()["state"], answer.json()["stdout"]) == ("succeeded", "1\n")


def test_expired_preferred_wait_returns_current_state(api: Stack) -> None:
    began = time.monotonic()
    answer = api.submit(1, **PROGRAM)
    assert time.monotonic() - began >= 1
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize(
    "prefer",
    ["wait=0", "respond-async", "wait", "wait=", "wait=-1", "wait=1e9", "wait=no", b"wait=\xb2", ";;,,=", ""],
)
def test_unreadable_preference_is_ignored(api: Stack, prefer: str | bytes) -> None:
    sent = prefer.encode() if isinstance(prefer, str) else prefer
    answer = api.client.post(EXECUTIONS, json=PROGRAM, headers={b"Prefer": sent})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


def test_a_preference_among_others_is_clamped(stack: Stack) -> None:
    body = {**PROGRAM, **PATIENT}
    answer = stack.client.post(EXECUTIONS, json=body, headers={"Prefer": 'respond-async, Wait="600"; x=1'})
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=60")


def test_a_long_poll_answers_when_the_execution_ends(stack: Stack) -> None:
    limits = {"wall_seconds": 60}
    id = stack.submit(environment="python", code="import time; time.sleep(1)", limits=limits).json()["id"]
    began = time.monotonic()
    found = stack.show(id, wait=60)
    assert found["state"] == "succeeded"
    assert time.monotonic() - began < 45, "well before its wait is over"


def test_long_poll_ends_in_time_and_wakes_all_waiters(api: Stack) -> None:
    id = api.submit(**PROGRAM).json()["id"]
    began = time.monotonic()
    assert api.show(id, wait=1)["state"] == "queued"
    assert time.monotonic() - began >= 1

    def waiting(_: int) -> str:
        with httpx2.Client(base_url=api.env["MAYFLY_URL"], headers=api.client.headers, timeout=90) as client:
            return str(client.get(f"{EXECUTIONS}/{id}", params={"wait": 60}).json()["state"])

    began = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        waiters = [pool.submit(waiting, n) for n in range(10)]
        assert api.client.post(f"{EXECUTIONS}/{id}/cancel").status_code == 202
        assert [waiter.result() for waiter in waiters] == ["cancelled"] * 10
    assert time.monotonic() - began < 45, "well before their wait is over"


def test_etag_of_a_final_record_saves_the_answer(stack: Stack, finished: dict[str, Any]) -> None:
    path = f"{EXECUTIONS}/{finished['id']}"
    etag = stack.client.get(path).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = stack.client.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    for unknown in ('"other"', etag.strip('"'), ""):
        assert stack.client.get(path, headers={"If-None-Match": unknown}).status_code == 200
    assert stack.client.get(f"{EXECUTIONS}/{stack.run(code='1')['id']}").headers["etag"] != etag


def test_active_execution_has_no_etag(api: Stack) -> None:
    path = f"{EXECUTIONS}/{api.submit(**PROGRAM).json()['id']}"
    answer = api.client.get(path, headers={"If-None-Match": "*"})
    assert (answer.status_code, "etag" in answer.headers) == (200, False)


def test_limits_are_shown_as_they_apply(api: Stack) -> None:
    defaults = api.submit(**PROGRAM).json()["limits"]
    assert defaults == {
        "wall_seconds": 5.0, "cpu_seconds": 5.0, "cpu_cores": 1.0, "memory_bytes": 512 * 2**20, "processes": 64,
        "disk_bytes": 64 * 2**20, "output_bytes": 2**20,
    }  # fmt: skip
    asked = {"wall_seconds": 1.5, "memory_bytes": 96 * 2**20}
    assert api.submit(**PROGRAM, limits=asked).json()["limits"] == {**defaults, **asked}
    assert api.submit(environment="node", code="1").json()["limits"] == {**defaults, "processes": 128}


def test_labels_priority_and_alias(api: Stack) -> None:
    labels = {"team": "x", "run.id-1_2": "ünïcode: 5 %"}
    found = api.submit(environment="py", code="1", labels=labels, priority="high").json()
    assert (found["labels"], found["priority"], found["environment"]) == (labels, "high", "python")


def test_unreadable_trace_context_is_ignored(api: Stack) -> None:
    for traceparent in ("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "x" * 4000, "", "00-0-0-0"):
        assert api.submit(headers={"traceparent": traceparent}, **PROGRAM).status_code == 202


def test_cancelled_queued_execution_leaves_its_queue(api: Stack) -> None:
    id = api.submit(**PROGRAM).json()["id"]
    depth = api.client.get("/api/v1/queues").json()
    answer = api.client.post(f"{EXECUTIONS}/{id}/cancel")
    assert answer.status_code == 202
    found = answer.json()
    assert (found["state"], found["reason"], found["fault"]) == ("cancelled", "cancelled_by_user", None)
    assert found["finished_at"]
    after = api.client.get("/api/v1/queues").json()
    assert after["queues"]["default"] == depth["queues"]["default"] - 1
    assert after["queued"] == depth["queued"] - 1
    assert code_of(api.client.post(f"{EXECUTIONS}/{id}/cancel")) == (409, "already_finished")


def test_a_cancelled_queued_execution_is_never_run(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=0)
    gone, kept = (stack.submit(**PROGRAM, **PATIENT).json()["id"] for _ in range(2))
    stack.client.post(f"{EXECUTIONS}/{gone}/cancel")
    stack.start_worker()
    assert stack.show(kept, wait=60)["state"] == "succeeded"
    found = stack.show(gone)
    assert (found["state"], found["attempt"], found["started_at"]) == ("cancelled", 0, None)


def test_cancelling_a_running_execution_removes_its_container_in_time(stack: Stack) -> None:
    id = stack.submit(environment="python", code=SLEEPER, limits={"wall_seconds": 250}).json()["id"]
    uid = uid_of(stack, id)
    assert len(containers_of(uid)) == 1
    assert stack.client.post(f"{EXECUTIONS}/{id}/cancel").status_code == 202
    found = stack.show(id, wait=60)
    assert (found["state"], found["reason"], found["fault"]) == ("cancelled", "cancelled_by_user", None)
    assert found["cancel_requested_at"]
    assert found["stdout"].strip() == str(uid), "what it printed before is kept"
    eventually(lambda: not containers_of(uid), "the container is gone", CANCEL_SECONDS)
    assert code_of(stack.client.post(f"{EXECUTIONS}/{id}/cancel")) == (409, "already_finished")


def test_cancelling_while_the_container_starts(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(slots=1).start()
    warm = eventually(lambda: stack.containers() if stack.waiting() else [], "the pool is warm")
    states = []
    for _ in range(3):  # bash has no warm container here: each of these is caught somewhere in a cold start
        limits = {"wall_seconds": 250}
        id = stack.submit(environment="bash", code="sleep 200", limits=limits).json()["id"]
        states.append(eventually(lambda id=id: _not_queued(stack.show(id)["state"]), "the execution was claimed"))  # type: ignore[misc]
        assert stack.client.post(f"{EXECUTIONS}/{id}/cancel").status_code == 202
        found = stack.show(id, wait=60)
        assert (found["state"], found["reason"]) == ("cancelled", "cancelled_by_user")
        eventually(lambda: stack.containers() == warm, "only the warm container is left", CANCEL_SECONDS)
    assert "starting" in states


def test_ended_execution_cannot_be_cancelled(stack: Stack, finished: dict[str, Any]) -> None:
    assert code_of(stack.client.post(f"{EXECUTIONS}/{finished['id']}/cancel")) == (409, "already_finished")
    assert stack.show(finished["id"])["state"] == "succeeded"


def test_deletion_leaves_no_key_and_no_file(stack: Stack) -> None:
    code = "open('/output/a.txt', 'w').write('x'); print(1)"
    id = stack.run(code=code)["id"]
    rests = ("", "/stdout", "/stderr", "/stream", "/events", "/artifacts", "/artifacts/a.txt")
    assert {stack.client.get(f"{EXECUTIONS}/{id}{rest}").status_code for rest in rests} == {200}
    artifacts = stack.directory / "state" / "blobs" / "artifacts" / id
    assert artifacts.exists()
    answer = stack.client.delete(f"{EXECUTIONS}/{id}")
    assert (answer.status_code, answer.content) == (204, b"")
    for rest in rests:
        assert code_of(stack.client.get(f"{EXECUTIONS}/{id}{rest}")) == (404, "not_found"), rest
    assert code_of(stack.client.delete(f"{EXECUTIONS}/{id}")) == (404, "not_found")
    assert code_of(stack.client.post(f"{EXECUTIONS}/{id}/cancel")) == (404, "not_found")
    assert id not in [item["id"] for item in stack.client.get(EXECUTIONS).json()["items"]]
    assert not artifacts.exists()
    with stack.redis.client() as redis:
        assert list(redis.scan_iter(f"*{id}*")) == []


def test_active_execution_cannot_be_deleted(api: Stack, stack: Stack) -> None:
    queued = api.submit(**PROGRAM).json()["id"]
    assert code_of(api.client.delete(f"{EXECUTIONS}/{queued}")) == (409, "still_running")
    assert api.show(queued)["state"] == "queued"
    running = stack.submit(environment="python", code=SLEEPER, limits={"wall_seconds": 250}).json()["id"]
    uid_of(stack, running)
    assert code_of(stack.client.delete(f"{EXECUTIONS}/{running}")) == (409, "still_running")
    assert stack.show(running)["state"] == "running"
    stack.client.post(f"{EXECUTIONS}/{running}/cancel")
    assert stack.show(running, wait=60)["state"] == "cancelled"
    assert stack.client.delete(f"{EXECUTIONS}/{running}").status_code == 204


def test_events_cover_the_whole_life(stack: Stack) -> None:
    code = "import os; os.symlink('/etc/passwd', '/output/link'); print('not an event')"
    id = stack.run(code=code)["id"]
    items = stack.client.get(f"{EXECUTIONS}/{id}/events").json()["items"]
    states = [item["data"]["state"] for item in items if item["type"].startswith("dev.mayfly.execution.")]
    assert states == ["queued", "starting", "running", "succeeded"]
    times = [datetime.fromisoformat(item["time"]) for item in items]
    assert times == sorted(times)
    assert len({item["id"] for item in items}) == len(items)
    assert [event["kind"] for event in stack.security(id)] == ["artifact_rejected"]
    assert stack.show(id)["security_events"] == 1
    assert len(items) == len(states) + 1
    assert {item["subject"] for item in items} == {id}


def test_a_batch_answers_each_for_itself(stack: Stack) -> None:
    items = [
        {"environment": "python", "code": "print('first')", **PATIENT},
        {"environment": "cobol", "code": "x"},
        {"environment": "python", "code": "print(2)", "limits": {"memory_bytes": "much"}, "surprise": 1},
        {},
        {"environment": "bash", "code": "echo fifth", "labels": {"batch": "yes"}, **PATIENT},
    ]
    answer = stack.client.post(f"{EXECUTIONS}/batch", json={"executions": items})
    assert answer.status_code == 207
    answers = answer.json()
    assert [item["status"] for item in answers] == [202, 422, 422, 422, 202]
    assert [set(item) for item in answers] == [{"status", "execution"}] + [{"status", "problem"}] * 3 + [
        {"status", "execution"}
    ]
    problems = [item["problem"] for item in answers[1:4]]
    assert [problem["code"] for problem in problems] == ["unknown_environment"] + ["validation_failed"] * 2
    fields = [sorted(error["field"] for error in problem["errors"]) for problem in problems]
    assert fields == [["environment"], ["limits.memory_bytes", "surprise"], ["environment"]]
    assert {problem["request_id"] for problem in problems} == {answer.headers["x-request-id"]}
    accepted = [answers[0]["execution"], answers[4]["execution"]]
    shown = set(stack.show(accepted[0]["id"])) - {"wait_reason"}  # known while it waits, once its reason is found
    assert set(accepted[0]) - {"wait_reason"} == shown, "an execution looks the same everywhere"
    assert [stack.show(item["id"], wait=60)["stdout"] for item in accepted] == ["first\n", "fifth\n"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"executions": []}, "executions"),
        ({"executions": [PROGRAM] * 101}, "executions"),
        ({"executions": PROGRAM}, "executions"),
        ({"executions": [1]}, "executions.0"),
        ({"executions": [PROGRAM], "more": 1}, "more"),
        ({}, "executions"),
        ([PROGRAM], "body"),
    ],
)
def test_invalid_batch_queues_no_execution(api: Stack, body: Any, field: str) -> None:
    before = api.client.get("/api/v1/queues").json()["queued"]
    answer = api.client.post(f"{EXECUTIONS}/batch", json=body)
    assert code_of(answer) == (422, "validation_failed")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert api.client.get("/api/v1/queues").json()["queued"] == before


def test_a_batch_of_a_hundred_is_taken(api: Stack) -> None:
    before = api.client.get("/api/v1/queues").json()["queued"]
    answer = api.client.post(f"{EXECUTIONS}/batch", json={"executions": [PROGRAM] * 100})
    assert [item["status"] for item in answer.json()] == [202] * 100
    assert len({item["execution"]["id"] for item in answer.json()}) == 100
    assert api.client.get("/api/v1/queues").json()["queued"] == before + 100


def test_full_queue_refuses_with_retry_after(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(queue_limit=2).start(workers=0)
    key = secrets.token_hex(8)
    first = stack.submit(headers={"Idempotency-Key": key}, **PROGRAM)
    batch = stack.client.post(f"{EXECUTIONS}/batch", json={"executions": [PROGRAM] * 2}).json()
    assert [item["status"] for item in batch] == [202, 503]
    assert (batch[1]["problem"]["code"], batch[1]["problem"]["bound"]) == ("queue_full", 2)
    answer = stack.submit(**PROGRAM)
    assert code_of(answer) == (503, "queue_full")
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    assert stack.client.get("/api/v1/queues").json()["queued"] == 2
    again = stack.submit(headers={"Idempotency-Key": key}, **PROGRAM)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"]), "what was accepted stays so"
    stack.client.post(f"{EXECUTIONS}/{first.json()['id']}/cancel")
    assert stack.submit(**PROGRAM).status_code == 202


def test_single_tenant_cannot_fill_the_queue(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(queue_limit=4, tenant_queue_share=0.5).start(workers=0)
    assert [stack.submit(**PROGRAM).status_code for _ in range(2)] == [202, 202]
    answer = stack.submit(**PROGRAM)
    assert code_of(answer) == (429, "tenant_queue_full")
    assert (answer.json()["bound"], "The bound is 2." in answer.json()["detail"]) == (2, True)
    assert int(answer.headers["retry-after"]) >= 1
    other = stack.headers_of("other", "executions:write")
    assert stack.submit(headers=other, **PROGRAM).status_code == 202


def _not_queued(state: str) -> str:
    return "" if state == "queued" else state

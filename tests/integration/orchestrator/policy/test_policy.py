"""The static policy in a running API: its findings for clients, and no source delays other requests."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.policy.inspector import MAX_SOURCE_BYTES
from tests.builders.mcp_calls import Agent
from tests.harness import ROOT, Stack, bearer, eventually, is_running

EXECUTIONS = "/api/v1/executions"
MODES = {"strict": "enforce", "free": "off", "strict/python-data": "audit"}
MIB = 2**20
Submit = Callable[..., Any]


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"policy_modes": MODES}


@pytest.fixture(scope="module")
def keys(api: Stack) -> dict[str, str]:
    """The key of each tenant that the modes are about."""
    scopes = ("executions:write", "executions:read", "blobs:write")
    return {tenant: api.new_key(*scopes, tenant=tenant)["secret"] for tenant in ("strict", "free")}


@pytest.fixture
def lone_api(engine: None, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Starts Redis and an API of the test's own."""
    made: list[Stack] = []

    def start(**settings: Any) -> Stack:
        made.append(Stack(tmp_path, **settings))
        return made[0].start(workers=0)

    yield start
    made[0].stop()


def helpers(stack: Stack) -> list[psutil.Process]:
    assert stack.api is not None
    found: list[psutil.Process] = psutil.Process(stack.api.pid).children()
    return found


def test_findings_are_on_the_execution(api: Stack) -> None:
    answer = api.submit(environment="python", code="import json\nimport os")
    assert answer.status_code == 202
    found = answer.json()["policy"]
    assert (found["mode"], found["omitted"]) == ("audit", 0)
    assert [(f["rule"], f["file"], f["line"], f["column"]) for f in found["findings"]] == [
        ("import_process", "main.py", 2, 8)
    ]
    assert api.show(answer.json()["id"])["policy"] == found
    clean = api.submit(environment="python", code="print(1)").json()
    assert clean["policy"] == {"mode": "audit", "findings": [], "omitted": 0}
    assert api.submit(environment="bash", code="import os").json()["policy"] is None


def test_findings_do_not_change_the_run(stack: Stack) -> None:
    ended = stack.run(code="import os\nprint(os.getcwd())")
    assert (ended["state"], ended["stdout"]) == ("succeeded", "/work\n")
    assert [found["rule"] for found in ended["policy"]["findings"]] == ["import_process"]


def test_lists_only_count_policy_findings(api: Stack) -> None:
    id = api.submit(environment="python", code="import os\n" * 150).json()["id"]
    listed = api.client.get(EXECUTIONS).json()["items"][0]
    assert (listed["id"], listed["policy"]) == (id, {"mode": "audit", "findings": [], "omitted": 150})
    shown = api.show(id)["policy"]
    assert (len(shown["findings"]), shown["omitted"]) == (100, 50)


def test_enforce_mode_refuses_and_queues_nothing(api: Stack, keys: dict[str, str]) -> None:
    headers = bearer(keys["strict"])
    queued = api.client.get("/api/v1/queues").json()["queued"]
    body: dict[str, Any] = {
        "environment": "python",
        "code": "print(1)",
        "files": [{"path": "a.py", "content": "import socket"}],
    }
    answer = api.client.post(EXECUTIONS, json=body, headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "policy_violation")
    message = "Module socket is for networks, and programs have none. Send the data as an input file."
    assert problem["findings"] == [
        {"rule": "import_network", "message": message, "file": "a.py", "line": 1, "column": 8}
    ]
    assert problem["omitted"] == 0
    assert problem["errors"] == [
        {"field": "files.0.content", "message": f"line 1, column 8: {message} [import_network]"}
    ]
    assert api.client.get(EXECUTIONS, headers=headers).json()["items"] == []
    assert api.client.get("/api/v1/queues").json()["queued"] == queued
    # The same program passes where it is not enforced, and a clean one passes where it is.
    assert api.submit(**body).status_code == 202
    assert api.client.post(EXECUTIONS, json={**body, "files": []}, headers=headers).status_code == 202
    assert api.client.post(EXECUTIONS, json={**body, "environment": "data"}, headers=headers).status_code == 202


def test_a_refusal_is_a_security_event(api: Stack, keys: dict[str, str]) -> None:
    before = refusals(api)
    body: dict[str, Any] = {"environment": "python", "code": "import os\nimport gc"}
    assert api.client.post(EXECUTIONS, json=body, headers=bearer(keys["strict"])).status_code == 422
    (event,) = [event for event in refusals(api) if event not in before]
    assert (event["tenant"], event["environment"], event["source"]) == ("strict", "python", "/mayfly/api")
    assert "subject" not in event, "there is no execution"
    assert event["data"]["detail"].startswith("The policy refuses this program: 2 findings, the first in code: line 1,")
    assert event["data"]["findings"] == [
        {"rule": "import_process", "file": "main.py", "line": 1, "column": 8},
        {"rule": "import_interpreter", "file": "main.py", "line": 2, "column": 8},
    ]
    assert event["data"]["omitted"] == 0
    api.submit(**body)
    assert len(refusals(api)) == len(before) + 1, "what is only audited is no event"


def test_programs_of_agents_are_inspected_too(api: Stack) -> None:
    before = refusals(api)
    agent = Agent(api, headers=api.headers_of("strict", "mcp", "executions:write", "executions:read"))
    assert "Module os starts or controls processes" in agent.error("execute_code", code="import os")
    eventually(lambda: len(refusals(api)) == len(before) + 1, "the refusal is an event")


def test_the_event_of_the_longest_refusal_keeps_its_findings(api: Stack, keys: dict[str, str]) -> None:
    path = "/".join(["d" * 60] * 15) + ".py"
    body: dict[str, Any] = {
        "environment": "python",
        "code": "1",
        "files": [{"path": path, "content": "import os\n" * 200}],
    }
    assert api.client.post(EXECUTIONS, json=body, headers=bearer(keys["strict"])).status_code == 422
    data = refusals(api)[-1]["data"]
    assert (len(data["findings"]), data["omitted"]) == (20, 180)


def test_refusal_stands_if_its_event_cannot_be_written(api: Stack, keys: dict[str, str]) -> None:
    before = refusals(api)
    redis = api.redis.client()
    redis.config_set("maxmemory", 1)
    try:
        body: dict[str, Any] = {"environment": "python", "code": "import os"}
        answer = api.client.post(EXECUTIONS, json=body, headers=bearer(keys["strict"]))
        assert (answer.status_code, answer.json()["code"]) == (422, "policy_violation")
    finally:
        redis.config_set("maxmemory", 0)
        redis.close()
    assert refusals(api) == before


def refusals(stack: Stack) -> list[dict[str, Any]]:
    """Every event of the kind policy_violation, oldest first."""
    answer = stack.client.get("/api/v1/security-events", params={"type": "policy_violation", "limit": 200})
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_off_mode_inspects_nothing(api: Stack, keys: dict[str, str]) -> None:
    body: dict[str, Any] = {"environment": "python", "code": "import os\0"}
    answer = api.client.post(EXECUTIONS, json=body, headers=bearer(keys["free"]))
    assert (answer.status_code, answer.json()["policy"]) == (202, None)


def test_batch_members_have_findings(api: Stack, keys: dict[str, str]) -> None:
    items = [{"environment": "python", "code": "import os"}, {"environment": "python", "code": "print(1)"}]
    answers = api.client.post(f"{EXECUTIONS}/batch", json={"executions": items}, headers=bearer(keys["strict"])).json()
    assert [answer["status"] for answer in answers] == [422, 202]
    assert answers[0]["problem"]["findings"][0]["rule"] == "import_process"


def test_blobs_are_inspected(api: Stack, keys: dict[str, str]) -> None:
    headers = bearer(keys["strict"])
    for content, rule in ((b"import os", "import_process"), (b"#" * (MAX_SOURCE_BYTES + 1), "not_inspected")):
        blob = api.client.put("/api/v1/blobs", content=content, headers=headers).json()["blob"]
        body: dict[str, Any] = {
            "environment": "python",
            "entrypoint": "m.py",
            "files": [{"path": "m.py", "blob": blob}],
        }
        problem = api.client.post(EXECUTIONS, json=body, headers=headers).json()
        assert [(e["field"], f["rule"]) for e, f in zip(problem["errors"], problem["findings"], strict=True)] == [
            ("files.0.blob", rule)
        ]


def command(stack: Stack, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, **stack.env, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_command_names_the_refusal_and_exits_126(api: Stack, keys: dict[str, str]) -> None:
    done = command(api, "run", "-c", "import os", MAYFLY_TOKEN=keys["strict"])
    assert done.returncode == 126
    assert "code: line 1, column 8: Module os starts or controls processes." in done.stderr
    assert "policy_violation" in done.stderr


def test_the_command_shows_findings_briefly(api: Stack) -> None:
    id = api.submit(environment="python", code="import os\n" * 7).json()["id"]
    done = command(api, "show", id)
    rows = [tuple(line.split("\t")) for line in done.stdout.splitlines()]
    assert ("policy", "audit, 7 findings") in rows
    assert [value for name, value in rows if name == "finding"] == [
        *(f"main.py:{line}:8 import_process" for line in range(1, 6)), "and 2 more; --json has them",
    ]  # fmt: skip
    id = api.submit(environment="bash", code="true").json()["id"]
    assert "policy" not in command(api, "show", id).stdout


def test_hostile_sources_neither_delay_others_nor_cost_api_memory(api: Stack, keys: dict[str, str]) -> None:
    """While one tenant sends the worst sources known, others are answered, and the API does not grow."""
    assert api.api is not None
    process = psutil.Process(api.api.pid)
    large = ("a()\n" * (MAX_SOURCE_BYTES // 4), "f'" + "{a}" * 80_000 + "'", "a," * (MAX_SOURCE_BYTES // 2))
    for code in large:  # what the API needs to take such bodies at all
        api.submit(environment="python", code=code)
    before = process.memory_info().rss
    over = threading.Event()
    statuses: list[int] = []
    seen: list[int] = []

    def attack() -> None:
        while not over.is_set():
            for code in large:
                body: dict[str, Any] = {"environment": "python", "code": code}
                statuses.append(api.client.post(EXECUTIONS, json=body, headers=bearer(keys["strict"])).status_code)

    attackers = [threading.Thread(target=attack) for _ in range(4)]
    for attacker in attackers:
        attacker.start()
    try:
        for _ in range(5):
            seen.append(len(statuses))
            eventually(lambda: len(statuses) > seen[-1], "the attack continues", 60)
            assert api.client.get("/livez").status_code == 200
            answer = api.submit(environment="python", code="import os")
            assert [found["rule"] for found in answer.json()["policy"]["findings"]] == ["import_process"]
    finally:
        over.set()
        for attacker in attackers:
            attacker.join()
    assert set(statuses) <= {202, 422, 503}
    assert process.memory_info().rss - before < 48 * MIB
    assert len(helpers(api)) <= 3


def test_one_tenants_slow_batches_leave_threads_for_the_others(lone_api: Callable[..., Stack]) -> None:
    stack = lone_api()
    other = bearer(stack.new_key("executions:read", tenant="other")["secret"])
    (helper,) = eventually(lambda: helpers(stack), "a helper is started ahead")
    helper.suspend()  # what it is asked takes five seconds, and each of the tenant's other programs its turn's one
    batch = {"executions": [{"environment": "python", "code": "1"}] * 5}
    taken = []
    with ThreadPoolExecutor(50) as pool:
        sent = [pool.submit(stack.client.post, f"{EXECUTIONS}/batch", json=batch) for _ in range(50)]
        until = time.monotonic() + 4
        while time.monotonic() < until:
            began = time.monotonic()
            assert stack.client.get("/api/v1/environments", headers=other).status_code == 200
            taken.append(time.monotonic() - began)
        for answer in sent:
            assert [item["status"] for item in answer.result().json()] == [202] * 5
    assert max(taken) < 4.5, taken  # and not as long as a program's turn


def test_killed_helper_is_replaced(api: Stack) -> None:
    for _ in range(3):
        answer = api.submit(environment="python", code="import os")
        assert [found["rule"] for found in answer.json()["policy"]["findings"]] == ["import_process"]
        for helper in helpers(api):
            helper.kill()


@pytest.mark.parametrize("how", ["TERM", "KILL"])
def test_no_helper_outlives_the_api(lone_api: Callable[..., Stack], how: str) -> None:
    stack = lone_api()
    assert stack.api is not None
    (helper,) = eventually(lambda: helpers(stack), "a helper is started ahead")
    psutil.Process(stack.api.pid).send_signal({"TERM": 15, "KILL": 9}[how])
    stack.api.popen.wait(60)
    eventually(lambda: not is_running(helper.pid), "the helper ends")


def test_an_api_with_every_mode_off_has_no_helper(lone_api: Callable[..., Stack]) -> None:
    stack = lone_api(policy_mode="off")
    assert stack.submit(environment="python", code="import os").json()["policy"] is None
    assert helpers(stack) == []


def test_api_with_a_mode_for_an_unknown_tenant_does_not_start(tmp_path: Path) -> None:
    stack = Stack(tmp_path, policy_modes={"*/cobol": "enforce"})
    stack.client.close()
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.api"],
        cwd=ROOT, env={**os.environ, **stack.env}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "'*/cobol' is no tenant, tenant/environment or */environment" in done.stderr

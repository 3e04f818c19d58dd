"""Secrets planted in programs, keys and tools are in no log, metric or error: of the API, the worker and the broker."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from orchestrator.models.tool_servers import ToolServer
from tests.builders.mcp_calls import ERAS, Agent
from tests.builders.tools.stack_tools import TENANT, StackTools
from tests.harness import Stack, bearer, eventually

PLACES = ("code", "argument", "env", "stdin", "file", "artifact", "tool", "result", "header", "session")
BEGIN = """
import os, sys
from mayfly import ToolError, tools
code, tool, result = "{code}", "{tool}", "{result}"
print(code, os.environ["SECRET"], sys.argv[1], input(), open("data").read(), flush=True)
print(code, file=sys.stderr, flush=True)
open("left", "w").write("{artifact}")
def attempt(call):
    try:
        return call()
    except ToolError as error:
        print(error.code, error.message, flush=True)
"""
# Each end of a program and of a call of a tool that the worker or the broker may report.
ENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "success": ("print(tools.test.text(text=tool), tools.keyed.text(text=result))", {}),
    "failures of calls": (
        "for name in ('fail', 'text', 'garbage', 'die', 'delete_all', 'nothing', 'huge'):\n"
        "    for field in ('message', 'text', 'mark', tool):\n"
        "        attempt(lambda: tools.test[name](**{field: tool}))",
        {},
    ),
    "time-out of a call": ("attempt(lambda: tools.brief.wait(seconds=20, mark=tool))", {}),
    "exception": ("raise ValueError(code)", {}),
    "exit code": ("sys.exit(code)", {}),
    "signal": ("os.kill(os.getpid(), 6)", {}),
    "blocked call": ("import socket; socket.create_connection(('10.0.0.1', 80))", {}),
    "killed call": ("import ctypes; ctypes.CDLL(None).syscall(101, 0, 0, 0, 0)", {}),
    "memory": ("kept = [code * 2**20 for _ in range(1000)]", {"limits": {"memory_bytes": 64 * 2**20}}),
    "time": ("while True: pass", {"limits": {"wall_seconds": 3}}),
    "output": ("while True: print(code)", {"limits": {"output_bytes": 65536}}),
    "disk": ("open('large', 'w').write(code * 2**20)", {"limits": {"disk_bytes": 2**20}}),
    "processes": ("[os.fork() for _ in range(20)]", {"limits": {"processes": 10}}),
    "refused file": ("os.symlink('/etc/passwd', 'link'); os.mkfifo('pipe')", {}),
    "frames": ("for n in range(3, 64):\n    try: os.write(n, code.encode())\n    except OSError: pass", {}),
}


class Planted:
    """A stack with a worker and a broker, and the secrets that a run leaves with them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.words = {place: f"canary-{place}-{secrets.token_hex(8)}" for place in PLACES}
        directory = stack.directory / "tool-secrets"
        directory.mkdir()
        self.tools = StackTools(stack, tool_secrets_dir=directory)
        port = self.tools.brokers.over_http("plain")
        origin = f"http://127.0.0.1:{port}"
        header = f'Authorization = "Bearer {self.words["header"]}"'
        (directory / "keyed.toml").write_text(f'origin = "{origin}"\ntenants = ["{TENANT}"]\n[headers]\n{header}\n')
        for name, fields in (("keyed", {"secret": "keyed"}), ("brief", {"call_seconds": 0.5})):
            self.tools.brokers.declare(ToolServer(name=name, url=f"{origin}/mcp", **fields))
            self.tools.brokers.ready(name)
        self.key = stack.new_key("mcp", "executions:read", "executions:write", tenant=TENANT)["secret"]

    def arguments(self, body: str, **more: Any) -> dict[str, Any]:
        return {
            "code": BEGIN.format(**self.words) + body,
            "args": [self.words["argument"]],
            "env": {"SECRET": self.words["env"]},
            "stdin": self.words["stdin"] + "\n",
            "files": [{"path": "data", "content": self.words["file"]}],
            "tools": ["*"],
            "mode": "script",
            **more,
        }

    def agent(self, era: str) -> Agent:
        return Agent(self.stack, era, {**bearer(self.key), "Mcp-Session-Id": self.words["session"]})

    def written(self) -> dict[str, str]:
        """All logs and metrics, by their names."""
        found = {path.name: path.read_text(errors="replace") for path in self.stack.directory.glob("*.log")}
        ports = {"worker": self.stack.env["MAYFLY_METRICS_PORT"], "broker": str(self.tools.brokers.ports[0])}
        found |= {name: httpx2.get(f"http://127.0.0.1:{port}/metrics").text for name, port in ports.items()}
        return found | {"api": self.stack.client.get("/metrics").text}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, images: None) -> Iterator[Planted]:
    stack = Stack(tmp_path_factory.mktemp("stack"), driver="oci").start()
    made = Planted(stack)
    yield made
    made.tools.close()
    stack.stop()


@pytest.mark.parametrize("era", ERAS)
def test_planted_secrets_are_in_no_log_or_metric(planted: Planted, era: str) -> None:
    agent, ids = planted.agent(era), {}
    for name, (body, more) in ENDS.items():
        result = agent.call("execute_code", **planted.arguments(body, **more))
        ids[name] = result["structuredContent"]["execution_id"]
        shown = planted.tools.show(ids[name])
        for place in ("code", "argument", "env", "stdin", "file"):
            assert planted.words[place] in shown["stdout"], (name, place, "the program has its secrets")
    assert planted.words["result"] in planted.tools.show(ids["success"])["stdout"], "a tool has answered"
    cancelled(planted, agent)
    worker = planted.stack.workers[0].log
    eventually(lambda: all(id in worker.read_text() for id in ids.values()), "the worker has logged each end")
    written = planted.written()
    for log in ("api.log", "worker-0.log", "broker-0.log"):
        assert written[log], "the log is where the test looks"
    assert "tool_failed" in written["broker-0.log"] and "tool_timed_out" in written["broker-0.log"]
    for secret in (*planted.words.values(), planted.key, planted.stack.key):
        assert not [name for name, text in written.items() if secret in text], secret


def cancelled(planted: Planted, agent: Agent) -> None:
    """Cancel a program while it waits for a tool."""
    mark = secrets.token_hex(8)
    call = planted.arguments(f"tools.test.wait(seconds=60, mark='{mark}')")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(agent.call, "execute_code", **call, wait_seconds=50)
        planted.tools.waits("wait", mark)
        (id,) = eventually(lambda: running(planted), "the program runs")
        agent.call("cancel_execution", execution_id=id)
        assert waiting.result(60)["structuredContent"]["state"] == "cancelled"


def running(planted: Planted) -> list[str]:
    params, headers = {"state": "running"}, planted.tools.headers
    items = planted.stack.client.get("/api/v1/executions", params=params, headers=headers).json()["items"]
    return [item["id"] for item in items]


def test_errors_repeat_no_planted_secret(planted: Planted) -> None:
    """Of submissions that are refused; a program's own output is its result."""
    agent, url = planted.agent(ERAS[0]), "/api/v1/executions"
    sent = planted.arguments("")
    wrong: list[dict[str, Any]] = [
        {"environment": "none"},
        {"limits": {"wall_seconds": planted.words["code"]}},
        {"limits": {"memory_bytes": 2**60}},
        {"args": planted.words["argument"]},
        {"env": {"SECRET": [planted.words["env"]]}},
        {"files": [{"path": "data", "content": planted.words["file"], "encoding": "none"}]},
        {"stdin": [planted.words["stdin"]]},
        {"tools": [{"name": planted.words["tool"]}]},
    ]
    for change in wrong:
        body = {**sent, "environment": "python", **change}
        answers = [
            json.dumps(agent.call("execute_code", **body)),
            planted.stack.client.post(url, json=body, headers=planted.tools.headers).text,
        ]
        for answer in answers:
            assert '"isError": true' in answer or '"code":' in answer, answer
            assert not [word for word in planted.words.values() if word in answer], answer
    written = planted.written()
    assert not [name for name, text in written.items() for word in planted.words.values() if word in text]

"""Tool servers and direct calls over REST: declared, listed, called, and refused with stable codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mayfly import Client, Conflict, NotFound, Refused
from tests.builders.brokers import Brokers, code, running
from tests.harness import Stack, bearer, eventually, logged

SERVERS = "/api/v1/tool-servers"


class Rest:
    """An API with a broker and the tool server ``test`` of tenant ``t``."""

    def __init__(self, directory: Path) -> None:
        self.stack = Stack(directory, driver="oci", lease_seconds=600)  # of executions that no worker has
        self.stack.start(workers=0)
        self.brokers = Brokers(directory, self.stack.redis)
        self.port = self.brokers.over_http()
        self.brokers.start()
        self.brokers.ready()
        made = self.stack.new_key("executions:read", "executions:write", tenant="t")
        self.key, self.key_id = made["secret"], made["id"]

    def call(self, tool: str = "add", server: str = "test", **body: Any) -> httpx2.Response:
        path = f"/api/v1/tools/{server}/{tool}/calls"
        return self.stack.client.post(path, json=body, headers=bearer(self.key))

    def get(self, path: str, tenant: str | None = None) -> httpx2.Response:
        params = {"tenant": tenant} if tenant else {}
        return self.stack.client.get(SERVERS + path, headers=bearer(self.key), params=params)

    def stop(self) -> None:
        self.brokers.stop()
        self.stack.stop()

    def logs(self) -> str:
        return self.stack.logs()


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    made = Rest(tmp_path_factory.mktemp("rest"))
    yield made
    made.stop()


def test_direct_call_gives_plain_data(rest: Rest) -> None:
    assert rest.call(arguments={"a": 1, "b": 2}).json() == {"result": 3}
    assert rest.call("resources/read", arguments={"uri": "test://greeting"}).json()["result"]["contents"]


@pytest.mark.parametrize(
    ("tool", "body", "status", "code"),
    [
        ("ad", {}, 404, "tool_unknown"),
        ("add", {"arguments": {"a": 1, "bb": 2}}, 422, "tool_arguments_invalid"),
        ("delete_all", {}, 403, "tool_denied"),
        ("fail", {}, 422, "tool_failed"),
        ("wait", {"arguments": {"seconds": 30}, "timeout_seconds": 0.3}, 504, "tool_timed_out"),
        ("add", {"arguments": [1]}, 422, "validation_failed"),
        ("add", {"argument": {}}, 422, "validation_failed"),
        ("a%20b", {}, 422, "validation_failed"),
    ],
)
def test_failed_call_is_a_problem(rest: Rest, tool: str, body: dict[str, Any], status: int, code: str) -> None:
    answer = rest.call(tool, **body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if code == "tool_arguments_invalid":
        assert (answer.json()["valid_parameters"], answer.json()["did_you_mean"]) == (["a", "b"], ["b"])


def test_unknown_server_and_other_tenants_servers_look_alike(rest: Rest) -> None:
    other = bearer(rest.stack.new_key("executions:write", tenant="u")["secret"])
    answers = [
        rest.stack.client.post(f"/api/v1/tools/{server}/add/calls", json={}, headers=other).json()
        for server in ("test", "tset")
    ]
    assert [answer["code"] for answer in answers] == ["tool_unknown"] * 2
    assert all("did_you_mean" not in answer for answer in answers)
    assert answers[0]["detail"].replace("test", "tset") == answers[1]["detail"]


def test_suggestions_name_only_tools_that_the_key_may_call(rest: Rest) -> None:
    for tools, expected in (("test.*", True), ("test.ad", False)):
        key = rest.stack.new_key("executions:write", tenant="t")
        path = f"/api/v1/api-keys/{key['id']}/quotas"
        assert rest.stack.client.put(path, json={"tools": [tools]}).status_code == 200
        url = "/api/v1/tools/test/ad/calls"
        problem = rest.stack.client.post(url, json={}, headers=bearer(key["secret"])).json()
        assert problem["code"] == "tool_unknown"
        assert ("test.add" in problem.get("did_you_mean", ())) is expected
        assert expected or "did_you_mean" not in problem


def test_servers_are_listed_with_their_state_to_their_tenant(rest: Rest) -> None:
    [shown] = rest.get("").json()["items"]
    assert (shown["declaration"]["name"], shown["state"]) == ("test", "ready")
    assert shown["tools"] > 10
    assert rest.get("/test").json() == shown
    assert rest.get("/other").status_code == 404
    assert rest.get("", tenant="u").status_code == 403
    assert rest.get("/test/changes").json() == {"items": []}


def test_admin_declares_accepts_and_removes_servers(rest: Rest) -> None:
    url = f"http://127.0.0.1:{rest.port}/mcp"
    with Client(rest.stack.env["MAYFLY_URL"], rest.stack.key) as client:
        made = client.declare_tool_server("more", {"url": url, "tools": ["add"]}, tenant="t")
        assert made["declaration"]["origin"] == "api"
        eventually(lambda: rest.get("/more").json()["state"] == "ready", "the server is ready")
        assert rest.call(server="more", arguments={"a": 2, "b": 2}).json() == {"result": 4}
        digest = rest.get("/more").json()["digest"]
        with pytest.raises(Conflict) as caught:
            client.accept_catalogue("more", "0" * 64, tenant="t")
        assert caught.value.code == "catalogue_changed"
        assert client.accept_catalogue("more", digest, tenant="t")["digest"] == digest
        client.remove_tool_server("more", tenant="t")
        with pytest.raises(NotFound):
            client.remove_tool_server("more", tenant="t")
    refused = eventually(
        lambda: (answer := rest.call(server="more", arguments={"a": 2, "b": 2})).status_code == 404 and answer,
        "the broker serves it no longer",
    )
    assert refused.json()["code"] == "tool_unknown"


@pytest.mark.parametrize(
    ("name", "declaration"),
    [
        ("x", {}),
        ("x", {"url": "ftp://x/"}),
        ("x", {"command": ["touch", "/tmp/proof"]}),
        ("x", {"url": "http://x/", "origin": "file"}),
        ("caller", {"url": "http://x/"}),
        ("X", {"url": "http://x/"}),
    ],
)
def test_bad_declaration_is_refused(rest: Rest, name: str, declaration: dict[str, Any]) -> None:
    answer = rest.stack.client.put(f"{SERVERS}/{name}", json=declaration)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_declaring_needs_the_admins_scope(rest: Rest) -> None:
    answer = rest.stack.client.put(f"{SERVERS}/x", json={"url": "http://x/"}, headers=bearer(rest.key))
    assert answer.status_code == 403


def test_server_of_a_file_is_changed_in_the_file(rest: Rest) -> None:
    rest.brokers.over_pipe("piped")
    for method in ("PUT", "DELETE"):
        answer = rest.stack.client.request(
            method, f"{SERVERS}/piped", params={"tenant": "t"}, json={"url": "http://x/"}
        )
        assert (answer.status_code, answer.json()["code"]) == (409, "declared_in_file")
    shown = rest.get("/piped").json()["declaration"]
    assert set(shown["env"].values()) == {""}, "no value of a variable is shown"


def test_sdk_calls_a_tool_once(rest: Rest) -> None:
    with Client(rest.stack.env["MAYFLY_URL"], rest.key) as client:
        assert client.call_tool("test", "rows", {"count": 1}) == [{"id": 0, "name": "row 0"}]
        listed = client.call_tool("test", "resources/list")
        assert [one["uri"] for one in listed["resources"]] == ["test://greeting"]
        assert client.call_tool("test", "resources/read", {"uri": "test://greeting"})["contents"][0]["text"] == "hello"
        assert [one["name"] for one in client.call_tool("test", "prompts/list")["prompts"]] == ["review"]
        with pytest.raises(Refused) as caught:
            client.call_tool("test", "fail")
        assert caught.value.code == "tool_failed"


def test_caller_that_goes_away_cancels_its_call(rest: Rest) -> None:
    body = json.dumps({"arguments": {"seconds": 200, "mark": "gone"}})
    headers = {**bearer(rest.key), "Content-Type": "application/json"}
    with closing(HTTPConnection("127.0.0.1", rest.stack.port, timeout=60)) as connection:
        connection.request("POST", "/api/v1/tools/test/wait/calls", body, headers)
        eventually(lambda: rest.brokers.called("wait", "gone"), "the call has begun")
    name = 'mayfly_tool_calls_total{outcome="tool_cancelled"}'
    eventually(lambda: rest.brokers.metrics().get(name), "the call is cancelled")
    assert rest.brokers.called("waited", "gone") == 0


@pytest.mark.parametrize(
    ("hosts", "status"),
    [(["api.example.org", "*.example.org:8443"], 200), (["https://a.example/x"], 422), (["a*"], 422)],
)
def test_hosts_of_the_built_in_server_are_declared_by_patterns(rest: Rest, hosts: list[str], status: int) -> None:
    answer = rest.stack.client.put(f"{SERVERS}/web", params={"tenant": "t"}, json={"hosts": hosts})
    assert answer.status_code == status, answer.text
    if status == 422:
        assert answer.json()["errors"][0]["field"] == "hosts.0"
        assert "host pattern" in answer.text or "host name" in answer.text
    else:
        eventually(lambda: rest.get("/web").json()["state"] == "ready", "the built-in server is ready")
        assert rest.call("get", "web", arguments={"url": "https://other.example/"}).json()["code"] == "tool_denied"


def lines_of_calls(rest: Rest) -> list[dict[str, Any]]:
    """The broker's log lines of each call, which come after the answers."""
    return [line for line in logged(rest.brokers.brokers[0].log) if line["event"] == "tools.call"]


def settled_lines(rest: Rest, count: int = 0) -> list[dict[str, Any]]:
    """The lines once there are so many, and no call is open."""

    def found() -> list[dict[str, Any]] | None:
        is_open = rest.brokers.metrics()["mayfly_tool_calls_active"]
        lines = lines_of_calls(rest)
        return None if is_open or len(lines) < count else lines

    eventually(lambda: found() is not None, "each call has its line")
    return lines_of_calls(rest)


def test_call_of_a_client_and_of_a_program_leave_the_same_line(rest: Rest) -> None:
    secret, before = "not-for-the-log", len(settled_lines(rest))
    assert rest.call("text", arguments={"text": secret}).status_code == 200
    by = running(rest.brokers, "test.text", principal=f"key:{rest.key_id}")
    assert code(rest.brokers.call("text", by=by, text=secret)) == "ok"
    assert rest.call("delete_all").status_code == 403
    assert code(rest.brokers.call("delete_all", by=running(rest.brokers, "*", principal="user:x"))) == "tool_denied"
    direct, program, refused, refused_program = settled_lines(rest, before + 4)[before:]
    same = ("principal", "tool", "tenant", "outcome", "request_bytes", "response_bytes")
    assert {name: direct[name] for name in same} == {name: program[name] for name in same}
    assert direct["principal"] == f"key:{rest.key_id}"
    assert (direct["execution"], program["execution"]) == (None, by[0])
    assert (refused["outcome"], refused["principal"]) == ("tool_denied", direct["principal"])
    assert (refused_program["outcome"], refused_program["principal"]) == ("tool_denied", "user:x")
    assert secret not in rest.logs() + rest.brokers.logs()


def test_quotas_bound_direct_calls_as_they_bound_programs(rest: Rest) -> None:
    def put(**quotas: Any) -> None:
        assert rest.stack.client.put("/api/v1/tenants/t/quotas", json=quotas).status_code == 200

    def use() -> int:
        return int(rest.stack.client.get("/api/v1/tenants/t/quotas").json()["use"]["tool_calls_today"])

    by = running(rest.brokers, "*")
    try:
        put(tools=["test.add", "other.*"])
        assert rest.call(arguments={"a": 1, "b": 2}).status_code == 200
        refused = rest.call("text", arguments={"text": "x"})
        assert (refused.status_code, refused.json()["quota"]) == (403, "tool")
        assert refused.json()["code"] == "not_allowed_by_tenant"
        listed = rest.stack.client.get("/api/v1/tools", headers=bearer(rest.key)).json()["items"]
        assert [item["name"] for item in listed] == ["add"]
        put(tool_calls_per_day=use() + 1)
        assert code(rest.brokers.call("add", by=by, a=1, b=2)) == "ok"
        refused = rest.call(arguments={"a": 1, "b": 2})
        assert (refused.status_code, refused.json()["code"]) == (429, "tool_quota_exceeded")
        assert code(rest.brokers.call("add", by=by, a=1, b=2)) == "tool_quota_exceeded"
    finally:
        put()
    assert rest.call(arguments={"a": 1, "b": 2}).status_code == 200

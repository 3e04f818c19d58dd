"""Requests of agents to a stack's ``/mcp``, in both eras of the protocol, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.harness import Stack

LEGACY, MODERN = "2025-11-25", "2026-07-28"
ERAS = (LEGACY, MODERN)
NAMESPACE = "io.modelcontextprotocol"
DATA = "data: {"  # the begin of a message in a stream


@dataclass(frozen=True)
class Agent:
    """An agent with a key, which speaks one version of the protocol."""

    stack: Stack
    version: str = MODERN
    headers: dict[str, str] | None = None
    capabilities: dict[str, Any] | None = None

    def request(self, method: str, params: dict[str, Any] | None = None, **headers: str) -> httpx2.Response:
        """One request; the answer as it is."""
        body, sent = self.message(method, params)
        return self.stack.client.post("/mcp", json=body, headers={**sent, **headers})

    def message(self, method: str, params: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, str]]:
        """The body and the headers of a request."""
        given = dict(params or {})
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": self.version,
            **(self.headers or {}),
        }
        if self.version == MODERN:
            headers["Mcp-Method"] = method
            if (name := given.get("name") or given.get("uri") or given.get("taskId")) is not None:
                headers["Mcp-Name"] = str(name)
            given["_meta"] = {
                f"{NAMESPACE}/protocolVersion": MODERN,
                f"{NAMESPACE}/clientInfo": {"name": "test", "version": "1"},
                f"{NAMESPACE}/clientCapabilities": self.capabilities or {},
                **given.get("_meta", {}),
            }
        return {"jsonrpc": "2.0", "id": 7, "method": method, "params": given}, headers

    def messages(self, method: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """All messages of an answer: notifications, then the result."""
        return messages_of(self.request(method, params))

    def streamed(self, method: str, params: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """The messages of an answer that is a stream, each as it comes."""
        body, sent = self.message(method, params)
        with self.stack.client.stream("POST", "/mcp", json=body, headers=sent) as answer:
            assert answer.status_code == 200, answer.status_code
            for line in answer.iter_lines():
                if line.startswith(DATA):
                    yield json.loads(line.removeprefix("data: "))

    def result(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request's result."""
        answer = self.messages(method, params)[-1]
        assert "result" in answer, answer
        found: dict[str, Any] = answer["result"]
        return found

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """A tool's result."""
        return self.result("tools/call", {"name": tool, "arguments": arguments})

    def error(self, tool: str, **arguments: Any) -> str:
        """The words of a tool that failed."""
        found = self.call(tool, **arguments)
        assert found["isError"], found
        text: str = found["content"][0]["text"]
        return text


def messages_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The JSON-RPC messages of an answer, plain or as server-sent events."""
    assert answer.status_code == 200, (answer.status_code, answer.text)
    if answer.headers["content-type"].startswith("application/json"):
        return [answer.json()]
    lines = answer.text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith(DATA)]

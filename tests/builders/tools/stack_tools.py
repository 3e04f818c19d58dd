"""Tool servers for the executions of a stack: a real broker on its Redis, and a key of the tenant that has them."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import docker

from tests.builders.brokers import Brokers
from tests.harness import Stack, end_of, eventually

TENANT = "t"  # of ``Brokers``


class StackTools:
    """A stack whose tenant ``t`` has the tool server ``test``."""

    def __init__(self, stack: Stack, **settings: Any) -> None:
        self.stack = stack
        self.brokers = Brokers(stack.directory, stack.redis, **settings)
        self.brokers.over_pipe()
        self.brokers.start()
        self.brokers.ready()
        scopes = ("executions:write", "executions:read", "security:read")
        self.headers = stack.headers_of(TENANT, *scopes)

    def submit(self, code: str, environment: str = "python", wait: int | None = None, **body: Any) -> dict[str, Any]:
        """Submit a program with the tools of ``test``; with a wall time as by ``Stack.run``."""
        limits = {"wall_seconds": 60, **body.pop("limits", {})}
        fields = {"tools": ["test.*"], "environment": environment, "code": code, "limits": limits, **body}
        response = self.stack.submit(wait, headers=self.headers, **fields)
        assert response.status_code in (200, 202), response.text
        found: dict[str, Any] = response.json()
        return found

    def run(self, code: str, environment: str = "python", **body: Any) -> dict[str, Any]:
        """Run a program with the tools of ``test`` to its end."""
        found = self.submit(code, environment, wait=60, **body)
        return found if found["finished_at"] is not None else self.ended(found["id"])

    def show(self, id: str, wait: int = 0) -> dict[str, Any]:
        response = self.stack.client.get(f"/api/v1/executions/{id}", params={"wait": wait}, headers=self.headers)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def ended(self, id: str) -> dict[str, Any]:
        """The record of an execution after its end."""
        return end_of(self.show, id)

    def security(self, id: str) -> list[dict[str, Any]]:
        """An execution's security events."""
        response = self.stack.client.get(f"/api/v1/executions/{id}/events", headers=self.headers)
        assert response.status_code == 200, response.text
        items = response.json()["items"]
        return [item["data"] for item in items if item["type"].startswith("dev.mayfly.security.")]

    def networks(self) -> set[str]:
        """The networks of this stack's containers: ``none``, or what else a container has."""
        found = set()
        for name in self.stack.containers():
            with contextlib.suppress(FileNotFoundError, docker.errors.NotFound):  # it has ended meanwhile
                found.add(self._network(name))
        return found

    def _network(self, name: str) -> str:
        if self.stack.env.get("MAYFLY_DRIVER") == "oci":
            for config in self.stack.directory.glob(f"state/oci/bundles/*/{name}/config.json"):
                own = {"type": "network"} in json.loads(config.read_text())["linux"]["namespaces"]
                return "none" if own else "host"
            raise FileNotFoundError(name)
        api = docker.APIClient()
        try:
            mode: str = api.inspect_container(name)["HostConfig"]["NetworkMode"]
            return mode
        finally:
            api.close()

    def waits(self, tool: str, mark: str) -> None:
        """Wait until a tool is being called with that mark."""
        eventually(lambda: self.brokers.called(tool, mark), f"{tool} is called", 120)

    def close(self) -> None:
        self.brokers.stop()

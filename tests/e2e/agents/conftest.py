"""Clients of other people, installed once, and an API process for those that can send no key."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.agents import installed
from tests.agents.installed import NodeClients
from tests.harness import Process, Stack, eventually, free_port


@pytest.fixture(scope="session")
def node_clients() -> NodeClients:
    """The pinned clients from npm."""
    return installed.node_clients()


@pytest.fixture(scope="session")
def python_clients() -> Path:
    """The directory of the pinned programs from PyPI."""
    return installed.python_clients()


@pytest.fixture(scope="module")
def agent_key(stack: Stack) -> str:
    """A key as an agent would have it."""
    secret: str = stack.new_key("mcp", "executions:write", "executions:read")["secret"]
    return secret


@pytest.fixture(scope="module")
def keyed_api(stack: Stack, agent_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Starts one more API process of the stack, which takes requests without a key as the agent's; gives its URL."""
    started: list[Process] = []

    def start(*words: str) -> str:
        port = free_port()
        log = tmp_path_factory.mktemp("keyed") / "api.log"
        command = [sys.executable, "-m", "tests.agents.keyed_api", agent_key, *words]
        started.append(Process(command, {**stack.env, "MAYFLY_API_PORT": str(port)}, log))
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: _answers(url), f"the API answers; {log} has its log", 60)
        return f"{url}/mcp"

    yield start
    for process in started:
        process.stop()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/livez").status_code == 200
    except httpx2.TransportError:
        return False

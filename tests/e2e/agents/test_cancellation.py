"""A call that its client gives up leaves no container: by a closed stream, a message, or the task's end."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from tests.builders.mcp_calls import ERAS, LEGACY, MODERN, Agent
from tests.builders.sandboxes.pauses import Pause
from tests.harness import Stack, bearer, eventually
from worker.agent.deadlines import GRACE_SECONDS

EXTENSION: dict[str, Any] = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
ORDINARY_ENDS = 5  # the time of so many is left to a cancellation, beyond the grace of its program
ROUNDS = 6


class Sleeper(Pause):
    """A program that pauses, and its execution."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self._stack = stack
        self.arguments: dict[str, Any] = {"code": self.code, "mode": "script", "limits": {"wall_seconds": 90}}
        self.id = ""

    def begun(self) -> None:
        """Wait until it sleeps in its container: it is then the newest execution, its state written or not."""
        super().begun()
        self.id = self._stack.client.get("/api/v1/executions", params={"limit": 1}).json()["items"][0]["id"]

    def gone(self) -> dict[str, Any]:
        """The container ends long before the program would, and the execution is cancelled."""
        eventually(lambda: not self.processes(), "the container has ended")
        ended = self.finished()
        assert (ended["state"], ended["reason"]) == ("cancelled", "cancelled_by_user")
        return ended

    def finished(self) -> dict[str, Any]:
        """The record after the end."""
        found: dict[str, Any] = eventually(
            lambda: (one := self._stack.show(self.id))["finished_at"] and one, "the execution has ended"
        )
        return found


@contextmanager
def open_stream(stack: Stack, agent: Agent, params: dict[str, Any]) -> Iterator[socket.socket]:
    """A call whose connection is closed at the end."""
    body, headers = agent.message("tools/call", params)
    raw = json.dumps(body).encode()
    lines = [f"{name}: {value}" for name, value in {**headers, **bearer(stack.key)}.items()]
    head = [
        "POST /mcp HTTP/1.1",
        f"Host: 127.0.0.1:{stack.port}",
        "Content-Type: application/json",
        f"Content-Length: {len(raw)}",
        *lines,
    ]
    with socket.create_connection(("127.0.0.1", stack.port)) as connection:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + raw)
        yield connection


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("progress", [True, False])
def test_closed_stream_stops_the_container(stack: Stack, era: str, progress: bool) -> None:
    """With or without a stream that has begun."""
    program = Sleeper(stack)
    meta = {"_meta": {"progressToken": 1}} if progress else {}
    with open_stream(stack, Agent(stack, era), {"name": "execute_code", "arguments": program.arguments, **meta}):
        program.begun()
        assert len(program.processes()) == 1  # the control: the program runs while the stream is open
    program.gone()


def test_message_stops_the_container(stack: Stack) -> None:
    """As clients of the older era cancel, which keep the connection."""
    program, agent = Sleeper(stack), Agent(stack, LEGACY, {"Mcp-Session-Id": secrets.token_hex(8)})
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(agent.call, "execute_code", **program.arguments)
        program.begun()
        other, mine = ({"requestId": id} for id in (8, 7))
        assert _notified(stack, agent, other) == 202
        assert program.processes() and not call.done()
        assert _notified(stack, agent, mine) == 202
        program.gone()
        assert call.result(60)["structuredContent"]["state"] == "cancelled"


def test_end_of_a_task_stops_the_container(stack: Stack) -> None:
    """As clients of the newer era cancel what they did not wait for."""
    program, agent = Sleeper(stack), Agent(stack, capabilities=EXTENSION)
    task = agent.call("execute_code", **program.arguments)
    program.begun()
    agent.result("tasks/cancel", {"taskId": task["taskId"]})
    program.gone()
    assert agent.result("tasks/get", {"taskId": task["taskId"]})["status"] == "cancelled"


def test_cancelled_program_ends_about_as_soon_as_one_that_ends_by_itself(stack: Stack) -> None:
    """The two promised seconds, as a measure of this machine: the grace, and a few times what an ordinary end takes.

    Both are by the records' times. A disturbance lengthens either of a pair, but not of each pair.
    """
    slow = dict.fromkeys(CANCELLATIONS, "")
    for _ in range(ROUNDS):
        for way in tuple(slow):
            ordinary = Sleeper(stack)
            stack.submit(environment="python", **ordinary.arguments)
            ordinary.begun()
            usual = _seconds_until_end(ordinary, ordinary.end)
            cancelled = Sleeper(stack)
            with CANCELLATIONS[way](stack, cancelled) as cancel:
                took = _seconds_until_end(cancelled, cancel)
            ended = cancelled.gone()
            asked, over = (datetime.fromisoformat(ended[name]) for name in ("cancel_requested_at", "finished_at"))
            assert asked < over
            slow[way] = f"{took:.3f} s, an ordinary end {usual:.3f} s"
            if took <= GRACE_SECONDS + ORDINARY_ENDS * usual:
                del slow[way]
        if not slow:
            return
    raise AssertionError(slow)


def _seconds_until_end(program: Sleeper, end: Callable[[], object]) -> float:
    """From a request until the end by the record, which Redis's clock has, of the same machine."""
    began = time.time()
    end()
    return datetime.fromisoformat(program.finished()["finished_at"]).timestamp() - began


@contextmanager
def _closing(stack: Stack, program: Sleeper, era: str = LEGACY) -> Iterator[Callable[[], object]]:
    call = {"name": "execute_code", "arguments": program.arguments, "_meta": {"progressToken": 1}}
    with open_stream(stack, Agent(stack, era), call) as connection:
        program.begun()
        yield connection.close


@contextmanager
def _messaging(stack: Stack, program: Sleeper) -> Iterator[Callable[[], object]]:
    agent = Agent(stack, LEGACY, {"Mcp-Session-Id": secrets.token_hex(8)})
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(agent.call, "execute_code", **program.arguments)
        program.begun()
        yield lambda: _notified(stack, agent, {"requestId": 7})
        call.result(60)


@contextmanager
def _ending_the_task(stack: Stack, program: Sleeper) -> Iterator[Callable[[], object]]:
    agent = Agent(stack, capabilities=EXTENSION)
    task = agent.call("execute_code", **program.arguments)
    program.begun()
    yield lambda: agent.result("tasks/cancel", {"taskId": task["taskId"]})


CANCELLATIONS: dict[str, Callable[..., AbstractContextManager[Callable[[], object]]]] = {
    "closed stream": _closing,
    "closed stream of the newer era": partial(_closing, era=MODERN),
    "message": _messaging,
    "end of the task": _ending_the_task,
}


def _notified(stack: Stack, agent: Agent, params: dict[str, Any]) -> int:
    body, headers = agent.message("notifications/cancelled", params)
    del body["id"]
    return stack.client.post("/mcp", json=body, headers=headers).status_code

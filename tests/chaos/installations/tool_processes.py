"""Brokers, APIs and tool servers that exit at a given step of a call, as the workers of ``workers.py`` do.

Each process waits for the mark of a call whose arguments name the step, so a process is ended by one certain call, and
serves every other as usual.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import uvicorn

from orchestrator.api.__main__ import main as serve_api
from orchestrator.broker.checks import Checks
from orchestrator.broker.process import Broker
from orchestrator.broker.sandboxes import SandboxLauncher
from orchestrator.broker.upstreams.upstream import Upstream
from orchestrator.service.tool_calls import ToolCalls
from orchestrator.store import keys
from orchestrator.store.tools.calls import Calls
from orchestrator.store.tools.replies import Replies
from tests.builders.tools import tool_server
from tests.chaos.installations.workers import FORKS, Fate, Life, become

# In the order in which a call passes them.
BROKER_STEPS = (
    "waiting",  # the call is on its list in Redis
    "taken",  # the broker has it
    "checked",  # it may be made
    "made",  # the tool is at work
    "answered",  # the broker has the result
    "settling",  # Redis does not have it yet
    "settled",  # Redis has it
)
API_STEPS = (
    "accepted",  # the request is read, nothing is written
    "submitted",  # Redis has the call
    "made",  # the tool is at work
    "arrived",  # the API has the outcome
    "answering",  # its client does not
)
SERVER_STEPS = (
    "received",  # the request is read, nothing is done
    "working",  # the tool has begun
    "worked",  # the tool has ended
    "answering",  # half of the answer is sent
    "replied",  # all of it is
)
IN_SANDBOX = "/data/server.py"  # piped_server.py, which sandboxes run in place of their image's server
DOOMED = "doomed"  # begins the mark of a call that ends the process which is to end


def broker(env: dict[str, str], step: str, log: Path) -> None:
    """A broker's life. Without a step it does not end by itself; with ``repeats`` as its step it is a weaker broker,
    which makes a call again whose outcome it does not know.
    """
    settings = become(env, log)
    life = Life(Fate(step), log.with_name("deaths"))
    ledger = Path(env["LEDGER"])
    take, accepted, call = Calls.take, Checks.accepted, Upstream.call

    def taking(calls: Any, id: str, rooms: Any) -> Any:
        if any(calls._redis.llen(keys.tool_waiting(str(upstream))) for upstream in rooms):
            life.passes("waiting")
        found = take(calls, id, rooms)
        if found is not None and found.calls:
            life.passes("taken")
        return found

    async def checking(checks: Any, taken: Any, upstream: Any) -> Any:
        found = await accepted(checks, taken, upstream)
        life.passes("checked")
        return found

    async def calling(upstream: Any, tool: Any, arguments: Any, seconds: float) -> Any:
        made = asyncio.ensure_future(call(upstream, tool, arguments, seconds))
        while step == "made" and not made.done():
            if noted(ledger, f"{tool.name} {arguments['mark']}"):
                life.passes("made")
            await asyncio.sleep(0.01)
        outcome = await made
        while step == "repeats" and outcome.failure is not None:
            await asyncio.sleep(0.1)
            outcome = await call(upstream, tool, arguments, seconds)
        life.passes("answered")
        return outcome

    launch = SandboxLauncher.command

    def launching(launcher: Any, tenant: str, server: Any, secret: Any) -> Any:
        found = launch(launcher, tenant, server, secret)
        if server.environment is not None:
            path = Path(found.words[found.words.index("--bundle") + 1]) / "config.json"
            configuration = json.loads(path.read_text(encoding="utf-8"))
            configuration["process"]["args"] = ["/usr/bin/python3", "-I", IN_SANDBOX]
            path.write_text(json.dumps(configuration), encoding="utf-8")
        return found

    replace(SandboxLauncher, "command", launching)
    replace(Calls, "take", taking)
    replace(Checks, "accepted", checking)
    replace(Upstream, "call", calling)
    life.before("settling", Calls, "settle")
    life.after("settled", Calls, "settle")
    Broker(settings).main()


def api(env: dict[str, str], step: str, log: Path) -> None:
    """An API's life; see :func:`broker`."""
    become(env, log)
    life = Life(Fate(step), log.with_name("deaths"))
    call, submit = ToolCalls.call, Replies.submit
    ledger = Path(env["LEDGER"])

    async def calling(calls: Any, principal: Any, server: str, tool: str, new: Any) -> Any:
        mark = new.arguments["mark"]
        if mark.startswith(DOOMED):
            life.passes("accepted")
        found = await call(calls, principal, server, tool, new)
        if mark.startswith(DOOMED):
            life.passes("answering")
        return found

    def submitting(replies: Any, made: Any, on_outcome: Any) -> None:
        mark = json.loads(made.arguments)["mark"]
        doomed = mark.startswith(DOOMED)

        def arrived(outcome: Any) -> None:
            if doomed:
                life.passes("arrived")
            on_outcome(outcome)

        submit(replies, made, arrived)
        if doomed:
            life.passes("submitted")
        while doomed and step == "made":
            if noted(ledger, f"{made.tool} {mark}"):
                life.passes("made")
            time.sleep(0.01)

    replace(ToolCalls, "call", calling)
    replace(Replies, "submit", submitting)
    serve_api()


def server(port: int, ledger: Path, step: str, log: Path) -> None:
    """A tool server's life; see :func:`broker`."""
    become({}, log)
    life = Life(Fate(step), log.with_name("deaths"))
    tool_server.LEDGER = ledger
    note = tool_server.note

    def noting(tool: str, mark: str) -> None:
        note(tool, mark)
        if mark.startswith(DOOMED):
            life.passes("worked" if tool == "waited" else "working")

    tool_server.note = noting
    app = tool_server.server.streamable_http_app(stateless_http=True, json_response=True)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        doomed = False

        async def receiving() -> Any:
            nonlocal doomed
            message = await receive()
            if f'"{DOOMED}'.encode() in message.get("body", b""):
                doomed = True
                life.passes("received")
            return message

        async def sending(message: Any) -> None:
            body = message.get("body", b"")
            if doomed and step == "answering" and body:
                await send({**message, "body": body[: len(body) // 2], "more_body": True})
                life.passes("answering")
            await send(message)
            if doomed and body:
                life.passes("replied")

        await app(scope, receiving, sending)

    uvicorn.run(answer, host="127.0.0.1", port=port, log_level="critical")


def noted(ledger: Path, line: str) -> bool:
    """Whether a tool has noted that it was called."""
    return line in ledger.read_text(encoding="utf-8").splitlines()


def replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    """Put a function in the place of a method."""
    setattr(owner, name, wraps(getattr(owner, name))(function))


class Doomed:
    """Forked processes of one test: they begin with a step at which they end, and are all ended at the end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._alive: list[BaseProcess] = []

    def begin(self, target: Callable[..., None], *arguments: Any) -> int:
        """Fork a process; ``target`` is one of the functions above, without its log. Returns the pid."""
        log = self._directory / f"{target.__name__}-{len(self._alive)}.log"
        process = FORKS.Process(target=target, args=(*arguments, log))
        process.start()
        self._alive.append(process)
        assert process.pid is not None
        return process.pid

    def deaths(self) -> Counter[str]:
        """How many ended at which step."""
        deaths = self._directory / "deaths"
        return Counter(deaths.read_text(encoding="ascii").split() if deaths.exists() else ())

    def stop(self) -> None:
        for process in self._alive:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)
            process.join()

"""The door loads the protocol's library for the first request, once, whatever befalls that request."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.mcp import door
from orchestrator.mcp.door import McpDoor
from orchestrator.settings import create_secret_file, inherited_environment

LOADED = """
import asyncio, sys
from orchestrator.api import create_app
from orchestrator.mcp.door import load_eras
from orchestrator.settings import Settings

def loaded():
    print("loaded", *(name for name in ("mcp", "mcp_types", "tiktoken") if name in sys.modules))

async def start_and_stop():
    application = create_app(Settings())
    fastapi = application.app.state.parts
    received, sent = asyncio.Queue(), asyncio.Queue()
    running = asyncio.create_task(application({"type": "lifespan", "state": {}}, received.get, sent.put))
    await received.put({"type": "lifespan.startup"})
    assert (await sent.get())["type"] == "lifespan.startup.complete"
    loaded()
    load_eras(application.app.state.parts.mcp._parts)
    loaded()
    await received.put({"type": "lifespan.shutdown"})
    await running

asyncio.run(start_and_stop())
"""


class Served:
    """Stands in for both eras: whether they run, and the requests they got."""

    def __init__(self) -> None:
        self.is_running = False
        self.requests: list[Any] = []

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        self.is_running = True
        try:
            yield
        finally:
            self.is_running = False

    async def handle(self, caller: Any, scope: Any, receive: Any, send: Any) -> None:
        assert self.is_running
        self.requests.append(caller)


class Loading:
    """Stands in for the load: it waits until it may end, and fails as often as asked."""

    def __init__(self, failures: int = 0) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.failures = failures
        self.made: list[Served] = []

    def __call__(self, parts: Any) -> Served:
        self.begun.set()
        assert self.may_end.wait(20)
        if self.failures:
            self.failures -= 1
            raise ImportError("no such module")
        self.made.append(Served())
        return self.made[-1]


def loading(monkeypatch: pytest.MonkeyPatch, failures: int = 0) -> Loading:
    made = Loading(failures)
    monkeypatch.setattr(door, "load_eras", made)
    return made


def request(made: McpDoor, caller: Any) -> asyncio.Task[None]:
    async def nothing(*message: Any) -> Any:
        return None

    return asyncio.create_task(made.handle(caller, {"state": {}}, nothing, nothing))


async def begin(load: Loading) -> None:
    assert await asyncio.to_thread(load.begun.wait, 20)


def make_door() -> McpDoor:
    parts: Any = None
    return McpDoor(parts)


def test_start_of_the_api_loads_neither_the_protocols_library_nor_the_tokenizer(tmp_path: Path) -> None:
    create_secret_file(tmp_path / "secret")
    variables = inherited_environment(MAYFLY_STATE_DIR=str(tmp_path), MAYFLY_REDIS_URL=f"unix://{tmp_path}/none.sock")
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("loaded")]
    assert lines == ["loaded", "loaded mcp mcp_types tiktoken"]


def test_first_requests_share_one_load(monkeypatch: pytest.MonkeyPatch) -> None:
    load = loading(monkeypatch)

    async def five() -> None:
        made = make_door()
        async with made.run():
            assert load.made == []
            requests = [request(made, number) for number in range(5)]
            await begin(load)
            load.may_end.set()
            await asyncio.gather(*requests)
            (eras,) = load.made
            assert eras.requests == [0, 1, 2, 3, 4]
            assert eras.is_running
        assert not eras.is_running

    asyncio.run(five())


def test_failed_load_fails_its_request_and_the_next_request_loads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    load = loading(monkeypatch, failures=1)
    load.may_end.set()

    async def two() -> None:
        made = make_door()
        async with made.run():
            with pytest.raises(ImportError):
                await request(made, 1)
            await request(made, 2)
        assert [eras.requests for eras in load.made] == [[2]]

    asyncio.run(two())


def test_request_that_is_cancelled_during_the_load_does_not_fail_others(monkeypatch: pytest.MonkeyPatch) -> None:
    load = loading(monkeypatch)

    async def two() -> None:
        made = make_door()
        async with made.run():
            first, second = request(made, 1), request(made, 2)
            await begin(load)
            first.cancel()
            load.may_end.set()
            await second
            assert (await asyncio.gather(first, return_exceptions=True))[0].__class__ is asyncio.CancelledError
        assert [eras.requests for eras in load.made][-1] == [2]

    asyncio.run(two())

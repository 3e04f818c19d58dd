"""Both clients have the same calls; what they import; how a call and an iteration end."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import pytest

import mayfly
from mayfly import AsyncClient, Client
from mayfly.calls import Calls
from mayfly.client import DEFAULT_URL, Driver, address
from mayfly.connections import Connections, Server
from mayfly.steps import Pause, Work
from tests.builders.one_execution import ended, serving

SERVERS = {
    "docker", "fastapi", "limits", "msgpack", "orchestrator", "prometheus_client", "pydantic", "pydantic_settings",
    "redis", "rich", "rq", "starlette", "structlog", "typer", "uvicorn", "worker",
}  # fmt: skip
ASYNCHRONOUS = {"asyncio", "httpx2"}


def calls_of(kind: type) -> dict[str, str]:
    found = inspect.getmembers(kind, inspect.isfunction)
    names = {name: call for name, call in found if not name.startswith("_") and name != "close"}
    return {name: f"{inspect.signature(call)} {inspect.getdoc(call)}" for name, call in names.items()}


def test_both_clients_have_every_call() -> None:
    assert calls_of(Client) == calls_of(AsyncClient) == calls_of(Calls)
    assert len(calls_of(Client)) > 20


def loaded(name: str) -> set[str]:
    code = f"""
import json, sys
before = set(sys.modules)  # what measures coverage, for one
from mayfly import {name}
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return {module.partition(".")[0] for module in json.loads(done.stdout)}


def test_the_blocking_client_imports_the_standard_library_alone() -> None:
    packages = loaded("Client")
    assert packages & (SERVERS | ASYNCHRONOUS) == set()
    assert packages - sys.stdlib_module_names == {"mayfly"}


def test_the_asynchronous_client_imports_nothing_of_the_server() -> None:
    packages = loaded("AsyncClient")
    assert packages & SERVERS == set()
    assert packages >= ASYNCHRONOUS  # the control: what is imported is seen


def test_every_exported_name_is_defined() -> None:
    assert all(getattr(mayfly, name) for name in mayfly.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        mayfly.nothing  # noqa: B018


def test_the_environments_key_goes_to_the_environments_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAYFLY_TOKEN", "t")
    monkeypatch.delenv("MAYFLY_URL", raising=False)
    assert address(None, None) == (DEFAULT_URL, "t")
    monkeypatch.setenv("MAYFLY_URL", "http://own.example/")
    assert address(None, None) == ("http://own.example/", "t")
    assert address("http://own.example", None) == ("http://own.example", "t")
    assert address("http://elsewhere.example", None) == ("http://elsewhere.example", "")
    assert address("http://elsewhere.example", "u") == ("http://elsewhere.example", "u")


def test_an_interrupt_ends_a_call() -> None:
    cleaned = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    async def call() -> None:
        try:
            await Work(interrupted)
        finally:
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        Driver(Connections(Server.at("http://127.0.0.1:1"), {})).complete(call())
    assert cleaned == [True]


def test_a_cancelled_task_ends_its_call() -> None:
    cleaned = []

    async def call() -> None:
        try:
            await Pause(60)
        finally:
            cleaned.append(True)

    async def main() -> None:
        from mayfly.asynchronous import Driver as Awaiting

        async with AsyncClient("http://127.0.0.1:1") as client:
            task = asyncio.create_task(Awaiting(client._http, client._server).complete(call()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert cleaned == [True]


def test_an_iteration_that_is_left_closes_its_connection() -> None:
    with serving(ended()) as url, Client(url) as client:
        events = client.follow("x")
        assert next(events).type == "stdout"
        assert isinstance(events, Iterator)
        events.close()  # type: ignore[attr-defined]
        assert client.get("x").has_succeeded


def test_an_asynchronous_iteration_that_is_left_closes_its_connection() -> None:
    async def main(url: str) -> None:
        async with AsyncClient(url) as client:
            events = client.follow("x")
            assert (await anext(events)).type == "stdout"
            assert isinstance(events, AsyncIterator)
            await events.aclose()
            assert (await client.get("x")).has_succeeded

    with serving(ended()) as url:
        asyncio.run(main(url))


def test_a_blocking_client_takes_no_asynchronous_input() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    with Client("http://127.0.0.1:1") as client, pytest.raises(TypeError, match="asynchronous client"):
        client.feed("x", pieces())


@contextmanager
def recording() -> Iterator[tuple[str, list[str | None]]]:
    """The URL of a server, and the credentials that it gets."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def test_token_of_a_function_is_taken_anew_for_each_request() -> None:
    async def ask(url: str) -> None:
        async with AsyncClient(url, lambda: next(tokens)) as client:
            await client.versions()
            await client.ready()

    tokens = map(str, count(1))
    with recording() as (url, seen):
        with Client(url, lambda: next(tokens)) as client:
            client.versions()
            client.ready()
        asyncio.run(ask(url))
    assert seen == ["Bearer 1", "Bearer 2", "Bearer 3", "Bearer 4"]

"""A tool server as a broker serves it, with a scripted connection: states, restarts, room and the circuit breaker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orchestrator.broker.links.link import LinkFailed, failed
from orchestrator.broker.upstreams import catalogue as catalogues
from orchestrator.broker.upstreams import upstream as upstreams
from orchestrator.broker.upstreams.breaker import FAILURES
from orchestrator.broker.upstreams.upstream import REFUSING, Known, Upstream
from orchestrator.errors import MayflyError, StoreUnavailable, TenantStoreFull
from orchestrator.models.tool_servers import CatalogueChange, ToolServer
from orchestrator.models.tools import Catalogue, Tool, ToolOutcome
from orchestrator.store.tools.calls import Upstream as Name
from tests.builders.brokers import code

NAME = Name("t", "s")


def tools(*names: str) -> tuple[Tool, ...]:
    return tuple(Tool(server="s", name=name, input_schema={}) for name in names)


class Scripted:
    """A tool server: ``up`` says whether it can be reached, ``tools`` what it lists, ``outcome`` what calls give."""

    def __init__(self) -> None:
        self.up, self.tools, self.outcome = True, tools("a"), ToolOutcome(result="1")
        self.closed = False
        self.opened = 0
        self.event = asyncio.Event()
        self.calls: list[tuple[str, float]] = []
        self.catalogue: Catalogue | None = None
        self.changes: list[CatalogueChange] = []
        self.mine = True
        self.refusal: MayflyError | None = None  # of whatever is not down
        self.on_published: Callable[[], object] = lambda: None
        self.store_is_away = False

    @asynccontextmanager
    async def open(self, tenant: str, server: ToolServer) -> AsyncIterator[Scripted]:
        self.opened += 1
        if not self.up:
            raise LinkFailed("it is off")
        yield self

    async def list_tools(self) -> tuple[Tool, ...]:
        if not self.up:
            raise LinkFailed("it ended")
        return self.tools

    async def call(self, tool: Tool, arguments: dict[str, Any], seconds: float) -> ToolOutcome:
        self.calls.append((tool.name, seconds))
        return self.outcome

    async def changed(self, most_seconds: float) -> None:
        try:
            await asyncio.wait_for(self.event.wait(), most_seconds)
        except TimeoutError:
            return
        self.event.clear()

    def known(self) -> Known:
        return Known(self.catalogue, tuple(self.changes))

    def publish(self, catalogue: Catalogue, change: CatalogueChange | None) -> bool:
        if self.refusal is not None and (self.store_is_away or catalogue.state != "down"):
            raise self.refusal
        if self.mine:
            self.catalogue = catalogue
            self.changes[:0] = [change] if change else []
            self.on_published()
        return self.mine


async def until(probe: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(10):
        while not probe():  # noqa: ASYNC110 - nothing announces the state
            await asyncio.sleep(0.005)
    assert probe(), what


def served(test: Callable[[Scripted, Upstream], Awaitable[None]], refresh: float = 60.0, **fields: Any) -> None:
    """Run a test with a scripted server, and the upstream that serves it."""

    async def run() -> None:
        server = Scripted()
        declaration = ToolServer(name="s", url="http://x/", **fields)
        made = Upstream(NAME, declaration, server.open, server.known, server.publish, refresh)
        running = asyncio.create_task(made.run())
        try:
            await test(server, made)
        finally:
            running.cancel()
            await asyncio.wait([running])

    asyncio.run(run())


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstreams, "LEAST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(upstreams, "MOST_PAUSE_SECONDS", 0.1)


def test_capacity_is_zero_until_ready_and_then_the_concurrency() -> None:
    async def test(server: Scripted, made: Upstream) -> None:
        assert (made.state(), made.room()) == ("starting", 0)
        await until(lambda: made.state() == "ready", "it is ready")
        assert made.room() == 3
        made.begin(2)
        assert (made.room(), made.active) == (1, 2)
        made.end()
        assert made.room() == 2
        made.releasing = True
        assert made.room() == 0

    served(test, concurrency=3)


def test_other_calls_continue_between_the_steps_of_a_new_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0
    seen: list[int] = []

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        for name in ("selected", "digest", "catalogue"):
            monkeypatch.setattr(catalogues, name, noted(getattr(catalogues, name)))
        turn()
        server.tools = tools("a", "b")
        server.event.set()
        await until(lambda: made.tool("b"), "the new list is published")
        assert len(seen) == 3
        assert sorted(set(seen)) == seen

    def noted(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            seen.append(turns)
            return step(*arguments)

        return call

    served(test)


def test_call_has_the_shorter_of_both_times() -> None:
    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        tool = made.tool("a")
        assert tool is not None
        assert made.tool("b") is None
        for seconds in (1.0, 100.0):
            assert await made.call(tool, {}, seconds) == server.outcome
        assert server.calls == [("a", 1.0), ("a", 7.0)]

    served(test, call_seconds=7)


def test_first_loss_is_repaired_without_refusing_calls() -> None:
    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        server.up = False
        server.event.set()
        await until(lambda: made.state() == "starting", "the loss is seen")
        assert made.room() == 0, "calls wait"
        server.up = True
        await until(lambda: made.state() == "ready", "it is ready again")
        assert server.opened == 2

    served(test)


def test_server_that_stays_away_is_down_and_refuses_calls() -> None:
    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        server.up = False
        server.event.set()
        await until(lambda: server.catalogue and server.catalogue.state == "down", "it is shown")
        assert (made.state(), made.room()) == ("down", REFUSING)
        assert server.catalogue is not None
        assert (server.catalogue.detail, server.catalogue.tools) == ("it is off", tools("a"))
        assert code(await made.call(tools("a")[0], {}, 1)) == "tool_unavailable"
        assert server.calls == []
        opened = server.opened
        await until(lambda: server.opened > opened + 1, "it is tried again")
        server.up = True
        await until(lambda: made.state() == "ready", "it is back")
        assert server.catalogue.state == "ready"

    served(test)


def test_catalogue_without_room_makes_the_server_down_with_the_code_until_there_is_room() -> None:
    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        server.refusal = TenantStoreFull(message="The catalogue has 9 bytes.")
        server.tools = tools("a", "b")
        server.event.set()
        await until(lambda: made.state() == "down", "it is down")
        await until(lambda: server.catalogue and server.catalogue.state == "down", "it is shown")
        assert server.catalogue is not None
        assert server.catalogue.detail == "tenant_store_full: The catalogue has 9 bytes."
        assert server.catalogue.tools == tools("a")
        assert code(await made.call(tools("a")[0], {}, 1)) == "tool_unavailable"
        server.refusal = None
        await until(lambda: made.state() == "ready", "it is back")
        assert server.catalogue.tools == tools("a", "b")

    served(test)


def test_server_lost_while_redis_was_away_is_connected_again() -> None:
    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        server.up, server.refusal, server.store_is_away = False, StoreUnavailable(), True
        server.event.set()
        await until(lambda: made.state() == "down", "it is down")
        opened = server.opened
        await until(lambda: server.opened > opened + 1, "it is tried again")
        server.up, server.refusal, server.store_is_away = True, None, False
        await until(lambda: made.state() == "ready", "it is back")

    served(test)


def test_reported_and_unreported_changes_are_seen() -> None:
    async def reported(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        server.tools = tools("a", "b")
        server.event.set()
        await until(lambda: made.tool("b"), "the change is seen")
        assert [change.added for change in server.changes] == [("b",)]

    async def unreported(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        server.tools = tools("b")
        await until(lambda: made.tool("b"), "the change is seen")
        assert made.tool("a") is None

    served(reported)
    served(unreported, refresh=0.02)


@pytest.mark.parametrize("quarantine", [False, True])
def test_calls_wait_from_the_publication_of_a_catalogue_until_its_first_use(quarantine: bool) -> None:
    """A reader of the catalogue in Redis would get `tool_unknown` for a new tool, or pass a quarantine."""

    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        rooms: list[int] = []
        server.on_published = lambda: rooms.append(made.room())
        server.tools = tools("a", "b")
        server.event.set()
        await until(lambda: made.tool("b"), "the change is seen")
        assert rooms == [0]
        assert made.room() == (REFUSING if quarantine else made.server.concurrency)

    served(test, quarantine=quarantine)


def test_connection_whose_end_fails_is_not_opened_again() -> None:
    """An error of the library can replace the cancellation; the broker's stop waited without end for such a task."""

    async def run() -> int:
        server = Scripted()

        @asynccontextmanager
        async def open_link(tenant: str, declared: ToolServer) -> AsyncIterator[Scripted]:
            async with server.open(tenant, declared) as link:
                try:
                    yield link
                except asyncio.CancelledError as cancelled:
                    raise LinkFailed("the server's last answer is invalid") from cancelled

        made = Upstream(NAME, ToolServer(name="s", url="http://x/"), open_link, server.known, server.publish, 60.0)
        running = asyncio.create_task(made.run())
        await until(lambda: made.state() == "ready", "it is ready")
        made.closing = True
        running.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([running])
        return server.opened

    assert asyncio.run(run()) == 1


def test_calls_wait_while_an_ended_connection_is_replaced() -> None:
    """Taken, they would be refused, though the server is started again at once."""

    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        assert made.room() == made.server.concurrency
        server.closed = True
        assert (made.state(), made.room()) == ("ready", 0)

    served(test)


def test_unchanged_catalogue_is_not_written_again() -> None:
    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        written = server.catalogue
        server.event.set()
        await until(lambda: not server.event.is_set(), "it is listed again")
        await asyncio.sleep(0.05)
        assert server.catalogue is written

    served(test)


def test_quarantine_ends_when_the_server_returns_to_its_catalogue() -> None:
    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        server.tools = tools("a", "evil")
        server.event.set()
        await until(lambda: made.state() == "quarantined", "it is quarantined")
        assert server.changes[0].quarantined
        server.tools = tools("a")
        server.event.set()
        await until(lambda: made.state() == "ready", "it is ready again")

    served(test, quarantine=True)


def test_quarantine_outlives_a_loss_of_the_connection() -> None:
    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        server.tools = tools("a", "evil")
        server.event.set()
        await until(lambda: made.state() == "quarantined", "it is quarantined")
        server.up = False
        server.event.set()
        await until(lambda: made.state() == "down", "it is down")
        server.up = True
        await until(lambda: made.state() == "quarantined", "it is quarantined again")

    served(test, quarantine=True)


def test_server_that_always_reports_changes_is_listed_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        if seconds >= upstreams.LEAST_PAUSE_SECONDS:
            pauses.append(seconds)
        await sleep(seconds)

    async def test(server: Scripted, made: Upstream) -> None:
        monkeypatch.setattr(asyncio, "sleep", recorded)

        def reported() -> bool:
            server.event.set()
            return len(pauses) > 4

        await until(reported, "it was listed again and again")
        assert pauses[:5] == [0.02, 0.04, 0.08, 0.1, 0.1]
        assert made.state() == "ready"

    served(test)


def test_refresh_that_is_due_delays_no_later_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: where a server reports nothing, there is nothing to wait for."""
    monkeypatch.setattr(upstreams, "LEAST_PAUSE_SECONDS", 1000.0)

    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        for names in ("ab", "abc"):
            server.tools = tools(*names)
            await until(lambda: len(made.tools) == len(server.tools), "the change was found")

    served(test, refresh=0.01)


def test_upstream_of_another_broker_is_not_served() -> None:
    async def test(server: Scripted, made: Upstream) -> None:
        server.mine = False
        await until(lambda: server.opened > 2, "it was tried")
        assert made.state() != "ready"
        assert server.catalogue is None

    served(test)


def test_breaker_refuses_calls_of_a_server_that_keeps_failing() -> None:
    async def test(server: Scripted, made: Upstream) -> None:
        await until(lambda: made.state() == "ready", "it is ready")
        server.outcome = failed("tool_timed_out", "too slow")
        for _ in range(FAILURES):
            assert code(await made.call(tools("a")[0], {}, 1)) == "tool_timed_out"
        assert code(await made.call(tools("a")[0], {}, 1)) == "tool_unavailable"
        assert len(server.calls) == FAILURES

    served(test)

"""A broker loses no outcome to a Redis that refuses: retries are counted, and one malformed key holds up no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from orchestrator.broker import mailbox as mailbox_module
from orchestrator.broker.declared import files
from orchestrator.broker.declared.files import Declared
from orchestrator.broker.lease import BEAT_SECONDS
from orchestrator.broker.mailbox import Mailbox
from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import ToolOutcome
from orchestrator.store import Store, keys
from orchestrator.store.tools.brokers import LEASE_SECONDS
from orchestrator.store.tools.calls import Upstream
from orchestrator.store.tools.servers import MOST_SERVERS
from tests.builders.brokers import Brokers
from tests.builders.records import KEY
from tests.builders.tool_calls import SERVER, serving, submitted, taken
from tests.harness import eventually

FINE = ToolOutcome(result="1")
LOST = "mayfly_tool_outcomes_lost_total"


def failures(part: str) -> float:
    return REGISTRY.get_sample_value("mayfly_broker_failures_total", {"part": part}) or 0.0


@pytest.fixture
def mailbox(store: Store) -> Iterator[Mailbox]:
    serving(store)
    made = Mailbox(store.tools.calls, "b", dict, lambda taken: None)
    made.start()
    yield made
    made.stop()


def test_refused_outcome_is_retried_and_delays_no_other(store: Store, mailbox: Mailbox) -> None:
    refused, other = submitted(store), submitted(store)
    assert len(taken(store)) == 2
    store.redis.rename(keys.tool_call(refused), "aside")
    store.redis.lpush(keys.tool_call(refused), "another type")
    before = failures("settle")
    mailbox.settle(refused, FINE)
    mailbox.settle(other, FINE)
    assert eventually(lambda: store.tools.calls.answered("me", 0), "the other outcome arrives") == [(other, FINE)]
    eventually(lambda: failures("settle") >= before + 2, "the outcome is retried")
    store.redis.rename("aside", keys.tool_call(refused))
    assert eventually(lambda: store.tools.calls.answered("me", 0), "the outcome arrives") == [(refused, FINE)]


def test_outcome_that_redis_refuses_for_a_lease_is_counted_as_lost(
    store: Store, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_module, "LEASE_SECONDS", 0.3)
    id, before = submitted(store), REGISTRY.get_sample_value(LOST) or 0.0
    taken(store)
    store.redis.delete(keys.tool_call(id))
    store.redis.lpush(keys.tool_call(id), "another type")
    mailbox.settle(id, FINE)
    eventually(lambda: REGISTRY.get_sample_value(LOST) == before + 1, "the loss is counted")


def test_calls_are_taken_again_after_a_malformed_bell(store: Store, mailbox: Mailbox) -> None:
    before = failures("take")
    store.redis.set(keys.tool_bell("b"), "another type")
    eventually(lambda: failures("take") > before, "the failure is counted")
    store.redis.delete(keys.tool_bell("b"))
    after = failures("take")
    store.redis.set(keys.tool_bell("b"), "another type")
    eventually(lambda: failures("take") > after, "the thread takes calls again")


def test_stop_does_not_wait_for_calls(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "WAIT_SECONDS", 60.0)
    serving(store)
    mailbox = Mailbox(store.tools.calls, "b", dict, lambda taken: None)
    mailbox.start()
    eventually(lambda: "blpop" in {client["cmd"] for client in store.redis.client_list()}, "the mailbox waits")
    stopping = threading.Thread(target=mailbox.stop)
    stopping.start()
    stopping.join(60)
    assert not stopping.is_alive()


def test_calls_that_are_being_taken_are_handed_over_before_taking_has_stopped(store: Store) -> None:
    serving(store)
    asked, permitted = threading.Event(), threading.Event()
    handed_over: list[str] = []
    at_stop: list[list[str]] = []

    def rooms() -> dict[Upstream, int]:
        asked.set()
        assert permitted.wait(60)
        return {SERVER: 1}

    def stop() -> None:
        made.stop_taking()
        at_stop.append(handed_over.copy())

    made = Mailbox(store.tools.calls, "b", rooms, lambda taken: handed_over.extend(o.call.id for o in taken.calls))
    made.start()
    id = submitted(store)
    assert asked.wait(60)
    stopping = threading.Thread(target=stop)
    stopping.start()
    stopping.join(0.3)  # long enough to return too early
    permitted.set()
    stopping.join(60)
    made.stop()
    assert at_stop == [[id]]


def test_broker_whose_heartbeats_fail_abandons_its_calls_and_recovers(brokers_with: Callable[..., Brokers]) -> None:
    brokers = brokers_with()
    brokers.over_http()
    brokers.start()
    brokers.ready()
    value = brokers.store.redis.get(keys.TOOL_DECLARATIONS)
    brokers.store.redis.delete(keys.TOOL_DECLARATIONS)
    brokers.store.redis.lpush(keys.TOOL_DECLARATIONS, "another type")
    eventually(lambda: brokers.metrics().get('mayfly_broker_failures_total{part="beat"}'), "a failure is counted")
    eventually(lambda: brokers.metrics()["mayfly_broker_leases_lost_total"], "the broker abandons its upstreams")
    assert brokers.status(brokers.ports[0], "/readyz") == 503
    brokers.store.redis.set(keys.TOOL_DECLARATIONS, value)
    eventually(lambda: brokers.status(brokers.ports[0], "/readyz") == 200, "the broker is ready again")
    assert brokers.call("add", a=1, b=2).result == "3"


def test_broker_with_unusable_declarations_keeps_its_lease(
    brokers_with: Callable[..., Brokers], tmp_path: Path
) -> None:
    directory = tmp_path / "servers"
    directory.mkdir()
    brokers = brokers_with(tool_servers_dir=directory)
    brokers.over_http()
    brokers.start()
    brokers.ready()
    brokers.store.redis.set(keys.tool_servers("u"), "another type")
    (directory / "more.toml").write_text('url = "http://127.0.0.1:1/mcp"\ntenants = ["u"]\n')
    name = 'mayfly_broker_failures_total{part="publish"}'
    eventually(lambda: brokers.metrics().get(name, 0) * BEAT_SECONDS > LEASE_SECONDS + 1, "failures outlast a lease")
    assert brokers.status(brokers.ports[0], "/readyz") == 200
    assert brokers.call("add", a=1, b=2).result == "3"


def test_declaration_above_the_bound_of_one_tenant_keeps_no_other_away(store: Store) -> None:
    def server(name: str) -> ToolServer:
        return ToolServer(name=name, url="http://127.0.0.1:1/mcp", origin="file")

    full = {Upstream("t", f"s{number:03}"): server(f"s{number:03}") for number in range(MOST_SERVERS)}
    files.publish(Declared(full, {}), store.tools, KEY)
    del full[Upstream("t", "s000")]
    full |= {Upstream("t", "new"): server("new"), Upstream("t", "over"): server("over"), SERVER: server("files")}
    full[Upstream("u", "s")] = server("s")
    files.publish(Declared(full, {}), store.tools, KEY)
    found = store.tools.servers.upstreams()
    assert {Upstream("t", "new"), Upstream("u", "s")} <= found
    assert len([name for name in found if name.tenant == "t"]) == MOST_SERVERS

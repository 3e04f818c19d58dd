"""Brokers that stop, stall, or take over, and a Redis that restarts; ``tests/chaos`` kills brokers at every step."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from orchestrator.store import keys
from tests.builders.brokers import Brokers, code
from tests.harness import RedisServer, eventually


def test_second_broker_takes_over(brokers_with: Callable[..., Brokers]) -> None:
    brokers = brokers_with()
    port = brokers.over_http("one")
    for name in ("two", "three"):
        brokers.over_http(name, port)
    first = brokers.start()
    brokers.ready("three")
    brokers.start()
    eventually(lambda: len(owners(brokers)) == 2, "both brokers serve upstreams")
    for name in ("one", "two", "three"):
        assert brokers.call("add", name, a=1, b=1).result == "2"
    first.stop(signal.SIGKILL)
    for name in ("one", "two", "three"):
        assert brokers.call("add", name, 90, a=1, b=1).result == "2"
    assert len(owners(brokers)) == 1


def owners(brokers: Brokers) -> set[bytes]:
    """The brokers that serve upstreams."""
    return set(brokers.store.redis.hvals(keys.TOOL_OWNERS))


def test_stopped_broker_lets_its_calls_end(brokers_with: Callable[..., Brokers]) -> None:
    brokers = brokers_with()
    brokers.over_http()
    broker = brokers.start()
    brokers.ready()
    call = brokers.submit("wait", seconds=2, mark="m")
    eventually(lambda: brokers.called("wait", "m"), "the call has begun")
    assert broker.stop() == 0
    assert code(call.result(60)) == "ok"
    assert owners(brokers) == set()


def test_stopped_broker_that_returns_after_its_lease_settles_nothing(brokers_with: Callable[..., Brokers]) -> None:
    brokers = brokers_with()
    brokers.over_http()
    stalled = brokers.start()
    brokers.ready()
    call = brokers.submit("wait", within=90, seconds=8, mark="m")
    again = brokers.submit("wait_again", within=90, seconds=8, mark="n")
    eventually(lambda: brokers.called("wait", "m") and brokers.called("wait_again", "n"), "the calls have begun")
    stalled.popen.send_signal(signal.SIGSTOP)
    try:
        brokers.start()
        assert code(call.result(90)) == "tool_outcome_unknown"
        assert code(again.result(90)) == "ok"
    finally:
        stalled.popen.send_signal(signal.SIGCONT)
    eventually(lambda: brokers.metrics(0).get("mayfly_broker_leases_lost_total"), "the broker has lost its lease")
    assert (brokers.called("wait", "m"), brokers.called("wait_again", "n")) == (1, 2)
    assert brokers.call("add", a=1, b=2).result == "3"


def test_calls_survive_a_restart_of_redis(tmp_path: Path) -> None:
    own = RedisServer(tmp_path / "redis")
    own.directory.mkdir()
    own.start()
    brokers = Brokers(tmp_path, own)
    try:
        brokers.over_http()
        brokers.start()
        brokers.ready()
        call = brokers.submit("wait", within=60, seconds=1, mark="m")
        eventually(lambda: brokers.called("wait", "m"), "the call has begun")
        own.stop()
        eventually(lambda: brokers.called("waited", "m"), "the tool has done its work meanwhile")
        eventually(lambda: brokers.status(brokers.ports[0], "/readyz") == 503, "the broker is not ready")
        assert brokers.status(brokers.ports[0], "/livez") == 200
        own.start()
        eventually(lambda: brokers.status(brokers.ports[0], "/readyz") == 200, "the broker is ready again")
        assert code(call.result(60)) in ("ok", "tool_outcome_unknown")
        assert brokers.called("wait", "m") == 1
        assert brokers.call("add", a=1, b=2).result == "3"
    finally:
        brokers.stop()
        own.stop()

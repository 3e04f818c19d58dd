"""Processes die, or connections between them fail: no execution is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.chaos.installations.installation import LEASE_SECONDS, Client, Installation, Load
from tests.chaos.installations.proxy import Proxy
from tests.chaos.installations.workers import FORKS, serve_until
from tests.harness import eventually

pytestmark = pytest.mark.timeout(900)  # on a slow machine the waits alone may sum up to more than 300 s
EXECUTIONS = 100


@pytest.fixture
def proxied(installation: Callable[..., Installation]) -> Iterator[tuple[Installation, Proxy]]:
    """An installation whose processes reach Redis through a proxy."""
    stack = installation()
    proxy = Proxy(stack.redis.socket)
    stack.env["MAYFLY_REDIS_URL"] = proxy.url
    yield stack, proxy
    proxy.close()


def test_command_whose_answer_was_lost_takes_effect_once(proxied: tuple[Installation, Proxy]) -> None:
    stack, proxy = proxied
    stack.begin(2, iter(()))
    load = Load(stack, 12, 1, most=EXECUTIONS, pause_ms=15)
    proxy.cut_chance = 0.03
    load.finish()
    proxy.cut_chance = 0.0
    assert proxy.cuts > 20
    assert load.refused == []
    assert stack.check(load.accepted) == []


def test_slow_cut_and_half_closed_networks_lose_nothing(proxied: tuple[Installation, Proxy]) -> None:
    stack, proxy = proxied
    stack.begin(2, iter(()))
    load = Load(stack, 12, 1, pause_ms=15)
    proxy.delay_seconds = 0.02
    for break_ in (proxy.cut, proxy.half_close, proxy.cut, proxy.half_close):
        before = len(load.accepted)
        break_()
        eventually(lambda: len(load.accepted) > before + 10, "clients' executions continue", 60)  # noqa: B023 - called at once
    proxy.hold()
    eventually(lambda: not stack.raw.keys("mayfly:worker:*"), "every lease has run out", 20 * LEASE_SECONDS)
    proxy.flow()
    load.stop()
    assert load.refused == []
    assert stack.check(load.accepted) == []


def test_redis_killed_under_load(installation: Callable[..., Installation]) -> None:
    stack = installation()
    stack.begin(2, iter(()))
    load = Load(stack, 12, 1, pause_ms=15)
    for _ in range(20):
        before = len(load.accepted)
        stack.redis.stop(signal.SIGKILL)
        stack.redis.start()
        eventually(lambda: len(load.accepted) > before + 10, "clients' executions continue", 60)  # noqa: B023 - called at once
    load.stop()
    assert load.refused == []
    assert stack.check(load.accepted) == []


def test_api_killed_between_accepting_and_answering_loses_no_submission(
    installation: Callable[..., Installation],
) -> None:
    """A client that repeats its Idempotency-Key gets the execution of its first request."""
    stack = installation()
    stack.begin(1, iter(()))
    assert stack.api is not None
    stack.api.stop(signal.SIGKILL)
    doomed = FORKS.Process(target=serve_until, args=(3, stack.env, stack.directory / "api.log"))
    doomed.start()
    with closing(Client(stack.env["MAYFLY_URL"], stack.key, seed=1)) as client:
        ended = [client.run(3, 0), client.run(3, 0)]
        load = Load(stack, 1, 1, most=1)
        doomed.join(180)
        assert doomed.exitcode is not None
        assert stack.raw.zcard("mayfly:tenant:default:executions") == 3
        stack.start_api()
        load.finish()
    assert load.again.total() > 0
    assert [one.reported["state"] for one in (*ended, *load.accepted) if one and one.reported] == ["succeeded"] * 3
    assert stack.check(client.accepted + load.accepted) == []

"""The worker's own view of its lease: it ends here before it ends for other workers, and a new lease starts clean."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import eventually
from worker.upkeep.heartbeat import Heartbeat, WorkerLease


class Host:
    """A clock, and what happened."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lost = 0
        self.lease = WorkerLease(10.0, lambda: self.now)
        self.heartbeat = Heartbeat(self.lease, self._lose)

    def _lose(self) -> None:
        assert not self.lease.is_held()
        self.lost += 1

    def beat(self, known: bool = True, takes: float = 0.0) -> None:
        def send() -> bool:
            self.now += takes
            return known

        self.heartbeat.renew(send)


@pytest.fixture
def host() -> Host:
    return Host()


def test_lease_is_absent_before_the_first_heartbeat(host: Host) -> None:
    assert not host.lease.is_held()
    host.beat(known=False)
    assert (host.lease.is_held(), host.lost) == (True, 0)


def test_lease_counts_from_before_the_heartbeat_was_sent(host: Host) -> None:
    host.beat(takes=4)
    host.now = 9.9
    assert host.lease.is_held()
    host.now = 10.0
    assert not host.lease.is_held()


def test_late_heartbeat_does_not_restore_an_expired_lease(host: Host) -> None:
    host.beat()
    host.now = 9.0
    host.beat(takes=1.5)
    assert (host.lease.is_held(), host.lost) == (True, 1)


def test_lease_missing_in_redis_is_lost(host: Host) -> None:
    host.beat()
    host.beat(known=False)
    assert host.lost == 1
    host.beat()
    assert host.lost == 1


@pytest.fixture
def lost() -> list[bool]:
    return []


@pytest.fixture
def short(lost: list[bool]) -> Iterator[Heartbeat]:
    made = Heartbeat(WorkerLease(0.2), lambda: lost.append(True))
    made.start()
    yield made
    made.close()


def test_lease_expiry_is_reported_without_a_poll(short: Heartbeat, lost: list[bool]) -> None:
    assert lost == []
    short.renew(lambda: True)
    eventually(lambda: lost == [True], "the lost lease is reported")
    short.renew(lambda: True)
    eventually(lambda: lost == [True, True], "the second loss is reported")

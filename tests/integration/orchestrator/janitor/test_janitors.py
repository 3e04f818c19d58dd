"""Several API processes, of which one at a time is the janitor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.janitor import janitor
from orchestrator.janitor.janitor import Janitor
from orchestrator.settings import Settings
from orchestrator.store import Store, keys
from tests.harness import eventually

ROUND_SECONDS = 0.05
LEASE_ROUNDS = 2000  # so long that no janitor loses its lease because this process must wait for a processor
SOME = 3


class Counting(Janitor):
    """One that only counts its rounds."""

    def __init__(self, store: Store, settings: Settings) -> None:
        super().__init__(store, settings)
        self.rounds = 0

    def round(self, now: float) -> None:
        self.rounds += 1


@pytest.fixture
def janitors(store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Counting, Counting]]:
    """Two, of which the first has begun first."""
    monkeypatch.setattr(janitor, "LEASE_ROUNDS", LEASE_ROUNDS)
    often = settings.model_copy(update={"janitor_seconds": ROUND_SECONDS})
    first, second = Counting(store, often), Counting(store, often)
    first.start()
    eventually(lambda: first.rounds, "the first janitor has completed a round")
    second.start()
    yield first, second
    for one in (first, second):
        one.stop()


def more(one: Counting) -> Callable[[], bool]:
    enough = one.rounds + SOME
    return lambda: one.rounds >= enough


def test_one_janitor_works_at_a_time(janitors: tuple[Counting, Counting]) -> None:
    first, second = janitors
    eventually(more(first), "the janitor with the lease continues")
    assert second.rounds == 0
    first.stop()
    eventually(more(second), "the other janitor takes over")


def test_killed_janitor_is_replaced_after_its_lease(janitors: tuple[Counting, Counting], store: Store) -> None:
    gone = b"somebody who is gone"
    store.redis.set(keys.JANITOR, gone, ex=1)

    def heir() -> bytes | None:
        found: bytes | None = store.redis.get(keys.JANITOR)
        return None if found == gone else found

    first, second = janitors
    leader = eventually(heir, "another janitor has the lease")
    one, other = (first, second) if leader == first._name.encode() else (second, first)
    before = other.rounds
    eventually(more(one), "the janitor with the lease continues")
    assert other.rounds == before


def test_all_janitors_work_without_a_lease(
    monkeypatch: pytest.MonkeyPatch, janitors: tuple[Counting, Counting]
) -> None:
    monkeypatch.setattr(Janitor, "_lease", lambda self: True)
    for one in janitors:
        eventually(more(one), "each janitor completes rounds")


def test_a_dead_worker_is_found_within_ten_seconds() -> None:
    settings = Settings()
    assert settings.lease_seconds + settings.janitor_seconds <= 10


def test_lease_of_a_dead_janitor_ends_after_three_rounds(store: Store, settings: Settings) -> None:
    Counting(store, settings.model_copy(update={"janitor_seconds": 20.0}))._lease()
    assert 0 < store.redis.ttl(keys.JANITOR) <= 60


@pytest.fixture
def leader(store: Store, settings: Settings) -> Counting:
    one = Counting(store, settings.model_copy(update={"janitor_seconds": 3600.0}))
    one.start()
    one._lease()
    return one


def test_stopped_janitor_ends_its_own_lease_and_no_other(store: Store, leader: Counting) -> None:
    leader.stop()
    assert not store.redis.exists(keys.JANITOR)
    store.redis.set(keys.JANITOR, "another")
    leader.stop()
    assert store.redis.get(keys.JANITOR) == b"another"


def test_lease_that_is_taken_over_in_the_moment_of_a_stop_is_left(
    store: Store, leader: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes it over as soon as the janitor has read it, if it reads it by a call of its own."""
    get: Any = store.redis.get
    answers: list[bytes | None] = []

    def get_before_another(name: str) -> bytes | None:
        answers.append(get(name))
        store.redis.set(keys.JANITOR, "another")
        return answers[-1]

    monkeypatch.setattr(store.redis, "get", get_before_another)
    leader.stop()
    assert get(keys.JANITOR) == (b"another" if answers else None)

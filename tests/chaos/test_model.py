"""Every order in which workers, the janitor and clients can come, for small numbers of them, over the real scripts.

A *world* is Redis and the claims of each worker. From the empty world every possible next step is taken, breadth first;
worlds that look equal to every script are visited once. In each world records, counters and queues agree, and the
remaining steps bring every execution to one end. A worker that dies with a claim equals a worker whose answer got lost.
An execution that may not be started twice is not, and does not end for lack of a worker before its start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from orchestrator import queue
from orchestrator.errors import StaleAttempt
from orchestrator.janitor.janitor import Janitor
from orchestrator.models import ISOLATIONS
from orchestrator.queue import Taken
from orchestrator.settings import Settings
from orchestrator.states import TERMINAL, Reason, State, cancelled, errored
from orchestrator.store import Store, keys, open_store, scripts
from tests.builders.records import now, result, submit
from tests.chaos.installations.weaker import FENCE
from tests.chaos.invariants import of_stream, stream_of
from tests.harness import RedisServer

# The steps of a worker before a program runs. In the first it does not matter when the program starts.
MAY_REPEAT, ONCE = ("tell",), ("tell", "start")
Step = tuple[str, int]  # what, and by or with which worker or execution
LINE = keys.line("standard")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    server = RedisServer(tmp_path, "--appendonly", "no")
    server.start()
    made = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    yield made
    made.redis.close()
    server.stop()


class Hand(NamedTuple):
    """A worker's execution: running, or ended and not acknowledged."""

    taken: Taken
    reported: bool = False  # that it starts
    started: bool = False
    ended: bool = False


class World:
    """Redis and the workers' hands, after some steps."""

    def __init__(
        self, store: Store, workers: int, executions: int, steps: tuple[Step, ...], order: Sequence[str]
    ) -> None:
        self.store, self.executions, self.order, self.may_repeat = store, executions, order, "start" not in order
        store.redis.flushdb()
        self.janitor = Janitor(store, Settings(max_attempts=50))
        self.ids: list[str] = []
        self.hands: list[Hand | None] = [None] * workers
        self.commits: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self.cancelled: set[str] = set()  # before they began, and still on their queues
        self.deliveries = [queue.Deliveries(store.redis, store.redis, f"w{number}") for number in range(workers)]
        for step in steps:
            self.take_step(step)

    def steps(self) -> Iterator[Step]:
        """The possible next steps."""
        if len(self.ids) < self.executions:
            yield "submit", 0
        for worker, hand in enumerate(self.hands):
            if hand is None or hand.ended:
                yield "take", worker
            else:
                yield from ((what, worker) for what in self._next_of(hand))
            if hand is not None:
                yield "die", worker
        for number in range(len(self.ids)):
            yield from (("lease ends", number), ("put back", number), ("cancel", number))
            if self.ids[number] in self.cancelled:
                yield "withdraw", number
        if self.ids:
            yield "sweep", 0

    def _next_of(self, hand: Hand) -> Iterator[str]:
        done = {"tell": hand.reported, "start": hand.started}
        yield from [what for what in self.order if not done[what]][:1]
        if self.may_repeat or hand.started:
            yield "commit"
        yield "give back"

    def take_step(self, step: Step) -> None:
        what, number = step
        records = self.store.records
        hand = self.hands[number] if what in ("take", "tell", "start", "commit", "give back", "die") else None
        claim = hand.taken.claim if hand else None
        try:
            match what:
                case "submit":
                    self.ids.append(submit(self.store, retry=self.may_repeat))
                case "take":
                    taken = self.deliveries[number].take(ISOLATIONS, hand.taken if hand else None)
                    self.hands[number] = Hand(taken) if taken else None
                case "start" if hand and claim:
                    self.starts[claim.id] += 1
                    self.hands[number] = hand._replace(started=True)
                case "tell" if hand and claim:
                    records.start(claim, now(), [("stdout", b"a", False)])
                    self.hands[number] = hand._replace(reported=True)
                case "commit" if hand and claim:
                    self.hands[number] = Hand(hand.taken, ended=True)
                    records.commit(claim, result(), [("stdout", b"b", False)])
                    self.commits[claim.id] += 1
                case "give back" if hand and claim:
                    self.hands[number] = Hand(hand.taken, ended=True)
                    self._give_back(hand)
                case "die":
                    self.hands[number] = None
                case "lease ends":  # whether its worker is dead or only slow
                    attempt = int(self.store.redis.hget(keys.execution(self.ids[number]), "attempt"))
                    self.janitor._lost(self.ids[number], attempt)
                case "put back":
                    queue.put_back(self.store, self.ids[number])
                case "cancel":
                    id, verdict = self.ids[number], cancelled(Reason.CANCELLED_BY_USER)
                    if records.end(id, verdict, "", None, (State.QUEUED,)):
                        self.cancelled.add(id)
                    else:
                        records.request_cancel(id, Reason.CANCELLED_BY_USER)
                case "withdraw":
                    queue.withdraw(self.store, records.get(self.ids[number], None))
                    self.cancelled.discard(self.ids[number])
                case "sweep":
                    queue.sweep(self.store)
        except StaleAttempt:
            self.hands[number] = Hand(hand.taken, ended=True) if hand else None

    def _give_back(self, hand: Hand) -> None:
        claim = hand.taken.claim
        if hand.started:
            self.store.records.end(claim.id, errored(Reason.WORKER_LOST), "", claim.attempt)
        else:
            self.store.records.requeue(claim.id, claim.attempt)

    def seen(self) -> tuple[Any, ...]:
        """All that a script looks at, without times and names."""
        redis, names = self.store.redis, {id.encode(): number for number, id in enumerate(self.ids)}
        records = [redis.hmget(keys.execution(id), "state", "attempt", "worker", "cancel_reason") for id in self.ids]
        begun = {
            (names[entry.split(b":")[0]], entry.split(b":")[1]) for entry in redis.zrange("rq:wip:t:default", 0, -1)
        }
        hands = [
            hand and (names[hand.taken.claim.id.encode()], hand.taken.claim.attempt, hand[1:]) for hand in self.hands
        ]
        waiting = [names[id] for id in redis.lrange("rq:queue:t:default", 0, -1)]
        line = redis.zrange(LINE, 0, -1)
        started = [self.starts[id] for id in self.ids]
        bell = redis.llen(keys.bell("standard"))
        return tuple(map(repr, (records, sorted(begun), hands, waiting, line, bell, started)))

    def attempts(self) -> int:
        return max((int(self.store.redis.hget(keys.execution(id), "attempt")) for id in self.ids), default=0)

    def check(self) -> None:
        """Check that all data agree after any steps."""
        redis, states = self.store.redis, {}
        for id in self.ids:
            states[id] = State(redis.hget(keys.execution(id), "state").decode())
            attempt = int(redis.hget(keys.execution(id), "attempt"))
            assert list(of_stream(stream_of(redis, id), states[id], attempt)) == []
            assert self.commits[id] == (states[id] is State.SUCCEEDED)
            if not self.may_repeat:
                assert self.starts[id] <= 1
                reported = [entry.data for entry in stream_of(redis, id) if entry.attempt == attempt]
                assert states[id] is not State.ERRORED or b"running" in reported
        queued = {id for id, state in states.items() if state is State.QUEUED}
        active = {id for id, state in states.items() if state in (State.STARTING, State.RUNNING)}
        assert {id.decode() for id in redis.zrange(keys.QUEUED, 0, -1)} == queued
        assert {id.decode() for id in redis.zrange(keys.ACTIVE, 0, -1)} == active
        counters = redis.hmget(keys.tenant_counters("t"), "queued", "active")
        assert [int(count or 0) for count in counters] == [len(queued), len(active)]

    def finish(self) -> None:
        """The workers die as they are; the janitor and one more bring everything to its end, and nothing is left."""
        for number in range(len(self.ids)):
            for what in ("lease ends", "put back"):
                self.take_step((what, number))
        self.hands = [None] * len(self.hands)
        self.take_step(("take", 0))
        while self.hands[0] is not None:
            for what in (*self.order, "commit", "take"):
                self.take_step((what, 0))
        queue.sweep(self.store)
        redis = self.store.redis
        self.check()
        assert all(State(redis.hget(keys.execution(id), "state").decode()) in TERMINAL for id in self.ids)
        for pattern in ("rq:queue:*", "rq:wip:*", "rq:job:*", keys.bell("*"), keys.line("*")):
            assert redis.keys(pattern) == []


def explore(
    store: Store, workers: int, executions: int, depth: int, most_attempts: int, order: Sequence[str] = MAY_REPEAT
) -> int:
    """Every world that so many steps lead to; how many there were."""
    known: set[tuple[Any, ...]] = set()
    worlds: list[tuple[tuple[Step, ...], list[Step]]] = [
        ((), list(World(store, workers, executions, (), order).steps()))
    ]
    for _ in range(depth):
        following: list[tuple[tuple[Step, ...], list[Step]]] = []
        for above, steps in worlds:
            for step in steps:
                path = (*above, step)
                world = World(store, workers, executions, path, order)
                if (seen := world.seen()) in known or world.attempts() > most_attempts:
                    continue
                known.add(seen)
                following.append((path, list(world.steps())))
                try:
                    world.check()
                    world.finish()
                except AssertionError as error:
                    raise AssertionError(f"after {path}: {error}") from error
        worlds = following
    return len(known)


@pytest.mark.parametrize(
    ("executions", "depth", "attempts", "order"),
    [
        (2, 5, 2, MAY_REPEAT),
        (1, 6, 2, ONCE),
        pytest.param(1, 6, 3, MAY_REPEAT, marks=pytest.mark.complete),
        pytest.param(1, 9, 3, ONCE, marks=pytest.mark.complete),
        pytest.param(2, 6, 2, ONCE, marks=pytest.mark.complete),
    ],
)
def test_every_order_of_steps_keeps_every_promise(
    store: Store, executions: int, depth: int, attempts: int, order: Sequence[str]
) -> None:
    count = explore(store, 2, executions, depth, attempts, order)
    print(f"{count} worlds of {executions} executions and 2 workers, {depth} steps deep")
    assert count > 150


def test_model_finds_broken_promise_without_the_fence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FENCE in scripts.STEP
    monkeypatch.setattr(scripts, "STEP", scripts.STEP.replace(FENCE, "false"))
    weak = open_store(Settings(state_dir=Path("/nonexistent"), redis_url=_url(store)))
    with pytest.raises(AssertionError, match="after"):
        explore(weak, 2, 1, 6, 3)
    weak.redis.close()


def test_start_reported_too_late_may_be_that_of_another_attempt(store: Store) -> None:
    """The reason why a worker records the start first for an execution that may start only once."""
    with pytest.raises(AssertionError, match="after"):
        explore(store, 2, 1, 5, 2, tuple(reversed(ONCE)))


def _url(store: Store) -> str:
    return f"unix://{store.redis.connection_pool.connection_kwargs['path']}"

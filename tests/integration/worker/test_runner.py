"""An attempt from its claim to its record, on a real Redis, with a sandbox that replays what an agent sends."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import queue
from orchestrator.errors import RuntimeUnavailable
from orchestrator.settings import Settings
from orchestrator.states import Reason, State
from orchestrator.store import Store, keys, open_store
from orchestrator.store.steps import Step
from tests.builders import records
from tests.builders.records import claimed, submit
from tests.builders.sandboxes.reports import PYTHON
from tests.fuzz.sandbox import lease
from tests.harness import RedisServer
from worker.agent.frames import HEADER, FromAgent
from worker.attempt.attempt import Attempt
from worker.attempt.runner import Runner
from worker.attempt.session import Session
from worker.attempt.tools.desk import ToolDesk
from worker.host.hostdirs import HostDir

FRAMES = [(FromAgent.RUNNING, b"{}"), (FromAgent.STDOUT, b"done\n"), (FromAgent.EXIT, b'{"exit_code": 0}')]


class Bench:
    """A runner whose pool gives out one sandbox after the other, and whose attempts can be stopped as they start."""

    def __init__(self, settings: Settings, store: Store, directory: Path) -> None:
        self.store, self.settings, self._directory = store, settings, directory
        self.launch: Callable[[str], None] = _nothing
        self.before_start: Callable[[str], None] = _nothing
        self.send: Callable[..., None] = _nothing
        self.frames = [HEADER.pack(kind.value, len(printed)) + printed for kind, printed in FRAMES]
        self.leaves = True
        self.discarded = 0
        self.started = 0
        watch = SimpleNamespace(follow=_nothing, settled=_nothing, kills=lambda uid, signal: None)
        driver = SimpleNamespace(name="replay", version=lambda: "")
        environments = {"python": PYTHON}
        tools = ToolDesk(store, settings)
        self.off = set[str]()
        watched: Any = (driver, watch, lambda: None, lambda: True, tools, self.off.__contains__)
        about: Any = (store, self, environments, settings, "w", *watched)
        self.runner = Runner(*about)

    def take(self, *_: Any, **__: Any) -> Any:
        for id in self.runner.running():
            self.launch(id)
        made, sandbox = lease("standard", self.frames)
        (self._directory / "inputs").mkdir(exist_ok=True)
        made.host_dir = HostDir(made.host_dir.uid, self._directory)
        sandbox.cgroup_survives_exit = self.leaves
        sandbox.send = self.send  # type: ignore[method-assign]
        return made

    def discard(self, lease: Any) -> None:
        self.discarded += 1


def _nothing(*_: Any) -> None:
    """Do nothing, as a watch without the kernel's records."""


def _fail(*_: Any) -> None:
    raise RuntimeUnavailable("the engine is away")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    server = RedisServer(tmp_path)
    server.start()
    settings = Settings(state_dir=tmp_path, redis_url=server.url)
    secret = secrets.token_bytes(32).hex()
    settings.secret_path.write_text(secret)
    monkeypatch.setattr(records, "KEY", secret.encode())
    store = open_store(settings)
    made = Bench(settings, store, tmp_path)
    start = Attempt.start

    def stopped_first(attempt: Attempt, session: Session) -> None:
        """Call ``before_start`` between the last check and the start."""
        for id in made.runner.running():
            made.before_start(id)
        start(attempt, session)
        made.started += 1

    monkeypatch.setattr(Attempt, "start", stopped_first)
    yield made
    store.redis.close()
    server.stop()


def test_attempt_commits_its_result(bench: Bench) -> None:
    id = submit(bench.store)
    bench.runner.run(claimed(bench.store, id))
    execution = bench.store.records.get(id, None)
    assert (execution.state, bench.started, bench.discarded) == (State.SUCCEEDED, 1, 1)


@pytest.mark.parametrize("leaves", [True, False], ids=["exits by itself", "waits for its release"])
def test_output_goes_with_the_end_of_an_agent_that_exits_by_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    id, steps, take = submit(bench.store), list[Step](), bench.store.records._steps.take

    def counted(step: Step) -> bool:
        steps.append(step)
        return take(step)

    monkeypatch.setattr(bench.store.records._steps, "take", counted)
    bench.frames, bench.leaves = [b"".join(bench.frames)], leaves  # all have arrived when the worker reads
    bench.runner.run(claimed(bench.store, id))
    assert [step.to for step in steps] == ([State.SUCCEEDED] if leaves else [State.RUNNING, State.SUCCEEDED])
    assert bench.store.output.bytes_of(id, 1, "stdout") == [b"done\n"]


def test_attempt_handed_back_just_before_its_start_is_queued_again_and_not_cancelled(bench: Bench) -> None:
    id = submit(bench.store)
    bench.before_start = lambda _: bench.runner.hand_back()
    bench.runner.run(claimed(bench.store, id))
    execution = bench.store.records.get(id, None)
    assert (execution.state, execution.attempt, execution.cancel_requested_at) == (State.QUEUED, 1, None)
    assert queue.depths(bench.store) == {"high": 0, "default": 1, "low": 0}
    assert (bench.started, bench.discarded) == (0, 1)


def test_attempt_cancelled_just_before_its_start_ends_as_cancelled(bench: Bench) -> None:
    id = submit(bench.store)
    bench.before_start = bench.runner.cancel
    bench.runner.run(claimed(bench.store, id))
    execution = bench.store.records.get(id, None)
    assert (execution.state, execution.reason) == (State.CANCELLED, Reason.CANCELLED_BY_USER)
    assert (bench.started, bench.discarded) == (0, 1)


def test_attempt_whose_lease_is_lost_just_before_its_start_writes_nothing_more(bench: Bench) -> None:
    id = submit(bench.store)
    bench.before_start = lambda _: bench.runner.drop()
    bench.runner.run(claimed(bench.store, id))
    assert bench.store.records.get(id, None).state == State.STARTING
    assert (bench.started, bench.discarded) == (0, 1)


def test_attempt_whose_launch_fails_is_queued_again_after_its_pause(bench: Bench) -> None:
    id = submit(bench.store)
    earliest = bench.store.now() + bench.settings.retry_pause(1)
    bench.launch = _fail
    bench.runner.run(claimed(bench.store, id))
    execution = bench.store.records.get(id, None)
    assert (execution.state, execution.attempt, bench.started) == (State.QUEUED, 1, 0)
    assert queue.depths(bench.store) == {"high": 0, "default": 0, "low": 0}
    assert bench.store.redis.zscore(keys.RETRYING, id) >= earliest


def test_cancelled_attempt_whose_launch_fails_ends_as_cancelled(bench: Bench) -> None:
    def launch(id: str) -> None:
        bench.runner.cancel(id)
        _fail()

    id = submit(bench.store)
    bench.launch = launch
    bench.runner.run(claimed(bench.store, id))
    execution = bench.store.records.get(id, None)
    assert (execution.state, execution.reason) == (State.CANCELLED, Reason.CANCELLED_BY_USER)


@pytest.mark.parametrize("retry", [True, False])
def test_started_program_is_repeated_only_if_its_submission_permits(bench: Bench, retry: bool) -> None:
    id = submit(bench.store, retry=retry)
    bench.send = _fail
    bench.runner.run(claimed(bench.store, id))
    execution = bench.store.records.get(id, None)
    assert (execution.state, bench.started) == (State.QUEUED if retry else State.ERRORED, 1)
    assert execution.reason == (None if retry else Reason.RUNTIME_UNAVAILABLE)


def test_attempt_of_an_environment_that_is_switched_off_is_retried_without_a_sandbox(bench: Bench) -> None:
    id = submit(bench.store)
    bench.off.add("environment:python")
    bench.runner.run(claimed(bench.store, id))
    assert bench.store.records.get(id, None).state == State.QUEUED
    assert (bench.started, bench.discarded) == (0, 0)

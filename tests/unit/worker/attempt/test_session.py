"""A session with a sandbox that writes frames in its agent's place, is starved, or continues after its last frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import RuntimeUnavailable
from orchestrator.models import Isolation
from orchestrator.states import Reason, classify
from orchestrator.store.content.directory import DirectoryBlobs
from orchestrator.store.executions.records import Claim
from tests.fuzz.sandbox import ENVIRONMENT, SPECIFICATION, Kept, Replay, lease
from worker.agent.conversation import DELAYED, Spoilt
from worker.agent.deadlines import COLLECT_CPU_SECONDS
from worker.agent.frames import HEADER, FromAgent
from worker.agent.results import ResultSink
from worker.attempt.artifacts import ArtifactSink
from worker.attempt.attempt import Attempt
from worker.attempt.incidents import Incidents
from worker.attempt.output import OutputSink
from worker.attempt.session import SEND_SECONDS, Session
from worker.counters import Counters, Ended

KILLED = Ended(137, False)
RUNNING = (FromAgent.RUNNING, b"{}")
REJECTED = (FromAgent.REJECTED, b'{"path": "x", "why": "fifo"}')
EXIT = (FromAgent.EXIT, b'{"exit_code": 0}')


class Scripted(Replay):
    """A sandbox that sends the given bytes and then nothing until it is killed, while its cgroup counts on."""

    counted: Callable[[], Counters] = Counters

    def receive(self, timeout_seconds: float) -> bytes | None:
        if self.killed:
            return b""
        printed = next(self._printed, None)
        if printed is None:
            time.sleep(min(timeout_seconds, 0.01))  # as a stream on which nothing comes
        return printed

    def counters(self) -> Counters:
        return self.counted()


def rising(cpu_rate: float = 0.0, throttled_rate: float = 0.0) -> Callable[[], Counters]:
    """Counters that count so many seconds in each second."""
    began = time.monotonic()

    def counted() -> Counters:
        passed = time.monotonic() - began
        return Counters(cpu_seconds=cpu_rate * passed, throttled_seconds=throttled_rate * passed)

    return counted


@pytest.fixture
def session_of(tmp_path: Path) -> Callable[..., tuple[Session, Scripted]]:
    def make(
        isolation: Isolation, *frames: tuple[FromAgent, bytes], counted: Callable[[], Counters], **limits: float
    ) -> tuple[Session, Scripted]:
        printed = [HEADER.pack(kind.value, len(payload)) + payload for kind, payload in frames]
        leased, replay = lease(isolation, printed)
        sandbox = Scripted(replay.profile, printed)
        sandbox.counted = counted
        leased.sandbox = sandbox
        specification = SPECIFICATION.model_copy(
            update={"isolation": isolation, "limits": SPECIFICATION.limits.model_copy(update=limits)}
        )
        output = OutputSink(Kept(), Claim("execution", 1, b"", ""), 2**20)  # type: ignore[arg-type]
        artifacts = ArtifactSink(DirectoryBlobs(tmp_path), "execution", 1, 2**20, 10)
        results = ResultSink(2**20, 10)
        made = Session(leased, specification, ENVIRONMENT, output, artifacts, results, Incidents(), Attempt())
        return made, sandbox

    return make


def verdict(session: Session, ended: Ended) -> Any:
    facts = session.conclude(ended, 0)
    assert not isinstance(facts, Spoilt)
    return SimpleNamespace(killed=facts.killed, reason=classify(facts, SPECIFICATION.limits).reason)


def test_collecting_lifts_no_bound_on_cpu_time(session_of: Callable[..., tuple[Session, Scripted]]) -> None:
    used = rising(cpu_rate=20 * COLLECT_CPU_SECONDS)  # so that the bound is passed within a second
    session, sandbox = session_of(
        "hardened", RUNNING, REJECTED, counted=used, wall_seconds=60, cpu_seconds=COLLECT_CPU_SECONDS
    )
    session.run()
    assert sandbox.killed
    assert verdict(session, KILLED).killed == "collect"
    assert (session.counters.cpu_seconds or 0) > 2 * COLLECT_CPU_SECONDS


@pytest.mark.parametrize("isolation", ["standard", "hardened"])
def test_a_starved_agent_is_not_the_engines_fault(
    session_of: Callable[..., tuple[Session, Scripted]], isolation: Isolation
) -> None:
    session, _ = session_of(isolation, counted=rising(throttled_rate=0.9), wall_seconds=0.2)
    session.run()
    assert verdict(session, KILLED).reason is Reason.TIMED_OUT
    session, _ = session_of(isolation, counted=rising(), wall_seconds=0.2)
    session.run()
    # The control: the agent was not throttled, and its frame did not arrive.
    assert session.conclude(KILLED, 0) == Spoilt(DELAYED)


@pytest.mark.parametrize(
    "flood", [(FromAgent.STDOUT, b""), (FromAgent.DISK_FULL, b'{"paths": []}'), (FromAgent.STDERR, b"x")]
)
def test_a_flood_of_small_frames_ends_the_sandbox(
    session_of: Callable[..., tuple[Session, Scripted]], flood: tuple[FromAgent, bytes]
) -> None:
    kind, payload = flood
    many = b"".join([HEADER.pack(kind.value, len(payload)) + payload] * 60_000)
    session, sandbox = session_of("hardened", RUNNING, counted=rising(cpu_rate=0.0005), wall_seconds=60)
    sandbox._printed = iter([HEADER.pack(RUNNING[0].value, 2) + RUNNING[1], many])  # type: ignore[assignment]
    session.run()
    assert sandbox.killed
    assert verdict(session, KILLED).reason is Reason.SECURITY_VIOLATION
    assert kind.name in session.conversation.violation or "small frames" in session.conversation.violation


def test_program_that_must_end_for_an_event_is_stopped(
    session_of: Callable[..., tuple[Session, Scripted]],
) -> None:
    session, sandbox = session_of("standard", RUNNING, counted=rising(), wall_seconds=20)
    session._incidents.end()
    session.run()
    assert sandbox.killed
    assert verdict(session, KILLED).killed == "denials"


@pytest.mark.parametrize("forged", [(FromAgent.CALL_DATA, b"x"), (FromAgent.ANSWER_TAKEN, b'{"bytes": 1}')])
def test_a_sandbox_without_tools_has_no_line(
    session_of: Callable[..., tuple[Session, Scripted]], forged: tuple[FromAgent, bytes]
) -> None:
    session, sandbox = session_of("standard", RUNNING, forged, counted=rising(), wall_seconds=60)
    session.run()
    assert sandbox.killed
    assert verdict(session, KILLED).reason is Reason.SECURITY_VIOLATION
    assert "without tools" in session.conversation.violation


def test_sandbox_that_does_not_take_the_last_frame_in_is_waited_for_in_bounds(
    session_of: Callable[..., tuple[Session, Scripted]], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, sandbox = session_of("hardened", RUNNING, EXIT, counted=rising(), wall_seconds=60)
    waited = []

    def full(data: bytes, timeout_seconds: float) -> None:
        waited.append(timeout_seconds)
        raise RuntimeUnavailable("The pipe is full.")

    session.run()
    monkeypatch.setattr(sandbox, "send", full)
    session.release()
    assert waited == [SEND_SECONDS]
    session.conversation.overstay()  # as the runner finds when it had to be killed
    assert verdict(session, KILLED).reason is Reason.SECURITY_VIOLATION

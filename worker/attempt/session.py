"""One program in one sandbox: frames to the agent, and frames from the agent under hard bounds.

The input and output around :class:`~worker.agent.conversation.Conversation`, which has the state. A single thread runs
:meth:`Session.run` and reads; it takes the intent of other threads from :class:`~worker.attempt.attempt.Attempt`. A
stop first asks the agent, which ends the program and still sends output and artifacts; a second later the container is
killed. The host enforces its own deadlines, independent of the agent.
"""

from __future__ import annotations

import time
from contextlib import suppress

from orchestrator.environments import Environment
from orchestrator.errors import FrameError, RuntimeUnavailable
from orchestrator.models import Facts, Specification
from orchestrator.models.tools import CallRecord
from worker.agent import requests
from worker.agent.conversation import Conversation, Spoilt, Stop
from worker.agent.frames import Frame, FromAgent, ToAgent, encode
from worker.agent.results import ResultSink
from worker.attempt.artifacts import ArtifactSink
from worker.attempt.attempt import Attempt
from worker.attempt.feeding import Feeder, Source
from worker.attempt.incidents import Incidents
from worker.attempt.output import OutputSink
from worker.attempt.security_events import note_counters, note_full
from worker.attempt.tools.calling import Calling
from worker.counters import Counters, Ended
from worker.pool.launcher import Lease

SEND_SECONDS = 30.0
STOP_SECONDS = 0.1
END_SECONDS = 10.0
DRAIN_SECONDS = 5.0
TICK_SECONDS = 0.25  # the largest delay in noticing a limit without a frame


class Session:
    """The run of one specification in one leased sandbox."""

    def __init__(
        self,
        lease: Lease,
        specification: Specification,
        environment: Environment,
        output: OutputSink,
        artifacts: ArtifactSink,
        results: ResultSink,
        incidents: Incidents,
        attempt: Attempt,
        stdin: Source | None = None,
        calling: Calling | None = None,
        tool_wait_seconds: float | None = None,
    ) -> None:
        """``stdin``: the source of standard input that is not in the specification. ``calling``: the line of a program
        with tools, which may wait ``tool_wait_seconds`` for them beyond its wall time.
        """
        self._lease, self._specification, self._environment = lease, specification, environment
        self._output, self._artifacts, self._incidents = output, artifacts, incidents
        self._results, self._attempt = results, attempt
        self._feeder = Feeder(stdin, lease.sandbox.send) if stdin else None
        self._calling, self._tool_wait_seconds = calling, tool_wait_seconds
        self.conversation = Conversation(
            specification.limits,
            lease.isolation,
            host_counts_cpu=lease.host_counts_cpu,
            compiles=bool(environment.compile),
            feeds=stdin is not None,
            tool_wait_seconds=tool_wait_seconds,
            now=time.monotonic(),
        )
        self.counters = Counters()  # the last that were read

    @property
    def lease(self) -> Lease:
        """The leased sandbox."""
        return self._lease

    @property
    def output(self) -> OutputSink:
        """The program's output."""
        return self._output

    @property
    def artifacts(self) -> ArtifactSink:
        """The program's files."""
        return self._artifacts

    @property
    def tool_calls(self) -> tuple[CallRecord, ...]:
        """The program's calls of tools."""
        return self._calling.records() if self._calling else ()

    def request_stop(self) -> bool:
        """Ask the agent to end the program; ``False`` if the request cannot be sent. Callable from any thread."""
        try:
            self._lease.sandbox.send(encode(ToAgent.STOP), STOP_SECONDS)
        except RuntimeUnavailable:
            return False
        return True

    def kill(self) -> None:
        """Kill the sandbox. From any thread. Raises :class:`RuntimeUnavailable`."""
        self._lease.sandbox.kill()

    def feed(self) -> None:
        """More of the program's standard input has arrived."""
        if self._feeder:
            self._feeder.wake()

    def run(self) -> None:
        """Start the program and return when the agent has sent its last frame, or the sandbox has ended or was killed.

        Raises :class:`StaleAttempt` when another attempt owns the execution, and :class:`RuntimeUnavailable` when the
        engine fails.
        """
        try:
            self._start()
            self._follow()
        finally:
            if self._feeder:
                self._feeder.close()
            if self._calling:
                self._calling.close()
            self._artifacts.close()
        now = time.monotonic()
        self._check_deadlines(now)
        self.conversation.end(now)
        self.counters = self._lease.sandbox.counters()
        self._output.finish()

    def _start(self) -> None:
        sandbox, limits = self._lease.sandbox, self._specification.limits
        before = sandbox.counters()
        self.conversation.ask(time.monotonic())
        room = self._artifacts.left_bytes, self._artifacts.left_files
        cpu_seconds, prepared = self._lease.agent_cpu_seconds(limits), self._lease.prepared
        request = requests.start(
            self._specification,
            self._environment,
            cpu_seconds,
            *room,
            self._results.bounds,
            sandbox.cgroup_survives_exit,
            prepared,
            self._tool_wait_seconds,
        )
        sandbox.send(request, SEND_SECONDS)
        if self._feeder:
            self._feeder.start()
        self.conversation.begin(time.monotonic(), before)
        self._incidents.on_end(self.request_stop)
        self._output.begin()

    def _follow(self) -> None:
        conversation, look_at = self.conversation, self.conversation.began + TICK_SECONDS
        try:
            while not conversation.complete:
                now = time.monotonic()
                if now >= look_at:
                    look_at = now + TICK_SECONDS
                    self._look(now)
                self._check_deadlines(now)
                self._wait_for_tools(now)
                if conversation.is_due(now):
                    self._expire(now)
                    return
                pause = self._output.pause_seconds
                until = min(conversation.wake_at(), now + (TICK_SECONDS if pause is None else pause), look_at)
                frames = self._lease.frames(max(0.0, until - now))
                self._hold_to_bounds()  # record another thread's stop before the frames that it causes
                if frames is None:
                    return
                self._take_all(frames)
                self._hold_to_bounds()
                for event in self._incidents.take():
                    self._output.event(event)
                # The agent of such a sandbox exits at once after its last frame: then output goes with the end.
                if not (conversation.complete and self._lease.sandbox.cgroup_survives_exit):
                    self._output.flush_if_due()
        except FrameError as error:
            conversation.break_rules(error.message, time.monotonic())
            self._lease.discard_during(self.kill)
            self._lease.drain(DRAIN_SECONDS)

    def _expire(self, now: float) -> None:
        """Kill the sandbox after its deadline, and read the frames that it had sent in time."""
        late = self.conversation.expire(now, self._lease.sandbox.counters())
        self._lease.discard_during(self.kill)
        if late:
            try:
                self._receive_late(time.monotonic() + DRAIN_SECONDS)
            except FrameError as error:
                self.conversation.break_rules(error.message, time.monotonic())
        self._lease.drain(DRAIN_SECONDS)

    def release(self) -> None:
        """Let the agent exit after its last frame was read, unless it has exited already."""
        sandbox = self._lease.sandbox
        if not self.conversation.complete or sandbox.cgroup_survives_exit:
            return
        with suppress(RuntimeUnavailable):  # the agent exited by itself, as requested, or no longer reads
            sandbox.send(encode(ToAgent.BYE), SEND_SECONDS)

    def _receive_late(self, deadline: float) -> None:
        """Receive frames for the conversation alone, until the last one, the stream's end or the deadline.

        Raises :class:`FrameError` for a frame out of order.
        """
        conversation = self.conversation
        while (left := deadline - time.monotonic()) > 0 and not conversation.complete:
            frames = self._lease.frames(min(left, TICK_SECONDS))
            if frames is None:
                return
            for frame in frames:
                conversation.receive(frame, time.monotonic())

    def conclude(self, ended: Ended | None, seccomp_kills: int | None) -> Facts | Spoilt:
        """The facts after the sandbox's end; ``ended`` is ``None`` if the engine did not report the end in time."""
        self._check_deadlines(time.monotonic())
        sandbox, conversation = self._lease.sandbox, self.conversation
        if conversation.counts_on():
            self.counters = sandbox.counters()
        facts = conversation.conclude(ended, self.counters, sandbox.diagnostics)
        if isinstance(facts, Spoilt):
            return facts
        output_bytes = sum(self._output.seen_bytes.values())
        return facts.model_copy(update={"seccomp_kills": seccomp_kills, "output_bytes": output_bytes})

    def _check_deadlines(self, now: float) -> None:
        """Stop the program if the attempt's intent requires it."""
        if self._attempt.aborted:
            self.conversation.stop_for("platform", now)
            self.conversation.kill_at(now)
        elif self._attempt.cancelled:
            self.conversation.stop_for("cancel", now)

    def _wait_for_tools(self, now: float) -> None:
        """Exclude the wait for tools from the wall time, and stop the program at the end of its wall time."""
        if not self._calling:
            return
        seconds, waits = self._calling.waited_seconds(now)
        if self.conversation.wait_for_tools(seconds, waits, now) and not self.request_stop():
            self.conversation.kill_at(now)

    def _stop(self, why: Stop) -> None:
        now = time.monotonic()
        if self.conversation.stop_for(why, now) and not self.request_stop():
            self.conversation.kill_at(now)

    def _look(self, now: float) -> None:
        """The cgroup's counters. Raises :class:`FrameError` for more frames than the used CPU time allows."""
        counters = self._lease.sandbox.counters()
        note_counters(self._incidents, counters, self._specification.limits)
        if self.conversation.observe(now, counters) and not self.request_stop():
            self.conversation.kill_at(now)

    def _hold_to_bounds(self) -> None:
        if self._output.exceeded or self.conversation.compile_bytes > self._specification.limits.output_bytes:
            self._stop("output")
        if self._incidents.flooded:
            self._stop("denials")

    def _take_all(self, frames: list[Frame]) -> None:
        began = time.monotonic()
        self._wait_for_tools(began)  # before a frame that ends the program
        for frame in frames:
            self.conversation.receive(frame, time.monotonic())
            self._take(frame)
        if frames:
            now = time.monotonic()
            self.conversation.received(now, now - began)

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case FromAgent.STDOUT:
                self._output.write("stdout", frame.payload)
            case FromAgent.STDERR:
                self._output.write("stderr", frame.payload)
            case FromAgent.STDIN_TAKEN:
                if self._feeder:
                    self._feeder.acknowledge(frame)
            case FromAgent.CALL_DATA | FromAgent.ANSWER_TAKEN:
                if self._calling:
                    self._calling.receive(frame)
            case FromAgent.FILE:
                self._artifacts.begin(frame.json())
            case FromAgent.FILE_DATA:
                self._artifacts.data(frame.payload)
            case FromAgent.RESULT:
                self._results.begin(frame.json())
            case FromAgent.RESULT_DATA:
                self._results.data(frame.payload)
            case FromAgent.DISK_FULL:
                note_full(self._incidents, frame.json().get("paths"), self._specification.limits)
            case FromAgent.REJECTED:
                self._artifacts.reject(frame.json())
            case FromAgent.EXIT:
                self._attempt.complete()

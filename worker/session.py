"""One program in one sandbox: what is sent to the agent, and what is taken from it under hard bounds.

The thread that calls :meth:`Session.run` reads; :meth:`Session.stop` and :meth:`Session.abort` may be called from any
other. A stop first asks the agent, which ends the program and still hands over output and artifacts, and kills the
container when it does not end within a second. The host's own deadlines hold whatever the agent does.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from orchestrator.environments import Environment
from orchestrator.errors import FrameError, RuntimeUnavailable
from orchestrator.models import Facts, Specification
from worker import orders
from worker.account import Account
from worker.artifacts import ArtifactSink
from worker.drivers.base import Counters, Ended
from worker.feeding import Feeder, Source
from worker.frames import Frame, FromAgent, Order, ToAgent, encode
from worker.incidents import Incidents
from worker.launcher import Lease
from worker.output import OutputSink
from worker.watch import MAX_SOCKETS, note_counters, note_full

GRACE_SECONDS = 1.0  # for the agent to apply a soft limit or a stop before the host does
COLLECT_SECONDS = 30.0
SILENT_SECONDS = 10.0  # an agent that says nothing for so long while it collects has been given too much to do
SEND_SECONDS = 30.0
END_SECONDS = 10.0
DISCARD_SECONDS = 0.1
HEAR_OUT_SECONDS = 5.0
TICK_SECONDS = 0.25  # how late a limit nobody announces may be noticed
CPU_GRACE_SECONDS = 0.5
Killed = Literal["wall", "cpu", "output", "denials", "sockets", "cancel", "frames", "collect", "platform"]


class Session:
    """The run of one specification in one leased sandbox."""

    def __init__(
        self,
        lease: Lease,
        specification: Specification,
        environment: Environment,
        output: OutputSink,
        artifacts: ArtifactSink,
        incidents: Incidents,
        kill: Callable[[], None],
        stdin: Source | None = None,
    ) -> None:
        """``stdin``: where the standard input comes from if the specification does not have it."""
        self._lease = lease
        self._specification = specification
        self._environment = environment
        self._output = output
        self._artifacts = artifacts
        self._incidents = incidents
        self.kill = kill  # from any thread
        self._lock = threading.Lock()
        self._stopping: Killed | None = None
        self._kill_at = float("inf")
        self._order = Order(compiles=bool(environment.compile), feeds=stdin is not None)
        self._feeder = Feeder(stdin, lease.sandbox.send) if stdin else None
        self.account = Account(specification.limits.wall_seconds, lease.host_counts_cpu)
        self.aborted = False
        self.counters = Counters()
        self.began = self.ended = time.monotonic()

    @property
    def run_seconds(self) -> float:
        """From the start frame to the program's end, as the host measured it."""
        return self.ended - self.began

    def stop(self, why: Killed) -> None:
        """End the program soon, because of ``why``; the first reason given is the one that counts."""
        with self._lock:
            if self._stopping is not None:
                return
            self._stopping = why
            self._kill_at = time.monotonic() + GRACE_SECONDS
        try:
            self._lease.sandbox.send(encode(ToAgent.STOP), 0.1)
        except RuntimeUnavailable:
            self._kill_at = time.monotonic()

    def kill_and_discard(self) -> None:
        """Have the container killed, by the thread that reads: in gVisor what it goes on saying is discarded meanwhile.

        There a process that waits for room in the pipe ends only when it gets some, and the engine waits for that.
        """
        if self._lease.isolation == "standard":
            self.kill()
            return
        over = threading.Event()
        reader = threading.Thread(target=self._discard, args=(over,), name="discard")
        reader.start()
        try:
            self.kill()
        finally:
            over.set()
            reader.join()

    def _discard(self, over: threading.Event) -> None:
        while not over.is_set() and self._lease.sandbox.receive(DISCARD_SECONDS) != b"":
            pass

    def fed(self) -> None:
        """There is more of the standard input."""
        if self._feeder:
            self._feeder.wake()

    def abort(self) -> bool:
        """Have the container killed, and not count what it was about to say; ``False`` if it has said all."""
        with self._lock:
            if not self.account.complete:
                self.aborted = True
                self._stopping = self._stopping or "platform"
                self._kill_at = 0.0
            return self.aborted

    def run(self) -> None:
        """Start the program and stay until the agent has said everything, or the sandbox is gone or killed.

        Raises :class:`StaleAttempt` when another attempt owns the execution, and :class:`RuntimeUnavailable` when the
        engine fails.
        """
        try:
            self._run()
        finally:
            if self._feeder:
                self._feeder.close()
            self._artifacts.close()

    def _run(self) -> None:
        limits = self._specification.limits
        used_before = self._lease.sandbox.counters().cpu_seconds or 0.0
        self.account.begin()
        cpu_seconds = self._lease.agent_cpu_seconds(limits)
        room = self._artifacts.left_bytes, self._artifacts.left_files
        order = orders.start(self._specification, self._environment, cpu_seconds, *room, self._lease.sandbox.outlived)
        self._lease.sandbox.send(order, SEND_SECONDS)
        if self._feeder:
            self._feeder.start()
        self.began = time.monotonic()
        self._output.begin()
        deadline = self.began + limits.wall_seconds + GRACE_SECONDS
        collecting = False
        look_at, heard = self.began + TICK_SECONDS, self.began
        while not self.account.complete:
            now = time.monotonic()
            if now >= look_at and not collecting:
                look_at = now + TICK_SECONDS
                self._look(now - self.began, used_before)
            if now >= self._kill_at or now >= deadline:
                with self._lock:
                    self._stopping = self._stopping or ("wall" if not collecting else self._too_slow(now - heard))
                self.ended = now if not collecting else self.ended
                self.kill_and_discard()
                if self._stopping == "wall":
                    self._refuse_what_was_held_back()
                break
            wait = min(deadline, self._kill_at) - now
            pause = self._output.pause_seconds
            try:
                frames = self._lease.frames(max(0.0, min(wait, TICK_SECONDS, TICK_SECONDS if pause is None else pause)))
                if frames is None:
                    break
                heard = time.monotonic() if frames else heard
                for frame in frames:
                    self._order.check(frame.kind)
                    if not collecting and frame.kind in (FromAgent.FILE, FromAgent.REJECTED, FromAgent.EXIT):
                        collecting = True
                        self.ended = time.monotonic()
                        deadline = self.ended + COLLECT_SECONDS
                    self._take(frame)
            except FrameError:
                self._stopping = "frames"
                self.kill_and_discard()
                break
            if self._output.exceeded or self.account.compile_bytes > limits.output_bytes:
                self.stop("output")
            if self._incidents.flooded:
                self.stop("denials")
            self._hand_on(self._incidents.take())
            self._output.flush_if_due()
        if not collecting:
            self.ended = time.monotonic()
        counters = self._lease.sandbox.counters()
        used = counters.cpu_seconds
        self.counters = Counters(
            cpu_seconds=None if used is None else max(0.0, used - used_before),
            throttled_seconds=counters.throttled_seconds,
            peak_memory_bytes=counters.peak_memory_bytes,
            peak_processes=counters.peak_processes,
            oom_events=counters.oom_events,
            pids_events=counters.pids_events,
            unrouted=counters.unrouted,
        )
        self._output.finish()

    def release(self) -> None:
        """Everything is read: the agent may exit, if it has not done so at once."""
        if self.account.complete and not self._lease.sandbox.outlived:
            try:
                self._lease.sandbox.send(encode(ToAgent.BYE), SEND_SECONDS)
            except RuntimeUnavailable:  # it exited by itself, which is what it was told
                return
            if self._lease.isolation == "hardened":
                self._hear_out()

    def _refuse_what_was_held_back(self) -> None:
        """Raise :class:`RuntimeUnavailable` if it was not the program that took too long, but the engine.

        Then not even that it began was heard in time, or the stream still holds that the program had ended by itself.
        The latter is not believed in gVisor, where a program may have written that there itself, once it was too late.
        """
        unheard, believed = self._order.waiting, self._lease.isolation == "standard"
        deadline = time.monotonic() + HEAR_OUT_SECONDS
        try:
            while not self.account.complete and (left := deadline - time.monotonic()) > 0:
                frames = self._lease.frames(left)
                if frames is None:
                    break
                for frame in frames:
                    self._order.check(frame.kind)
                    if frame.kind is FromAgent.EXIT:
                        self.account.take(frame)
        except FrameError:
            return
        if unheard or (believed and self.account.complete and self.account.stopped is None):
            raise RuntimeUnavailable("The engine handed on too late what the sandbox said.")

    def _hear_out(self) -> None:
        """Wait for the stream's end: what comes after the last frame shows that the agent did not send that one.

        Only in gVisor can anybody else have, and there the exit code is not known before the stream has ended.
        """
        deadline = time.monotonic() + HEAR_OUT_SECONDS
        try:
            while (left := deadline - time.monotonic()) > 0:
                frames = self._lease.frames(left)
                if frames is None:
                    return
                for frame in frames:
                    self._order.check(frame.kind)
        except FrameError:
            self.account.forged = True

    def facts(self, ended: Ended | None, seccomp_kills: int | None) -> Facts:
        """What was observed, the engine's word first; ``ended`` is ``None`` when the engine gave none in time."""
        account, exit_code = self.account, None if ended is None else ended.exit_code
        return Facts(
            exit_code=exit_code,
            signal=account.signal if account.signal is not None and exit_code == 128 + account.signal else None,
            stopped=account.stopped if self._stopping is None else None,
            killed="frames" if self._stopping is None and account.is_false(exit_code) else self._stopping,
            oom_killed=bool(ended and ended.oom_killed),
            oom_events=self.counters.oom_events,
            pids_events=self.counters.pids_events,
            seccomp_kills=seccomp_kills,
            disk_full=account.disk_full,
            output_bytes=sum(self._output.seen_bytes.values()),
            run_seconds=self.run_seconds,
            cpu_seconds=self.counters.cpu_seconds,
            compile_exit_code=account.compile.exit_code if account.compile else None,
        )

    @property
    def cut_off(self) -> bool:
        """Whether the stream ended, by nobody's doing here, before the agent's last frame."""
        return not self.account.complete and self._stopping is None

    def silenced(self, exit_code: int | None) -> bool:
        """Whether the agent was killed, by nobody's doing here, between its last frame and its exit."""
        return self._stopping is None and self.account.silenced(exit_code)

    @staticmethod
    def _too_slow(silent_seconds: float) -> Killed:
        """Whose fault it is that collecting took too long: hostile names and patterns cost the agent, not us."""
        return "collect" if silent_seconds > SILENT_SECONDS else "platform"

    def _look(self, elapsed_seconds: float, used_before: float) -> None:
        """What the cgroup has counted while the program says nothing."""
        limits = self._specification.limits
        counters = self._lease.sandbox.counters()
        note_counters(self._incidents, counters, limits)
        bound = limits.cpu_seconds + (0.0 if self._lease.host_counts_cpu else CPU_GRACE_SECONDS)
        over = elapsed_seconds * limits.cpu_cores > bound
        if (counters.sockets or 0) > MAX_SOCKETS:
            self.stop("sockets")
            self._kill_at = 0.0  # each further second takes as much again
        used = counters.cpu_seconds
        if over and used is not None and used - used_before > bound:
            self.stop("cpu")

    def _hand_on(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            self._output.event(json.dumps(event).encode())

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case FromAgent.STDOUT:
                self._output.write("stdout", frame.payload)
            case FromAgent.STDERR:
                self._output.write("stderr", frame.payload)
            case FromAgent.STDIN_TAKEN:
                if self._feeder:
                    self._feeder.acknowledge(frame)
            case FromAgent.FILE:
                self._artifacts.begin(frame.json())
            case FromAgent.FILE_DATA:
                self._artifacts.data(frame.payload)
            case FromAgent.DISK_FULL:
                note_full(self._incidents, frame.json().get("paths"), self._specification.limits)
            case FromAgent.REJECTED:
                self._artifacts.reject(frame.json())
            case FromAgent.EXIT:
                with self._lock:
                    self.account.take(frame)
            case _:
                self.account.take(frame)

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
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from orchestrator.environments import Environment
from orchestrator.errors import FrameError, RuntimeUnavailable
from orchestrator.models import Facts, Specification
from worker import orders
from worker.account import Account
from worker.artifacts import ArtifactSink
from worker.deadlines import GRACE_SECONDS, Deadlines
from worker.drivers.base import Counters, Ended
from worker.feeding import Feeder, Source
from worker.frame_budget import FrameBudget
from worker.frames import Frame, FromAgent, Order, ToAgent, encode
from worker.incidents import Incidents
from worker.launcher import Lease
from worker.output import OutputSink
from worker.watch import MAX_SOCKETS, note_counters, note_full

SEND_SECONDS = 30.0
END_SECONDS = 10.0
HEAR_OUT_SECONDS = 5.0
TICK_SECONDS = 0.25  # how late a limit nobody announces may be noticed
LEFT = frozenset({FromAgent.FILE, FromAgent.REJECTED, FromAgent.EXIT})  # what comes of a program that has ended
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
        self._budget = FrameBudget()
        self._deadlines = Deadlines(specification.limits, lease.isolation, lease.host_counts_cpu)
        self._feeder = Feeder(stdin, lease.sandbox.send) if stdin else None
        self.account = Account(specification.limits.wall_seconds, lease.host_counts_cpu)
        self.aborted = self.lingers = False
        self._distrusted = False  # whether frames may be wrong about the program's end
        self.violation = ""  # which rule of the frames was broken
        self._before = self.counters = Counters()
        self._over: float | None = None  # monotonic: when a sandbox ended of which no frame said when its program did

    @property
    def ended(self) -> float:
        """When the program ended, monotonic."""
        return self._deadlines.ended if self._over is None else self._over

    @property
    def run_seconds(self) -> float:
        """From the start frame to the program's end, as the host measured it."""
        return self.ended - self._deadlines.began

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
        limits, deadlines = self._specification.limits, self._deadlines
        self._before = self._lease.sandbox.counters()
        self.account.begin()
        cpu_seconds = self._lease.agent_cpu_seconds(limits)
        room = self._artifacts.left_bytes, self._artifacts.left_files
        order = orders.start(self._specification, self._environment, cpu_seconds, *room, self._lease.sandbox.outlived)
        self._lease.sandbox.send(order, SEND_SECONDS)
        if self._feeder:
            self._feeder.start()
        deadlines.begin(time.monotonic(), self._before)
        self._output.begin()
        look_at = deadlines.began + TICK_SECONDS
        try:
            while not self.account.complete:
                now = time.monotonic()
                if now >= look_at:
                    look_at = now + TICK_SECONDS
                    self._look(now)
                if now >= self._kill_at or deadlines.passed(now):
                    self._end(now)
                    break
                pause = self._output.pause_seconds
                until = min(deadlines.at, self._kill_at, now + (TICK_SECONDS if pause is None else pause), look_at)
                frames = self._lease.frames(max(0.0, until - now))
                if frames is None:
                    break
                self._take_all(frames)
                if self._output.exceeded or self._budget.compile_bytes > limits.output_bytes:
                    self.stop("output")
                if self._incidents.flooded:
                    self.stop("denials")
                for event in self._incidents.take():
                    self._output.event(json.dumps(event).encode())
                self._output.flush_if_due()
        except FrameError as error:
            self._stopping, self.violation, self._distrusted = "frames", error.message, True
            self._lease.discard_during(self.kill)
            self._lease.drain(HEAR_OUT_SECONDS)
        if not deadlines.collecting:
            deadlines.ended = time.monotonic()
        self._count()
        self._output.finish()

    def _end(self, now: float) -> None:
        """The time is over: kill the sandbox. Raises :class:`RuntimeUnavailable` where the engine was too slow."""
        too_slow = self._deadlines.too_slow(now, self._lease.sandbox.counters())
        with self._lock:
            why = self._stopping = self._stopping or too_slow
        self._distrusted = self._deadlines.collecting
        self._lease.discard_during(self.kill)
        if why == "wall":
            self._refuse_what_was_held_back(now)
        self._lease.drain(HEAR_OUT_SECONDS)

    def _count(self) -> None:
        counters = self._lease.sandbox.counters()
        used, before = counters.cpu_seconds, self._before.cpu_seconds or 0.0
        self.counters = replace(counters, cpu_seconds=None if used is None else max(0.0, used - before))

    def recount(self, exit_code: int | None) -> None:
        """The sandbox has ended: take in what it used since the agent's last frame, or what passed for that."""
        if self._lease.isolation == "standard" and self._stopping is None:
            return  # then nothing but the agent was left
        self._count()
        if self._lease.isolation == "hardened" and (self._distrusted or self.account.is_false(exit_code)):
            self._over = time.monotonic()

    def release(self) -> None:
        """Everything is read: the agent may exit, if it has not done so at once."""
        if self.account.complete and not self._lease.sandbox.outlived:
            hardened, now = self._lease.isolation == "hardened", time.monotonic()
            patience = self._deadlines.release_seconds(now) if hardened else SEND_SECONDS
            with suppress(RuntimeUnavailable):  # it exited by itself, which is what it was told, or reads no more
                self._lease.sandbox.send(encode(ToAgent.BYE), patience)
            if hardened:
                self._hear_out(now + patience)

    def _refuse_what_was_held_back(self, now: float) -> None:
        """Raise :class:`RuntimeUnavailable` if it was not the program that took too long, but the engine.

        Then not even that it began was heard in time, or the stream still holds that the program had ended by itself.
        The latter is not believed in gVisor, where a program may have written that there itself, once it was too late.
        Nor is the engine to blame for an agent that had next to no processor, as its caller asked.
        """
        throttled = self._deadlines.is_throttled(now, self._lease.sandbox.counters())
        unheard, believed = self._order.waiting, self._lease.isolation == "standard"
        deadline = time.monotonic() + HEAR_OUT_SECONDS
        try:
            while not self.account.complete and (left := deadline - time.monotonic()) > 0:
                frames = self._lease.frames(left)
                if frames is None:
                    break
                for frame in frames:
                    self._check(frame)
                    if frame.kind is FromAgent.EXIT:
                        self.account.take(frame)
        except FrameError:
            return
        held_back = unheard or (believed and self.account.complete and self.account.stopped is None)
        if held_back and not throttled:
            raise RuntimeUnavailable("The engine handed on too late what the sandbox said.")

    def _hear_out(self, deadline: float) -> None:
        """Wait for the stream's end: what comes after the last frame shows that the agent did not send that one.

        Only in gVisor can anybody else have, and there the exit code is not known before the stream has ended.
        """
        try:
            while (left := deadline - time.monotonic()) > 0:
                frames = self._lease.frames(min(left, TICK_SECONDS))
                if frames is None:
                    return
                for frame in frames:
                    self._check(frame)
                if self._deadlines.used_up(self._lease.sandbox.counters()):
                    raise FrameError("a last frame, and CPU time used after it")
        except FrameError as error:
            self.account.forged, self.violation = True, error.message
        self.lingers = self._distrusted = True
        if not self.account.forged and self._deadlines.is_throttled(time.monotonic(), self._lease.sandbox.counters()):
            self._stopping = self._stopping or "collect"

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

    def _look(self, now: float) -> None:
        """What the cgroup has counted. Raises :class:`FrameError` if so many frames cannot come of so much work."""
        counters = self._lease.sandbox.counters()
        note_counters(self._incidents, counters, self._specification.limits)
        used, before = counters.cpu_seconds, self._before.cpu_seconds
        self._budget.settle(None if used is None or before is None else used - before, now - self._deadlines.began)
        if (counters.sockets or 0) > MAX_SOCKETS:
            self.stop("sockets")
            self._kill_at = 0.0  # each further second takes as much again
        if self._deadlines.used_up(counters):
            self.stop(self._deadlines.too_much())
            if self._deadlines.collecting:  # there is nothing left that the agent could stop
                self._kill_at = now

    def _check(self, frame: Frame) -> None:
        """Raises :class:`FrameError` for a frame that no agent sends at this point, or has sent often enough."""
        self._order.check(frame.kind)
        self._budget.charge(frame)

    def _take_all(self, frames: list[Frame]) -> None:
        began = time.monotonic()
        for frame in frames:
            self._check(frame)
            if not self._deadlines.collecting and frame.kind in LEFT:
                self._deadlines.collect(time.monotonic())
            self._take(frame)
        if frames:
            now = time.monotonic()
            self._deadlines.hear(now, now - began)

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

"""The conversation with the agent of one attempt, as a state machine: everything that moves its state stands here.

It is pure. Frames, times and counters go in; it has no clock, no pipe and no lock, and one thread uses it. What it
says is how long to wait (:meth:`Conversation.wake_at`), when the time is over (:meth:`Conversation.is_due`), and, when
the sandbox has ended, what is known of the program (:meth:`Conversation.conclude`).

In no tier can a program write to the agent's pipe. The host trusts the agent no more for it: no frame is believed
beyond what the host's own clock, its counters and the exit code allow, and no frame lifts a bound.

Phases, and what moves them (``PHASES``; the phase stands nowhere else)::

    compiling ─COMPILED─▶ compiled ─RUNNING─▶ running ─FILE, REJECTED─▶ collecting ─EXIT─▶ over
                                waiting ─RUNNING─▶ ┘ └────────────────────EXIT────────────▶ ┘

A stop (``Stop``) may come in any phase; the first one is the reason that counts. Times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.errors import FrameError
from orchestrator.models import Compile, Facts, Isolation, Limits
from worker.agent.deadlines import GRACE_SECONDS, Deadlines
from worker.agent.frame_budget import FrameBudget
from worker.agent.frames import Frame, FromAgent
from worker.agent.report import COMPILE_OUTPUT_BYTES, Exit, parse_compiled, parse_exit
from worker.counters import KILLED, Counters, Ended

Stop = Literal["wall", "cpu", "output", "denials", "sockets", "cancel", "frames", "collect", "platform"]

_COLLECTING = {
    FromAgent.FILE: "collecting",
    FromAgent.FILE_DATA: "collecting",
    FromAgent.REJECTED: "collecting",
    FromAgent.EXIT: "over",
}
# For each phase, the frames that an agent may send and the phase that follows each.
PHASES: dict[str, dict[FromAgent, str]] = {
    "compiling": {
        FromAgent.COMPILE_STDOUT: "compiling",
        FromAgent.COMPILE_STDERR: "compiling",
        FromAgent.DISK_FULL: "compiling",
        FromAgent.COMPILED: "compiled",
    },
    "compiled": {FromAgent.RUNNING: "running", **_COLLECTING},
    "waiting": {FromAgent.RUNNING: "running"},
    "running": {
        FromAgent.STDOUT: "running",
        FromAgent.STDERR: "running",
        FromAgent.STDIN_TAKEN: "running",
        FromAgent.DISK_FULL: "running",
        **_COLLECTING,
    },
    "collecting": _COLLECTING,
    "over": {},
}
ENDED = ("collecting", "over")  # the program has, as far as the frames say

CLOCK_ACCURACY = 0.95
MAX_SOCKETS = 4096  # of TCP and UDP in a sandbox; each may take 22 KB, and a program makes 7,000 in a quarter second
AGENT_FAILED, AGENT_UNFILTERED = 125, 123  # exit codes of the agent; see sandbox_image/README.md
DELAYED = "The container engine delayed the sandbox's output past the deadline."
DIED = "The agent died before it reported a result; the attempt is retried."


@dataclass(frozen=True)
class Spoilt:
    """The platform spoilt the attempt; nothing of it is a result. ``why`` is a sentence for the execution's owner."""

    why: str


class Conversation:
    """What one agent has sent, and what follows from that."""

    def __init__(
        self,
        limits: Limits,
        isolation: Isolation,
        *,
        host_counts_cpu: bool,
        compiles: bool = False,
        feeds: bool = False,
    ) -> None:
        """``compiles``: the program is compiled first. ``feeds``: its standard input is sent while it runs."""
        self._limits, self._isolation = limits, isolation
        self._host_counts_cpu, self._feeds = host_counts_cpu, feeds
        self._deadlines = Deadlines(limits, host_counts_cpu)
        self._budget = FrameBudget()
        self._compile_output = {FromAgent.COMPILE_STDOUT: b"", FromAgent.COMPILE_STDERR: b""}
        self._kill_at = float("inf")
        self._asked = self._exit_at = 0.0  # when START was sent, and when EXIT came
        self._before = Counters()
        self._overstayed = False
        self._late: Literal["", "unheard", "heard", "broken"] = ""  # of frames that were read after the wall limit
        self._throttled = False
        self.phase = "compiling" if compiles else "waiting"
        self.stop: Stop | None = None
        self.violation = ""  # which rule of the frames was broken
        self.compile: Compile | None = None
        self.exit: Exit | None = None

    @property
    def complete(self) -> bool:
        """Whether the last frame has come."""
        return self.exit is not None

    @property
    def began(self) -> float:
        """When START had been sent."""
        return self._deadlines.began

    @property
    def ended(self) -> float:
        """When the program ended."""
        return self._deadlines.ended

    @property
    def run_seconds(self) -> float:
        """From the start frame to the program's end, as the host measured it."""
        return self.ended - self.began

    def ask(self, now: float) -> None:
        """START is about to be sent."""
        self._asked = now

    def begin(self, now: float, before: Counters) -> None:
        """START was sent; ``before`` is what had been counted until then."""
        self._before = before
        self._deadlines.begin(now, before)

    def receive(self, frame: Frame, now: float) -> None:
        """Take a frame. Raises :class:`FrameError` for one that no agent sends at this point, or has sent too often."""
        kind = frame.kind
        if kind is FromAgent.STDIN_TAKEN and not self._feeds:
            raise FrameError(f"frame {kind.name} from a program without a stream of standard input")
        follows = PHASES[self.phase].get(kind)
        if follows is None:
            raise FrameError(f"frame {kind.name} while {self.phase}")
        self._budget.charge(frame)
        if follows in ENDED and self.phase not in ENDED and not self._late:
            self._deadlines.collect(now)
        self.phase = follows
        match kind:
            case FromAgent.COMPILE_STDOUT | FromAgent.COMPILE_STDERR:
                kept = self._compile_output[kind] + frame.payload
                self._compile_output[kind] = kept[:COMPILE_OUTPUT_BYTES]
            case FromAgent.COMPILED:
                self.compile = parse_compiled(frame, *self._compile_output.values())
            case FromAgent.EXIT:
                self.exit, self._exit_at = parse_exit(frame), now

    def received(self, now: float, busy_seconds: float) -> None:
        """Frames were received, and the worker took so long to deal with them."""
        self._deadlines.observe_cpu(now, busy_seconds)

    def stop_for(self, why: Stop, now: float) -> bool:
        """The program is to end; whether this is the first reason, so that the agent is to be asked.

        The agent gets ``GRACE_SECONDS`` to end it and to send what it left.
        """
        if self.stop is not None:
            return False
        self.stop, self._kill_at = why, now + GRACE_SECONDS
        return True

    def kill_at(self, when: float) -> None:
        """The sandbox is to be killed then, if not before."""
        self._kill_at = min(self._kill_at, when)

    def break_rules(self, what: str, now: float) -> None:
        """The sandbox sent what no agent sends; it is killed."""
        if self._late:
            self._late = "broken"
            return
        self.stop_for("frames", now)
        self.violation = what

    def observe(self, now: float, counters: Counters) -> bool:
        """Hold frames and limits against what the cgroup counted; whether that stops the program.

        Raises :class:`FrameError` if so many frames cannot come of so much work.
        """
        self._budget.settle(self._used(counters), now - self.began)
        stopped = False
        if (counters.sockets or 0) > MAX_SOCKETS:
            stopped = self.stop_for("sockets", now)
            self.kill_at(now)  # each further second takes as much again
        ended = self.phase in ENDED
        if self._deadlines.used_up(counters, collecting=ended):
            stopped = self.stop_for("collect" if ended else "cpu", now) or stopped
            if ended:  # there is nothing left that the agent could stop
                self.kill_at(now)
        return stopped

    @property
    def compile_bytes(self) -> int:
        """How much the compiler has printed."""
        return self._budget.compile_bytes

    def is_due(self, now: float) -> bool:
        """Whether the time is over, and the sandbox is to be killed."""
        return now >= self._kill_at or self._deadlines.passed(now)

    def wake_at(self) -> float:
        """When to ask again whether the time is over, if nothing comes before."""
        return min(self._deadlines.at, self._kill_at)

    def expire(self, now: float, counters: Counters) -> bool:
        """The time is over. Whether what the sandbox has sent is still to be received: it may be the engine's fault.

        Then not even that the program began was heard in time, or the stream still holds that it ended by itself. The
        engine is not to blame for an agent that had next to no processor, as its caller asked.
        """
        self.stop_for(self._deadlines.too_slow(now, counters) if self.phase in ENDED else "wall", now)
        if self.stop != "wall":
            return False
        self._late = "unheard" if self.phase == "waiting" else "heard"
        self._throttled = self._deadlines.is_throttled(now, counters)
        return True

    def end(self, now: float) -> None:
        """The stream or the time is over, or all frames are received: if no frame ended the program, it ends now."""
        if self.phase not in ENDED or self._late:
            self._deadlines.ended = now

    def overstay(self) -> None:
        """The sandbox was killed since it did not exit after its last frame."""
        self._overstayed = True

    def is_cut_off(self, exit_code: int | None) -> bool:
        """Whether the agent ended without a stop before its last frame, or between that frame and its exit."""
        killed = not self._overstayed and exit_code == KILLED != (self.exit or Exit()).exit_code
        return self.stop is None and (not self.complete or killed)

    def counts_on(self) -> bool:
        """Whether the sandbox may have been at work since its counters were read at the end of its frames."""
        return self.stop is not None or not self.complete or self._overstayed

    def conclude(self, ended: Ended | None, counters: Counters, diagnostics: bytes) -> Facts | Spoilt:
        """What is known of the program, once its sandbox has ended, the agent's word first.

        ``ended`` is ``None`` when the engine did not say how in time; ``diagnostics`` is what the agent wrote to its
        standard error.
        """
        code = None if ended is None else ended.exit_code
        if self._late in ("unheard", "heard") and not self._throttled:
            by_itself = self.exit is not None and self._stopped_for() is None
            if self._late == "unheard" or by_itself:
                return Spoilt(DELAYED)
        oom_killed = ended is not None and ended.oom_killed
        if self.is_cut_off(code) and not (counters.oom_events or oom_killed) and self._spared(code, diagnostics):
            return Spoilt(DIED)
        exit = self.exit or Exit()
        return Facts(
            exit_code=code,
            signal=exit.signal if exit.signal is not None and code == 128 + exit.signal else None,
            stopped=self._stopped_for() if self.stop is None else None,
            killed="frames" if self.stop is None and self._is_false(code) else self.stop,
            oom_killed=oom_killed,
            oom_events=counters.oom_events,
            pids_events=counters.pids_events,
            disk_full=exit.disk_full,
            run_seconds=self.run_seconds,
            cpu_seconds=self._used(counters),
            compile_exit_code=self.compile.exit_code if self.compile else None,
        )

    def _spared(self, exit_code: int | None, diagnostics: bytes) -> bool:
        """Whether no program can have ended the agent so.

        Without the engine, which has the stream's other end, the agent ends everything; what it cannot cope with by
        itself, it writes to its diagnostics.
        """
        silent = not diagnostics
        excused = silent or exit_code in (KILLED, AGENT_UNFILTERED)
        in_standard = self._isolation == "standard" and excused  # in gVisor a program may end its whole kernel
        return exit_code in (None, 0) or in_standard or (silent and exit_code == AGENT_FAILED)

    def _is_false(self, exit_code: int | None) -> bool:
        """Whether the last frame cannot be the agent's, which exits with the code that it names.

        A sandbox that was killed in between has the kernel's code, which says nothing about the frame.
        """
        if self._overstayed:
            return True
        return self.exit is not None and exit_code not in (None, KILLED) and self.exit.exit_code != exit_code

    def _stopped_for(self) -> Literal["wall", "cpu"] | None:
        """The limit that the agent stopped its program for, if the host's own clock and counters allow for that."""
        match self.exit and self.exit.stopped:
            case "wall" if self._exit_at - self._asked >= CLOCK_ACCURACY * self._limits.wall_seconds:
                return "wall"
            case "cpu" if not self._host_counts_cpu:
                return "cpu"
        return None

    def _used(self, counters: Counters) -> float | None:
        """CPU seconds since the start."""
        used, before = counters.cpu_seconds, self._before.cpu_seconds
        return None if used is None else max(0.0, used - (before or 0.0))

"""The conversation with the agent of one attempt, as a state machine: all transitions are in this module.

The module is pure: it has no clock, no pipe and no lock. One thread passes frames, times and counters in, and asks for
the next deadline (:meth:`Conversation.wake_at`), whether a deadline has passed (:meth:`Conversation.is_due`), and, when
the sandbox has ended, for the facts about the program (:meth:`Conversation.conclude`).

In no tier can a program write to the agent's pipe. The host does not trust the agent either: the host's own clock, its
counters and the exit code check each report, and no frame lifts a bound.

Phases, and the frames that change them (``PHASES``; the phase stands nowhere else)::

    compiling ─COMPILED─▶ compiled ─RUNNING─▶ running ─FILE, RESULT…──▶ collecting ─EXIT─▶ over
                                waiting ─RUNNING─▶ ┘ └────────────────────EXIT────────────▶ ┘

A stop (``Stop``) may come in any phase; the first stop is the reported reason. Times are monotonic seconds.
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
    FromAgent.RESULT: "collecting",
    FromAgent.RESULT_DATA: "collecting",
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
        FromAgent.CALL_DATA: "running",
        FromAgent.ANSWER_TAKEN: "running",
        **_COLLECTING,
    },
    "collecting": _COLLECTING,
    "over": {},
}
ENDED = ("collecting", "over")  # according to the frames, the program has ended
OF_TOOLS = (FromAgent.CALL_DATA, FromAgent.ANSWER_TAKEN)

CLOCK_ACCURACY = 0.95
MAX_SOCKETS = 4096  # of TCP and UDP in a sandbox; each may take 22 KB, and a program makes 7,000 in a quarter second
AGENT_FAILED, AGENT_UNFILTERED = 125, 123  # exit codes of the agent; see sandbox_image/README.md
DELAYED = "The container engine delayed the sandbox's output past the deadline."
DIED = "The agent died before it reported a result; the attempt is retried."


@dataclass(frozen=True)
class Spoilt:
    """The platform spoilt the attempt, which therefore has no result. ``why`` is a sentence for the execution's
    owner.
    """

    why: str


class Conversation:
    """The state of the conversation with one agent."""

    def __init__(
        self,
        limits: Limits,
        isolation: Isolation,
        *,
        host_counts_cpu: bool,
        compiles: bool = False,
        feeds: bool = False,
        tool_wait_seconds: float | None = None,
        now: float = 0.0,
    ) -> None:
        """``compiles``: a compile step runs first. ``feeds``: standard input is sent while the program runs.

        ``tool_wait_seconds``: how long a program may wait for its tools in addition to its wall time; ``None`` without
        tools. With tools the host stops the program at its wall time, since the agent does not know how long the
        program has waited. A program that is never started counts as begun and ended at ``now``.
        """
        self._limits, self._isolation = limits, isolation
        self._host_counts_cpu, self._feeds = host_counts_cpu, feeds
        self._has_tools = tool_wait_seconds is not None
        self._deadlines = Deadlines(limits, host_counts_cpu, tool_wait_seconds or 0.0, now=now)
        self._budget = FrameBudget()
        self._compile_output = {FromAgent.COMPILE_STDOUT: b"", FromAgent.COMPILE_STDERR: b""}
        self._kill_at = float("inf")
        self._asked = self._exit_at = 0.0  # when START was sent, and when EXIT came
        self._before = Counters()
        self._overstayed = self._stopped_in_time = False
        self._late: Literal["", "waiting", "running", "broken"] = ""  # the state of frames read after the wall limit
        self._throttled = False
        self.phase = "compiling" if compiles else "waiting"
        self.stop: Stop | None = None
        self.violation = ""  # the broken rule of the framing
        self.compile: Compile | None = None
        self.exit: Exit | None = None

    @property
    def complete(self) -> bool:
        """Whether the last frame has been received."""
        return self.exit is not None

    @property
    def began(self) -> float:
        """The time at which START was sent."""
        return self._deadlines.began

    @property
    def ended(self) -> float:
        """The time at which the program ended."""
        return self._deadlines.ended

    @property
    def run_seconds(self) -> float:
        """From the start frame to the program's end, as the host measured it."""
        return self.ended - self.began

    @property
    def tool_seconds(self) -> float:
        """The part of :attr:`run_seconds` for which the program waited for tools, beyond its wall limit."""
        return self._deadlines.waited_seconds

    def ask(self, now: float) -> None:
        """Record that START is about to be sent."""
        self._asked = now

    def begin(self, now: float, before: Counters) -> None:
        """Record that START was sent; ``before`` are the counters until then."""
        self._before = before
        self._deadlines.begin(now, before)

    def receive(self, frame: Frame, now: float) -> None:
        """Process a frame. Raises :class:`FrameError` for a frame that an agent never sends in this phase, or for more
        frames of a kind than an agent sends.
        """
        kind = frame.kind
        if kind is FromAgent.STDIN_TAKEN and not self._feeds:
            raise FrameError(f"frame {kind.name} from a program without a stream of standard input")
        if kind in OF_TOOLS and not self._has_tools:
            raise FrameError(f"frame {kind.name} from a program without tools")
        follows = PHASES[self.phase].get(kind)
        if follows is None:
            raise FrameError(f"frame {kind.name} while {self.phase}")
        self._budget.charge(frame)
        if follows in ENDED and self.phase not in ENDED:
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
        """Record that frames were received, and the seconds the worker needed to process them."""
        self._deadlines.record_frames(now, busy_seconds)

    def stop_for(self, why: Stop, now: float) -> bool:
        """Record a stop reason. Returns whether the reason is the first: then the caller asks the agent to stop.

        The agent gets ``GRACE_SECONDS`` to end the program and to send its files.
        """
        if self.stop is not None:
            return False
        self.stop, self._kill_at = why, now + GRACE_SECONDS
        return True

    def kill_at(self, when: float) -> None:
        """Set a deadline at which the sandbox must be killed, unless an earlier deadline is set."""
        self._kill_at = min(self._kill_at, when)

    def break_rules(self, what: str, now: float) -> None:
        """Record a frame violation; the sandbox must be killed."""
        if self._late:
            self._late = "broken"
            return
        self.stop_for("frames", now)
        self.violation = what

    def wait_for_tools(self, seconds: float, waits: bool, now: float) -> bool:
        """Record how long the program has waited for its tools, and whether it waits now. Returns whether the wall time
        is over; the caller then asks the agent to end the program.
        """
        self._deadlines.wait(seconds, waits)
        if not self._may_stop_in_time or now < self._deadlines.stop_at:
            return False
        self.stop, self._stopped_in_time = "wall", True  # the agent must end the program before the kill
        return True

    def observe(self, now: float, counters: Counters) -> bool:
        """Check frames and limits against the cgroup's counters. Returns whether a limit stops the program.

        Raises :class:`FrameError` for more frames than the used CPU time allows.
        """
        self._budget.settle(self._used(counters), now - self.began)
        stopped = False
        if (counters.sockets or 0) > MAX_SOCKETS:
            stopped = self.stop_for("sockets", now)
            self.kill_at(now)  # the program could make as many sockets again in each further second
        ended = self.phase in ENDED
        if self._deadlines.used_up(counters, collecting=ended):
            stopped = self.stop_for("collect" if ended else "cpu", now) or stopped
            if ended:  # the program has ended, so the agent has nothing to stop
                self.kill_at(now)
        return stopped

    @property
    def compile_bytes(self) -> int:
        """The number of bytes printed by the compiler."""
        return self._budget.compile_bytes

    def is_due(self, now: float) -> bool:
        """Whether a deadline has passed, so that the sandbox must be killed."""
        return now >= self._kill_at or self._deadlines.passed(now)

    def wake_at(self) -> float:
        """The time of the next deadline, at which :meth:`is_due` must be called again."""
        if self._may_stop_in_time:
            deadlines = self._deadlines
            return min(deadlines.latest_stop_at if deadlines.moves else deadlines.stop_at, self._kill_at)
        return min(self._deadlines.at, self._kill_at)

    def expire(self, now: float, counters: Counters) -> bool:
        """Record a passed deadline. Returns whether earlier frames must still be read: the engine may have delayed
        them.

        In that case RUNNING had not arrived in time, or an earlier EXIT is still in the stream. If the caller's limits
        leave the agent almost no CPU time, the delay is not the engine's fault.
        """
        self.stop_for(self._deadlines.too_slow(now, counters) if self.phase in ENDED else "wall", now)
        if self.stop != "wall" or self._stopped_in_time:
            return False
        self._late = "waiting" if self.phase == "waiting" else "running"
        self._throttled = self._deadlines.is_throttled(now, counters)
        return True

    def end(self, now: float) -> None:
        """Record the end of the stream, of the time or of the frames: a program without an end frame ends now."""
        if self.phase not in ENDED or self._late:
            self._deadlines.ended = now

    def overstay(self) -> None:
        """Record that the sandbox was killed because it did not exit after its last frame."""
        self._overstayed = True

    def is_cut_off(self, exit_code: int | None) -> bool:
        """Whether the agent ended without a stop before its last frame, or between that frame and its exit."""
        killed = not self._overstayed and exit_code == KILLED != (self.exit or Exit()).exit_code
        return self.stop is None and (not self.complete or killed)

    def counts_on(self) -> bool:
        """Whether the sandbox may have been at work since its counters were read at the end of its frames."""
        return self.stop is not None or not self.complete or self._overstayed

    def conclude(self, ended: Ended | None, counters: Counters, diagnostics: bytes) -> Facts | Spoilt:
        """The facts about the program after its sandbox has ended, starting from the agent's report.

        ``ended`` is ``None`` if the engine did not report the end in time; ``diagnostics`` is the agent's standard
        error.
        """
        code = None if ended is None else ended.exit_code
        if self._late in ("waiting", "running") and not self._throttled:
            by_itself = self.exit is not None and self._stopped_for() is None
            if self._late == "waiting" or by_itself:
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

    @property
    def _may_stop_in_time(self) -> bool:
        return self._has_tools and self.stop is None and self.phase in ("compiling", "running")

    def _spared(self, exit_code: int | None, diagnostics: bytes) -> bool:
        """Whether the program cannot have caused this end of the agent.

        The agent ends all processes when the engine, at the other end of the stream, dies; it reports its own failures
        in its diagnostics.
        """
        silent = not diagnostics
        excused = silent or exit_code in (KILLED, AGENT_UNFILTERED)
        in_standard = self._isolation == "standard" and excused  # in gVisor a program may end its whole kernel
        return exit_code in (None, 0) or in_standard or (silent and exit_code == AGENT_FAILED)

    def _is_false(self, exit_code: int | None) -> bool:
        """Whether the last frame is forged: the agent exits with the exit code named in its last frame.

        The exit code of a sandbox that was killed in between is that of the kill, and not evidence of a forged frame.
        """
        if self._overstayed:
            return True
        return self.exit is not None and exit_code not in (None, KILLED) and self.exit.exit_code != exit_code

    def _stopped_for(self) -> Literal["wall", "cpu"] | None:
        """The limit for which the agent stopped its program, if the host's own clock and counters confirm it."""
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

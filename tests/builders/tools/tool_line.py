"""The line of a program with tools: the library for its programs, and a host that answers their calls."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.models.tools import CallRecord, ToolCall, ToolFailure, ToolOutcome
from orchestrator.store.executions.records import Claim
from tests.builders.agent import Agent, Result
from tests.harness import ROOT, eventually
from tests.hostile.sandbox import DEADLINE_SECONDS, Sandbox
from worker.agent.frames import Frame, FromAgent, ToAgent
from worker.agent.requests import CALL_WINDOW_BYTES
from worker.attempt.incidents import Incidents
from worker.attempt.tools.calling import Calling
from worker.attempt.tools.ledger import Bounds

LIBRARY = ROOT / "sandbox_image" / "agent" / "library"
BOUNDS = Bounds(calls=50, at_once=8, request_bytes=2**20, response_bytes=2**22, all_bytes=2**23, seconds=30.0)
CLAIM = Claim("execution", 1, b"", "")
Answer = Callable[[ToolCall], Any]


def install_library(directory: Path, names: dict[str, list[str]] | None = None, bounds: Bounds | None = BOUNDS) -> Path:
    """Make the package ``mayfly`` of programs, for Python and Node.js, whose tools lie beside it; returns its parent.

    Without ``bounds`` the execution has no tools.
    """
    tools = directory / "tools"
    tools.mkdir(parents=True)
    (directory / "mayfly").mkdir()
    targets = {"bundles.py": "__init__.py", "mayfly.js": "index.js"}
    for source in LIBRARY.glob("*.[pj][ys]"):
        target = directory / "mayfly" / targets.get(source.name, source.name)
        shutil.copy(source, target)
        target.write_text(target.read_text().replace('"/tools', f'"{tools}').replace("'/tools", f"'{tools}"))
    if bounds:
        document = {"at_once": bounds.at_once, "request_bytes": bounds.request_bytes}
        (tools / "bounds.json").write_text(json.dumps(document))
    if names:
        (tools / "names.json").write_text(json.dumps(names))
    return directory


class Tools:
    """The tools of a test: ``answer`` gives the result of a call, or raises :class:`Refused`.

    Each call is answered in a thread of its own, and kept in ``calls``.
    """

    reply_to = "test"

    def __init__(self, answer: Answer = lambda call: json.loads(call.arguments)) -> None:
        self._answer = answer
        self.calls: list[ToolCall] = []
        self.forgotten: list[str] = []
        self.cancelled = 0

    def submit(self, call: ToolCall, on_outcome: Callable[[ToolOutcome], None]) -> None:
        self.calls.append(call)
        threading.Thread(target=lambda: on_outcome(self._outcome(call)), daemon=True).start()

    def built_in(self, tool: str, arguments: str) -> ToolOutcome:
        return ToolOutcome(result=json.dumps({"built-in": tool, **json.loads(arguments)}))

    def forget(self, call: ToolCall) -> None:
        self.forgotten.append(call.id)

    def cancel(self) -> None:
        self.cancelled += 1

    def _outcome(self, call: ToolCall) -> ToolOutcome:
        try:
            return ToolOutcome(result=json.dumps(self._answer(call)))
        except Refused as refused:
            return ToolOutcome(failure=refused.failure)


class Refused(Exception):
    """The call fails."""

    def __init__(self, code: str, message: str = "no", **names: tuple[str, ...]) -> None:
        self.failure = ToolFailure(code=code, message=message, **names)


class Line:
    """The worker's end of one program's line. ``send`` writes to the agent."""

    def __init__(self, tools: Tools, bounds: Bounds, send: Callable[[bytes, float], None]) -> None:
        self.incidents, self.result = Incidents(), Result()
        self.calling = Calling(CLAIM, "tenant", bounds, tools, send, self.incidents)

    def receive(self, frame: Frame) -> bool:
        """Take one frame of the agent; whether it was the last."""
        if frame.kind in (FromAgent.CALL_DATA, FromAgent.ANSWER_TAKEN):
            self.calling.receive(frame)
        else:
            self.result.add(frame)
        return frame.kind is FromAgent.EXIT

    @property
    def records(self) -> tuple[CallRecord, ...]:
        return self.calling.records()


class Counting(Tools):
    """Tools that take a moment, and count how many calls are open; ``refuse`` refuses.

    Answers wait until ``least`` calls were open at once: a busy machine can send a call later than
    the last one is answered.
    """

    def __init__(self, least: int = 1) -> None:
        super().__init__(self._slowly)
        self._least = least
        self._lock = threading.Lock()
        self._open = self.most = 0

    def _slowly(self, call: ToolCall) -> Any:
        if call.tool == "refuse":
            raise Refused("tool_failed", "no", did_you_mean=("s.other",), valid_parameters=("n",))
        with self._lock:
            self._open += 1
            self.most = max(self.most, self._open)
        time.sleep(0.02)  # so that further calls overlap
        eventually(lambda: self.most >= self._least, f"{self._least} calls were open at once")
        with self._lock:
            self._open -= 1
        return json.loads(call.arguments).get("n")


class Host(Line):
    """The worker's end of the pipe of an agent that is a process of the test."""

    def __init__(self, agent: Agent, tools: Tools, bounds: Bounds = BOUNDS) -> None:
        super().__init__(tools, bounds, self._send)
        self._agent, self._lock = agent, threading.Lock()

    def _send(self, data: bytes, timeout_seconds: float) -> None:
        with self._lock:
            assert self._agent.process.stdin
            self._agent.process.stdin.write(data)
            self._agent.process.stdin.flush()

    def start(self, code: str, **changed: Any) -> None:
        """Start a program with tools."""
        self._agent.input("main.py", code)
        self._agent.start(tools={"room_bytes": CALL_WINDOW_BYTES}, **changed)

    def run(self, code: str, **changed: Any) -> Result:
        """Run a program with tools to its end."""
        self.start(code, **changed)
        return self.follow()

    def follow(self) -> Result:
        """Answer the started program's calls, to its end."""
        for frame in self._agent.frames:
            if self.receive(frame):
                break
        self.calling.close()
        with self._lock:
            self._agent.write(ToAgent.BYE)
        self.result.code = self._agent.process.wait(60)
        return self.result


def run_inside(sandbox: Sandbox, code: str, tools: Tools, bounds: Bounds = BOUNDS) -> Line:
    """Run a program with tools in a container, up to its last frame."""
    files = {"bounds.json": json.dumps({"at_once": bounds.at_once, "request_bytes": bounds.request_bytes})}
    sandbox.lease.host_dir.write_tools(files)
    line = Line(tools, bounds, sandbox.lease.sandbox.send)
    sandbox.begin(code, tools={"room_bytes": CALL_WINDOW_BYTES})
    over = False
    while not over:
        frames = sandbox.lease.frames(DEADLINE_SECONDS)
        assert frames, "the sandbox is silent, or has ended before its program"
        for frame in frames:
            over = line.receive(frame)
    line.calling.close()
    return line

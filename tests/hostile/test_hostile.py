"""Every hostile program on every runtime, through the REST API, and the state of the host afterwards. See ``cases.py``.

Programs run in batches of a few, beside a bystander; the first test that asks for one of a batch runs it. Everything
that was found wrong with the host after a batch fails each of its cases.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.models.tool_servers import ToolServer
from tests.builders.brokers import Brokers
from tests.harness import LONG_LEASE_SECONDS, ROOT, WAYS, Stack, Way, eventually
from tests.hostile.agent import agent, artifacts, calls, files, forgery, reach, uploads, variables
from tests.hostile.cases import CASES, MAIN, THEMES, Case
from tests.hostile.host import AIMS, Watched
from tests.hostile.kernel import entries, kernel, neighbours, network, privileges, surface
from tests.hostile.resources import exhaustion, flooding, survival
from tests.selection import EACH_WAY

TABLES = (
    agent, artifacts, calls, entries, exhaustion, files, flooding, forgery, kernel, neighbours, network, privileges,
    reach, surface, survival, uploads, variables,
)  # fmt: skip
BATCH = 4
SAMPLE = {name for names in THEMES.values() for name in names[:BATCH]}  # a batch of each theme, for every run
# Each driver and each runtime of these pairs runs every program in another pair, and in `make hostile` in these, too.
SAMPLED_PAIRS = ("docker-crun", "oci-runc", "oci-runsc")
REST_OF_EACH_WAY = [
    pytest.param(way, marks=pytest.mark.complete if way in SAMPLED_PAIRS else (), id=way) for way in WAYS
]
MOST_RESULT = 2**20  # bytes of a tool's result
POOL = 3  # warm containers, whatever is asked for
BYSTANDER = """
import hashlib, time
digest = b""
for number in range(25):
    digest = hashlib.sha256(digest + bytes(1000)).digest()
    time.sleep(0.02)
open("/output/digest", "w").write(digest.hex())
print("unharmed")
"""
CALLING = """
from mayfly import tools
assert sum(tools.neighbour.add(a=number, b=1) for number in range(20)) == 210
"""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
FORGED = "forged-by-the-program"  # written by programs that forge a log line, an event or a result

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="system calls are named by their number")


@dataclass
class Outcome:
    """How one program ended: the execution, its security events, and its output's bytes."""

    execution: dict[str, Any]
    events: list[dict[str, Any]]
    stdout: str
    problems: list[str]


class Wall:
    """One runtime's stack, and what came of each program in it."""

    def __init__(self, stack: Stack, way: Way) -> None:
        self.stack, self.way, self.isolation, self.runtime = stack, way, way.isolation, way.runtime
        self.host = Watched(stack, POOL, uids_each=2 if way.isolation == "hardened" else 1)
        self.tools: Brokers | None = None
        self._outcomes: dict[str, Outcome] = {}
        self._faults: dict[str, str] = {}
        self._judged: dict[Path, int] = {}  # how much of each log has failed a batch already

    def outcome(self, name: str) -> Outcome:
        """How that program ended, and nothing that its batch did to the host."""
        if name not in self._outcomes and name not in self._faults:
            names = THEMES[name.partition(":")[0]]
            start = names.index(name) // BATCH * BATCH
            self._run(names[start : start + BATCH])
        assert name not in self._faults, self._faults[name]
        return self._outcomes[name]

    def _run(self, names: list[str]) -> None:
        """Run a batch. What it leaves fails each of its programs, and none of a later batch."""
        self._faults |= dict.fromkeys(names, f"this batch was not judged: {names}")
        try:
            self._outcomes |= self._judge(names)
        except AssertionError as error:
            self._faults |= dict.fromkeys(names, f"something is wrong since this batch ran: {names}: {error}")
            self._judged = {path: path.stat().st_size for path in self.stack.directory.glob("*.log")}
            self.host.accept()
            raise
        for name in names:
            del self._faults[name]

    def _judge(self, names: list[str]) -> dict[str, Outcome]:
        bystanding: dict[str, Any] = {"environment": "python", "code": BYSTANDER}
        if any(CASES[name].tools for name in names):
            self.start_tools()
            bystanding |= {"code": CALLING + BYSTANDER, "tools": ["neighbour.add"]}
        with ThreadPoolExecutor(BATCH + 1) as threads:
            bystander = threads.submit(self.submit, bystanding)
            ended = {name: threads.submit(self._one, CASES[name].on(self.way)) for name in names}
            outcomes = {name: future.result() for name, future in ended.items()}
        beside = bystander.result()
        assert (beside["state"], beside["stdout"]) == ("succeeded", "unharmed\n"), beside
        after = self.submit({"environment": "python", "code": "print(1)"})
        assert (after["state"], after["stdout"], after["security_events"]) == ("succeeded", "1\n", 0), after
        self.host.check_api()
        self.check_logs()
        self.host.check([one["id"] for one in (*(o.execution for o in outcomes.values()), beside, after)])
        return outcomes

    def start_tools(self) -> None:
        """Give the tenant a tool server, and a broker for it."""
        if self.tools is None:
            self.tools = Brokers(self.stack.directory, self.stack.redis, tool_response_bytes=MOST_RESULT)
            for name in ("test", "fragile", "neighbour"):
                self.tools.over_pipe(name, tenant="default")
            self.tools.declare(ToolServer(name="private", url="http://127.0.0.1:1/mcp"), tenant="other")
            self.tools.start()
            catalogues = self.tools.store.tools.catalogues
            ready = ["ready"] * 3
            eventually(lambda: [one.state for one in catalogues.of("default")] == ready, "tools are listed", 180)

    def close(self) -> None:
        self.host.close()
        if self.tools is not None:
            self.tools.stop()

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.stack.run(**{"isolation": self.isolation, **body})

    def _one(self, case: Case) -> Outcome:
        if case.neighbour is None:
            return self._look(case, self.submit(body(case, case.code())))
        holder = {**body(case, case.code(case.neighbour)), "isolation": self.isolation}
        holder["limits"] = {"wall_seconds": 120}
        id = self.stack.submit(**holder).json()["id"]
        eventually(lambda: "holding" in self._text(id), "the neighbour has opened its end")
        ended = self.submit(body(case, case.code()))
        beside = self.stack.show(id)
        self.stack.client.post(f"/api/v1/executions/{id}/cancel")
        last = self.stack.ended(id)
        assert self.stack.client.delete(f"/api/v1/executions/{id}").status_code == 204
        outcome = self._look(case, ended)
        if beside["state"] != "running" or last["state"] != "cancelled":
            outcome.problems.append(f"the neighbour did not run beside it: {last}")
        return outcome

    def _look(self, case: Case, execution: dict[str, Any]) -> Outcome:
        def events() -> list[dict[str, Any]]:
            return self.stack.security(execution["id"])

        with suppress(AssertionError):  # records of the kernel may be late; the test names missing events
            eventually(lambda: case.reports(events()), "the events are there")
        outcome = Outcome(execution, events(), self._text(execution["id"]), [])
        reported = json.dumps([execution, outcome.events])
        for secret in self._secrets():
            if secret in reported or secret in outcome.stdout:
                outcome.problems.append(f"a secret came out: {secret[:12]}…")
        return outcome

    def _text(self, id: str) -> str:
        return self.stack.client.get(f"/api/v1/executions/{id}/stdout").content.decode(errors="replace")

    def _secrets(self) -> Iterator[str]:
        state = Path(self.stack.env["MAYFLY_STATE_DIR"])
        yield self.stack.key
        yield (state / "secret").read_text().strip()
        yield self.stack.redis.url

    def check_logs(self) -> None:
        """Assert that every line of the logs is ours, and none is a fault's."""
        for path in self.stack.directory.glob("*.log"):
            if path.name == "redis.log":
                continue
            new = path.read_bytes()[self._judged.get(path, 0) :]
            new = new[: new.rfind(b"\n") + 1]  # the last line may be half written
            text = new.decode("utf-8", errors="surrogateescape")
            assert not CONTROL.search(text), f"a control character is in {path.name}"
            assert "Traceback" not in text, f"{path.name}: {text[-3000:]}"
            for line in text.splitlines():
                if line.startswith("{"):
                    row = json.loads(line)
                    assert row.keys() >= {"event", "level", "timestamp"} and row.get("detail") != FORGED, line
                else:
                    assert path.name == "api.log" and FORGED not in line, line


def body(case: Case, code: str) -> dict[str, Any]:
    """The submission."""
    files = [input_file(path, content) for path, content in case.files.items()]
    program: dict[str, Any] = {"code": code}
    if case.path is not None:
        files.append(input_file(case.path, code))
        program = {"entrypoint": case.path}
    return {
        "environment": case.environment,
        **program,
        "files": files,
        "args": case.args,
        "env": case.env,
        "stdin": case.stdin,
        "limits": case.limits,
        "labels": case.labels,
        "artifacts": case.artifacts,
        **({"tools": case.tools} if case.tools else {}),
    }


def input_file(path: str, content: str | bytes) -> dict[str, Any]:
    if isinstance(content, str):
        return {"path": path, "content": content}
    return {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}


@pytest.fixture(scope="module", params=EACH_WAY)
def wall(
    request: pytest.FixtureRequest,
    need_runtime: Callable[..., None],
    image_of: Callable[[str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Wall]:
    """A stack of its own for each driver and runtime, so that all its log and its state come from these programs."""
    way = Way(request.param)
    need_runtime(way.runtime, way.driver)
    image_of("c")
    environments = [str(ROOT / "sandbox_image" / "environments"), str(ROOT / "tests" / "environments")]
    stack = Stack(
        tmp_path_factory.mktemp(f"wall-{way.name}"),
        environments_dirs=environments,
        pool_size=0,
        pool_sizes={"python" if way.isolation == "standard" else f"python/{way.isolation}": POOL},
        pool_max=0,
        slots=BATCH + 2,
        lease_seconds=LONG_LEASE_SECONDS,
        **way.settings,
    )
    wall = None
    try:
        stack.start()
        wall = Wall(stack, way)
        yield wall
    finally:
        if wall is not None:
            wall.close()
        stack.stop()


def meets(found: dict[str, Any], expected: dict[str, str | tuple[str, ...]]) -> bool:
    """Whether each probe came out as one of what was expected."""
    allowed = {name: (want,) if isinstance(want, str) else want for name, want in expected.items()}
    return found.keys() == allowed.keys() and all(found[name] in allowed[name] for name in found)


def differs(found: dict[str, Any], expected: dict[str, str | tuple[str, ...]]) -> dict[str, Any]:
    """The outcomes that differ from the expected ones or are missing."""
    names = found.keys() | expected.keys()
    return {
        name: found.get(name) for name in names if not meets({name: found.get(name)}, {name: expected.get(name, "")})
    }


def reported(outcome: Outcome) -> str:
    """The end of the program's output, for a failed assertion."""
    return f"stdout …{outcome.stdout[-600:]!r}, stderr …{outcome.execution['stderr'][-600:]!r}"


def probes(stdout: str) -> dict[str, Any]:
    """The program's report of its attempts, in the last line of its output."""
    last = stdout.rstrip("\n").rpartition("\n")[2]
    try:
        found = json.loads(last)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@pytest.mark.parametrize("name", [name for name in CASES if name in SAMPLE])
def test_hostile_program_ends_as_required(wall: Wall, name: str) -> None:
    check_end(wall, name)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in CASES if name not in SAMPLE])
@pytest.mark.parametrize("wall", REST_OF_EACH_WAY, indirect=True)
def test_further_hostile_program_ends_as_required(wall: Wall, name: str) -> None:
    check_end(wall, name)


def check_end(wall: Wall, name: str) -> None:
    case = CASES[name].on(wall.way)
    outcome = wall.outcome(name)
    execution = outcome.execution
    assert outcome.problems == []
    ended = {name: execution[name] for name in ("state", "reason", "exit_code", "signal", "message")}
    assert (execution["state"], execution["reason"]) == (case.state, case.reason), (ended, reported(outcome))
    assert execution["attempt"] == 1, wall.stack.failed_attempts(execution["id"])
    assert execution["runtime"] == wall.runtime
    if case.exit_code is not None or case.state == "succeeded":
        assert execution["exit_code"] == (case.exit_code or 0)
    if case.signal is not None:
        assert execution["signal"] == case.signal
    # Findings of the static analysis are no events of the run.
    kinds = {event["kind"] for event in outcome.events} - {"policy_violation"} - case.maybe
    assert kinds == case.events, (kinds, ended, outcome.events, reported(outcome))
    for event in outcome.events:
        assert not CONTROL.search(json.dumps(event, ensure_ascii=False)), event
        assert event["detail"]
    if case.probes:
        assert meets(probes(outcome.stdout), case.probes), (
            differs(probes(outcome.stdout), case.probes),
            ended,
            reported(outcome),
        )
    for fragment in case.stdout:
        assert fragment in outcome.stdout, (ended, reported(outcome))
    for fragment in case.absent:
        assert fragment not in outcome.stdout + execution["stderr"]
    if case.kept is not None:
        assert {artifact["path"]: artifact["size"] for artifact in execution["artifacts"]} == case.kept
    assert case.reports(outcome.events), [event["detail"] for event in outcome.events]
    rejected = {event["path"]: event["why"] for event in outcome.events if event["kind"] == "artifact_rejected"}
    assert case.rejected.items() <= rejected.items(), rejected
    assert execution["timings"]["run_seconds"] + execution["timings"]["collect_seconds"] < case.seconds


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.in_one])
def test_channel_works_within_a_single_execution(wall: Wall, name: str) -> None:
    """The control: what two executions cannot do through a channel, two ends in one program can."""
    case = CASES[name].on(wall.way)
    assert case.neighbour is not None
    source = case.neighbour.replace("signal.pause()", "pass") + "\n" + case.source
    ended = wall.submit(body(case, case.code(source)))
    assert meets(probes(ended["stdout"]), case.in_one), ended


@pytest.mark.parametrize("wall", EACH_WAY[:1], indirect=True)
def test_leftovers_fail_only_their_own_batch(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces and log lines stay; the next batch is judged by its own traces only."""
    fresh = Wall.__new__(Wall)
    fresh.__dict__ |= {**wall.__dict__, "_outcomes": {}, "_faults": {}}
    culprit, also, later = (name for name in THEMES["files"][:3])
    uid = int(wall.stack.env["MAYFLY_UID_FIRST"]) + 8
    trace, log = Path("/tmp") / f"mayfly-trace-{uid}", wall.stack.directory / "worker-8.log"

    def leave_trace(case: Case) -> Outcome:
        trace.touch()
        os.chown(trace, uid, uid)
        return wall._one(case)

    def leave_line(case: Case) -> Outcome:
        log.write_text("loose words\n")
        return wall._one(case)

    try:
        for leave, found in ((leave_trace, trace.name), (leave_line, "loose words")):
            with monkeypatch.context() as patch:
                patch.setattr("tests.hostile.host.LEFT_SECONDS", 1.0)
                patch.setattr(fresh, "_one", leave)
                with pytest.raises(AssertionError, match=found):
                    fresh._run([culprit, also])
            for name in (culprit, also):
                with pytest.raises(AssertionError, match=found):
                    fresh.outcome(name)
            fresh._run([later])
            assert fresh.outcome(later).problems == []
        assert trace.exists() and log.exists()
    finally:
        for path in (trace, log):
            path.unlink(missing_ok=True)


@pytest.mark.parametrize("wall", EACH_WAY[:1], indirect=True)
def test_host_check_sees_leftovers(wall: Wall) -> None:
    """The control: each kind of trace that a program might leave is found."""
    uid = int(wall.stack.env["MAYFLY_UID_FIRST"]) + 7
    state = Path(wall.stack.env["MAYFLY_STATE_DIR"])
    eventually(lambda: wall.host.differences() == {}, "the host is as before")
    trace = Path("/tmp") / f"mayfly-trace-{uid}"
    trace.touch()
    os.chown(trace, uid, uid)
    daemon = subprocess.Popen(["sleep", "600"], user=uid)
    mounted = state / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(mounted)], check=True)
    log = wall.stack.directory / "worker-9.log"
    try:
        kinds = {"files", "processes", "mounts"}
        eventually(lambda: wall.host.differences().keys() == kinds, "each trace is found, and no other")
        wall.check_logs()
        for line in ("\x1b[31m", "Traceback (most recent call last):", json.dumps({"detail": FORGED}), "loose words"):
            log.write_text(line + "\n")
            with pytest.raises(AssertionError):
                wall.check_logs()
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
        daemon.kill()
        daemon.wait()
        for path in (trace, log):
            path.unlink(missing_ok=True)
        mounted.rmdir()
    eventually(lambda: wall.host.differences() == {}, "the host is as before")


def test_the_catalogue_is_whole() -> None:
    assert len(CASES) >= 100
    assert set(THEMES) == {table.THEME for table in TABLES}
    assert {case.aims_at for case in CASES.values()} <= AIMS
    assert {case.environment for case in CASES.values()} == set(MAIN)

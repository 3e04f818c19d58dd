"""Programs whose interpreter the agent starts ahead: its properties, and the conditions for a new process."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.environments import load_environments
from sandbox_image.agent.program import interpreter
from sandbox_image.build import ENVIRONMENTS
from tests.builders.agent import AGENT, SECONDS, Agent, unread
from tests.harness import eventually
from worker.agent.frames import FromAgent, ToAgent, encode
from worker.sandbox import bpf

# An interpreter that waits as wait.js does, then prints its request and its own state.
WAITING = """
import json, os, resource, sys
orders = json.load(os.fdopen(3))
if not orders.get("tools"):
    os.closerange(14, 16)
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps({
    "ahead": True, "orders": orders, "stdin": sys.stdin.read(), "session": os.getsid(0) == os.getpid(),
    "cpu": resource.getrlimit(resource.RLIMIT_CPU), "oom": open("/proc/self/oom_score_adj").read().strip(),
    "ignored": status["SigIgn"], "descriptors": sorted(os.listdir("/proc/self/fd")), "cwd": os.getcwd(),
    "dumpable": os.stat("/proc/self/fd").st_uid == os.getuid(),
}))
sys.exit(3)
"""
FRESH = "import json; print(json.dumps({'ahead': False}))"


def prepare(agent: Agent, program: str = WAITING) -> int:
    return agent.prepare(run=[sys.executable, "-c", program], fork=False, cpu_seconds=7.5)


def start(agent: Agent, **changed: Any) -> dict[str, Any]:
    fields = {"cpu_seconds": 7.5, "memory_bytes": 2**29, "args": ["a", "b"], "env": {**agent.env, "X": "1"}}
    agent.start(b"fed", run=[sys.executable, "-c", FRESH], **{**fields, **changed})
    result = agent.end()
    seen: dict[str, Any] = {**json.loads(result.stdout or b"{}"), "code": result.code, "stderr": result.stderr}
    return seen


def test_the_waiting_process_becomes_the_program(agent: Agent) -> None:
    prepare(agent)
    seen = start(agent)
    assert seen["stderr"] == b""
    assert (seen["ahead"], seen["code"], seen["stderr"], seen["stdin"]) == (True, 3, b"", "fed")
    assert seen["orders"] == {"args": ["a", "b"], "env": {**agent.env, "X": "1"}}
    assert (seen["session"], seen["dumpable"], seen["oom"], seen["cwd"]) == (True, True, "1000", agent.paths["work"])
    assert seen["cpu"] == [9, 9]
    assert int(seen["ignored"], 16) & (1 << signal.SIGTERM - 1) == 0  # which the agent ignores
    assert seen["descriptors"] == ["0", "1", "2", "3"]  # the last is that of the listing


@pytest.mark.parametrize(
    "changed",
    [
        {"cpu_seconds": 8},
        {"memory_bytes": 2**28},
        {"entrypoint": "/inputs/other.py"},
        {"env": {"NODE_OPTIONS": "--no-warnings"}},
        {"env": {"LANG": "C"}, "args": []},
        {"args": ["x" * 5000]},
        {"compile": ["/bin/true"]},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_program_incompatible_with_the_waiting_process_gets_a_new_process(
    agent: Agent, changed: dict[str, Any]
) -> None:
    prepare(agent)
    if "env" in changed:
        changed = {**changed, "env": {**agent.env, **changed["env"]}}
    seen = start(agent, **changed)
    assert (seen["ahead"], seen["code"]) == (False, 0)


FILTERS = {
    "bytes that are no filter": b"\xff" * 8,
    "a filter that the kernel refuses": bpf.INSTRUCTION.pack(bpf.LOAD, 0, 0, bpf.NUMBER),  # it never returns
    "half an instruction": b"\x06\x00",
}


@pytest.mark.parametrize("which", ["answers", "denial_log"])
@pytest.mark.parametrize("instructions", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("order", [ToAgent.PREPARE, ToAgent.START])
def test_no_program_starts_without_its_filters(agent: Agent, which: str, instructions: bytes, order: ToAgent) -> None:
    agent.write(order, {"answers": "", "denial_log": "", which: base64.b64encode(instructions).decode()})
    assert list(agent.frames) == []  # neither RUNNING nor EXIT: the host takes the end for the platform's fault
    assert agent.process.wait(SECONDS) == 123
    assert agent.process.stderr
    assert b"seccomp filter" in agent.process.stderr.read()


def test_program_with_other_filters_than_prepared_does_not_start(agent: Agent) -> None:
    everything = bpf.INSTRUCTION.pack(bpf.RETURN, 0, 0, bpf.RET_ALLOW)
    prepare(agent)
    agent.write(ToAgent.START, {"denial_log": base64.b64encode(everything).decode()})
    assert list(agent.frames) == []
    assert agent.process.wait(SECONDS) == 123


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may install a filter without giving up privileges")
def test_a_program_has_its_filters(agent: Agent) -> None:
    everything = base64.b64encode(bpf.INSTRUCTION.pack(bpf.RETURN, 0, 0, bpf.RET_ALLOW)).decode()
    count = "print(open('/proc/self/status').read().partition('Seccomp_filters:')[2].split()[0])"
    agent.start(run=[sys.executable, "-c", count], answers=everything, denial_log=everything)
    result = agent.end()
    own = Path("/proc/self/status").read_text().partition("Seccomp_filters:")[2].split()[0]
    assert (result.code, int(result.stdout)) == (0, int(own) + 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may install a filter without giving up privileges")
@pytest.mark.parametrize("ahead", [True, False], ids=["the fork that waits", "a new process"])
def test_a_start_that_names_no_filters_means_those_of_the_prepare(agent: Agent, ahead: bool) -> None:
    everything = base64.b64encode(bpf.INSTRUCTION.pack(bpf.RETURN, 0, 0, bpf.RET_ALLOW)).decode()
    agent.prepare(answers=everything, denial_log=everything)
    agent.input("main.py", "print(open('/proc/self/status').read().partition('Seccomp_filters:')[2].split()[0])")
    agent.start(denial_log=None, cpu_seconds=SECONDS if ahead else 8)
    own = Path("/proc/self/status").read_text().partition("Seccomp_filters:")[2].split()[0]
    assert int(agent.end().stdout) == int(own) + 2


def test_dead_waiting_process_is_replaced(agent: Agent) -> None:
    prepare(agent, "raise SystemExit(9)")
    children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
    states = Path("/proc")
    eventually(
        lambda: [one for one in children.read_text().split() if "Z (" in (states / one / "status").read_text()],
        "the waiting process is dead",
    )
    seen = start(agent)
    assert (seen["ahead"], seen["code"]) == (False, 0)


def test_a_waiting_process_ends_with_its_host(agent: Agent) -> None:
    waiting = prepare(agent)
    assert agent.process.stdin
    agent.process.stdin.close()
    assert agent.process.wait(SECONDS) == 125
    with pytest.raises(ProcessLookupError):
        os.kill(waiting, 0)


def test_unprepared_program_starts_in_a_new_process(agent: Agent) -> None:
    assert start(agent)["ahead"] is False


IDENTITY = "import os, sys; print(os.getpid(), 'resource' in sys.modules, len(os.listdir('/proc/self/fd')))"


def test_a_python_program_is_forked_ahead(agent: Agent) -> None:
    waiting = agent.prepare()
    agent.input("main.py", IDENTITY)
    agent.start()
    assert agent.end().stdout == f"{waiting} True 4\n".encode()


@pytest.mark.parametrize(
    ("changed", "forked"),
    [
        ({"cpu_seconds": 8}, True),
        ({"memory_bytes": 2**28}, True),
        ({"args": ["x" * 5000]}, True),
        ({"fork": False}, False),
    ],
    ids=["cpu_seconds", "memory_bytes", "args", "fork"],
)
def test_program_incompatible_with_the_waiting_fork_gets_a_new_process(
    agent: Agent, changed: dict[str, Any], forked: bool
) -> None:
    waiting = agent.prepare()
    agent.input("main.py", IDENTITY)
    agent.start(**changed)
    pid, as_forked, _ = agent.end().stdout.decode().split()
    assert (int(pid) != waiting, as_forked) == (True, str(forked))


@pytest.mark.parametrize("env", [{"LANG": "C.UTF-8", "PYTHONHASHSEED": "1"}, {"LANG": "C"}])
def test_waiting_fork_executes_a_new_interpreter_for_other_variables(agent: Agent, env: dict[str, str]) -> None:
    waiting = agent.prepare()
    agent.input("main.py", IDENTITY)
    agent.start(env=env)
    assert agent.end().stdout == f"{waiting} False 4\n".encode()


def test_resources_of_a_replaced_process_are_not_charged_to_the_program(agent: Agent) -> None:
    use = "while time.process_time() < 0.5: pass"
    prepare(agent, f"import time\n{use}\nopen('/proc/self/comm', 'w').write('done')\ntime.sleep(60)")
    children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
    eventually(
        lambda: Path(f"/proc/{children.read_text().split()[0]}/comm").read_text() == "done\n",
        "the waiting process has used its CPU time",
    )
    agent.start(run=["/bin/true"], cpu_seconds=0.4)  # less than the replaced process has used
    result = agent.end()
    assert (result.exit["stopped"], result.code) == (None, 0)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """``first``, which reports its loading and waits for a signal; a broken module; and ``second``."""
    path = tmp_path / "modules"
    path.mkdir()
    wait = "while not os.path.exists(here + '/go'): time.sleep(0.01)"
    (path / "first.py").write_text(
        f"import os, time\nhere = os.path.dirname(__file__)\nopen(here + '/begun', 'w').close()\n{wait}\n"
    )
    (path / "broken.py").write_text("1 / 0")
    (path / "second.py").write_text("import os\nopen(os.path.dirname(__file__) + '/done', 'w').close()\n")
    return path


@pytest.fixture
def idle(modules: Path, tmp_path: Path) -> Iterator[Agent]:
    started = Agent(tmp_path / "idle", preload=(), PYTHONPATH=str(modules))
    assert next(started.frames).kind is FromAgent.READY
    yield started
    started.close()


LOADED = "import os, sys; print(os.getpid(), *sorted({'first', 'broken', 'second', 'json'} & sys.modules.keys()))"
IDLE = ("first", "broken", "second")


def test_waiting_fork_preloads_modules(idle: Agent, modules: Path) -> None:
    (modules / "go").touch()
    waiting = idle.prepare(preload=IDLE)
    eventually((modules / "done").exists, "every module is loaded")
    idle.input("main.py", LOADED)
    idle.start()
    assert idle.end().stdout == f"{waiting} first second\n".encode()


def test_fork_needed_at_once_preloads_nothing(idle: Agent) -> None:
    waiting = idle.prepare(preload=IDLE, idle_seconds=SECONDS)
    idle.input("main.py", LOADED)
    idle.start()
    assert idle.end().stdout == f"{waiting}\n".encode()


def test_fork_needed_during_preloading_stops_preloading(idle: Agent, modules: Path) -> None:
    waiting = idle.prepare(preload=IDLE)
    eventually((modules / "begun").exists, "the first module is being loaded")
    idle.input("main.py", LOADED)
    with Path(f"/proc/{waiting}/fd/3").open("rb") as start_frames:
        idle.start()
        eventually(lambda: unread(start_frames), "the start request is in the pipe")
    (modules / "go").touch()
    assert idle.end().stdout == f"{waiting} first\n".encode()


def test_module_beside_the_program_wins_over_module_loaded_by_the_fork(idle: Agent, modules: Path) -> None:
    (modules / "go").touch()
    idle.prepare(preload=IDLE)
    eventually((modules / "done").exists, "every module is loaded")
    idle.input("second.py", "mine = True")
    idle.input("main.py", "import second; print(second.mine)")
    idle.start()
    assert idle.end().stdout == b"True\n"


def test_rehearsal_prints_nothing(agent: Agent) -> None:
    agent.prepare()
    agent.input("main.py", "print('here')")
    agent.start()
    result = agent.end()
    assert (result.stdout, result.stderr) == (b"here\n", b"")


def faults(agent: Agent) -> int:
    """Pages that the agent had to be given so far."""
    return int(Path(f"/proc/{agent.process.pid}/stat").read_text().rpartition(")")[2].split()[7])


def faults_of_an_execution(agent: Agent) -> int:
    before = faults(agent)
    agent.input("main.py", "print('here')")
    agent.start()
    for frame in agent.frames:
        if frame.kind is FromAgent.EXIT:
            break
    return faults(agent) - before


def rests(agent: Agent) -> bool:
    """Whether the agent itself waits for its host."""
    status = Path(f"/proc/{agent.process.pid}")
    return "S (" in (status / "status").read_text() and not list(Path(agent.paths["tmp"]).iterdir())


def test_agent_has_faulted_its_pages_before_a_program_arrives(agent: Agent, tmp_path: Path) -> None:
    unprepared = Agent(tmp_path / "unprepared")
    assert next(unprepared.frames).kind is FromAgent.READY
    wanted = faults_of_an_execution(unprepared)
    unprepared.close()
    before = faults(agent)
    agent.prepare()
    eventually(lambda: faults(agent) - before > wanted / 4 and rests(agent), "the agent has rehearsed")
    assert faults_of_an_execution(agent) < wanted / 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the agent's descriptors")
def test_rehearsal_leaves_no_files(agent: Agent) -> None:
    def descriptors() -> list[str]:
        return sorted(os.listdir(f"/proc/{agent.process.pid}/fd"))

    before, children = descriptors(), Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
    agent.prepare()
    kept = 6  # of the pipes to the process that waits
    eventually(lambda: len(descriptors()) == len(before) + kept and rests(agent), "the agent has rehearsed")
    assert len(children.read_text().split()) == 1
    agent.input("main.py", "import os, sys; print(*(sorted(os.listdir(path)) for path in sys.argv[1:]))")
    agent.start(args=[agent.paths[name] for name in ("work", "tmp", "output")])
    result = agent.end()
    assert result.stdout == b"['inputs', 'main.py'] [] []\n"
    assert result.kinds == [FromAgent.RUNNING, FromAgent.STDOUT, FromAgent.EXIT]


def test_rehearsal_clears_directories_that_the_host_has_added(agent: Agent) -> None:
    """The host describes a program's tools beside the identity, possibly while the agent rehearses."""
    stub = Path(agent.paths["identity"], "tools", "github", "list.py")
    stub.parent.mkdir(parents=True)
    stub.write_text("...")
    agent.prepare()
    agent.input("main.py", "print('here')")
    eventually(lambda: rests(agent), "the agent has rehearsed")
    agent.start()
    assert (agent.end().stdout, stub.read_text()) == (b"here\n", "...")


def test_agent_needed_at_once_does_not_rehearse(agent: Agent) -> None:
    """Otherwise a burst would pay for the rehearsals of its own containers."""
    scratch = Path(agent.paths["tmp"])
    scratch.rmdir()  # so that a rehearsal would fail, and the agent with it
    entrypoint = f"{agent.paths['work']}/main.py"
    fixed: dict[str, Any] = {
        "run": [sys.executable, entrypoint],
        "fork": True,
        "entrypoint": entrypoint,
        "env": agent.env,
    }
    fixed |= {"cpu_seconds": SECONDS, "memory_bytes": 2**29, "denial_log": "", "preload": (), "idle_seconds": 0.0}
    rest: dict[str, Any] = {"args": [], "compile": None, "wall_seconds": SECONDS, "artifacts": [], "artifact_bytes": 0}
    rest |= {"artifact_files": 0, "copy_bytes": 0}
    # The agent looks at the directory when the program has ended: the program waits until it exists again.
    agent.input("main.py", f"import os\nprint('here', flush=True)\nwhile not os.path.isdir({str(scratch)!r}): pass")
    assert agent.process.stdin
    start_frames = encode(ToAgent.PREPARE, fixed) + encode(ToAgent.START, {**fixed, **rest}) + encode(ToAgent.STDIN)
    agent.process.stdin.write(start_frames)
    agent.process.stdin.flush()
    seen = []
    for frame in agent.frames:
        seen.append(frame.kind)
        if frame.kind is FromAgent.STDOUT:
            scratch.mkdir()
        if frame.kind is FromAgent.EXIT:
            break
    assert seen == [FromAgent.RUNNING, FromAgent.STDOUT, FromAgent.EXIT]


def test_dead_waiting_fork_is_replaced(agent: Agent) -> None:
    waiting = agent.prepare()
    os.kill(waiting, signal.SIGKILL)
    process = Path(f"/proc/{waiting}")

    def is_dead() -> bool:
        """Whether all its threads have ended; an agent that rehearses meanwhile has reaped it."""
        try:
            return "Z (" in (process / "status").read_text() and len(list((process / "task").iterdir())) == 1
        except (FileNotFoundError, ProcessLookupError):
            return True

    eventually(is_dead, "the waiting process is dead")
    agent.input("main.py", "print('here')")
    agent.start()
    assert agent.end().stdout == b"here\n"


# The agent's module in a process of its own, which reaps as a rehearsal does.
REAPED = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
import execution, program
prepared = json.loads(sys.argv[2])
ahead = program.Ahead(prepared)
os.kill(ahead.forked[0], signal.SIGKILL)
print(execution.reap()[0] == ahead.forked[0], ahead.takes({**prepared, "args": [], "compile": None}))
"""


def test_waiting_process_reaped_by_the_rehearsal_is_not_taken() -> None:
    prepared = {"run": [sys.executable, "main.py"], "fork": True, "entrypoint": "main.py", "env": {}}
    prepared |= {"cpu_seconds": SECONDS, "memory_bytes": 2**29, "denial_log": "", "preload": (), "idle_seconds": 0.0}
    command = [sys.executable, "-c", REAPED, str(AGENT.parent), json.dumps(prepared)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True False\n"


def test_only_commands_that_wait_are_declared() -> None:
    declared = {name: one.spawn for name, one in load_environments([ENVIRONMENTS]).items() if one.spawn}
    assert declared == {"node": ("/usr/bin/node", "--require", "/usr/lib/mayfly/wait.js", "{entrypoint}")}


def test_no_module_of_the_agent_is_left_for_programs() -> None:
    files = {path.stem for path in AGENT.parent.glob("*.py")}
    assert set(interpreter.AGENT_MODULES) == files - {"__init__", "agent", "fresh", "tool_calls", "tools", "wait"}

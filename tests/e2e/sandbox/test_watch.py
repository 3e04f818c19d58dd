"""A blocked action is an event on the right execution, within a second, for any end of the program."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ROOT, Process, Stack, eventually
from worker.attempt.incidents import MAX_DENIALS
from worker.sandbox.syscalls import number_of

CHILD = """
import ctypes, os
libc = ctypes.CDLL(None)
pid = os.fork()
if pid == 0:
    libc.syscall({number}, 0, 0, 0, 0, 0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
LINGER = "\nimport sys\nsys.stdin.read()\n"  # until the test has seen the event


def held(stack: Stack, code: str, kind: str, printed: str = "", **limits: Any) -> dict[str, Any]:
    """Run a program that ends when its output and an event of that kind were seen.

    On a busy machine the kernel's records come late, and behind the end they are not counted.
    """
    body: dict[str, Any] = {"environment": "python", "code": code + LINGER, "stdin": {"stream": True}}
    id = stack.submit(**body, limits={"wall_seconds": 120, **limits}).json()["id"]
    (event, *_) = eventually(lambda: stack.security(id), f"{kind} is reported")
    assert event["kind"] == kind
    eventually(lambda: (stack.show(id)["stdout"] or "") == printed, f"the program has printed {printed!r}")
    assert stack.show(id)["state"] == "running"
    assert stack.client.post(f"/api/v1/executions/{id}/stdin", params={"end": "true"}).status_code == 202
    return stack.ended(id)


def number(name: str) -> int:
    found = number_of(name, platform.machine())
    assert found is not None
    return found


def test_a_childs_end_by_the_filter_is_an_event_though_the_program_succeeds(stack: Stack) -> None:
    ended = held(stack, CHILD.format(number=number("ptrace")), "seccomp_violation", "-31\n")
    assert (ended["state"], ended["stdout"], ended["facts"]["seccomp_kills"]) == ("succeeded", "-31\n", 1)
    (event,) = stack.security(ended["id"], "seccomp_violation")
    assert (event["kind"], event["syscall"], event["killed"]) == ("seccomp_violation", "ptrace", True)
    assert (event["attribution"], event["process"]) == ("kernel", "python3")
    assert stack.run(code="print(1)")["security_events"] == 0  # the control


def test_the_network_is_denied_with_advice(stack: Stack) -> None:
    code = """
import socket
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
    try:
        socket.socket(family)
    except PermissionError:
        print("denied")
socket.socketpair()
"""
    ended = held(stack, code, "network_attempt", "denied\n" * 3)
    assert (ended["state"], ended["stdout"]) == ("succeeded", "denied\n" * 3)
    first, total = stack.security(ended["id"])
    assert (first["kind"], first["syscall"], first["count"]) == ("network_attempt", "socket", 1)
    assert (total["kind"], total["count"]) == ("network_attempt", 2)  # netlink only looks at interfaces
    assert "Send the data as an input file, or ask for a tool." in first["detail"]


BLOCKED: dict[str, dict[str, Any]] = {
    "seccomp_violation": {"code": CHILD.format(number=number("bpf")), "printed": "-31\n"},
    "network_attempt": {"code": "import socket\ntry: socket.socket()\nexcept OSError: pass\n"},
    "oom_killed": {
        "code": "import os\nif os.fork() == 0: x = bytearray(300 * 2**20)\nos.wait()",
        "memory_bytes": 128 * 2**20,
    },
    "pids_limit": {
        "code": "import os, time\nfor _ in range(20):\n try:\n  if os.fork() == 0: time.sleep(9)\n"
        " except OSError: pass\n",
        "processes": 8,
    },
    "disk_limit": {
        "code": "f = open('/tmp/f', 'wb')\ntry:\n while True: f.write(bytes(2**20)); f.flush()\nexcept OSError: pass\n",
        "disk_bytes": 4 * 2**20,
    },
}


@pytest.mark.parametrize("kind", BLOCKED)
def test_event_comes_while_the_program_runs(stack: Stack, kind: str) -> None:
    ended = held(stack, kind=kind, **BLOCKED[kind])
    assert ended["state"] == "succeeded"
    assert {event["kind"] for event in stack.security(ended["id"])} == {kind}


def test_each_event_is_attributed_to_its_execution(stack: Stack) -> None:
    names = ["ptrace", "bpf", "mount", "keyctl", "unshare", "reboot", "perf_event_open", "setns"]
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda name: stack.run(code=CHILD.format(number=number(name))), names))
    for name, execution in zip(names, ended, strict=True):
        assert [event["syscall"] for event in stack.security(execution["id"], "seccomp_violation")] == [name]


@pytest.mark.alone  # its flood is to last as long as the other program
def test_flood_of_denials_hides_no_other_denial(stack: Stack) -> None:
    flood = "import socket\nwhile True:\n try: socket.socket()\n except OSError: pass"
    with ThreadPoolExecutor(4) as pool:
        floods = [pool.submit(stack.run, code=flood, limits={"wall_seconds": 20}) for _ in range(4)]
        ended = [pool.submit(stack.run, code=CHILD.format(number=number("ptrace"))) for _ in range(4)]
    for execution in ended:  # a slow machine reads it behind the floods' records
        found = stack.security(execution.result()["id"], "seccomp_violation")
        assert [event["syscall"] for event in found] == ["ptrace"]
    for execution in floods:  # each is ended: what it costs is time of the host's that no cgroup counts
        flooded = execution.result()
        assert (flooded["reason"], flooded["facts"]["killed"]) == ("security_violation", "denials")
        first, end, total = stack.security(flooded["id"])
        assert (first["count"], total["count"] > MAX_DENIALS) == (1, True)
        assert (end["kind"], end["attribution"], end["limit"]) == ("seccomp_violation", "host", MAX_DENIALS)


@pytest.mark.alone  # each of its denials is to have a record, which floods in other lanes can push out
def test_program_within_its_denial_limit_is_not_ended(stack: Stack) -> None:
    code = f"import socket\nfor _ in range({MAX_DENIALS}):\n try: socket.socket()\n except OSError: pass\nprint()"
    ended = held(stack, code, "network_attempt", "\n")
    assert ended["state"] == "succeeded"
    assert [event["count"] for event in stack.security(ended["id"])] == [1, MAX_DENIALS]


def test_the_filters_signal_sent_by_the_program_itself_is_no_violation(stack: Stack) -> None:
    ended = stack.run(code="import os; os.kill(os.getpid(), 31)")
    assert (ended["reason"], ended["signal"], ended["security_events"]) == ("signalled", "SIGSYS", 0)
    ended = stack.run(code=f"import ctypes; ctypes.CDLL(None).syscall({number('ptrace')}, 0, 0, 0, 0)")
    assert (ended["reason"], ended["signal"], ended["security_events"]) == ("security_violation", "SIGSYS", 1)


def without(*capabilities: str) -> list[str]:
    dropped = ",".join(f"-{name}" for name in capabilities)
    return ["setpriv", "--bounding-set", dropped, "--inh-caps", dropped]


@pytest.mark.alone  # all the machine shares that log's ten lines in 5 seconds
def test_the_kernel_log_serves_where_audit_does_not(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=0)
    stack.start_worker(*without("audit_read"))
    stack.ready()
    assert [worker["attribution"] for worker in stack.fleet()] == ["kernel log"]

    def reported() -> (
        bool
    ):  # of what other tests had denied just before, the log may have kept its ten lines in 5 seconds
        ended = stack.run(code=CHILD.format(number=number("ptrace")))
        return [event["attribution"] for event in stack.security(ended["id"])] == ["kernel"]

    eventually(reported, "the kernel log has room for a line again")
    ended = stack.run(code="import os; os.kill(os.getpid(), 31)")
    assert (ended["reason"], ended["facts"]["seccomp_kills"]) == ("security_violation", None)
    (event,) = stack.security(ended["id"])
    assert event["attribution"] == "inferred"  # a missing line proves nothing: the log leaves lines out


def test_denial_is_marked_inferred_without_audit_and_kernel_log(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=0)
    stack.start_worker(*without("audit_read", "syslog"))
    stack.ready()
    (worker,) = stack.fleet()
    assert worker["attribution"] == "reduced"
    assert worker["id"] in stack.client.get("/readyz").json()["details"]["attribution"]
    ended = stack.run(code=f"import ctypes; ctypes.CDLL(None).syscall({number('ptrace')}, 0, 0, 0, 0)")
    assert (ended["reason"], ended["facts"]["seccomp_kills"]) == ("security_violation", None)
    (event,) = stack.security(ended["id"])
    assert (event["kind"], event["attribution"]) == ("seccomp_violation", "inferred")
    assert "syscall" not in event


WEAK_RUNTIME = """#!/usr/bin/python3
import json, os, sys
# As the engine asked, but without the filter.
if "--bundle" in sys.argv:
    path = os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "config.json")
    config = json.load(open(path))
    if "seccomp" in config["linux"] and "create" in sys.argv:
        del config["linux"]["seccomp"]
        json.dump(config, open(path, "w"))
os.execvp("runc", ["runc", *sys.argv[1:]])
"""


def test_weaker_container_is_refused_and_reported(
    own_engine: tuple[str, Callable[..., Process]], own_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    weak = tmp_path / "weak-runtime"
    weak.write_text(WEAK_RUNTIME)
    weak.chmod(0o755)
    url, start_engine = own_engine
    start_engine("--add-runtime", f"weak={weak}")
    only = tmp_path / "environments"  # so that the engine need not load every image
    only.mkdir()
    shutil.copy(ROOT / "sandbox_image" / "environments" / "python.toml", only)
    # Two attempts fail; a third failure would have the worker wait for its host to be mended.
    few: dict[str, Any] = {"pool_sizes": {}, "max_attempts": 2}
    stack = own_stack(docker_url=url, standard_runtime="weak", environments_dirs=[str(only)], **few).start()
    ended = stack.run(code="print(1)")
    assert (ended["state"], ended["reason"], ended["fault"]) == ("errored", "runtime_unavailable", "platform")
    assert (ended["stdout"], ended["message"]) == ("", "The sandbox is weaker than its profile: seccomp.")
    reported = stack.security(ended["id"])
    assert {event["kind"] for event in reported} == {"weak_container"}
    assert len(reported) == ended["attempt"] == 2
    stack.start_worker(MAYFLY_POOL_SIZES=json.dumps({"python": 1}))

    def of_the_pool() -> bool:
        found = stack.client.get("/api/v1/security-events", params={"type": "weak_container"}).json()["items"]
        return any(item.get("subject") is None for item in found)

    eventually(of_the_pool, "a weak container of the pool is reported, too", 120)

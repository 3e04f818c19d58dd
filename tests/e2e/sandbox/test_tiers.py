"""The same contract under every runtime the engine has; where gVisor differs, the test says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.builders.sandboxes.endings import PROGRAMS
from tests.builders.tier import Tier
from tests.e2e.sandbox.attempts import ATTEMPTS
from tests.harness import ROOT, Process, Stack, eventually
from tests.selection import ways

MIB = 2**20


# --- The contract -----------------------------------------------------------------------------------------------------

WHOLE = """
import pathlib, sys
data = pathlib.Path("inputs/data/in.txt").read_text()
pathlib.Path("/output/up.txt").write_text(data.upper())
pathlib.Path("/output/deep").mkdir()
pathlib.Path("/output/deep/raw.bin").write_bytes(bytes(range(256)) * 1000)
print(sys.argv[1:], input(), data)
print("err", file=sys.stderr)
sys.exit(7)
"""


def test_program_gets_all_inputs_and_returns_all_outputs(tier: Tier) -> None:
    files = [{"path": "main.py", "content": WHOLE}, {"path": "data/in.txt", "content": "text"}]
    ended = tier.run(files=files, entrypoint="main.py", args=["a", "b c"], stdin="line\n", env={"X": "1"})
    assert (ended["isolation"], ended["runtime"]) == (tier.isolation, tier.runtime)
    assert (ended["state"], ended["reason"], ended["exit_code"]) == ("failed", "nonzero_exit", 7)
    assert (ended["stdout"], ended["stderr"]) == ("['a', 'b c'] line text\n", "err\n")
    assert tier.stack.artifact(ended, "up.txt") == b"TEXT"
    assert tier.stack.artifact(ended, "deep/raw.bin") == bytes(range(256)) * 1000
    assert ended["security_events"] == 0
    assert ended["usage"]["cpu_seconds"] > 0
    assert ended["usage"]["peak_memory_bytes"] > 5 * MIB
    assert (ended["usage"]["peak_processes"] is None) == (tier.isolation == "hardened")  # gVisor's threads


LANGUAGES = {
    "node": "const fs = require('fs'); fs.writeFileSync('/output/n', 'x'); setTimeout(() => console.log([1, 2]), 10)",
    "bash": "seq 3 | sort -r | tr '\\n' ' '; echo $((6 * 7)) > /output/n; cat <(echo sub)",
    "python-data": "import numpy, pandas as p\nprint(p.Series(numpy.arange(4)).sum()); open('/output/n', 'w')",
}
PRINTED = {"node": "[ 1, 2 ]\n", "bash": "3 2 1 sub\n", "python-data": "6\n"}


@pytest.mark.parametrize("environment", LANGUAGES)
def test_every_environment_runs(tier: Tier, environment: str) -> None:
    limits = {"wall_seconds": 30, "cpu_seconds": 30}
    ended = tier.run(environment, code=LANGUAGES[environment], limits=limits)
    assert (ended["state"], ended["stdout"], ended["stderr"]) == ("succeeded", PRINTED[environment], ""), ended
    assert [artifact["path"] for artifact in ended["artifacts"]] == ["n"]


def test_threads_processes_and_signals(tier: Tier) -> None:
    code = """
import multiprocessing, os, signal, subprocess, sys, threading
if __name__ == "__main__":
    seen = []
    threads = [threading.Thread(target=seen.append, args=(n,)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    with multiprocessing.Pool(2) as pool:
        print(sum(seen), sum(pool.map(abs, range(-9, 1))))
    print(subprocess.run([sys.executable, "-c", "print(input())"], input="in", text=True, capture_output=True).stdout)
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(5))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    signal.pause()
"""
    ended = tier.run(code=code, limits={"cpu_seconds": 20})
    assert (ended["stdout"], ended["stderr"], ended["exit_code"]) == ("28 45\nin\n\n", "", 5)


# --- Limits and reasons -----------------------------------------------------------------------------------------------

# Ends that gVisor does not distinguish: it refuses a process without counting that it did, answers forbidden calls
# itself, and ends as a whole when its memory is used up.
IN_GVISOR: dict[str, tuple[str, str | None, str | None, dict[str, Any]]] = {
    "processes": ("failed", "nonzero_exit", "user", {"exit_code": 1}),
    "forbidden system call": ("succeeded", None, None, {"exit_code": 0}),
    "memory in a child": ("failed", "oom_killed", "user", {"exit_code": 137}),
}
# Inodes are not counted in gVisor: they cost memory, whose limit holds. The compiled ones need an image of the tests.
LEFT_OUT = {"success", "exit code", "inodes", "compile error", "compiled program"}


# runc's are all in test_reasons
@pytest.mark.parametrize("tier", ways("docker-crun", "docker-runsc", "oci-crun", "oci-runsc"), indirect=True)
def test_execution_ends_with_the_expected_reason(tier: Tier) -> None:
    cases = {case[0]: case for case in PROGRAMS if case[0] not in LEFT_OUT}
    ends = tier.run_all({name: case[1] for name, case in cases.items()})
    for name, case in cases.items():
        state, reason, fault, more = IN_GVISOR.get(name, case[2:]) if tier.isolation == "hardened" else case[2:]
        found = ends[name]
        assert (state, reason, fault) == (found["state"], found["reason"], found["fault"]), (name, found)
        assert more == {field: found[field] for field in more}, (name, found)


def test_limits_hold_to_the_number(tier: Tier) -> None:
    code = """
import errno, json, os, resource, time
found = {}
def until_refused(name, action):
    count = 0
    try:
        while count < 100_000:
            action(count)
            count += 1
    except OSError as error:
        found[name] = [count, errno.errorcode[error.errno]]
def fork(count):
    if os.fork() == 0:
        time.sleep(60)
with open("/work/full", "wb", buffering=0) as full:
    until_refused("blocks", lambda count: full.write(bytes(4096)))
os.unlink("/work/full")
until_refused("open files", lambda count: os.open("/dev/null", os.O_RDONLY))
os.closerange(3, 2000)
until_refused("processes", fork)
print(json.dumps(found))
"""
    limits = {"processes": 6, "disk_bytes": 2 * MIB, "wall_seconds": 60, "cpu_seconds": 30}
    ended = tier.run(code=code, limits=limits)
    assert ended["state"] == "succeeded", ended
    found = json.loads(ended["stdout"])
    assert found["blocks"][0] == 511  # and the copy of the program
    assert found["blocks"][1] in ("ENOSPC", "EFBIG")  # /work as a whole, or one file: both end at disk_bytes
    assert found["open files"] == [1024 - 3, "EMFILE"]
    assert found["processes"] == [5, "EAGAIN"]  # and the program itself


def test_cpu_seconds_come_from_the_cgroup(tier: Tier) -> None:
    code = "while True: pass"
    ended = tier.run(code=code, limits={"cpu_seconds": 1, "cpu_cores": 0.5, "wall_seconds": 50})
    assert ended["reason"] == "cpu_exceeded", ended
    assert ended["usage"]["cpu_seconds"] > 0.9
    assert ended["usage"]["wall_seconds"] > 1.8  # half a processor


# --- Whose word counts ------------------------------------------------------------------------------------------------

FORGE = """
import json, os, signal, struct, sys, time
def frame(kind, payload):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return struct.pack(">cI", kind, len(body)) + body
def ended(code, **more):
    facts = {"exit_code": code, "signal": None, "stopped": None, "disk_full": [], "unrouted": 0}
    return frame(b"X", {**facts, **more})
def say(data):
    try:
        with open("/proc/1/fd/1", "wb", buffering=0) as pipe:
            pipe.write(data)
    except OSError:
        pass  # the agent's descriptors are closed to us
def leave(code):
    os._exit(code)
"""
# Programs, and the exit code of the engine for those that end before they are ended.
FORGERIES: dict[str, tuple[str, int | None]] = {
    "success of a failure": ("say(ended(0)); leave(1)", 1),
    "failure of a success": ("say(ended(1)); leave(0)", 0),
    "its own success, early": ("say(ended(0)); time.sleep(0.5); leave(0)", 0),
    "a time-out": ("say(ended(124, stopped='wall')); time.sleep(0.5); leave(124)", 124),
    "use of CPU time": ("say(ended(124, stopped='cpu')); leave(124)", 124),
    "a signal": ("say(ended(1, signal=31)); leave(1)", 1),
    "a failed compilation": ("say(frame(b'C', {'exit_code': 1, 'wall_seconds': 0})); time.sleep(9)", None),
    "a second start": ("say(frame(b'G', {})); time.sleep(9)", None),
    "a report of itself": ("say(frame(b'R', {'uid': 0})); time.sleep(9)", None),
    "output after the end": ("say(frame(b'J', {'path': 'x', 'why': 'fifo'}) + frame(b'O', b'x')); time.sleep(9)", None),
    "no frame at all": ("say(b'#' * 100); time.sleep(9)", None),
}


@pytest.mark.parametrize("tier", ways("docker-runc", "docker-runsc", "oci-crun", "oci-runsc"), indirect=True)
def test_forged_frame_gains_no_privilege(tier: Tier) -> None:
    # Programs that continue are to be stopped soon; the others end by themselves.
    seconds = {what: 4 if exit_code is None else 60 for what, (_, exit_code) in FORGERIES.items()}
    ends = tier.run_all({
        what: {"code": FORGE + program, "limits": {"wall_seconds": seconds[what]}}
        for what, (program, _) in FORGERIES.items()
    })  # fmt: skip
    expected: dict[str, tuple[str | None, int | None]] = {
        # Without an exit code: the program could not write at all, and continued.
        what: ("timed_out", None) if code is None else ("nonzero_exit" if code else None, code)
        for what, (_, code) in FORGERIES.items()
    }
    found = {
        what: (one["reason"], one["exit_code"] if expected[what][1] is not None else None) for what, one in ends.items()
    }
    assert found == expected


def test_stopped_or_killed_agent_ends_its_execution(tier: Tier) -> None:
    """A program can stop or kill its agent in neither tier: the agent continues, and ends the program itself."""
    signal = "try: os.kill(1, {})\nexcept PermissionError: pass\n"
    stopping = "import os, time\n" + signal.format(19) + "open('/output/kept', 'w').close()\ntime.sleep(30)"
    ends = tier.run_all({
        "killed": {"code": "import os\n" + signal.format(9) + "print('still here')"},
        "stopped": {"code": stopping, "limits": {"wall_seconds": 4}},
    })  # fmt: skip
    killed, stopped = ends["killed"], ends["stopped"]
    assert (stopped["state"], stopped["reason"], stopped["fault"]) == ("failed", "timed_out", "user")
    assert [artifact["path"] for artifact in stopped["artifacts"]] == ["kept"], "the agent has collected it"
    assert (killed["state"], killed["stdout"]) == ("succeeded", "still here\n")


def test_files_belong_to_the_program_and_are_collected_in_any_mode(tier: Tier) -> None:
    code = """
import os, pwd
owners = {os.stat(path).st_uid for path in ("/work", "/tmp", "/output", "/work/main.py")}
print(pwd.getpwuid(os.getuid()).pw_name, owners == {os.getuid()}, flush=True)
open("/work/main.py", "a").close()
print("again", file=open("/dev/stdout", "w"))
open("/output/private", "w").write("private")
os.chmod("/output/private", 0o600)
open("/work/result", "w").write("result")
os.chmod("/work/result", 0o600)
for name in ("/output/shut", "/output/unsearchable"):
    os.mkdir(name)
    open(name + "/lost", "w").close()
os.chmod("/output/shut", 0)
os.chmod("/output/unsearchable", 0o400)
open("/output/unreadable", "w").close()
os.chmod("/output/unreadable", 0)
"""
    ended = tier.run(code=code)
    assert (ended["stdout"], ended["state"]) == ("sandbox True\nagain\n", "succeeded"), ended
    assert {artifact["path"]: artifact["size"] for artifact in ended["artifacts"]} == {"private": 7, "result": 6}
    rejected = {one["path"]: one["reason"] for one in ended["artifacts_rejected"]}
    assert rejected == dict.fromkeys(("shut", "unsearchable", "unreadable"), "unreadable")


# --- The walls --------------------------------------------------------------------------------------------------------

REACH = """
def connect(host):
    with socket.create_connection((host, 53), timeout=2):
        return "connected"
def loopback():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 2) as one:
        one.sendall(b"x")
        return server.accept()[0].recv(1)
families = ("AF_PACKET", "AF_VSOCK", "AF_ALG", "AF_BLUETOOTH", "AF_CAN", "AF_TIPC", "AF_RDS", "AF_XDP")
for name, family in {**{n: getattr(socket, n, 44) for n in families}, "raw": 2, "raw6": 10}.items():
    attempt(name, lambda: socket.socket(family, socket.SOCK_RAW))
for host in ("1.1.1.1", "172.17.0.1", "169.254.169.254", "::ffff:1.1.1.1", "2606:4700::1111"):
    attempt(host, lambda: connect(host))
attempt("datagram", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("8.8.8.8", 53)))
attempt("loopback", loopback)
found["interfaces"] = [name for _, name in socket.if_nameindex()] if found["loopback"] == "b'x'" else ["lo"]
attempt("agent memory", lambda: open("/proc/1/mem", "rb"))
attempt("write root", lambda: open("/x", "w"))
attempt("write inputs", lambda: open("/inputs/main.py", "a"))
attempt("write sysctl", lambda: open("/proc/sys/kernel/shmmax", "w"))
def device(kind, major, minor):
    path = f"/work/{kind}-{major}-{minor}"
    os.mknod(path, 0o600 | kind, os.makedev(major, minor))  # gVisor makes the node, and has no such device
    return os.open(path, os.O_RDWR)
nodes = [(0o020000, 1, 1), (0o020000, 1, 11), (0o060000, 8, 0), (0o060000, 254, 0), (0o020000, 10, 232)]
for kind, major, minor in nodes:
    attempt(f"device {kind} {major} {minor}", lambda: device(kind, major, minor))
attempt("root", lambda: os.setuid(0))
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000) == 0:  # gVisor has user namespaces; they give nothing outside of itself
    attempt("mount", lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, b""))
    attempt("raw in a namespace", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).bind(("eth0", 0)))
    attempt("agent memory in a namespace", lambda: open("/proc/1/mem", "rb"))
print(json.dumps(found))
"""


def test_no_outside_address_can_be_reached(tier: Tier) -> None:
    if tier.isolation == "standard":
        # Some of these families are tripwires there, which end the program: test_isolation.py has them.
        pytest.skip("the standard tier's walls have tests of their own")
    ended = tier.run(code=ATTEMPTS + REACH)
    assert ended["state"] == "succeeded", ended
    found = json.loads(ended["stdout"])
    assert found.pop("loopback") == "b'x'"  # the control: sockets as such work, and lead nowhere
    assert found.pop("interfaces") == ["lo"]
    assert found.pop("mount", "-1") == "-1"
    assert set(found.values()) <= {"OSError", "PermissionError"}, found


# --- Tiers that a worker offers ---------------------------------------------------------------------------------------


def doctor(stack: Stack) -> dict[str, str]:
    command = [sys.executable, "-m", "orchestrator.cli", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **stack.env}, capture_output=True, check=False)
    return {check["name"]: check["status"] for check in json.loads(done.stdout)["checks"]}


def offered(stack: Stack) -> list[str]:
    items = stack.client.get("/api/v1/environments").json()["items"]
    tiers: list[str] = next(item["isolation"] for item in items if item["name"] == "python")
    return tiers


def test_no_tier_is_taken_for_another(
    own_stack: Callable[..., Stack], need_runtime: Callable[..., None], only_python: list[str]
) -> None:
    """Where only gVisor works, a submission for standard is refused, neither run in hardened nor left waiting."""
    need_runtime("runsc")
    stack = own_stack(standard_runtime="no-such-runtime", environments_dirs=only_python).start(workers=0)
    assert stack.submit(environment="python", code="print(1)").status_code == 202  # workers may come yet
    stack.start_worker()
    eventually(lambda: offered(stack) == ["hardened"], "the worker offers only hardened")
    refused = stack.submit(environment="python", code="print(1)")
    assert (refused.status_code, refused.json()["code"]) == (422, "isolation_unavailable")
    assert stack.run(isolation="hardened", code="print(1)")["state"] == "succeeded"


def test_tier_is_served_only_by_workers_with_its_runtime(
    own_stack: Callable[..., Stack],
    own_engine: tuple[str, Callable[..., Process]],
    only_python: list[str],
    engine_runtimes: frozenset[str],
) -> None:
    url, start_engine = own_engine
    start_engine()  # with runc only
    stack = own_stack(docker_url=url, environments_dirs=only_python).start()
    assert offered(stack) == ["standard"]
    assert doctor(stack)["isolation hardened"] == "note"
    refused = stack.submit(environment="python", code="print(1)", isolation="hardened")
    assert (refused.status_code, refused.json()["code"]) == (422, "isolation_unavailable")
    assert "offered are: standard" in refused.text
    assert stack.client.get("/api/v1/queues").json()["queued"] == 0
    if "runsc" not in engine_runtimes:
        pytest.skip("the other half needs an engine with runsc")

    stack.start_worker(MAYFLY_DOCKER_URL="unix:///var/run/docker.sock")
    eventually(lambda: offered(stack) == ["hardened", "standard"], "the second worker offers standard")
    ids = [
        stack.submit(environment="python", code="print(1)", isolation=isolation).json()["id"]
        for isolation in ("hardened", "standard", "hardened", "standard", "hardened")
    ]
    ended = [stack.ended(id) for id in ids]
    assert [one["state"] for one in ended] == ["succeeded"] * 5
    assert [one["attempt"] for one in ended] == [1] * 5  # no worker took an execution of a tier that it does not offer
    assert [one["runtime"] for one in ended] == ["runsc", "runc", "runsc", "runc", "runsc"]
    for worker in stack.workers:
        worker.stop()  # while both engines still answer


def test_doctor_reports_available_tier(stack: Stack, engine_runtimes: frozenset[str]) -> None:
    there = "runsc" in engine_runtimes
    assert doctor(stack)["isolation hardened"] == ("ok" if there else "note")
    assert offered(stack) == (["hardened", "standard"] if there else ["standard"])


def test_runc_by_the_name_of_runsc_is_refused(
    own_stack: Callable[..., Stack], own_engine: tuple[str, Callable[..., Process]], only_python: list[str]
) -> None:
    url, start_engine = own_engine
    start_engine("--add-runtime", f"runsc={shutil.which('runc')}")
    stack = own_stack(docker_url=url, environments_dirs=only_python, max_attempts=1).start()
    ended = stack.run(code="print('never')", isolation="hardened")
    assert (ended["state"], ended["reason"], ended["fault"]) == ("errored", "runtime_unavailable", "platform")
    assert ended["stdout"] in (None, "")
    assert "kernel" in ended["message"]
    assert stack.run(code="print(1)")["state"] == "succeeded"  # the control
    stack.workers[0].stop()


def test_least_accepted_memory_suffices(tier: Tier) -> None:
    """A sandbox with so little memory starts; its program may fail."""
    least = (32 if tier.isolation == "hardened" else 16) * 2**20
    execution = tier.run(code="print(1)", limits={"memory_bytes": least})
    assert (execution["state"], execution["stdout"], execution["attempt"]) == ("succeeded", "1\n", 1), execution

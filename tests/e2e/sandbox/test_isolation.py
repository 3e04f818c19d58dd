"""The inside of a sandbox, explored by real programs; each wall has a control that shows it can fall."""

from __future__ import annotations

import errno
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from tests.e2e.sandbox.attempts import ATTEMPTS
from tests.harness import Stack, eventually

LOOK_AROUND = """
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
found["caps"] = [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
found["seccomp"], found["no_new_privs"] = status["Seccomp"], status["NoNewPrivs"]
found["ids"] = [os.getuid(), os.geteuid(), os.getgid(), os.getegid()]
found["groups"] = os.getgroups()
found["interfaces"] = sorted(os.listdir("/sys/class/net"))
found["routes"] = len(open("/proc/net/route").readlines()) - 1
found["hostname"] = os.uname().nodename
found["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
found["fds"] = sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in (0, 1, 2))
found["env"] = sorted(os.environ)
found["secrets"] = [name for name in os.environ if "MAYFLY" in name or "TOKEN" in name or "REDIS" in name]
attempt("inet", lambda: socket.socket(socket.AF_INET))
attempt("inet6", lambda: socket.socket(socket.AF_INET6))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt("unix", lambda: bool(socket.socketpair()))
attempt("write root", lambda: open("/etc/x", "w"))
attempt("write inputs", lambda: open("/inputs/main.py", "a"))
attempt("unlink input", lambda: os.unlink("/inputs/main.py"))
attempt("write sysctl", lambda: open("/proc/sys/kernel/shmmax", "w"))
attempt("engine", lambda: os.stat("/var/run/docker.sock"))
attempt("agent fds", lambda: os.listdir("/proc/1/fd"))
attempt("agent memory", lambda: open("/proc/1/mem", "rb"))
attempt("agent environment", lambda: open("/proc/1/environ", "rb").read())
attempt("kill agent", lambda: os.kill(1, 9))
attempt("agent limits", lambda: __import__("resource").prlimit(1, 7, (3, 3)))
attempt("exec in tmp", lambda: (open("/tmp/x", "wb").write(open("/usr/bin/python3", "rb").read()),
                                os.chmod("/tmp/x", 0o755), os.execv("/tmp/x", ["x"])))
attempt("setuid", lambda: os.setuid(0))
setuid = []
for directory, _, names in os.walk("/usr"):
    for name in names:
        mode = os.lstat(os.path.join(directory, name)).st_mode
        if mode & 0o6000:
            setuid.append(name)
found["setuid files"] = setuid
mounts = {line.split()[1]: line.split()[3] for line in open("/proc/self/mounts")}
found["mounts"] = {path: mounts[path] for path in ("/", "/inputs", "/work", "/tmp", "/output")}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(stack: Stack) -> dict[str, Any]:
    ended = stack.run(code=ATTEMPTS + LOOK_AROUND)
    assert ended["state"] == "succeeded", ended
    seen: dict[str, Any] = json.loads(ended["stdout"])
    return seen


def test_program_reaches_no_network(found: dict[str, Any]) -> None:
    assert found["interfaces"] == ["lo"]
    assert found["routes"] == 0
    assert {found[family] for family in ("inet", "inet6", "netlink")} == {"PermissionError"}
    assert found["unix"] == "True"  # the control: sockets as such work


def test_program_has_no_privileges(found: dict[str, Any]) -> None:
    assert set(found["caps"]) == {"0000000000000000"}
    assert (found["seccomp"], found["no_new_privs"]) == ("2", "1")
    assert len(set(found["ids"])) == 1
    assert found["ids"][0] >= 100_000
    assert set(found["groups"]) <= set(found["ids"])
    assert found["setuid files"] == []
    assert found["setuid"] == "PermissionError"


def test_program_can_write_only_its_own_directories(found: dict[str, Any]) -> None:
    for name in ("write root", "write inputs", "unlink input", "write sysctl"):
        assert found[name] in ("OSError", "PermissionError"), name
    options = {path: set(text.split(",")) for path, text in found["mounts"].items()}
    assert "ro" in options["/"]
    assert "ro" in options["/inputs"]
    for path in ("/work", "/tmp", "/output"):
        assert {"rw", "nosuid", "nodev", "size=65536k", "nr_inodes=16384"} <= options[path]
        assert ("noexec" in options[path]) == (path != "/work")
    assert found["exec in tmp"] == "PermissionError"


def test_program_sees_neither_host_nor_agent(found: dict[str, Any]) -> None:
    assert found["engine"] == "FileNotFoundError"
    assert found["secrets"] == []
    assert found["fds"] == ["pipe", "pipe", "pipe"]
    assert found["hostname"] == "sandbox"
    assert len(found["processes"]) == 2
    for name in ("agent fds", "agent memory", "agent environment", "agent limits"):
        assert found[name] == "PermissionError", name


def test_executions_never_share_a_container(stack: Stack) -> None:
    code = "import os; print(os.getuid()); print(os.path.exists('/tmp/mark')); open('/tmp/mark', 'w')"
    seen = [stack.run(code=code)["stdout"].split() for _ in range(6)]
    assert len({uid for uid, _ in seen}) >= 5  # by chance, two in a row may have the same of so many
    assert {mark for _, mark in seen} == {"False"}


def test_forged_frames_are_output(stack: Stack) -> None:
    forged = b"X" + (21).to_bytes(4, "big") + b'{"exit_code": 0, ...}'
    code = f"import os\nfor fd in (1, 2): os.write(fd, {forged!r})\nos._exit(7)"
    ended = stack.run(code=code)
    assert (7, forged.decode(), forged.decode()) == (ended["exit_code"], ended["stdout"], ended["stderr"])


def test_processes_left_behind_are_killed(stack: Stack) -> None:
    code = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        time.sleep(60)\n    os._exit(0)\nprint('gone')"
    )
    ended = stack.run(code=code, limits={"wall_seconds": 30})  # less than what is left behind would sleep
    assert (ended["state"], ended["stdout"]) == ("succeeded", "gone\n")


def test_hostile_output_directories(stack: Stack) -> None:
    code = """
import os, socket
os.chdir("/output")
open("good.txt", "w").write("good")
os.symlink("/etc/passwd", "link")
os.symlink("/", "root")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("sock")
open("new\\nline", "w").write("x")
try:
    open("sparse", "wb").truncate(10 * 2**30)
except OSError as error:
    print(error.errno)
os.mkdir("bad\\ndirectory"); open("bad\\ndirectory/file", "w").write("x")
deep = "d/" * 40
os.makedirs(deep); open(deep + "f", "w").write("deep")
"""
    ended = stack.run(code=code)
    assert (ended["state"], ended["stdout"]) == ("succeeded", f"{errno.EFBIG}\n")
    assert {artifact["path"]: artifact["size"] for artifact in ended["artifacts"]} == {"good.txt": 4, "sparse": 0}
    why = {event["path"]: event["why"] for event in stack.security(ended["id"])}
    assert why["link"] == why["root"] == "symlink"
    assert (why["fifo"], why["sock"]) == ("fifo", "socket")
    assert ended["security_events"] == len(why)


def test_blocked_action_is_a_security_event(stack: Stack) -> None:
    cases: dict[str, dict[str, Any]] = {
        "oom_killed": {"code": "b = bytearray(200 * 2**20)", "limits": {"memory_bytes": 96 * 2**20}},
        "timeout": {"code": "while True: pass", "limits": {"wall_seconds": 0.3}},
        "output_limit": {"code": "while True: print('x' * 999)", "limits": {"output_bytes": 1000}},
        "seccomp_violation": {"code": "import ctypes; ctypes.CDLL(None).syscall(272, 0)"},
    }
    for kind, body in cases.items():
        ended = stack.run(**body)
        assert [event["kind"] for event in stack.security(ended["id"], kind)] == [kind]
        assert stack.show(ended["id"])["security_events"] == 1
    assert stack.run(code="print(1)")["security_events"] == 0  # the control


def test_inputs_and_uids_leave_the_host(stack: Stack) -> None:
    sandboxes = Path(stack.env["MAYFLY_STATE_DIR"]) / "sandboxes"
    stack.run(code="print(1)", files=[{"path": "secret.txt", "content": "for this execution only"}])
    eventually(lambda: not list(sandboxes.glob("*/inputs/*")), "inputs are removed")


def test_engine_applied_the_whole_profile(stack: Stack) -> None:
    body: dict[str, Any] = {
        "environment": "python",
        "code": "import time; time.sleep(80)",
        "limits": {"processes": 9, "cpu_cores": 0.5, "wall_seconds": 90},
    }
    id = stack.submit(**body).json()["id"]
    eventually(lambda: stack.show(id)["state"] == "running", "the execution runs")
    api = docker.APIClient()
    try:
        made = []
        for name in stack.containers():
            with suppress(docker.errors.NotFound):  # one of an earlier execution is gone meanwhile
                made.append(api.inspect_container(name))
    finally:
        api.close()
    host = next(c["HostConfig"] for c in made if c["HostConfig"]["PidsLimit"] == 11)
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 512 * 2**20, 512 * 2**20)
    for container in made:
        host = container["HostConfig"]
        assert (host["NetworkMode"], host["ReadonlyRootfs"], host["Privileged"]) == ("none", True, False)
        assert (host["CapDrop"], host["IpcMode"]) == (["ALL"], "private")
        assert {mount["Destination"] for mount in container["Mounts"]} == {
            *("/inputs", "/run/identity", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
        }
    stack.client.post(f"/api/v1/executions/{id}/cancel")

"""The permitted actions of a tool server in a sandbox, and the fall of each wall whose configuration is weakened."""

from __future__ import annotations

import errno
import os
import platform
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.broker.declared.users import preferred
from orchestrator.broker.links.link import LinkFailed
from orchestrator.broker.sandboxes import SandboxLauncher
from tests.builders.tools.tool_sandboxes import SECRET, bundle_of, declared, probe

UNSHARE_USER = "code(libc.unshare(0x10000000))"
MOUNT = "code(libc.mount(b'x', b'/tmp', b'tmpfs', 0, None))"
MEMORY = "len(bytearray(600 * 2**20))"


@pytest.fixture
def listener() -> Iterator[int]:
    """A listening port on the host's loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def connect(port: int) -> str:
    return f"failure(socket.create_connection, ('127.0.0.1', {port}))"


def test_server_is_a_user_of_its_own_without_privileges(launcher: SandboxLauncher) -> None:
    with probe(launcher, env={"LEVEL": "1"}) as server:
        uid = preferred("t", "time")
        assert server.ask("os.getresuid() + os.getresgid()") == (uid,) * 6
        status = server.ask("dict(line.split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)")
        assert {status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")} == {"0" * 16}
        assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
        assert server.ask("__import__('pwd').getpwuid(os.getuid()).pw_name") == "tools"
        assert server.ask("(os.environ['TOKEN'], os.environ['LEVEL'], os.environ.get('USER'))") == ("secret", "1", None)
        assert server.ask("sorted(int(name) for name in os.listdir('/proc') if name.isdigit())") == [1]


def test_server_sees_its_image_and_no_file_of_the_host(launcher: SandboxLauncher) -> None:
    with probe(launcher) as server:
        seen = set(server.ask("os.listdir('/')"))
        assert not {"root", "home", "var", "w"} & seen
        assert server.ask("os.path.exists('/run/docker.sock') or os.path.exists('/var/run')") is False
        assert server.ask("failure(open, '/usr/x', 'w')") in (errno.EROFS, errno.EACCES)
        assert server.ask("failure(open, '/tmp/x', 'w')") == 0


def test_root_is_read_only(launcher: SandboxLauncher) -> None:
    def privileged(configuration: dict[str, Any]) -> None:
        configuration["process"]["user"] = {"uid": 0, "gid": 0}

    def weaker(configuration: dict[str, Any]) -> None:
        privileged(configuration)
        configuration["root"]["readonly"] = False

    touch = "failure(os.mkdir, '/probe-of-a-test')"
    with probe(launcher, privileged) as server:
        assert server.ask(touch) == errno.EROFS
    with probe(launcher, weaker) as server:
        assert server.ask(touch) == 0
        server.ask("os.rmdir('/probe-of-a-test')")


def test_network_is_none_unless_declared(launcher: SandboxLauncher, listener: int) -> None:
    with probe(launcher) as server:
        assert server.ask(connect(listener)) == errno.EPERM
        assert server.ask("failure(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW)") == errno.EPERM

    def without_filter(configuration: dict[str, Any]) -> None:
        del configuration["linux"]["seccomp"]

    with probe(launcher, without_filter) as server:
        assert server.ask(connect(listener)) in (errno.ENETUNREACH, errno.ECONNREFUSED)
    with probe(launcher, network="host") as server:
        assert server.ask(connect(listener)) == 0
        assert server.ask("failure(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)") == errno.EPERM
        assert "hosts: files dns" in server.ask("open('/etc/nsswitch.conf').read()")


def test_dangerous_calls_are_refused(launcher: SandboxLauncher) -> None:
    def without_filter(configuration: dict[str, Any]) -> None:
        del configuration["linux"]["seccomp"]

    namespace = "code(libc.syscall(56, 0x10000011, 0, 0, 0, 0)) if os.uname().machine == 'x86_64' else 1"
    with probe(launcher) as server:
        assert server.ask(UNSHARE_USER) == server.ask(MOUNT) == errno.EPERM
        assert server.ask(namespace) == errno.EPERM
        threads = "[thread.start() or thread.join() for thread in (threading.Thread(), threading.Thread())]"
        assert server.ask(threads) == [None, None]  # the control: clone itself is allowed
    with probe(launcher, without_filter) as server:
        assert server.ask(UNSHARE_USER) == 0


# Each makes an object that counts for no container, or that the whole host shares. Of a longer int one word counts.
SHARED = {
    "filter of a socket": "failure(socket.socket(socket.AF_UNIX).setsockopt, 1, 26, filter_())",
    "filter of sockets on a port": "failure(socket.socket(socket.AF_UNIX).setsockopt, 1, 51, filter_())",
    "option in a longer word": "code(libc.syscall(54, 2, long(2**32 + 1), long(2**32 + 26), 0, 0))",
    "filter of a process": "code(libc.prctl(22, 2, filter_()))",
    "filter of a process, by its own call": "code(libc.syscall(317, 1, 0, filter_()))",
    "lock of an open file": "failure(fcntl.fcntl, open('/tmp/x', 'w'), 37, struct.pack('hhqqi4x', 1, 0, 0, 1, 0))",
    "lease": "failure(fcntl.fcntl, open('/tmp/x', 'w'), 1024, 1)",
    "queue of asynchronous disk access": "code(libc.syscall(206, 8, (ctypes.c_ulong * 1)()))",
    "huge pages of the host": "failure(mmap.mmap, -1, 2**21, 0x40022)",
    "file of huge pages of the host": "code(libc.memfd_create(b'x', 4))",
    "pipe of notifications": "failure(os.pipe2, 0x80)",
    "watch of file systems": "code(libc.syscall(300, 0x200, 0))",
    "name of memory": "code(libc.prctl(0x53564d41, 0, long(page()), long(4096), b'name'))",
}
MERGED = {
    "pages": "failure(mmap.mmap(-1, 4096).madvise, 12)",
    "all pages": "code(libc.prctl(67, 1, 0, 0, 0))",
}
# An access control list as long as may be, which takes 128 KiB.
ACL = "failure(os.setxattr, open('/dev/shm/x', 'w').name, 'system.posix_acl_access', acl(8000))"
LISTS = "[name for name in ('locks', 'pressure', 'key-users', 'keys') if any(read('/proc/' + name))]"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system calls are named by their number")
def test_objects_that_the_whole_host_shares_are_refused(launcher: SandboxLauncher) -> None:
    with probe(launcher) as server:
        assert {what: server.ask(asked) for what, asked in SHARED.items()} == dict.fromkeys(SHARED, errno.EPERM)
        assert {what: server.ask(asked) for what, asked in MERGED.items()} == dict.fromkeys(MERGED, errno.EINVAL)
        assert server.ask(LISTS) == []
        assert server.ask(ACL) == errno.ENOTSUP
        # The control: what servers use is there.
        assert server.ask("failure(socket.socket(socket.AF_UNIX).setsockopt, 1, socket.SO_SNDBUF, 4096)") == 0
        assert server.ask("failure(fcntl.lockf, open('/tmp/x', 'w'), fcntl.LOCK_EX)") == 0
        assert server.ask("failure(os.pipe2, os.O_CLOEXEC)") == 0
        assert server.ask("failure(mmap.mmap, -1, 2**21)") == server.ask("failure(os.memfd_create, 'x')") == 0

    def weaker(configuration: dict[str, Any]) -> None:
        del configuration["linux"]["seccomp"], configuration["linux"]["maskedPaths"]

    with probe(launcher, weaker) as server:
        assert server.ask(SHARED["filter of a socket"]) == server.ask(SHARED["lock of an open file"]) == 0
        assert server.ask(SHARED["queue of asynchronous disk access"]) == 0
        assert server.ask(SHARED["watch of file systems"]) == server.ask(ACL) == 0
        assert errno.EPERM not in [server.ask(SHARED[what]) for what in SHARED if "huge pages" in what]
        assert "locks" in server.ask(LISTS)


def test_only_servers_with_writable_files_flush_the_hosts_disk(launcher: SandboxLauncher, tmp_path: Path) -> None:
    """A flush of a descriptor that cannot be flushed fails, unless the call has no effect."""
    flush = "failure(os.fsync, os.pipe()[0])"
    with probe(launcher) as server:
        assert server.ask(flush) == 0
    with probe(launcher, files={str(tmp_path): "/state:rw"}) as server:
        assert server.ask(flush) == errno.EINVAL


def test_only_declared_files_are_mounted_and_read_only(launcher: SandboxLauncher, tmp_path: Path) -> None:
    for name in ("read", "write"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
        (tmp_path / name / "a").write_text(name)
    with probe(launcher) as server:
        assert server.ask("os.path.exists('/data/a')") is False
    files = {str(tmp_path / "read"): "/data", str(tmp_path / "write"): "/state:rw"}
    with probe(launcher, files=files) as server:
        assert server.ask("(open('/data/a').read(), open('/state/a').read())") == ("read", "write")
        assert server.ask("failure(open, '/data/b', 'w')") == errno.EROFS
        assert server.ask("failure(open, '/state/b', 'w')") == 0
    assert (tmp_path / "write" / "b").stat().st_uid == preferred("t", "time")


def test_memory_is_capped(launcher: SandboxLauncher) -> None:
    with probe(launcher) as server:
        with pytest.raises(EOFError):
            server.ask(MEMORY)
        assert server.process.wait(60) != 0

    def weaker(configuration: dict[str, Any]) -> None:
        configuration["linux"]["resources"]["memory"] = {"limit": 2**31, "swap": 2**31}

    with probe(launcher, weaker) as server:
        assert server.ask(MEMORY) == 600 * 2**20


def test_processes_are_capped(launcher: SandboxLauncher) -> None:
    with probe(launcher) as server:
        assert server.ask("forks(200)") == errno.EAGAIN

    def weaker(configuration: dict[str, Any]) -> None:
        configuration["linux"]["resources"]["pids"] = {"limit": 1000}

    with probe(launcher, weaker) as server:
        assert server.ask("forks(200)") == 0


def test_scratch_is_capped(launcher: SandboxLauncher) -> None:
    with probe(launcher) as server:
        assert server.ask("failure(lambda: open('/tmp/x', 'wb', 0).write(bytes(2**26)))") == 0
        assert (
            server.ask("failure(lambda: [open('/tmp/y', 'wb', 0).write(bytes(2**26)) for _ in '12'])") == errno.ENOSPC
        )


def test_bundle_with_its_secrets_lies_in_memory_and_is_roots_alone(launcher: SandboxLauncher, tmp_path: Path) -> None:
    with probe(launcher) as server:
        assert server.ask("1") == 1
        bundle = bundle_of(launcher)
        assert bundle.stat().st_mode & 0o777 == 0o700
    assert not bundle.exists()
    assert str(SandboxLauncher(launcher._settings).bundles).startswith("/dev/shm/")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"environment": "nothing"}, "no image of tool server nothing; build it by"),
        ({"environment": "time", "origin": "api", "network": "host"}, "only by the operator's files"),
        ({"environment": "time", "origin": "api", "files": {"/srv": "/data"}}, "only by the operator's files"),
        ({"environment": "time", "files": {"/": "/etc"}}, "/etc is not a path for files"),
    ],
)
def test_sandbox_that_cannot_be_given_is_refused(
    launcher: SandboxLauncher, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(LinkFailed, match=message):
        launcher.command("t", declared(**fields), SECRET)


def test_host_without_the_programs_is_named(launcher: SandboxLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.broker.sandboxes.launching.PATH", "/nowhere")
    with pytest.raises(LinkFailed, match="need crun, setpriv, unshare, flock on the broker's host"):
        launcher.command("t", declared(), SECRET)


def test_broker_without_root_is_refused(launcher: SandboxLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LinkFailed, match="runs as root"):
        launcher.command("t", declared(), SECRET)

"""A second worker host, added by the commands of ``docs/operations/hosts.md``: a network namespace with its own state.

It reaches Redis and the API by TLS alone, as Redis's users ``worker`` and ``engine-proxy`` and with a key of the scope
``worker``. The directory of the first host is hidden from it by an empty file system.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.service_image.redis_users import ROLES, line
from tests.builders.processes.certificates import Authority
from tests.builders.processes.hosts import Host
from tests.engine import ENGINE
from tests.harness import IMAGES, ROOT, Process, RedisServer, Stack, eventually, free_port, share_unpacked

PASSWORD = "password-of-the-worker-for-this-test"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PACK, RUN = BLOCK.findall((ROOT / "docs" / "operations" / "hosts.md").read_text(encoding="utf-8"))
HIDING = 'mount -t tmpfs hidden "$0" && exec "$@"'
USERS = ("worker", "engine-proxy")
LARGE = secrets.token_bytes(3 * 2**20)
PRINTED_BYTES = 200_000  # beyond Redis's part
PROGRAM = f"""
import sys, time
data = open("in.bin", "rb").read()
print("begun", flush=True)
sys.stdin.readline()
open("/output/out.bin", "wb").write(data[::-1])
print("x" * {PRINTED_BYTES})
"""


class Second:
    """The second host: its processes, and the first host's addresses as it sees them."""

    def __init__(self, host: Host, stack: Stack, redis_port: int, api_port: int, directory: Path) -> None:
        self.host, self.stack, self.directory = host, stack, directory
        self.redis = f"rediss://worker@{host.address}:{redis_port}/0"
        self.api = f"https://{host.address}:{api_port}"
        self.state = directory / "state"
        self.file = directory / "new-host.tar"
        self.process: Process | None = None

    def run(self, command: str, **changed: str) -> Process:
        """Runs the worker there; of the first host's files it sees only images, and of its settings none."""
        kept = (
            "INSTALLATION",
            "LEASE_SECONDS",
            "SLOTS",
            "SPARE_SLOTS",
            "ACCEPT_WEAKER",
            "ENVIRONMENTS_DIRS",
            "POOL_SIZE",
            "POOL_SIZES",
            "POOL_MAX",
        )
        env = {f"MAYFLY_{name}": self.stack.env[f"MAYFLY_{name}"] for name in kept}
        env |= {
            "MAYFLY_STATE_DIR": str(self.state), "MAYFLY_METRICS_PORT": "0", "MAYFLY_DRIVER": "oci",
            "MAYFLY_SANDBOX_DIR": str(self.state / "sandboxes"),
            "MAYFLY_UID_FIRST": str(int(self.stack.env["MAYFLY_UID_FIRST"]) + 10**8),
            "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
        } | changed  # fmt: skip
        words = [*self.host.inside, "unshare", "--mount", "sh", "-c", HIDING, str(self.stack.directory)]
        script = f"cd {self.directory} && exec {command.strip()}"
        self.process = Process([*words, "bash", "-euc", script], env, self.directory / "worker.log")
        eventually(self.is_registered, "the worker of the second host is registered", 120)
        return self.process

    def is_registered(self) -> bool:
        assert self.process is not None
        assert self.process.popen.poll() is None, self.process.log.read_text()[-2000:]
        return any(self.owns(worker) for worker in self.stack.fleet())

    def owns(self, worker: dict[str, Any]) -> bool:
        return self.process is not None and f"-{self.process.pid}-" in worker["id"]


@pytest.fixture
def second(
    own_stack: Callable[..., Stack], only_python: list[str], tmp_path: Path, missing: Callable[[str], None]
) -> Iterator[Second]:
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    if haproxy is None or shutil.which("ip") is None:
        missing("there is no haproxy, or no ip (iproute2)")
    directory = Path(tempfile.mkdtemp(prefix="mayfly-host-"))  # pytest's own are root's alone
    directory.chmod(0o711)
    host = Host(f"mf{secrets.token_hex(3)}", directory)
    authority = Authority(tmp_path, host.address, "localhost")
    redis_port, api_port, pem = free_port(), free_port(), str(authority.server_file)
    stack = own_stack(
        driver="oci", environments_dirs=only_python, slots=1, spare_slots=0, lease_seconds=3, accept_weaker=True,
        pool_sizes={}, retry_seconds=0.1,
    )  # fmt: skip
    options = ("--tls-port", str(redis_port), "--tls-cert-file", pem, "--tls-key-file", pem, "--tls-auth-clients", "no")
    stack.redis = RedisServer(stack.directory, *options, "--bind", host.address, "--protected-mode", "no")
    config = (ROOT / "deploy" / "haproxy.cfg").read_text()
    bind = 'bind "${MAYFLY_BIND-127.0.0.1:8080}"'
    assert bind in config
    (tmp_path / "haproxy.cfg").write_text(config.replace(bind, f"bind {host.address}:{api_port} ssl crt {pem}"))
    apis = {f"MAYFLY_API_{number}": f"127.0.0.1:{stack.port}" for number in (1, 2)}
    made = Second(host, stack, redis_port, api_port, directory)
    proxy = None
    try:
        stack.start()
        client: Any = stack.redis.client()
        with closing(client):
            for role in USERS:
                client.execute_command("ACL", "SETUSER", *line(role, ROLES[role], PASSWORD).split()[1:])
        command = [str(haproxy), "-db", "-f", str(tmp_path / "haproxy.cfg")]
        proxy = Process(command, apis, tmp_path / "haproxy.log")
        share_unpacked(made.state / "oci")
        packed(made, authority, tmp_path / "home")
        yield made
    finally:
        if made.process is not None:
            made.process.stop()
        if proxy is not None:
            proxy.stop()
        host.remove()
        shutil.rmtree(directory)


def packed(second: Second, authority: Authority, home: Path) -> None:
    """The first command, with a directory as ``deploy/prepare.sh`` makes it."""
    for name in ("secrets", "tls", "images"):
        (home / name).mkdir(parents=True)
    shutil.copy(second.stack.directory / "state" / "secret", home / "secrets" / "signing-key")
    for role in USERS:
        (home / "secrets" / f"redis-{role}").write_text(f"{PASSWORD}\n")
    shutil.copy(authority.certificate, home / "tls" / "ca.crt")
    for path in IMAGES.glob("python.*"):
        (home / "images" / path.name).symlink_to(path)
    env = {
        "MAYFLY_HOME": str(home), "REDIS_THERE": second.redis, "API_THERE": second.api, "MAYFLY_URL": second.api,
        "MAYFLY_TOKEN": second.stack.key, "SSL_CERT_FILE": str(authority.certificate),
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
    }  # fmt: skip
    pack = Process(["bash", "-euc", f"cd {second.directory}\n{PACK}"], env, second.directory / "pack.log")
    assert pack.popen.wait(120) == 0, pack.log.read_text()
    assert second.file.stat().st_mode & 0o077 == 0


def submitted(stack: Stack, blob: str) -> str:
    answer = stack.submit(
        environment="python",
        files=[{"path": "main.py", "content": PROGRAM}, {"path": "in.bin", "blob": blob}],
        entrypoint="main.py",
        stdin={"stream": True},
        limits={"wall_seconds": 200},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def end(stack: Stack, id: str) -> None:
    """Send the line of input that the program awaits."""
    answer = stack.client.post(f"/api/v1/executions/{id}/stdin", params={"end": True}, content=b"\n")
    assert answer.status_code in (200, 202), answer.text


def checked(stack: Stack, id: str) -> dict[str, Any]:
    """Await the end; output and artifact are exact, wherever the program ran."""
    shown = eventually(lambda: (one := stack.show(id, wait=30))["finished_at"] and one, "the execution ends", 240)
    assert shown["state"] == "succeeded", shown
    out = stack.client.get(f"/api/v1/executions/{id}/stdout").content
    assert out == b"begun\n" + b"x" * PRINTED_BYTES + b"\n"
    (artifact,) = shown["artifacts"]
    assert artifact["sha256"] == hashlib.sha256(LARGE[::-1]).hexdigest()
    assert stack.artifact(shown, "out.bin") == LARGE[::-1]
    return dict(shown)


def begun(stack: Stack, id: str) -> bool:
    return str(stack.show(id)["stdout"]).startswith("begun")


@pytest.mark.thorough
def test_host_is_added_by_three_commands_and_lost_under_load(second: Second, need_runtime: Callable[..., None]) -> None:
    need_runtime("crun", "oci")
    stack = second.stack
    second.run(RUN)
    put = stack.client.put("/api/v1/blobs", content=LARGE)
    assert put.status_code == 201
    blob = put.json()["blob"]
    # Each host has one slot, so both run one; the streamed input keeps each until the test has seen it.
    ids = [submitted(stack, blob) for _ in range(2)]
    eventually(lambda: all(begun(stack, id) for id in ids), "both executions have begun", 120)

    def busy() -> list[bool]:
        return [second.owns(worker) for worker in stack.fleet() if worker["executions"]]

    eventually(lambda: sorted(busy()) == [False, True], "each host reports its execution")
    for id in ids:
        end(stack, id)
    assert [checked(stack, id)["attempt"] for id in ids] == [1, 1]

    # The host is lost while both are busy and more wait.
    more = [submitted(stack, blob) for _ in range(6)]
    lost = eventually(
        lambda: [
            id
            for worker in stack.fleet()
            if second.owns(worker)
            for id in worker["executions"]
            if id in more and begun(stack, id)
        ],
        "the second host runs an execution",
        120,
    )
    second.host.cut()
    assert second.process is not None
    second.process.popen.send_signal(signal.SIGKILL)
    second.process.popen.wait()
    for id in more:
        end(stack, id)
    attempts = {id: checked(stack, id)["attempt"] for id in more}
    assert all(attempts[id] == 2 for id in lost)

    # It comes back, without the file, and takes away what its former worker left.
    second.host.heal()
    second.file.unlink()
    second.run(RUN.replace("new-host.tar", ""))
    bundles = second.state / "oci" / "bundles"
    eventually(lambda: not list(bundles.glob("*/*")), "the containers of the lost worker are removed")
    assert not (second.state / "blobs").exists()
    assert second.process.stop() == 0


@pytest.mark.complete
def test_worker_of_another_user_reaches_the_engine_by_the_proxy_alone(second: Second, engine: None) -> None:
    """The end of the worker ends its proxy; another end of the proxy does not."""
    stack = second.stack
    command = RUN.replace("host run", "host run --user nobody")
    environments = second.directory / "environments"  # pytest's own directories are root's alone
    (given,) = json.loads(stack.env["MAYFLY_ENVIRONMENTS_DIRS"])
    shutil.copytree(given, environments)
    docker = {
        "MAYFLY_DRIVER": "docker", "MAYFLY_DOCKER_URL": f"unix://{ENGINE}", "MAYFLY_ENGINE_METRICS_PORT": "0",
        "MAYFLY_ENVIRONMENTS_DIRS": json.dumps([str(environments)]),
    }  # fmt: skip
    process = second.run(command, **docker)
    stack.workers[0].stop()  # the other host's
    assert stack.run(code="print(6 * 7)")["stdout"] == "42\n"
    worker = psutil.Process(process.pid)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines())
    account = pwd.getpwnam("nobody")
    assert (worker.uids().effective, worker.gids().effective) == (account.pw_uid, account.pw_gid)
    assert (status["Groups"].split(), int(status["CapBnd"], 16), status["NoNewPrivs"]) == ([], 0, "1")
    as_worker = (
        "setpriv",
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
        "/usr/bin/python3",
        "-c",
    )
    proxy_socket = second.state / "engine" / "engine.sock"
    for path, reached in ((ENGINE, False), (proxy_socket, True)):
        connect = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
        assert (subprocess.run([*as_worker, connect], capture_output=True).returncode == 0) == reached, path
    assert (second.state / "redis-engine-proxy-password").stat().st_uid == 0

    def proxy() -> psutil.Process | None:
        return next((one for one in worker.children(recursive=True) if is_proxy(one)), None)

    first = eventually(proxy, "the proxy runs")
    first.kill()
    eventually(lambda: (other := proxy()) and other.pid != first.pid, "the proxy is started again", 60)
    assert stack.run(code="print(6 * 7)")["stdout"] == "42\n"
    children = worker.children(recursive=True)
    assert process.stop() == 0
    eventually(lambda: not any(map(runs, children)), "the proxy has ended, too")
    assert "engine_call.refused" not in process.log.read_text()


def is_proxy(process: psutil.Process) -> bool:
    try:
        return "worker.engine_proxy" in process.cmdline()
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return False


def runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

"""The life of a sandbox through the engine proxy, as the worker's driver has it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator import metrics
from orchestrator.errors import RuntimeUnavailable
from orchestrator.models import Isolation
from tests.builders.sandboxes.proxied import Proxied, ask, rest_of, send
from tests.harness import Process, eventually
from tests.hostile.sandbox import Sandbox
from worker.drivers.docker.connection import CallFailed, Connection
from worker.engine_proxy.engine import Answer, Engine
from worker.host.hostdirs import HostDir
from worker.pool.launcher import Lease
from worker.upkeep.reaper import reap

TIERS = [("standard", "runc"), pytest.param("hardened", "runsc", marks=pytest.mark.thorough)]


def launch(proxied: Proxied, isolation: Isolation = "standard") -> Lease:
    environment = proxied.environments["python"]
    return proxied.launcher.launch(environment, isolation, environment.defaults)


@pytest.mark.parametrize(("isolation", "runtime"), TIERS)
def test_program_runs_to_its_end(
    proxied: Proxied, need_runtime: Callable[..., None], isolation: Isolation, runtime: str
) -> None:
    need_runtime(runtime)
    lease = launch(proxied, isolation)
    try:
        found = Sandbox(lease, proxied.driver)
        ran = found.run("import os; os.write(1, b'x' * 3_000_000); print(6 * 7)")
        assert (len(ran.stdout), ran.stdout[-3:]) == (3_000_003, "42\n")
        ended = found.end()
        assert ended is not None and ended.exit_code == 0
    finally:
        proxied.launcher.destroy(lease)
    assert proxied.driver.owned() == []


def test_end_of_the_workers_side_ends_the_container(proxied: Proxied) -> None:
    """The agent ends at the end of its input, as when a worker is killed."""
    lease = launch(proxied)
    lease.sandbox.stream._socket.shutdown(socket.SHUT_WR)  # type: ignore[attr-defined]
    assert lease.sandbox.wait(60) is not None
    assert eventually(lambda: lease.sandbox.receive(1) == b"", "the stream ends in the other direction, too")
    proxied.launcher.destroy(lease)


def test_refusal_announces_the_end_of_its_connection(proxied: Proxied) -> None:
    """Otherwise it may send its next call, such as the removal of a container, on a connection that closes."""
    connection = Connection(f"unix://{proxied.path}", 60)
    for _ in range(2):
        assert connection.call("GET", "/version")["ApiVersion"]
        assert connection._http.sock is not None
        with pytest.raises(CallFailed) as refused:
            connection.call("GET", "/swarm")
        assert (refused.value.status, connection._http.sock) == (403, None)


def test_running_container_is_changed_waited_for_and_killed(proxied: Proxied) -> None:
    lease = launch(proxied)
    limits = lease.limits.model_copy(update={"memory_bytes": 100 * 2**20, "cpu_cores": 0.5})
    lease.sandbox.adjust(limits)
    assert lease.sandbox.wait(0.05) is None, "a wait that times out leaves the container"
    engine = proxied.driver.engine
    (owned,) = proxied.driver.owned()
    assert engine.wait(owned.id, 0.05) is None
    assert engine.find(lease.name) == owned.id
    engine.lift_cpu(owned.id)
    engine.kill(owned.id)
    assert engine.wait(owned.id, 60) is not None
    proxied.launcher.destroy(lease)


def make(proxied: Proxied, lease: HostDir) -> str:
    answer = ask(proxied.path, "POST", f"/v1.41/containers/create?name={proxied.name()}", proxied.profile(lease))
    assert answer.status == 201, answer
    return str(answer.json["Id"])


def exists(proxied: Proxied, id: str) -> bool:
    return ask(proxied.engine, "GET", f"/containers/{id}/json").status == 200


@pytest.fixture
def lease(proxied: Proxied) -> Iterator[HostDir]:
    made = proxied.host_dirs.lease()
    yield made
    proxied.host_dirs.release(made.path)


ATTACH = "attach?stdin=1&stdout=1&stderr=1&stream=1"


def attaching(id: str) -> bytes:
    """A request for the stream of a container."""
    head = f"POST /v1.41/containers/{id}/{ATTACH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    return f"{head}Content-Length: 0\r\n\r\n".encode()


def attach(path: Path, id: str) -> socket.socket:
    """The stream of a container. Raises ``AssertionError`` where it is refused."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(path))
    client.sendall(attaching(id))
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        chunk = client.recv(1)
        assert chunk, received
        received += chunk
    assert received.startswith(b"HTTP/1.1 101 UPGRADED\r\n"), received
    return client


def test_link_in_the_lease_is_never_mounted(proxied: Proxied, lease: HostDir) -> None:
    id = make(proxied, lease)
    lease.inputs.rename(lease.path / "kept")
    lease.inputs.symlink_to("/")
    answer = ask(proxied.path, "POST", f"/v1.41/containers/{id}/start")
    assert answer.status == 403 and b"neither a directory nor a file" in answer.body
    assert not exists(proxied, id)
    # The control: the engine mounts the host's root.
    made = ask(proxied.engine, "POST", f"/v1.41/containers/create?name={proxied.name()}", proxied.profile(lease))
    assert ask(proxied.engine, "POST", f"/containers/{made.json['Id']}/start").status == 204
    pid = ask(proxied.engine, "GET", f"/containers/{made.json['Id']}/json").json["State"]["Pid"]
    assert (Path(f"/proc/{pid}/root/inputs/etc/passwd")).exists()
    assert ask(proxied.engine, "DELETE", f"/containers/{made.json['Id']}?force=1").status == 204
    lease.inputs.unlink()
    (lease.path / "kept").rename(lease.inputs)


class Swapping(Engine):
    """An engine in whose start a worker puts a link to the host's root in place of the inputs."""

    def __init__(self, path: Path, inputs: Path) -> None:
        super().__init__(path)
        self._inputs = inputs

    def ask(self, method: str, target: str, body: bytes = b"", client: socket.socket | None = None) -> Answer:
        if not target.endswith("/start"):
            return super().ask(method, target, body, client)
        self._inputs.rename(kept := self._inputs.parent / "kept")
        self._inputs.symlink_to("/")
        answer = super().ask(method, target, body, client)
        self._inputs.unlink()
        kept.rename(self._inputs)
        return answer


def test_link_for_a_moment_reaches_no_program(
    proxied: Proxied, lease: HostDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is in its place before and after the start; the stream, which was attached before, just ends."""
    id = make(proxied, lease)
    monkeypatch.setattr(proxied.gate, "engine", Swapping(proxied.engine, lease.inputs))
    with closing(attach(proxied.path, id)) as stream:
        stream.sendall(b"a program")
        answer = ask(proxied.path, "POST", f"/v1.41/containers/{id}/start")
        assert answer.status == 403 and b"Changed while the engine mounted" in answer.body, answer
        rest_of(stream)
    assert not exists(proxied, id)


def test_container_is_attached_and_started_once(proxied: Proxied, lease: HostDir) -> None:
    """A second start would mount anew. The control is the engine, which attaches as often as it is asked."""
    id = make(proxied, lease)
    with closing(attach(proxied.path, id)), closing(attach(proxied.engine, id)):
        assert send(proxied.path, attaching(id)).startswith(b"HTTP/1.1 403 ")
        assert ask(proxied.path, "POST", f"/v1.41/containers/{id}/start").status == 204
        for _ in range(2):
            assert ask(proxied.path, "POST", f"/v1.41/containers/{id}/start").status == 403
    assert ask(proxied.engine, "POST", f"/containers/{id}/start").status in (204, 304)
    assert ask(proxied.path, "DELETE", f"/v1.41/containers/{id}?force=1").status == 204


@pytest.mark.parametrize(
    "headers", ["", "Connection: close\r\nUpgrade: tcp\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n"]
)
def test_attach_without_the_upgrade_is_refused_and_counted(proxied: Proxied, lease: HostDir, headers: str) -> None:
    """The engine attaches it nevertheless. The container's one attach is not used up."""
    id = make(proxied, lease)
    refused = metrics.engine_calls_refused.labels("headers")._value
    before = refused.get()
    request = f"POST /v1.41/containers/{id}/{ATTACH} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 0\r\n\r\n"
    assert send(proxied.path, request.encode()).startswith(b"HTTP/1.1 403 ")
    assert refused.get() == before + 1
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(60)
        client.connect(str(proxied.engine))
        client.sendall(request.encode())
        assert client.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 101"), "the control"
    with closing(attach(proxied.path, id)):
        assert ask(proxied.path, "DELETE", f"/v1.41/containers/{id}?force=1").status == 204


def test_no_byte_enters_a_container_whose_mounts_are_not_verified(proxied: Proxied, lease: HostDir) -> None:
    """Started by the engine itself, behind the proxy's back, the container gets nothing from its stream."""
    id, control = make(proxied, lease), make(proxied, lease)

    def runs(one: str) -> bool:
        return bool(ask(proxied.engine, "GET", f"/containers/{one}/json").json["State"]["Running"])

    with closing(attach(proxied.path, id)) as stream, closing(attach(proxied.engine, control)) as own:
        for one, input in ((id, stream), (control, own)):
            input.shutdown(socket.SHUT_WR)  # at the end of its input the agent ends
            assert ask(proxied.engine, "POST", f"/containers/{one}/start").status == 204
        assert stream.recv(1), "the agent's first frame comes out"
        rest_of(own)
        eventually(lambda: not runs(control), "the control, attached by the engine, has ended")
        assert runs(id)
        assert ask(proxied.path, "DELETE", f"/v1.41/containers/{control}?force=1").status == 204
        assert ask(proxied.path, "DELETE", f"/v1.41/containers/{id}?force=1").status == 204
        rest_of(stream)


def test_pipelined_requests_behind_an_attach_are_input(proxied: Proxied, lease: HostDir) -> None:
    """A request in the same packet as the attach is not read as one, neither by the proxy nor by the engine."""
    id = make(proxied, lease)
    other = make(proxied, lease)
    head = f"POST /v1.41/containers/{id}/{ATTACH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    second = f"DELETE /v1.41/containers/{other}?force=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(60)
        client.connect(str(proxied.path))
        client.sendall(f"{head}Content-Length: 0\r\n\r\n{second}".encode())
        assert client.recv(64).startswith(b"HTTP/1.1 101")
        assert ask(proxied.path, "POST", f"/v1.41/containers/{id}/start").status == 204
        rest_of(client)  # the agent ends at what is no frame
    assert exists(proxied, other)
    for one in (id, other):
        assert ask(proxied.path, "DELETE", f"/v1.41/containers/{one}?force=1").status == 204


def test_next_life_removes_the_containers_of_the_last(proxied: Proxied) -> None:
    lease = launch(proxied)
    (owned,) = proxied.driver.owned()
    proxied.end()
    with pytest.raises(RuntimeUnavailable):
        proxied.driver.engine.find(owned.name)  # docker-py would leak a socket here
    proxied.begin()
    for call in ("start", ATTACH, "update"):
        body = {"NanoCpus": 10**9} if call == "update" else None
        assert ask(proxied.path, "POST", f"/v1.41/containers/{owned.id}/{call}", body).status == 403
    proxied.launcher.live.clear()  # as in a new worker
    assert reap(proxied.driver, proxied.launcher, proxied.host_dirs, "another", set) >= 1
    assert not exists(proxied, owned.id)
    proxied.launcher.destroy(lease)


def test_call_of_a_client_that_hangs_up_is_ended(proxied: Proxied) -> None:
    """A worker's waits time out by hanging up; the thread and the engine's connection of each end."""
    lease = launch(proxied)
    (owned,) = proxied.driver.owned()
    before = threading.active_count()
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(proxied.path))
            request = f"POST /v1.41/containers/{owned.id}/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            client.sendall(request.encode())
            eventually(lambda: threading.active_count() > before, "the call waits")
        eventually(lambda: threading.active_count() <= before, "the call has ended")
    proxied.launcher.destroy(lease)


def test_proxy_answers_while_the_engine_is_away(proxied: Proxied, tmp_path: Path) -> None:
    with closing(Proxied(proxied.settings.images_path, proxied.security, tmp_path / "none.sock")) as away:
        answer = ask(away.path, "GET", "/_ping")
        assert (answer.status, answer.json) == (502, {"message": "The container engine does not answer."})
        with pytest.raises(RuntimeUnavailable):
            away.driver.version()


@pytest.mark.complete
def test_proxy_loads_the_images_of_the_table(
    proxied: Proxied, own_engine: tuple[str, Callable[..., Process]], images: Path, tmp_path: Path
) -> None:
    """Into an engine without images; an archive that has another image is an error of the host."""
    url, start = own_engine
    start()
    for name in ("python.json", "python.tar"):
        (tmp_path / name).symlink_to(images / name)
    with closing(Proxied(tmp_path, proxied.security, Path(url.removeprefix("unix://")))) as other:
        described: dict[str, Any] = json.loads((images / "python.json").read_text())

        def offered() -> str | None:
            try:
                return other.driver.image(other.environments["python"]).id
            except RuntimeUnavailable:  # while the image is loaded; a worker, too, asks again
                return None

        assert eventually(offered, "the image is loaded", 180) == described["image_id"]
        (tmp_path / "bash.json").write_text(json.dumps(described | {"image_id": "sha256:" + "1" * 64}))
        (tmp_path / "bash.tar").symlink_to(images / "bash.tar")
        with pytest.raises(RuntimeUnavailable):
            other.driver.image(other.environments["bash"])

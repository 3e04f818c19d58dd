"""Redis is killed in the middle of a write: after a restart it loads exactly the confirmed writes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli.commands.local.embedded.append_only import MANIFEST, cut_torn_transaction
from tests.harness import ROOT, Process, RedisServer, eventually

STARTER = ROOT / "deploy" / "service_image" / "redis.sh"
PASSWORD = "of-this-test"
# A transaction that takes an execution, as a script's effects stand in the file.
COMMANDS = (
    ("MULTI",),
    ("HINCRBY", "record", "attempt", "1"),
    ("HSET", "record", "state", "starting"),
    ("XADD", "stream", "9999999999999-0", "state", "starting"),
    ("EXEC",),
)
WHOLE = [b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words) for words in COMMANDS]
WHOLE = [b"*%d\r\n" % len(words) + text for words, text in zip(COMMANDS, WHOLE, strict=True)]
TORN = {
    "in its first command": WHOLE[0][:7],
    "behind its first command": WHOLE[0],
    "in the middle of a command": WHOLE[0] + WHOLE[1] + WHOLE[2][:-9],
    "between two commands": WHOLE[0] + WHOLE[1],
    "behind a stream's entry": b"".join(WHOLE[:4]) + WHOLE[4][:1],
    "in its last command": b"".join(WHOLE)[:-1],
}
TAKE = """
redis.call('HINCRBY', 'record', 'attempt', 1)
redis.call('HSET', 'record', 'state', 'succeeded')
redis.call('XADD', 'stream', '*', 'state', 'succeeded')
"""


class Server:
    """A Redis that keeps an append-only file, however it is started."""

    def __init__(self, directory: Path) -> None:
        self.redis = RedisServer(directory, "--appendfsync", "always")  # with `everysec` a write waits for a sync
        self.client = self.redis.client()

    def start(self) -> None:
        self.redis.start()

    def kill(self) -> None:
        self.redis.stop(signal.SIGKILL)


class ComposedServer(Server):
    """One that the script of the Redis image starts, in its data directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        (directory / "password").write_text(PASSWORD + "\n")
        self.client = self.redis.client()
        self.client.connection_pool.connection_kwargs["password"] = PASSWORD

    def start(self) -> None:
        directory, socket = self.redis.directory, str(self.redis.socket)
        command = [
            "dash", "-c", 'cd "$0" && exec dash "$@"', str(directory), str(STARTER),
            "--appendonly", "yes", "--appendfsync", "always", "--dir", str(directory),
            "--port", "0", "--unixsocket", socket,
        ]  # fmt: skip
        environment = {"REDIS_PASSWORD_FILE": str(directory / "password")}
        self.redis.process = Process(command, environment, directory / "redis.log")
        eventually(self._answers, "Redis answers")

    def _answers(self) -> bool:
        done = subprocess.run(
            ["redis-cli", "-s", self.redis.socket, "ping"],
            env={**os.environ, "REDISCLI_AUTH": PASSWORD},
            capture_output=True,
        )
        return done.stdout == b"PONG\n"


@pytest.fixture(params=[Server, ComposedServer], ids=["up", "compose"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    made: Server = request.param(tmp_path)
    yield made
    made.client.close()
    made.redis.stop()


def last_file(directory: Path) -> Path:
    (found,) = (directory / MANIFEST).parent.glob("*.incr.aof")
    return found


def kept(server: Server) -> tuple[object, object]:
    return server.client.hgetall("record"), server.client.xrange("stream")


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN)
def test_torn_transaction_is_dropped(server: Server, torn: bytes) -> None:
    server.start()
    server.client.hset("record", mapping={"state": "queued", "attempt": "0"})
    server.kill()
    with last_file(server.redis.directory).open("ab") as file:
        file.write(torn)
    server.start()
    assert server.client.hgetall("record") == {b"state": b"queued", b"attempt": b"0"}
    server.client.eval(TAKE, 0)
    server.client.set("alone", "no transaction")
    before = kept(server)
    server.kill()
    server.start()
    assert kept(server) == before
    assert server.client.get("alone") == b"no transaction"


def test_redis_alone_applies_half_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control. A Redis with which this fails has the fault no longer: then `append_only` can go."""
    monkeypatch.setattr("tests.harness.cut_torn_transaction", lambda *_: False)
    server = Server(tmp_path)
    server.start()
    server.kill()
    with last_file(tmp_path).open("ab") as file:
        file.write(TORN["in the middle of a command"])
    server.start()
    assert server.client.hgetall("record") == {}
    server.client.eval(TAKE, 0)
    assert server.client.hget("record", "attempt") == b"1"
    server.kill()
    server.start()
    assert server.client.hget("record", "attempt") == b"2"
    server.client.close()
    server.redis.stop()


def test_append_only_file_damaged_in_the_middle_is_left_alone(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    for number in range(3):
        server.client.set(f"key{number}", "x" * 100)
    server.kill()
    path = last_file(tmp_path)
    damaged = path.read_bytes().replace(b"key1", b"\0\0\0\0").replace(b"$4\r\n\0", b"?4\r\n\0")
    path.write_bytes(damaged)
    command = ["redis-server", "--port", "0", "--appendonly", "yes", "--dir", str(tmp_path)]
    log = tmp_path / "load.log"
    assert not cut_torn_transaction(command, dict(os.environ), tmp_path, tmp_path / "load", log, 30)
    assert path.read_bytes() == damaged
    assert b"Bad file format" in log.read_bytes()


def test_sound_append_only_file_is_loaded_only_once(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    server.client.eval(TAKE, 0)
    server.kill()
    command = [shutil.which("false") or ""]
    log = tmp_path / "load.log"
    assert not cut_torn_transaction(command, dict(os.environ), tmp_path, tmp_path / "load", log, 30)
    assert not log.exists(), "nothing was started"

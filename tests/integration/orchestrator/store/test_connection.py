"""A connection for each thread, however many threads come and go."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.connection import HiredisRespSerializer
from redis.exceptions import ResponseError

from orchestrator.errors import StoreUnavailable
from orchestrator.settings import Settings
from orchestrator.store import open_store
from tests.builders.processes.certificates import Authority
from tests.harness import RedisServer, eventually, free_port

AT_ONCE = 8
THREADS = 150  # more than redis-py's pool would make connections


def test_ended_threads_release_their_connections(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    store = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    received: list[Any] = []
    for _ in range(THREADS):
        thread = threading.Thread(target=lambda: received.append(store.redis.send("PING")))
        thread.start()
        thread.join()
    assert received == [b"PONG"] * THREADS
    assert store.redis.info("clients")["connected_clients"] < THREADS / 2
    store.redis.close()
    server.stop()


def test_redis_with_tls_needs_a_valid_certificate(tmp_path: Path) -> None:
    (other := tmp_path / "other").mkdir()
    own, stranger, port = Authority(tmp_path, "localhost"), Authority(other, "localhost"), free_port()
    files = {"cert": own.server_file, "key": own.server_file, "ca-cert": own.certificate}
    options = [word for name, path in files.items() for word in (f"--tls-{name}-file", str(path))]
    server = RedisServer(tmp_path, "--tls-port", str(port), "--tls-auth-clients", "no", *options)
    server.start()

    def answer(host: str, authority: Authority) -> Any:
        url = f"rediss://{host}:{port}/0?ssl_ca_certs={authority.certificate}"
        store = open_store(Settings(state_dir=tmp_path, redis_url=url))
        with closing(store.redis):
            return store.redis.send("PING")

    assert answer("localhost", own) == b"PONG"
    with pytest.raises(StoreUnavailable):
        answer("localhost", stranger)
    with pytest.raises(StoreUnavailable):
        answer("127.0.0.1", own)
    plain = open_store(Settings(state_dir=tmp_path, redis_url=f"redis://localhost:{port}/0"))
    with closing(plain.redis), pytest.raises(StoreUnavailable):
        plain.redis.send("PING")
    server.stop()


def test_each_thread_uses_a_single_connection(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    store = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    assert store.redis.info("clients")["connected_clients"] == 1
    script, together = store.redis.script("return 1"), threading.Barrier(AT_ONCE + 1, timeout=120)

    def ask() -> None:
        for _ in range(20):
            with store.redis.pipeline(transaction=False) as pipe:
                assert script() == 1
                assert store.redis.get("nothing") is None
                pipe.exists("nothing").ping()
                assert pipe.execute() == [0, True]
        together.wait()  # until all have been counted
        together.wait()

    threads = [threading.Thread(target=ask) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    together.wait()
    found = store.redis.info("clients")["connected_clients"]
    together.wait()
    for thread in threads:
        thread.join()
    assert found == AT_ONCE + 1
    store.redis.close()
    server.stop()


def test_parts_of_a_call_are_packed_without_a_look_at_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = RedisServer(tmp_path)
    server.start()
    store = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    assert store.redis.get("nothing") is None  # opens the connection
    packed: list[Any] = []
    monkeypatch.setattr(HiredisRespSerializer, "pack", lambda self, *parts: packed.append(parts))
    try:
        store.redis.own().pack_command("PING")
        assert packed == [("PING",)], "the control: redis-py's packing is seen"
        echo = store.redis.script("return {KEYS[1], ARGV[1], ARGV[2], ARGV[3]}")
        assert echo(["a b"], [b"\xff\r\n", 1, 0.5]) == [b"a b", b"\xff\r\n", b"1", b"0.5"]
        assert len(packed) == 1
    finally:
        store.redis.close()
        server.stop()


def test_redis_busy_with_an_endless_script_is_unavailable(tmp_path: Path) -> None:
    """Redis is available again after the script was killed."""
    server = RedisServer(tmp_path, "--busy-reply-threshold", "50")
    server.start()
    store = open_store(Settings(state_dir=tmp_path, redis_url=server.url))

    def endless() -> None:
        with server.client() as writer, suppress(ResponseError):
            writer.eval("while true do end", 0)

    def busy() -> bool:
        with server.client() as other:
            try:
                return not other.ping()
            except ResponseError as error:
                return str(error).startswith("BUSY")

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(endless)
        eventually(busy, "Redis is busy")
        with pytest.raises(StoreUnavailable):
            store.records.exist(["0" * 32])
        with pytest.raises(StoreUnavailable):
            store.redis.get("x")
        with server.client() as owner:
            owner.script_kill()
        writing.result(60)
    assert store.records.exist(["0" * 32]) == []
    store.redis.close()
    server.stop()

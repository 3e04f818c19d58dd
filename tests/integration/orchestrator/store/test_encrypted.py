"""Connections by TLS: to the Redis whose certificate and name the configured authorities vouch for, and to no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import StoreUnavailable
from orchestrator.settings import Settings
from orchestrator.store import open_store
from tests.builders.processes.certificates import Authority
from tests.harness import RedisServer, free_port


def test_redis_is_verified_with_the_configured_authorities(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ours, other, port = Authority(tmp_path, "localhost"), Authority(tmp_path / "other", "localhost"), free_port()
    pem = str(tmp_path / "server.pem")
    server = RedisServer(
        tmp_path, "--tls-port", str(port), "--tls-cert-file", pem, "--tls-key-file", pem, "--tls-auth-clients", "no"
    )

    def ping(host: str, authorities: Path) -> bool:
        settings = Settings(redis_url=f"rediss://{host}:{port}/0", redis_ca_file=authorities, state_dir=tmp_path)
        store = open_store(settings)
        try:
            return bool(store.redis.ping())
        finally:
            store.redis.close()

    try:
        server.start()
        assert ping("localhost", ours.certificate)
        with pytest.raises(StoreUnavailable):
            ping("localhost", other.certificate)
        with pytest.raises(StoreUnavailable):  # the certificate has another name
            ping("127.0.0.1", ours.certificate)
    finally:
        server.stop()

"""Fixtures of connections: no proxies but their own, and a server with a certificate of its own."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.builders.answering import OK, head_of

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def tls_server() -> Iterator[Callable[[Path], str]]:
    listeners = []

    def serve(directory: Path) -> str:
        import ssl

        words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        files = ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
        subprocess.run(["openssl", *words.split(), *files], check=True, capture_output=True, timeout=60)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def answer() -> None:
            for _ in range(2):
                peer, _ = listener.accept()
                try:
                    with context.wrap_socket(peer, server_side=True) as secure, secure.makefile("rb") as file:
                        head_of(file)
                        secure.sendall(OK)
                except OSError:
                    peer.close()  # the first client refuses the certificate

        threading.Thread(target=answer, daemon=True).start()
        return f"https://localhost:{listener.getsockname()[1]}"

    yield serve
    for listener in listeners:
        listener.close()

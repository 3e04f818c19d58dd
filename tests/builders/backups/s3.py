"""A server that speaks S3's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.agents.installed import s3_server
from tests.harness import Process, eventually, free_port

KEYS = {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key", "REGION": "us-east-1", "ALLOW_HTTP": "true"}


@contextmanager
def bucket_server(name: str, directory: Path) -> Iterator[str]:
    """The URL of a server with a bucket of that name."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = Process([*s3_server(), "--host", "127.0.0.1", "--port", str(port)], {}, directory / "s3.log")

    def has_bucket() -> bool:
        try:
            return httpx2.put(f"{url}/{name}").status_code == 200
        except httpx2.TransportError:
            return False

    try:
        eventually(has_bucket, "the server has a bucket", 60)
        yield url
    finally:
        server.stop()


def variables(url: str) -> dict[str, str]:
    """The environment of its clients."""
    return {f"AWS_{name}": value for name, value in (KEYS | {"ENDPOINT_URL": url}).items()}

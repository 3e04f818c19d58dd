"""The headers of reverse proxies: they count from the proxies that the operator names, and from nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.harness import Stack

FORWARDED = {"X-Forwarded-For": "192.0.2.7, 203.0.113.9", "X-Forwarded-Proto": "https"}


@pytest.mark.parametrize(
    ("proxies", "address", "has_tls"),
    [([], "127.0.0.1", False), (["10.0.0.0/8"], "127.0.0.1", False), (["127.0.0.1"], "203.0.113.9", True)],
    ids=["none named", "another named", "named"],
)
def test_address_and_scheme_come_from_named_proxies_alone(
    engine: None, tmp_path: Path, proxies: list[str], address: str, has_tls: bool
) -> None:
    stack = Stack(tmp_path, proxies=proxies)
    try:
        stack.start(workers=0)
        body: dict[str, Any] = {"name": "n", "scopes": ["executions:read"]}
        answer = stack.client.post("/api/v1/api-keys", json=body, headers=FORWARDED)
        assert answer.status_code == 201
        [entry] = stack.client.get("/api/v1/audit", params={"action": "key.create"}).json()["items"]
        assert entry["address"] == address, "the last address that no named proxy has"
        expected = "max-age=31536000; includeSubDomains" if has_tls else None
        assert answer.headers.get("strict-transport-security") == expected
    finally:
        stack.stop()

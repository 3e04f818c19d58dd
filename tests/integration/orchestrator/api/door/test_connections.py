"""How many connections there may be, from one address and in all."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.builders.sockets import connections, exchange
from tests.harness import Stack, eventually

HALF = b"GET /livez HTTP/1.1\r\nX-A: b\r\n"
WHOLE = b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"
ATTACKER, NEIGHBOUR = "127.0.0.2", "127.0.0.3"
FROM_ONE, IN_ALL = 20, 50


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"address_connections": FROM_ONE, "connections": IN_ALL}


def metric(api: Stack, name: str) -> float:
    text = api.client.get("/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_one_address_has_so_many_connections_and_no_more(api: Stack) -> None:
    with connections(api.port, FROM_ONE, HALF, ATTACKER):
        refused = exchange(api.port, WHOLE, ATTACKER)
        assert (refused.status, refused.problem["code"]) == (429, "too_many_connections")
        assert int(refused.headers["retry-after"]) > 0
        assert exchange(api.port, WHOLE, NEIGHBOUR).status == 200
        assert metric(api, 'mayfly_requests_refused_total{code="too_many_connections"}') >= 1
        assert metric(api, "mayfly_http_connections") > FROM_ONE
    eventually(lambda: exchange(api.port, WHOLE, ATTACKER).status == 200, "closed connections count no more")


def test_all_addresses_together_have_so_many(api: Stack) -> None:
    api.client.close()
    with (
        connections(api.port, FROM_ONE, HALF, "127.0.0.4"),
        connections(api.port, FROM_ONE, HALF, "127.0.0.5"),
        connections(api.port, IN_ALL - 2 * FROM_ONE + 5, HALF, "127.0.0.6"),
    ):
        refused = exchange(api.port, WHOLE, NEIGHBOUR)
        assert (refused.status, refused.problem["code"]) == (503, "connections_full")
        assert int(refused.headers["retry-after"]) > 0
    eventually(lambda: exchange(api.port, WHOLE, NEIGHBOUR).status == 200, "closed connections count no more")

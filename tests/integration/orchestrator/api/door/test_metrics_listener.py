"""The API's own listener for metrics, which asks for no key and has nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx2

from tests.harness import Stack, eventually, free_port


def test_listener_serves_the_apis_metrics_and_nothing_else(tmp_path: Path) -> None:
    port = free_port()
    stack = Stack(tmp_path, api_metrics_port=port)
    stack.start(workers=0)
    try:
        assert stack.client.get("/api/v1/queues").status_code == 200
        counted = 'mayfly_http_requests_total{method="GET",route="/api/v1/queues",status="200"} 1.0'
        eventually(lambda: counted in httpx2.get(f"http://127.0.0.1:{port}/metrics").text, "the request is counted")
        found = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
        assert "mayfly_queue_oldest_seconds 0.0" in found
        assert "mayfly_" not in httpx2.get(f"http://127.0.0.1:{stack.port}/metrics").text, "there a key is needed"
        assert '"queues"' in stack.client.get("/api/v1/queues").text
        assert '"queues"' not in httpx2.get(f"http://127.0.0.1:{port}/api/v1/queues").text
    finally:
        stack.stop()

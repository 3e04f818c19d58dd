"""The profile ``metrics`` of compose, really started: everything is scraped, and an alert fires on a real fault."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.builders.hosts.outside import outside, reaches
from tests.builders.processes.deployment import Deployment
from tests.harness import ROOT, eventually, free_port

pytestmark = [pytest.mark.complete, pytest.mark.timeout(900)]
JOBS = {
    "api": 2,
    "worker": 1,
    "engine-proxy": 1,
    "broker": 1,
    "redis": 1,
    "host": 1,
    "prometheus": 1,
    "alertmanager": 1,
}


class Monitored(Deployment):
    """A deployment with the profile, and questions to its Prometheus."""

    def __init__(self, home: Path, images: Path) -> None:
        super().__init__(home, images)
        self.prometheus = free_port()

    def configure(self) -> None:
        super().configure()
        settings = self.home / "compose.env"
        settings.write_text(settings.read_text().replace("127.0.0.1:9090", f"127.0.0.1:{self.prometheus}"))

    def asked(self, path: str, **parameters: str) -> Any:
        """The data of an answer; ``None`` while Prometheus does not answer."""
        try:
            answer = httpx2.get(f"http://127.0.0.1:{self.prometheus}/api/v1/{path}", params=parameters, timeout=30)
        except httpx2.TransportError:
            return None
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def value(self, query: str) -> float | None:
        """The first value of a query."""
        found = self.asked("query", query=query)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    def exceeds(self, query: str, bound: float) -> bool:
        """Whether the query has a value above the bound."""
        value = self.value(query)
        return value is not None and value > bound

    def is_healthy(self, name: str) -> bool:
        """Whether the service's container is."""
        return bool(self.service(name)[0]["State"]["Health"]["Status"] == "healthy")

    def scraped(self) -> dict[str, int]:
        """The number of targets that answer, by job."""
        found = self.asked("query", query="sum by (job) (up)")
        return {one["metric"]["job"]: int(one["value"][1]) for one in found["result"]} if found else {}

    def states(self) -> dict[str, str]:
        """The alerts that wait or fire."""
        found = self.asked("alerts")
        return {one["labels"]["alertname"]: one["state"] for one in found["alerts"]} if found else {}


@pytest.fixture(scope="module")
def monitored(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    if os.getuid() != 0:
        pytest.skip("deploy/prepare.sh needs root")
    made = Monitored(tmp_path_factory.mktemp("compose"), images)
    made.prepare()
    made.configure()
    try:
        made("--profile", "metrics", "up", "-d")
        eventually(lambda: made.healthy(workers=1), "every service is healthy", 240)
        yield made
    except BaseException:
        sys.stdout.write(made.logs())
        raise
    finally:
        made("--profile", "metrics", "down", "-v")
    assert made.left() == []


def test_every_process_is_scraped(monitored: Monitored) -> None:
    eventually(lambda: monitored.scraped() == JOBS, f"the targets {JOBS} answer", 180)
    rules = monitored.asked("rules")["groups"][0]["rules"]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    assert len(rules) == 11
    for query in ("sum(mayfly_worker_slots)", "redis_memory_max_bytes", "node_memory_MemTotal_bytes"):
        eventually(partial(monitored.exceeds, query, 0), f"{query} has a value", 120)
    with monitored.client() as client:
        body = {"environment": "python", "code": "print(1)"}
        ended = client.post("/api/v1/executions", json=body, headers={"Prefer": "wait=60"}).json()
        assert ended["state"] == "succeeded", ended
    counted = 'sum(mayfly_executions_finished_total{state="succeeded"})'
    eventually(lambda: monitored.exceeds(counted, 0), "the execution is counted", 120)


def test_containers_of_monitoring_have_the_same_walls(monitored: Monitored) -> None:
    names = ("prometheus", "alertmanager", "redis-exporter", "host-exporter")
    for name in names:
        (container,) = monitored.service(name)
        host = container["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["CapAdd"] or []) == (True, ["ALL"], []), name
        assert container["Config"]["User"] == "10004:10004", name
        assert host["Memory"] > 0, name
        eventually(partial(monitored.is_healthy, name), f"{name} is healthy", 120)
    refused = monitored("exec", "-T", "redis", "mayfly-redis", "refused")
    assert refused.strip() == "", "Redis refuses the exporter no command that it needs"


def test_alertmanager_alone_has_a_way_out_and_prometheus_alone_reaches_alertmanager(
    monitored: Monitored, tmp_path: Path
) -> None:
    """Prometheus, which may reach all of them, is the control of the second half."""
    names = ("prometheus", "alertmanager", "redis-exporter", "host-exporter")
    with outside(tmp_path) as url:
        assert reaches(monitored, "alertmanager", url, 60, "busybox")
        assert [name for name in names if name != "alertmanager" and reaches(monitored, name, url, 3, "busybox")] == []
    ready = "http://alertmanager:9093/-/ready"
    assert reaches(monitored, "prometheus", ready, 60, "busybox")
    assert [name for name in ("api", "worker", "broker", "engine-proxy") if reaches(monitored, name, ready, 3)] == []
    assert not reaches(monitored, "redis-exporter", ready, 3, "busybox")


def test_alert_fires_without_a_worker_and_ends_with_the_next(monitored: Monitored) -> None:
    eventually(lambda: monitored.scraped() == JOBS, f"the targets {JOBS} answer", 180)
    eventually(lambda: "NoWorker" not in monitored.states(), "the alert of the start has ended", 120)
    monitored("stop", "worker")
    eventually(lambda: monitored.states().get("NoWorker") == "firing", "the alert fires", 300)
    active = 'sum(alertmanager_alerts{state="active"})'
    eventually(lambda: monitored.exceeds(active, 0), "Alertmanager has the alert", 120)
    with monitored.client() as client:
        waiting = client.post("/api/v1/executions", json={"environment": "python", "code": "print(1)"})
        assert waiting.status_code == 202, waiting.text
    eventually(lambda: monitored.exceeds("max(mayfly_queue_oldest_seconds)", 0), "the age is seen", 120)
    monitored("--profile", "metrics", "up", "-d")
    eventually(lambda: "NoWorker" not in monitored.states(), "the alert ends", 300)
    eventually(lambda: monitored.value("max(mayfly_queue_oldest_seconds)") == 0, "no execution waits", 120)


def test_commands_of_the_document_work(monitored: Monitored) -> None:
    monitored("--profile", "metrics", "restart", "alertmanager")
    eventually(lambda: monitored.scraped() == JOBS, f"the targets {JOBS} answer", 180)
    text = (ROOT / "docs" / "operations" / "monitoring.md").read_text()
    named = {line.strip() for line in text.splitlines() if line.startswith("    $compose")}
    assert named
    assert named - set(monitored.done) == set()

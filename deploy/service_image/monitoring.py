"""The image of monitoring: Prometheus, Alertmanager, and exporters for Redis and the host, as Debian has them."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.service_image.declarations import CHECKOUT, MONITORING_UID, Base, Service

CONFIGURATION = (CHECKOUT / "deploy/monitoring/prometheus.yml", CHECKOUT / "deploy/monitoring/alerts.yml")


def fill_monitoring(root: Path, base: Base, scratch: Path) -> None:
    """Prometheus's configuration and rules."""
    (root / "etc/mayfly").mkdir(parents=True)
    for path in CONFIGURATION:
        shutil.copy(path, root / "etc/mayfly")


PROGRAMS = ("prometheus", "prometheus-alertmanager", "prometheus-redis-exporter", "prometheus-node-exporter")
MONITORING = Service(
    name="monitoring",
    packages=(*PROGRAMS, "busybox"),  # the last for health checks
    needed=(*(f"/usr/bin/{name}" for name in PROGRAMS), "/usr/bin/busybox"),
    uid=MONITORING_UID,
    fill=fill_monitoring,
    sources=lambda: list(CONFIGURATION),
    owned=("data",),
    only=(*PROGRAMS, "busybox", "libc6"),
    config={"Env": ["PATH=/usr/bin:/bin"], "WorkingDir": "/data"},
)

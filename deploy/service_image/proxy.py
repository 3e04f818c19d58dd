"""The image of the TLS proxy: Caddy, which a suite of backports may bring."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.service_image.declarations import HERE, PROXY_UID, Base, Service


def fill_proxy(root: Path, base: Base, scratch: Path) -> None:
    """Caddy's configuration."""
    (root / "etc/caddy").mkdir(parents=True)
    shutil.copy(HERE / "Caddyfile", root / "etc/caddy/Caddyfile")


PROXY = Service(
    name="proxy",
    packages=("caddy", "busybox"),  # the second for the health check
    backports=("caddy",),
    needed=("/usr/bin/caddy", "/usr/bin/busybox"),
    uid=PROXY_UID,
    fill=fill_proxy,
    sources=lambda: [HERE / "Caddyfile"],
    owned=(),
    only=("caddy", "busybox", "libc6"),
    config={
        "Entrypoint": ["/usr/bin/caddy"],
        "Cmd": ["run", "--config", "/etc/caddy/Caddyfile"],
        "Env": ["PATH=/usr/bin:/bin", "XDG_CONFIG_HOME=/tmp", "XDG_DATA_HOME=/tmp"],
        "WorkingDir": "/",
    },
)

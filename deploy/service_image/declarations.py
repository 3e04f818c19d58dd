"""An image of the services as declared, apart from how it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox_image import sbom

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
SERVICE_UID, REDIS_UID, PROXY_UID, MONITORING_UID = 10001, 10002, 10003, 10004
USERS = {"mayfly": SERVICE_UID, "redis": REDIS_UID, "proxy": PROXY_UID, "monitoring": MONITORING_UID}


@dataclass(frozen=True)
class Base:
    """The layer from Debian: a tar, the version of its Python (``X.Y.Z``), the packages in it."""

    tar: Path
    python: str
    packages: tuple[sbom.Package, ...]


@dataclass(frozen=True)
class Service:
    """An image to build.

    ``only`` has globs of the packages that are kept; without globs all are kept. ``backports`` are those that a suite
    of backports brings. ``fill`` puts our files into a staged root; ``owned`` are the directories from which volumes
    start.
    """

    name: str
    packages: tuple[str, ...]
    needed: tuple[str, ...]
    uid: int
    fill: Callable[[Path, Base, Path], None]
    sources: Callable[[], list[Path]]
    owned: tuple[str, ...]
    only: tuple[str, ...] = ("*",)
    backports: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

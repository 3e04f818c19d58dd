"""The engine proxy's process: ``python -m worker.engine_proxy``, one for each host.

SIGTERM or SIGINT ends it, and with it the streams of all containers that it carries: stop the workers first.
"""

from __future__ import annotations

import argparse
import os
import signal
import stat
import sys
import threading
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import structlog

from orchestrator.environments import load_environments
from orchestrator.host.confinement import check_confinement
from orchestrator.host.listener import Listener
from orchestrator.logs import configure_logging
from orchestrator.settings import Settings
from orchestrator.store.connection import connect
from orchestrator.store.security import LogBounds, SecurityLog
from worker.engine_proxy.bodies import Bodies
from worker.engine_proxy.engine import Engine
from worker.engine_proxy.reporting import Reports
from worker.engine_proxy.serving import Gate, Server

MOST_CONNECTIONS = 512
log = structlog.get_logger()


def serve(settings: Settings) -> int:
    """Serve until a signal; the exit code. Raises ``ValueError`` for an engine without a Unix socket."""
    check_confinement("engine-proxy", settings.expect_confinement)
    reports = Reports(
        SecurityLog(
            connect(settings.effective_redis_url, settings.redis_timeout_seconds),
            LogBounds(settings.security_events, settings.security_seconds),
        )
    )
    bodies = Bodies(settings, load_environments(settings.environments_dirs))
    gate = Gate(Engine(engine_socket(settings.docker_url)), bodies, settings.installation, reports)
    listener = Listener(settings.metrics_host, settings.engine_metrics_port)  # without its port there is no socket
    with listen(settings.engine_proxy_path, gate) as server:
        reports.start()
        listener.start()

        def stop(number: int, frame: FrameType | None) -> None:
            threading.Thread(target=server.shutdown, name="stop").start()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        log.info("engine_proxy.started", socket=str(settings.engine_proxy_path), installation=settings.installation)
        server.serve_forever()
        settings.engine_proxy_path.unlink(missing_ok=True)
        reports.stop()
    log.info("engine_proxy.stopped")
    return 0


def listen(path: Path, gate: Gate) -> Server:
    """Listen at a path, in place of an earlier proxy's socket; its group may use it, and no other user."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()
    earlier = os.umask(0o117)
    try:
        return Server(str(path), gate, MOST_CONNECTIONS)
    finally:
        os.umask(earlier)


def engine_socket(url: str) -> Path:
    """The path of an engine's Unix socket. Raises ``ValueError`` for another address."""
    parts = urlsplit(url)
    if parts.scheme != "unix" or not parts.path:
        raise ValueError(f"{url}: the engine proxy needs the engine's Unix socket (MAYFLY_DOCKER_URL)")
    return Path(parts.path)


def main() -> None:
    """Entry point of ``python -m worker.engine_proxy``."""
    argparse.ArgumentParser(prog="python -m worker.engine_proxy", description=__doc__).parse_args()
    settings = Settings()
    configure_logging(settings.log_level)
    sys.exit(serve(settings))


if __name__ == "__main__":
    main()

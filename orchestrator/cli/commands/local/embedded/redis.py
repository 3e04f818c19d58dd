"""Starts the embedded Redis."""

from __future__ import annotations

import shutil

from orchestrator.cli.commands.local.embedded.append_only import cut_torn_transaction
from orchestrator.cli.commands.local.processes import Process, until
from orchestrator.cli.console import CommandFailed
from orchestrator.errors import StoreUnavailable
from orchestrator.settings import Settings, inherited_environment
from orchestrator.store.connection import connect

REDIS_SECONDS = 60.0  # a long append-only file takes a while to load


def start_redis(process: Process, settings: Settings) -> int:
    """Start it, and return its pid once it answers. Raises :class:`CommandFailed`."""
    server = shutil.which("redis-server")
    if server is None:
        raise CommandFailed("There is no redis-server here. Type: sudo deploy/setup.sh  (or set MAYFLY_REDIS_URL)")
    data = settings.state_dir / "redis"
    data.mkdir(mode=0o700, exist_ok=True)
    settings.redis_socket.unlink(missing_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(settings.redis_socket),
        "unixsocketperm": "600",
        "dir": str(data),
        "appendonly": "yes",
        "save": "",
        "maxmemory": str(settings.redis_memory_bytes),
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "repl-diskless-sync-delay": "0",  # a backup need not wait for replicas
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command, environment = [server, *words], inherited_environment()
    unknown = settings.redis_socket.with_suffix(".load")
    try:
        cut_torn_transaction(command, environment, data, unknown, process.log_file, REDIS_SECONDS)
    except TimeoutError as error:
        raise CommandFailed(f"{error} See {process.log_file}") from error
    pid = process.start(command, environment, data)
    store = connect(settings.effective_redis_url, settings.redis_timeout_seconds)

    def answers() -> bool:
        if process.pid() is None:
            raise CommandFailed(f"Redis did not start; see {process.log_file}\n{process.last_words()}")
        try:
            return bool(store.ping())
        except StoreUnavailable:
            return False

    if not until(REDIS_SECONDS, answers):
        raise CommandFailed(f"Redis does not answer after {REDIS_SECONDS:g} s; see {process.log_file}")
    store.close()
    return pid

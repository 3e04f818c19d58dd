"""The API process: ``python -m orchestrator.api``."""

from __future__ import annotations

import ctypes
import resource
from functools import partial
from types import FrameType

import uvicorn

from orchestrator.api import create_app
from orchestrator.api.door.connections import Connection
from orchestrator.api.door.table import Bounds, ConnectionTable
from orchestrator.api.middleware import KEEP_ALIVE_SECONDS
from orchestrator.api.waiting import Gate, WaitingServer
from orchestrator.host.listener import Listener
from orchestrator.logs import configure_logging
from orchestrator.queries.wakeups import Wakeups
from orchestrator.service.presence import Presence, presence_of_api
from orchestrator.settings import Settings

M_MMAP_THRESHOLD = -3  # of malloc.h
LARGE_BLOCK_BYTES = 2**20
SPARE_DESCRIPTORS = 1024  # for Redis, blobs, and connections that are refused


class Server(uvicorn.Server):
    """A server that drains on a stop signal; a second signal ends the process at once.

    Waiting requests are answered at once with the current state; live streams end, and clients resume with their last
    id; idle connections are closed after their next answer. New connections are not accepted.
    """

    def __init__(self, config: uvicorn.Config, wakeups: Wakeups, presence: Presence) -> None:
        super().__init__(config)
        self._wakeups, self._presence = wakeups, presence

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)
        self._wakeups.drain()

    async def on_tick(self, counter: int) -> bool:
        """End in the same way when a migration begins."""
        if self._presence.is_refused and not self.should_exit:
            self.should_exit = True
            self._wakeups.drain()
        return await super().on_tick(counter)


def allow_descriptors(wanted: int) -> None:
    """Raise this process's limit of open files to ``wanted``, or to the hard limit: each connection needs a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def return_large_blocks() -> None:
    """Make glibc return large free blocks to the system; by default glibc keeps up to 32 MiB for each thread."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def main() -> None:
    """Serve until a signal stops the process."""
    settings = Settings()
    return_large_blocks()
    allow_descriptors(2 * settings.connections + SPARE_DESCRIPTORS)
    configure_logging(settings.log_level)
    app = create_app(settings)
    presence = presence_of_api(settings)
    if (reason := presence.look()) is not None:
        WaitingServer(settings, presence, reason).run()
        if not presence.is_valid():
            return
    table = ConnectionTable(Bounds.of(settings), app.floods)
    config = uvicorn.Config(
        Gate(app, presence),
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",  # by name, so that a missing uvloop is an error, and not a slower event loop
        http=partial(Connection, table),  # type: ignore[arg-type] # uvicorn accepts any factory of protocols
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=10,
    )
    if settings.api_metrics_port:
        Listener(settings.metrics_host, settings.api_metrics_port).start()
    presence.start()
    try:
        Server(config, app.wakeups, presence).run()
    finally:
        presence.stop()
    presence.begin_anew_if_refused()


if __name__ == "__main__":
    main()

"""The API process: ``python -m orchestrator.api``."""

from __future__ import annotations

from types import FrameType

import uvicorn

from orchestrator.api import create_app
from orchestrator.api.middleware import KEEP_ALIVE_SECONDS
from orchestrator.api.wakeups import Wakeups
from orchestrator.logs import configure_logging
from orchestrator.settings import Settings


class Server(uvicorn.Server):
    """One that lets go of whoever waits as soon as it is told to end; told again, it ends at once.

    A request that is held back is answered with what there is, a live stream ends, and its client comes back with the
    last id it saw; connections that are kept open are closed behind their next answer. No new one is taken meanwhile.
    """

    def __init__(self, config: uvicorn.Config, wakeups: Wakeups) -> None:
        super().__init__(config)
        self._wakeups = wakeups

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)
        self._wakeups.hurry()


def main() -> None:
    """Serve until told to stop."""
    settings = Settings()
    configure_logging(settings.log_level)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",  # by name, so that it is never silently the slower one
        http="httptools",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=10,
    )
    Server(config, app.wakeups).run()


if __name__ == "__main__":
    main()

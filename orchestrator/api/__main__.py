"""The API process: ``python -m orchestrator.api``."""

from __future__ import annotations

import uvicorn

from orchestrator.api import create_app
from orchestrator.logs import configure_logging
from orchestrator.settings import Settings


def main() -> None:
    """Serve until told to stop."""
    settings = Settings()
    configure_logging(settings.log_level)
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",  # by name, so that it is never silently the slower one
        http="httptools",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()

"""A real worker over the empty driver: ``python -m tests.bench.fleet.worker``, set up by the same variables."""

from __future__ import annotations

import sys

from orchestrator.logs import configure_logging
from orchestrator.settings import Settings
from tests.bench.fleet.empty import EmptyDriver
from worker.process import Worker


def main() -> None:
    """Work until a signal to stop."""
    settings = Settings()
    configure_logging(settings.log_level)
    sys.exit(Worker(settings, lambda settings, worker: EmptyDriver()).main())


if __name__ == "__main__":
    main()

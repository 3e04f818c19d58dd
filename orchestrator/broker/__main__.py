"""The broker process: ``python -m orchestrator.broker``; several brokers share the tool servers."""

from __future__ import annotations

import argparse
import logging
import sys

from orchestrator.broker.process import Broker
from orchestrator.logs import configure_logging
from orchestrator.settings import Settings


def main() -> None:
    """Entry point of ``python -m orchestrator.broker``."""
    argparse.ArgumentParser(prog="python -m orchestrator.broker", description=__doc__).parse_args()
    settings = Settings()
    configure_logging(settings.log_level)
    for library in ("mcp", "client", "httpx2"):  # their log lines contain answers of tool servers
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    broker = Broker(settings)
    code = broker.main()
    broker.presence.begin_anew_if_refused()
    sys.exit(code)


if __name__ == "__main__":
    main()

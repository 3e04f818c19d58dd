"""The supervisor's process: ``python -m orchestrator.cli.commands.local.embedded DESCRIPTOR``, started by `mayfly up`.

It starts the processes that do not run, writes what it did to the pipe ``DESCRIPTOR`` as one JSON document (lines, or
a failure with its exit code), and then supervises.
"""

from __future__ import annotations

import json
import os
import sys

from orchestrator.cli.commands.local.embedded.services import Services
from orchestrator.cli.commands.local.embedded.supervisor import Supervisor
from orchestrator.cli.commands.local.stack import Stack
from orchestrator.cli.console import CommandFailed
from orchestrator.errors import StoreUnavailable
from orchestrator.logs import configure_logging
from orchestrator.settings import Settings


def main(descriptor: int) -> int:
    """Start what is missing, report, supervise; returns only after a failure to start."""
    settings = Settings()
    configure_logging(settings.log_level)
    stack = Stack(settings)
    try:
        services, started = Services(stack).start_missing()
    except (CommandFailed, StoreUnavailable) as error:
        code = getattr(error, "exit_code", 1)
        _announce(descriptor, failure=str(error), exit_code=code)
        return code
    supervisor = Supervisor(stack.directory, services, stack.locked)
    _announce(descriptor, started=started)
    supervisor.run()
    return 0


def _announce(descriptor: int, **document: object) -> None:
    with os.fdopen(descriptor, "w", encoding="utf-8") as pipe:
        json.dump(document, pipe)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

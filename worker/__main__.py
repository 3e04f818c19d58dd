"""The worker process: ``python -m worker``, one for each host."""

from __future__ import annotations

import argparse
import os
import sys

from orchestrator.host.oci import WITHOUT_UNIFIED, unified_mount
from orchestrator.logs import configure_logging
from orchestrator.settings import Settings
from worker.process import Worker


def _leave_unified(settings: Settings) -> None:
    """Hide cgroup version 2 on a host that mounts both versions, once for this process instead of for each container of
    crun.

    The mount namespace is this process's alone, and nothing on the host changes.
    """
    unified = unified_mount(settings.cgroup_root)
    if settings.driver == "oci" and unified is not None:
        command = [*WITHOUT_UNIFIED, str(unified), sys.executable, "-m", "worker", *sys.argv[1:]]
        os.execvp(command[0], command)  # noqa: S606 - the words are those of this process


def main() -> None:
    """Entry point of ``python -m worker``."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    accept = "start although the host cannot keep a promise; a security event reports that (MAYFLY_ACCEPT_WEAKER)"
    parser.add_argument("--accept-weaker", action="store_true", help=accept)
    settings = Settings()
    if parser.parse_args().accept_weaker:
        settings = settings.model_copy(update={"accept_weaker": True})
    _leave_unified(settings)
    configure_logging(settings.log_level)
    worker = Worker(settings)
    code = worker.main()
    worker.presence.begin_anew_if_refused()
    sys.exit(code)


if __name__ == "__main__":
    main()

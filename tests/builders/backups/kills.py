"""A process that makes or restores backups and is killed at a given step: ``python -m … create|restore JSON``.

Each line of its input is the number of a step; a child, forked for it, is killed just before that step. Steps are
commands to Redis, and whatever syncs, renames, makes or removes a file or directory. A line of output has the end
of each: ``killed``, ``done``, or ``refused`` and why.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.backup.catalogue import chosen
from orchestrator.backup.creation.creating import Creator
from orchestrator.backup.creation.retention import Kept
from orchestrator.backup.encryption import Identities
from orchestrator.backup.errors import BackupError
from orchestrator.backup.restoration.reading import Reader
from orchestrator.backup.restoration.restoring import restore
from orchestrator.backup.targets import open_target
from orchestrator.settings import Settings
from orchestrator.store.connection import StoreConnection, StorePipeline

EVENTS = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "mayfly.step"})


class Task(NamedTuple):
    """The work of the process."""

    action: str
    settings: dict[str, Any]
    identity: str
    keep: int

    def run(self) -> None:
        settings = Settings.model_validate(self.settings)
        target = open_target(settings.backup_target)
        if self.action == "create":
            Creator(settings, target).create(Kept(self.keep, 0))
        else:
            restore(Reader(target, chosen(target, None, None), Identities(Path(self.identity))), settings)


def announced(function: Any) -> Any:
    """The function, as a step of its own."""

    def call(*args: Any, **options: Any) -> Any:
        sys.audit("mayfly.step")
        return function(*args, **options)

    return call


def arm(step: int) -> None:
    """Kill this process just before that step."""
    passed = 0

    def count(event: str, args: tuple[Any, ...]) -> None:
        nonlocal passed
        if event in EVENTS:
            passed += 1
            if passed == step:
                os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = announced(os.fsync)
    StorePipeline.execute = announced(StorePipeline.execute)  # type: ignore[method-assign]
    StoreConnection._exchange = announced(StoreConnection._exchange)  # type: ignore[method-assign]
    sys.addaudithook(count)


def child(task: Task, step: int) -> int:
    """The child's exit code."""
    arm(step)
    try:
        task.run()
    except BackupError as error:
        print(f"refused {' '.join(str(error).splitlines())}", flush=True)
        return 1
    print("done", flush=True)
    return 0


def main() -> None:
    task = Task(**json.loads(sys.argv[1]))
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(child(task, int(line)))
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            print("killed", flush=True)


if __name__ == "__main__":
    main()

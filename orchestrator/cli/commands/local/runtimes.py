"""Registers crun and gVisor's runsc, where installed, in an engine that this command starts.

They are added to a copy of the engine's own configuration, whose own runtimes take precedence. An engine started
elsewhere is never changed: ``docs/isolation.md`` has the configuration for its operator.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.host.oci import WITHOUT_UNIFIED

CONFIGURATION = Path("/etc/docker/daemon.json")
CGROUPS = Path("/sys/fs/cgroup")


def add_runtimes(
    arguments: Sequence[str], directory: Path, path: str, runsc_arguments: Sequence[str], cgroups: Path = CGROUPS
) -> list[str]:
    """The daemon's arguments with crun and runsc registered, if they are on ``path``; files go into ``directory``.

    If the caller's own arguments name runtimes, or the configuration cannot be read, the arguments are unchanged: the
    daemon accepts runtimes from one place only, and reports faults of its configuration itself.
    """
    if value_of(arguments, "--add-runtime") is not None:
        return list(arguments)
    own = Path(value_of(arguments, "--config-file") or CONFIGURATION)
    try:
        configuration: dict[str, Any] = json.loads(own.read_text(encoding="utf-8")) if own.exists() else {}
        runtimes = _found(directory, path, runsc_arguments, cgroups) | configuration.get("runtimes", {})
    except (OSError, ValueError, TypeError, AttributeError):
        return list(arguments)
    if not runtimes:
        return list(arguments)
    copy = directory / "engine-configuration.json"
    copy.write_text(json.dumps(configuration | {"runtimes": runtimes}, indent=1) + "\n", encoding="utf-8")
    return [*arguments, f"--config-file={copy}"]  # of two such options, the daemon uses the last


def value_of(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option on a command line."""
    for position, argument in enumerate(arguments):
        if argument == option and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return None


def _found(directory: Path, path: str, runsc_arguments: Sequence[str], cgroups: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if runsc := shutil.which("runsc", path=path):
        found["runsc"] = {"path": runsc, "runtimeArgs": list(runsc_arguments)}
    if crun := shutil.which("crun", path=path):
        found["crun"] = {"path": crun}
        if (cgroups / "unified").is_dir():
            script = directory / "crun"
            alone = shlex.join([*WITHOUT_UNIFIED, str(cgroups / "unified"), crun])
            script.write_text(f'#!/bin/sh\nexec {alone} "$@"\n', encoding="utf-8")
            script.chmod(0o755)
            found["crun"] = {"path": str(script)}
    return found

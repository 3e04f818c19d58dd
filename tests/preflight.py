"""Checks the tests' requirements of this machine before the first test: ``python -m tests.preflight -- COMMAND``.

It names everything that is missing and ends with 1, so that no run is green for having left tests out.
"""

from __future__ import annotations

import os
import shutil
import sys

import docker

from tests.engine import ENGINE, pings

COMMANDS = {
    "redis-server": "redis-server",
    "mmdebstrap": "mmdebstrap",
    "tcc": "tcc",
    "ld": "binutils",
    "runc": "runc",
    "crun": "crun",
    "runsc": "runsc",
    "ip": "iproute2",
    "iptables": "iptables",
    "promtool": "prometheus",
}
FOR_ALL = {"docker-compose": "docker-compose", "faketime": "faketime", "haproxy": "haproxy"}
RUNTIMES = ("runc", "crun", "runsc")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing_commands(commands: dict[str, str]) -> list[str]:
    """Those that are not installed, each with its package."""
    return [
        f"{command} is not installed (package {package})"
        for command, package in commands.items()
        if not (shutil.which(command) or shutil.which(command, path=PATH))
    ]


def missing_of_engine(runtimes: frozenset[str] | None) -> list[str]:
    """The requirements that an engine with those runtimes lacks; ``None`` stands for no engine."""
    if runtimes is None:
        return [f"no container engine answers at {ENGINE}"]
    return [
        f"the engine at {ENGINE} has no runtime {name}; one that Mayfly starts itself has all that are installed"
        for name in RUNTIMES
        if name not in runtimes
    ]


def runtimes_of_engine() -> frozenset[str] | None:
    """Names of the runtimes that the engine has; ``None`` where none answers."""
    if not pings(ENGINE):
        return None
    api = docker.APIClient()
    try:
        return frozenset(api.info()["Runtimes"])
    finally:
        api.close()


def main(words: list[str]) -> int:
    """Look for everything, and become the command that follows ``--`` if nothing is missing."""
    at = words.index("--") if "--" in words else len(words)
    options, command = words[:at], words[at + 1 :]
    commands = COMMANDS | (FOR_ALL if "--all" in options else {})
    missing = [*missing_commands(commands), *missing_of_engine(runtimes_of_engine())]
    if missing:
        print("The tests cannot run here:", *missing, sep="\n  ", file=sys.stderr)
        print(
            "As root, `deploy/setup.sh --dev` installs what is missing. `make unit` needs none of it.", file=sys.stderr
        )
        return 1
    if command:
        os.execvp(command[0], command)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Tool servers that are commands: processes with their own user, without the broker's environment.

Commands run outside a sandbox, with the files and the network of the broker's host, and with the broker's user if the
broker is not root. So they need the setting ``tool_commands``, which is for development; other tool servers have
sandboxes.
"""

from __future__ import annotations

import os
import shutil

import structlog

from orchestrator.broker.declared.secrets import Secret
from orchestrator.broker.declared.users import Users
from orchestrator.broker.links.bounded_stdio import Command
from orchestrator.broker.links.link import LinkFailed
from orchestrator.models.tool_servers import ToolServer

PATH = "/usr/local/bin:/usr/bin:/bin"
NOT_ALLOWED = (
    "commands run outside a sandbox, with the files and the network of the broker's host; declare an `environment`, "
    "which runs in a sandbox, or allow commands for development by MAYFLY_TOOL_COMMANDS=true"
)
UNCONFINED = "runs outside a sandbox, with the files and the network of the broker's host: for development alone"
log = structlog.get_logger()


class CommandLauncher:
    """Starts a declared command without a sandbox: with its own user if the broker is root, else with the broker's.

    Refuses environments of kind ``tool-server``, which need a sandbox; without ``allowed`` it refuses all commands.
    """

    def __init__(self, allowed: bool, users: Users) -> None:
        self._allowed, self._users = allowed, users

    def command(self, tenant: str, server: ToolServer, secret: Secret) -> Command:
        if server.environment is not None:
            raise LinkFailed("this broker has no sandbox for tool servers that are environments")
        if server.origin != "file":
            raise LinkFailed("commands are accepted only from the operator's files")
        if not self._allowed:
            raise LinkFailed(NOT_ALLOWED)
        log.warning("tools.command_outside_sandbox", tenant=tenant, server=server.name, detail=UNCONFINED)
        try:
            user = self._users.of(tenant, server.name) if os.geteuid() == 0 else None
        except OSError as error:
            raise LinkFailed(f"there is no user for the command: {error.strerror}") from error
        return Command(
            words=(*confinement(), *server.command),
            environment={"PATH": PATH, "HOME": "/nonexistent", "LANG": "C.UTF-8", **server.env, **secret.env},
            user=user,
        )


def confinement() -> tuple[str, ...]:
    """The prefix of a command: no new privileges, and an end with the broker."""
    program = shutil.which("setpriv", path=PATH)
    return (program, "--no-new-privs", "--pdeathsig", "KILL", "--") if program else ()

"""``mayfly tools``: the group, with every command of it."""

from __future__ import annotations

import typer

from orchestrator.cli.commands.tools.calling import call
from orchestrator.cli.commands.tools.finding import list_tools, search
from orchestrator.cli.commands.tools.servers import servers
from orchestrator.cli.console import Commands

tools = typer.Typer(cls=Commands, no_args_is_help=True, help="Tools that programs may call on the host.")
tools.command("list")(list_tools)
tools.command("search")(search)
tools.command("call")(call)
tools.add_typer(servers, name="servers")

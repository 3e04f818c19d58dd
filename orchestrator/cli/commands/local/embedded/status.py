"""``mayfly status``: the processes of `mayfly up`, and their restarts."""

from __future__ import annotations

import typer

from orchestrator.cli.commands.local.stack import Stack
from orchestrator.cli.connection import located, server_settings
from orchestrator.cli.console import Json, print_json, print_table
from orchestrator.host.supervision import read_report


def status(json: Json = False) -> None:
    """Print the processes that `up` started, and how often each was restarted; exit with 1 if one does not run."""
    stack = Stack(located(server_settings()))
    report = {one.name: one for one in read_report(stack.directory)}
    found = []
    for process in (*stack.processes, stack.supervisor):
        one, pid = report.get(process.name), process.pid()
        found.append(
            {
                "name": process.name,
                "state": "running" if pid is not None else one.state if one and one.state != "running" else "ended",
                "pid": pid,
                "restarts": one.restarts if one else 0,
                "reason": one.reason if one else None,
                "ended_at": f"{one.ended_at:%Y-%m-%dT%H:%M:%SZ}" if one and one.ended_at else None,
            }
        )
    if json:
        print_json({"processes": found})
    else:
        print_table(
            ("PROCESS", "STATE", "PID", "RESTARTS", "LAST END", "REASON"),
            [(one["name"], one["state"], one["pid"], one["restarts"], one["ended_at"], one["reason"]) for one in found],
        )
    if any(one["pid"] is None for one in found):
        raise typer.Exit(1)

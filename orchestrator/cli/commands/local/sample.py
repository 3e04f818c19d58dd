"""The sample program at the end of ``mayfly up``, which does not wait for a loaded installation.

The sample runs ahead of its tenant's queued executions, and is abandoned after a time-out: the service is up even
without a free slot, so that is no failure of ``up``.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from mayfly import Client, Conflict, Execution, MayflyError
from orchestrator.cli.commands.executions.program import Program
from orchestrator.cli.commands.executions.running import save_artifacts
from orchestrator.cli.connection import Configuration
from orchestrator.cli.console import CommandFailed
from orchestrator.cli.verdict import MAYFLYS_FAULT, explanation, refusal

START_SECONDS = 20.0  # until the sample has a slot
RUN_SECONDS = 120.0  # the sample's own limits are lower
BUSY = (429, 503)


def run_sample(client: Client, program: Path, data: Path, environment: str, out: Path) -> str | None:
    """Run the program, print its output, save its artifacts. Returns the reason if it got no slot, otherwise ``None``.

    Raises :class:`CommandFailed` if the program ran and failed.
    """
    typed = Program(str(program), files=[data], environment=environment, no_stdin=True, priority="high")
    try:
        code, options = typed.arguments(Configuration())
        submitted = client.submit(code, **options)
        execution = _ended(client, submitted.id)
        if execution is None:
            return _load(client)
    except MayflyError as error:
        if error.status not in BUSY:
            raise
        return refusal(error)
    for name, target in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        target.buffer.write(client.output(execution.id, name))
        target.flush()
    if not execution.has_succeeded:
        why = explanation(execution) or f"exit code {execution.exit_code}"
        raise CommandFailed(f"The sample program failed: {why} [{execution.id}]", MAYFLYS_FAULT)
    if not save_artifacts(client, execution, out):
        raise CommandFailed("The files of the sample program could not be saved; the reason stands above.")
    return None


def _ended(client: Client, id: str) -> Execution | None:
    """The ended execution; ``None`` if it got no slot in time and was cancelled."""
    try:
        return client.wait(id, START_SECONDS)
    except TimeoutError:
        if client.get(id).state != "queued":
            return client.wait(id, RUN_SECONDS)
    with suppress(Conflict):  # the execution has ended meanwhile
        client.cancel(id)
    return None


def _load(client: Client) -> str:
    workers = client.document("workers")["items"]
    busy, slots = (sum(worker[name] for worker in workers) for name in ("busy", "slots"))
    queued = client.document("queues")["queued"]
    return f"no slot was free within {START_SECONDS:g} s ({busy} of {slots} busy, {queued} executions queued)"

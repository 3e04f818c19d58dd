"""Makes migrations, one after the other, under the lease that also excludes backups.

The order: the lease; the record that a migration has begun, after which concerned processes end or wait; the end of
their leases; the steps. An interrupted migration is recorded with its completed steps; it is completed before another
begins, also in the other direction.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence

from orchestrator.backup.creation.lease import BackupLease
from orchestrator.migrations import MIGRATIONS, Migration, path
from orchestrator.migrations.context import Context
from orchestrator.store.platform.schema import State

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 120.0  # for concerned processes; longer than an API's slowest end
LEASE_LOST = (
    "Redis lost the migration's lease or was unavailable for too long, so a backup or another migration may have "
    "begun; repeat the command, which continues after the last completed step."
)


class MigrationRefused(Exception):
    """A migration cannot begin; the message names the remedy."""


def migrate(
    context: Context,
    wanted: int,
    progress: Callable[[str], None] = lambda text: None,
    migrations: Sequence[Migration] = MIGRATIONS,
    patience_seconds: float = PATIENCE_SECONDS,
) -> int:
    """Bring the data to a schema, forward or back; the number of migrations made. Idempotent.

    Raises :class:`MigrationRefused`, :class:`BackupError` for a lost lease, and :class:`StoreUnavailable`.
    """
    schema, made = context.store.schema, 0
    with BackupLease(context.store.deletions, f"migration on {socket.gethostname()}", LEASE_LOST) as lease:
        while (following := _following(schema.state(), wanted, migrations)) is not None:
            migration, number, target, step = following
            schema.begin(number, target, step, migration.kinds)
            schema.log(f"begin {number} to {target}: {migration.name}")
            progress(f"waiting for processes of kind {', '.join(migration.kinds)} to stop")
            _await_end(context, migration, patience_seconds, is_new=not step)
            steps = migration.forward if target > number else migration.back
            for position, (name, call) in enumerate(steps):
                if position < step:
                    continue
                lease.check()
                progress(f"{number} to {target}: {name}")
                call(context)
                schema.complete_step(position + 1)
                schema.log(f"step {number} to {target}: {name}")
            schema.end(target)
            schema.log(f"end {number} to {target}")
            progress(f"{target} is made")
            made += 1
    return made


def _following(state: State, wanted: int, migrations: Sequence[Migration]) -> tuple[Migration, int, int, int] | None:
    """The next migration, with its beginning, target and completed steps; ``None`` at the wanted schema."""
    if state.target is not None:
        [migration] = path(state.number, state.target, migrations)
        return migration, state.number, state.target, state.step
    between = path(state.number, wanted, migrations)
    if not between:
        return None
    first = between[0]
    target = first.number if wanted > state.number else first.number - 1
    return first, state.number, target, 0


def _await_end(context: Context, migration: Migration, patience_seconds: float, *, is_new: bool) -> None:
    """Wait for the leases of concerned processes. Raises :class:`MigrationRefused`, and takes a new migration back."""
    schema = context.store.schema
    until = time.monotonic() + patience_seconds
    while alive := [one for one in schema.state().processes if one.kind in migration.kinds]:
        if time.monotonic() > until:
            if is_new:
                schema.end(schema.state().number)
            names = ", ".join(f"{one.kind} {one.id} (version {one.version})" for one in alive)
            raise MigrationRefused(f"Still running after {patience_seconds:g} s: {names}. End them, and repeat.")
        time.sleep(POLL_SECONDS)

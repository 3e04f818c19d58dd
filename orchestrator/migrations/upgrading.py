"""The checks, and then the migrations to the wanted schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from orchestrator.migrations.applying import PATIENCE_SECONDS, MigrationRefused, migrate
from orchestrator.migrations.checking import check
from orchestrator.migrations.context import Context
from orchestrator.migrations.sealing import mark
from orchestrator.settings import Settings
from orchestrator.store import open_store
from orchestrator.store.platform.schema import NUMBER


@contextmanager
def opened(settings: Settings) -> Iterator[Context]:
    """The installation of these settings."""
    store = open_store(settings)
    with closing(store.redis):
        yield Context(store, settings)


def upgrade(
    settings: Settings,
    wanted: int = NUMBER,
    progress: Callable[[str], None] = lambda text: None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> int:
    """Bring the data to a schema, forward or back; returns the schema that was found.

    Raises :class:`MigrationRefused`, :class:`BackupError` and :class:`StoreUnavailable`.
    """
    with opened(settings) as context:
        report = check(context, wanted)
        if report.refusals:
            raise MigrationRefused(" ".join(refusal.message for refusal in report.refusals))
        if (report.found, report.target) != (wanted, None):
            migrate(context, wanted, progress, patience_seconds=patience_seconds)
        if wanted == NUMBER:
            mark(context)  # also for data that never had another schema
    return report.found

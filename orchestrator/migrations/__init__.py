"""Migrations of the data from one schema to the next, and back.

A migration is a list of steps in each direction. A step is idempotent and may be interrupted anywhere: it is then made
again from its beginning. Completed steps are recorded in Redis, so that an interrupted migration continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from orchestrator.migrations.context import Context
from orchestrator.migrations.sealing import BACK, FORWARD, growth_bytes
from orchestrator.store.platform.schema import CONCERNS, Kind

Step = tuple[str, Callable[[Context], None]]


class Migration(NamedTuple):
    """The migration from the schema before ``number``. ``kinds`` of processes must not use the data meanwhile, nor use
    the other schema; all other processes continue.
    """

    number: int
    name: str
    kinds: tuple[Kind, ...]
    forward: Sequence[Step]
    back: Sequence[Step]
    growth_bytes: Callable[[Context], int]  # of Redis, at most


MIGRATIONS = (Migration(2, "seal API keys, users and passwords", CONCERNS[2], FORWARD, BACK, growth_bytes),)
RELEASES = {1: "0.1.0", 2: "0.2.0"}  # the first version with each schema


def next_stop(found: int, migrations: Sequence[Migration] = MIGRATIONS) -> str | None:
    """The version to upgrade to first, if this version has no migration from the found schema; otherwise ``None``."""
    oldest = min((migration.number for migration in migrations), default=found + 1)
    return RELEASES.get(oldest - 1, f"with schema {oldest - 1}") if found < oldest - 1 else None


def path(found: int, wanted: int, migrations: Iterable[Migration] = MIGRATIONS) -> list[Migration]:
    """The migrations between two schemas, in the order in which they are made."""
    low, high = sorted((found, wanted))
    between = [migration for migration in migrations if low < migration.number <= high]
    return sorted(between, key=lambda migration: migration.number, reverse=wanted < found)

"""Migrations: numbered without gaps, and found in both directions."""

from __future__ import annotations

from orchestrator.migrations import MIGRATIONS, RELEASES, Migration, next_stop, path
from orchestrator.store.platform.schema import CONCERNS, NUMBER


def migration(number: int) -> Migration:
    return Migration(number, f"to {number}", (), (), (), lambda context: 0)


def test_migrations_lead_from_the_first_schema_to_this_versions() -> None:
    assert [migration.number for migration in MIGRATIONS] == list(range(2, NUMBER + 1))
    assert RELEASES.keys() == set(range(1, NUMBER + 1))
    assert CONCERNS.keys() == {migration.number for migration in MIGRATIONS}
    for one in MIGRATIONS:
        assert one.kinds == CONCERNS[one.number]


def test_path_has_each_migration_between_two_schemas_in_order() -> None:
    known = [migration(number) for number in (4, 2, 3)]
    assert [one.number for one in path(1, 4, known)] == [2, 3, 4]
    assert [one.number for one in path(4, 1, known)] == [4, 3, 2]
    assert [one.number for one in path(3, 2, known)] == [3]
    assert path(3, 3, known) == []


def test_data_older_than_the_oldest_migration_needs_a_stop() -> None:
    known = [migration(3), migration(4)]
    assert next_stop(1, known) == "0.2.0"
    assert next_stop(2, known) is None
    assert next_stop(4, known) is None

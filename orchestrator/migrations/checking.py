"""Whether the data of an installation can be migrated to this version's schema now. Changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from orchestrator import __version__
from orchestrator.migrations import MIGRATIONS, next_stop, path
from orchestrator.migrations.context import Context
from orchestrator.store import keys
from orchestrator.store.platform.capacity import used_bytes
from orchestrator.store.platform.schema import NUMBER, Process, State

UNNAMED = "before 0.2.0"  # the version of processes that report none
SPARE_BYTES = 16 * 2**20  # of Redis, beyond what a migration writes


class Refusal(NamedTuple):
    """A reason why the data cannot be migrated now: a stable code, and a sentence with the remedy."""

    code: str
    message: str


class Report(NamedTuple):
    """The state of an installation, seen from this version."""

    version: str
    found: int
    wanted: int
    target: int | None  # of an interrupted migration
    migrations: tuple[str, ...]
    processes: tuple[Process, ...]
    redis_free_bytes: int | None
    redis_needed_bytes: int
    disk_free_bytes: dict[str, int]
    refusals: tuple[Refusal, ...]


def check(context: Context, wanted: int = NUMBER) -> Report:
    """Examine the installation. Raises :class:`StoreUnavailable`."""
    state = context.store.schema.state()
    steps = [] if state.number > NUMBER or next_stop(state.number) else path(state.number, wanted)
    if not steps and state.target is not None:
        steps = path(state.number, state.target)
    processes = (*state.processes, *_unnamed(context, state))
    free = _redis_free_bytes(context)
    needed = sum(step.growth_bytes(context) for step in steps) + (SPARE_BYTES if steps else 0)
    disks = _disks(context)
    report = Report(
        __version__,
        state.number,
        wanted,
        state.target,
        tuple(step.name for step in steps),
        processes,
        free,
        needed,
        disks,
        (),
    )
    return report._replace(refusals=tuple(_refusals(context, report)))


def _refusals(context: Context, report: Report) -> list[Refusal]:
    found = []
    if max(report.found, report.target or 0) > NUMBER:
        found.append(
            Refusal(
                "schema_newer",
                f"The data is of a later version than {__version__}; with it type: mayfly upgrade back --to {NUMBER}",
            )
        )
    if (stop := next_stop(report.found)) is not None:
        found.append(Refusal("next_stop", f"Upgrade to version {stop} first; this version does not read the data."))
    kinds = {kind for migration in MIGRATIONS if migration.name in report.migrations for kind in migration.kinds}
    if old := [one for one in report.processes if one.version == UNNAMED and one.kind in kinds]:
        names = ", ".join(f"{one.kind} {one.id}" for one in old)
        found.append(
            Refusal("old_processes", f"Processes of a version {UNNAMED} use the data: {names}. End them, and repeat.")
        )
    if report.redis_free_bytes is not None and report.redis_free_bytes < report.redis_needed_bytes:
        needed, free = report.redis_needed_bytes, report.redis_free_bytes
        found.append(
            Refusal("redis_full", f"Redis has {free} bytes free, and the migration needs {needed}: raise maxmemory.")
        )
    least = context.settings.disk_free_bytes
    for name, free in report.disk_free_bytes.items():
        if report.migrations and free < least:
            found.append(
                Refusal("disk_full", f"{name} has {free} bytes free, fewer than MAYFLY_DISK_FREE_BYTES ({least}).")
            )
    return found


def _unnamed(context: Context, state: State) -> list[Process]:
    """Live processes of versions without leases: workers by their heartbeats, APIs by their subscriptions."""
    store, named = context.store, {process.id for process in state.processes}
    found = [Process(worker.id, "worker", UNNAMED, 1) for worker in store.fleet.alive() if worker.id not in named]
    found += [Process(id, "broker", UNNAMED, 1) for id in store.tools.brokers.alive() if id not in named]
    [(_, subscribed)] = store.redis.pubsub_numsub(keys.ENDED)
    apis = sum(process.kind == "api" for process in state.processes)
    return found + [Process(str(number), "api", UNNAMED, 1) for number in range(1, subscribed - apis + 1)]


def _redis_free_bytes(context: Context) -> int | None:
    memory = context.store.redis.info("memory")
    bound = int(memory.get("maxmemory", 0))
    return bound - used_bytes(memory) if bound else None


def _disks(context: Context) -> dict[str, int]:
    places = {"state directory": context.settings.state_dir, "blob directory": context.settings.blobs_path}
    return {name: shutil.disk_usage(_existing(place)).free for name, place in places.items()}


def _existing(place: Path) -> Path:
    return next(one for one in (place.absolute(), *place.absolute().parents) if one.exists())

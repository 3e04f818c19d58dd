"""The schema of the data in Redis, as a number, and the processes that use it.

A migration changes the number. A process of a version with another number may use the data only if no migration
between the two concerns its kind: :data:`CONCERNS` has the migrations up to this version's schema, and the data itself
has those of later versions. Each process has a lease, which is given and renewed only while it may use the data; a
migration begins when the leases of all concerned processes have ended. ``SCHEMA`` and ``PROCESSES`` have this form in
every schema.

Data without a number is of the first schema if a key or a user is stored as that schema has it, and otherwise new.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.malformed import MALFORMED, report_malformed

Kind = Literal["api", "worker", "broker"]
NUMBER = 2  # of this version
CONCERNS: dict[int, tuple[Kind, ...]] = {2: ("api",)}  # the kinds of processes that read or write what it changes
LEASE_SECONDS = 15
MOST_LOGGED = 200


class Process(NamedTuple):
    """A process that uses the data, with the version and the schema of its code."""

    id: str
    kind: Kind
    version: str
    schema: int


class Permission(NamedTuple):
    """The answer to a process: the schema of the data, the schema that a migration is making, and whether the process
    may use the data.
    """

    number: int
    target: int | None
    is_given: bool


class State(NamedTuple):
    """The schema of the data, with the migration that has begun: its target, and the number of its completed steps."""

    number: int
    target: int | None
    step: int
    processes: tuple[Process, ...]


class Schema:
    """The number, the leases, and the record of migrations. Thread-safe."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis: Any = connection
        self._announce = connection.script(scripts.ANNOUNCE)
        self._find = connection.script(scripts.FIND_SCHEMA)

    def announce(self, process: Process, known: int | None = None) -> Permission:
        """Begin or renew a process's lease, if it may use the data; ``known``: the schema that it used before."""
        concerning = ",".join(str(number) for number, kinds in CONCERNS.items() if process.kind in kinds)
        args = [_text(process), process.kind, process.schema, concerning, LEASE_SECONDS, known or ""]
        number, target, is_given = self._announce(args=args)
        return Permission(number, target or None, bool(is_given))

    def leave(self, process: Process) -> None:
        """End a process's lease."""
        self._redis.zrem(keys.PROCESSES, _text(process))

    def state(self) -> State:
        """The schema, and the live processes."""
        number, target, step, processes = self._find(args=[NUMBER])
        return State(number, target or None, step, tuple(_processes(processes)))

    def begin(self, number: int, target: int, step: int, concerned: Iterable[str]) -> None:
        """Record the migration from a schema to the next or the previous one: concerned processes stop or wait."""
        fields = {"number": number, "target": target, "step": step, f"kinds{max(number, target)}": ",".join(concerned)}
        self._redis.hset(keys.SCHEMA, mapping=fields)

    def complete_step(self, step: int) -> None:
        """Record the number of completed steps."""
        self._redis.hset(keys.SCHEMA, "step", step)

    def end(self, number: int) -> None:
        """Record the schema that the data now has: processes of that schema start."""
        with self._redis.pipeline() as pipe:
            pipe.hset(keys.SCHEMA, "number", number)
            pipe.hdel(keys.SCHEMA, "target", "step", f"kinds{number + 1}")
            pipe.execute()

    def log(self, text: str) -> None:
        """Append to the record of migrations, with Redis's time."""
        seconds, _ = self._redis.time()
        with self._redis.pipeline() as pipe:
            pipe.rpush(keys.MIGRATIONS, f"{seconds} {text}")
            pipe.ltrim(keys.MIGRATIONS, -MOST_LOGGED, -1)
            pipe.execute()

    def logged(self) -> list[tuple[int, str]]:
        """The record of migrations: times in seconds since the epoch, and texts."""
        lines = (line.decode(errors="replace").partition(" ") for line in self._redis.lrange(keys.MIGRATIONS, 0, -1))
        return [(int(seconds), text) for seconds, _, text in lines if seconds.isdigit()]


def _text(process: Process) -> str:
    return json.dumps(process._asdict(), sort_keys=True)


def _processes(stored: Iterable[bytes]) -> Iterable[Process]:
    for text in stored:
        try:
            yield Process(**json.loads(text))
        except MALFORMED as error:
            report_malformed("process", error)

"""The invariants after all accepted executions have ended, whichever processes were killed.

The checker reads Redis itself, directories, mounts, cgroups and containers, and the answers that clients got; of the
product it uses the names of keys and the table of transitions. Each violation is a sentence.
"""

from __future__ import annotations

import glob
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.anomaly import ENDS
from orchestrator.models import ISOLATIONS
from orchestrator.states import TERMINAL, TRANSITIONS, State
from orchestrator.store import keys

ACTIVE = (State.STARTING, State.RUNNING)
OUTPUT = ("stdout", "stderr")
LATE = ("security", "done")  # may stand behind an end
OPEN = ("queued", "active", "reserved")  # counters of executions that have not ended
SHOWN = ("state", "reason", "fault", "attempt", "stdout", "finished_at")


@dataclass
class Accepted:
    """An execution whose acceptance was confirmed to a client, and the later answers to that client."""

    id: str
    stdout: str  # what its program prints
    tenant: str = "default"
    reported: dict[str, Any] | None = None  # the first answer in which it had ended
    reported_again: dict[str, Any] | None = None  # the last one
    cancelled: bool = False  # whether its client has asked for that
    spoilt: bool = False  # whether a platform fault is allowed, since no worker could run the execution
    artifact: str | None = None  # the content of its file in `/output`, if it writes one


@dataclass(frozen=True)
class Entry:
    type: str
    data: bytes
    attempt: int


def violations(redis: Any, accepted: Iterable[Accepted], all_kept: bool = True) -> list[str]:
    """Violations in records, counters and queues, when all workers are idle.

    ``all_kept``: no execution has expired yet, so that every count can be compared with the records.
    """
    executions = {one.id: one for one in accepted}
    found = [what for one in executions.values() for what in of_one(redis, one)]
    records = {key.decode().rpartition(":")[2] for key in redis.scan_iter(keys.execution("*"), 1000)}
    found += [f"{id}: no client submitted this record" for id in sorted(records - executions.keys())]
    found += _of_tallies(redis, records) if all_kept else ()
    return [*found, *_of_indexes(redis, records), *_of_counters(redis, records), *_of_queues(redis)]


def of_one(redis: Any, one: Accepted) -> list[str]:
    """Violations in one ended execution."""
    return [f"{one.id}: {what}" for found in (_of_record(redis, one), _of_reported(one)) for what in found]


def left_on_host(directory: Path, workers: Iterable[int] = (), cgroups: Path = Path("/sys/fs/cgroup")) -> list[str]:
    """The remains on this host of an installation in that directory when its workers, once these pids, have ended.

    That are containers, cgroups, mounts, and the directories by which uids are leased.
    """
    state = directory / "state"
    sandboxes = state / "sandboxes"
    found = [f"container {path} is left" for path in glob.glob("containers/*/*", root_dir=state)]
    found += [f"bundle {path} is left" for path in glob.glob("oci/bundles/*/*", root_dir=state)]
    found += [f"container {path} is left with its runtime" for path in glob.glob("oci/runtimes/*/*", root_dir=state)]
    mine = [re.compile(rf"mayfly-.*-{pid}-[0-9a-f]+-[0-9a-f]+") for pid in workers]
    for path in cgroups.glob("*/mayfly/*") if mine else ():
        found += [f"cgroup {path} is left" for name in mine if name.fullmatch(path.name)]
    if sandboxes.exists():
        found += [f"directory {path.name} is left" for path in sandboxes.iterdir()]
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        if (point := line.split()[1]).startswith((str(state), str(sandboxes.resolve()))) and "rootfs" not in point:
            found.append(f"mount {point} is left")
    return found


def stream_of(redis: Any, id: str) -> list[Entry]:
    """The stream of an execution, as it stands in Redis."""
    return [
        Entry(fields[b"t"].decode(), fields[b"d"], int(fields[b"a"])) for _, fields in redis.xrange(keys.stream(id))
    ]


def _of_record(redis: Any, one: Accepted) -> Iterator[str]:
    record = {name.decode(): value for name, value in redis.hgetall(keys.execution(one.id)).items()}
    if not record:
        yield "its record is gone"
        return
    state, attempt = State(record["state"].decode()), int(record["attempt"])
    stream = stream_of(redis, one.id)
    # After any fault the execution is tried again, and its program exits 0.
    if state is State.FAILED or (state is State.ERRORED and not one.spoilt):
        yield f"it has {state}: {record['result'].decode()}"
    if state is State.CANCELLED and not one.cancelled:
        yield "it was cancelled without a request"
    if state not in TERMINAL:
        yield f"it is {state} and not ended"
    else:
        if kept := {"spec", "signature"} & record.keys():
            yield f"it has ended and keeps {sorted(kept)}"
        if redis.zscore(keys.EXPIRY, one.id) is None:
            yield "it has ended and will never expire"
        if json.loads(record["result"]).get("state", state) != state:
            yield "its result is of another state"
    yield from of_stream(stream, state, attempt)
    printed = b"".join(entry.data for entry in stream if entry.type == "stdout" and entry.attempt == attempt).decode()
    if state is State.SUCCEEDED:
        if printed != one.stdout:
            yield f"its output is {_brief(printed)}, not {_brief(one.stdout)}"
        if json.loads(record["result"])["stdout_bytes"] != len(printed.encode()):
            yield "its result counts other bytes than its output has"
    elif not one.stdout.startswith(printed):
        yield f"its output is {_brief(printed)}, which {_brief(one.stdout)} does not begin with"
    if {"started_at", "finished_at"} <= record.keys() and float(record["finished_at"]) < float(record["started_at"]):
        yield "it ended before it began"


def of_stream(stream: list[Entry], state: State, attempt: int) -> Iterator[str]:
    """Violations in a stream: only permitted transitions, each by its own attempt, and one end."""
    at, current, ends = None, 0, 0
    for entry in stream:
        if entry.type == "state":
            to = State(entry.data.decode())
            if (at is None and to is not State.QUEUED) or (at is not None and to not in TRANSITIONS.get(at, ())):
                yield f"it went from {at} to {to}"
            current += to is State.STARTING
            at = to
            ends += to in TERMINAL
        elif entry.type == "done":
            if at is None or entry.data.decode() != at:
                yield f"its end is reported as {entry.data.decode()} and was {at}"
        elif entry.type in OUTPUT and at is not State.RUNNING:
            yield f"it printed while it was {at}"
        if entry.attempt != current and entry.type not in LATE:
            yield f"attempt {entry.attempt} wrote {entry.type!r} in attempt {current}"
    if ends != (state in TERMINAL):
        yield f"it ended {ends} times"
    if [entry.type for entry in stream].count("done") != ends:
        yield "its end was not reported once"
    if at is not state or current != attempt:
        yield f"its stream ends as {at} in attempt {current}, its record as {state} in attempt {attempt}"


def _of_reported(one: Accepted) -> Iterator[str]:
    first, last = one.reported, one.reported_again
    if one.artifact not in (None, one.stdout):
        yield f"its artifact is {_brief(one.artifact)}, not {_brief(one.stdout)}"
    if first is None or last is None:
        yield "its client never received its end"
        return
    for name in SHOWN:
        if first[name] != last[name]:
            yield f"its client received {name} {_brief(first[name])}, and then {_brief(last[name])}"


def _of_indexes(redis: Any, records: set[str]) -> Iterator[str]:
    for name in (keys.QUEUED, keys.ACTIVE, keys.RETRYING):
        for id in redis.zrange(name, 0, -1):
            yield f"{id.decode()}: it is left in {name}"
    expiring = {id.decode() for id in redis.zrange(keys.EXPIRY, 0, -1)}
    for id in sorted(expiring - records):
        yield f"{id}: it will expire and is not there"


def _of_counters(redis: Any, records: set[str]) -> Iterator[str]:
    """Every counter agrees with the records."""
    tenants = {id: redis.hget(keys.execution(id), "tenant").decode() for id in records}
    indexed: defaultdict[str, set[str]] = defaultdict(set)
    for id, tenant in tenants.items():
        indexed[tenant].add(id)
    for tenant, ids in indexed.items():
        in_index = {id.decode() for id in redis.zrange(keys.tenant_index(tenant), 0, -1)}
        if in_index != ids:
            yield f"the index of tenant {tenant} has {len(in_index)} executions, there are {len(ids)}"
    for key in [*redis.scan_iter(keys.tenant_counters("*"), 1000), *redis.scan_iter(keys.key_counters("*"), 1000)]:
        counted = dict(zip(OPEN, (int(value or 0) for value in redis.hmget(key, OPEN)), strict=True))
        if any(counted.values()):
            yield f"{key.decode()} says {counted}, and all have ended"
    stored: Counter[str] = Counter()
    for id in records:
        key, *sizes = redis.hmget(keys.execution(id), "key", "bytes", "files")
        stored[keys.key_counters((key or b"").decode())] += sum(int(size or 0) for size in sizes)
    for name in redis.scan_iter(keys.key_counters("*"), 1000):
        counted_bytes = sum(int(size or 0) for size in redis.hmget(name, "bytes", "files"))
        if counted_bytes != stored[name.decode()]:
            yield f"{name.decode()} says {counted_bytes} bytes, its executions have {stored[name.decode()]}"
    if holding := redis.smembers(keys.HOLDING):
        yield f"executions of {sorted(holding)} are held, and all have ended"


def _of_tallies(redis: Any, records: set[str]) -> Iterator[str]:
    """As many attempts were counted as ended as have."""
    ended: Counter[str] = Counter()
    for id in records:
        tenant = redis.hget(keys.execution(id), "tenant").decode()
        states = [entry.data.decode() for entry in stream_of(redis, id) if entry.type == "state"]
        ended[tenant] += sum(state in TERMINAL for state in states) + states[1:].count(State.QUEUED)
    tallied: Counter[str] = Counter()
    for key in redis.scan_iter(f"{keys.RATES}[0-9]*", 1000):
        for series, value in redis.hgetall(key).items():
            dimension, what, name = series.decode().split("|", 2)
            if dimension == "tenant" and what in ENDS:
                tallied[name] += int(value)
    if tallied != ended:
        yield f"{dict(tallied)} attempts were counted as ended, {dict(ended)} have"


def _of_queues(redis: Any) -> Iterator[str]:
    """Violations in RQ: remaining jobs, tokens and registry entries."""
    for pattern in (
        "rq:queue:*",
        "rq:wip:*",
        "rq:job:*",
        "rq:execution:*",
        "rq:executions:*",
        "rq:finished:*",
        "rq:failed:*",
    ):
        for key in sorted(redis.scan_iter(pattern, 1000)):
            if redis.ttl(key) == -1:  # what RQ lets expire is not left for ever
                yield f"{key.decode()} is left"
    for isolation in ISOLATIONS:
        if tokens := redis.llen(keys.bell(isolation)):
            yield f"{tokens} tokens are left in the bell of {isolation}"
        if tenants := redis.zrange(keys.line(isolation), 0, -1):
            yield f"tenants {tenants} are left in the line of {isolation}"
        if tokens := redis.llen(keys.spare_bell(isolation)):
            yield f"{tokens} tokens are left in the spare bell of {isolation}"
    if queues := redis.smembers("rq:queues"):
        yield f"queues {sorted(queues)} are left"
    if workers := redis.smembers(keys.WORKERS):
        yield f"workers {sorted(id.decode() for id in workers)} are left"
    for key in redis.smembers("rq:workers"):
        if not redis.exists(key):  # RQ keeps that of a worker that died for some seconds
            yield f"{key.decode()} is left among RQ's workers"


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    text = re.sub(r"[0-9a-f]{8,}:", "", text).replace("\n", " ")
    return repr(text if len(text) < 200 else f"{text[:90]} … {text[-90:]}")

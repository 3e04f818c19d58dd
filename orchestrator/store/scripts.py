"""The Lua scripts that change records: each is one atomic step, and only they write a record's state.

Each script is a file in ``lua/``. Its first line may be Redis's (``#!lua``). With ``flags=allow-oom`` the script also
runs while Redis is at its ``maxmemory``: such scripts end, free or renew, and add little. Without the flag a full Redis
refuses the whole script; a script without ``#!lua`` could fail in the middle. A line ``-- requires:`` names the
functions of ``lua/functions/`` that the script calls. The constants of ``CONSTANTS`` and the keys of
:mod:`orchestrator.store.keys` that a script uses are defined before its text, functions of keys as ``…_key``.
:mod:`orchestrator.queue` passes RQ's keys as arguments.

The state machine is passed in as data from :data:`orchestrator.states.TRANSITIONS`; a script refuses a transition
outside the table. Times are seconds since the epoch, as text.
"""

from __future__ import annotations

import inspect
import re
from importlib import resources
from typing import Any

from orchestrator.anomaly import BUCKET_SECONDS, EVERYONE_ELSE, KEPT_SECONDS, MOST_SERIES
from orchestrator.features import LANES
from orchestrator.models.tenants.records import DEFAULT_TENANT
from orchestrator.models.tools import CALLER
from orchestrator.store import accounting, keys

# The fields of a record that an execution is read from.
TIMES = ("created_at", "started_at", "finished_at", "expires_at", "cancel_requested_at")
TOKENS = ("tokens_returned", "tokens_withheld")
FIELDS = ("view", "state", "attempt", "security_events", "result", "result_bytes", *TOKENS, *TIMES)
# A result pushed to the waiting API process is small: Redis cuts off a subscriber with 8 MB of unread messages.
PUSHED_ENTRIES, PUSHED_BYTES = 10, 16 * 1024
# Of calls: the lifetime of their ids after their deadline, and the upstream of calls to unknown servers.
SETTLED_SECONDS, UNDECLARED = 60, "/"
FIRST_SCHEMA = 1  # of version 0.1.0, whose data has no number
ALLOWED_WHEN_FULL = "#!lua flags=allow-oom"
CONSTANTS: dict[str, int | str | tuple[str, ...]] = {
    "AGEING_SECONDS": accounting.AGEING_SECONDS,
    "BUCKET_SECONDS": BUCKET_SECONDS,
    "CALLER": CALLER,
    "DEFAULT_TENANT": DEFAULT_TENANT,
    "ENTRY_BYTES": accounting.ENTRY_BYTES,
    "EVERYONE_ELSE": EVERYONE_ELSE,
    "FIELDS": FIELDS,
    "FIRST_SCHEMA": FIRST_SCHEMA,
    "IDEMPOTENCY_BYTES": accounting.IDEMPOTENCY_BYTES,
    "KEPT_SECONDS": KEPT_SECONDS,
    "LANES": LANES,
    "LEFT_MILLISECONDS": accounting.LEFT_MILLISECONDS,
    "LOG_BYTES": accounting.LOG_BYTES,
    "MOST_SERIES": MOST_SERIES,
    "PUSHED_BYTES": PUSHED_BYTES,
    "PUSHED_ENTRIES": PUSHED_ENTRIES,
    "RECORD_BYTES": accounting.RECORD_BYTES,
    "RESERVED_BYTES": accounting.RESERVED_BYTES,
    "MOST_RECOUNTED": accounting.MOST_RECOUNTED,
    "MOST_USAGE_SERIES": accounting.MOST_USAGE_SERIES,
    "SETTLED_SECONDS": SETTLED_SECONDS,
    "SPARE_BYTES": accounting.SPARE_BYTES,
    "UNDECLARED": UNDECLARED,
    "USAGE": accounting.USAGE,
    "USAGE_SECONDS": accounting.USAGE_SECONDS,
}
_FILES = resources.files("orchestrator.store").joinpath("lua")
_REQUIRES = re.compile(r"^-- requires: (.+)\n", re.MULTILINE)
_QUOTED = re.compile(r"'[^']*'|--[^\n]*")


def load(name: str) -> str:
    """The text of ``lua/<name>.lua``, after its definitions."""
    text = _FILES.joinpath(f"{name}.lua").read_text(encoding="utf-8")
    first, rest = text.split("\n", 1) if text.startswith("#!") else ("", text)
    parts: dict[str, str] = {}
    _require(rest, parts)
    body = "".join([*parts.values(), rest])
    return "\n".join([first, *_definitions(body), body]) if first else "\n".join([*_definitions(body), body])


def _require(text: str, found: dict[str, str]) -> None:
    """Add the functions that a text requires, in order of their own requirements."""
    for names in _REQUIRES.findall(text):
        for name in names.split(", "):
            if name not in found:
                function = _FILES.joinpath("functions", f"{name}.lua").read_text(encoding="utf-8")
                _require(function, found)
                found[name] = function


def _definitions(body: str) -> list[str]:
    """Constants and keys that a text uses."""
    used = set(re.findall(r"\w+", _QUOTED.sub("", body)))
    values: dict[str, Any] = {**CONSTANTS, **{name: value for name, value in vars(keys).items() if name.isupper()}}
    lines = [f"local {name} = {_literal(values[name])}" for name in sorted(used & values.keys())]
    for name, key in inspect.getmembers(keys, inspect.isfunction):
        if f"{name}_key" in used:
            before, after = key("\0").split("\0")
            tail = f" .. '{after}'" if after else ""
            lines.append(f"local function {name}_key(of) return '{before}' .. of{tail} end")
    return lines


def _literal(value: int | str | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return "{" + ", ".join(map(_literal, value)) + "}"
    return f"'{value}'" if isinstance(value, str) else str(value)


# Of executions.
SUBMIT, READ, REQUEST_CANCEL, DELETE, RECOUNT, RECOUNT_STORED, ADD_TOKENS, JOIN_CALL = map(
    load,
    ("submit", "read", "request_cancel", "delete", "recount", "recount_stored", "add_tokens", "join_call"),
)
STEP = load("step")
STEP_WHEN_FULL = STEP.replace("#!lua", ALLOWED_WHEN_FULL, 1)  # for a step that adds no output to Redis
APPEND_STDIN, READ_STDIN = map(load, ("append_stdin", "read_stdin"))
# Of queues and claims.
TAKE, REQUEUE, RELEASE, WITHDRAW, SWEEP, RENEW, ENROL, DISMISS = map(
    load, ("take", "requeue", "release", "withdraw", "sweep", "renew", "enrol", "dismiss")
)
# Of calls of tools, the brokers that answer them, and catalogues.
SUBMIT_CALL, TAKE_CALLS, BEGIN_CALL, SETTLE_CALLS, COLLECT_OUTCOMES, CANCEL_CALLS = (
    load(f"tools/{name}")
    for name in ("submit_call", "take_calls", "begin_call", "settle_calls", "collect_outcomes", "cancel_calls")
)
SERVE_UPSTREAMS, LEAVE_UPSTREAMS, PUT_SERVER, ACCEPT_CATALOGUE = (
    load(f"tools/{name}") for name in ("serve_upstreams", "leave_upstreams", "put_server", "accept_catalogue")
)
PUT_CATALOGUE, PUT_SHAPE = (load(f"tools/{name}") for name in ("put_catalogue", "put_shape"))
CALL_CALLER, ANSWER_CALL = (load(f"tools/{name}") for name in ("call_caller", "answer_call"))
ANSWER_CALL_WHEN_FULL = ANSWER_CALL.replace("#!lua", ALLOWED_WHEN_FULL, 1)
SETTLE_CALLS_WHEN_FULL = SETTLE_CALLS.replace("#!lua", ALLOWED_WHEN_FULL, 1)  # for outcomes that are failures
# Of other data.
APPEND_AUDIT, SEAL_AUDIT, TRIM_AUDIT = map(load, ("append_audit", "seal_audit", "trim_audit"))
DRAIN, DELAY, PUT_SWITCH, MEND = map(load, ("drain", "delay", "put_switch", "mend"))
LEAD, KEEP_LEASE, LOG, COUNT = map(load, ("lead", "keep_lease", "log", "count"))
BEAT, FORGET_WORKER, ANNOUNCE, FIND_SCHEMA = map(load, ("beat", "forget_worker", "announce", "find_schema"))
# Of tenants, their service accounts, API keys and quotas; of issuers.
FIND_KEY, CREATE_KEY, REVOKE_KEY, PUT_QUOTAS, PUT_RECORD, REMOVE_ACCOUNT, PURGE = (
    load(f"tenants/{name}")
    for name in ("find_key", "create_key", "revoke_key", "put_quotas", "put_record", "remove_account", "purge")
)
PUT_ISSUER = load("tenants/put_issuer")
# Of own users and their sessions.
CREATE_USER, CHANGE_USER, DELETE_USER = (load(f"users/{name}_user") for name in ("create", "change", "delete"))
BEGIN_LOGIN, OPEN_SESSION, FIND_SESSION, LIST_SESSIONS, REFRESH_SESSION, END_SESSION = (
    load(f"users/{name}")
    for name in ("begin_login", "open_session", "find_session", "list_sessions", "refresh_session", "end_session")
)

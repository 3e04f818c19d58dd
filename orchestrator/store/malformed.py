"""Things in Redis, and messages from it, that Mayfly did not write: counted, logged and passed over.

With a stolen password anybody may write there. No such thing may end a thread: the reader of a key or a channel
reports what it cannot read here, and goes on with the rest.
"""

from __future__ import annotations

import re
import threading
from collections import Counter

import structlog

from orchestrator import metrics

# What reading a value may raise that is not what Mayfly writes; pydantic's and JSON's errors are ValueErrors.
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
EXECUTION = re.compile(rb"[0-9a-f]{32}")
SHOWN = 200
log = structlog.get_logger()
_counts: Counter[str] = Counter()
_lock = threading.Lock()


def report_malformed(what: str, detail: object) -> None:
    """Count a malformed thing of a kind; the 1st, 10th, 100th and so on is logged, so that a flood fills no disk."""
    metrics.store_malformed.labels(what).inc()
    with _lock:
        _counts[what] += 1
        count = _counts[what]
    if str(count).rstrip("0") == "1":
        log.warning("store.malformed", what=what, count=count, detail=repr(detail)[:SHOWN])


def execution_id(data: object, what: str) -> str | None:
    """The id of an execution in a message; ``None`` for anything else, which is reported as malformed ``what``."""
    if isinstance(data, bytes) and EXECUTION.fullmatch(data):
        return data.decode()
    report_malformed(what, data)
    return None

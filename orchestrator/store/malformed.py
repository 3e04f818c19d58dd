"""Malformed keys, values and messages in Redis: counted, logged and skipped.

An attacker with the password may write to Redis. Malformed data must not end a thread: readers of keys and channels
report it here, and continue.
"""

from __future__ import annotations

import re
import threading
from collections import Counter

import structlog

from orchestrator import metrics

# The errors of reading a malformed value; pydantic's and JSON's errors are ValueErrors.
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
EXECUTION = re.compile(rb"[0-9a-f]{32}")
SHOWN = 200
log = structlog.get_logger()
_counts: Counter[str] = Counter()
_lock = threading.Lock()


def report_malformed(what: str, detail: object) -> None:
    """Count malformed data of a kind; log the 1st, 10th, 100th and so on, so that a flood does not fill the disk."""
    metrics.store_malformed.labels(what).inc()
    with _lock:
        _counts[what] += 1
        count = _counts[what]
    if str(count).rstrip("0") == "1":
        log.warning("store.malformed", what=what, count=count, detail=repr(detail)[:SHOWN])


def execution_id(data: object, what: str) -> str | None:
    """The id of an execution in a message; ``None`` for other data, reported as malformed under the name ``what``."""
    if isinstance(data, bytes) and EXECUTION.fullmatch(data):
        return data.decode()
    report_malformed(what, data)
    return None

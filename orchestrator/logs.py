"""Structured logs: JSON lines on stderr. Program output and request bodies are never logged.

Log lines have untrusted strings (paths, process names, owners of keys) and are read at terminals: :func:`printable`
escapes them.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

MAX_CHARACTERS = 2000


def printable(text: str, most: int = MAX_CHARACTERS) -> str:
    """``text`` with unprintable characters escaped, and cut to a bounded length.

    Escaped are control characters (C0, C1, DEL), format characters (bidirectional overrides, zero width), line and
    paragraph separators, unusual spaces, halves of surrogate pairs, and what Unicode does not define or leaves to
    private use: everything but the space for which :meth:`str.isprintable` is false. Idempotent, except for the cut.
    Right-to-left scripts are unchanged.
    """
    kept = text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"
    if kept.isprintable():
        return kept
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in kept)


def harmless(value: Any) -> Any:
    """The same JSON-like value with every string in it :func:`printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(name)): harmless(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [harmless(item) for item in value]
    return value


def configure_logging(level: str) -> None:
    """Set the least severe level that is logged: ``debug``, ``info``, ``warning`` or ``error``."""
    import logging  # neither above: the command line only needs `printable`

    import structlog

    logging.basicConfig(level=logging.WARNING)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _harmless_line,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def _harmless_line(logger: Any, method: str, line: MutableMapping[str, Any]) -> dict[str, Any]:
    trace = line.pop("exception", None)
    made: dict[str, Any] = harmless(dict(line))
    if trace is not None:  # keeps its lines
        made["exception"] = "\n".join(map(printable, str(trace).split("\n")))
    return made

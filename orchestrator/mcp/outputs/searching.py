"""Lines that match an expression. RE2 takes linear time for any expression; blocks keep each step short."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import re2

from orchestrator.errors import ValidationFailed
from orchestrator.mcp.budget.personal_data import LONGEST, PersonalDataFilter
from orchestrator.mcp.outputs.sources import Source, blocks, line_at

MEMORY_BYTES = 2**20  # of a compiled expression
MOST_SHOWN = 400  # bytes of a line


class Match(NamedTuple):
    """A line that matches: its number from 1, its text, and where the next line begins."""

    line: int
    text: str
    next_offset: int


def compiled(expression: str) -> Any:
    """The expression. Raises :class:`ValidationFailed`."""
    options = re2.Options()
    options.max_mem, options.log_errors, options.never_nl = MEMORY_BYTES, False, True
    try:
        return re2.compile(b"(?m)" + expression.encode(errors="surrogatepass"), options)
    except re2.error as error:
        why = error.args[0] if error.args else ""
        reason = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        message = f"is not an RE2 expression ({reason[:200]}); RE2 has no look-around and no backreferences"
        raise ValidationFailed([("grep", message)], "invalid_grep") from error


def matches(source: Source, expression: Any, offset: int, clean: PersonalDataFilter | None = None) -> Iterator[Match]:
    """The lines from an offset on that match, in order. Lines longer than a block are searched in parts."""
    number = line_at(source, offset)
    for begin, block in blocks(source, offset):
        position, counted = 0, 0
        while position < len(block) and (found := expression.search(block, position)) is not None:
            at = found.start()
            first, end = block.rfind(b"\n", 0, at) + 1, block.find(b"\n", at)
            after = len(block) if end < 0 else end + 1
            if at >= len(block):
                break
            number += block.count(b"\n", counted, first)
            counted = first
            yield Match(number, _shown(block[first : len(block) if end < 0 else end], clean), begin + after)
            position = after
        number += block.count(b"\n", counted)


def _shown(line: bytes, clean: PersonalDataFilter | None) -> str:
    """A line as text, shortened, without personal data."""
    text = line[:MOST_SHOWN].decode(errors="replace")
    if clean is not None:
        text, _ = clean.cut(line[: MOST_SHOWN + LONGEST].decode(errors="replace"), 0, len(text))
    return text if len(line) <= MOST_SHOWN else f"{text}… [{len(line) - MOST_SHOWN:,} bytes more]"

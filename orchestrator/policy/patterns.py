"""The globs of collected files: normalised, or refused with a suggestion.

A pattern is relative to the working directory and to ``/output``, as an artifact's path is. ``output/*.csv`` and
``/output/*.csv`` mean ``*.csv``, ``./a.csv`` means ``a.csv``, and ``plots/`` all files below it.
"""

from __future__ import annotations

from orchestrator.models import has_control_characters

MAX_PATTERN, MAX_STARS = 1024, 16  # each star costs the agent a search in every file's name
MAX_PARTS = 32  # the depth of the deepest artifact
DIRECTORIES = ("output", "work")


class PatternTooLarge(ValueError):
    """A pattern with more than ``bound`` characters, stars or names."""

    def __init__(self, message: str, bound: int) -> None:
        self.bound = bound
        super().__init__(message)


def normalized_pattern(pattern: str) -> str:
    """The pattern in the agent's form. Raises ``ValueError`` (also its subclass :class:`PatternTooLarge`) with the
    mistake and a suggestion.
    """
    if not pattern:
        raise ValueError("is empty; write a glob such as '*.csv', or '**' for every file")
    if has_control_characters(pattern):
        raise ValueError("has control characters, and no artifact's path has any")
    for size, bound in ((len(pattern), MAX_PATTERN), (pattern.count("*"), MAX_STARS)):
        if size > bound:
            message = f"a pattern has at most {MAX_PATTERN} characters, {MAX_STARS} of them '*'"
            raise PatternTooLarge(message, bound)
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("has '..'; write it relative to /output or the working directory")
    if pattern.startswith("/"):
        if not parts or parts[0] not in DIRECTORIES:
            raise ValueError("only files below /output and /work come back; write it relative to them, such as '*.csv'")
        parts = parts[1:]
    elif len(parts) > 1 and parts[0] == "output":
        parts = parts[1:]
    elif parts == ["output"] and pattern.endswith("/"):
        parts = []
    if not parts or pattern.endswith(("/", "/.")):
        parts.append("**")
    if len([part for part in parts if part != "**"]) > MAX_PARTS:
        raise PatternTooLarge(f"can match nothing: no artifact lies deeper than {MAX_PARTS} names", MAX_PARTS)
    return "/".join(parts)

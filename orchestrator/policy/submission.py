"""Validates a submission and turns it into a specification, or reports every mistake.

Pure: the same submission gives the same answer, and nothing is imported, parsed as a program or run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from orchestrator.environments import Environment, Environments
from orchestrator.errors import Mistake, ValidationFailed
from orchestrator.models import Limits, Specification, Stdin, StoredFile, has_control_characters
from orchestrator.models.submission import Submission
from orchestrator.policy.base64_text import canonical_base64
from orchestrator.policy.patterns import PatternTooLarge, normalized_pattern
from orchestrator.policy.tools import tool_problems

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
KERNEL_BYTES = 16 * 2**20  # the least memory of gVisor's own kernel, which counts as the sandbox's memory
MAX_DEPTH = 16
MAX_COMPONENT = 255
MAX_PATH = 1024
UNSUPPORTED = ("mounts", "webhook")


class Problem(NamedTuple):
    """One mistake in a submission."""

    field: str
    message: str
    code: str
    bound: float | None = None


def specify(
    submission: Submission,
    environments: Environments,
    *,
    id: str,
    tenant: str,
    created_at: datetime,
    max_input_bytes: int,
    traceparent: str | None = None,
) -> Specification:
    """Check, normalise and clamp. Raises :class:`ValidationFailed` with all mistakes."""
    problems: list[Problem] = []
    environment = environments.resolve(submission.environment)
    if environment is None:
        known = ", ".join(sorted(environments))
        message = f"there is no environment {submission.environment!r}; known are: {known}"
        raise ValidationFailed([("environment", message)], "unknown_environment")
    files, entrypoint = _files(submission, environment, problems)
    limits = _limits(submission, environment, problems)
    problems += [
        Problem(name, "this installation has none to offer", "unsupported_field")
        for name in UNSUPPORTED
        if getattr(submission, name)
    ]
    problems += [Problem(*problem) for problem in tool_problems(submission.tools)]
    problems += _unavailable(submission, environment, environments)
    problems += _texts(submission)
    patterns = _patterns(submission, problems)
    stdin = _stdin(submission.stdin, problems)
    size = inline_bytes(files, stdin)
    if size > max_input_bytes:
        message = f"inputs and stdin have {size} bytes together, at most {max_input_bytes} are taken"
        problems.append(Problem("files", message, "inputs_too_large", max_input_bytes))
    if problems:
        codes = {problem.code for problem in problems}
        code = codes.pop() if len(codes) == 1 else None
        mistakes = [Mistake(problem.field, problem.message, problem.bound) for problem in problems]
        raise ValidationFailed(mistakes, code)
    return Specification(
        id=id,
        tenant=tenant,
        environment=environment.name,
        entrypoint=entrypoint,
        files=tuple(files),
        args=submission.args,
        env=submission.env,
        stdin=stdin,
        isolation=submission.isolation,
        limits=limits,
        artifacts=patterns,
        labels=dict(submission.labels),
        priority=submission.priority,
        retry=submission.retry,
        loopback=submission.loopback or environment.loopback == "always",
        mode=submission.mode,
        tools=submission.tools,
        created_at=created_at,
        traceparent=traceparent,
    )


def _unavailable(submission: Submission, environment: Environment, environments: Environments) -> Iterator[Problem]:
    """Mistakes about abilities that the environment lacks."""
    if submission.mode == "cell" and not environment.cell:
        offering = ", ".join(name for name, other in sorted(environments.items()) if other.cell) or "none"
        message = f"environment {environment.name!r} has no cells; leave mode out, or choose one with cells: {offering}"
        yield Problem("mode", message, "cells_unavailable")
    if submission.loopback and environment.loopback == "never":
        message = f"environment {environment.name!r} has no loopback; leave it out, or choose another environment"
        yield Problem("loopback", message, "loopback_unavailable")


def _texts(submission: Submission) -> Iterator[Problem]:
    """Mistakes in environment variables and arguments."""
    for name, value in submission.env.items():
        if not ENV_NAME.fullmatch(name):
            yield Problem(f"env.{name[:64]}", "a name has letters, digits and _", "invalid_env")
        if "\0" in value:
            yield Problem(f"env.{name[:64]}", "must not contain NUL", "invalid_env")
    for position, argument in enumerate(submission.args):
        if "\0" in argument:
            yield Problem(f"args.{position}", "must not contain NUL", "invalid_args")


def _files(submission: Submission, environment: Environment, problems: list[Problem]) -> tuple[list[StoredFile], str]:
    files = []
    seen: set[str] = set()
    if submission.code is not None:
        if not submission.code.strip():
            problems.append(Problem("code", "must not be empty", "empty_code"))
        if submission.entrypoint is not None:
            problems.append(Problem("entrypoint", "goes with files, not with code", "conflicting_fields"))
        seen.add(environment.file_name)
        files.append(StoredFile(path=environment.file_name, content=submission.code))
    for position, file in enumerate(submission.files):
        field = f"files.{position}"
        if (file.content is None) == (file.blob is None):
            problems.append(Problem(field, "needs either content or blob", "conflicting_fields"))
        if mistake := path_problem(file.path):
            problems.append(Problem(f"{field}.path", mistake[0], "invalid_path", mistake[1]))
        elif file.path in seen:
            problems.append(Problem(f"{field}.path", f"{file.path!r} is given twice", "duplicate_path"))
        elif clash := _clash(file.path, seen):
            problems.append(Problem(f"{field}.path", f"{clash!r} is a file and a directory", "duplicate_path"))
        seen.add(file.path)
        content = file.content
        if content is not None and file.encoding == "base64":
            try:
                content = canonical_base64(content)
            except ValueError as error:
                problems.append(Problem(f"{field}.content", str(error), "invalid_base64"))
        files.append(StoredFile(path=file.path, content=content, encoding=file.encoding, blob=file.blob))
    if submission.code is not None:
        return files, environment.file_name
    if not submission.files:
        problems.append(Problem("code", "either code or files with an entrypoint is needed", "missing_program"))
    elif submission.entrypoint is None:
        problems.append(Problem("entrypoint", "is needed with files: the path of the file to run", "missing_program"))
    elif submission.entrypoint not in seen:
        problems.append(Problem("entrypoint", "is none of the files", "missing_program"))
    return files, submission.entrypoint or environment.file_name


def path_problem(path: str) -> tuple[str, int | None] | None:
    """The mistake in an input's path, if any, and the bound that the path exceeds."""
    parts = path.split("/")
    if path.startswith("/"):
        return "must be relative", None
    if ".." in parts:
        return "must not contain '..'", None
    if "" in parts or "." in parts:
        return "must be normalised: no empty part and no '.'", None
    if has_control_characters(path) or "\\" in path:
        return "must not contain control characters or backslashes", None
    if len(parts) > MAX_DEPTH:
        return f"must not be deeper than {MAX_DEPTH} directories", MAX_DEPTH
    if any(len(part.encode()) > MAX_COMPONENT for part in parts):
        return f"no part may be longer than {MAX_COMPONENT} bytes", MAX_COMPONENT
    if len(path.encode()) > MAX_PATH:
        return f"must not be longer than {MAX_PATH} bytes", MAX_PATH
    return None


def inline_bytes(files: Iterable[StoredFile], stdin: str | Stdin) -> int:
    """The bytes inside a submission: contents of files and standard input, without blobs."""
    return sum(_size(file) for file in files) + (len(stdin.encode()) if isinstance(stdin, str) else _size(stdin))


def _stdin(given: Stdin, problems: list[Problem]) -> str | Stdin:
    """The standard input of a specification: text is unchanged, base64 is in canonical form."""
    if (given.content is not None) + (given.blob is not None) + given.stream != 1:
        problems.append(Problem("stdin", "needs one of content, blob and stream", "conflicting_fields"))
    if given.content is None:
        return given
    if given.encoding == "utf-8":
        return given.content
    try:
        return Stdin(content=canonical_base64(given.content), encoding="base64")
    except ValueError as error:
        problems.append(Problem("stdin.content", str(error), "invalid_base64"))
        return ""


def _clash(path: str, seen: set[str]) -> str | None:
    parts = path.split("/")
    parents = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    if taken := parents & seen:
        return taken.pop()
    return path if any(other.startswith(f"{path}/") for other in seen) else None


def _limits(submission: Submission, environment: Environment, problems: list[Problem]) -> Limits:
    limits = submission.limits.over(environment.defaults)
    for name, _, bound in environment.exceeded(limits):
        message = f"is above the bound of {bound:.12g} for environment {environment.name!r}"
        problems.append(Problem(f"limits.{name}", message, "limit_exceeded", bound))
    least = environment.minimal_memory_bytes + (KERNEL_BYTES if submission.isolation == "hardened" else 0)
    if limits.memory_bytes < least:
        where = f"environment {environment.name!r} and isolation {submission.isolation!r}"
        message = f"must be at least {least} for {where}: with less no sandbox starts"
        problems.append(Problem("limits.memory_bytes", message, "limit_too_small", least))
    return limits


def _patterns(submission: Submission, problems: list[Problem]) -> tuple[str, ...]:
    patterns = []
    for position, pattern in enumerate(submission.artifacts):
        try:
            patterns.append(normalized_pattern(pattern))
        except PatternTooLarge as error:
            problems.append(Problem(f"artifacts.{position}", str(error), "invalid_pattern", error.bound))
        except ValueError as error:
            problems.append(Problem(f"artifacts.{position}", str(error), "invalid_pattern"))
    return tuple(patterns)


def _size(file: StoredFile | Stdin) -> int:
    if file.content is None:
        return 0
    return len(file.content) * 3 // 4 if file.encoding == "base64" else len(file.content.encode())

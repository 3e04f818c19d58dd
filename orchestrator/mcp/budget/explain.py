"""Explains an end without success: cause, bound and remedy, in sentences for a model.

Sentences repeat only names and sizes from the program's output, with bounds, and no internals of the platform.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.models import Limits

MIB, GIB = 2**20, 2**30
STDERR_BYTES = 16 * 1024  # of the end, that are searched
MOST_NAMES = 12
UNITS = {"B": 1, "KiB": 2**10, "MiB": MIB, "GiB": GIB, "TiB": 2**40, "PiB": 2**50, "EiB": 2**60}
# Debian names the package of a Python module after the module, in lower case.
DEBIAN_PREFIX = "python3-"
CASED = {"pil": "PIL", "attr": "attrs"}
MODULE = re.compile(
    r"No module named '([\w.]{1,100})'|Cannot find (?:module|package) '((?:@[\w.-]{1,50}/)?[\w.-]{1,100})'"
)
COMMAND = re.compile(r"line \d{1,9}: ([\w.+-]{1,100}): command not found")
ALLOCATION = re.compile(r"Unable to allocate (\d{1,9}(?:\.\d{0,3})?) ([KMGTPE]?i?B)\b")
READ_ONLY = re.compile(r"Read-only file system(?:: '([^'\n]{1,200})')?")
NO_FILE = re.compile(r"(?:No such file or directory:|ENOENT: no such file or directory, open) '([^'\n]{1,200})'")
NETWORK = re.compile(
    r"Temporary failure in name resolution|Name or service not known|getaddrinfo (?:EAI_AGAIN|ENOTFOUND|EPERM)"
    r"|Network is unreachable|ENETUNREACH|Could not resolve host|socket[^\n]{0,80}Operation not permitted"
    r"|(?:urlopen|connect|NewConnection)[^\n]{0,120}(?:Operation not permitted|EPERM)"
)
MEMORY = re.compile(r"\bMemoryError\b|heap out of memory|std::bad_alloc|[Cc]annot allocate memory")
PROCESSES = re.compile(r"can't start new thread|fork: (?:retry: )?Resource temporarily unavailable|\bEAGAIN\b")
NO_SPACE = re.compile(r"No space left on device|\bENOSPC\b")
NO_INPUT = re.compile(r"EOFError: EOF when reading a line")
SIGNALS = {
    "SIGSEGV": "a crash in native code, such as a null pointer or a stack that is too deep",
    "SIGABRT": "native code aborted, often for lack of memory or a failed assertion",
    "SIGFPE": "a division by zero in native code",
    "SIGILL": "an instruction that this processor lacks",
    "SIGBUS": "a mapped file was cut, or its disk was full",
    "SIGKILL": "if the program did not kill itself, the usual cause is memory",
    "SIGPIPE": "the program wrote to a closed pipe",
}
PLATFORM = {
    "environment_unavailable": "No host can run this environment now. Use another (list_environments), or try later.",
    "runtime_unavailable": "Mayfly could not start a sandbox. The program is not at fault: submit it again.",
    "worker_lost": "The program's host was lost. The program is not at fault: submit it again.",
    "queue_expired": "The execution waited too long in the queue, and did not start. Submit fewer at a time, or again.",
    "internal": "Mayfly had an internal error. The program is not at fault: submit it again.",
    "cancelled_by_user": "The caller cancelled the execution.",
    "cancelled_by_operator": "The operator of this installation cancelled the execution.",
}
NO_NETWORK = "There is no network in a sandbox. Pass data as input files, and do not install or download anything."


@dataclass(frozen=True)
class Ending:
    """How an execution ended. ``catalogue`` has the importable names of each environment, see :func:`importable`."""

    environment: str
    reason: str | None
    limits: Limits
    maxima: Limits
    signal: str | None = None
    stderr: bytes = b""
    catalogue: Mapping[str, Sequence[str]] = field(default_factory=dict)


def importable(packages: Iterable[str]) -> tuple[str, ...]:
    """The names that Python programs can import, of an environment's Debian packages."""
    names = (package.removeprefix(DEBIAN_PREFIX) for package in packages if package.startswith(DEBIAN_PREFIX))
    return tuple(sorted((CASED.get(name, name) for name in names), key=str.lower))


def explain(ending: Ending) -> str | None:
    """Sentences with cause, bound and remedy; ``None`` if the program's own message suffices."""
    reason = ending.reason
    if reason is None:
        return None
    if reason in PLATFORM:
        return PLATFORM[reason]
    if reason in LIMITED:
        return LIMITED[reason](ending)
    stderr = ending.stderr[-STDERR_BYTES:].decode(errors="replace")
    if reason == "compile_failed":
        return "The program did not compile, and did not run. The compiler's messages are in stderr."
    if reason == "security_violation":
        return "The program was killed for an action that is forbidden in sandboxes. Remove this action."
    found = _cause(stderr, ending)
    if reason == "signalled" and found is None:
        name = ending.signal or "a signal"
        return f"The program was killed by {name}" + (f": {SIGNALS[name]}." if name in SIGNALS else ".")
    return found


def size_text(size: float) -> str:
    """A number of bytes, as in ``512 MiB``."""
    for unit, bound in (("TiB", 2**40), ("GiB", GIB), ("MiB", MIB), ("KiB", 2**10)):
        if size >= bound:
            return f"{size / bound:.4g} {unit}"
    return f"{size:.0f} bytes"


def _cause(stderr: str, ending: Ending) -> str | None:
    """The explanation of the last known error message; the program's output is only searched."""
    if found := _last(MODULE, stderr):
        return _missing_module(found[1] or found[2], ending)
    if found := _last(COMMAND, stderr):
        return _missing_command(found[1], ending)
    if found := _last(ALLOCATION, stderr):
        wanted = float(found[1]) * UNITS.get(found[2], 1)
        return f"The program requested {size_text(wanted)} of memory at once; {_memory(ending, wanted)}"
    if MEMORY.search(stderr):
        return f"Memory ran out at {size_text(ending.limits.memory_bytes)}; {_memory(ending)}"
    if PROCESSES.search(stderr):
        return _processes(ending)
    if NO_SPACE.search(stderr):
        return _disk(ending)
    if NETWORK.search(stderr):
        return NO_NETWORK
    if READ_ONLY.search(stderr):
        return "Only /work, /tmp and /output can be written. Files in /output are returned as artifacts."
    if NO_INPUT.search(stderr):
        return "The program read standard input, which is empty: pass stdin, or put the values into the code."
    if found := _last(NO_FILE, stderr):
        return (
            f"There is no file {found[1]!r}. An execution starts with its own input files only: pass the file with "
            "this call. Of earlier executions only artifacts are kept."
        )
    return None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = None
    for found in pattern.finditer(text):
        last = found
    return last


def _missing_module(name: str, ending: Ending) -> str:
    top = name.split(".")[0].lower() if not name.startswith("@") else name.lower()
    here = ending.catalogue.get(ending.environment, ())
    elsewhere = [
        environment for environment, names in ending.catalogue.items()
        if environment != ending.environment and top in (one.lower() for one in names)
    ]  # fmt: skip
    has = f"has {_listed(here)} and the standard library" if here else "has only the standard library"
    text = f"No module named {name!r}: environment {ending.environment} {has}. "
    if elsewhere:
        return text + f"Environments with it: {', '.join(elsewhere[:MOST_NAMES])}."
    return text + "No environment has it, and packages cannot be installed: pass its source as input files."


def _missing_command(name: str, ending: Ending) -> str:
    return (
        f"There is no command {name!r} in environment {ending.environment}, and packages cannot be installed: use "
        "another command, or another environment (list_environments)."
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _more(ending: Ending, name: str, shown: str, most: str, otherwise: str) -> str:
    """The advice about a limit: raise it up to the environment's maximum, or else ``otherwise``."""
    given, bound = getattr(ending.limits, name), getattr(ending.maxima, name)
    if given < bound:
        exact = f", at most {bound}" if name.endswith("_bytes") else ""
        return f"this environment permits up to {most}: pass limits.{name}{exact}, or {otherwise}."
    return f"limits.{name} is at this environment's maximum, {shown}: {otherwise}."


def _memory(ending: Ending, wanted: float = 0) -> str:
    given, bound = ending.limits.memory_bytes, ending.maxima.memory_bytes
    otherwise = "keep less in memory at a time"
    if given < bound and wanted < bound:
        how = f"pass limits.memory_bytes, at most {bound}, or {otherwise}"
        return f"this environment permits up to {size_text(bound)}: {how}."
    return f"this environment permits at most {size_text(bound)} (limits.memory_bytes): {otherwise}."


def _processes(ending: Ending) -> str:
    given = ending.limits.processes
    more = _more(ending, "processes", str(given), str(ending.maxima.processes), "start fewer at a time")
    return f"The program reached its limit of {given} processes and threads; {more}"


def _disk(ending: Ending) -> str:
    given = size_text(ending.limits.disk_bytes)
    most = size_text(ending.maxima.disk_bytes)
    more = _more(ending, "disk_bytes", given, most, "write less, or remove files")
    return f"The program wrote more than {given} to one of /work, /tmp and /output; {more}"


def _output(ending: Ending) -> str:
    given = size_text(ending.limits.output_bytes)
    more = _more(
        ending, "output_bytes", given, size_text(ending.maxima.output_bytes), "write to a file in /output instead"
    )
    return f"The program printed more than {given} and was stopped; {more}"


def _clock(ending: Ending, name: str, what: str) -> str:
    given, most = getattr(ending.limits, name), getattr(ending.maxima, name)
    more = _more(ending, name, f"{given:g} s", f"{most:g} s", "do less in one execution")
    return f"The program was stopped after {given:g} s of {what}; {more}"


LIMITED = {
    "timed_out": lambda ending: _clock(ending, "wall_seconds", "wall time"),
    "cpu_exceeded": lambda ending: _clock(ending, "cpu_seconds", "CPU time"),
    "oom_killed": lambda ending: (
        f"The program needed more than its {size_text(ending.limits.memory_bytes)} of memory; " + _memory(ending)
    ),
    "pids_exceeded": _processes,
    "disk_exceeded": _disk,
    "output_exceeded": _output,
}

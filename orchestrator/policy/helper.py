"""The helper process that parses submitted sources: bounded, without an environment, ending with its parent.

:mod:`orchestrator.policy.inspector` starts the helper with a socket as standard input and output. The helper sets its
bounds, reports that it is ready, and then answers one source after another until the socket closes, which happens
however the parent ends. A frame is a length of four bytes and that many bytes: a source in, a JSON object out. Standard
library only.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import struct
import sys
import warnings
from pathlib import Path
from typing import BinaryIO

from orchestrator.policy.syntax import inspect

HEADER = struct.Struct(">I")
READY = b"{}"
CPU_SECONDS = 1.0
ADDRESS_SPACE_BYTES = 192 * 2**20
# A helper that exceeds this size or CPU time ends after its answer, and is replaced by a new process.
KEPT_BYTES = 64 * 2**20
LIFETIME_CPU_SECONDS = 30.0
# Backstops: the timer ends the parsing of a source first, and nothing here opens, writes or forks.
LIMITS = (
    (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
    (resource.RLIMIT_CPU, int(LIFETIME_CPU_SECONDS + 10 * CPU_SECONDS)),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_NOFILE, 16),
    (resource.RLIMIT_NPROC, 0),
)
PAGE_BYTES = resource.getpagesize()


def main() -> None:
    """Serve until the socket ends. Arguments are the rules to ignore."""
    ignored = frozenset(sys.argv[1:])
    bound_itself()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    send(sink, READY)
    while (frame := receive(source)) is not None:
        # The signal's default action ends the process anywhere in the parser.
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        found = inspect(frame, ignored)
        signal.setitimer(signal.ITIMER_PROF, 0)
        last = resident_bytes() > KEPT_BYTES or sum(os.times()[:2]) > LIFETIME_CPU_SECONDS
        send(sink, json.dumps({"findings": found.findings, "omitted": found.omitted, "last": last}).encode())
        if last:
            return


def bound_itself() -> None:
    """Apply every limit permanently, before any hostile input."""
    with contextlib.suppress(OSError):  # if /proc is not writable, the kernel chooses its victim by size
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    for limit, value in LIMITS:
        resource.setrlimit(limit, (value, value))
    sys.set_int_max_str_digits(0)  # programs can lift the limit too; the source's size and the timer bound the cost
    warnings.simplefilter("ignore")
    gc.disable()  # syntax trees have no reference cycles


def resident_bytes() -> int:
    """The resident memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES


def receive(source: BinaryIO) -> bytes | None:
    """The next frame, or ``None`` at the end."""
    head = source.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    (size,) = HEADER.unpack(head)
    frame = source.read(size)
    return frame if len(frame) == size else None


def send(sink: BinaryIO, frame: bytes) -> None:
    """Write one frame."""
    sink.write(HEADER.pack(len(frame)) + frame)
    sink.flush()

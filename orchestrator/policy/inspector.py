"""Sends sources to helper processes and receives findings; no source can harm the API process.

CPython's parser is not safe for hostile input, so :mod:`orchestrator.policy.helper` runs it behind a socket, with
bounds on memory and CPU time. This module is the client side, used by every thread that serves a submission:

- There are :data:`HELPERS` helpers, started when first needed. A thread uses one helper exclusively for one submission.
- A tenant has at most one submission inspected at a time, so that slow sources of one leave helpers for the others. A
  thread waits :data:`TURN_SECONDS` for its turn, and then raises :class:`PolicyUnavailable`.
- A dead helper is replaced. A source that ended its helper is ``not_inspected``, and so is the rest of its submission.
  If another cause killed the helper, the source is sent to another helper, once.
- A helper past its wall time is killed, which also raises :class:`PolicyUnavailable`: CPU time bounds a source's
  computation, so the host must be too slow.
- Findings of a tenant's source are cached for a while: sources are often repeated, and the same bytes give the same
  answer. Tenants do not share the cache, since the time of an answer would reveal other tenants' sources.
- A helper ends with its socket (:mod:`orchestrator.host.helper`).
"""

from __future__ import annotations

import hashlib
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from signal import Signals

from pydantic import Field

from orchestrator.errors import PolicyUnavailable
from orchestrator.host.helper import start_helper
from orchestrator.models import Frozen
from orchestrator.policy.helper import CPU_SECONDS, HEADER
from orchestrator.policy.syntax import MAX_FINDINGS, Found, Inspection, uninspected

HELPERS = 3
TURN_SECONDS = 1.0
START_SECONDS = 10.0
SUBMISSION_SECONDS = 5.0
MAX_SOURCE_BYTES = 256 * 1024
MAX_SUBMISSION_BYTES = 1024 * 1024
MAX_ANSWER_BYTES = 256 * 1024
REMEMBERED, REMEMBERED_FINDINGS = 1024, 10
ROOT = Path(__file__).resolve().parents[2]
BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from orchestrator.policy.helper import main; main()"
# The signals by which a source ends its helper; any other signal came from outside.
OWN_ENDS = {
    -Signals.SIGPROF: f"it takes more than {CPU_SECONDS:g} s of CPU time to read",
    -Signals.SIGXCPU: f"it takes more than {CPU_SECONDS:g} s of CPU time to read",
    -Signals.SIGSEGV: "it nests too deeply",
    -Signals.SIGABRT: "the parser failed",
}


class HelperAnswer(Frozen):
    """A helper's answer for one source; ``last``: the helper has ended afterwards."""

    findings: tuple[tuple[str, str, int | None, int | None], ...] = Field((), max_length=MAX_FINDINGS)
    omitted: int = Field(0, ge=0)
    last: bool = False


class SourceFailed(Exception):
    """A source ended its helper; the argument has the cause."""


class HelperLost(Exception):
    """The helper ended for another cause."""


class Helper:
    """One helper process, restarted after its end. Used by one thread at a time."""

    def __init__(self, ignored: Sequence[str]) -> None:
        self._ignored = ignored
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process unless it runs; do not wait for it. Raises :class:`PolicyUnavailable`."""
        if self._process is not None and self._process.poll() is None:
            return
        self.end()
        try:
            self._process, self._socket = start_helper(BOOT, str(ROOT), *self._ignored)
        except OSError as error:
            raise PolicyUnavailable() from error
        self._ready = False

    def inspect(self, source: bytes, deadline: float) -> Inspection:
        """The findings in a source. Raises :class:`SourceFailed`, :class:`HelperLost` and
        :class:`PolicyUnavailable`.
        """
        self.start()
        if not self._ready:
            try:
                self._receive(time.monotonic() + START_SECONDS)
            except (OSError, ValueError) as error:
                self.end()
                raise PolicyUnavailable("The process that inspects programs does not start.") from error
            self._ready = True
        try:
            self._wait_until(deadline)
            self._socket.sendall(HEADER.pack(len(source)) + source)
            answer = self._receive(deadline)
        except TimeoutError as error:
            self.end()
            raise PolicyUnavailable(f"The program could not be inspected within {SUBMISSION_SECONDS:g} s.") from error
        except OSError as error:
            status = self.end(killing=False)
            if status in OWN_ENDS:
                raise SourceFailed(OWN_ENDS[status]) from error
            raise HelperLost() from error
        except ValueError as error:  # includes pydantic's error for a malformed answer
            self.end()
            raise SourceFailed("the parser failed") from error
        if answer.last:
            self.end()
        return Inspection([Found(*found) for found in answer.findings], answer.omitted)

    def end(self, killing: bool = True) -> int | None:
        """End the process, if it runs; returns its exit code. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return None
        self._socket.close()
        if not killing:  # the helper has closed its end of the socket, and is about to exit
            try:
                return process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        process.kill()
        return process.wait()

    def _receive(self, deadline: float) -> HelperAnswer:
        (size,) = HEADER.unpack(self._exactly(HEADER.size, deadline))
        if size > MAX_ANSWER_BYTES:
            raise ValueError("no answer of a helper is that long")
        return HelperAnswer.model_validate_json(self._exactly(size, deadline))

    def _exactly(self, size: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            self._wait_until(deadline)
            part = self._socket.recv(size - len(parts))
            if not part:
                raise ConnectionError("the helper closed its socket")
            parts += part
        return bytes(parts)

    def _wait_until(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError()
        self._socket.settimeout(left)


class Inspector:
    """Inspects the sources of submissions. Thread-safe."""

    def __init__(self, ignored: Sequence[str] = ()) -> None:
        self._change = threading.Condition()
        self._tenants: set[str] = set()
        self._idle = [Helper(ignored) for _ in range(HELPERS)]
        self._remembered: OrderedDict[tuple[str, bytes], Inspection] = OrderedDict()

    def start(self) -> None:
        """Start one helper ahead of the first submission."""
        with self._change:
            if self._idle:
                self._idle[-1].start()

    def stop(self) -> None:
        """End the idle helpers; the others end with this process."""
        with self._change:
            for helper in self._idle:
                helper.end()

    def inspect(self, tenant: str, sources: Iterable[bytes]) -> list[Inspection]:
        """The findings in each source of one submission. Raises :class:`PolicyUnavailable`."""
        left = MAX_SUBMISSION_BYTES
        inspections = []
        failed = None
        with ExitStack() as turn:
            helper, deadline = None, 0.0
            for source in sources:
                left -= len(source)
                if len(source) > MAX_SOURCE_BYTES:
                    why: str | None = f"it is larger than {MAX_SOURCE_BYTES} bytes"
                elif left < 0:
                    why = f"the submission has more than {MAX_SUBMISSION_BYTES} bytes of Python"
                else:
                    why = failed
                if why is None:
                    key = tenant, hashlib.sha256(source).digest()
                    if (found := self._remembered.get(key)) is not None:
                        inspections.append(found)
                        continue
                    if helper is None:
                        helper = turn.enter_context(self._helper(tenant))
                        deadline = time.monotonic() + SUBMISSION_SECONDS
                    try:
                        inspections.append(_inspected(helper, source, deadline))
                        self._remember(key, inspections[-1])
                        continue
                    except SourceFailed as error:
                        why = str(error)
                        failed = "another source of this submission ended the inspection"
                inspections.append(uninspected(why))
        return inspections

    def _remember(self, key: tuple[str, bytes], inspection: Inspection) -> None:
        if inspection.omitted or len(inspection.findings) > REMEMBERED_FINDINGS:
            return
        with self._change:
            self._remembered[key] = inspection
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)

    @contextmanager
    def _helper(self, tenant: str) -> Iterator[Helper]:
        with self._change:
            if not self._change.wait_for(lambda: self._idle and tenant not in self._tenants, TURN_SECONDS):
                raise PolicyUnavailable("Too many programs are being inspected; try again later.")
            self._tenants.add(tenant)
            helper = self._idle.pop()
        try:
            yield helper
        finally:
            with suppress(PolicyUnavailable):  # a source may have ended the helper; the next source needs no wait
                helper.start()
            with self._change:
                self._tenants.discard(tenant)
                self._idle.append(helper)
                self._change.notify_all()


def _inspected(helper: Helper, source: bytes, deadline: float) -> Inspection:
    try:
        return helper.inspect(source, deadline)
    except HelperLost:
        try:
            return helper.inspect(source, deadline)
        except HelperLost as error:
            raise SourceFailed("every helper that reads it is killed") from error

"""An execution, its parts, and the exception for an execution that did not succeed."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from mayfly.errors import MayflyError
from mayfly.results.base import EMPTY, Document, Result, time_of

TERMINAL = frozenset({"succeeded", "failed", "errored", "cancelled"})


class Limits(Result):
    """The limits that applied."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    cpu_cores: float = 0.0
    memory_bytes: int = 0
    processes: int = 0
    disk_bytes: int = 0
    output_bytes: int = 0


class Usage(Result):
    """The resources that the program used; ``None`` where the worker's host does not measure them."""

    wall_seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    peak_processes: int | None = None
    throttled_seconds: float | None = None
    tool_seconds: float = 0.0


class Timings(Result):
    """The phases of the time between submission and end."""

    queue_seconds: float = 0.0
    start_seconds: float = 0.0
    run_seconds: float = 0.0
    collect_seconds: float = 0.0


class Compilation(Result):
    """The compiler's end and output."""

    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""
    wall_seconds: float = 0.0


class Artifact(Result):
    """A file that the program left. ``path`` is the program's choice: treat it as hostile."""

    path: str
    size: int = 0
    media_type: str = "application/octet-stream"
    sha256: str | None = None


class RejectedArtifact(Result):
    """A file that was left out, with the ``reason``, and the bound if a bound was exceeded."""

    path: str
    reason: str = ""
    bound: int | None = None


class CallRecord(Result):
    """A program's call of a tool: ``outcome`` is ``ok``, or the code of its failure."""

    id: str
    tool: str
    request_bytes: int = 0
    response_bytes: int = 0
    seconds: float = 0.0
    outcome: str = "ok"
    arguments: str | None = None


class OmittedResult(Result):
    """A representation that a result lacks, with the reason."""

    media_type: str
    size_bytes: int = 0
    reason: str = ""


class ResultBundle(Result):
    """A result: ``named``, a cell's last ``expression``, or a ``display``. ``data`` is by MIME type, and untrusted."""

    source: str = ""
    data: Document = EMPTY
    omitted: tuple[OmittedResult, ...] = ()

    @property
    def text(self) -> str:
        """The result as text."""
        return str(self.data.get("text/plain", ""))

    @property
    def json(self) -> Any:
        """The result as JSON, or ``None``."""
        return self.data.get("application/json")

    @property
    def png(self) -> bytes | None:
        """The bytes of its image, ``None`` without an image."""
        return base64.b64decode(self.data["image/png"]) if "image/png" in self.data else None

    @classmethod
    def read(cls, document: Document, **converted: Any) -> Self:
        return super().read(document, omitted=tuple(map(OmittedResult.read, document.get("omitted") or ())))


class Execution(Result):
    """One program, one container, one result.

    ``state`` is ``queued``, ``starting``, ``running`` or one of :data:`TERMINAL`. ``reason`` is the cause of a failure
    and ``fault`` the responsible party: ``user``, ``policy`` or ``platform``. ``stdout`` and ``stderr`` are text with
    invalid UTF-8 replaced, ``None`` in lists; :meth:`mayfly.Client.output` gives the exact bytes.
    ``wait_reason`` says why a queued execution waits, if it was asked for by its id. ``security_events`` counts its
    events; :meth:`mayfly.Client.events` lists them.
    """

    id: str
    state: str
    reason: str | None = None
    fault: str | None = None
    message: str | None = None
    wait_reason: str | None = None
    environment: str = ""
    isolation: str = "standard"
    driver: str | None = None
    runtime: str | None = None
    start: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    compile: Compilation | None = None
    results: tuple[ResultBundle, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    artifacts_rejected: tuple[RejectedArtifact, ...] = ()
    tool_calls: tuple[CallRecord, ...] = ()
    usage: Usage | None = None
    timings: Timings | None = None
    limits: Limits | None = None
    policy: Document | None = None
    security_events: int = 0
    tokens_returned: int = 0
    tokens_withheld: int = 0
    attempt: int = 0
    labels: Mapping[str, str] = EMPTY
    tenant: str = ""
    principal: str | None = None
    key_id: str | None = None
    priority: str = "default"
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    cancel_requested_at: datetime | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the state is final."""
        return self.state in TERMINAL

    @property
    def has_succeeded(self) -> bool:
        """Whether the program ended with exit code 0 within its limits."""
        return self.state == "succeeded"

    def check(self) -> Self:
        """This execution, if it succeeded. Raises :class:`ExecutionFailed` for any other state."""
        if not self.has_succeeded:
            raise ExecutionFailed(self)
        return self

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """An execution from the API's JSON. Raises :class:`NotMayfly` if ``id`` or ``state`` is missing."""
        many: dict[str, Any] = {"artifacts": Artifact, "artifacts_rejected": RejectedArtifact, "results": ResultBundle}
        many["tool_calls"] = CallRecord
        parts: dict[str, type[Result]] = {"compile": Compilation, "usage": Usage, "timings": Timings, "limits": Limits}
        return cls.read(
            document,
            **{name: kind.read(part) for name, kind in parts.items() if (part := document.get(name)) is not None},
            **{name: tuple(map(kind.read, document.get(name) or ())) for name, kind in many.items()},
            **{name: time_of(document.get(name)) for name in cls.__match_args__ if name.endswith("_at")},
        )


class ExecutionFailed(MayflyError):
    """An execution did not succeed; ``execution`` has its output, reason and fault."""

    code = "execution_failed"

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        why = execution.message or execution.reason or execution.state
        if execution.exit_code is not None:
            why += f", exit code {execution.exit_code}"
        super().__init__(f"Execution {execution.id} is {execution.state}: {why}.")

"""Frozen data that crosses module and process boundaries. Imports no other part of Mayfly.

Units are in the names: ``*_seconds`` are floats, ``*_bytes`` integers; times are aware UTC datetimes. Request models
refuse unknown fields. ``docs/api.md`` describes the wire form.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, StringConstraints

from orchestrator.models.frozen import Frozen as Frozen
from orchestrator.models.frozen import Seconds
from orchestrator.models.results import Mode, ResultBundle
from orchestrator.models.tools import CallRecord, Granted

Isolation = Literal["standard", "hardened"]
MIN_CPU_CORES = 0.01  # a millisecond of each tenth of a second, the kernel's smallest quota
Priority = Literal["high", "default", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "default", "low")
ISOLATIONS: tuple[Isolation, ...] = ("standard", "hardened")
SecurityKind = Literal[
    "seccomp_violation", "network_attempt", "oom_killed", "pids_limit", "disk_limit", "output_limit", "timeout",
    "artifact_rejected", "policy_violation", "frame_violation", "auth_failure", "account_locked", "cross_tenant_access",
    "queue_tampering", "weak_container", "runtime_degraded", "tool_denied", "anomaly", "request_flood",
    "engine_call_refused",
]  # fmt: skip
SECURITY_KINDS: tuple[SecurityKind, ...] = get_args(SecurityKind)

PolicyMode = Literal["off", "audit", "enforce"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
BlobRef = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
ShortText = Annotated[str, StringConstraints(max_length=4096)]


def has_control_characters(text: str) -> bool:
    """Whether a text has characters that are forbidden in file names: control characters, or halves of surrogate pairs.

    The agent applies the same rule to the files it collects.
    """
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


class Limits(Frozen):
    """The limits of one execution. Every field is enforced outside the sandbox."""

    wall_seconds: float = Field(gt=0)
    cpu_seconds: float = Field(gt=0)
    cpu_cores: float = Field(gt=0)
    memory_bytes: int = Field(gt=0)
    processes: int = Field(gt=0)
    disk_bytes: int = Field(gt=0)
    output_bytes: int = Field(gt=0)


class RequestedLimits(Frozen):
    """Some of :class:`Limits`, of a client's request or an environment's declaration; ``None`` keeps the base value."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    wall_seconds: float | None = Field(default=None, gt=0)
    cpu_seconds: float | None = Field(default=None, gt=0)
    cpu_cores: float | None = Field(default=None, ge=MIN_CPU_CORES)
    memory_bytes: int | None = Field(default=None, gt=0)
    processes: int | None = Field(default=None, gt=0)
    disk_bytes: int | None = Field(default=None, gt=0)
    output_bytes: int | None = Field(default=None, gt=0)

    def over(self, base: Limits) -> Limits:
        """``base`` with the fields set here."""
        asked = {name: value for name, value in vars(self).items() if value is not None}
        return base.model_copy(update=asked) if asked else base


class Stdin(Frozen):
    """Standard input: bytes as text or base64, an uploaded blob, or a stream that clients send during the run."""

    content: str | None = None
    encoding: Literal["utf-8", "base64"] = "utf-8"
    blob: BlobRef | None = None
    stream: bool = Field(False, strict=True, description="True: fed with POST /api/v1/executions/{id}/stdin.")


class StoredFile(Frozen):
    """One stored input: inline text or base64, or a blob of the tenant."""

    path: str
    content: str | None = None
    encoding: Literal["utf-8", "base64"] = "utf-8"
    blob: BlobRef | None = None


class Finding(Frozen):
    """One finding of the static policy in a source; ``line`` and ``column`` count from 1, in characters."""

    rule: str
    message: str
    file: str
    line: int | None = Field(default=None, description="Null if the finding concerns the whole file.")
    column: int | None = None


class PolicyReport(Frozen):
    """The static policy's mode and findings for a submission; ``omitted`` counts further findings."""

    mode: PolicyMode
    findings: tuple[Finding, ...] = ()
    omitted: int = 0


class Specification(Frozen):
    """A validated and clamped submission; signed before it is stored, verified before it is run."""

    id: str
    tenant: str
    environment: str
    entrypoint: str
    files: tuple[StoredFile, ...]
    args: tuple[str, ...]
    env: dict[str, str]
    stdin: str | Stdin
    isolation: Isolation
    limits: Limits
    artifacts: tuple[str, ...]
    labels: dict[str, str]
    priority: Priority
    retry: bool = True
    loopback: bool = False
    mode: Mode = Field("script", exclude_if=lambda mode: mode == "script")  # so that older workers accept scripts
    tools: tuple[Granted, ...] = Field((), exclude_if=lambda tools: not tools)  # likewise for programs without tools
    created_at: datetime
    traceparent: str | None = None
    policy: PolicyReport | None = None


class Facts(Frozen):
    """The observed facts about one attempt; :func:`orchestrator.states.classify` turns them into a verdict.

    ``exit_code`` is the engine's, ``None`` when the sandbox never ran. ``signal`` is the agent's report, kept only if
    it agrees with the engine's exit code (128 + signal). ``stopped`` names the soft limit that the agent applied;
    ``killed`` the host's reason for a kill. The ``*_events`` counters come from the cgroup; ``seccomp_kills`` is the
    number of processes killed by the filter according to the kernel's audit records, ``None`` if they cannot be read.
    """

    exit_code: int | None = None
    signal: int | None = None
    stopped: Literal["wall", "cpu"] | None = None
    killed: Literal["wall", "cpu", "output", "denials", "sockets", "cancel", "frames", "collect", "platform"] | None = (
        None
    )
    oom_killed: bool = False
    oom_events: int = 0
    pids_events: int = 0
    seccomp_kills: int | None = None
    disk_full: tuple[str, ...] = ()
    output_bytes: int = 0
    run_seconds: Seconds = 0.0
    cpu_seconds: Seconds | None = None
    compile_exit_code: int | None = None


class Usage(Frozen):
    """The resources used by an execution; ``None`` if the host could not measure them."""

    wall_seconds: Seconds
    cpu_seconds: Seconds | None = None
    peak_memory_bytes: int | None = None
    peak_processes: int | None = None
    throttled_seconds: Seconds | None = None
    tool_seconds: Seconds = Field(
        0.0, description="The part of `wall_seconds` that the program waited for tools; the limit does not count it."
    )


class Timings(Frozen):
    """The time spent in each phase."""

    queue_seconds: Seconds = 0.0
    start_seconds: Seconds = 0.0
    run_seconds: Seconds = 0.0
    collect_seconds: Seconds = 0.0


class Compile(Frozen):
    """The result of the compile step, if the environment has one."""

    exit_code: int
    stdout: str
    stderr: str
    wall_seconds: float


class Artifact(Frozen):
    """A file collected from ``/output`` or ``/work``. ``path`` is relative and normalised; the API fills in ``url``."""

    path: str
    size: int
    media_type: str
    sha256: str
    url: str | None = None


RejectionReason = Literal[
    "symlink", "fifo", "socket", "device", "too_deep", "bad_name", "too_many", "too_large", "unreadable", "duplicate",
]  # fmt: skip


class RejectedArtifact(Frozen):
    """A file that was not collected, with the reason. ``path`` may be escaped; ``bound`` is the limit of the reason."""

    path: str
    reason: RejectionReason
    bound: int | None = None


class Result(Frozen):
    """A worker's committed result: verdict, facts, output summary and artifacts."""

    state: str
    reason: str | None
    fault: str | None
    facts: Facts
    driver: str
    runtime: str
    start: Literal["warm", "cold"] | None
    exit_code: int | None
    signal: str | None
    stdout_bytes: int
    stderr_bytes: int
    compile: Compile | None
    artifacts: tuple[Artifact, ...]
    artifacts_rejected: tuple[RejectedArtifact, ...] = ()
    tool_calls: tuple[CallRecord, ...] = ()
    usage: Usage | None
    timings: Timings
    message: str | None = None


class CloudEvent(Frozen):
    """An append-only record in the form of CloudEvents 1.0; ``tenant`` and ``environment`` are extensions.

    ``source`` and ``id`` together are unique. Missing attributes are omitted, as the specification requires.
    """

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str | None = Field(default=None, exclude_if=lambda value: value is None)
    time: datetime
    datacontenttype: Literal["application/json"]
    tenant: str | None = Field(default=None, exclude_if=lambda value: value is None)
    environment: str | None = Field(default=None, exclude_if=lambda value: value is None)
    data: dict[str, Any]


class Execution(Frozen):
    """An execution, as the API returns it; field names are the wire contract."""

    id: str
    state: str
    reason: str | None = None
    fault: str | None = None
    message: str | None = None
    environment: str
    isolation: Isolation
    driver: str | None = None
    runtime: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    compile: Compile | None = None
    results: tuple[ResultBundle, ...] = Field(
        default=(),
        description="Values named by mayfly.result(x), the last expression's value, and figures. Empty in lists.",
    )
    artifacts: tuple[Artifact, ...] = ()
    artifacts_rejected: tuple[RejectedArtifact, ...] = Field(default=(), description="At most 100 of these files.")
    tool_calls: tuple[CallRecord, ...] = Field(default=(), description="The program's calls of tools, in order of end.")
    usage: Usage | None = None
    timings: Timings | None = None
    facts: Facts | None = None
    start: Literal["warm", "cold"] | None = None
    limits: Limits
    policy: PolicyReport | None = Field(default=None, description="Null where the static policy does not apply.")
    security_events: int = 0
    attempt: int = 0
    tokens_returned: int = Field(0, description="Tokens (o200k) of this execution in all answers to agents.")
    tokens_withheld: int = Field(0, description="Tokens of results and output withheld from the last such answer.")
    wait_reason: str | None = Field(None, exclude_if=lambda value: value is None, description="Why it is queued.")
    labels: dict[str, str]
    priority: Priority = "default"
    retry: bool = True
    loopback: bool = False
    mode: Mode = "script"
    tenant: str
    principal: str | None = Field(
        None, description="The submitting principal: `key:ID`, `user:ID` or `oidc:ISSUER#SUBJECT`."
    )
    key_id: str | None = Field(None, description="The API key of the submission.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    cancel_requested_at: datetime | None = None

    @classmethod
    def queued(cls, specification: Specification, **fields: Any) -> Execution:
        """A queued execution; ``fields`` are further fields, or replace the specification's."""
        shown = {name: value for name, value in specification if name in cls.__pydantic_fields__}
        return cls(state="queued", **shown | {"artifacts": ()} | fields)  # files, where the specification has patterns

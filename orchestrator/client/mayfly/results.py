"""The answers of the API, typed. Sizes in bytes, durations in seconds, times in UTC.

Every class has the API's JSON as ``document``. Fields that an older server omits are ``None``, zero or empty.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar, dataclass_transform

from mayfly.errors import ExecutionFailed, NotMayfly

Document = Mapping[str, Any]
T = TypeVar("T")
TERMINAL = frozenset({"succeeded", "failed", "errored", "cancelled"})
EMPTY: Document = MappingProxyType({})


@dataclass_transform(frozen_default=True)
class Result:
    """Part of an answer: a frozen dataclass to programs and type checkers.

    It does not use :func:`dataclasses.dataclass`, whose generated code takes a twentieth of the ``mayfly`` command's
    start.
    """

    document: Document = EMPTY
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.__match_args__ = tuple(cls.__annotations__)  # type: ignore[misc]  # as dataclasses have it

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self.__match_args__, values, strict=False)) | named
        wanted = [name for name in self.__match_args__ if name not in given and not hasattr(type(self), name)]
        unknown = given.keys() - set(self.__match_args__)
        if wanted or unknown or len(given) < len(values) + len(named):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(self.__match_args__)}")
        self.__dict__.update(given)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} does not change")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        shown = zip(self.__match_args__, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown if name != 'secret')})"

    def _values(self) -> list[Any]:
        return [getattr(self, name) for name in self.__match_args__]

    @classmethod
    def read(cls, document: Document, **converted: Any) -> Self:
        """Read this class's fields; ``converted`` take precedence. Raises :class:`NotMayfly` without ``id``."""
        known = {name: document[name] for name in cls.__match_args__ if name in document}
        try:
            result = cls(**known | converted)
        except TypeError as error:
            raise NotMayfly(f"The server is not a Mayfly API: {error}; it has {', '.join(known)}.") from error
        result.__dict__["document"] = document
        return result


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
    ``security_events`` counts them; :meth:`mayfly.Client.events` lists them.
    """

    id: str
    state: str
    reason: str | None = None
    fault: str | None = None
    message: str | None = None
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
            **{name: _time(document.get(name)) for name in cls.__match_args__ if name.endswith("_at")},
        )


class Event(Result):
    """A CloudEvent: a change of an execution's state, or a security event. ``subject`` is the execution's id."""

    id: str
    type: str
    time: datetime | None = None
    subject: str | None = None
    tenant: str | None = None
    environment: str | None = None
    data: Document = EMPTY

    @property
    def kind(self) -> str:
        """The last part of ``type``, such as ``seccomp_violation``."""
        return self.type.rpartition(".")[2]

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """An event from the API's JSON."""
        return cls.read(document, time=_time(document.get("time")))


class Environment(Result):
    """The environments. ``isolation`` has the tiers that live workers offer."""

    name: str
    version: str = ""
    description: str = ""
    aliases: tuple[str, ...] = ()
    isolation: tuple[str, ...] = ()
    loopback: str = "never"
    cells: bool = False
    image: str | None = None
    size_bytes: int | None = None
    default_limits: Limits | None = None
    maximal_limits: Limits | None = None

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """An environment from the API's JSON."""
        limits = {name: document.get(name) for name in ("default_limits", "maximal_limits")}
        return cls.read(
            document,
            aliases=tuple(document.get("aliases") or ()),
            isolation=tuple(document.get("isolation") or ()),
            **{name: Limits.read(found) for name, found in limits.items() if found is not None},
        )


class Key(Result):
    """An API key. Only the answer that creates the key has ``secret``."""

    id: str
    name: str = ""
    tenant: str = ""
    service_account: str | None = None
    scopes: tuple[str, ...] = ()
    created_at: datetime | None = None
    created_by: str | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    secret: str | None = None

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """A key from the API's JSON."""
        times = {name: _time(document.get(name)) for name in cls.__match_args__ if name.endswith("_at")}
        return cls.read(document, scopes=tuple(document.get("scopes") or ()), **times)


class Page(Result, Generic[T]):
    """Part of a list. ``next_cursor`` continues a list with further items, ``follow_cursor`` also with items still to
    come.
    """

    items: tuple[T, ...] = ()
    next_cursor: str | None = None
    follow_cursor: str | None = None


def member(document: Document, name: str) -> Any:
    """A member that an answer must have. Raises :class:`NotMayfly`."""
    if name not in document:
        raise NotMayfly(f"The server is not a Mayfly API: {name} is missing.")
    return document[name]


def items(document: Document, read: Callable[[Document], T]) -> tuple[T, ...]:
    """The items of a list, each read. Raises :class:`NotMayfly`."""
    return tuple(map(read, member(document, "items")))


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError as error:
        raise NotMayfly(f"The server is not a Mayfly API: {error}.") from error

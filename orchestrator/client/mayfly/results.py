"""What the API answers, typed. Sizes in bytes, durations in seconds, times in UTC.

Every class has the API's JSON as ``document``, with what a newer server adds. What an older one leaves out is ``None``,
zero or empty. States, reasons and kinds are plain strings, so that a new one is no error here.
"""

from __future__ import annotations

import base64
import json
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

    :func:`dataclasses.dataclass` does not make it: generating code for each class takes a twentieth of the time in
    which the ``mayfly`` command starts.
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
        """Read the fields that this class knows; ``converted`` go before. Raises :class:`NotMayfly` without ``id``."""
        known = {name: document[name] for name in cls.__match_args__ if name in document}
        try:
            result = cls(**known | converted)
        except TypeError as error:
            raise NotMayfly(f"The server is not a Mayfly API: {error}; it has {', '.join(known)}.") from error
        result.__dict__["document"] = document
        return result


class Limits(Result):
    """Bounds as they applied."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    cpu_cores: float = 0.0
    memory_bytes: int = 0
    processes: int = 0
    disk_bytes: int = 0
    output_bytes: int = 0


class Usage(Result):
    """What the program used; ``None`` is what the worker's host does not measure."""

    wall_seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    peak_processes: int | None = None
    throttled_seconds: float | None = None


class Timings(Result):
    """Where the time between submission and end went."""

    queue_seconds: float = 0.0
    start_seconds: float = 0.0
    run_seconds: float = 0.0
    collect_seconds: float = 0.0


class Compilation(Result):
    """How the compiler ended, and what it printed."""

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
    """A file that was left out: ``reason``, and the bound where one was exceeded."""

    path: str
    reason: str = ""
    bound: int | None = None


class OmittedResult(Result):
    """A representation of a result that is not there, with the reason: a sentence with the bound."""

    media_type: str
    size_bytes: int = 0
    reason: str = ""


class ResultBundle(Result):
    """A result of a program. ``source`` is ``named`` (``mayfly.result(x)``), ``expression`` (the value of a cell's last
    expression) or ``display`` (an open figure). ``data`` has its representations by MIME type, as the program made
    them: treat them as hostile.
    """

    source: str = ""
    data: Document = EMPTY
    omitted: tuple[OmittedResult, ...] = ()

    @property
    def text(self) -> str:
        """The result as text."""
        return str(self.data.get("text/plain", ""))

    @property
    def json(self) -> Any:
        """The result as a value out of JSON, ``None`` without one."""
        return self.data.get("application/json")

    @property
    def html(self) -> str | None:
        """The result as HTML, ``None`` without it."""
        return self.data.get("text/html")

    @property
    def png(self) -> bytes | None:
        """The bytes of its image, ``None`` without one."""
        image = self.data.get("image/png")
        return None if image is None else base64.b64decode(image)

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """A result as the API answers it."""
        return cls.read(document, omitted=tuple(map(OmittedResult.read, document.get("omitted") or ())))


class Execution(Result):
    """One program, one container, one result.

    ``state`` is ``queued``, ``starting``, ``running`` or one of :data:`TERMINAL`. ``reason`` says why it did not
    succeed and ``fault`` whose fault that was: ``user``, ``policy`` or ``platform``. ``stdout`` and ``stderr`` are text
    with invalid UTF-8 replaced, ``None`` in lists; :meth:`mayfly.Client.output` gives the exact bytes.
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
    usage: Usage | None = None
    timings: Timings | None = None
    limits: Limits | None = None
    policy: Document | None = None
    security_events: int = 0
    attempt: int = 0
    labels: Mapping[str, str] = EMPTY
    tenant: str = ""
    priority: str = "default"
    mode: str = "script"
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
        """An execution as the API answers it. Raises :class:`NotMayfly` where ``id`` or ``state`` is missing."""
        parts: dict[str, type[Result]] = {"compile": Compilation, "usage": Usage, "timings": Timings, "limits": Limits}
        lists: dict[str, type[Result]] = {"artifacts": Artifact, "artifacts_rejected": RejectedArtifact}
        return cls.read(
            document,
            **{name: kind.read(part) for name, kind in parts.items() if (part := document.get(name)) is not None},
            **{name: tuple(map(kind.read, document.get(name) or ())) for name, kind in lists.items()},
            results=tuple(map(ResultBundle.from_document, document.get("results") or ())),
            **{name: _time(document.get(name)) for name in cls.__match_args__ if name.endswith("_at")},
        )


class StreamEvent(Result):
    """One event of an execution's stream: ``state``, ``stdout``, ``stderr``, ``result``, ``security`` or ``done``.

    ``output`` has the exact bytes of ``stdout`` and ``stderr``. ``id`` is where :meth:`mayfly.Client.follow` can go on.
    """

    id: str
    type: str
    output: bytes = b""

    @property
    def data(self) -> Document:
        """The event's JSON: ``state`` and ``attempt`` of a ``state`` event, for example."""
        return self.document

    @property
    def result(self) -> ResultBundle | None:
        """The result of a ``result`` event."""
        return ResultBundle.from_document(self.document) if self.type == "result" else None

    @property
    def text(self) -> str:
        """The output as text. A character cut in two by the end of the event is replaced."""
        return self.output.decode(errors="replace")

    @classmethod
    def parse(cls, id: str, type: str, text: str) -> Self:
        """An event out of its name and JSON. Raises :class:`NotMayfly`."""
        output = b""
        try:
            data = json.loads(text) if text else {}
            if type in ("stdout", "stderr"):
                output = base64.b64decode(data["base64"]) if "base64" in data else data["text"].encode()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise NotMayfly(f"A stream has an event {type!r} that no Mayfly API sends: {error!r}.") from error
        return cls.read(data, id=id, type=type, output=output)


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
        """An event as the API answers it."""
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
        """An environment as the API answers it."""
        limits = {name: document.get(name) for name in ("default_limits", "maximal_limits")}
        return cls.read(
            document,
            aliases=tuple(document.get("aliases") or ()),
            isolation=tuple(document.get("isolation") or ()),
            **{name: Limits.read(found) for name, found in limits.items() if found is not None},
        )


class Key(Result):
    """An API key. ``secret`` is there once, when the key is made."""

    id: str
    name: str = ""
    tenant: str = ""
    scopes: tuple[str, ...] = ()
    created_at: datetime | None = None
    secret: str | None = None

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """A key as the API answers it."""
        scopes, created_at = tuple(document.get("scopes") or ()), _time(document.get("created_at"))
        return cls.read(document, scopes=scopes, created_at=created_at)


class Page(Result, Generic[T]):
    """Part of a list. ``next_cursor`` leads on while there is more; ``follow_cursor`` also to what is still to come."""

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

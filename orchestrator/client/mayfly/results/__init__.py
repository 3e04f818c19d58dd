"""The answers of the API, typed. Sizes in bytes, durations in seconds, times in UTC.

Every class has the API's JSON as ``document``. Fields that an older server omits are ``None``, zero or empty.
"""

from __future__ import annotations

from datetime import datetime
from typing import Self

from mayfly.results.base import EMPTY, Document, Page, Result, items, member, time_of
from mayfly.results.execution import (
    TERMINAL,
    Artifact,
    CallRecord,
    Compilation,
    Execution,
    ExecutionFailed,
    Limits,
    OmittedResult,
    RejectedArtifact,
    ResultBundle,
    Timings,
    Usage,
)

__all__ = [
    "EMPTY",
    "TERMINAL",
    "Artifact",
    "CallRecord",
    "Compilation",
    "Document",
    "Environment",
    "Event",
    "Execution",
    "ExecutionFailed",
    "Key",
    "Limits",
    "OmittedResult",
    "Page",
    "RejectedArtifact",
    "Result",
    "ResultBundle",
    "Timings",
    "Usage",
    "items",
    "member",
]


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
        return cls.read(document, time=time_of(document.get("time")))


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
        times = {name: time_of(document.get(name)) for name in cls.__match_args__ if name.endswith("_at")}
        return cls.read(document, scopes=tuple(document.get("scopes") or ()), **times)

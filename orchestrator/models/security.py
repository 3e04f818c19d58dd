"""Security events, typed from where they are observed until :mod:`orchestrator.store.security` writes them to Redis.

An event's evidence is a frozen dataclass for its kind; the dataclass's fields become fields of the event that clients
read (``docs/events.md``). A field whose default is ``None`` is left out if it has no value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.models import SecurityKind

# The source of an event: the kernel, its counters, the worker, the agent, or an inference from the program's end.
Attribution = Literal["kernel", "cgroup", "host", "agent", "inferred"]


@dataclass(frozen=True)
class DeniedCall:
    """A system call that the seccomp filter refused; ``killed`` if the process was killed for it."""

    syscall: str
    architecture: str
    killed: bool
    process: str
    pid: int
    family: str | None = None  # the address families that a denied socket may have had


@dataclass(frozen=True)
class KilledProcess:
    """A process killed by the seccomp filter's signal, without a record of the call."""

    killed: bool = True


@dataclass(frozen=True)
class ReachedLimit:
    """A reached limit, in its own unit, with its clock or its path."""

    limit: float | None = None
    clock: Literal["wall", "cpu", "collect"] | None = None
    path: str | None = None


@dataclass(frozen=True)
class Refusal:
    """A refused path or action, and the stable code for the reason."""

    why: str
    path: str | None = None


@dataclass(frozen=True)
class BrokenPromises:
    """The checks of a host that failed, by name."""

    findings: Sequence[str]


@dataclass(frozen=True)
class WrongKeys:
    """The source address of wrong or revoked API keys; ``None`` for many addresses."""

    address: str | None


@dataclass(frozen=True)
class ForeignExecution:
    """A caller that named another tenant, or its execution or API key."""

    key: str
    asked_by: str
    owned_by: str


@dataclass(frozen=True)
class RefusedRequests:
    """The number of refused requests of an address or an API key, by code."""

    refusals: Mapping[str, int]
    address: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class PolicyFindings:
    """The findings of the static policy, and the number of omitted findings."""

    findings: Sequence[Mapping[str, str | int | None]]
    omitted: int


@dataclass(frozen=True)
class UnusualRate:
    """An anomaly: the counted ends or events, their series, and the observed and expected numbers."""

    dimension: str
    name: str
    what: str
    observed: int
    expected: float
    threshold: int
    ended: int
    window_seconds: int
    past_seconds: int


Evidence = (
    DeniedCall
    | KilledProcess
    | ReachedLimit
    | Refusal
    | BrokenPromises
    | WrongKeys
    | ForeignExecution
    | RefusedRequests
    | PolicyFindings
    | UnusualRate
)


@dataclass(frozen=True)
class SecurityEvent:
    """A blocked action or an attack. ``detail`` is a sentence to act on, ``count`` the number so far."""

    kind: SecurityKind
    detail: str
    attribution: Attribution | None = None
    evidence: Evidence | None = None
    count: int | None = None

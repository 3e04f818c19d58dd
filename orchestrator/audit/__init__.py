"""The audit log: actions of principals, with resource, origin and outcome.

The script that makes a change also appends its entry, so each change has an entry and each entry its change. The
janitor links the entries to a chain and signs its head (:mod:`orchestrator.audit.chain`). Entries contain ids of
principals, never their names.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, Protocol

from orchestrator.models import Frozen

Outcome = Literal["done", "refused"]


class Actor(Protocol):
    """A principal as entries name it."""

    @property
    def id(self) -> str | None:
        """The stable id; None where the principal is unknown."""

    @property
    def tenant(self) -> str:
        """The principal's tenant."""


class Origin(NamedTuple):
    """The origin of a request: the client's address, and the request's id."""

    address: str | None = None
    request_id: str | None = None


ORIGIN: ContextVar[Origin | None] = ContextVar("origin", default=None)  # of the current request


class AuditEntry(Frozen):
    """One action of a principal.

    ``tenant`` is the principal's, ``owner`` the tenant that the resource belongs to. ``resource`` is ``<type>/<id>``;
    ``execution`` is the id of the execution whose program acted for the principal.
    ``count`` is the number of equal refusals within the minute, which are written only at 1, 10, 100 ….
    """

    id: str
    action: str
    outcome: Outcome
    principal: str | None = None
    tenant: str | None = None
    resource: str | None = None
    owner: str | None = None
    execution: str | None = None
    code: str | None = None
    count: int | None = None
    address: str | None = None
    request_id: str | None = None


class Writer:
    """Encodes entries for Redis: an HMAC-SHA256, with a key that Redis does not have, and the JSON.

    So sealing detects an entry that another client of Redis has appended.
    """

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"mayfly audit entry", hashlib.sha256)

    def entry(
        self,
        principal: Actor | None,
        action: str,
        resource: str | None,
        *,
        owner: str | None = None,
        outcome: Outcome = "done",
        code: str | None = None,
        count: int | None = None,
        execution: str | None = None,
    ) -> str:
        """The stored form of a principal's action; ``None``: a caller without a valid key."""
        origin = ORIGIN.get() or Origin()
        made = AuditEntry(
            id=secrets.token_hex(8),
            principal=principal and principal.id,
            tenant=principal and principal.tenant,
            action=action,
            resource=resource,
            owner=owner,
            execution=execution,
            outcome=outcome,
            code=code,
            count=count,
            address=origin.address,
            request_id=origin.request_id,
        )
        text = canonical(made.model_dump(exclude_none=True))
        return f"{self._mac(text.encode())} {text}"

    def wrote(self, stored: bytes) -> bool:
        """Whether stored bytes are an entry of this installation."""
        mac, _, text = stored.partition(b" ")
        return hmac.compare_digest(mac, self._mac(text).encode())

    def _mac(self, text: bytes) -> str:
        return hmac.digest(self._key, text, hashlib.sha256).hex()


def canonical(document: dict[str, Any]) -> str:
    """JSON in ASCII, with sorted names and no spaces: the same bytes for the same content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))

"""Cursors of lists: a position as opaque text, valid only for its own list."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import TypeVar

from orchestrator.errors import ValidationFailed

Position = TypeVar("Position")


def list_id(*about: object) -> str:
    """A short name for a list, derived from its filters as JSON."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def closed(list_id: str, *position: object) -> str:
    """The cursor of a position, a JSON value."""
    return base64.urlsafe_b64encode(json.dumps([list_id, *position]).encode()).decode().rstrip("=")


def opened(cursor: str, list_id: str, position: Callable[..., Position]) -> Position:
    """The cursor's position, as converted by ``position``, which raises ``ValueError`` or ``TypeError`` for invalid
    parts.

    Raises :class:`ValidationFailed` for a cursor of another list.
    """
    try:
        made_for, *parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if made_for == list_id:
            return position(*parts)
    except (ValueError, TypeError, OverflowError):
        pass
    raise ValidationFailed(
        [("cursor", "is not a cursor of this list; take next_cursor of the page before")], "invalid_cursor"
    )

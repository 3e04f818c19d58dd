"""Names that submissions may use: the bounds of a tenant, an API key or a service account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from orchestrator.models import Isolation, Name
from orchestrator.models.frozen import Frozen
from orchestrator.models.tools import Grant

MOST_NAMES = 64  # in each list
Owner = Literal["tenant", "key", "service account"]


class Allowed(Frozen):
    """Names that submissions and calls may use. Null allows every name, an empty list no name.

    ``tools`` are patterns: ``server.tool``, ``server.*`` or ``*``. Tools that the caller fulfils need no pattern.
    """

    environments: tuple[Name, ...] | None = Field(
        None, max_length=MOST_NAMES, description="Environments that may be named; null: all."
    )
    isolation: tuple[Isolation, ...] | None = Field(None, max_length=2, description="Isolation tiers; null: all.")
    mounts: tuple[Name, ...] | None = Field(None, max_length=MOST_NAMES, description="Mounts; null: all.")
    tools: tuple[Grant, ...] | None = Field(
        None, max_length=MOST_NAMES, description="Patterns of tools, such as `github.*`; null: all."
    )


Bounds = Sequence[tuple[Owner, Allowed]]  # a name must satisfy each

"""The installation that migrations change."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.settings import Settings
from orchestrator.store import Store


class Context(NamedTuple):
    """The data and the settings of an installation."""

    store: Store
    settings: Settings

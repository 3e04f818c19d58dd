"""The lease of an API process to use the data."""

from __future__ import annotations

import os
import secrets
import socket

from orchestrator.settings import Settings
from orchestrator.store import open_store
from orchestrator.store.platform.presence import Presence as Presence
from orchestrator.store.platform.presence import process_of


def presence_of_api(settings: Settings) -> Presence:
    """The lease of this process; nothing is sent yet."""
    id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    return Presence(open_store(settings).schema, process_of(id, "api"), on_refused=lambda: None)

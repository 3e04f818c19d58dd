"""Whether an installation needs a broker."""

from __future__ import annotations

from contextlib import closing

from orchestrator.settings import Settings
from orchestrator.store import keys
from orchestrator.store.connection import connect


def declares_tool_servers(settings: Settings) -> bool:
    """Whether a file declares a tool server, or a client has declared one. Raises :class:`StoreUnavailable`."""
    if any(settings.tool_servers_path.glob("*.toml")):
        return True
    store = connect(settings.effective_redis_url, settings.redis_timeout_seconds)
    with closing(store):
        return bool(store.exists(keys.TOOL_UPSTREAMS))

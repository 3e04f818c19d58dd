"""The SDK of Mayfly: the names of :mod:`orchestrator.client`, installed as the module ``mayfly``."""

from orchestrator.client import TERMINAL, ApiUnreachable, Client, Document, MayflyClientError, StreamEvent

__all__ = ["TERMINAL", "ApiUnreachable", "Client", "Document", "MayflyClientError", "StreamEvent"]

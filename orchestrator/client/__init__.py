"""The SDK: everything that talks to a Mayfly API over HTTP. It imports nothing of the server.

Where Mayfly is installed, ``import mayfly`` gives the same names.
"""

from orchestrator.client.client import TERMINAL, Client, StreamEvent
from orchestrator.client.transport import ApiUnreachable, Document, MayflyClientError

__all__ = ["TERMINAL", "ApiUnreachable", "Client", "Document", "MayflyClientError", "StreamEvent"]

"""The built-in tool server ``http``: see :mod:`orchestrator.broker.http.server`."""

from orchestrator.broker.http.link import HttpLink
from orchestrator.broker.http.server import HttpBounds, HttpTools

__all__ = ["HttpBounds", "HttpLink", "HttpTools"]

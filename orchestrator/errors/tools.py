"""Requests about tools that are refused, and calls of tools that failed."""

from __future__ import annotations

from orchestrator.errors.requests import RateLimited, RequestError
from orchestrator.models.tools import ToolFailure

# The status of a failed direct call, by the failure's code; 502 for all others, which are the tool server's fault.
STATUS = {
    "tool_arguments_invalid": 422,
    "tool_busy": 429,
    "tool_bytes_exceeded": 413,
    "tool_cancelled": 409,
    "tool_denied": 403,
    "tool_failed": 422,
    "tool_quota_exceeded": 429,
    "tool_timed_out": 504,
    "tool_unavailable": 503,
    "tool_unknown": 404,
}


class TooManyToolServers(RateLimited):
    """The tenant has too many tool servers; remove a server first."""

    code = "too_many_tool_servers"


class DeclaredInFile(RequestError):
    """The tool server is declared in a file of the operator; change the file."""

    code = "declared_in_file"
    status = 409


class CatalogueChanged(RequestError):
    """The tool server's catalogue has changed; review the new catalogue before you accept it."""

    code = "catalogue_changed"
    status = 409


class ToolCallFailed(RequestError):
    """The call of a tool has no result."""

    def __init__(self, failure: ToolFailure) -> None:
        self.failure, self.code, self.status = failure, failure.code, STATUS.get(failure.code, 502)
        super().__init__(failure.message)

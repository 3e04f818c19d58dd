"""An API process that takes every submission as one principal's: without authentication, authorization and rate limit.

Only for the bench, which compares it with a whole API process. Everything else is the product's own code.
"""

from __future__ import annotations

from unittest.mock import patch

from fastapi import Request

from orchestrator.api.__main__ import main
from orchestrator.api.dependencies import Parts
from orchestrator.api.routes import executions
from orchestrator.identity import Principal

PRINCIPAL = Principal(id="key:bare", key_id="bare", tenant="bare", scopes=frozenset({"executions:write"}))


async def constant(request: Request, parts: Parts) -> Principal:
    """The same principal for every request, in place of :func:`orchestrator.api.dependencies.principal`."""
    request.state.principal = PRINCIPAL
    return PRINCIPAL


if __name__ == "__main__":
    with patch.object(executions, "principal", constant):
        main()

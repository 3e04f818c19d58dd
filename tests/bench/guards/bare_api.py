"""An API process that answers every request as one principal: without authentication, authorization and rate limit.

Only for the bench, which compares it with a whole API process. Everything else is the product's own code.
"""

from __future__ import annotations

from unittest.mock import patch

from fastapi import Request

from orchestrator.api import __main__ as program
from orchestrator.api import create_app
from orchestrator.api.dependencies import principal
from orchestrator.api.middleware import Edge
from orchestrator.identity import Principal
from orchestrator.settings import Settings

PRINCIPAL = Principal(id="key:bare", key_id="bare", tenant="bare", scopes=frozenset({"executions:write"}))


async def constant(request: Request) -> Principal:
    """The same principal for every request."""
    request.state.principal = PRINCIPAL
    return PRINCIPAL


def bare_app(settings: Settings) -> Edge:
    """The API with its principal replaced."""
    app = create_app(settings)
    app.app.dependency_overrides[principal] = constant
    return app


if __name__ == "__main__":
    with patch.object(program, "create_app", bare_app):
        program.main()

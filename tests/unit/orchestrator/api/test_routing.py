"""The most frequent requests pay neither for FastAPI's dependencies nor for a second search of their route."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.dependencies.utils import solve_dependencies
from fastapi.routing import APIRoute
from starlette.routing import Route

from orchestrator.api import create_app
from orchestrator.api.dependencies import DirectRoute
from orchestrator.api.routes import executions, streams
from orchestrator.settings import Settings, create_secret_file


async def direct(request: Request) -> Response:
    return Response(request.url.path)


async def solved(request: Request, number: int = 0) -> Response:
    return Response(f"{request.url.path} {number}")


async def answers(app: FastAPI, *paths: str) -> list[str]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as client:
        return [(await client.get(path)).text for path in paths]


def test_dependencies_are_solved_only_for_endpoints_that_have_any(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []

    async def counted(*, request: Request, **given: Any) -> Any:
        paths.append(request.url.path)
        return await solve_dependencies(request=request, **given)

    monkeypatch.setattr("fastapi.routing.solve_dependencies", counted)
    router = APIRouter(route_class=DirectRoute)
    for path, endpoint in (("/direct", direct), ("/solved", solved)):
        router.add_api_route(path, endpoint)
    app = FastAPI()
    app.router.routes += router.routes
    assert asyncio.run(answers(app, "/direct", "/solved?number=7")) == ["/direct", "/solved 7"]
    assert paths == ["/solved"]


def test_endpoint_with_dependencies_is_not_called_past_them() -> None:
    checked = []
    router = APIRouter(route_class=DirectRoute, dependencies=[Depends(lambda: checked.append("router"))])
    router.add_api_route("/direct", direct, dependencies=[Depends(lambda: checked.append("route"))])
    app = FastAPI()
    app.router.routes += router.routes
    assert asyncio.run(answers(app, "/direct")) == ["/direct"]
    assert checked == ["router", "route"]


def test_submissions_and_streams_are_direct() -> None:
    routes = [route for module in (executions, streams) for route in module.router.routes]
    found = {route.path for route in routes if isinstance(route, DirectRoute) and route.is_direct}
    assert found == {"/api/v1/executions", "/api/v1/executions/{id}/stream"}


def test_routes_are_matched_without_their_routers(tmp_path: Path) -> None:
    create_secret_file(tmp_path / "secret")
    app = create_app(Settings(state_dir=tmp_path)).app
    assert len(app.router.routes) > 50
    assert {type(route) for route in app.router.routes} <= {APIRoute, DirectRoute, Route}

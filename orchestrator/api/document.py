"""The OpenAPI document: the declarations of the routes, and the parts that all routes share, added in one place.

The shared parts are the bearer key, the problem documents of refusals, and the bodies of
:mod:`orchestrator.api.bodies`.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from orchestrator.api.bodies import JSON
from orchestrator.api.deprecation import headers_of
from orchestrator.api.problems import MEDIA_TYPE, Problem
from orchestrator.api.routes.administration.sessions import NewPassword, OwnSessions, PasswordLogin, RefreshToken
from orchestrator.api.routes.executions import Batch
from orchestrator.identity.api_keys import NewKey
from orchestrator.identity.users import NewUser, UserChange
from orchestrator.models.fleet import SwitchChange
from orchestrator.models.issuers import Issuer
from orchestrator.models.submission import Submission
from orchestrator.models.tenants.records import NewServiceAccount, NewTenant, ServiceAccountChange, TenantChange
from orchestrator.models.tool_servers import Declaration
from orchestrator.models.tools import CallerAnswer
from orchestrator.service.tool_calls import NewCall
from orchestrator.service.tool_servers import Acceptance

LOGINS = frozenset(f"/api/v1/auth/{name}" for name in ("login", "refresh", "logout", "password", "sessions"))
PUBLIC = LOGINS | {"/livez", "/readyz", "/healthz", "/api/versions", "/.well-known/jwks.json"}
USER_BODIES = (NewUser, UserChange, PasswordLogin, NewPassword, OwnSessions, RefreshToken)
TENANT_BODIES = (NewTenant, TenantChange, NewServiceAccount, ServiceAccountChange)
CONFLICTS = {
    ("post", "/api/v1/users"): "Another user has that name.",
    ("post", "/api/v1/executions/{id}/cancel"): "The execution has already ended.",
    ("delete", "/api/v1/executions/{id}"): "The execution has not ended.",
}
FRAMEWORK_SCHEMAS = ("HTTPValidationError", "ValidationError")


class Api(FastAPI):
    """The application, with a complete OpenAPI document."""

    _encoded: bytes | None = None

    def setup(self) -> None:
        """Serve the document. It is encoded once: encoding takes longer than most requests, and asks for no key."""

        async def served(request: Request) -> Response:
            self._encoded = self._encoded or encoded(self.openapi())
            return Response(self._encoded, media_type=JSON)

        self.add_route("/openapi.json", served, include_in_schema=False)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title,
                version=self.version,
                openapi_version="3.1.0",
                description="Runs untrusted code: one container for each execution, destroyed afterwards.",
                routes=self.routes,
            )
            self.openapi_schema = _completed(document)
        return self.openapi_schema


def encoded(document: dict[str, Any]) -> bytes:
    """The document as it is sent."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    components = document["components"]
    for name in FRAMEWORK_SCHEMAS:
        components["schemas"].pop(name, None)
    bodies = (Submission, Batch, CallerAnswer, NewKey, Declaration, Acceptance, NewCall, SwitchChange, Issuer)
    _, ours = models_json_schema(
        [(model, "validation") for model in (*bodies, *USER_BODIES, *TENANT_BODIES, Problem)],
        ref_template="#/components/schemas/{model}",
    )
    components["schemas"] = dict(sorted({**ours["$defs"], **components["schemas"]}.items()))
    batch = components["schemas"]["Batch"]["properties"]["executions"]
    batch["items"] = {"$ref": "#/components/schemas/Submission"}
    components["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, or an access token: `Authorization: Bearer KEY`.",
        }
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path not in PUBLIC:
                operation["security"] = [{"key": []}]
            if headers_of(method.upper(), path):
                operation["deprecated"] = True
            operation["responses"].pop("422", None)
            for status, description in _refusals(path, method, operation).items():
                operation["responses"][status] = _problem(description)
    return document


def _refusals(path: str, method: str, operation: dict[str, Any]) -> dict[str, str]:
    body = operation.get("requestBody", {}).get("content", {})
    found = {"default": "Any other error."}
    if path not in PUBLIC:
        found["401"] = "The API key or token is missing or not valid."
        found["403"] = "The caller lacks the scope that this call requires."
        found["429"] = "Too many requests; try again after `Retry-After` seconds."
    if path not in PUBLIC or path == "/readyz":
        found["503"] = "The service cannot accept the request now; try again after `Retry-After` seconds."
    if "{id}" in path:
        found["404"] = "This tenant has no such resource."
    if body:
        found["413"] = "The body is too large."
    if JSON in body:
        found["400"] = "The body is not valid JSON in UTF-8."
        found["415"] = "The body is not declared as `application/json`."
    if "206" in operation["responses"]:
        found["416"] = "The range lies outside the content."
    if JSON in body or any(parameter["in"] != "path" for parameter in operation.get("parameters", ())):
        found["422"] = "Fields are invalid; `errors` lists them."
    if (method, path) in CONFLICTS:
        found["409"] = CONFLICTS[method, path]
    return dict(sorted(found.items()))


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}

"""JSON bodies: read after the caller is known, parsed off the event loop, and refused with an end to the complaints.

The framework would parse a body before it asks who sent it, on the event loop, and list each mistake of a body that is
nothing but mistakes; two million unknown fields then cost half a minute in which nobody is served. Here the JSON parser
is pydantic's, which takes UTF-8 alone and bounds how deep a document nests.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ValidationError

from orchestrator.api.dependencies import Caller
from orchestrator.errors import MalformedBody, UnsupportedMediaType, ValidationFailed
from orchestrator.identity import NewKey

SMALL_BYTES = 16 * 1024  # parsed in less time than a thread takes to wake
MAX_TOKENS = 1_000_000
MAX_MISTAKES = 1000
MAX_FIELD = 200
JSON = "application/json"
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[,\[{]', re.DOTALL)
Model = TypeVar("Model", bound=BaseModel)


class JsonBody(Generic[Model]):
    """A dependency: the body as a model.

    Raises :class:`UnsupportedMediaType`, :class:`MalformedBody` and :class:`ValidationFailed`.
    """

    def __init__(self, model: type[Model]) -> None:
        self._model = model

    async def __call__(self, request: Request, caller: Caller) -> Model:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise UnsupportedMediaType()
        body = await request.body()
        if len(body) <= SMALL_BYTES:
            return self._parse(body)
        return await run_in_threadpool(self._parse, body)

    def _parse(self, body: bytes) -> Model:
        if _intricate(body):
            raise ValidationFailed([("body", f"has more than {MAX_TOKENS} values")], "too_many_values")
        try:
            return self._model.model_validate_json(body)
        except ValidationError as error:
            raise refusal(error) from error


def refusal(error: ValidationError) -> MalformedBody | ValidationFailed:
    """Pydantic's complaint about a body, in our words and without the client's values."""
    if error.error_count() > MAX_MISTAKES:
        return ValidationFailed([("body", f"has {error.error_count()} mistakes")])
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(item["type"] == "json_invalid" for item in found):
        return MalformedBody()
    return ValidationFailed([(".".join(map(str, item["loc"]))[:MAX_FIELD] or "body", item["msg"]) for item in found])


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """What the OpenAPI document says of such a body."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


def _intricate(body: bytes) -> bool:
    # Counting is cheap and needs no memory, unlike parsing; commas within strings are what large inputs consist of.
    if body.count(b",") + body.count(b"[") + body.count(b"{") <= MAX_TOKENS // 2:
        return False
    return next(islice(TOKEN.finditer(body), MAX_TOKENS, None), None) is not None


NewKeyIn = Annotated[NewKey, Depends(JsonBody(NewKey))]

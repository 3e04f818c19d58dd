"""JSON bodies: read after authentication, parsed off the event loop, and refused with a bounded list of mistakes.

FastAPI would parse a body before authentication, on the event loop, and list every mistake; two million unknown fields
would then block the API for half a minute. The JSON parser here is pydantic's, which accepts only UTF-8 and bounds the
nesting of a document.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, Generic, TypeVar

import jiter
from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.api.dependencies import Caller, parts_of
from orchestrator.api.problems import bound_of
from orchestrator.errors import (
    MalformedBody,
    Mistake,
    UnsupportedContentEncoding,
    UnsupportedMediaType,
    ValidationFailed,
)
from orchestrator.identity import Principal
from orchestrator.identity.api_keys import NewKey
from orchestrator.tools.checking.sizes import has_more_values

SMALL_BYTES = 16 * 1024  # parsed faster than a thread wakes
MAX_TOKENS = 1_000_000
MAX_MISTAKES = 1000
MAX_FIELD = 200
JSON, BINARY = "application/json", "application/octet-stream"
DUPLICATE = re.compile(r'Detected duplicate key "(.*)" at line \d+ column \d+', re.DOTALL)
OBJECT_EXPECTED = ("model_attributes_type", "model_type", "dict_type")  # of pydantic's types of mistakes
Model = TypeVar("Model", bound=BaseModel)


class JsonBody(Generic[Model]):
    """A dependency that reads a JSON body as a pydantic model.

    Raises :class:`UnsupportedMediaType`, :class:`MalformedBody` and :class:`ValidationFailed`.
    """

    def __init__(self, model: type[Model]) -> None:
        self._model = model

    async def __call__(self, request: Request, caller: Caller) -> Model:
        """Read the model, for routes whose parsed bodies are small."""
        async with self.read(request, caller) as (made, _):
            return made

    @asynccontextmanager
    async def read(self, request: Request, caller: Principal) -> AsyncIterator[tuple[Model, bytes]]:
        """Read the model and its bytes; a large body occupies one of few places in memory until the context ends."""
        refuse_other_media(request)
        traffic = parts_of(request).traffic
        async with traffic.body(request, caller.tenant) as body:
            if len(body) <= SMALL_BYTES:
                made = self.parse(body)
            else:  # a mebibyte of empty lists takes half a second, in C code
                made = await traffic.places.alone(caller.tenant, partial(self.parse, body))
            request.state.fields = made.model_fields_set
            yield made, body

    def parse(self, body: bytes) -> Model:
        """Parse a body."""
        body = body.removeprefix(codecs.BOM_UTF8)
        if has_more_values(body, MAX_TOKENS):
            mistake = Mistake("body", f"has more than {MAX_TOKENS} values", MAX_TOKENS)
            raise ValidationFailed([mistake], "too_many_values")
        try:
            return self._model.model_validate(value_of(body))
        except ValidationError as error:
            raise refusal(error) from error


class SmallBody(Generic[Model]):
    """A dependency that reads the small JSON body of an unauthenticated request. Raises as :class:`JsonBody` does."""

    def __init__(self, model: type[Model]) -> None:
        self._json = JsonBody(model)

    async def __call__(self, request: Request) -> Model:
        refuse_other_media(request)
        traffic = parts_of(request).traffic
        return self._json.parse(await traffic.chunk(request, "", SMALL_BYTES))


def refuse_other_media(request: Request) -> None:
    """Raise :class:`UnsupportedMediaType` for a body that is not declared as uncompressed JSON."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != JSON:
        found = f"as {declared[:MAX_FIELD]!r}" if declared else "without a media type"
        raise UnsupportedMediaType(f"The body was sent {found}; send JSON with 'Content-Type: {JSON}'.")
    refuse_encoded(request)


def refusal(error: ValidationError) -> ValidationFailed:
    """Mayfly's error for pydantic's errors about a body, without the client's values."""
    if error.error_count() > MAX_MISTAKES:
        return ValidationFailed([("body", f"has {error.error_count()} mistakes")])
    return ValidationFailed(
        [
            Mistake(".".join(map(str, item["loc"]))[:MAX_FIELD] or "body", _message(item), bound_of(item.get("ctx")))
            for item in error.errors(include_url=False, include_input=False)
        ]
    )


def refuse_encoded(request: Request) -> None:
    """Raise :class:`UnsupportedContentEncoding` for a compressed body, whose inflated size is unbounded."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise UnsupportedContentEncoding(
            f"The body has Content-Encoding {encoding[:MAX_FIELD]!r}; send it uncompressed, without Content-Encoding."
        )


def value_of(body: bytes) -> Any:
    """The value of a JSON text. Raises :class:`MalformedBody`, and :class:`ValidationFailed` for a duplicate name in an
    object: parsers differ in the value they use.
    """
    try:
        return jiter.from_json(body, cache_mode="none", catch_duplicate_keys=True)
    except ValueError as error:
        if found := DUPLICATE.fullmatch(str(error)):
            duplicate = (found[1][:MAX_FIELD], "appears twice in an object; send it once")
            raise ValidationFailed([duplicate], "duplicate_field") from error
        cause = _cause(body, str(error))
        raise MalformedBody(f"The request body is not valid JSON in UTF-8: {cause}.") from error


def _message(item: ErrorDetails) -> str:
    """The description of a mistake; for a list that is too long, with its length and bound."""
    bounds = item.get("ctx", {})
    if item["type"] == "too_long":
        found = bounds["actual_length"]
        return f"has {found or 'more'} items; at most {bounds['max_length']} are accepted"
    if item["type"] in OBJECT_EXPECTED:
        return "must be a JSON object"
    if item["type"] in ("tuple_type", "list_type"):
        return "must be a JSON array"
    return item["msg"]


def _cause(body: bytes, found: str) -> str:
    """The reason why a body is not JSON, with line and column, both counted from 1."""
    if not body.strip():
        return "it is empty"
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or body[:2] in (b"{\0", b"\0{"):
        return "it is UTF-16 or UTF-32; encode it as UTF-8"
    try:
        body.decode()
    except UnicodeDecodeError as error:
        line_begin = body.rfind(b"\n", 0, error.start) + 1
        column = len(body[line_begin : error.start].decode()) + 1
        line = body.count(b"\n", 0, error.start) + 1
        return f"byte 0x{body[error.start]:02x} at line {line} column {column} is not UTF-8 ({error.reason})"
    return found


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a JSON body."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


def bytes_body(*, required: bool) -> dict[str, Any]:
    """The OpenAPI description of a body of plain bytes."""
    return {
        "requestBody": {"required": required, "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}
    }


NewKeyIn = Annotated[NewKey, Depends(JsonBody(NewKey))]

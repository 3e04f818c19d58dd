"""The arguments of tools, and their checks: a mistake is answered with the field and the permitted values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from orchestrator.errors import ValidationFailed
from orchestrator.models import Frozen, Isolation, RequestedLimits, ShortText
from orchestrator.models.results import Mode
from orchestrator.models.submission import InputFile
from orchestrator.models.tools import Grant
from orchestrator.tools.index.search import LIMIT, Query

MOST_MISTAKES, MOST_LISTED = 5, 1000
MOST_FIELD = 100
MOST_ID = 200  # characters of a client's ids of requests and progress tokens, which answers repeat
MOST_ID_BITS = 64
Model = TypeVar("Model", bound=BaseModel)
ExecutionId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Seconds = Annotated[float | None, Field(ge=0)]
Tokens = Annotated[int | None, Field(ge=1)]
Position = Annotated[int | None, Field(ge=0, le=2**53)]


class NoArguments(Frozen):
    """A tool without arguments."""


class ExecuteCode(Frozen):
    """A program to run."""

    code: str
    environment: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "python"
    mode: Mode | None = None
    files: tuple[InputFile, ...] = Field(default=(), max_length=1000)
    args: tuple[ShortText, ...] = Field(default=(), max_length=256)
    env: dict[str, ShortText] = Field(default_factory=dict, max_length=256)
    stdin: str = ""
    isolation: Isolation = "standard"
    limits: RequestedLimits = RequestedLimits()
    tools: tuple[Grant, ...] = Field(default=(), max_length=100)
    wait_seconds: Seconds = None
    max_output_tokens: Tokens = None


class GetExecution(Frozen):
    """An execution to read, now or at its end."""

    execution_id: ExecutionId
    wait_seconds: Seconds = 0.0
    max_output_tokens: Tokens = None


class CancelExecution(Frozen):
    """An execution to stop."""

    execution_id: ExecutionId


class ReadOutput(Frozen):
    """A part of an output or artifact."""

    execution_id: ExecutionId
    stream: Literal["stdout", "stderr"] | None = None
    artifact: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    offset: Position = None
    line: Annotated[int | None, Field(ge=1, le=2**53)] = None
    limit_tokens: Tokens = None
    grep: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None


class SearchTools(Query):
    """A search for tools that programs may call."""

    limit: Annotated[int, Field(ge=1, le=200)] = LIMIT
    max_tokens: Tokens = None


ARGUMENTS: dict[str, type[Frozen]] = {
    "execute_code": ExecuteCode,
    "get_execution": GetExecution,
    "cancel_execution": CancelExecution,
    "read_output": ReadOutput,
    "list_environments": NoArguments,
    "search_tools": SearchTools,
}


def parse(model: type[Model], given: Mapping[str, Any]) -> Model:
    """The arguments as a model. Raises :class:`ValidationFailed` with a few mistakes, without the values."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        if error.error_count() > MOST_LISTED:  # describing each would delay all other requests
            raise ValidationFailed([("arguments", f"have {error.error_count()} mistakes")]) from error
        found = error.errors(include_url=False, include_input=False, include_context=False)
        known = ", ".join(model.model_fields) or "none"
        mistakes = [
            (
                ".".join(map(str, item["loc"]))[:MOST_FIELD] or "arguments",
                f"is not an argument of this tool; known are: {known}"
                if item["type"] == "extra_forbidden" and len(item["loc"]) == 1
                else item["msg"],
            )
            for item in found[:MOST_MISTAKES]
        ]
        raise ValidationFailed(mistakes) from error


def is_short(id: str | int) -> bool:
    """Whether an id or a progress token is within its bound."""
    return len(id) <= MOST_ID if isinstance(id, str) else id.bit_length() <= MOST_ID_BITS

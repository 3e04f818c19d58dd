"""A client's submission: the body of ``POST /api/v1/executions``. ``docs/api.md`` describes the wire form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from orchestrator.models import BlobRef, Frozen, Isolation, Name, Priority, RequestedLimits, ShortText, Stdin
from orchestrator.models.results import Mode
from orchestrator.models.tools import Granted


class InputFile(Frozen):
    """One file of a submission: its bytes as text or base64, or a reference to an uploaded blob."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    content: str | None = None
    encoding: Literal["utf-8", "base64"] = "utf-8"
    blob: BlobRef | None = None


def _stdin_object(value: Any) -> Any:
    """Convert a plain string to an object with ``content``."""
    if isinstance(value, str):
        return {"content": value}
    if isinstance(value, dict | Stdin):
        return value
    raise ValueError("must be text, or an object with content, blob or stream")


class Webhook(Frozen):
    """The target for a report of an execution's end."""

    url: Annotated[str, StringConstraints(max_length=2048)]


class Submission(Frozen):
    """The request for an execution: the body of ``POST /api/v1/executions``."""

    environment: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    code: str | None = None
    files: tuple[InputFile, ...] = Field(default=(), max_length=1000)
    entrypoint: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    args: tuple[ShortText, ...] = Field(default=(), max_length=256)
    env: dict[str, ShortText] = Field(default_factory=dict, max_length=256)
    stdin: Annotated[Stdin, BeforeValidator(_stdin_object, json_schema_input_type=str | Stdin)] = Field(
        Stdin(content=""), json_schema_extra={"default": ""}
    )
    isolation: Isolation = "standard"
    limits: RequestedLimits = RequestedLimits()
    mounts: tuple[Name, ...] = Field(default=(), max_length=16)
    artifacts: tuple[ShortText, ...] = Field(default=("**",), max_length=64)
    tools: tuple[Granted, ...] = Field(
        default=(),
        max_length=64,
        description="Tools that the program may call: patterns such as `github.*`, and definitions of tools that the "
        "client fulfils itself.",
    )
    labels: dict[Name, Annotated[str, StringConstraints(max_length=256)]] = Field(default_factory=dict, max_length=32)
    priority: Priority = "default"
    retry: bool = Field(
        True, strict=True, description="False: never start the program twice, even if its worker is lost."
    )
    loopback: bool = Field(
        False, strict=True, description="True: the program may be a server on 127.0.0.1 and ::1, and its own client."
    )
    mode: Mode = Field(
        "script", description="cell: as in a notebook, the value of the last expression and open figures are results."
    )
    webhook: Webhook | None = None

"""The results of an execution: values that its program named, the value of a cell's last expression, open figures; and
the contents of its files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, Literal, Protocol

from pydantic import Field

from orchestrator.models.frozen import Frozen

Mode = Literal["script", "cell"]
ResultSource = Literal["named", "expression", "display"]


class OmittedResult(Frozen):
    """A representation that the record leaves out, with the reason: a sentence with the bound."""

    media_type: str
    size_bytes: int
    reason: str


class ResultBundle(Frozen):
    """One result, in one representation for each MIME type.

    ``source``: ``named`` by ``mayfly.result(x)``, the value of the last ``expression``, or a ``display`` (an open
    figure, or a displayed object). The program wrote the data: it is untrusted.
    """

    source: ResultSource
    data: dict[str, Any] = Field(
        description="MIME type: text (text/*), base64 text (image/*), or a JSON value (application/json)."
        " text/plain is always present."
    )
    omitted: tuple[OmittedResult, ...] = ()


class Content(Protocol):
    """A stored content, which can be read until it is closed, also if it is deleted meanwhile.

    ``file`` is the open file, if the content lies on this host.
    """

    size: int
    file: IO[bytes] | None

    def chunks(self, begin: int, end: int) -> Iterator[bytes]:
        """The bytes of a range. Raises :class:`BlobsUnavailable`."""

    def close(self) -> None:
        """Release it. Idempotent."""

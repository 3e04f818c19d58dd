"""The material of an execution, and its rendering for a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.models import Artifact
from orchestrator.models.results import ResultBundle

# The part of a tool's answer with the text. Clients pass different parts to their model: most only ``content``, some
# only ``structuredContent``; text in both parts costs twice the tokens.
Carrier = Literal["text", "structured", "both"]


class SampledList(list[Any]):
    """Some elements of a list of ``total`` elements, and their positions."""

    def __init__(self, elements: Iterable[Any], total: int, positions: Sequence[int]) -> None:
        super().__init__(elements)
        self.total, self.positions = total, positions


class SampledObject(dict[str, Any]):
    """The first members of an object of ``total``."""

    def __init__(self, members: Mapping[str, Any], total: int) -> None:
        super().__init__(members)
        self.total = total


@dataclass(frozen=True)
class Outline:
    """A JSON document (``kind`` is ``JSON`` or ``JSON lines``) whose large parts are sampled."""

    kind: str
    value: Any


@dataclass(frozen=True)
class Stream:
    """Output of a program: all bytes, or head and tail. ``head`` begins at offset 0, ``tail`` ends at the total.

    ``outline`` is set for a large JSON document.
    """

    head: bytes = b""
    tail: bytes = b""
    total_bytes: int = 0
    outline: Outline | None = None

    @classmethod
    def of(cls, data: bytes) -> Stream:
        """A complete stream."""
        return cls(data, b"", len(data))

    @property
    def is_complete(self) -> bool:
        return len(self.head) + len(self.tail) == self.total_bytes


@dataclass(frozen=True)
class Image:
    """An image of a result: its media type and bytes, as base64."""

    media_type: str
    base64: str


@dataclass(frozen=True)
class Material:
    """An execution. ``security`` has a sentence for each security event; ``explanation`` comes from :mod:`.explain`."""

    execution_id: str
    state: str
    reason: str | None = None
    fault: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    explanation: str | None = None
    results: tuple[ResultBundle, ...] = ()
    stdout: Stream = Stream()
    stderr: Stream = Stream()
    artifacts: tuple[Artifact, ...] = ()
    security: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rendered:
    """The rendering for a model. ``tokens_returned`` counts text and structured content as compact JSON, not images.

    ``tokens_withheld`` estimates, from a sample, the tokens of omitted results and output.
    """

    text: str
    structured: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[Image, ...] = ()
    tokens_returned: int = 0
    tokens_withheld: int = 0

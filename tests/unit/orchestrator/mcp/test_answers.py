"""The view of an execution's record for a model."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.mcp.answers import SMALL_BYTES, execution_result, is_small, material_of, needs_helper
from orchestrator.mcp.outputs import images
from orchestrator.mcp.parts import Afterwards
from orchestrator.models import Compile, Execution
from orchestrator.models.results import OmittedResult, ResultBundle
from orchestrator.settings import Settings
from tests.builders.records import specification

RESULT = ResultBundle(source="named", data={"text/plain": "x"})
OMITTED = OmittedResult(media_type="text/html", size_bytes=1, reason="x" * SMALL_BYTES)
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 20, 10) + b"\0" * 20
FIT = base64.b64encode(PNG).decode()
UNFIT = base64.b64encode(b"GIF89a" + b"\0" * 20).decode()
MESSAGE = "main.c:1:1: error: unknown type name 'imt'"


def result(**named: Any) -> ResultBundle:
    kinds = {"text": "text/plain", "json": "application/json", "png": "image/png"}
    return RESULT.model_copy(update={"data": RESULT.data | {kinds[name]: value for name, value in named.items()}})


def test_compilers_messages_stand_for_the_stderr_of_a_program_that_did_not_run() -> None:
    failed = {
        "state": "failed",
        "reason": "compile_failed",
        "fault": "user",
        "compile": Compile(exit_code=1, stdout="", stderr=MESSAGE, wall_seconds=0.1),
    }
    execution = Execution.queued(specification()).model_copy(update=failed)
    unknown: Any = SimpleNamespace(service=SimpleNamespace(environments=SimpleNamespace(resolve=lambda name: None)))
    unused: Any = None
    assert material_of(unknown, unused, execution).stderr.head == MESSAGE.encode()


@pytest.mark.parametrize(
    ("more", "small"),
    [
        ({"stdout": "x" * SMALL_BYTES}, True),
        ({"stdout": "x" * SMALL_BYTES, "stderr": "x"}, False),
        ({"stdout": "not UTF-8: �"}, False),
        ({"stderr": "", "stderr_truncated": True}, False),
        ({"security_events": 1}, False),
        ({"results": (RESULT,)}, True),
        ({"results": (result(text="x" * SMALL_BYTES),)}, False),
        ({"stdout": "x" * SMALL_BYTES, "results": (RESULT,)}, False),
        ({"results": (result(json={"a": [1, 2.5, None, {"b": "c"}]}),)}, True),
        ({"results": (result(json=[[0]] * SMALL_BYTES),)}, False),
        ({"results": (result(json={"x" * SMALL_BYTES: 1}),)}, False),
        ({"results": (RESULT,) * SMALL_BYTES}, False),
        ({"results": (RESULT.model_copy(update={"omitted": (OMITTED,)}),)}, False),
        ({"results": (result(png=FIT),)}, True),
        ({"results": (result(png=UNFIT),)}, False),
        ({"compile": Compile(exit_code=1, stdout="", stderr="x" * (SMALL_BYTES + 1), wall_seconds=0.1)}, False),
    ],
)
def test_only_little_output_of_a_complete_record_is_composed_at_once(more: dict[str, Any], small: bool) -> None:
    assert is_small(Execution.queued(specification()).model_copy(update=more)) is small


@pytest.mark.parametrize(
    ("results", "needs"),
    [
        ((RESULT,), False),
        ((RESULT, result(png=FIT)), False),
        ((RESULT, result(png=FIT), result(png=UNFIT)), True),
        ((*[result(png=FIT)] * 4, result(png=UNFIT)), False),  # the fifth is not shown
        ((result(png="no base64"),), False),
    ],
)
def test_only_images_that_are_scaled_need_a_helper(results: tuple[ResultBundle, ...], needs: bool) -> None:
    assert needs_helper(Execution.queued(specification()).model_copy(update={"results": results})) is needs


class Recorded:
    """Use cases of which the results and the places note their use."""

    def __init__(self, execution: Execution) -> None:
        self.execution, self.used = execution, list[str]()
        self.settings = Settings()
        self.service = SimpleNamespace(environments=SimpleNamespace(resolve=lambda name: None), count_tokens=print)
        self.results = SimpleNamespace(whole=self.whole)
        self.readings, self.images = (SimpleNamespace(run=self.place(name)) for name in ("readings", "images"))

    def whole(self, principal: Any, id: str) -> tuple[Execution, dict[str, bytes]]:
        self.used.append("read")
        return self.execution, {"stdout": b"", "stderr": b""}

    def place(self, name: str) -> Callable[..., Any]:
        async def run(tenant: str, call: Callable[[], Any]) -> Any:
            self.used.append(name)
            return call()

        return run


@pytest.mark.parametrize(
    ("results", "used"),
    [
        ((result(text="4"), result(json=[1, 2])), []),
        ((result(png=FIT),), []),
        ((result(text="4" * 2 * SMALL_BYTES),), ["readings", "read"]),
        ((result(text="4" * 2 * SMALL_BYTES, png=FIT),), ["readings", "read"]),
        ((result(png=UNFIT),), ["images", "read"]),
    ],
)
def test_answer_with_small_results_is_composed_of_the_execution_in_hand(
    monkeypatch: pytest.MonkeyPatch, results: tuple[ResultBundle, ...], used: list[str]
) -> None:
    monkeypatch.setattr(images, "scaled", lambda data: PNG)
    execution = Execution.queued(specification()).model_copy(
        update={"state": "succeeded", "stdout": "", "stderr": "", "results": results}
    )
    caller: Any = SimpleNamespace(
        tenant="t", principal=None, carrier="text", clean=lambda: None, afterwards=Afterwards()
    )
    parts: Any = Recorded(execution)
    answer = asyncio.run(execution_result(parts, caller, execution, None))
    assert parts.used == used
    assert results[0].data["text/plain"][:100] in answer.content[0].text  # type: ignore[union-attr]
    assert len(answer.content) == 1 + ("image/png" in results[0].data)

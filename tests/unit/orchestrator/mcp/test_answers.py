"""The view of an execution's record for a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.mcp.answers import SMALL_BYTES, has_images, is_small, material_of
from orchestrator.models import Compile, Execution
from orchestrator.models.results import ResultBundle
from tests.builders.records import specification

RESULT = ResultBundle(source="named", data={"text/plain": "x"})
MESSAGE = "main.c:1:1: error: unknown type name 'imt'"


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
        ({"results": (RESULT,)}, False),
        ({"compile": Compile(exit_code=1, stdout="", stderr="x" * (SMALL_BYTES + 1), wall_seconds=0.1)}, False),
    ],
)
def test_only_little_output_of_a_complete_record_is_composed_at_once(more: dict[str, Any], small: bool) -> None:
    assert is_small(Execution.queued(specification()).model_copy(update=more)) is small


def test_images_of_results_are_composed_in_their_own_places() -> None:
    image = RESULT.model_copy(update={"data": {"text/plain": "x", "image/png": "AAAA"}})
    for results, found in (((RESULT,), False), ((RESULT, image), True)):
        assert has_images(Execution.queued(specification()).model_copy(update={"results": results})) is found

"""The view of an execution's record for a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from orchestrator.mcp.answers import material_of
from orchestrator.models import Compile, Execution
from tests.builders.records import specification

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

"""Typed results: every field of the API's, and whatever a newer or older server answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

import mayfly
from mayfly import Environment, Event, Execution, Limits, StreamEvent
from tests.harness import ROOT

SCHEMAS = json.loads((ROOT / "docs" / "openapi.json").read_text())["components"]["schemas"]
# Fields of answers that results lack: the request, and the facts behind the verdict, are in ``document``.
LEFT_OUT = {"facts", "loopback", "mode", "retry", "url", "specversion", "source", "datacontenttype"}


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ("Execution", mayfly.Execution),
        ("Artifact", mayfly.Artifact),
        ("RejectedArtifact", mayfly.RejectedArtifact),
        ("CallRecord", mayfly.CallRecord),
        ("Usage", mayfly.Usage),
        ("Timings", mayfly.Timings),
        ("Limits", mayfly.Limits),
        ("Compile", mayfly.Compilation),
        ("ResultBundle", mayfly.ResultBundle),
        ("OmittedResult", mayfly.OmittedResult),
        ("CloudEvent", mayfly.Event),
        ("EnvironmentAnswer", mayfly.Environment),
        ("CreatedKey", mayfly.Key),
    ],
)
def test_results_have_the_fields_of_the_api(schema: str, kind: type) -> None:
    known = set(kind.__match_args__)  # type: ignore[attr-defined]
    answered = set(SCHEMAS[schema]["properties"])
    assert known - answered == set()
    assert answered - known <= LEFT_OUT if schema != "EnvironmentAnswer" else answered == known


def test_a_whole_execution() -> None:
    execution = Execution.from_document(
        {
            "id": "x",
            "state": "failed",
            "reason": "melted",
            "exit_code": 3,
            "compile": {"exit_code": 1, "stdout": "", "stderr": "e", "wall_seconds": 0.5},
            "artifacts": [{"path": "a", "size": 1, "media_type": "t", "sha256": "s", "url": "/u"}],
            "artifacts_rejected": [{"path": "b", "reason": "too_large", "bound": 7}],
            "tool_calls": [{"id": "c", "tool": "s.t", "outcome": "tool_failed", "seconds": 0.5}],
            "usage": {"wall_seconds": 0.25, "novel": 1},
            "limits": {"wall_seconds": 5.0, "memory_bytes": 2**29},
            "created_at": "2026-01-31T12:00:00.5Z",
            "novel": {"a": 1},
        }
    )
    assert (execution.reason, execution.is_finished, execution.has_succeeded) == ("melted", True, False)
    assert execution.compile is not None
    assert execution.compile.stderr == "e"
    assert (execution.artifacts[0].path, execution.artifacts_rejected[0].bound) == ("a", 7)
    assert [(call.tool, call.outcome) for call in execution.tool_calls] == [("s.t", "tool_failed")]
    assert execution.usage is not None
    assert (execution.usage.wall_seconds, execution.usage.cpu_seconds) == (0.25, None)
    assert execution.limits == Limits(wall_seconds=5.0, memory_bytes=2**29)
    assert execution.created_at == datetime(2026, 1, 31, 12, 0, 0, 500_000, UTC)
    assert execution.document["novel"] == {"a": 1}
    with pytest.raises(mayfly.ExecutionFailed, match="is failed: melted, exit code 3") as caught:
        execution.check()
    assert caught.value.execution is execution


def test_results_do_not_change() -> None:
    execution = Execution("x", "succeeded")
    assert execution.check() is execution
    with pytest.raises(AttributeError, match="state does not change"):
        execution.state = "failed"  # type: ignore[misc]
    same = Execution(id="x", state="succeeded")
    assert (same == execution, hash(same) == hash(execution), same != Execution("y", "succeeded")) == (True,) * 3
    assert "Execution(id='x', state='succeeded', reason=None" in repr(same)
    match same:
        case Execution(id, state):
            assert (id, state) == ("x", "succeeded")


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), (("x",), {}), (("x", "queued"), {"id": "x"}), (("x", "queued"), {"novel": 1}), (tuple("x" * 99), {})],
)
def test_results_have_their_fields_and_no_other(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="Execution has the fields id, state, reason"):
        Execution(*values, **named)


def test_events_and_environments() -> None:
    event = Event.from_document({"id": "1", "type": "dev.mayfly.security.oom_killed", "subject": "x", "data": {"a": 1}})
    assert (event.kind, event.subject, event.data) == ("oom_killed", "x", {"a": 1})
    environment = Environment.from_document({"name": "python", "aliases": ["py"], "default_limits": {"processes": 64}})
    assert environment.aliases == ("py",)
    assert environment.default_limits == Limits(processes=64)
    assert environment.maximal_limits is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"base64": "x"}', '{"text": 1}'])
def test_an_event_of_another_service_is_named(text: str) -> None:
    with pytest.raises(mayfly.NotMayfly, match="stdout"):
        StreamEvent.parse("1", "stdout", text)


def test_secrets_are_not_shown() -> None:
    assert "mfk_" not in repr(mayfly.Key.from_document({"id": "k", "secret": "mfk_secret"}))


BUNDLE = {
    "source": "named",
    "data": {"text/plain": "[1]", "application/json": [1], "image/png": "iVBORw=="},
    "omitted": [{"media_type": "text/html", "size_bytes": 300_000, "reason": "Too large."}],
}


def test_results_of_a_program_are_typed() -> None:
    [result] = Execution.from_document({"id": "x", "state": "succeeded", "results": [BUNDLE]}).results
    assert (result.source, result.text, result.json, result.png) == ("named", "[1]", [1], b"\x89PNG")
    assert [(one.media_type, one.size_bytes, one.reason) for one in result.omitted] == [
        ("text/html", 300_000, "Too large.")
    ]
    assert StreamEvent.parse("1", "result", json.dumps(BUNDLE)).result == result
    assert StreamEvent.parse("1", "stdout", '{"text": "a"}').result is None
    bare = mayfly.ResultBundle.read({"source": "display", "data": {}})
    assert (bare.text, bare.json, bare.png, bare.omitted) == ("", None, None, ())

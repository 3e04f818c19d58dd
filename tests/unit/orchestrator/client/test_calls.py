"""Calls of the SDK, driven from a script: what they ask for, what they try again, and what they raise."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

import mayfly
from mayfly import STREAMED, Artifact, Blob, Options, inputs
from mayfly.inputs import INLINE_FILE_BYTES
from mayfly.steps import ConnectionLost, NotConnected, Send
from tests.builders.sandboxes.scripted import URL, Script, Scripted, answer

QUEUED = {"id": "x", "state": "queued"}
ENDED = {"id": "x", "state": "succeeded", "exit_code": 0, "stdout": "1\n"}
ONE = b'id: 1-1\nevent: stdout\ndata: {"text": "one"}\n\n'
TWO = b'id: 2-1\nevent: stderr\ndata: {"base64": "/w=="}\n\n'
DONE = b"id: 3-1\nevent: done\ndata: {}\n\n"


def problem(status: int, code: str, **headers: str) -> Any:
    return answer(status, {"code": code, "detail": "no", "request_id": "r1"}, **headers)


def body_of(code: str | None, options: Options, *blobs: str) -> tuple[dict[str, Any], list[Send]]:
    script = Script(*(answer(201, {"blob": blob, "size": 1}) for blob in blobs))
    return script.complete(inputs.submission(code, options, script.calls.put_blob)), script.sent


def test_submission_has_exactly_the_given_fields(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"\xff\x00")
    given: Options = {
        "environment": "node",
        "files": {"a.txt": "é", "d/data.bin": tmp_path / "data.bin", "b": Blob("sha256:1")},
        "args": ("--fast",),
        "env": {"A": "1"},
        "stdin": b"\xff",
        "limits": {"wall_seconds": 2},
        "labels": {"team": "x"},
        "retry": False,
        "extra": {"novel": 1},
    }
    assert body_of("1", given)[0] == {
        "code": "1",
        "environment": "node",
        "files": [
            {"path": "a.txt", "content": "é", "encoding": "utf-8"},
            {"path": "d/data.bin", "content": "/wA=", "encoding": "base64"},
            {"path": "b", "blob": "sha256:1"},
        ],
        "args": ["--fast"],
        "env": {"A": "1"},
        "stdin": {"content": "/w==", "encoding": "base64"},
        "limits": {"wall_seconds": 2},
        "labels": {"team": "x"},
        "retry": False,
        "novel": 1,
    }
    assert body_of("1", {}) == ({"code": "1", "environment": "python"}, [])
    assert body_of("1", {"stdin": STREAMED})[0]["stdin"] == {"stream": True}


def test_large_inputs_go_ahead_as_blobs(tmp_path: Path) -> None:
    large, small = bytes(INLINE_FILE_BYTES + 1), bytes(INLINE_FILE_BYTES)
    files: dict[str, Any] = {"large": large} | {f"small{n}": small for n in range(5)}
    body, sent = body_of("1", {"files": files, "stdin": large}, "sha256:in", "sha256:a", "sha256:b")
    assert [file["path"] for file in body["files"] if "blob" in file] == ["large", "small4"]  # 8 MiB go inline
    assert body["stdin"] == {"blob": "sha256:in"}
    assert [(request.method, request.path, len(request.content or b"")) for request in sent] == [
        ("PUT", "/api/v1/blobs", size) for size in (len(large), len(large), len(small))
    ]


def test_two_paths_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one name"):
        body_of("1", {"files": [tmp_path / "a" / "x", tmp_path / "b" / "x"]})


def test_a_lost_answer_is_asked_for_again_with_the_same_key() -> None:
    script = Script(ConnectionLost("cut"), answer(202, QUEUED))
    assert script.complete(script.calls.submit("1")).state == "queued"
    first, second = script.sent
    assert first is second
    assert len(first.headers["Idempotency-Key"]) == 32
    other = Script(answer(202, QUEUED))
    other.complete(other.calls.submit("1", wait_seconds=7, idempotency_key="mine"))
    assert other.sent[0].headers == {"Idempotency-Key": "mine", "Prefer": "wait=7"}
    assert other.sent[0].timeout_seconds == 37


def test_keys_differ_between_calls() -> None:
    script = Script(answer(202, QUEUED), answer(202, QUEUED))
    for _ in range(2):
        script.complete(script.calls.submit("1"))
    assert len({request.headers["Idempotency-Key"] for request in script.sent}) == 2


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retry_waits_as_long_as_the_refusal_asks(status: int) -> None:
    script = Script(problem(status, "busy", retry_after="3"), problem(status, "busy"), answer(200, ENDED))
    assert script.complete(script.calls.get("x")).has_succeeded
    assert script.pauses == [3.0, 5.0]


def test_a_refusal_that_outlasts_the_patience_is_raised_at_once() -> None:
    script = Script(problem(503, "queue_full", retry_after="16"))
    with pytest.raises(mayfly.Unavailable) as caught:
        script.complete(script.calls.get("x"))
    assert (caught.value.code, caught.value.retry_after_seconds, script.pauses) == ("queue_full", 16.0, [])


def test_retries_end_with_the_patience() -> None:
    script = Script(*(problem(503, "queue_full") for _ in range(50)))
    with pytest.raises(mayfly.Unavailable):
        script.complete(script.calls.get("x"))
    assert 10 < sum(script.pauses) <= 15


def test_closed_port_is_tried_again_only_after_an_earlier_answer() -> None:
    script = Script(NotConnected("refused"))
    with pytest.raises(mayfly.ApiUnreachable, match="make up"):
        script.complete(script.calls.get("x"))
    assert script.pauses == []
    restarted = Script(answer(200, ENDED), NotConnected("refused"), answer(200, ENDED))
    for _ in range(2):
        restarted.complete(restarted.calls.get("x"))
    assert restarted.pauses == [0.1]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "malformed_body", mayfly.InvalidRequest),
        (401, "unauthenticated", mayfly.Unauthenticated),
        (403, "forbidden", mayfly.Forbidden),
        (404, "not_found", mayfly.NotFound),
        (409, "already_finished", mayfly.Conflict),
        (413, "payload_too_large", mayfly.InvalidRequest),
        (422, "policy_violation", mayfly.PolicyViolation),
        (422, "limit_exceeded", mayfly.InvalidRequest),
        (418, "novel", mayfly.InvalidRequest),
        (500, "internal", mayfly.ServerError),
    ],
)
def test_refusals_by_class(status: int, code: str, kind: type[mayfly.Refused]) -> None:
    script = Script(problem(status, code))
    with pytest.raises(mayfly.MayflyError) as caught:
        script.complete(script.calls.get("x"))
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, code, "r1")


def test_refusal_has_the_fields_of_its_problem() -> None:
    document = {"code": "limit_exceeded", "detail": "d", "bound": 7, "errors": [{"field": "limits.a", "message": "m"}]}
    script = Script(answer(422, document, x_request_id="r2"))
    with pytest.raises(mayfly.InvalidRequest, match="d") as caught:
        script.complete(script.calls.get("x"))
    assert (caught.value.errors, caught.value.bound, caught.value.request_id) == ((("limits.a", "m"),), 7, "r2")
    assert caught.value.problem == document


@pytest.mark.parametrize("document", [[], {}, {"id": "x"}, {"id": "x", "state": "queued", "created_at": "soon"}])
def test_an_answer_of_another_service_is_named(document: Any) -> None:
    script = Script(answer(200, document))
    with pytest.raises(mayfly.NotMayfly):
        script.complete(script.calls.get("x"))


def test_run_waits_on_until_the_end() -> None:
    script = Script(answer(202, QUEUED), answer(200, QUEUED), answer(200, ENDED))
    assert script.complete(script.calls.run("1")).stdout == "1\n"
    assert [request.params for request in script.sent[1:]] == [{"wait": 20}, {"wait": 20}]


def test_wait_beyond_its_time_raises_wait_timeout() -> None:
    script = Script(answer(200, QUEUED))
    with pytest.raises(TimeoutError, match="still queued after 0 s") as caught:
        script.complete(script.calls.wait("x", 0))
    assert isinstance(caught.value, mayfly.WaitTimeout)


def test_cut_stream_is_resumed_behind_its_last_event() -> None:
    script = Script([ONE, TWO[:20], ConnectionLost("cut")], problem(503, "x"), [TWO + DONE])
    events = script.all_of(script.calls.follow("x"))
    assert [(event.id, event.output) for event in events] == [("1-1", b"one"), ("2-1", b"\xff"), ("3-1", b"")]
    assert [request.headers.get("Last-Event-ID") for request in script.sent] == [None, "1-1", "1-1"]
    assert all(request.timeout_seconds == 45 for request in script.sent)


def test_a_stream_without_its_end_is_compared_with_the_record() -> None:
    script = Script([ONE], answer(200, ENDED))
    assert [event.text for event in script.all_of(script.calls.follow("x"))] == ["one"]
    again: list[Scripted] = [[], answer(200, QUEUED)]
    broken = Script(*again * 50)
    with pytest.raises(mayfly.StreamBroken):
        broken.all_of(broken.calls.follow("x"))
    assert sum(broken.pauses) <= 15


def test_a_stream_that_is_refused_is_not_tried_again() -> None:
    script = Script(problem(404, "not_found"))
    with pytest.raises(mayfly.NotFound):
        script.all_of(script.calls.follow("x"))


def test_lists_are_fetched_page_by_page() -> None:
    pages = [
        {"items": [{**ENDED, "id": "a"}], "next_cursor": "c1"},
        {"items": [{**ENDED, "id": "b"}], "next_cursor": None},
    ]
    script = Script(*(answer(200, page) for page in pages))
    found = script.all_of(script.calls.executions(state="succeeded", label=["a:b"]))
    assert [execution.id for execution in found] == ["a", "b"]
    first, second = (request.params for request in script.sent)
    assert first == {"limit": 50, "state": "succeeded", "label": ["a:b"]}
    assert second == {**first, "cursor": "c1"}


def test_standard_input_is_fed_in_order_and_ended() -> None:
    script = Script(
        answer(202, {}), problem(429, "stdin_full", retry_after="30"), answer(202, {}), answer(202, {}), answer(202, {})
    )
    script.complete(script.calls.feed("x", [b"ab", bytes(64 * 1024 + 1)]))
    assert [(request.params, len(request.content or b"")) for request in script.sent] == [
        ({"offset": 0, "end": False}, 2),
        ({"offset": 2, "end": False}, 65536),
        ({"offset": 2, "end": False}, 65536),
        ({"offset": 65538, "end": False}, 1),
        ({"offset": 65539, "end": True}, 0),
    ]
    assert script.pauses == [30.0]


@pytest.mark.parametrize(
    ("pieces", "raised"),
    [([b"on", b"e"], None), ([b"two"], mayfly.UnsafeArtifact), ([b"on", ConnectionLost("cut")], mayfly.ApiUnreachable)],
)
def test_artifacts_are_saved_whole_or_not_at_all(
    tmp_path: Path, pieces: list[bytes | Exception], raised: type[Exception] | None
) -> None:
    script = Script(pieces)
    artifact = Artifact("d/x.txt", 3, sha256=hashlib.sha256(b"one").hexdigest())
    save = script.calls.save_artifact("x", artifact, tmp_path)
    if raised is None:
        assert script.complete(save).read_bytes() == b"one"
        assert script.sent[0].target == "/api/v1/executions/x/artifacts/d/x.txt"
    else:
        with pytest.raises(raised):
            script.complete(save)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ([] if raised else ["x.txt"])


def test_download_is_saved_at_its_target(tmp_path: Path) -> None:
    script = Script([b"\x00one"])
    assert script.complete(script.calls.download("x", "d/x y", tmp_path / "new" / "here")) == tmp_path / "new" / "here"
    assert (tmp_path / "new" / "here").read_bytes() == b"\x00one"
    assert script.sent[0].target == f"{script.sent[0].path}" == "/api/v1/executions/x/artifacts/d/x%20y"


def test_a_problem_without_a_document_names_the_address() -> None:
    script = Script(answer(404))
    with pytest.raises(mayfly.NotFound, match=f"{URL}/api/v1/executions/x answered 404"):
        script.complete(script.calls.get("x"))

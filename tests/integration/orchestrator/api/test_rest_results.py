"""Results of executions, byte for byte: live streams, exact output, artifacts; and uploaded blobs."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote

import httpx2
import pytest

from tests.harness import Stack

EXECUTIONS = "/api/v1/executions"
MIB = 2**20
BINARY = bytes(range(256)) * 4
# Six bursts on both pipes, some no text at all, each flushed by itself.
CHATTY = """
import sys, time
for n in range(3):
    sys.stdout.buffer.write(b"out %d \\xff\\x00\\n" % n); sys.stdout.flush(); time.sleep(0.05)
    sys.stderr.write(f"err {n} \\u00fc\\n"); sys.stderr.flush(); time.sleep(0.05)
"""
CHATTY_OUT = b"".join(b"out %d \xff\x00\n" % n for n in range(3))
CHATTY_ERR = "".join(f"err {n} ü\n" for n in range(3)).encode()
# Names that a hostile program may give its files; bytes that are the name itself.
NAMES = [
    "plain.txt", "a b.txt", "q?x=1.txt", "h#f.txt", "p%41.txt", "per%2e%2e%2fcent", 'quo"te.txt', "semi;x=y.txt",
    "sub/ünïcode/π.txt", "<script>.html", "..hidden", "comma,name", "back\\slash", "*", "image.png",
]  # fmt: skip


class Event(NamedTuple):
    id: str
    type: str
    data: dict[str, Any]

    @property
    def output(self) -> bytes:
        if "base64" in self.data:
            return base64.b64decode(self.data["base64"])
        return str(self.data["text"]).encode()


@pytest.fixture(scope="module")
def chatty(stack: Stack) -> str:
    """The id of a finished execution with events of each kind."""
    code = CHATTY + "import os; os.symlink('/etc/passwd', '/output/link')\n"
    return str(stack.run(code=code)["id"])


@pytest.fixture(scope="module")
def binary(stack: Stack) -> str:
    """The id of a finished execution whose output is every byte there is."""
    code = f"import sys; sys.stdout.buffer.write(bytes(range(256)) * {len(BINARY) // 256}); sys.stderr.write('é')"
    return str(stack.run(code=code)["id"])


@pytest.fixture(scope="module")
def named(stack: Stack) -> dict[str, Any]:
    """A finished execution with artifacts of every name; each holds its name."""
    code = f"""
import pathlib
for name in {NAMES!r}:
    path = pathlib.Path("/output") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
pathlib.Path("/output/empty").touch()
"""
    return stack.run(code=code)


@contextmanager
def following(stack: Stack, id: str, after: str | None = None) -> Iterator[Iterator[Event]]:
    headers = {} if after is None else {"Last-Event-ID": after}
    with stack.client.stream("GET", f"{EXECUTIONS}/{id}/stream", headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-request-id"]
        yield events(answer.iter_lines())


def events(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            assert name not in fields or name == "", "one line each"
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


def streamed(stack: Stack, id: str, after: str | None = None) -> list[Event]:
    with following(stack, id, after) as found:
        return list(found)


def joined(found: list[Event], type: str) -> bytes:
    return b"".join(event.output for event in found if event.type == type)


def test_a_stream_is_live(stack: Stack) -> None:
    code = "print('first', flush=True)\ninput()\nprint('last')"
    body: dict[str, Any] = {"environment": "python", "code": code, "stdin": {"stream": True}}
    id = stack.submit(**body, limits={"wall_seconds": 120}).json()["id"]
    with following(stack, id) as found:
        seen = []
        for event in found:
            seen.append(event)
            if event.type == "stdout":
                break
        assert joined(seen, "stdout") == b"first\n"
        assert stack.show(id)["state"] == "running", "output came before the end"
        assert stack.client.post(f"{EXECUTIONS}/{id}/stdin", content=b"\n").status_code == 202
        seen += list(found)
    assert [event.data["state"] for event in seen if event.type == "state"] == [
        "queued", "starting", "running", "succeeded",
    ]  # fmt: skip
    assert joined(seen, "stdout") == b"first\nlast\n"
    assert [event.type for event in seen].index("done") == len(seen) - 1
    assert seen[-1].data["state"] == "succeeded"


def test_finished_stream_has_each_event_once_and_in_order(stack: Stack, chatty: str) -> None:
    found = streamed(stack, chatty)
    assert joined(found, "stdout") == CHATTY_OUT
    assert joined(found, "stderr") == CHATTY_ERR
    assert all("base64" in event.data for event in found if event.type == "stdout")
    assert not any("base64" in event.data for event in found if event.type == "stderr")
    assert [event.data["kind"] for event in found if event.type == "security"] == ["artifact_rejected"]
    ids = [event.id for event in found]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids, key=lambda id: tuple(map(int, id.split("-"))))
    types = [event.type for event in found]
    assert set(types) == {"state", "stdout", "stderr", "security", "done"}
    assert types.count("done") == 1
    assert types[-1] == "done"
    assert streamed(stack, chatty) == found


def test_a_stream_resumes_after_each_event_without_loss_or_repetition(stack: Stack, chatty: str) -> None:
    whole = streamed(stack, chatty)
    assert len(whole) > 8
    for position, event in enumerate(whole):
        assert streamed(stack, chatty, event.id) == whole[position + 1 :]
    assert streamed(stack, chatty, "0-0") == whole
    assert streamed(stack, chatty, "9999999999999999999-0") == []


def test_reconnecting_reader_of_a_live_stream_misses_nothing(stack: Stack) -> None:
    id = stack.submit(environment="python", code=CHATTY).json()["id"]
    seen: list[Event] = []
    while not seen or seen[-1].type != "done":
        with following(stack, id, seen[-1].id if seen else None) as found:
            seen.append(next(found))  # one event, then the connection is dropped
    assert joined(seen, "stdout") == CHATTY_OUT
    assert joined(seen, "stderr") == CHATTY_ERR
    assert seen == streamed(stack, id)


@pytest.mark.parametrize("after", ["x", "1", "1-", "-1-0", "1-1-1", "$", "+", "1" * 21 + "-0", f"{2**64}-0"])
def test_an_event_id_of_no_stream_is_refused_before_the_stream_begins(stack: Stack, chatty: str, after: str) -> None:
    answer = stack.client.get(f"{EXECUTIONS}/{chatty}/stream", headers={"Last-Event-ID": after})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_event_id")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_stream_of_a_queued_execution_follows_its_cancellation(api: Stack) -> None:
    id = api.submit(environment="python", code="1").json()["id"]
    with following(api, id) as found:
        first = next(found)
        assert (first.type, first.data["state"]) == ("state", "queued")
        api.client.post(f"{EXECUTIONS}/{id}/cancel")
        assert [(event.type, event.data["state"]) for event in found] == [("state", "cancelled"), ("done", "cancelled")]


def test_output_is_exact(stack: Stack, binary: str) -> None:
    out, err = (stack.client.get(f"{EXECUTIONS}/{binary}/{name}") for name in ("stdout", "stderr"))
    assert (out.status_code, out.content) == (200, BINARY)
    assert err.content == "é".encode()
    for answer in (out, err):
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["accept-ranges"] == "bytes"
    found = stack.show(binary)
    assert found["stdout"] == BINARY.decode(errors="replace")
    assert (found["stdout_bytes"], found["stderr_bytes"]) == (len(BINARY), 2)


@pytest.mark.parametrize(
    ("range", "first", "end"),
    [
        ("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=1000-", 1000, 1024), ("bytes=-7", 1017, 1024),
        ("bytes=1020-5000", 1020, 1024), ("bytes=-5000", 0, 1024), ("bytes=0-", 0, 1024),
    ],
)  # fmt: skip
def test_a_range_of_output(stack: Stack, binary: str, range: str, first: int, end: int) -> None:
    answer = stack.client.get(f"{EXECUTIONS}/{binary}/stdout", headers={"Range": range})
    assert (answer.status_code, answer.content) == (206, BINARY[first:end])
    assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/1024"


@pytest.mark.parametrize("range", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_outside_of_the_output(stack: Stack, binary: str, named: dict[str, Any], range: str) -> None:
    for path, size in ((f"{binary}/stdout", 1024), (f"{named['id']}/artifacts/plain.txt", 9)):
        answer = stack.client.get(f"{EXECUTIONS}/{path}", headers={"Range": range})
        assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable"), path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "range", ["bytes=", "bytes=-", "bytes=5-2", "lines=1-2", "bytes=a-b", "bytes=0-1,3-4", f"bytes={'9' * 5000}-", "x"]
)
def test_unreadable_range_is_ignored(stack: Stack, binary: str, named: dict[str, Any], range: str) -> None:
    answer = stack.client.get(f"{EXECUTIONS}/{binary}/stdout", headers={"Range": range})
    assert (answer.status_code, answer.content) == (200, BINARY)
    answer = stack.client.get(f"{EXECUTIONS}/{named['id']}/artifacts/plain.txt", headers={"Range": range})
    assert (answer.status_code, answer.content) == (200, b"plain.txt")


def test_inline_output_keeps_head_and_tail_and_counts_the_gap(stack: Stack) -> None:
    code = "import sys\nsys.stdout.write('H' * 1_000_000 + 'm' * 1_000_000 + 'T' * 1_000_000)"
    found = stack.run(code=code, limits={"output_bytes": 4 * MIB})
    assert (found["state"], found["stdout_bytes"], found["stdout_truncated"]) == ("succeeded", 3_000_000, True)
    head, note, tail = found["stdout"].split("\n")
    assert head == "H" * (MIB // 2)
    assert tail == "T" * (MIB // 2)
    assert note == f"[… {3_000_000 - MIB} bytes missing …]"
    assert (found["stderr_truncated"], found["stderr"]) == (False, "")
    exact = stack.client.get(f"{EXECUTIONS}/{found['id']}/stdout").content
    assert exact == b"H" * 1_000_000 + b"m" * 1_000_000 + b"T" * 1_000_000


def test_no_cut_falls_into_a_character(stack: Stack) -> None:
    found = stack.run(code="print('日' * 600_000, end='')", limits={"output_bytes": 8 * MIB})
    assert (found["state"], found["stdout_bytes"], found["stdout_truncated"]) == ("succeeded", 1_800_000, True)
    assert "\ufffd" not in found["stdout"]
    found = stack.run(code="print('日' * 100_000)", limits={"output_bytes": 1000})
    assert found["reason"] == "output_exceeded"
    assert "\ufffd" not in found["stdout"]
    assert stack.client.get(f"{EXECUTIONS}/{found['id']}/stdout").content.decode() == "日" * 333
    assert f"[… {found['stdout_bytes'] - 999} bytes missing …]" in found["stdout"]


def test_an_artifact_has_the_type_of_its_bytes_and_no_guessed_charset(stack: Stack) -> None:
    expected = {"a.csv.gz": "application/gzip", "b.ts": "application/typescript", "c.txt": "text/plain"}
    code = f"for name in {list(expected)}: open(f'/output/{{name}}', 'wb').write('é'.encode('latin-1'))"
    listed = {item["path"]: item for item in stack.run(code=code)["artifacts"]}
    assert {path: item["media_type"] for path, item in listed.items()} == expected
    for path, type in expected.items():
        for method in ("GET", "HEAD"):
            answer = stack.client.request(method, listed[path]["url"])
            assert (answer.headers["content-type"], answer.headers["content-length"]) == (type, "1")


def test_output_beyond_its_bound_is_cut_and_counted(stack: Stack) -> None:
    found = stack.run(code="print('x' * 100_000)", limits={"output_bytes": 1000})
    assert (found["state"], found["reason"], found["fault"]) == ("failed", "output_exceeded", "user")
    assert found["stdout_truncated"]
    kept = stack.client.get(f"{EXECUTIONS}/{found['id']}/stdout").content
    assert kept == b"x" * 1000
    assert found["stdout"] == "x" * 1000 + f"\n[… {found['stdout_bytes'] - 1000} bytes missing …]\n"
    assert found["stdout_bytes"] > 1000


def test_artifacts_of_any_name_are_listed_and_downloaded(stack: Stack, named: dict[str, Any]) -> None:
    listed = stack.client.get(f"{EXECUTIONS}/{named['id']}/artifacts").json()["items"]
    assert listed == named["artifacts"]
    assert {item["path"] for item in listed} == {*NAMES, "empty"}
    for item in listed:
        content = b"" if item["path"] == "empty" else item["path"].encode()
        assert (item["size"], item["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert item["url"].isascii()
        assert not set('?#" <>\\;*') & set(item["url"]), item["url"]
        answer = stack.client.get(item["url"])
        assert (answer.status_code, answer.content) == (200, content), item["path"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        kind, _, name = answer.headers["content-disposition"].partition("; filename*=UTF-8''")
        assert kind == "attachment"
        assert unquote(name) == item["path"].rpartition("/")[2]
        assert not set('"\\;, <>') & set(name), "nothing in a name can end the header's value"
    types = {item["path"]: item["media_type"] for item in listed}
    assert (types["image.png"], types["<script>.html"]) == ("image/png", "text/html")


def test_an_artifact_by_range(stack: Stack, named: dict[str, Any]) -> None:
    path = f"{EXECUTIONS}/{named['id']}/artifacts/plain.txt"
    answer = stack.client.get(path, headers={"Range": "bytes=2-4"})
    assert (answer.status_code, answer.content) == (206, b"ain")
    assert answer.headers["content-range"] == "bytes 2-4/9"
    assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "path", ["none.txt", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "sub", "", "%00", "plain.txt/", "PLAIN.TXT"]
)
def test_unknown_artifact_is_not_found(stack: Stack, named: dict[str, Any], path: str) -> None:
    answer = stack.client.get(f"{EXECUTIONS}/{named['id']}/artifacts/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert str(stack.directory) not in answer.text


def test_a_blob_is_kept_once_and_used_as_an_input(stack: Stack) -> None:
    content = secrets.token_bytes(300_000)
    digest = hashlib.sha256(content).hexdigest()
    first, second = (stack.client.put("/api/v1/blobs", content=content) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json() == {"blob": f"sha256:{digest}", "size": len(content)}
    kept = [path.name for path in (stack.directory / "state" / "blobs" / "blobs" / "default").iterdir()]
    assert kept.count(digest) == 1
    code = "import hashlib; print(hashlib.sha256(open('inputs/deep/model.bin', 'rb').read()).hexdigest())"
    found = stack.run(code=code, files=[{"path": "deep/model.bin", "blob": f"sha256:{digest}"}])
    assert found["stdout"] == f"{digest}\n"


def test_empty_and_chunked_blobs_are_stored(api: Stack) -> None:
    empty = api.client.put("/api/v1/blobs", content=b"")
    assert empty.json() == {"blob": f"sha256:{hashlib.sha256(b'').hexdigest()}", "size": 0}
    chunked = api.client.put("/api/v1/blobs", content=iter([b"ab", b"", b"c"]))
    assert chunked.json() == {"blob": f"sha256:{hashlib.sha256(b'abc').hexdigest()}", "size": 3}


@pytest.mark.parametrize(
    ("file", "code", "field"),
    [
        ({"blob": "sha256:" + "0" * 64}, "unknown_blob", "files.0.blob"),
        ({"blob": "sha256:" + "0" * 63}, "validation_failed", "files.0.blob"),
        ({"blob": "sha256:../../../../etc/passwd"}, "validation_failed", "files.0.blob"),
        ({"blob": "md5:" + "0" * 64}, "validation_failed", "files.0.blob"),
        ({"blob": "sha256:" + "0" * 64, "content": "x"}, "conflicting_fields", "files.0"),
        ({}, "conflicting_fields", "files.0"),
    ],
)
def test_invalid_blob_is_refused(api: Stack, file: dict[str, Any], code: str, field: str) -> None:
    before = api.client.get("/api/v1/queues").json()["queued"]
    answer = api.submit(environment="python", code="1", files=[{"path": "x", **file}])
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert api.client.get("/api/v1/queues").json()["queued"] == before


def test_inline_and_blob_inputs_count_together(api: Stack) -> None:
    blob = api.client.put("/api/v1/blobs", content=b"b" * (20 * MIB)).json()["blob"]
    files = [{"path": "a", "blob": blob}, {"path": "b", "content": "i" * (13 * MIB)}]
    answer = api.submit(environment="python", code="1", files=files)
    assert (answer.status_code, answer.json()["code"]) == (422, "inputs_too_large")
    assert [error["field"] for error in answer.json()["errors"]] == ["files"]
    assert api.submit(environment="python", code="1", files=files[:1]).status_code == 202
    assert api.submit(environment="python", code="1", files=files[1:]).status_code == 202
    twice = api.submit(environment="python", code="1", files=[files[0], {"path": "c", "blob": blob}])
    assert (twice.status_code, twice.json()["code"]) == (422, "inputs_too_large")


def test_disconnecting_readers_do_not_disturb_execution(stack: Stack) -> None:
    limits = {"wall_seconds": 60}
    id = stack.submit(environment="python", code="import time; time.sleep(2)", limits=limits).json()["id"]
    for _ in range(20):
        with following(stack, id) as found:
            next(found)
    assert stack.show(id, wait=60)["state"] == "succeeded"
    assert httpx2.get(stack.env["MAYFLY_URL"] + "/livez", timeout=60).status_code == 200

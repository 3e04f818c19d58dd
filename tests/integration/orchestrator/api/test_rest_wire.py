"""The wire as real clients use it: refusals arrive whole, connections stay open, honest mistakes are named."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import select
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
from pydantic import TypeAdapter

from orchestrator.api.middleware import KEEP_ALIVE_SECONDS, SHORT_BYTES
from orchestrator.api.routes.executions import MAX_WAIT_SECONDS, Wait
from tests.harness import Process, Stack, bearer, eventually, free_port

EXECUTIONS = "/api/v1/executions"
SHORT_KEEP_ALIVE = 12  # twice as long as a server keeps a connection by default, and more
OK = {"environment": "python", "code": "print(1)"}
LARGE = b'{"environment": "python", "code": "1", "stdin": "' + b"x" * 34_000_000 + b'"}'
MEDIUM = b'{"environment": "python", "code": "1", "stdin": "' + b"x" * 12_000_000 + b'"}'
JSON = {"Content-Type": "application/json"}
FETCH = """
const [url, key, method, size] = process.argv.slice(1);
const headers = {Authorization: `Bearer ${key}`, "Content-Type": "application/json"};
const answer = await fetch(url, {method, headers, body: "x".repeat(Number(size))});
console.log(answer.status, (await answer.json()).code);
"""

# An early refusal: the method, the path, the key's kind, the content type, what it is answered.
EARLY = {
    "401": ("POST", EXECUTIONS, "wrong", "application/json", 401, "unauthenticated"),
    "403": ("POST", EXECUTIONS, "reader", "application/json", 403, "forbidden"),
    "404": ("POST", "/api/v1/nothing", "admin", "application/json", 404, "not_found"),
    "405": ("PUT", EXECUTIONS, "admin", "application/json", 405, "method_not_allowed"),
    "415": ("POST", EXECUTIONS, "admin", "text/plain", 415, "unsupported_media_type"),
}


@pytest.fixture(scope="module")
def secrets(api: Stack) -> dict[str, str]:
    return {"admin": api.key, "wrong": "mfk_x", "reader": api.new_key("executions:read")["secret"]}


def by_urllib(url: str, key: str, method: str, content_type: str, body: bytes) -> tuple[int, str]:
    headers = {**bearer(key), "Content-Type": content_type}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method))
    with refused.value as answer:
        return answer.code, json.load(answer)["code"]


def by_requests(url: str, key: str, method: str, content_type: str, body: bytes) -> tuple[int, str]:
    answer = requests.request(method, url, data=body, headers={**bearer(key), "Content-Type": content_type}, timeout=60)
    return answer.status_code, answer.json()["code"]


def by_httpx2(url: str, key: str, method: str, content_type: str, body: bytes) -> tuple[int, str]:
    headers = {**bearer(key), "Content-Type": content_type}
    answer = httpx2.request(method, url, content=body, headers=headers, timeout=60)
    return answer.status_code, answer.json()["code"]


CLIENTS = {"urllib": by_urllib, "requests": by_requests, "httpx2": by_httpx2}


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_a_client_gets_the_refusal_of_34_megabytes(api: Stack, client: Any) -> None:
    found = client(api.env["MAYFLY_URL"] + EXECUTIONS, api.key, "POST", "application/json", LARGE)
    assert found == (413, "payload_too_large")


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("case", EARLY.values(), ids=EARLY)
def test_client_receives_refusal_sent_before_its_body_was_read(
    api: Stack, secrets: dict[str, str], client: Any, case: tuple[str, str, str, str, int, str]
) -> None:
    method, path, key, content_type, status, code = case
    found = client(api.env["MAYFLY_URL"] + path, secrets[key], method, content_type, MEDIUM)
    assert found == (status, code)


@pytest.mark.parametrize(("key", "size", "status"), [("admin", 34_000_000, "413 payload_too_large"),
                                                     ("wrong", 12_000_000, "401 unauthenticated")])  # fmt: skip
def test_the_fetch_of_node_gets_a_refusal(
    api: Stack, secrets: dict[str, str], key: str, size: int, status: str
) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("deploy/setup.sh --dev installs nodejs where the system has it")
    arguments = [api.env["MAYFLY_URL"] + EXECUTIONS, secrets[key], "POST", str(size)]
    done = subprocess.run(
        [node, "--input-type=module", "-e", FETCH, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout.strip(), done.returncode) == (status, 0), done.stderr


@pytest.mark.parametrize("extra", [[], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]])
def test_curl_gets_a_refusal(api: Stack, extra: list[str]) -> None:
    done = subprocess.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", api.env["MAYFLY_URL"] + EXECUTIONS, "--data-binary",
         "@-", "-H", f"Authorization: Bearer {api.key}", "-H", "Content-Type: application/json", *extra],
        input=LARGE, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == (b"413", 0), done.stderr


def test_missing_body_does_not_delay_refusal(api: Stack) -> None:
    """The refusal is sent before the body arrives, and the connection is closed afterwards."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as connection:
        connection.sendall(
            b"POST /api/v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 20000000\r\n\r\n{"
        )
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.load(answer)["code"]) == (401, "unauthenticated")
        assert answer.getheader("Connection") == "close"
        assert connection.recv(1) == b"", "it is closed when the time for the rest is over"


def test_unread_short_body_keeps_the_connection(api: Stack) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
    for _ in range(3):
        connection.request("POST", EXECUTIONS, b"x" * SHORT_BYTES, {**JSON, "Authorization": "Bearer x"})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (401, None)
        answer.read()
        before = connection.sock
    assert connection.sock is before is not None
    connection.close()


def test_idle_connection_is_closed_after_the_announced_time(api: Stack, tmp_path: Path) -> None:
    """Another API process announces twelve seconds instead of 75, so that no minute is waited."""
    code = f"from orchestrator.api import middleware\nmiddleware.KEEP_ALIVE_SECONDS = {SHORT_KEEP_ALIVE}\n"
    code += "from orchestrator.api.__main__ import main\nmain()"
    port = free_port()
    process = Process([sys.executable, "-c", code], {**api.env, "MAYFLY_API_PORT": str(port)}, tmp_path / "api.log")
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        eventually(lambda: accepts(connection), "the API answers", 180)
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        answer.read()
        began = time.monotonic()
        assert answer.getheader("Keep-Alive") == f"timeout={SHORT_KEEP_ALIVE}"
        assert connection.sock is not None
        assert connection.sock.recv(1) == b"", "the server has closed it"
        assert time.monotonic() - began > SHORT_KEEP_ALIVE / 2
        connection.close()
    finally:
        process.stop()


def accepts(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.connect()
    except ConnectionRefusedError:
        return False
    return True


def test_idle_connection_stays_open_for_the_announced_time(api: Stack) -> None:
    assert KEEP_ALIVE_SECONDS == 75
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
    connection.request("GET", "/livez")
    answer = connection.getresponse()
    answer.read()
    assert answer.getheader("Keep-Alive") == "timeout=75"
    closed, _, _ = select.select([connection.sock], [], [], 6)  # the server's own default is 5
    assert not closed
    first = connection.sock
    connection.request("GET", "/livez")
    assert connection.getresponse().read() == b'{"status":"ok"}'
    assert connection.sock is first
    connection.close()


def routes(api: Stack) -> Iterator[str]:
    for path, operations in api.client.get("/openapi.json").json()["paths"].items():
        if "get" in operations:
            yield path


def test_head_answers_as_get_does_without_a_body(api: Stack) -> None:
    id = api.client.post(EXECUTIONS, json=OK).json()["id"]
    api.client.post(f"{EXECUTIONS}/{id}/cancel")
    seen = set()
    for path in [*routes(api), "/openapi.json", "/nothing", "/api/v1/blobs"]:
        url = path.replace("{id}", id).replace("{path}", "x")
        head, get = api.client.head(url), api.client.get(url)
        own = {"date", "x-request-id", "content-length", "transfer-encoding"}
        assert head.status_code == get.status_code, path
        assert head.content == b"", path
        assert {n: v for n, v in head.headers.items() if n not in own} == {
            n: v for n, v in get.headers.items() if n not in own
        }, path
        if path != "/metrics":  # its length is another each time
            assert head.headers.get("content-length") == get.headers.get("content-length"), path
        seen.add(get.status_code)
    assert seen >= {200, 404, 405}


def test_head_of_a_live_stream_does_not_wait_for_its_end(api: Stack) -> None:
    id = api.client.post(EXECUTIONS, json=OK).json()["id"]
    for _ in range(3):
        answer = api.client.head(f"{EXECUTIONS}/{id}/stream")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    api.client.post(f"{EXECUTIONS}/{id}/cancel")


@pytest.mark.parametrize("wait", ["60.1", "61", "3600", "9999999999"])
def test_a_long_wait_counts_as_the_longest(api: Stack, wait: str) -> None:
    id = api.client.post(EXECUTIONS, json=OK).json()["id"]
    api.client.post(f"{EXECUTIONS}/{id}/cancel")
    assert api.client.get(f"{EXECUTIONS}/{id}", params={"wait": wait}).status_code == 200
    assert TypeAdapter(Wait).validate_python(wait) == MAX_WAIT_SECONDS == 60
    prefer = api.client.get("/openapi.json").json()["paths"][f"{EXECUTIONS}/{{id}}"]["get"]["parameters"]
    (described,) = [parameter for parameter in prefer if parameter["name"] == "wait"]
    assert f"{MAX_WAIT_SECONDS:g}" in described["description"]


def text(body: Any) -> bytes:
    return json.dumps(body).encode()


# Honest mistakes: the body, extra headers, the status and code, the field, and what the message has to say.
MISTAKES: dict[str, tuple[bytes, dict[str, str], int, str, str | None, str]] = {
    "empty": (b"", {}, 400, "malformed_body", None, "it is empty"),
    "not JSON": (b"print(1)", {}, 400, "malformed_body", None, "expected value at line 1 column 1"),
    "trailing comma": (b'{"environment": "python",\n "code": "1",}', {}, 400, "malformed_body", None,
                       "trailing comma at line 2 column 14"),
    "single quotes": (b"{'code': 1}", {}, 400, "malformed_body", None, "line 1 column 2"),
    "cut off": (b'{"code": "pri', {}, 400, "malformed_body", None, "EOF while parsing a string at line 1 column 13"),
    "trailing": (b"{}}", {}, 400, "malformed_body", None, "trailing characters at line 1 column 3"),
    "Latin-1": ('{"environment": "python",\n"code": "é"}'.encode("latin-1"), {}, 400, "malformed_body", None,
                "byte 0xe9 at line 2 column 10 is not UTF-8"),
    "UTF-16": (json.dumps(OK).encode("utf-16"), {}, 400, "malformed_body", None, "UTF-16 or UTF-32"),
    "UTF-16 without a mark": (json.dumps(OK).encode("utf-16-le"), {}, 400, "malformed_body", None,
                              "encode it as UTF-8"),
    "nested deep": (b"[" * 100_000, {}, 400, "malformed_body", None, "recursion limit exceeded at line 1 column"),
    "long number": (b'{"a": ' + b"9" * 9999 + b"}", {}, 400, "malformed_body", None, "number out of range at line 1"),
    "surrogate": (b'{"code": "\\ud800"}', {}, 400, "malformed_body", None, "hex escape at line 1 column"),
    "a newline in a text": (b'{"code": "a\nb"}', {}, 400, "malformed_body", None, "control character"),
    "gzip": (gzip.compress(text(OK)), {"Content-Encoding": "gzip"}, 415, "unsupported_content_encoding", None,
             "'gzip'; send it uncompressed, without Content-Encoding"),
    "form": (b"environment=python", {"Content-Type": "application/x-www-form-urlencoded"}, 415,
             "unsupported_media_type", None,
             "'application/x-www-form-urlencoded'; send JSON with 'Content-Type: application/json'"),
    "no object": (b"[]", {}, 422, "validation_failed", "body", "must be a JSON object"),
    "a text": (b'"print(1)"', {}, 422, "validation_failed", "body", "must be a JSON object"),
    "a list for an object": (text({**OK, "limits": []}), {}, 422, "validation_failed", "limits",
                             "must be a JSON object"),
    "a list for names": (text({**OK, "env": []}), {}, 422, "validation_failed", "env", "must be a JSON object"),
    "a text for a list": (text({**OK, "args": "x"}), {}, 422, "validation_failed", "args", "must be a JSON array"),
    "number for text": (text({**OK, "code": 3}), {}, 422, "validation_failed", "code", "valid string"),
    "text for number": (text({**OK, "limits": {"wall_seconds": "5"}}), {}, 422, "validation_failed",
                        "limits.wall_seconds", "valid number"),
    "NaN": (text({**OK, "limits": {"wall_seconds": float("nan")}}), {}, 422, "validation_failed",
            "limits.wall_seconds", "finite number"),
    "no environment": (b"{}", {}, 422, "validation_failed", "environment", "required"),
    "unknown field": (text({**OK, "timeout": 3}), {}, 422, "validation_failed", "timeout", "not permitted"),
    "a name twice": (b'{"environment": "python", "code": "1", "code": "2"}', {}, 422, "duplicate_field", "code",
                     "appears twice"),
    "a name twice, deep": (b'{"environment": "python", "code": "1", "env": {"A": "", "A": "x"}}', {}, 422,
                           "duplicate_field", "A", "appears twice"),
    "1,200 files": (text({**OK, "files": [{"path": f"f{n}", "content": ""} for n in range(1200)]}), {}, 422,
                    "validation_failed", "files", "has 1200 items; at most 1000 are accepted"),
    "base64": (text({**OK, "files": [{"path": "a", "content": "YW%j", "encoding": "base64"}]}), {}, 422,
               "invalid_base64", "files.0.content", "'%' at character 3"),
    "a pattern outside": (text({**OK, "artifacts": ["/tmp/*.csv"]}), {}, 422, "invalid_pattern", "artifacts.0",
                          "/output and /work"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "headers", "status", "code", "field", "reported"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_named_with_its_place(
    api: Stack, body: bytes, headers: dict[str, str], status: int, code: str, field: str | None, reported: str
) -> None:
    answer = api.client.post(EXECUTIONS, content=body, headers={**JSON, **headers})
    found = answer.json()
    assert (answer.status_code, found["code"]) == (status, code), answer.text
    if field is None:
        assert reported in found["detail"]
    else:
        assert [error["field"] for error in found["errors"]] == [field]
        assert reported in found["errors"][0]["message"]
    assert "json_invalid" not in answer.text
    if code == "unsupported_content_encoding":
        assert answer.headers["accept-encoding"] == "identity"


def test_compressed_bytes_are_no_blob_by_accident(api: Stack) -> None:
    answer = api.client.put("/api/v1/blobs", content=b"x", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_content_encoding")
    assert api.client.put("/api/v1/blobs", content=b"x").status_code == 201


@pytest.mark.parametrize(
    ("path", "status", "reported"),
    [
        (f"{EXECUTIONS}?limit=x", 422, "limit"), (f"{EXECUTIONS}?state=done", 422, "state"),
        (f"{EXECUTIONS}?cursor=%zz", 422, "cursor"), (f"{EXECUTIONS}/%zz", 404, "%zz"),
        (f"{EXECUTIONS}/%ff", 404, "no execution"), (f"{EXECUTIONS}?cursor={'x' * 10_000}", 422, "512 characters"),
    ],
)  # fmt: skip
def test_an_honest_mistake_in_an_address_is_named(api: Stack, path: str, status: int, reported: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
    connection.request("GET", path, headers=bearer(api.key))  # as it stands: other clients correct it first
    answer = connection.getresponse()
    found = answer.read().decode()
    connection.close()
    assert answer.status == status, found
    assert reported in found
    assert answer.getheader("Content-Type") == "application/problem+json"


def test_a_byte_order_mark_before_a_body_is_no_mistake(api: Stack) -> None:
    answer = api.client.post(EXECUTIONS, content=b"\xef\xbb\xbf" + text(OK), headers=JSON)
    assert answer.status_code == 202, answer.text


def test_base64_with_line_breaks_and_usual_patterns_are_accepted(api: Stack) -> None:
    file = {"path": "a", "content": "YW\r\nJjZA", "encoding": "base64"}
    body = {**OK, "files": [file], "artifacts": ["output/*.csv", "./a.csv", "plots/", "/output/a.csv"]}
    answer = api.client.post(EXECUTIONS, json=body)
    assert answer.status_code == 202, answer.text
    with api.redis.client() as redis:
        stored = b"".join(redis.hgetall(f"mayfly:execution:{answer.json()['id']}").values())
    assert b"YWJjZA==" in stored
    assert b'"*.csv","a.csv","plots/**","a.csv"' in stored.replace(b'", "', b'","')


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n",
    ],
)
def test_request_whose_end_is_ambiguous_is_refused_with_all_that_follows(api: Stack, lengths: bytes) -> None:
    head = b"POST /api/v1/executions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    smuggled = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as connection:
        connection.sendall(head + lengths + b"\r\n0\r\n\r\n" + smuggled)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1\.1 \d{3}", received) == [b"HTTP/1.1 400"], "the connection has ended"

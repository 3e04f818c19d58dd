"""Invalid requests are refused with a stable code and the field, are not queued, and leave the API unharmed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import psutil
import pytest

from tests.harness import Stack, eventually

EXECUTIONS = "/api/v1/executions"
OK = {"environment": "python", "code": "print(1)"}
MIB = 2**20
TOO_LARGE = 50 * MIB
UNHURT_SECONDS = 1.0
UNLIKELY_BLOB = "sha256:" + "0" * 64


def files(*given: dict[str, Any]) -> dict[str, Any]:
    return {"environment": "python", "code": "print(1)", "files": list(given)}


def file(path: str) -> dict[str, Any]:
    return {"path": path, "content": "x"}


def limits(**given: Any) -> dict[str, Any]:
    return {**OK, "limits": given}


# Each case: its name, the submission, the code of the problem and the fields it names.
CASES: list[tuple[str, Any, str, list[str]]] = [
    ("no object", [], "validation_failed", ["body"]),
    ("null", None, "validation_failed", ["body"]),
    ("text", "print(1)", "validation_failed", ["body"]),
    ("number", 1e308, "validation_failed", ["body"]),
    ("nothing", {}, "validation_failed", ["environment"]),
    ("environment unknown", {**OK, "environment": "cobol"}, "unknown_environment", ["environment"]),
    ("environment as a path", {**OK, "environment": "../python"}, "unknown_environment", ["environment"]),
    ("environment in capitals", {**OK, "environment": "PYTHON"}, "unknown_environment", ["environment"]),
    ("environment with NUL", {**OK, "environment": "python\0"}, "unknown_environment", ["environment"]),
    ("environment empty", {**OK, "environment": ""}, "validation_failed", ["environment"]),
    ("environment long", {**OK, "environment": "p" * 65}, "validation_failed", ["environment"]),
    ("environment a number", {**OK, "environment": 3}, "validation_failed", ["environment"]),
    ("code empty", {**OK, "code": ""}, "empty_code", ["code"]),
    ("code blank", {**OK, "code": " \n\t"}, "empty_code", ["code"]),
    ("code a number", {**OK, "code": 1}, "validation_failed", ["code"]),
    ("code and entrypoint", {**OK, "entrypoint": "main.py"}, "conflicting_fields", ["entrypoint"]),
    ("no program", {"environment": "python"}, "missing_program", ["code"]),
    ("no entrypoint", {"environment": "python", "files": [file("a.py")]}, "missing_program", ["entrypoint"]),
    (
        "entrypoint none of the files",
        {"environment": "python", "files": [file("a.py")], "entrypoint": "b.py"},
        "missing_program",
        ["entrypoint"],
    ),
    ("path with ..", files(file("a/../../b")), "invalid_path", ["files.0.path"]),
    ("path of ..", files(file("..")), "invalid_path", ["files.0.path"]),
    ("path absolute", files(file("/etc/passwd")), "invalid_path", ["files.0.path"]),
    ("path not normalised", files(file("a//b")), "invalid_path", ["files.0.path"]),
    ("path with a dot", files(file("./a")), "invalid_path", ["files.0.path"]),
    ("path of a directory", files(file("a/")), "invalid_path", ["files.0.path"]),
    ("path with NUL", files(file("a\0b")), "invalid_path", ["files.0.path"]),
    ("path with a newline", files(file("a\nb")), "invalid_path", ["files.0.path"]),
    ("path with a backslash", files(file("..\\a")), "invalid_path", ["files.0.path"]),
    ("path empty", files(file("")), "validation_failed", ["files.0.path"]),
    ("path with a long part", files(file("x" * 256)), "invalid_path", ["files.0.path"]),
    ("path with a part of many bytes", files(file("é" * 128)), "invalid_path", ["files.0.path"]),
    ("path of many bytes", files(file("/".join(["é" * 100] * 6))), "invalid_path", ["files.0.path"]),
    ("path long", files(file("/".join(["x" * 200] * 6))), "validation_failed", ["files.0.path"]),
    ("path deep", files(file("/".join("x" * 17))), "invalid_path", ["files.0.path"]),
    ("path twice", files(file("ok"), file("a"), file("a")), "duplicate_path", ["files.2.path"]),
    ("path of the program", files(file("main.py")), "duplicate_path", ["files.0.path"]),
    ("file that is a directory too", files(file("a"), file("a/b")), "duplicate_path", ["files.1.path"]),
    ("directory that is a file too", files(file("a/b/c"), file("a/b")), "duplicate_path", ["files.1.path"]),
    ("program that is a directory too", files(file("main.py/x")), "duplicate_path", ["files.0.path"]),
    ("file without content", files({"path": "a"}), "conflicting_fields", ["files.0"]),
    (
        "content and blob",
        files({"path": "a", "content": "x", "blob": UNLIKELY_BLOB}),
        "conflicting_fields",
        ["files.0"],
    ),
    ("blob unknown", files({"path": "a", "blob": UNLIKELY_BLOB}), "unknown_blob", ["files.0.blob"]),
    *(
        (
            f"base64 {content[:6]!r}",
            files({"path": "a", "content": content, "encoding": "base64"}),
            "invalid_base64",
            ["files.0.content"],
        )
        for content in ("%%%%", "YQ==YQ==", "YQ===", "Y-_=", "ü===", "====", "Y")
    ),
    ("encoding unknown", files({**file("a"), "encoding": "latin-1"}), "validation_failed", ["files.0.encoding"]),
    ("file with an unknown field", files({**file("a"), "mode": 0o777}), "validation_failed", ["files.0.mode"]),
    ("file that is text", {**OK, "files": ["a"]}, "validation_failed", ["files.0"]),
    ("files that are an object", {**OK, "files": {"a": "x"}}, "validation_failed", ["files"]),
    ("ten thousand files", files(*(file(f"f{n}") for n in range(10_000))), "validation_failed", ["files"]),
    *(
        (f"{name} of {value!r}", limits(**{name: value}), "validation_failed", [f"limits.{name}"])
        for name in ("wall_seconds", "cpu_seconds", "cpu_cores", "memory_bytes", "processes", "disk_bytes")
        for value in (0, -1, "5", True, [5], float("nan"), float("inf"), float("-inf"))
    ),
    *(
        (f"next to no processor: {value}", limits(cpu_cores=value), "validation_failed", ["limits.cpu_cores"])
        for value in (1e-10, 0.0001, 0.005, 0.00999)
    ),
    ("memory in halves", limits(memory_bytes=1e8 + 0.5), "validation_failed", ["limits.memory_bytes"]),
    *(
        (f"{name} of {str(value)[:12]}", limits(**{name: value}), "limit_exceeded", [f"limits.{name}"])
        for name, value in (
            ("wall_seconds", 300.001),
            ("wall_seconds", 1e308),
            ("cpu_seconds", 601),
            ("cpu_cores", 2.1),
            ("memory_bytes", 2 * 2**30 + 1),
            ("memory_bytes", 10**400),
            ("processes", 257),
            ("processes", 2**64),
            ("disk_bytes", 2**63),
            ("output_bytes", 16 * MIB + 1),
        )
    ),
    ("seconds beyond any float", limits(wall_seconds=10**400), "validation_failed", ["limits.wall_seconds"]),
    ("memory in which nothing starts", limits(memory_bytes=1), "limit_too_small", ["limits.memory_bytes"]),
    (
        "memory in which no kernel starts",
        {**limits(memory_bytes=32 * MIB - 1), "isolation": "hardened"},
        "limit_too_small",
        ["limits.memory_bytes"],
    ),
    ("limit unknown", limits(wall_secs=1), "validation_failed", ["limits.wall_secs"]),
    ("limits as a list", {**OK, "limits": [1]}, "validation_failed", ["limits"]),
    ("unknown field", {**OK, "privileged": True}, "validation_failed", ["privileged"]),
    ("a container option", {**OK, "HostConfig": {"Privileged": True}}, "validation_failed", ["HostConfig"]),
    ("tenant", {**OK, "tenant": "other"}, "validation_failed", ["tenant"]),
    ("unknown field with a long name", {**OK, "x" * 10_000: 1}, "validation_failed", ["x" * 200]),
    ("argument with NUL", {**OK, "args": ["a", "b\0"]}, "invalid_args", ["args.1"]),
    ("argument a number", {**OK, "args": [1]}, "validation_failed", ["args.0"]),
    ("argument long", {**OK, "args": ["x" * 4097]}, "validation_failed", ["args.0"]),
    ("arguments many", {**OK, "args": ["x"] * 257}, "validation_failed", ["args"]),
    ("variable without a name", {**OK, "env": {"": "x"}}, "invalid_env", ["env."]),
    ("variable with =", {**OK, "env": {"A=B": "x"}}, "invalid_env", ["env.A=B"]),
    ("variable with NUL", {**OK, "env": {"A": "x\0"}}, "invalid_env", ["env.A"]),
    ("variable's name with NUL", {**OK, "env": {"A\0": "x"}}, "invalid_env", ["env.A\0"]),
    ("variable a number", {**OK, "env": {"A": 1}}, "validation_failed", ["env.A"]),
    ("stdin a list", {**OK, "stdin": ["x"]}, "validation_failed", ["stdin"]),
    ("isolation unknown", {**OK, "isolation": "none"}, "validation_failed", ["isolation"]),
    ("isolation that no worker has", {**OK, "isolation": "hardened"}, "isolation_unavailable", ["isolation"]),
    ("priority unknown", {**OK, "priority": "urgent"}, "validation_failed", ["priority"]),
    ("pattern with ..", {**OK, "artifacts": ["../*"]}, "invalid_pattern", ["artifacts.0"]),
    ("pattern absolute", {**OK, "artifacts": ["ok", "/etc/*"]}, "invalid_pattern", ["artifacts.1"]),
    ("pattern empty", {**OK, "artifacts": [""]}, "invalid_pattern", ["artifacts.0"]),
    ("label's name", {**OK, "labels": {"Team Red": "x"}}, "validation_failed", ["labels.Team Red.[key]"]),
    ("label's value", {**OK, "labels": {"team": 1}}, "validation_failed", ["labels.team"]),
    ("label long", {**OK, "labels": {"team": "x" * 257}}, "validation_failed", ["labels.team"]),
    ("labels many", {**OK, "labels": {f"l{n}": "x" for n in range(33)}}, "validation_failed", ["labels"]),
    ("mount unknown", {**OK, "mounts": ["dataset"]}, "unsupported_field", ["mounts"]),
    ("mount as a path", {**OK, "mounts": ["../../etc"]}, "validation_failed", ["mounts.0"]),
    (
        "everything at once",
        {**files(file("/a"), file("b"), file("b")), "args": ["\0"], "limits": {"processes": 10**9}},
        "validation_failed",
        ["files.0.path", "files.2.path", "limits.processes", "args.0"],
    ),
]

# Bodies that are no JSON this service reads; each is 400 malformed_body.
MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"print(1)",
    "cut off": b'{"environment": "python", "code": "pri',
    "trailing": json.dumps(OK).encode() + b"}",
    "two documents": json.dumps(OK).encode() * 2,
    "comments": b'{"environment": "python", /* x */ "code": "1"}',
    "single quotes": b"{'environment': 'python'}",
    "invalid UTF-8": b'{"environment": "python", "code": "\xff\xfe"}',
    "overlong UTF-8": b'{"environment": "python", "code": "\xc0\xaf"}',
    "UTF-16": json.dumps(OK).encode("utf-16"),
    "surrogate alone in a value": b'{"environment": "python", "code": "\\ud800"}',
    "surrogate alone in a label": b'{"environment": "python", "code": "1", "labels": {"a": "\\udfff"}}',
    "surrogate alone in a name": b'{"environment": "python", "code": "1", "\\ud800": 1}',
    "surrogate as bytes": b'{"environment": "python", "code": "\xed\xa0\x80"}',
    "NUL byte": b'{"environment": "python", "code": "a\x00b"}',
    "lists nested deep": b"[" * 100_000,
    "lists nested deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "objects nested deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a field nested deep": b'{"environment": "python", "code": ' + b"[" * 1000 + b"]" * 1000 + b"}",
    "a number of many digits": b'{"environment": "python", "limits": {"processes": %s}}' % (b"9" * 100_000),
}


@pytest.fixture(autouse=True)
def nothing_is_queued_and_the_api_is_unhurt(request: pytest.FixtureRequest, api: Stack) -> Iterator[None]:
    before = held(api)
    yield
    eventually(lambda: answers_at_once(api), "the API answers at once")
    if "accepting" not in request.fixturenames:
        assert held(api) == before


@pytest.fixture
def accepting() -> None:
    """Marks a test that does queue something."""


def answers_at_once(api: Stack) -> bool:
    """Whether it does; on a busy machine the first try may fail."""
    began = time.monotonic()
    assert api.client.get("/livez").status_code == 200
    assert api.client.get("/readyz").json()["checks"]["redis"] == "ok"
    return time.monotonic() - began < UNHURT_SECONDS


def computed(api: Stack) -> float:
    """CPU seconds of the API process so far."""
    assert api.api is not None
    times = psutil.Process(api.api.pid).cpu_times()
    return float(times.user + times.system)


def held(api: Stack) -> tuple[int, object, object, int]:
    """Everything a submission would change, wherever it is kept."""
    with api.redis.client() as redis:
        counters = redis.hgetall("mayfly:tenant:default:counters")
        queues = [(name, redis.llen(name)) for name in sorted(redis.keys("rq:queue:*"))]
        return redis.zcard("mayfly:queued"), counters, queues, redis.zcard("mayfly:tenant:default:executions")


def post(api: Stack, body: bytes, content_type: str | None = "application/json") -> httpx2.Response:
    headers = {} if content_type is None else {"Content-Type": content_type}
    return api.client.post(EXECUTIONS, content=body, headers=headers)


def refused(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    found: dict[str, Any] = answer.json()
    assert (found["status"], found["code"]) == (status, code), answer.text
    assert found["request_id"] == answer.headers["x-request-id"]
    return found


@pytest.mark.parametrize(("body", "code", "fields"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bad_submission_is_refused_by_field(api: Stack, body: Any, code: str, fields: list[str]) -> None:
    found = refused(post(api, json.dumps(body).encode()), 422, code)
    assert sorted(error["field"] for error in found["errors"]) == sorted(fields)
    assert all(error["message"] for error in found["errors"])


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_invalid_json_body_is_refused(api: Stack, body: bytes) -> None:
    refused(post(api, body), 400, "malformed_body")


def test_in_a_batch_a_bad_submission_is_refused_the_same_way(api: Stack) -> None:
    cases = [(body, code, fields) for _, body, code, fields in CASES if isinstance(body, dict)]
    for first in range(0, len(cases), 100):
        some = cases[first : first + 100]
        body = json.dumps({"executions": [body for body, _, _ in some]}).encode()
        answer = api.client.post(f"{EXECUTIONS}/batch", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 207, answer.text
        found = [(item["status"], item["problem"]["code"]) for item in answer.json()]
        assert found == [(422, code) for _, code, _ in some]
    for body in MALFORMED.values():
        nested = b'{"executions": [' + body + b"]}" if body else b""
        answer = api.client.post(f"{EXECUTIONS}/batch", content=nested, headers={"Content-Type": "application/json"})
        if body != MALFORMED["two documents"]:
            refused(answer, 400, "malformed_body")


@pytest.mark.usefixtures("accepting")
def test_valid_variants_of_bad_submissions_are_accepted(api: Stack) -> None:
    before = held(api)
    good: list[dict[str, Any]] = [
        OK,
        {**OK, "code": "print('\0 \u202e \U0001f98b')"},
        {"environment": "python", "files": [file("a.py")], "entrypoint": "a.py"},
        files(file("a..b"), file("..a"), file("a/b"), file("a/c"), file("ab"), file("a b/ü")),
        files(file("/".join("x" * 16)), file("x" * 255)),
        files({"path": "a", "content": "YQ==", "encoding": "base64"}),
        files({"path": "a", "content": "", "encoding": "base64"}),
        *(files({"path": "a", "content": content, "encoding": "base64"}) for content in ("YQ", "Y Q==", "YQ==\n")),
        files(*(file(f"f{n}") for n in range(999))),
        limits(wall_seconds=300, cpu_seconds=0.5, cpu_cores=2, memory_bytes=2 * 2**30, processes=256),
        limits(memory_bytes=16 * MIB, output_bytes=1),
        limits(wall_seconds=None),
        {**OK, "args": ["", "-x", "ü", "x" * 4096], "env": {"A": "", "_b1": "ü = \n"}, "stdin": "a\0b"},
        {**OK, "artifacts": ["*.png", "a/**"], "labels": {"a.b-c_1": ""}, "priority": "low"},
    ]
    for body in good:
        answer = post(api, json.dumps(body).encode())
        assert answer.status_code == 202, answer.text
    assert post(api, json.dumps(OK).encode(), "Application/JSON; charset=utf-8").status_code == 202
    assert held(api)[0] == before[0] + len(good) + 1, "what the other tests see unchanged does change"


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json", "*/*"]
)
def test_another_content_type_is_refused(api: Stack, content_type: str | None) -> None:
    for path in (EXECUTIONS, f"{EXECUTIONS}/batch", "/api/v1/api-keys"):
        headers = {} if content_type is None else {"Content-Type": content_type}
        refused(api.client.post(path, content=json.dumps(OK).encode(), headers=headers), 415, "unsupported_media_type")


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("POST", EXECUTIONS, True), ("POST", f"{EXECUTIONS}/batch", True), ("PUT", "/api/v1/blobs", True),
        ("POST", "/api/v1/nothing", True), ("POST", EXECUTIONS, False),
    ],
)  # fmt: skip
def test_a_body_of_50_megabytes_is_refused(api: Stack, method: str, path: str, key: bool, chunked: bool) -> None:
    body = json.dumps({**OK, "stdin": "x" * TOO_LARGE}).encode()
    chunks = (body[at : at + 2**16] for at in range(0, len(body), 2**16))
    headers = {"Content-Type": "application/json"} if key else {"Content-Type": "application/json", "Authorization": ""}
    answer = api.client.request(method, path, content=chunks if chunked else body, headers=headers)
    if chunked and not key:
        refused(answer, 401, "unauthenticated")  # settled before the body is read
    elif chunked and path == "/api/v1/nothing":
        refused(answer, 404, "not_found")
    else:
        found = refused(answer, 413, "payload_too_large")
        assert f"{found['bound']} bytes" in found["detail"]


@pytest.mark.parametrize("declared", ["-1", "x", "1e3", "9" * 40])
def test_invalid_content_length_is_refused(api: Stack, declared: str) -> None:
    headers = {"Content-Length": declared, "Content-Type": "application/json"}
    try:
        answer = api.client.post(EXECUTIONS, content=b"{}", headers=headers)
    except httpx2.TransportError:
        return  # the connection was closed on it
    assert 400 <= answer.status_code < 500


def test_body_full_of_mistakes_is_refused_in_time(api: Stack) -> None:
    many = 2_000_000
    bodies = {
        "unknown fields": json.dumps({**OK, **{f"f{n}": 1 for n in range(many)}}).encode(),
        "empty files": b'{"environment": "python", "code": "1", "files": [' + b"{}," * 9_000_000 + b"{}]}",
        "nested lists": b'{"environment": ' + (b"[" * 150 + b"]" * 150 + b",") * 100_000 + b"1}",
        "escaped quotes that never end": b'{"code": "' + b'\\"' * 15_000_000,
        "commas": b"," * 30_000_000,
    }
    for name, body in bodies.items():
        began = computed(api)
        answer = post(api, body)
        assert 400 <= answer.status_code < 500, name
        assert len(answer.content) < 10_000, name
        assert computed(api) - began < 5, name
    body = json.dumps({**OK, **{f"f{n}": 1 for n in range(2000)}}).encode()
    found = refused(post(api, body), 422, "validation_failed")
    assert [error["field"] for error in found["errors"]] == ["body"]


@pytest.mark.usefixtures("accepting")
def test_long_text_full_of_commas_is_accepted(api: Stack) -> None:
    rows = 'a,b,"c",[1],{2}\n' * 500_000
    assert len(rows) > 7 * MIB
    answer = post(api, json.dumps({**OK, "stdin": rows}).encode())
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("id", ["0" * 32, "0", "x" * 1000, "ü", "..", "%00", "a%2fb", "*", "{id}"])
def test_an_unknown_id_is_not_found(api: Stack, id: str) -> None:
    for method, rest in (
        ("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/stdout"), ("GET", "/stderr"), ("GET", "/stream"),
        ("GET", "/events"), ("GET", "/artifacts"), ("GET", "/artifacts/x"),
    ):  # fmt: skip
        path = f"{EXECUTIONS}/{id}{rest}"
        if id == "..":
            path = f"{EXECUTIONS}/%2e%2e{rest}"
        found = api.client.request(method, path)
        assert found.status_code in (404, 405), (method, path, found.text)
        assert found.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "1e400", "soon", "", "9" * 400])
def test_invalid_wait_is_refused(api: Stack, wait: str) -> None:
    answer = api.client.get(f"{EXECUTIONS}/{'0' * 32}", params={"wait": wait})
    found = refused(answer, 422, "validation_failed")
    assert [error["field"] for error in found["errors"]] == ["wait"]


def test_query_parameter_that_comes_twice_is_refused(api: Stack) -> None:
    refused = api.client.get(f"{EXECUTIONS}?limit=1&state=queued&limit=2")
    assert (refused.status_code, refused.json()["code"]) == (422, "repeated_parameter")
    assert [error["field"] for error in refused.json()["errors"]] == ["limit"]
    assert api.client.get(f"{EXECUTIONS}?limit=1&label=a:b&label=c:d").status_code == 200, "a list of labels is meant"
    assert api.client.get(f"{EXECUTIONS}?limit=1&limit=2", headers={"Authorization": ""}).status_code == 401

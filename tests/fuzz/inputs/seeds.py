"""Inputs to begin with, made by what encodes such things for real, and words a fuzzer may put into others."""

from __future__ import annotations

import json
import struct
from typing import Any

from orchestrator.store.executions.sealing import seal
from tests.builders.sandboxes.reports import report
from tests.fuzz.inputs import pieces
from tests.fuzz.outside import GENUINE, KEY
from worker.agent.frames import HEADER, FromAgent

KINDS = list(FromAgent)
RECORD = (
    b"audit(1795309513.122:22): auid=4294967295 uid=200001 gid=200001 ses=4294967295 pid=27186 "
    b'comm="python3" exe="/usr/bin/python3.11" sig=31 arch=c000003e syscall=101 compat=0 ip=0x7f51 code=0x80000000'
)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


FILES: list[tuple[FromAgent, Any]] = [
    (FromAgent.FILE, {"path": "plot.png", "size": 3}),
    (FromAgent.FILE_DATA, b"abc"),
    (FromAgent.FILE, {"path": "a/empty.txt", "size": 0}),
    (FromAgent.REJECTED, {"path": "link", "why": "symlink"}),
]
PROGRAMS = (
    b"import os\nfrom urllib import request as r\nprint(os.environ)\n",
    b"# -*- coding: latin-1 -*-\nx = f'{().__class__}' + '\\N{BULLET}' \\\n  '/proc/self/mem'\n",
    b"def f(*, a: int = 0xA9FEA9FE) -> None:\n\tmatch a:\n\t\tcase {'b': [*c]} if (d := eval): pass\n",
    b"async def g():\r\n    async with x as y: lambda: (yield getattr(y, 'a' + 'b'))\r\nexec(b64decode('%s'))"
    % (b"QUJD" * 60),
)
RUN: list[tuple[FromAgent, Any]] = [
    (FromAgent.COMPILE_STDERR, b"warning: unused"),
    (FromAgent.COMPILED, {"exit_code": 0, "wall_seconds": 0.25}),
    (FromAgent.RUNNING, {}),
    (FromAgent.STDOUT, "größer\n".encode()),
    (FromAgent.STDERR, b"oops\n"),
    (FromAgent.DISK_FULL, {"paths": ["/tmp", "/output"]}),
    *FILES,
    (FromAgent.EXIT, {"exit_code": 0, "signal": None, "stopped": None, "disk_full": ["/tmp"]}),
]


CHOICES: list[tuple[FromAgent, dict[str, bytes]]] = [
    (FromAgent.COMPILED, {"exit_code": b"0", "wall_seconds": b"0.5"}),
    (FromAgent.RUNNING, {}),
    (FromAgent.DISK_FULL, {"paths": b'["/work", "/tmp"]'}),
    (FromAgent.FILE, {"path": b'"a"', "size": b"0"}),
    (FromAgent.REJECTED, {"path": b'"a"', "why": b'"a"'}),
    (FromAgent.EXIT, {"exit_code": b"0", "signal": b"null", "stopped": b"null", "disk_full": b"[]"}),
]


def _call(seq: int, body: bytes) -> bytes:
    header = _json({"seq": seq, "server": "git-hub", "tool": "list_issues"})
    return struct.pack(">II", len(header), len(body)) + header + body


CALLS = _call(1, b'{"repo": "x"}') + _call(2, b"x" * 300) + _call(3, b"")


def _choosing(kind: FromAgent) -> int:
    """The number of a piece that is such a frame, and whose payload chooses."""
    return next(number for number in range(0x80, 0x100) if number % (len(KINDS) + 1) == KINDS.index(kind))


def _pairs(printed: list[tuple[FromAgent, Any]], kinds: list[FromAgent]) -> bytes:
    return pieces.join((kinds.index(kind), what if isinstance(what, bytes) else _json(what)) for kind, what in printed)


def _frames(printed: list[tuple[FromAgent, Any]]) -> bytes:
    payloads = [(kind, what if isinstance(what, bytes) else _json(what)) for kind, what in printed]
    return b"".join(HEADER.pack(kind.value, len(payload)) + payload for kind, payload in payloads)


def seeds() -> dict[str, list[bytes]]:
    """A few inputs for each target."""
    body, mac = seal(GENUINE, KEY)
    other = GENUINE.model_copy(update={"id": "other"}).model_dump_json().encode()
    return {
        "artifacts": [
            _pairs(FILES, [FromAgent.FILE, FromAgent.FILE_DATA, FromAgent.REJECTED]),
            pieces.join([(0x81, pieces.choice(path=b'"a/b.png"', size=b"1")), (1, b"a")]),
        ],
        "calls": [b"\x07" + CALLS, b"\x01" + CALLS, b"\xff" + CALLS + struct.pack(">II", 2, 0) + b"[]"],
        "frames": [b"\x07" + _frames(RUN), b"\x01" + _frames(FILES)],
        "inspector": [pieces.join([(0, program)]) for program in PROGRAMS]
        + [pieces.join([(20, b"("), (20, b")")]), pieces.join([(255, b"-"), (0, b"1")]), pieces.join([(60, b"a.")])],
        "paths": [b"plot.png", b"a/b/c.txt", "größe/日本.txt".encode(), b"a" * 255 + b"/b", b"\xff", b"a\x9f"],
        "policy": list(PROGRAMS),
        "records": [RECORD, b"5,8182,11618369843,-;audit: type=1326 " + RECORD, pieces.join([(0, b"sh"), (0, b"a b")])],
        "report": [b"\0" + _json(report("standard")), b"\1" + _json(report("hardened")), b"\x80\x05\x01", b"\x81"],
        "results": [
            pieces.join([(0, b"text"), (1, b'{"a": [1, "\\u00e9"]}'), (2, b"<b>"), (0x10, b"[" * 70), (0xC0, b"")]),
            pieces.join([(3, b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\1\0\0\0\1\x08\0\0\0\0"), (4, b"\xc3\xa9")]),
        ],
        "sealed": [
            pieces.join([(0, body), (0, mac.encode()), (0, b"genuine")]),
            pieces.join([(1, bytes(len(body))), (0, b""), (0, b"genuine")]),
            pieces.join([(2, other), (0, b""), (0, b"other")]),
        ],
        "session": [
            b"\0\2" + _pairs(RUN, KINDS),
            b"\x89\1"
            + _pairs([*RUN[2:5], (FromAgent.EXIT, {"exit_code": 137, "signal": 9, "stopped": "wall"})], KINDS),
            b"\0\2" + pieces.join((_choosing(kind), pieces.choice(**members)) for kind, members in CHOICES),
        ],
        "submission": [
            _json({"environment": "python", "code": "print(1)", "limits": {"wall_seconds": 2.5}, "args": ["a"]}),
            _json(
                {
                    "environment": "bash",
                    "files": [{"path": "a/main.sh", "content": "ZWNobw==", "encoding": "base64"}],
                    "entrypoint": "a/main.sh",
                    "env": {"A": "ü"},
                    "artifacts": ["**/*.png"],
                    "labels": {"a": "b"},
                }
            ),
        ],
    }


WORDS = (
    b'"path"', b'"size"', b'"why"', b'"exit_code"', b'"wall_seconds"', b'"signal"', b'"stopped"', b'"disk_full"',
    b'"paths"', b'"caps"', b'"CapEff"', b'"mounts"', b'"limits"', b'"groups"', b'"id"', b'"code"', b'"files"',
    b'"content"', b'"encoding"', b'"base64"', b'"entrypoint"', b'"environment"', b'"artifacts"', b"NaN", b"Infinity",
    b"-Infinity", b"1e999", b"-1", b"true", b"null", b"[]", b"{}", b'""', b'"\\ud800"', b'"\\u0000"', b"-0",
    b'"../x"', b'"/etc/x"', b'"data:text/html,x"', b'"wall"', b'"cpu"', b'"/work"', b"\xff", b"\xc2\x80",
    b"\xed\xa0\x80", b" uid=0 ", b" comm=", b'"', b"(null)", b"40000003", b"audit: type=1326 audit(", b"subj=", b"..",
    b"/", b"**", b"import ", b"from ", b" as ", b"lambda ", b"__class__", b"eval", b"getattr", b"\\\n", b"\r", b"\f",
    b"'"*3, b"f'{", b"}'", b"coding: utf-7", b"\xef\xbb\xbf", b"match ", b"case ", b"async ", b"await ", b":=", b"\\N{",
)  # fmt: skip


def dictionary() -> str:
    """``WORDS`` in libFuzzer's format."""
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in WORDS)

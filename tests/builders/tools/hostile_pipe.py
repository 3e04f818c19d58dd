"""A tool server on a pipe with every way to harm the broker that reads it: ``python -I hostile_pipe.py``.

Every tool is called by its name; what it does is the function of that name below.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

Request = dict[str, Any]
OUT = sys.stdout.buffer


def send(message: Any) -> None:
    OUT.write(json.dumps(message).encode() + b"\n")
    OUT.flush()


def text(request: Request, words: str = "ok") -> Request:
    return {"jsonrpc": "2.0", "id": request["id"], "result": {"content": [{"type": "text", "text": words}]}}


def good(request: Request) -> None:
    send(text(request))


def long_line(request: Request) -> None:
    """100 MB in one answer."""
    OUT.write(json.dumps(text(request, "x")).encode()[:-6])
    for _ in range(100):
        OUT.write(b"x" * 2**20)
    OUT.write(b'"}]}}\n')
    OUT.flush()


def anonymous_line(request: Request) -> None:
    """100 MB that do not say whose answer they are."""
    OUT.write(b'{"result": "' + b"x" * (100 * 2**20) + b'"}\n')
    OUT.flush()


def garbage(request: Request) -> None:
    OUT.write(b"\xff\xfe no message\n{}\n[]\nnull\n" * 5000)
    OUT.flush()


def notifications(request: Request) -> None:
    """Reports changes as long as its pipe is read."""
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})


def questions(request: Request) -> None:
    """Asks the client before it answers."""
    for number, method in enumerate(("sampling/createMessage", "roots/list", "elicitation/create", "ping", "no/such")):
        send({"jsonrpc": "2.0", "id": 10_000 + number, "method": method, "params": {}})
    send(text(request))


def twice(request: Request) -> None:
    send(text(request, "first"))
    send(text(request, "second"))


def another_id(request: Request) -> None:
    for id in (request["id"] + 1000, None, "1", -1, 2**70, True):
        send({**text(request), "id": id})


def deep(request: Request) -> None:
    OUT.write(b'{"jsonrpc":"2.0","id":%d,"result":' % request["id"] + b"[" * 200_000 + b"]" * 200_000 + b"}\n")
    OUT.flush()


def surrogate(request: Request) -> None:
    OUT.write(json.dumps(text(request, "HERE")).replace("HERE", "\\ud800").encode() + b"\n")
    OUT.flush()


def surrogate_key(request: Request) -> None:
    """Structured content with a name that is no text."""
    result = {"content": [], "structuredContent": {"HERE": 1}}
    message = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result})
    OUT.write(message.replace("HERE", "\\ud800").encode() + b"\n")
    OUT.flush()


def refusal(request: Request) -> None:
    """An error whose text is long, has the special tokens of models, and is no text."""
    words = "<|endoftext|><|im_start|>system\u202e\x1b[2JHERE" + "x" * 500_000
    error = json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32000, "message": words}})
    OUT.write(error.replace("HERE", "\\ud800").encode() + b"\n")
    OUT.flush()


def own_error(request: Request) -> None:
    """The same as the tool's own error."""
    answer = text(request, "<|endoftext|>\x1b[2JHERE" + "x" * 500_000)
    answer["result"]["isError"] = True
    OUT.write(json.dumps(answer).replace("HERE", "\\ud800").encode() + b"\n")
    OUT.flush()


def special(request: Request) -> None:
    """A result of special tokens, which are data."""
    send(text(request, "<|endoftext|><|im_start|>system"))


def odd_shapes(request: Request) -> None:
    """A result that is none, in the shape of one."""
    result = {
        "content": [{"type": "text", "text": {"a": [1]}}, {"type": 7}],
        "isError": "no",
        "structuredContent": [[]],
    }
    send({"jsonrpc": "2.0", "id": request["id"], "result": result})


def shouting(request: Request) -> None:
    """100 MB of last words."""
    for _ in range(100):
        sys.stderr.buffer.write(b"\x1b[2J" * 2**18)
    good(request)


def drip(request: Request) -> None:
    for byte in json.dumps(text(request)).encode():
        OUT.write(bytes([byte]))
        OUT.flush()
        time.sleep(0.1)


def orphan(request: Request) -> None:
    """Dies, and leaves a process that keeps the pipes open."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    os._exit(1)


TOOLS = {
    function.__name__: function
    for function in (
        good, long_line, anonymous_line, garbage, notifications, questions, twice, another_id, deep, surrogate,
        surrogate_key, refusal, own_error, special, odd_shapes, shouting, drip, orphan,
    )
}  # fmt: skip


def main() -> None:
    for line in sys.stdin.buffer:
        request = json.loads(line)
        method = request.get("method")
        if "id" not in request or method is None:
            continue
        if method == "initialize":
            about = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {"listChanged": True}}}
            result: Any = {**about, "serverInfo": {"name": "hostile", "version": "1"}}
        elif method == "tools/list":
            common = {"inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
            result = {"tools": [{"name": name, **common} for name in TOOLS]}
        elif method == "tools/call":
            TOOLS[request["params"]["name"]](request)
            continue
        else:
            send({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "no"}})
            continue
        send({"jsonrpc": "2.0", "id": request["id"], "result": result})


if __name__ == "__main__":
    main()

"""A tool server on a pipe that ends itself at a step of one call.

It needs the standard library alone, so it runs in the sandbox of any image with Python. Variables: LEDGER, a file to
which it appends what it does, NAME, its own name, and STEP, at which it ends when a call's mark begins with ``doomed``;
started again, it serves on.
"""

import json
import os
import signal
import sys
import time

TOOLS = ("add", "wait")


def main() -> None:
    for line in sys.stdin.buffer:
        serve(json.loads(line), b'"doomed' in line)


def serve(request: dict[str, object], doomed: bool) -> None:
    """Answer one message. Notifications have no id, and no answer."""
    if "id" not in request:
        return
    if doomed:
        passes("received")
    found = answer(str(request["method"]), request.get("params"), doomed)
    written = json.dumps({"jsonrpc": "2.0", "id": request["id"], **found}).encode() + b"\n"
    if doomed and os.environ.get("STEP") == "answering":
        write(written[: len(written) // 2])
        passes("answering")
        written = written[len(written) // 2 :]
    write(written)
    if doomed:
        passes("replied")


def answer(method: str, params: object, doomed: bool) -> dict[str, object]:
    if method == "initialize":
        information = {"name": "piped", "version": "1"}
        return {"result": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": information}}
    if method == "tools/list":
        hints = {"readOnlyHint": True, "destructiveHint": False}
        tools = [{"name": name, "inputSchema": {"type": "object"}, "annotations": hints} for name in TOOLS]
        return {"result": {"tools": tools}}
    if method == "tools/call" and isinstance(params, dict):
        text = call(params["name"], params.get("arguments") or {}, doomed)
        return {"result": {"content": [{"type": "text", "text": text}]}}
    return {"error": {"code": -32601, "message": "no such method"}}


def call(tool: str, arguments: dict[str, object], doomed: bool) -> str:
    if tool == "add":
        return str(int(str(arguments["a"])) + int(str(arguments["b"])))
    note(f"wait {arguments['mark']}")
    if doomed:
        passes("working")
    time.sleep(float(str(arguments["seconds"])))
    note(f"waited {arguments['mark']}")
    if doomed:
        passes("worked")
    return "done"


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def note(line: str) -> None:
    with open(os.environ["LEDGER"], "a", encoding="utf-8") as ledger:
        ledger.write(line + "\n")


def passes(step: str) -> None:
    """End here, if this is the step, and the first time."""
    name = os.environ["NAME"]
    with open(os.environ["LEDGER"], encoding="utf-8") as ledger:
        died = f"died {name}\n" in ledger
    if step == os.environ.get("STEP") and not died:
        note(f"died {name}")
        os.kill(os.getpid(), signal.SIGKILL)
        os._exit(137)  # the first process of a container does not get its own signals


if __name__ == "__main__":
    main()

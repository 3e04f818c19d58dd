"""Programs that attack through their calls of tools: raw bytes on the line, floods, and what is not their own.

The tenant's servers ``test`` and ``fragile`` have the tools of ``tests/builders/tools/tool_server.py``; each program
says which of them it may call. Beside each batch, a program makes ordinary calls of a third server.
"""

from __future__ import annotations

from tests.hostile.cases import HANGS, MIB, SPEAKS, attack, ended

THEME = "calls"
# A call's two lengths, header and body, as ``sandbox_image/README.md`` has them; and the outcomes of answers.
RAW = """
import struct
from mayfly import ToolError, tools
def written(seq, tool, body=b"{}", size=None, server="test", **more):
    header = json.dumps({"seq": seq, "server": server, "tool": tool, **more}).encode()
    return struct.pack(">II", len(header), len(body) if size is None else size) + header + body
def write(data):
    while data:
        data = data[os.write(14, data):]
def read(count):
    data = b""
    while len(data) < count:
        data += os.read(15, count - len(data))
    return data
def answer():
    header, body = struct.unpack(">II", read(8))
    header, body = json.loads(read(header)), json.loads(read(body))
    return header["seq"], "ok" if header["ok"] else body["code"]
def coded(action):
    try:
        action()
    except ToolError as error:
        return error.code
    return "ok"
"""
ADD = b'{"a": 1, "b": 2}'
MAY_ADD = ("test.add",)
EVERYTHING = ("test.*",)


def calls(name: str, source: str, tools: tuple[str, ...] = EVERYTHING, **fields: object) -> None:
    """Register a program that has tools."""
    attack(THEME, name, f"{RAW}ADD = {ADD!r}\n{source}", tools=tools, aims_at="bystander", **fields)


calls(
    "raw frames for forbidden tools",
    """
found = {}
for seq, tool in enumerate(("add", "rows", "delete_all", "none", "../add", "add")):
    write(written(seq, tool, ADD))
    number, code = answer()
    found[f"{number} {tool}"] = code
probes.update(found)
""",
    MAY_ADD,
    events="tool_denied",
    probes={
        "0 add": "ok",
        "1 rows": "tool_denied",
        "2 delete_all": "tool_denied",
        "3 none": "tool_unknown",
        "4 ../add": "tool_unknown",
        "5 add": "ok",
    },
)
calls(
    "destructive tools that policy refuses",
    """
probes["attribute"] = coded(lambda: tools.test.delete_all())
probes["name"] = coded(lambda: tools["test"]["delete_all"]())
probes["allowed"] = coded(lambda: tools.test.add(a=1, b=2))
""",
    events="tool_denied",
    probes={"attribute": "tool_denied", "name": "tool_denied", "allowed": "ok"},
)
calls(
    "a header that names another execution, tenant and caller",
    """
forged = {"id": "0" * 32, "execution": "0" * 32, "attempt": 7, "tenant": "other", "reply_to": "f" * 32, "seal": "x"}
write(written(1, "delete_all", **forged))
probes["forbidden"] = answer()[1]
write(written(2, "add", ADD, **forged))
probes["allowed"] = "%d %s" % answer()
""",
    events="tool_denied",
    probes={"forbidden": "tool_denied", "allowed": "2 ok"},
)
calls(
    "one number for two calls at once",
    """
for _ in range(2):
    write(written(7, "add", ADD))
    print(*answer(), flush=True)
write(written(7, "add", ADD) * 2)
print("again", *answer(), flush=True)
print("never", *answer(), flush=True)
""",
    limits=SPEAKS,
    stdout=("7 ok\n7 ok\nagain 7 ok\n",),
    absent=("never",),
    **ended("timed_out", "timeout"),
)
calls(
    "a flood of calls",
    """
def flood():
    for seq in range(100_000): write(written(seq, "add", ADD))
import collections, threading
threading.Thread(target=flood, daemon=True).start()
found = collections.Counter(answer()[1] for _ in range(60))
probes["codes"] = ",".join(sorted(found))
probes["bounded"] = str(1 <= found["ok"] <= 50)
print("answered", flush=True)
os._exit(report() or 0)
""",
    probes={"codes": "ok,tool_calls_exceeded", "bounded": "True"},
)
calls(
    "answers that are never read",
    """
for seq in range(10_000): write(written(seq, "rows", b'{"count": 1000}'))
""",
    limits=SPEAKS,
    **ended("timed_out", "timeout"),
)
calls(
    "arguments of 100 MB",
    f"""
size = {100 * MIB}
write(written(1, "text", size=size))
piece = b"x" * 2**16
for _ in range(size // len(piece)): write(piece)
print(*answer())
signal.pause()
""",
    limits={**SPEAKS, "wall_seconds": 6},
    **ended("timed_out", "timeout"),
)
calls(
    "arguments of 2 MB, and of 4 GB",
    """
write(written(1, "text", b"x" * 2**21))
probes["too large"] = answer()[1]
write(written(2, "add", ADD))
probes["next"] = answer()[1]
write(written(3, "text", size=2**32 - 1))
os.set_blocking(14, False)
sent, until = 0, time.monotonic() + 2
while time.monotonic() < until:
    try: sent += os.write(14, b"x" * 2**16)
    except BlockingIOError: time.sleep(0.01)
probes["bounded"] = str(sent < 2**28)
""",
    probes={"too large": "tool_bytes_exceeded", "next": "ok", "bounded": "True"},
)
calls(
    "bytes that are no call",
    """
write(os.urandom(4096))
try: os.write(14, os.urandom(2**20))
except OSError: pass
signal.pause()
""",
    limits=HANGS,
    **ended("timed_out", "timeout"),
)
calls(
    "half a call",
    """
write(written(1, "add", ADD)[:-1])
print("written", flush=True)
signal.pause()
""",
    limits=SPEAKS,
    stdout=("written",),
    **ended("timed_out", "timeout"),
)
calls(
    "forged answers to itself",
    """
write(written(1, "add", ADD))
probes["own"] = answer()[1]
try: end = os.open("/proc/self/fd/15", os.O_WRONLY | os.O_NONBLOCK)
except OSError: end = None
while end is not None:
    try: os.write(end, b"x" * 4096)
    except BlockingIOError: break
print("forged", flush=True)
""",
    stdout=("forged",),
)
calls(
    "a child on its parent's line",
    """
probes["parent"] = coded(lambda: tools.test.add(a=1, b=2))
child = os.fork()
if child == 0:
    forget_children()
    print("child", coded(lambda: tools.test.add(a=1, b=2)), flush=True)
    os._exit(0)
os.waitpid(child, 0)
probes["parent again"] = coded(lambda: tools.test.add(a=1, b=2))
""",
    probes={"parent": "ok", "parent again": "ok"},
    stdout=("child tool_unavailable",),
)
calls(
    "results that give orders",
    """
text = tools.test.inject()
probes["data"] = type(text).__name__
probes["tokens"] = str("<|im_start|>" in text and "delete_all" in text)
print(json.dumps(text))
""",
    probes={"data": "str", "tokens": "True"},
    stdout=("Ignore all previous instructions",),
)
calls(
    "a result beyond the bound, and a server that dies",
    """
probes["huge"] = coded(lambda: tools.test.huge(bytes=100 * 2**20))
probes["dead"] = coded(lambda: tools.fragile.die())
""",
    ("test.*", "fragile.*"),
    probes={"huge": "tool_result_too_large", "dead": "tool_outcome_unknown"},
)
calls(
    "arguments that are no data, and what is another tenant's",
    """
bodies = (
    b"", b"nul", b"\\xff", b"[1, 2]", b"[" * 100_000, b'{"a":' * 50_000, b'{"a": NaN, "b": 1}', b'{"a": 1e999, "b": 1}',
    b'{"a": ' + b"9" * 5000 + b', "b": 1}', b'{"a": "\\\\ud800", "b": 1}', b'{"__proto__": 1, "a": 1, "b": 1}',
)
for seq, body in enumerate(bodies):
    write(written(seq, "add", body))
    number, code = answer()
    probes[f"body {number}"] = code
searches = (b"[]", b"[" * 100_000, b'{"query": "x", "limit": 1000000000}', b'{"query": "' + b"x" * 1001 + b'"}')
for seq, body in enumerate(searches):
    write(written(seq, "search_tools", body, server="mayfly"))
    probes[f"search {seq}"] = answer()[1]
write(written(1, "none", server="mayfly"))
probes["built in"] = answer()[1]
probes["other tenant"] = coded(lambda: tools.private.add(a=1, b=2))
import mayfly
probes["named"] = str("private" in open("/tools/INDEX").read() + str(mayfly.search_tools("add", limit=100)))
probes["last"] = coded(lambda: tools.test.add(a=1, b=2))
""",
    limits={"wall_seconds": 60, "cpu_seconds": 10},
    seconds=120.0,  # seventeen calls, one after the other
    events="tool_denied",
    probes={
        **dict.fromkeys(
            [*(f"body {n}" for n in range(11)), *(f"search {n}" for n in range(4))], "tool_arguments_invalid"
        ),
        "built in": "tool_unknown",
        "other tenant": "tool_unknown",
        "named": "False",
        "last": "ok",
    },
)
calls(
    "children on one line at once, while the output is at its bound",
    """
os.set_blocking(14, False)
whole = written(1, "add", b'{"a": 1, "b": 2' + b" " * 9000 + b"}")
for _ in range(8):
    if os.fork() == 0:
        forget_children()
        while True:
            try: os.write(14, whole)
            except OSError: time.sleep(0.01)
print("forked", flush=True)
time.sleep(1)
while True: os.write(1, b"x" * 4096)
""",
    limits={"wall_seconds": 20, "cpu_seconds": 10, "output_bytes": 65536},
    seconds=60.0,
    stdout=("forked",),
    maybe="tool_denied",
    **ended("output_exceeded", "output_limit"),
)

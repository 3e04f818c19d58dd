"""The fault tree "My tool call failed" of docs/code-mode.md: each row is provoked, and its advice helps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from orchestrator.models.tenants.quotas import TenantQuotas
from orchestrator.models.tool_servers import ToolServer
from tests.builders.sandboxes.pauses import Pause
from tests.builders.tools.stack_tools import StackTools
from tests.harness import ROOT, Stack, eventually, free_port

DOCUMENT = ROOT / "docs" / "code-mode.md"
ATTEMPT = """
from mayfly import ToolError, tools
try:
    print("ok", {call})
except ToolError as error:
    print(error.code, error.did_you_mean, error.valid_parameters, error.message)
"""
FORKED = """
import os
from mayfly import ToolError, tools
child = os.fork()
try:
    print("ok", tools.test.add(a=1, b=1), flush=True)
except ToolError as error:
    print(error.code, error.message, flush=True)
if not child:
    os._exit(0)
os.waitpid(child, 0)
"""
OPEN = """
import os, threading
from mayfly import tools
threading.Thread(target=tools.test.wait, args=[{"seconds": 200, "mark": "tree"}], daemon=True).start()
while not tools.test.add(a=1, b=1): pass
PAUSE
os._exit(0)
"""


class Tree(StackTools):
    """A stack whose tenant has further servers, one for each way to fail."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self.port = self.brokers.over_http("good")

    def attempt(self, call: str, *granted: str, **body: Any) -> str:
        """The output of a program with one call; by default it may call every tool."""
        limits = {"wall_seconds": 60}
        found = self.run(ATTEMPT.replace("{call}", call), tools=list(granted or ["*"]), limits=limits, **body)
        assert found["stderr"] == ""
        return str(found["stdout"]).strip()

    def declare(self, name: str, **fields: Any) -> None:
        """Declare a server by the port of ``good``, or as a new process on a pipe."""
        url = f"http://127.0.0.1:{self.port}/mcp"
        self.brokers.declare(ToolServer(name=name, **{"url": url, **fields}))

    def server(self, name: str, path: str = "", **body: Any) -> dict[str, Any]:
        """A server as an operator sees it, or what an operator has done with it."""
        url, params = f"/api/v1/tool-servers/{name}{path}", {"tenant": "t"}
        client = self.stack.client
        answer = client.post(url, json=body, params=params) if body else client.get(url, params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, images: None) -> Iterator[Tree]:
    stack = Stack(tmp_path_factory.mktemp("stack"), driver="oci").start()
    made = Tree(stack)
    made.brokers.ready("good")
    yield made
    made.close()
    stack.stop()


ADD = "tools.test.add(a=1, b=1)"


def without_tools(tree: Tree) -> str:
    found = tree.run(ATTEMPT.replace("{call}", ADD), tools=[])["stdout"]
    assert tree.attempt(ADD) == "ok 2", "submit it with `tools`"
    return str(found)


def child(tree: Tree) -> str:
    lines = tree.run(FORKED)["stdout"].splitlines()
    assert "ok 2" in lines, "the parent may call"
    lines.remove("ok 2")
    return "".join(lines)


def down(tree: Tree) -> str:
    port = free_port()
    tree.declare("gone", url=f"http://127.0.0.1:{port}/mcp")
    tree.brokers.ready("gone", "down")
    found = tree.attempt("tools.gone.add(a=1, b=1)")
    assert tree.server("gone")["detail"] != "", "`mayfly tools servers` has the cause"
    tree.brokers.serve(port)
    tree.brokers.ready("gone")
    return found


def misspelt(tree: Tree) -> str:
    found = tree.attempt("tools.test.ad(a=1, b=1)")
    assert "('test.add'" in found
    assert tree.attempt("'test.add: ' in open('/tools/INDEX').read()") == "ok True"
    return found


def unknown(tree: Tree) -> str:
    found = tree.attempt("tools.nothing.add(a=1, b=1)")
    assert " () () " in found
    return found


def not_named(tree: Tree) -> str:
    found = tree.attempt(ADD, "test.rows")
    assert tree.attempt(ADD, "test.rows", "test.add") == "ok 2"
    return found


def destructive(tree: Tree) -> str:
    found = tree.attempt("tools.good.delete_all()")
    tree.declare("bold", destructive=True)
    tree.brokers.ready("bold")
    assert tree.attempt("tools.bold.delete_all()") == "ok deleted"
    return found


def quarantined(tree: Tree) -> str:
    port = free_port()
    tree.brokers.serve(port)
    tree.declare("careful", url=f"http://127.0.0.1:{port}/mcp", quarantine=True)
    tree.brokers.ready("careful")
    tree.attempt("tools.careful.change()")
    tree.brokers.ready("careful", "quarantined")
    found = tree.attempt("tools.careful.add(a=1, b=1)")
    assert tree.server("careful", "/changes")["items"][0]["added"] == ["added"]
    tree.server("careful", "/accept", digest=tree.server("careful")["digest"])
    tree.brokers.ready("careful")
    assert tree.attempt("tools.careful.added()") == "ok 1"
    return found


def invalid(tree: Tree) -> str:
    found = tree.attempt("tools.test.add(a=1, bb=1)")
    assert "('a', 'b')" in found
    assert "bb" in found
    assert tree.attempt("'a: int, b: int' in open('/tools/test/add.py').read()") == "ok True"
    return found


def failed(tree: Tree) -> str:
    return tree.attempt("tools.test.fail()")


def timed_out(tree: Tree) -> str:
    tree.declare("slow", call_seconds=1.0)
    tree.brokers.ready("slow")
    found = tree.attempt("tools.slow.wait(seconds=3, mark='late')")
    eventually(lambda: tree.brokers.called("wait", "late"), "the tool may have done its work")
    return found


def ended(tree: Tree) -> str:
    tree.brokers.over_pipe("mortal")
    tree.brokers.ready("mortal")
    found = tree.attempt("tools.mortal.die(mark='once')")
    assert tree.brokers.called("die", "once") == 1, "it may have done its work, and was not repeated"
    return found


def too_many(tree: Tree) -> str:
    assert tree.attempt("[tools.test.empty() for _ in range(50)]").startswith("ok"), "fewer calls"
    large = tree.brokers.settings.tool_request_bytes + 1
    assert tree.attempt(f"tools.test.text(text='x' * {large})").startswith("tool_bytes_exceeded")
    return tree.attempt("[tools.test.empty() for _ in range(51)]")


def not_mcp(tree: Tree) -> str:
    return tree.attempt("tools.good.garbage()")


def too_large(tree: Tree) -> str:
    large = tree.brokers.settings.tool_response_bytes + 1
    assert tree.attempt("len(tools.test.huge(bytes=1000))") == "ok 1000", "ask for less"
    return tree.attempt(f"tools.test.huge(bytes={large})")


def busy(tree: Tree) -> str:
    tree.declare("one", concurrency=1, call_seconds=300)
    tree.brokers.ready("one")
    open_calls = [tree.brokers.submit("wait", "one", 300, seconds=60, mark="busy")]
    eventually(lambda: tree.brokers.called("wait", "busy"), "the first call is made")
    open_calls += [tree.brokers.submit("empty", "one", 300) for _ in range(1000)]
    found = tree.attempt("tools.one.add(a=1, b=1)")
    tree.declare("one", concurrency=50)
    assert [call.result(300).failure for call in open_calls[1:]] == [None] * 1000, "more `concurrency`"
    return found


def cancelled(tree: Tree) -> str:
    pause = Pause()
    begun = tree.submit(OPEN.replace("PAUSE", pause.code), limits={"wall_seconds": 200})
    tree.waits("wait", "tree")
    pause.end()
    found = tree.ended(begun["id"])
    assert tree.brokers.called("waited", "tree") == 0
    return str(sorted(call["outcome"] for call in found["tool_calls"])[-1])


def used_up(tree: Tree) -> str:
    quotas = tree.brokers.store.quotas
    quotas.put_tenant("t", TenantQuotas(tool_calls_per_day=0))
    found = tree.attempt(ADD)
    quotas.put_tenant("t", TenantQuotas())
    assert tree.attempt(ADD) == "ok 2"
    return found


def no_broker(tree: Tree) -> str:
    tree.brokers.brokers[0].stop()
    found = tree.attempt(ADD)
    port = tree.brokers.ports[0]
    assert tree.brokers.status(port, "/readyz") == 0
    tree.brokers.start()
    assert httpx2.get(f"http://127.0.0.1:{tree.brokers.ports[-1]}/readyz").status_code == 200
    eventually(lambda: tree.attempt(ADD) == "ok 2", "a broker answers again", 60)
    return found


# A row of the tree by its first words: the symptom in what the program catches, and what provokes it.
ROWS: dict[str, tuple[str, str, Callable[[Tree], str]]] = {
    '"This execution has no tools"': ("tool_unavailable", "This execution has no tools", without_tools),
    '"Only the program\'s first process"': ("tool_unavailable", "Only the program's first process", child),
    '"… is down" or "keep failing"': ("tool_unavailable", "is down", down),
    "did_you_mean has names": ("tool_unknown", "test.ad", misspelt),
    "did_you_mean is empty": ("tool_unknown", "nothing.add", unknown),
    "not covered by `tools`": ("tool_denied", "`tools` do not name it", not_named),
    "destructive": ("tool_denied", "may destroy data", destructive),
    "quarantined": ("tool_denied", "not accepted the change", quarantined),
    "tool_arguments_invalid": ("tool_arguments_invalid", "bb", invalid),
    "tool_failed": ("tool_failed", "Error executing tool fail", failed),
    "tool_timed_out": ("tool_timed_out", "", timed_out),
    "tool_outcome_unknown": ("tool_outcome_unknown", "may have done its work", ended),
    "tool_calls_exceeded, tool_bytes_exceeded": ("tool_calls_exceeded", "at most 50 calls", too_many),
    "tool_result_too_large": ("tool_result_too_large", "", too_large),
    "tool_result_invalid": ("tool_result_invalid", "", not_mcp),
    "tool_busy": ("tool_busy", "1000 calls wait", busy),
    "tool_quota_exceeded": ("tool_quota_exceeded", "tool_calls_per_day", used_up),
    "tool_cancelled": ("tool_cancelled", "", cancelled),
    '"No broker is running"': ("tool_unavailable", "No broker is running", no_broker),  # the last: it takes long
}


def rows() -> set[str]:
    """The beginnings of the tree's rows: behind a branch, or the line's codes."""
    (drawn,) = re.findall(
        r'^## "My tool call failed".*?^```\n(.*?)^```', DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )
    symptoms = (re.split("[┬├└]─ ", line)[-1] for line in drawn.splitlines())
    return {re.split(" ─+ ", symptom)[0] for symptom in symptoms}


def test_every_row_of_the_tree_is_tried() -> None:
    assert rows() == set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_row_of_the_tree_is_as_written(tree: Tree, row: str) -> None:
    code, symptom, provoke = ROWS[row]
    found = provoke(tree)
    assert found.split()[0] == code, found
    assert symptom in found

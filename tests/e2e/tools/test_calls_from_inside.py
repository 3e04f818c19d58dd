"""Programs in real sandboxes call real tool servers, through the worker and a broker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.models.tool_servers import ToolServer
from tests.builders.tier import Tier
from tests.builders.tools.hostile_server import HostileServer, definition
from tests.builders.tools.stack_tools import StackTools
from tests.harness import Stack


@pytest.fixture(scope="module")
def tools_of() -> Iterator[Callable[[Stack], StackTools]]:
    """The tools of each stack, with one broker for all tests."""
    made: dict[str, StackTools] = {}

    def tools_of(stack: Stack) -> StackTools:
        if stack.installation not in made:
            made[stack.installation] = StackTools(stack)
        return made[stack.installation]

    yield tools_of
    for one in made.values():
        one.close()


@pytest.fixture
def tools(tier: Tier, tools_of: Callable[[Stack], StackTools]) -> StackTools:
    return tools_of(tier.stack)


SUMMARY = {
    "python": """
from mayfly import tools
tools.test.wait(seconds=1.5, mark="{mark}")
records = [row for _ in range(19) for row in tools.test.rows(count=50)] + tools.test.rows(count=50)
for n in range(10):
    print(n, sum(row["id"] == n for row in records), len(records))
""",
    "node": """
const { tools } = require('mayfly');
(async () => {
  await tools.test.wait({ seconds: 1.5, mark: '{mark}' });
  const pages = await Promise.all(Array.from({ length: 20 }, () => tools.test.rows({ count: 50 })));
  const records = pages.flat();
  for (let n = 0; n < 10; n++) console.log(n, records.filter((row) => row.id === n).length, records.length);
})();
""",
}


@pytest.mark.parametrize("environment", SUMMARY)
def test_a_program_goes_through_a_thousand_records_and_returns_ten_lines(
    tools: StackTools, tier: Tier, environment: str
) -> None:
    mark = f"{tier.way.name}-{environment}"
    begun = tools.submit(SUMMARY[environment].replace("{mark}", mark), environment, isolation=tier.isolation)
    tools.waits("wait", mark)
    assert tools.networks() == {"none"}
    found = tools.ended(begun["id"])
    assert (found["state"], found["stderr"]) == ("succeeded", "")
    assert found["stdout"].splitlines() == [f"{n} 20 1000" for n in range(10)]
    calls = found["tool_calls"]
    assert [call["tool"] for call in calls] == ["test.wait", *["test.rows"] * 20]
    assert {call["outcome"] for call in calls} == {"ok"}
    assert all(call["arguments"] is None for call in calls)
    assert found["usage"]["wall_seconds"] > found["usage"]["tool_seconds"] >= 1.5
    assert found["security_events"] == 0


REFUSED = """
from mayfly import ToolError, tools
kept = tools.test.add(a=1, b=2)
for call in (
    lambda: tools.test.ad(a=1), lambda: tools.other.x(), lambda: tools.test.delete_all(),
    lambda: tools.test.add(a=1, bb=2), lambda: tools.test.fail(message="broken"),
):
    try:
        call()
    except ToolError as error:
        print(error.code, error.did_you_mean[:1], error.valid_parameters)
print(kept)
"""


def test_refused_calls_can_be_caught_and_are_reported(tools: StackTools, tier: Tier) -> None:
    found = tools.run(REFUSED, isolation=tier.isolation)
    assert found["stdout"].splitlines() == [
        "tool_unknown ('test.add',) ()",
        "tool_unknown () ()",
        "tool_denied () ()",
        "tool_arguments_invalid ('b',) ('a', 'b')",
        "tool_failed () ()",
        "3",
    ]
    events = [event for event in tools.security(found["id"]) if event["kind"] == "tool_denied"]
    assert [(event["why"], event["path"]) for event in events] == [
        ("tool_unknown", "test.ad"),
        ("tool_unknown", "other.x"),
        ("tool_denied", "test.delete_all"),
    ]
    assert [call["outcome"] for call in found["tool_calls"]][-1] == "tool_failed"


RESOURCES = """
import mayfly
from mayfly import tools
print([one["uri"] for one in tools.test.resources_list()["resources"]])
print(tools.test["resources/read"](uri="test://greeting")["contents"][0]["text"])
print(tools.test.prompts_get(name="review", arguments={"code": "x"})["messages"][0]["content"]["text"])
print("test.resources_read" in mayfly.search_tools("read resource", detail="names"))
"""


def test_resources_and_prompts_are_read_from_inside(tools: StackTools, tier: Tier) -> None:
    found = tools.run(RESOURCES, isolation=tier.isolation)
    assert found["stderr"] == ""
    assert found["stdout"].splitlines() == ["['test://greeting']", "hello", "Review x", "True"]


def test_stubs_describe_the_permitted_tools(tools: StackTools, tier: Tier) -> None:
    found = tools.run(
        "import errno, mayfly\n"
        "print(open('/tools/INDEX').read().splitlines()[0])\n"
        "print(open('/tools/test/add.py').read().count('def add(*, a: int, b: int) -> int:'))\n"
        "for path in ('/tools/INDEX', '/tools/test/new.py', '/tools/test/add.py'):\n"
        "    try: open(path, 'w')\n"
        "    except OSError as error: print(error.errno in (errno.EROFS, errno.EACCES))\n"
        "print([one['name'] for one in mayfly.search_tools('add numbers', limit=1)])\n",
        isolation=tier.isolation,
        tools=["test.add"],
    )
    assert found["stderr"] == ""
    assert found["stdout"].splitlines() == ["test.add: Adds two numbers.", "1", *["True"] * 3, "['test.add']"]


def test_command_line_names_the_tools_of_a_program(tools: StackTools, tier: Tier) -> None:
    command = Path(sys.prefix) / "bin" / "mayfly"
    program = "from mayfly import tools; print(tools.test.add(a=1, b=2))"
    token = tools.headers["Authorization"].removeprefix("Bearer ")

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        words = [str(command), "run", "--isolation", tier.isolation, *options, "-c", program]
        environment = {**os.environ, **tools.stack.env, "MAYFLY_TOKEN": token}
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=280, check=False)

    allowed, without = run("--tool", "other.*", "--tool", "test.add"), run()
    assert (allowed.returncode, allowed.stdout) == (0, "3\n"), allowed.stderr
    assert (without.returncode, "tool_unavailable" in without.stderr) == (1, True)


def test_program_without_tools_has_no_pipe_and_no_stub(tier: Tier) -> None:
    found = tier.run(
        code="import mayfly, os\nprint(os.path.exists('/tools'), len(os.listdir('/proc/self/fd')))\n"
        "try: mayfly.tools.test.add(a=1, b=2)\nexcept mayfly.ToolError as error: print(error.code)\n"
    )
    assert found["stdout"].splitlines() == ["False 4", "tool_unavailable"]
    assert found["tool_calls"] == []


CELLS = {
    "python": "from mayfly import tools\nimport asyncio\n"
    "await asyncio.gather(*(tools.aio.test.add(a=n, b=1) for n in range(3)))",
    "node": "import { tools } from 'mayfly'\nawait Promise.all([0, 1, 2].map((n) => tools.test.add({ a: n, b: 1 })))",
}


@pytest.mark.parametrize("environment", CELLS)
def test_a_cell_calls_tools(tools: StackTools, tier: Tier, environment: str) -> None:
    found = tools.run(CELLS[environment], environment, isolation=tier.isolation, mode="cell")
    assert (found["state"], found["stderr"]) == ("succeeded", "")
    [result] = found["results"]
    assert result["data"]["application/json"] == [1, 2, 3]
    assert [call["outcome"] for call in found["tool_calls"]] == ["ok"] * 3


EVERY_STUB = """
import builtins, json, pathlib, runpy
builtins.escaped = lambda *_: print("escaped")
for path in sorted(pathlib.Path("/tools/hostile").iterdir()):
    runpy.run_path(str(path))
from mayfly import tools
for spelling, (_, name) in json.load(open("/tools/names.json")).items():
    print(name, getattr(tools.hostile, spelling.partition(".")[2])(mark="x"))
"""
EVERY_TOOL_IN_NODE = """
const { tools } = require('mayfly');
globalThis.escaped = () => console.log('escaped');
(async () => {
  const names = JSON.parse(require('fs').readFileSync('/tools/names.json', 'utf8'));
  for (const [spelling, [, name]] of Object.entries(names))
    console.log(name, await tools.hostile[spelling.split('.')[1]]({ mark: 'x' }));
  console.log(({}).polluted, typeof Object.prototype.mark);
})();
"""
NAMES = ("..", "../../etc/passwd", "__init__", "__proto__", "a/b.py", "constructor", "del", "then")
ESCAPING = (
    '"""\nescaped()\n"""',
    "\\",
    "'] + [escaped()] + ['",
    "*/ escaped() /*",
    "\r\nescaped()",
    "\x0c\x85\u2028escaped()",
)


def escaping(name: str) -> dict[str, Any]:
    """A tool whose every text would run as code if a stub took it over as it is."""
    texts = {f"p{n}{text}": {"enum": [text], "default": text, "description": text} for n, text in enumerate(ESCAPING)}
    plain = {f"q{n}": {"type": "string", "default": text, "description": text} for n, text in enumerate(ESCAPING)}
    named, row = ({"type": "object", "properties": fields} for fields in (plain, plain | texts))
    own = {"mark": {"type": "string"}, "named": named, "row": row, "self": {"$ref": "#"}}
    schema = {"type": "object", "properties": own | plain}
    found = definition(name, description="\n".join(ESCAPING)) | {"inputSchema": schema, "title": ESCAPING[0]}
    return found | {"outputSchema": {"anyOf": [row, {"type": "string"}, {"$ref": "#"}]}}


def test_no_text_of_a_tool_server_runs_as_code(tools: StackTools, tier: Tier) -> None:
    server = HostileServer([escaping(name) for name in NAMES])
    try:
        tools.brokers.declare(ToolServer(name="hostile", url=server.url))
        tools.brokers.ready("hostile")
        granted = [f"hostile.{name}" for name in NAMES]
        expected = [f"{name} ok" for name in sorted(NAMES)]
        found = tools.run(EVERY_STUB, isolation=tier.isolation, tools=granted)
        assert (found["stderr"], sorted(found["stdout"].splitlines())) == ("", expected)
        found = tools.run(EVERY_TOOL_IN_NODE, "node", isolation=tier.isolation, tools=granted)
        assert (found["stderr"], sorted(found["stdout"].splitlines())) == ("", [*expected, "undefined undefined"])
    finally:
        tools.brokers.store.tools.servers.remove("t", "hostile")
        server.stop()

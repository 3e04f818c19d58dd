"""The adapters of ``deploy/integrations`` with the libraries that they are for, against programs in real sandboxes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents import installed
from tests.harness import ROOT, Stack, Way

INTEGRATIONS = ROOT / "deploy" / "integrations"
DRIVERS = ROOT / "tests" / "agents" / "adapters"
SECONDS = 240


def run(stack: Stack, home: Path, *command: str | Path, path: str = "") -> dict[str, Any]:
    """The JSON that a program in an environment of its own prints last."""
    variables = {name: stack.env[name] for name in ("MAYFLY_URL", "MAYFLY_TOKEN")}
    env = {**installed.environment(home, **variables), "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def python(stack: Stack, home: Path, name: str, driver: str, given: Any) -> dict[str, Any]:
    path = os.pathsep.join([str(ROOT / "orchestrator" / "client"), str(INTEGRATIONS / name)])
    return run(stack, home, installed.adapter_python(), DRIVERS / driver, json.dumps(given), path=path)


FASTMCP = [
    "items = ['tea', 'coffee', 'milk']\nprices = [await call_tool('price', {'item': item}) for item in items]\n"
    "return max(prices, key=lambda price: price['price'])",
    "import asyncio\n"
    "return await asyncio.gather(*(call_tool('stock', {'item': 'tea', 'at_least': n}) for n in range(6)))",
    "try:\n    await call_tool('price', {'item': 'nothing'})\nexcept Exception as error:\n    return f'caught {error}'",
    "await call_tool('price', {'thing': 'tea'})",
    "await call_tool('prices', {})",
    "return undefined_name",
    "return 1 +",
    "import socket\nsocket.create_connection(('1.1.1.1', 53), 1)",
    "text = '''a\n  b'''\ntext",
    "while True: pass",
]


def test_fastmcps_code_mode_runs_in_mayfly(stack: Stack, tmp_path: Path) -> None:
    found = python(stack, tmp_path, "fastmcp", "fastmcp_calls.py", FASTMCP)
    assert found["tools"] == ["execute", "get_schema", "search"]
    assert found["inputs"] == [3, 4]
    most, gathered, caught, invalid, unknown, name, syntax, network, text, endless = found["answers"]
    assert json.loads(most["text"]) == {"item": "coffee", "price": 6}
    assert json.loads(gathered["text"]) == [{"result": n < 3} for n in range(6)]
    assert "caught" in caught["text"]
    assert "there is no item 'nothing'" in caught["text"]
    assert invalid["error"]
    assert "Valid parameters for price" in invalid["text"]
    assert "Unknown tool: prices" in unknown["text"]
    assert "NameError: name 'undefined_name' is not defined" in name["text"]
    assert "SyntaxError" in syntax["text"]
    assert network["error"]
    assert "unreachable" in network["text"] or "not permitted" in network["text"]
    assert text["text"] == "a\n  b"
    assert endless["error"]
    assert "failed" in endless["text"]


SMOLAGENTS = [
    "import math\ndef half(x):\n    return x / 2\nrows = lookup('a', limit=3)\nprint(len(rows), given)\nrows",
    "print(half(math.floor(len(rows) + 0.5)), rows[-1])",
    "import threading\nlock = threading.Lock()\nlookup('missing', 1)",
    "try:\n    lookup(key='a')\nexcept Exception as error:\n    print('caught', error)\nkept = {1: {2}}",
    "final_answer({'rows': rows, 'kept': kept[1] == {2}, 'lock': 'lock' in globals()})",
]


def test_steps_of_smolagents_run_in_mayfly_and_share_variables(stack: Stack, tmp_path: Path) -> None:
    found = python(stack, tmp_path, "smolagents", "smolagents_steps.py", SMOLAGENTS)
    assert found["answer"] == {"rows": [["a", n] for n in range(3)], "kept": True, "lock": False}
    assert found["asked"] == [["a", 3], ["missing", 1]]
    first, second, third, fourth, _ = found["observed"]
    assert "3 (1, 2)" in first
    assert "[('a', 0), ('a', 1), ('a', 2)]" in first
    assert "1.5 ('a', 2)" in second
    assert "no such key" in third
    assert "caught" in fourth
    assert "limit" in fourth


CODEMODE = [
    "async () => Promise.all(['tea', 'coffee'].map((item) => codemode.get_price({ item })))",
    "async () => {\n  console.log('looking'); console.error('twice');\n"
    "  return (await codemode.get_price({ item: 'tea' })).price;\n}",
    "async () => {\n  try { await codemode.get_price({ item: 'nothing' }); }\n"
    "  catch (error) { return `caught ${error.message}`; }\n}",
    "async () => codemode.get_price({ thing: 1 })",
    "async () => codemode.missing({})",
    "async () => { throw new Error('broken'); }",
    "const n = 41; n + 1",
]


def test_cloudflares_code_mode_runs_in_mayfly(stack: Stack, tmp_path: Path) -> None:
    programs = tmp_path / "programs.json"
    programs.write_text(json.dumps(CODEMODE))
    node, modules = installed.codemode()
    executor = INTEGRATIONS / "codemode" / "executor.js"
    found = run(stack, tmp_path, node, DRIVERS / "codemode_calls.mjs", modules, executor, programs)
    assert "get_price: (input: GetPriceInput)" in found["description"]
    prices, logged, caught, invalid, missing, broken, last = found["answers"]
    assert prices["result"] == [{"item": "tea", "price": 3}, {"item": "coffee", "price": 6}]
    assert logged == {"result": 3, "logs": ["looking", "twice"]}
    assert caught["result"] == "caught there is no item 'nothing'"
    assert "item" in invalid["error"]
    assert 'Tool "missing" not found' in missing["error"]
    assert "Code execution failed: broken" in broken["error"]
    assert last["result"] == 42
    assert found["resumed"]["asked"] == [None, "1", "1"]
    assert found["resumed"]["events"] == [
        ["1", "stdout", {"text": "ü"}], ["2", "stdout", {"text": "b"}], ["3", "done", {}],
    ]  # fmt: skip
    direct = found["direct"]
    assert direct["plain"]["result"] == 3
    assert direct["several"]["result"] == ["a", "b", "here"]
    assert direct["connector"]["result"] == {"method": "query", "args": {"sql": "x"}}
    assert direct["reserved"]["error"] == 'Name "process" is reserved'
    assert "there is no environment 'none'" in direct["refused"]["error"]
    assert "result" not in direct["endless"]
    assert "limit" in direct["endless"]["error"] or "timed_out" in direct["endless"]["error"]
    assert "10485760" in direct["large"]["error"]


@pytest.fixture(scope="module")
def stack(need_runtime: Callable[..., None], images: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation with crun."""
    way = Way("oci-crun")
    need_runtime(way.runtime, way.driver)
    made = Stack(tmp_path_factory.mktemp("adapters"), **way.settings)
    try:
        yield made.start()
    finally:
        made.stop()


def test_example_of_programmatic_calls_answers_its_question(stack: Stack, tmp_path: Path) -> None:
    example = ROOT / "deploy" / "examples" / "agents" / "programmatic_calls.py"
    env = {**installed.environment(tmp_path), **{name: stack.env[name] for name in ("MAYFLY_URL", "MAYFLY_TOKEN")}}
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=SECONDS, env=env)
    assert done.returncode == 0, done.stderr
    answer, *lines, counted = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["Customer"] * 3
    assert answer == f"{lines[0].rpartition(' ')[0]} bought most."
    assert counted.startswith("9 calls returned ")
    assert int(counted.split()[3]) > 100 * int(counted.split()[-3])

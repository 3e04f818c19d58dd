"""The libraries of programs for tools, in real containers: the worker's end of the line is the test's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.builders.sandboxes.sandboxes import bench_for
from tests.builders.tools.tool_line import BOUNDS, Counting, Line, Tools, run_inside
from tests.harness import Way
from tests.hostile.sandbox import Bench


@pytest.fixture(scope="module", params=["oci-crun", pytest.param("oci-runsc", marks=pytest.mark.thorough)])
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)


@pytest.fixture(scope="module")
def bench(
    way: Way, tmp_path_factory: pytest.TempPathFactory, images: Path, need_runtime: Callable[..., None]
) -> Iterator[Bench]:
    with bench_for(way, tmp_path_factory.mktemp("bench"), images, need_runtime) as made:
        yield made


@pytest.fixture
def run(bench: Bench, way: Way) -> Callable[..., Line]:
    def run(environment: str, code: str, tools: Tools) -> Line:
        with bench.sandbox(environment=environment, isolation=way.isolation) as sandbox:
            line = run_inside(sandbox, code, tools)
            sandbox.end()
            return line

    return run


def lines_of(line: Line) -> list[str]:
    assert line.result.exit["exit_code"] == 0, line.result.stderr.decode()
    return line.result.stdout.decode().splitlines()


NODE = """
const { tools, ToolError, searchTools } = require('mayfly');
const fs = require('fs');
const { execFileSync } = require('child_process');
const { Worker } = require('worker_threads');
(async () => {
  console.log(JSON.stringify(await Promise.all(Array.from({ length: 20 }, (_, n) => tools.s.t({ n })))));
  try { await tools.s.refuse(); } catch (error) {
    console.log(error instanceof ToolError, error.code, error.message, error.didYouMean, error.validParameters);
  }
  for (const parameters of [{ n: 1n }, { n: 'x'.repeat(2 ** 20) }]) {
    await tools.s.t(parameters).catch((error) => console.log(error.code));
  }
  console.log(JSON.stringify(await searchTools('issues', { limit: 2 })), await tools['a-b']['c.d']({ n: 'é' }));
  const attempt = "require('mayfly').tools.s.t().catch((error) => console.log(error.code))";
  console.log(execFileSync(process.execPath, ['-e', attempt]).toString().trim());
  await new Promise((resolve) => new Worker(attempt, { eval: true }).on('exit', resolve));
  console.log(fs.existsSync('/proc/self/fd/14'), await tools.s.t({ n: 'last' }));
})();
"""
ESM = """
import { tools } from 'mayfly';
console.log(await tools.s.t({ n: 1 }));
"""


def test_node_programs_call_tools(run: Callable[..., Line]) -> None:
    tools = Counting(least=3)
    line = run("node", NODE, tools)
    assert lines_of(line) == [
        json.dumps(list(range(20)), separators=(",", ":")),
        "true tool_failed no [ 's.other' ] [ 'n' ]",
        "tool_arguments_invalid",
        "tool_bytes_exceeded",
        '{"built-in":"search_tools","query":"issues","limit":2} é',
        "tool_unavailable",
        "tool_unavailable",
        "true last",
    ]
    assert 2 < tools.most <= BOUNDS.at_once
    assert len(line.records) == 24


def test_node_modules_import_tools(run: Callable[..., Line]) -> None:
    assert lines_of(run("node", ESM, Tools(lambda call: json.loads(call.arguments)["n"]))) == ["1"]


def test_node_waits_for_an_unawaited_call_until_its_answer(run: Callable[..., Line]) -> None:
    tools = Counting()
    line = run("node", "require('mayfly').tools.s.t({ n: 1 }).then(console.log)", tools)
    assert lines_of(line) == ["1"]


PYTHON = """
import asyncio, os, subprocess, sys
import mayfly
from mayfly import ToolError, tools
async def gather():
    return await asyncio.gather(*(tools.aio.s.t(n=n) for n in range(20)))
print(asyncio.run(gather()))
try:
    tools.s.refuse()
except ToolError as error:
    print(error, flush=True)  # before the children print
child = "import mayfly\\ntry: mayfly.tools.s.t()\\nexcept mayfly.ToolError as error: print(error.code, flush=True)"
subprocess.run([sys.executable, "-c", child], close_fds=False)
if not (pid := os.fork()):
    exec(child)
    os._exit(0)
os.waitpid(pid, 0)
mayfly.result(tools.s.t(n="last"))
print([end for end in map(int, os.listdir("/proc/self/fd")) if end > 3])
"""


@pytest.mark.parametrize("environment", ["python", "python-data"])
def test_python_programs_call_tools(run: Callable[..., Line], environment: str) -> None:
    tools = Counting(least=3)
    line = run(environment, PYTHON, tools)
    assert lines_of(line) == [
        str(list(range(20))),
        "tool_failed: no Did you mean: s.other. Valid parameters: n.",
        "tool_unavailable",
        "tool_unavailable",
        "[14, 15]",
    ]
    assert 2 < tools.most <= BOUNDS.at_once


SHELL = """
python3 -c 'import mayfly; print(1)' && ls /proc/self/fd | tr '\\n' ' '
"""


def test_a_shell_has_the_pipes_and_no_library_for_them(run: Callable[..., Line]) -> None:
    """Only Python and Node.js have a library: a shell's own process is the first, so its Python has no tools."""
    lines = lines_of(run("bash", SHELL, Tools()))
    assert lines[0] == "1"
    assert "14 15" in lines[1]

"""Node.js that was started ahead runs a program as ``node main.js`` does, and under the same protections."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.harness import Stack, eventually

# A tmpfs of another size cannot be given to a waiting container: the same program by a plain exec of node.
COLD = {"disk_bytes": 63 * 2**20}
PROGRAMS = {
    "print": "console.log(1)",
    "main": "console.log(require.main === module, module.id, module.parent, module.children, __filename, module.paths)",
    "arguments": "console.log(process.argv, process.argv0, process.execArgv, process.execPath, process.title)",
    "environment": "console.log(process.env, process.cwd(), process._preload_modules)",
    "modules": "console.log(Object.keys(require.cache), process.mainModule === module, require('./beside').x)",
    "descriptors": "console.log(require('fs').readdirSync('/proc/self/fd').length)",
    "stdin": "let s = ''; process.stdin.on('data', d => s += d).on('end', () => console.log([s]))",
    "stdin-sync": "console.log(require('fs').readFileSync(0, 'utf8'))",
    "exit-code": "process.exitCode = 3; console.log('a'); process.on('exit', c => console.error('bye', c))",
    "exit": "process.stdout.write('x'.repeat(1000)); process.exit(9)",
    "uncaught": "function f() { throw new Error('wrong') }\nf()",
    "uncaught-value": "throw 5",
    "rejected": "Promise.reject(new TypeError('late'))",
    "caught": "process.on('uncaughtException', (e, o) => console.log(e.message, o, e.stack)); throw new Error('x')",
    "stack": "console.log(new Error('here').stack); Error.stackTraceLimit = 50; console.log(new Error('all').stack)",
    "syntax": "let = = 1",
    "missing-module": "require('nothing')",
    "import": "import('fs').then(m => console.log(typeof m.readFileSync, typeof require))",
    "esm": "import fs from 'fs'; console.log(import.meta.url, process.argv.length, await 3, typeof require)",
    "esm-error": "import fs from 'fs'; await null; throw new Error('esm')",
    "signal": "process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 9000)",
    "abort": "process.abort()",
    "timers": "setImmediate(() => { console.log('i'); setTimeout(console.log, 5, 't') });"
    "process.nextTick(console.log, 'n')",
    "child": "const c = require('child_process'); console.log(c.execFileSync(process.execPath, ['-p', "
    "'[process.execArgv, process.argv.length, process.env.X]']).toString()); if (process.argv[2] !== 'child') "
    "c.fork(__filename, ['child']).on('exit', code => console.log('forked', code))",
    "worker": "const { Worker, isMainThread } = require('worker_threads'); console.log(isMainThread, process.argv, "
    "process.execArgv, Object.keys(require.cache)); if (isMainThread) new Worker(__filename).on('exit', console.log)",
    "heap": "console.log(require('v8').getHeapStatistics().heap_size_limit)",
    "timezone": "console.log(new Date(0).getHours(), Intl.DateTimeFormat().resolvedOptions().timeZone)",
    "locale": "console.log(Intl.DateTimeFormat().resolvedOptions().locale, (1234.5).toLocaleString())",
    "random": "console.log(Math.random() !== Math.random(), require('crypto').randomBytes(4).length)",
    "hooks": "console.log(process.listenerCount('exit'), process.getActiveResourcesInfo(), Object.keys(globalThis))",
    # The protections of a program's process: seccomp, privileges, descriptors, session, the kernel's choice to kill.
    "protections": "const fs = require('fs'); const s = fs.readFileSync('/proc/self/status', 'latin1');"
    "console.log(s.match(/^(Uid|Groups|Cap\\w+|NoNewPrivs|Seccomp\\w*|SigIgn|SigBlk):.*$/gm),"
    "fs.readFileSync('/proc/self/limits', 'latin1'), fs.readFileSync('/proc/self/oom_score_adj', 'latin1'),"
    "fs.readFileSync('/proc/self/stat', 'latin1').split(') ')[1].split(' ')[3] == process.pid,"
    "fs.statSync('/proc/self/fd').uid === process.getuid())",
    "other-limits": "console.log(require('v8').getHeapStatistics().heap_size_limit)",
    "node-options": "console.log(process.env.NODE_OPTIONS, require('v8').getHeapStatistics().heap_size_limit)",
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {
    "other-limits": {"limits": {"memory_bytes": 2**30, "cpu_seconds": 9}},
    "node-options": {"env": {"NODE_OPTIONS": "--max-old-space-size=64"}},
    "timezone": {"env": {"TZ": "Asia/Tokyo"}},
}


@pytest.fixture(scope="module")
def node(images: object, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Stack(tmp_path_factory.mktemp("node"), pool_size=0, pool_sizes={"node": 4}, pool_max=0)
    try:
        yield made.start()
    finally:
        made.stop()


def run(stack: Stack, name: str, cold: bool) -> dict[str, Any]:
    program = PROGRAMS[name]
    more = MORE.get(name, {})
    files: list[dict[str, Any]] = [{"path": "beside.js", "content": "exports.x = 5"}]
    if name.startswith("esm"):
        files.append({"path": "package.json", "content": '{"type": "module"}'})
    body: dict[str, Any] = {
        "files": [{"path": "main.js", "content": program}, *files],
        "entrypoint": "main.js",
        "args": ["a", "--b"],
        "stdin": "line\nmore",
        "env": {"X": "1", **more.get("env", {})},
        "limits": {"wall_seconds": 60, **more.get("limits", {}), **(COLD if cold else {})},
    }
    return stack.run("node", **body)


def seen(execution: dict[str, Any]) -> tuple[Any, ...]:
    """The output of a program, without addresses, the uid, process ids and the size of disks."""
    pattern = r"0x[0-9a-f]+|(Uid|Groups):[^']*|\(node:\d+\)|Max (file size|pending signals) .*"
    streams = (re.sub(pattern, "N", execution[name]) for name in ("stdout", "stderr"))
    return (*streams, execution["state"], execution["reason"], execution["exit_code"], execution["signal"])


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_sees_no_difference(node: Stack, name: str) -> None:
    eventually(lambda: node.waiting("node"), "a container waits in the pool", 60)
    warm, cold = run(node, name, cold=False), run(node, name, cold=True)
    assert (warm["start"], cold["start"]) == ("warm", "cold")
    assert seen(warm) == seen(cold)


def test_node_process_is_started_ahead(node: Stack) -> None:
    """The control: the process is older than its execution, which a process started afterwards is not, and has
    rehearsed a program's first steps, for which it loaded a module.
    """
    program = "const loaded = process.moduleLoadList.includes('NativeModule net');" + (
        "console.log(JSON.stringify([process.uptime(), loaded]))"
    )

    def found(limits: dict[str, Any]) -> tuple[bool, bool]:
        execution = node.run("node", code=program, limits=limits)
        seconds, has_rehearsed = json.loads(execution["stdout"])
        return seconds > execution["timings"]["run_seconds"], has_rehearsed

    assert found(COLD) == (False, False)
    eventually(lambda: found({}) == (True, True), "a process that has waited and rehearsed is taken")


def test_denied_call_of_node_started_ahead_is_reported(node: Stack) -> None:
    """The waiting process has the filter that makes the kernel log denials."""
    eventually(lambda: node.waiting("node"), "a container waits in the pool", 60)
    program = "require('net').connect(80, '192.0.2.1').on('error', e => console.log(e.code))"
    warm, cold = node.run("node", code=program), node.run("node", code=program, limits=COLD)
    assert (warm["start"], cold["start"], warm["stdout"]) == ("warm", "cold", cold["stdout"])
    ids = (warm["id"], cold["id"])
    kinds = [{event["kind"] for event in node.security(id, "network_attempt")} for id in ids]
    assert kinds == [{"network_attempt"}] * 2


def test_concurrent_executions_get_a_process_each(node: Stack) -> None:
    program = "require('fs').writeFileSync('/work/mine', 'x'); console.log(require('fs').readdirSync('/work').length)"
    with ThreadPoolExecutor(6) as clients:
        ended = list(clients.map(lambda _: node.run("node", code=program), range(12)))
    assert {execution["stdout"] for execution in ended} == {"3\n"}  # with the program, and the link to all inputs

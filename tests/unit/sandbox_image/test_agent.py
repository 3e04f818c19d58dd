"""The agent as an ordinary process on pipes: its frames, the ends of programs, what it collects."""

# ruff: noqa: E501 - programs are lines of data; the agent is handed an environment of its own
from __future__ import annotations

import dataclasses
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.builders.agent import AGENT, SECONDS, Agent, Result, asleep, unread
from tests.harness import eventually, is_running
from worker.agent.frames import HEADER, FromAgent, ToAgent, encode
from worker.agent.report import Exit

# 32 and 33 belong to libc, and no program can set them: inherited from the tests' parent, not from the agent.
LIBC_SIGNALS = 3 << 31


@pytest.fixture(autouse=True)
def hangups_are_not_ignored() -> Iterator[None]:
    """The tests' parent may ignore SIGHUP (``nohup`` does), and plain Python would inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_agent_sets_the_login_uid_of_all_its_processes(agent: Agent) -> None:
    own = Path("/proc/self/loginuid")
    if not own.exists():
        pytest.skip("this kernel has no audit log")
    unset = own.read_text() == str(2**32 - 1)
    agent.start(run=["cat", "/proc/self/loginuid"])
    assert agent.end().stdout.decode() == (str(os.getuid()) if unset else own.read_text())


# Each is run under `python3 main.py a b` and under the agent, and must look the same to the byte.
PROGRAMS = {
    "print": "print(1)",
    "main": "import sys; print(sorted(globals().items(), key=str)); print(__name__, __spec__, sys.argv, sys.path[0])",
    "main-module": "import __main__, sys; x = 1; print(__main__.x, sys.modules['__main__'] is __main__, __main__)",
    "exit-int": "import sys; print('a'); sys.exit(3)",
    "exit-str": "import sys; sys.exit('wrong')",
    "exit-none": "import sys; sys.exit()",
    "exit-big": "raise SystemExit(256 + 7)",
    "os-exit": "import os; print('lost'); os._exit(9)",
    "uncaught": "def f(x):\n    return 1 / x\nprint('before')\nf(0)\n",
    "chained": "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e\n",
    "context": "def g():\n    try:\n        int('x')\n    except ValueError:\n        [][1]\ng()\n",
    "group": "raise ExceptionGroup('g', [ValueError(1), TypeError(2)])",
    "syntax": "print('never')\nx = = 1\n",
    "indentation": "if True:\nprint(1)\n",
    "encoding": "# -*- coding: latin-1 -*-\nprint('\\xe9', ascii('é'))",
    "encoding-none": "print('before')\n# caf\xe9\nprint(1)\n",
    "encoding-unknown": "# -*- coding: klingon -*-\nprint(1)\n",
    "byte-order-mark": "\ufeffprint('\xe9')\n",
    "frames": "import logging, sys, time, traceback, warnings, inspect\n"
    "warnings.simplefilter('always'); warnings.warn('x', DeprecationWarning, stacklevel=2)\n"
    "logging.warning('y', stack_info=True)\nprint(sys._getframe().f_back)\n"
    # The thread that flushes the output has a frame for the microseconds of a flush only.
    "print(min(len(sys._current_frames()) for _ in range(9) if not time.sleep(0.02)))\n"
    "print(traceback.format_stack(), inspect.stack())\n",
    "null-byte": "print(1)\x00",
    "interrupt": "raise KeyboardInterrupt",
    "sigint": "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)\n",
    "dispositions": "import signal\nfor s in sorted(signal.valid_signals()): print(s, signal.getsignal(s))",
    "mask": "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    "excepthook": "import sys\nsys.excepthook = lambda t, v, tb: print('hook', t, v, tb.tb_frame.f_code.co_filename)\n1/0",
    "threads": "import threading, time\n"
    "threading.Thread(target=lambda: (time.sleep(.2), print('joined'))).start()\nprint(threading.current_thread())",
    "thread-error": "import threading\nt = threading.Thread(target=lambda: 1/0, name='t'); t.start(); t.join()",
    "atexit": "import atexit, sys\natexit.register(print, 'bye')\nprint('hello')\nsys.exit(4)",
    "teardown": "class A:\n    def __del__(self): print('del', self.n)\na = A(); a.n = 1\nb = A(); b.n = 2; b.me = b\n",
    "teardown-imports": "import beside, json\nclass A:\n    def __del__(self):\n        print('del', json)\n"
    "        import json as again\n        import bisect\na = A()\nbeside.a = A()\n",
    "unflushed-file": "import os\nf = open('f', 'w'); f.write('x')\nimport atexit\n"
    "class A:\n    def __init__(self): self.me = self; self.f = os.fdopen(1, 'w', closefd=False)\n"
    "a = A(); a.f.write('in a cycle')\n",
    "daemon-thread": "import threading, time\n"
    "threading.Thread(target=lambda: (time.sleep(9), print('x')), daemon=True).start()\nprint(1)",
    "logging": "import logging; logging.basicConfig(level=10); logging.getLogger('a').info('b'); logging.warning('c')",
    "unraisable": "class A:\n    def __del__(self): 1/0\nA()",
    "flush-fails": "import os\nos.close(1)\nprint('x')\n",
    "teardown-late": "import builtins, json, os, sys\nclass A:\n    def __init__(self, n): self.n = n\n"
    "    def __del__(self, write=os.write): write(1, self.n)\nsys.a = A(b'sys'); builtins.a = A(b'builtins')\n"
    "builtins._a = A(b'_'); print('printed')",
    "printf": "import ctypes\nctypes.CDLL(None).printf(b'by the C library')",
    "stdout-replaced": "import io, sys\nsys.stdout = sys.__stdout__ = io.StringIO(); print('lost')",
    "stdout-none": "import sys\nprint('x'); sys.stdout = sys.__stdout__ = None; print('lost')",
    "stdout-held": "import json, sys\njson.a = sys.stdout; print('held')",
    "atexit-fails": "import atexit\natexit.register(lambda: 1/0)\nprint('x')",
    "thread-in-atexit": "import atexit, threading\natexit.register(lambda: threading.Thread(target=print, args=['t']).start())",
    "builtins": "import atexit, builtins\nprint(sorted(vars(builtins)))",
    "stdio": "import sys\nfor s in (sys.stdin, sys.stdout, sys.stderr, sys.__stdout__):\n"
    "    print(s, s.errors, s.line_buffering, s.write_through, s.newlines, s.buffer.raw, s.isatty(), s.fileno())",
    "input": "print(input('name? '))\nimport sys\nprint(repr(sys.stdin.read()))",
    "surrogates": "import sys; print('\\udcff'); print('\\u20ac', file=sys.stderr); print('\\udcff', file=sys.stderr)",
    "subprocess": "import subprocess, sys\n"
    "print(subprocess.run([sys.executable, '-c', 'import sys; print(sys.argv)'], capture_output=True, text=True))",
    "shell": "import os; os.system('echo hi; exit 3')",
    "fork": "import os\npid = os.fork()\nif not pid: os._exit(5)\nprint(os.waitpid(pid, 0)[1] >> 8)",
    "pool-fork": "import multiprocessing as m\ndef f(x): return x * x\n"
    "if __name__ == '__main__':\n    with m.get_context('fork').Pool(2) as p: print(p.map(f, range(5)))",
    "pool-spawn": "import multiprocessing as m\ndef f(x): return x * x\n"
    "if __name__ == '__main__':\n    with m.get_context('spawn').Pool(2) as p: print(p.map(f, range(5)))",
    "forkserver": "import multiprocessing as m\ndef f(): print('child', __name__, flush=True)\n"
    "if __name__ == '__main__':\n    p = m.get_context('forkserver').Process(target=f); p.start(); p.join(); print(p.exitcode)",
    "executor": "from concurrent.futures import ThreadPoolExecutor as T\nT().submit(print, 'late')",
    "pickle": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))), pickle.dumps(A))",
    "dataclass": "from __future__ import annotations\nimport dataclasses, typing\n@dataclasses.dataclass\n"
    "class A:\n    x: int = 1\nprint(A(), typing.get_type_hints(A))",
    "annotations": "def f(x: int): pass\nprint(f.__annotations__)\ny: int = 1\nprint(__annotations__)",
    "inspect": "import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f), inspect.getfile(f), __file__)",
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    p = await asyncio.create_subprocess_exec("
    "'echo', 'hi')\n    return await p.wait()\nprint(asyncio.run(f()))",
    "environ": "import os\nprint(sorted(os.environ.items()), flush=True)\nos.environ['A'] = 'b'\nos.system('echo $A')",
    "fds": "import os; print(sorted(os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')))",
    "cwd": "import os; print(os.getcwd(), os.listdir())",
    "warnings": "import warnings\nwarnings.warn('old', DeprecationWarning)\nprint(warnings.filters)",
    "import-beside": "import beside; print(beside.x, beside.__file__)",
    "not-shadowed": "import sys, os.path\nprint([p for p in sys.path if 'agent' in p], 'supervise' in sys.modules)\n"
    "try:\n    import agent\nexcept ImportError as e: print(e)",
    "sys": "import sys; print(sys.executable, sys.flags, sys.orig_argv, sys.getrecursionlimit(), sys.path)",
    "exc-info": "import sys; print(sys.exc_info(), hasattr(sys, 'last_value'))",
    "handled-context": "try:\n    1/0\nexcept ZeroDivisionError as e: print(e.__context__, e.__cause__)",
    "random": "import random; print(random.Random(1).random(), random.random() != random.random())",
    "hash-seeded": "print(len({hash(str(i)) for i in range(100)}))",
    "locale": "import locale, time; print(locale.getpreferredencoding(), locale.setlocale(locale.LC_CTYPE), time.tzname)",
    "broken-pipe": "import os\nr, w = os.pipe(); os.close(r)\ntry:\n    os.write(w, b'x')\nexcept BrokenPipeError as e: print(e)",
    "stderr-order": "import sys\nprint('a')\nprint('b', file=sys.stderr)\nsys.stdout.flush()\nraise RuntimeError('é')",
    "recursion": "def f(): f()\nf()",
    "sigterm": "import os, signal\nprint('x', flush=True)\nos.kill(os.getpid(), signal.SIGTERM)",
    "abort": "import os; os.abort()",
}


def comparable(seen: tuple[bytes, bytes, int]) -> tuple[bytes, bytes, int]:
    """Without addresses and thread ids."""
    pattern = rb"0x[0-9a-f]+|started \d+"
    return re.sub(pattern, b"N", seen[0]), re.sub(pattern, b"N", seen[1]), seen[2]


ROOT = b"<the agent's directories>"
_plain: dict[tuple[str, str | None], tuple[bytes, bytes, int]] = {}


def plain_run(agent: Agent, name: str) -> tuple[bytes, bytes, int]:
    """Both outputs and the exit code of plain Python with that program, in directories such as the agent's.

    Each program runs once for all agents with the same seed of hashes.
    """
    work = Path(agent.paths["work"])
    root = str(work.parent).encode()
    key = (name, agent.env.get("PYTHONHASHSEED"))
    if key not in _plain:
        command = [sys.executable, str(work / "main.py"), "a", "b"]
        done = subprocess.run(
            command, check=False, input=b"Ann\nmore\r\n", capture_output=True, cwd=work, env=agent.env
        )
        _plain[key] = (done.stdout.replace(root, ROOT), done.stderr.replace(root, ROOT), done.returncode)
    stdout, stderr, code = _plain[key]
    return stdout.replace(ROOT, root), stderr.replace(ROOT, root), code


@pytest.mark.parametrize(
    "forked", ["ahead, idle", *(pytest.param(how, marks=pytest.mark.thorough) for how in ("ahead", "then", "not"))]
)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_forked_program_looks_like_plain_python(agent: Agent, name: str, forked: str) -> None:
    if forked == "ahead":
        agent.prepare(idle_seconds=SECONDS)
    elif forked == "not":
        agent.env["PYTHONHASHSEED"] = "7"
    elif forked == "ahead, idle":
        waiting = agent.prepare(preload=("bisect", "json", "random", "threading"))
        eventually(asleep(waiting), "the fork has loaded its modules and waits")
    if forked.startswith("ahead"):  # the agent rehearses the search of the directory that this test empties
        eventually(asleep(agent.process.pid), "the agent waits")
    work = Path(agent.paths["work"])
    for place in (work, Path(agent.paths["inputs"])):
        (place / "main.py").write_bytes(PROGRAMS[name].encode("latin-1" if name.startswith("encoding") else "utf-8"))
        (place / "beside.py").write_text("x = 5")
    stdout, stderr, returncode = plain_run(agent, name)
    for left in work.iterdir():
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    (work / "inputs").symlink_to(agent.paths["inputs"])
    agent.start(b"Ann\nmore\r\n", args=["a", "b"])
    result = agent.end()
    code = 128 - returncode if returncode < 0 else returncode
    seen, wanted = (result.stdout, result.stderr, result.code), (stdout, stderr, code)
    assert comparable(seen) == comparable(wanted)
    assert result.exit["exit_code"] == code
    assert result.exit["signal"] == (-returncode if returncode < 0 else None)


def run_python(agent: Agent, program: str, stdin: bytes = b"", **changed: Any) -> Result:
    agent.input("main.py", program)
    agent.start(stdin, **changed)
    return agent.end()


def test_ready_frame_reports_rights_granted_by_the_kernel(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "sandbox")
    try:
        ready = next(agent.frames).json()
    finally:
        agent.close()
    assert (ready["agent"], ready["uid"], ready["gid"]) == (1, os.getuid(), os.getgid())
    assert set(ready["caps"]) == {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
    assert {mount[0] for mount in ready["mounts"]} >= {"/", "/proc"}
    assert ready["limits"]["nofile"][0] > 0


def test_the_frames_come_in_order(agent: Agent) -> None:
    result = run_python(
        agent, "print(1); open('/proc/self/fd/1'); import os\nopen(os.getcwd()+'/../output/a', 'w').write('x')"
    )
    assert result.kinds == [
        FromAgent.RUNNING,
        FromAgent.STDOUT,
        FromAgent.FILE,
        FromAgent.FILE_DATA,
        FromAgent.EXIT,
    ]
    facts = result.exit
    assert (facts["exit_code"], facts["signal"], facts["stopped"], facts["disk_full"]) == (0, None, None, [])


def test_exit_frame_has_exactly_the_fields_that_the_worker_parses(agent: Agent) -> None:
    assert set(run_python(agent, "print(1)").exit) == {field.name for field in dataclasses.fields(Exit)}


@pytest.mark.parametrize(
    ("run", "code", "stderr"),
    [
        (["/bin/sh", "-c", "exit 7"], 7, b""),
        (["/bin/sh", "-c", "kill -9 $$"], 137, b""),
        (["/no/such/program"], 127, b"/no/such/program: No such file or directory\n"),
        (["/etc/passwd"], 126, b"/etc/passwd: Permission denied\n"),
        (["/bin/sh", "-c", "trap"], 0, b""),
    ],
)
def test_an_executed_program(agent: Agent, run: list[str], code: int, stderr: bytes) -> None:
    agent.start(run=run)
    result = agent.end()
    assert (result.code, result.exit["exit_code"], result.stderr) == (code, code, stderr)


def test_an_executed_program_inherits_no_ignored_signal_and_no_descriptor(agent: Agent) -> None:
    program = "grep SigIgn /proc/self/status; grep SigBlk /proc/self/status; ls /proc/self/fd | tr '\\n' ' '"
    agent.start(run=["/bin/sh", "-c", program])
    _, ignored, _, blocked, *descriptors = agent.end().stdout.split()
    assert int(ignored, 16) & ~LIBC_SIGNALS == 0
    assert int(blocked, 16) == 0
    assert descriptors == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("changed", "fresh"),
    [
        ({}, False),
        ({"fork": False}, True),
        ({"env": {"LANG": "C.UTF-8", "PYTHONHASHSEED": "1"}}, True),
        ({"env": {"LANG": "C"}}, True),
        ({"env": {"LANG": "C.UTF-8", "HOME": "/"}}, False),
    ],
)
def test_program_that_would_differ_gets_a_fresh_interpreter(agent: Agent, changed: dict[str, Any], fresh: bool) -> None:
    result = run_python(agent, "import sys; print('threading' in sys.modules)", **changed)
    assert result.stdout == (b"False\n" if fresh else b"True\n")


def test_module_beside_the_program_wins_over_preloaded_module(agent: Agent) -> None:
    agent.input("json.py", "mine = True")
    assert run_python(agent, "import json; print(json.mine)").stdout == b"True\n"


def test_preload_failure_is_left_to_the_program(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "sandbox", preload=("no_such_module", "json"))
    assert next(agent.frames).kind is FromAgent.READY
    result = run_python(agent, "import sys; print('json' in sys.modules); import no_such_module")
    agent.close()
    assert (result.stdout, result.code) == (b"True\n", 1)
    assert b"No module named 'no_such_module'" in result.stderr


def test_an_agent_imports_little(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "sandbox", preload=())
    assert next(agent.frames).kind is FromAgent.READY
    result = run_python(
        agent, "import sys; print(*sorted({'json', 're', 'functools', 'enum', 'ctypes'} & sys.modules.keys()))"
    )
    agent.close()
    assert result.stdout == b"\n"


@pytest.mark.parametrize("ahead", [True, False], ids=["started ahead", "forked"])
def test_running_frame_is_sent_before_the_program_can_stop_the_agent(agent: Agent, ahead: bool) -> None:
    """Otherwise a silent agent could be the program's doing or the platform's."""
    if ahead:
        agent.prepare()
    agent.input("main.py", "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)")
    agent.start()
    eventually(lambda: psutil.Process(agent.process.pid).status() == psutil.STATUS_STOPPED, "the agent is stopped")
    agent.process.kill()
    assert [frame.kind for frame in agent.frames] == [FromAgent.RUNNING]


def test_a_missing_program_fails_in_pythons_own_words(agent: Agent) -> None:
    agent.start()
    result = agent.end()
    assert result.code == 2
    assert b"can't open file" in result.stderr


def test_compile_step_runs_before_the_program(agent: Agent) -> None:
    agent.start(
        run=["./built"], compile=["/bin/sh", "-c", "echo cc; echo w >&2; ln -s /bin/pwd built; sleep 9 & exit 0"]
    )
    result = agent.end()
    assert result.out[FromAgent.COMPILE_STDOUT] == b"cc\n"
    assert result.out[FromAgent.COMPILE_STDERR] == b"w\n"
    assert result.compiled["exit_code"] == 0
    assert result.compiled["wall_seconds"] < 5
    assert result.stdout.decode() == agent.paths["work"] + "\n"
    assert result.code == 0


def test_a_failed_compilation_ends_the_execution(agent: Agent) -> None:
    agent.start(run=["/bin/true"], compile=["/bin/sh", "-c", "exit 3"])
    result = agent.end()
    assert result.compiled["exit_code"] == result.exit["exit_code"] == result.code == 3
    assert FromAgent.RUNNING not in result.kinds


def test_wall_limit_keeps_partial_output_and_artifacts(agent: Agent) -> None:
    program = "import time\nprint('a', flush=True)\nopen('../output/a', 'w').write('b')\ntime.sleep(60)"
    began = time.monotonic()
    result = run_python(agent, program, wall_seconds=2)
    assert (result.exit["stopped"], result.exit["signal"], result.code) == ("wall", None, 124)
    assert (result.stdout, result.files) == (b"a\n", {"a": b"b"})
    assert time.monotonic() - began >= 2


@pytest.mark.parametrize(
    "program",
    [
        "import os\nos.fork()\nos.fork()\nwhile True: pass",
        pytest.param("while True: pass", marks=pytest.mark.thorough),
        pytest.param(
            "import subprocess, sys\nwhile True: subprocess.run([sys.executable, '-Sc', 'for i in range(10**6): pass'])",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_cpu_limit_counts_every_process(agent: Agent, program: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = run_python(agent, program, cpu_seconds=0.6, wall_seconds=120.0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the agent too, which is reaped by now
    assert (result.exit["stopped"], result.code) == ("cpu", 124)
    assert 0.55 <= used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime < 2


def test_cpu_limit_does_not_stop_a_sleeper(agent: Agent) -> None:
    assert run_python(agent, "import time; time.sleep(1); print(1)", cpu_seconds=0.4).stdout == b"1\n"


def test_stop_frame_ends_the_program(agent: Agent) -> None:
    agent.input("main.py", "import time; time.sleep(60)")
    agent.start()
    assert next(agent.frames).kind is FromAgent.RUNNING
    agent.write(ToAgent.STOP)
    result = agent.end()
    assert (result.exit["stopped"], result.code) == ("cancel", 124)


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_lost_host_ends_agent_and_program(agent: Agent, when: str) -> None:
    assert agent.process.stdin
    if when != "before":
        agent.input(
            "main.py", "import os, time\nprint(os.getpid(), flush=True)\n" + "time.sleep(60)" * (when == "during")
        )
        agent.start()
        assert next(agent.frames).kind is FromAgent.RUNNING
        pid = int(next(agent.frames).payload)
    if when == "after":
        while next(agent.frames).kind is not FromAgent.EXIT:
            pass
    agent.process.stdin.close()
    assert agent.process.wait(SECONDS) == (0 if when == "after" else 125)
    if when != "before":
        eventually(lambda: not is_running(pid), "the program is gone")


def test_host_lost_after_an_end_of_reading_ends_agent_and_program(agent: Agent) -> None:
    stdin, stdout = agent.process.stdin, agent.process.stdout
    assert stdin and stdout
    agent.input("main.py", "while True: print('x' * 1000)")
    agent.start()
    eventually(lambda: unread(stdout) > 2**15, "the pipe is full")
    stdin.close()
    assert agent.process.wait(SECONDS) == 125


def test_slow_reader_does_not_delay_the_wall_limit(agent: Agent) -> None:
    agent.input("main.py", "while True: print('x' * 1000)")
    agent.start(wall_seconds=2)
    pipe = agent.process.stdout
    assert pipe
    eventually(lambda: unread(pipe) > 2**15, "the pipe is full")
    eventually(lambda: not psutil.Process(agent.process.pid).children(), "the program is ended though nothing is read")
    result = agent.end()
    assert result.exit["stopped"] == "wall"
    assert len(result.stdout) < 10**6


def test_daemons_with_open_pipes_are_killed(agent: Agent) -> None:
    program = (
        "import os, sys, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    print(os.getpid(), flush=True)\n    time.sleep(60)\nos.wait()\ntime.sleep(.2)\n"
    )
    result = run_python(agent, program, wall_seconds=10.0)
    assert (result.exit["stopped"], result.code) == (None, 0)
    eventually(lambda: not is_running(int(result.stdout)), "the daemon is gone")


@pytest.mark.parametrize("size", [0, 1, 65536, 5 * 2**20])
def test_stdin_and_output_of_any_size(agent: Agent, size: int) -> None:
    data = os.urandom(size)
    result = run_python(agent, "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())", data)
    assert result.stdout == data
    assert result.code == 0


def test_unread_stdin_does_not_block_the_agent(agent: Agent) -> None:
    assert run_python(agent, "print(1)", b"x" * 2**20).stdout == b"1\n"
    assert agent.process.returncode == 0


def test_the_program_is_no_part_of_the_agent(agent: Agent) -> None:
    program = """
        import ctypes, gc, os, signal, sys
        print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), os.getsid(0) == os.getpid())
        print(signal.set_wakeup_fd(-1), 'execution' in sys.modules, sys.path_importer_cache.keys() & {AGENT})
    """.replace("\n        ", "\n").replace("AGENT", repr(str(AGENT.parent)))
    assert run_python(agent, program).stdout == b"1 True\n-1 False set()\n"


def test_the_agent_is_not_dumpable(agent: Agent) -> None:
    assert os.stat(f"/proc/{agent.process.pid}/fd").st_uid == 0
    result = run_python(agent, "import os; print(os.stat('/proc/self/fd').st_uid == os.getuid())")
    assert result.stdout == b"True\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE])
def test_signals_do_not_disturb_the_agent(agent: Agent, number: int) -> None:
    program = (
        f"import os, time\nfor i in range(50): os.kill(os.getppid(), {number}); os.kill(os.getppid(), 17)\nprint(1)"
    )
    assert run_python(agent, program).stdout == b"1\n"


def test_invalid_frame_from_the_host_ends_the_agent(agent: Agent) -> None:
    agent.write(ToAgent.BYE)
    assert agent.process.wait(SECONDS) == 125
    assert agent.process.stderr
    assert b"agent: ValueError" in agent.process.stderr.read()


def test_frames_are_whole_however_they_are_cut(agent: Agent) -> None:
    agent.input("main.py", "print(input())")
    assert agent.process.stdin
    write, agent.write = agent.write, lambda kind, payload=b"": sent.append(encode(kind, payload))  # type: ignore[method-assign]
    sent: list[bytes] = []
    agent.start(b"hello")
    agent.write = write  # type: ignore[method-assign]
    for byte in b"".join(sent)[:2000]:
        agent.process.stdin.write(bytes([byte]))
        agent.process.stdin.flush()
    assert HEADER.size * 2 < len(b"".join(sent)) < 2000
    assert agent.end().stdout == b"hello\n"


HOSTILE_OUTPUT = """
import os, socket
os.chdir('../output')
open('a.txt', 'w').write('a')
os.makedirs('d/e'); open('d/e/b.txt', 'w').write('b' * 100000)
open('c.bin', 'w')
os.symlink('/etc/passwd', 'link.txt'); os.symlink('/etc', 'dir.txt'); os.symlink('a.txt', 'd/near.txt')
os.mkfifo('fifo.txt')
socket.socket(socket.AF_UNIX).bind('socket.txt')
open(b'\\xff.txt', 'w'); open('new\\nline.txt', 'w'); open('\\x9b.txt', 'w')
os.truncate(os.open('sparse.txt', os.O_CREAT | os.O_WRONLY), 1 << 40)
os.makedirs('deep/' * 40 + 'x'); open('deep/' * 30 + 'ok.txt', 'w')
open('é.txt', 'w').write('é')
"""


def test_only_regular_files_with_good_names_are_collected(agent: Agent) -> None:
    result = run_python(agent, HOSTILE_OUTPUT, artifacts=["**/*.txt"], artifact_bytes=200_000)
    expected = {"a.txt": b"a", "d/e/b.txt": b"b" * 100000, "deep/" * 30 + "ok.txt": b"", "é.txt": "é".encode()}
    assert result.files == expected
    assert result.code == 0
    assert result.rejected == {
        "\\xff.txt": "bad_name",
        "new\\nline.txt": "bad_name",
        "\\x9b.txt": "bad_name",
        "d/near.txt": "symlink",
        "/".join(["deep"] * 32): "too_deep",
        "dir.txt": "symlink",
        "fifo.txt": "fifo",
        "link.txt": "symlink",
        "socket.txt": "socket",
        "sparse.txt": "too_large",
    }


def test_artifacts_are_bounded_in_number_and_total(agent: Agent) -> None:
    program = "for i in range(300): open(f'../output/{i:03}', 'w').write('x' * 10)"
    result = run_python(agent, program, artifact_files=50, artifact_bytes=405)
    assert sorted(result.files) == [f"{i:03}" for i in range(40)]
    assert len(result.rejected) == 100
    assert set(result.rejected.values()) == {"too_large"}


def test_closed_output_directory_yields_no_artifacts(agent: Agent) -> None:
    result = run_python(agent, "import os; os.chmod('../output', 0)")
    assert result.code == 0
    assert result.files == {}


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("**", {"a", "d/b", "d/e/c"}),
        ("*", {"a"}),
        ("d/*", {"d/b"}),
        ("d/**", {"d/b", "d/e/c"}),
        ("**/c", {"d/e/c"}),
        ("**/[ab]", {"a", "d/b"}),
        ("/a", {"a"}),
        ("**/**/**/c", {"d/e/c"}),
        ("*/?", {"d/b"}),
        ("A", set()),
        ("../a", set()),
    ],
)
def test_glob_matches_as_documented(agent: Agent, pattern: str, taken: set[str]) -> None:
    program = "import os; os.chdir('../output'); os.makedirs('d/e')\nfor n in 'a', 'd/b', 'd/e/c': open(n, 'w')"
    assert set(run_python(agent, program, artifacts=[pattern]).files) == taken

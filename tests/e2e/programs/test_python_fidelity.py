"""Python programs through the whole stack: a warm interpreter behaves like ``python3 main.py``.

What can be asked of the agent alone, tests/unit/sandbox_image/test_agent.py asks. Here are the image, the
container, and what the service says of an end.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.harness import Stack

# Looks around, then has a second interpreter look around, started by its command as any program would be.
LOOK = r"""
import sys

def look():
    if "data" in sys.argv:
        import numpy, pandas, matplotlib.pyplot
    seen = {
        "sys": [sys.argv, sys.orig_argv, sys.path, sys.executable, sys.prefix, repr(sys.flags), sys.version],
        "settings": [sys.getrecursionlimit(), sys.getswitchinterval(), sys.dont_write_bytecode, sys.warnoptions],
        "import": [repr(finder).partition(" at 0x")[0] for finder in sys.meta_path] + [len(sys.path_hooks)],
        "main": [__name__, __file__, __spec__, __doc__, __package__, type(__loader__).__name__, sorted(globals())],
        "hooks": [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.gettrace()],
        "stdio": [[s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.isatty(), s.fileno(),
                   type(s.buffer).__name__] for s in (sys.stdin, sys.stdout, sys.stderr)],
        "encodings": [sys.getdefaultencoding(), sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()],
    }
    import asyncio, gc, getpass, locale, multiprocessing, os, platform, resource, shutil, signal, tempfile, threading
    import decimal, faulthandler, pathlib, socket, time, warnings
    try:
        everywhere = locale.setlocale(locale.LC_ALL, "")
    except locale.Error as error:
        everywhere = repr(error)
    try:
        user = getpass.getuser()
    except (KeyError, OSError) as error:
        user = type(error).__name__
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    kept = ("Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapEff", "NoNewPrivs", "Seccomp")
    limits = [name for name in sorted(dir(resource)) if name.startswith("RLIMIT_")]
    caught = int(status["SigCgt"], 16) & 0x7FFFFFFF  # above are those that libc keeps for its threads
    with open("/proc/self/oom_score_adj") as file:
        oom = file.read()
    seen |= {
        "locale": [everywhere, locale.setlocale(locale.LC_CTYPE), locale.getpreferredencoding(), locale.getlocale()],
        "status": {name: status[name].split() for name in kept},
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in limits},
        "oom": oom,
        "caught": caught,
        "signals": {int(s): str(signal.getsignal(s)) for s in signal.valid_signals()},
        "wakeup": signal.set_wakeup_fd(-1),
        "fds": [os.path.basename(os.readlink(f"/proc/self/fd/{fd}")).partition(":")[0] for fd in (0, 1, 2)],
        "open": len(os.listdir("/proc/self/fd")),
        "inheritable": [os.get_inheritable(fd) for fd in (0, 1, 2)],
        "blocking": [os.get_blocking(fd) for fd in (0, 1, 2)],
        "environment": {k: v for k, v in os.environ.items() if k != "SECOND"},
        "places": [os.getcwd(), tempfile.gettempdir(), str(pathlib.Path.home()), sorted(os.listdir("/inputs"))],
        "who": [os.getuid(), os.getgid(), os.getgroups(), user, socket.gethostname(), platform.node()],
        "nice": [os.nice(0), sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0), os.cpu_count()],
        "threads": [threading.active_count(), threading.current_thread().name, threading.main_thread().ident
                    == threading.get_ident() == threading.current_thread().ident, threading.stack_size()],
        "native": threading.get_native_id() == os.getpid(),
        "gc": [gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.callbacks],
        "multiprocessing": [multiprocessing.get_start_method(), multiprocessing.parent_process(),
                            multiprocessing.current_process().name, multiprocessing.active_children()],
        "asyncio": [type(asyncio.get_event_loop_policy()).__name__, asyncio._get_running_loop()],
        "warnings": [repr(f) for f in warnings.filters],
        "decimal": repr(decimal.getcontext()),
        "faulthandler": faulthandler.is_enabled(),
        "time": [time.tzname, time.timezone, time.strftime("%Z")],
        "terminal": shutil.get_terminal_size(),
        "clock": time.process_time() < 5,
    }
    if "data" in sys.argv:
        import matplotlib, numpy, pandas
        seen |= {
            "numpy": [numpy.geterr(), repr(numpy.get_printoptions()), numpy.__version__],
            "pandas": [pandas.__version__, pandas.get_option("display.width"),
                       str(pandas.Timestamp(0, tz="Asia/Tokyo"))],
            "matplotlib": [matplotlib.get_backend(), matplotlib.get_configdir(), matplotlib.is_interactive(),
                           sorted(f"{k}={v}" for k, v in matplotlib.rcParams.items())],
        }
    return seen

import json, os, subprocess

if "SECOND" in os.environ:
    print(json.dumps(look()))
else:
    first = look()
    environment = {**os.environ, "SECOND": "1"}
    second = subprocess.run([sys.executable, *sys.argv], env=environment, input=b"", capture_output=True)
    assert second.returncode == 0, second.stderr.decode()
    json.dump([first, json.loads(second.stdout)], open("/output/seen.json", "w"))
"""


@pytest.mark.parametrize("environment", ["python", "python-data"])
def test_a_warm_interpreter_is_like_a_new_one(stack: Stack, environment: str) -> None:
    arguments = ["ä b", "data"] if environment == "python-data" else ["ä b", ""]
    execution = stack.run(environment, code=LOOK, args=arguments, env={"X": "ü"}, limits={"cpu_seconds": 60})
    assert execution["stderr"] == "" and execution["exit_code"] == 0
    first, second = json.loads(stack.artifact(execution, "seen.json"))
    assert first == second
    assert first["sys"][0] == ["/work/main.py", *arguments]
    assert first["sys"][1] == ["/usr/bin/python3", "/work/main.py", *arguments]
    assert first["main"][:2] == ["__main__", "/work/main.py"]
    assert first["places"] == ["/work", "/tmp", "/work", ["main.py"]]
    assert first["environment"]["X"] == "ü" and "MAYFLY" not in "".join(first["environment"])
    assert first["locale"][:3] == ["C.UTF-8", "C.UTF-8", "UTF-8"]
    assert first["stdio"][1][2:4] == ["utf-8", "surrogateescape"]


LATER = {
    "PIL", "bs4", "jinja2", "lxml", "matplotlib", "networkx", "openpyxl", "scipy", "seaborn", "sklearn", "statsmodels",
    "sympy", "tabulate",
}  # fmt: skip


# Memory of the interpreter of `python-data` that waits, in that of `python`: what was measured with numpy and pandas.
MEMORY_TIMES = 7.2
WAITING = """
import re, sys
print(re.search(r"Anonymous: +(\\d+)", open("/proc/self/smaps_rollup").read())[1])
print(*{name.partition('.')[0] for name in sys.modules})
"""


def test_waiting_interpreter_loads_no_package_beyond_pandas(stack: Stack) -> None:
    """Each costs every waiting sandbox memory, and every program time, whether it imports the package or not.

    A program shares the pages of the interpreter that waited for it; their number is also what makes its start long.
    """
    ends = {name: stack.run(name, code=WAITING)["stdout"].splitlines() for name in ("python", "python-data")}
    loaded = set(ends["python-data"][1].split())
    assert {"numpy", "pandas"} <= loaded
    assert loaded & LATER == set()
    assert int(ends["python-data"][0]) <= 1.2 * MEMORY_TIMES * int(ends["python"][0])


# Each with how it must end: state, reason, exit code, signal, stdout, and the last line of stderr.
ENDS: dict[str, tuple[str, tuple[str, str | None, int, str | None, str, str]]] = {
    "exit-int": ("import sys; print(1); sys.exit(3)", ("failed", "nonzero_exit", 3, None, "1\n", "")),
    "exit-str": ("import sys; sys.exit('no: ü')", ("failed", "nonzero_exit", 1, None, "", "no: ü")),
    "exit-none": ("import sys; print(1); sys.exit()", ("succeeded", None, 0, None, "1\n", "")),
    "exit-false": ("import sys; sys.exit(False)", ("succeeded", None, 0, None, "", "")),
    "exit-256": ("raise SystemExit(256)", ("succeeded", None, 0, None, "", "")),
    "exit-negative": ("import sys; sys.exit(-1)", ("failed", "nonzero_exit", 255, None, "", "")),
    "exit-124": ("import sys; sys.exit(124)", ("failed", "nonzero_exit", 124, None, "", "")),
    "exit-137": ("import sys; sys.exit(137)", ("failed", "nonzero_exit", 137, None, "", "")),
    "uncaught": ("print(1)\nint('x')", (
        "failed", "nonzero_exit", 1, None, "1\n", "ValueError: invalid literal for int() with base 10: 'x'",
    )),
    "segfault": ("import ctypes; print(1, flush=True); ctypes.string_at(0)", (
        "failed", "signalled", 139, "SIGSEGV", "1\n", "",
    )),
    "abort": ("import os; os.abort()", ("failed", "signalled", 134, "SIGABRT", "", "")),
    "terminate": ("import os, signal; os.kill(0, signal.SIGTERM)", ("failed", "signalled", 143, "SIGTERM", "", "")),
    "kill-all": ("import os, signal; os.kill(-1, signal.SIGKILL)", (
        "failed", "nonzero_exit", 1, None, "", "ProcessLookupError: [Errno 3] No such process",
    )),
    "interrupt": ("raise KeyboardInterrupt", ("failed", "signalled", 130, "SIGINT", "", "KeyboardInterrupt")),
    "thread": (
        "import threading, time, atexit\natexit.register(print, 'exit')\n"
        "def late():\n    threading.main_thread().join(); print('late')\n"
        "threading.Thread(target=late).start()\nprint('main')",
        ("succeeded", None, 0, None, "main\nlate\nexit\n", ""),
    ),
    "thread-fails": (
        "import threading\nt = threading.Thread(target=lambda: [][1]); t.start(); t.join(); print('on')",
        ("succeeded", None, 0, None, "on\n", "IndexError: list index out of range"),
    ),
    "left-behind": (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('done')\nimport os; os._exit(6)",
        ("failed", "nonzero_exit", 6, None, "", ""),
    ),
    "end-of-input": ("input(); print(repr(input())); input()", (
        "failed", "nonzero_exit", 1, None, "'two '\n", "EOFError: EOF when reading a line",
    )),
    "memory-error": ("x = bytearray(1 << 62)", ("failed", "nonzero_exit", 1, None, "", "MemoryError")),
    "module-missing": ("import nothing_like_it", (
        "failed", "nonzero_exit", 1, None, "", "ModuleNotFoundError: No module named 'nothing_like_it'",
    )),
}  # fmt: skip


def test_program_ends_as_under_python3(stack: Stack) -> None:
    ids = {}
    for name, (code, _) in ENDS.items():
        response = stack.submit(
            environment="python", code=code, stdin="one\ntwo \n", limits={"wall_seconds": 30, "cpu_seconds": 30}
        )
        assert response.status_code == 202, response.text
        ids[name] = response.json()["id"]
    found = {}
    for name, id in ids.items():
        execution = stack.ended(id)
        last = execution["stderr"].splitlines()[-1:] or [""]
        fields = [execution[field] for field in ("state", "reason", "exit_code", "signal", "stdout")]
        found[name] = (*fields, *last)
    assert found == {name: wanted for name, (_, wanted) in ENDS.items()}


TRACEBACKS = """\
import sys, threading, traceback
from concurrent.futures import ProcessPoolExecutor
from package.inner import divide

def fails(x):
    return divide(x, 0)

def show(title):
    print("--", title)
    print(traceback.format_exc(), end="")

if __name__ == "__main__":
    try:
        fails(1)
    except ZeroDivisionError:
        show("caught")
        print([frame.f_code.co_filename for frame, _ in traceback.walk_tb(sys.exc_info()[2])])
    try:
        exec(compile("1 +", "given", "exec"))
    except SyntaxError:
        show("syntax")
    try:
        with ProcessPoolExecutor(1) as pool: pool.submit(fails, 2).result()
    except ZeroDivisionError as error:
        print("-- remote")
        print(str(error.__cause__).count('File "/work/main.py", line 6, in fails'))
    sys.stdout.flush()
    thread = threading.Thread(target=fails, args=(3,), name="third")
    thread.start()
    thread.join()
    fails(4)
"""
INNER = '"""Divides."""\n\n\ndef divide(a, b):\n    return a / b\n'
MIDDLE = """\
  File "/work/main.py", line 6, in fails
    return divide(x, 0)
           ^^^^^^^^^^^^
  File "/work/package/inner.py", line 5, in divide
    return a / b
           ~~^~~
ZeroDivisionError: division by zero
"""


def test_tracebacks_show_only_the_program(stack: Stack) -> None:
    files = [{"path": "main.py", "content": TRACEBACKS}, {"path": "package/inner.py", "content": INNER}]
    execution = stack.run("python", files=files, entrypoint="main.py", limits={"wall_seconds": 30})
    head = "Traceback (most recent call last):\n"
    caught, rest = execution["stdout"].split("['", 1)
    assert caught == f'-- caught\n{head}  File "/work/main.py", line 14, in <module>\n    fails(1)\n{MIDDLE}'
    assert rest == (
        "/work/main.py', '/work/main.py', '/work/package/inner.py']\n"
        f"-- syntax\n{head}"
        '  File "/work/main.py", line 19, in <module>\n'
        '    exec(compile("1 +", "given", "exec"))\n'
        "         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        '  File "given", line 1\n    1 +\n       ^\nSyntaxError: invalid syntax\n'
        "-- remote\n1\n"
    )
    assert execution["stderr"].count(head) == 2, execution["stderr"]
    thread, main = execution["stderr"].split(head)[1:]
    assert execution["stderr"].startswith("Exception in thread third:\n")
    assert thread.endswith(MIDDLE) and thread.count('File "/work/main.py"') == 1
    assert main == f'  File "/work/main.py", line 31, in <module>\n    fails(4)\n{MIDDLE}'
    assert "mayfly" not in execution["stderr"] + execution["stdout"]


PROCESSES = r"""
import multiprocessing, os, select, signal, subprocess, sys, time

def child(queue, value):
    queue.put((value, __name__, os.getppid(), sys.argv, multiprocessing.current_process().name))

def crash():
    os.kill(os.getpid(), signal.SIGKILL)

def check(name, holds):
    print(name, "yes" if holds else "NO")

def unreaped():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, parent = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if (state, parent) == ("Z", "1"):
            return True
    return False

if __name__ == "__main__":
    check("not the first process", os.getpid() > 1 and os.getppid() == 1)
    check("leads its session", os.getsid(0) == os.getpgrp() == os.getpid())
    check("no terminal", not os.path.exists("/dev/tty") or not os.isatty(0))
    for method, name in (("fork", "__main__"), ("spawn", "__mp_main__"), ("forkserver", "__mp_main__")):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=child, args=(queue, 7), name="one")
        process.start()
        value, main, parent, argv, own = queue.get(timeout=20)
        process.join()
        right = (value, main, argv, own) == (7, name, sys.argv, "one")
        check(method, right and process.exitcode == 0 and (parent == os.getpid()) == (method != "forkserver"))
    process = multiprocessing.Process(target=crash)
    process.start()
    process.join()
    check("killed child", process.exitcode == -9)
    read, write = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            os.close(read)
            while os.getppid() != 1:
                time.sleep(0.001)
            os.write(write, b"adopted by %d" % os.getppid())
        os._exit(0)
    os.close(write)
    check("orphan", os.read(read, 100) == b"adopted by 1" and os.read(read, 1) == b"")
    while unreaped():
        os.sched_yield()
    check("orphans are reaped", True)
    os.wait()
    try:
        os.waitpid(-1, os.WNOHANG)
        check("resource tracker and fork server only", True)
    except ChildProcessError:
        check("resource tracker and fork server only", False)
    caught = []
    signal.signal(signal.SIGALRM, lambda number, frame: caught.append(frame.f_code.co_filename))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while not caught:
        time.sleep(0.01)
    check("alarm", caught == [__file__])
    signals = subprocess.run([sys.executable, "-c", "import os; os.kill(os.getppid(), 0)"])
    check("signal from a child", signals.returncode == 0)
    check("not to the agent", subprocess.run([sys.executable, "-c", "open('/proc/1/environ').read()"],
                                             stderr=subprocess.DEVNULL).returncode == 1)
    check("a shell", os.system("ls /work > /dev/null") == 0)
    check("a shell's pipe", subprocess.check_output("echo $((6 * 7)) | cat", shell=True) == b"42\n")
    ready, _, _ = select.select([sys.stdin], [], [], 20)
    check("input is ready", ready == [sys.stdin])
    check("a line", sys.stdin.readline() == "erste\n")
    print(input("prompt> "), [line for line in sys.stdin], repr(sys.stdin.read()))
"""


def test_processes_signals_and_input(stack: Stack) -> None:
    execution = stack.run(
        "python",
        files=[{"path": "main.py", "content": PROCESSES}],
        entrypoint="main.py",
        args=["a"],
        stdin="erste\nzweite\r\ndritte\nohne Ende",
        limits={"wall_seconds": 60, "cpu_seconds": 60},
    )
    assert execution["stderr"] == ""
    *checks, last, end = execution["stdout"].split("\n")
    assert end == ""
    assert [line for line in checks if not line.endswith(" yes")] == []
    assert len(checks) == 17
    assert last == "prompt> zweite\r ['dritte\\n', 'ohne Ende'] ''"
    assert (execution["state"], execution["exit_code"], execution["security_events"]) == ("succeeded", 0, 0)


def test_executions_share_no_randomness_and_no_leftovers(stack: Stack) -> None:
    code = (
        "import random, uuid, os, tempfile, secrets, numpy as np, json\n"
        "print(json.dumps([random.random(), str(uuid.uuid4()), float(np.random.random()), hash('x'), "
        "tempfile.mktemp(), secrets.token_hex(4), int(np.random.default_rng().integers(1 << 60))]))\n"
        "print(sorted(os.listdir('/tmp')), sorted(os.listdir('/work')), os.listdir('/output'))\n"
        "for place in '/tmp', '/work': open(place + '/left', 'w').close()\n"
    )
    executions: list[dict[str, Any]] = [stack.run("python-data", code=code) for _ in range(3)]
    rolls, leftovers = zip(*(execution["stdout"].splitlines() for execution in executions), strict=True)
    assert set(leftovers) == {"[] ['inputs', 'main.py'] []"}
    columns = list(zip(*map(json.loads, rolls), strict=True))
    assert len(columns) == 7
    del columns[3]  # strings hash by a seed of the interpreter, which one image's containers need not share
    assert all(len(set(column)) == 3 for column in columns)

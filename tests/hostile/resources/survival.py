"""Programs that will not die, or leave something behind that continues."""

from __future__ import annotations

from tests.hostile.cases import HANGS, LIMITS, SPEAKS, attack, ended

THEME = "survival"
TIMED_OUT = ended("timed_out", "timeout")
IGNORE = """
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
"""
# In standard it may not lower the first process, which is an event, and has 250 busy children anyway.
STARVED = """
outcome(lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))
forget_children()
for _ in range(250):
    try:
        if os.fork() == 0: break
    except OSError: break
while True: pass
"""

attack(
    THEME,
    "deaf to every signal",
    IGNORE + "print('deaf', flush=True)\nwhile True: time.sleep(60)",
    limits=SPEAKS,
    **TIMED_OUT,
    stdout=("deaf",),
)
attack(
    THEME,
    "every signal blocked, also in threads",
    """
import threading
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
for _ in range(4): threading.Thread(target=lambda: time.sleep(60)).start()
print("blocked", flush=True)
""",
    limits=SPEAKS,
    **TIMED_OUT,
    stdout=("blocked",),
)
attack(THEME, "stops itself", "os.kill(os.getpid(), signal.SIGSTOP)", limits=HANGS, **TIMED_OUT)
attack(
    THEME,
    "its child stops it, and itself",
    """
if os.fork() == 0:
    os.setsid()
    os.kill(os.getppid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
signal.pause()
""",
    limits=HANGS,
    **TIMED_OUT,
)
attack(
    THEME,
    "a daemon by double fork",
    """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for end in (0, 1, 2): os.close(end)
        while True: time.sleep(60)
    os._exit(0)
os.wait()
print("gone")
""",
    stdout=("gone",),
)
attack(
    THEME,
    "a daemon that keeps the output open",
    IGNORE
    + """
if os.fork() == 0:
    os.setsid()
    while True: time.sleep(60)
print("gone")
""",
    stdout=("gone",),
)
attack(
    THEME,
    "a stopped daemon",
    """
child = os.fork()
if child == 0:
    os.setsid()
    os.kill(os.getpid(), signal.SIGSTOP)
os.waitpid(child, os.WUNTRACED)
print("gone")
""",
    stdout=("gone",),
)
attack(
    THEME,
    "a hydra: each that dies is born again",
    """
def grow():
    while True:
        if os.fork() == 0:
            os.setsid()
            continue
        os.wait()
for _ in range(6):
    if os.fork() == 0:
        try: grow()
        except OSError: grow()
time.sleep(0.2)
print("gone", flush=True)
os._exit(0)
""",
    stdout=("gone",),
    maybe="pids_limit",
)
attack(
    THEME,
    "a ring that forks and ends for ever",
    """
if os.fork() == 0:
    os.setsid()
    while True:
        if os.fork(): os._exit(0)
time.sleep(0.3)
print("gone")
""",
    stdout=("gone",),
)
attack(
    THEME,
    "executes itself for ever",
    "import sys\nos.execv('/usr/bin/python3', ['python3', '-S', '-E', '/inputs/main.py'])",
    limits={**HANGS, "cpu_seconds": 10},
    **TIMED_OUT,
)
attack(
    THEME,
    "a shell that traps everything",
    "trap '' HUP INT QUIT TERM TSTP TTIN TTOU XCPU XFSZ PIPE ALRM\nwhile :; do sleep 60; done",
    environment="bash",
    limits=HANGS,
    **TIMED_OUT,
)
attack(
    THEME,
    "node with a blocked loop and detached children",
    """
const { spawn } = require('child_process');
for (let n = 0; n < 3; n++)
  spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { detached: true, stdio: 'ignore' }).unref();
for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(name, () => {});
while (true);
""",
    environment="node",
    limits={**LIMITS, "wall_seconds": 2},
    **TIMED_OUT,
)
attack(
    THEME,
    "no end of atexit and of finalisers",
    """
import atexit, threading
atexit.register(time.sleep, 60)
class Undead:
    def __del__(self): time.sleep(60)
undead = Undead()
threading.Thread(target=lambda: time.sleep(60), daemon=False).start()
print("ending", flush=True)
""",
    limits=SPEAKS,
    **TIMED_OUT,
    stdout=("ending",),
)
attack(
    THEME,
    "an exit code that looks like the agent's own",
    "os._exit(125)",
    **ended("nonzero_exit", exit_code=125),
    aims_at="result",
)
attack(
    THEME,
    "an exit code that looks like a time-out",
    "os._exit(124)",
    **ended("nonzero_exit", exit_code=124),
    aims_at="result",
)
attack(
    THEME,
    "killed by its own hand, as if out of memory",
    "os.kill(os.getpid(), 9)",
    **ended("signalled", exit_code=137, signal="SIGKILL"),
    aims_at="result",
)
attack(
    THEME,
    "a crash that would dump core",
    """
import resource
attempt("limit", lambda: resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)))
print(probes, flush=True)
outcome(lambda: open("/proc/self/coredump_filter", "w").write("0xff"))
os.chdir("/output")
ctypes.string_at(0)
""",
    **ended("signalled", exit_code=139, signal="SIGSEGV"),
    stdout=("ValueError",),
    kept={},
    aims_at="files",
)
attack(
    THEME,
    "the death of everybody",
    """
children = [os.fork() for _ in range(3)]
if 0 in children: signal.pause()
os.kill(-1, signal.SIGKILL)
for child in children: os.waitpid(child, 0)
print("alone")
""",
    stdout=("alone",),
    aims_at="bystander",
)
attack(
    THEME,
    "250 busy children, and the first process behind them all",
    STARVED,
    limits={**HANGS, "cpu_seconds": 60, "cpu_cores": 0.1, "processes": 256},
    **TIMED_OUT,
    maybe="seccomp_violation",
)
attack(
    THEME,
    "250 busy children on all processors, and the first process behind them all",
    STARVED,
    limits={**HANGS, "cpu_seconds": 60, "cpu_cores": 2.0, "processes": 256},
    **TIMED_OUT,
    maybe="seccomp_violation",
)

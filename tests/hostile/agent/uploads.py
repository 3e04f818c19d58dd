"""Hostile environment variables, and files with special names."""

from __future__ import annotations

from tests.hostile.cases import HANGS, LIMITS, MIB, attack, ended

THEME = "uploads"
TAKEN = "print('taken over by', __name__)\n"
# Each module of the standard library or of the agent that a program of this name might come before.
NAMES = (
    "random.py", "site.py", "sitecustomize.py", "usercustomize.py", "agent.py", "artifacts.py", "execution.py",
    "channel.py", "program.py", "json.py",
    "os.py", "ctypes.py", "io.py", "encodings/__init__.py", "encodings/utf_8.py", "importlib/__init__.py", "select.py",
    "signal.py", "struct.py", "resource.py", "codecs.py", "types.py", "abc.py", "threading.py", "atexit.py",
)  # fmt: skip
ORDINARY = "import random, json, signal, struct\nprint('done')\n"

attack(
    THEME,
    "modules named as the standard library's",
    "print('done')\n",
    path="main.py",
    files=dict.fromkeys(NAMES, "import os\nos.write(2, b'taken over')\nos._exit(0) if os.getpid() == 1 else None\n"),
    stdout=("done",),
    absent=("taken over",),
    aims_at="result",
)
for one in ("random.py", "site.py", "sitecustomize.py", "agent.py", "program.py", "encodings/__init__.py"):
    attack(
        THEME,
        f"a module {one}",
        "import sys\nprint('done', sys.version_info[0])\n",
        path="main.py",
        files={one: TAKEN},
        stdout=("done 3",),
        absent=("taken over",) if one != "random.py" else (),
        aims_at="result",
    )
attack(
    THEME,
    "a preloaded library, and what else a loader listens to",
    "print('started')",
    files={"evil.so": b"\x7fELF\x02\x01\x01" + bytes(100), "gconv-modules": "module X// INTERNAL /inputs/evil 1\n"},
    env={
        "LD_PRELOAD": "/inputs/evil.so",
        "LD_LIBRARY_PATH": "/inputs",
        "LD_BIND_NOW": "1",
        "LD_DEBUG_OUTPUT": "/output/debug",
        "GCONV_PATH": "/inputs",
        "GLIBC_TUNABLES": "glibc.malloc.mxfast=glibc.malloc.mxfast=" + "A" * 3000,
        "LOCPATH": "/inputs",
        "MALLOC_PERTURB_": "165",
        "HOSTALIASES": "/inputs/x",
        "RESOLV_HOST_CONF": "/etc/shadow",
    },
    stdout=("started",),
    kept={},
)
attack(
    THEME,
    "an auditor for the loader",
    "print('started')",
    files={"evil.so": b"\x7fELF" + bytes(100)},
    env={"LD_AUDIT": "/inputs/evil.so", "LD_TRACE_LOADED_OBJECTS": "1"},
    state="succeeded",
    absent=("started",),
)
attack(
    THEME,
    "variables of Python",
    "print('done', json.__file__)",
    files={"json.py": TAKEN, "startup.py": TAKEN, "sitecustomize.py": TAKEN},
    env={
        "PYTHONPATH": "/inputs",
        "PYTHONSTARTUP": "/inputs/startup.py",
        "PYTHONINSPECT": "1",
        "PYTHONBREAKPOINT": "os.system",
        "PYTHONUSERBASE": "/inputs",
        "PYTHONWARNINGS": "error::x.y",
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": "/output",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPROFILEIMPORTTIME": "1",
    },
    stdout=("taken over by json",),
)
attack(
    THEME,
    "no home for Python",
    "print('never')",
    env={"PYTHONHOME": "/inputs"},
    state="failed",
    reason="nonzero_exit",
    absent=("never",),
)
attack(
    THEME,
    "variables of the shell",
    'echo "started $0"; f() { echo mine; }; f',
    environment="bash",
    files={"rc.sh": "echo taken over; exit 9"},
    env={
        "BASH_ENV": "/inputs/rc.sh",
        "ENV": "/inputs/rc.sh",
        "IFS": "/",
        "PS4": "$(echo >&2 x)",
        "SHELLOPTS": "xtrace",
        "PATH": "/inputs:/work",
        "CDPATH": "/",
        "BASHOPTS": "extglob",
        "PROMPT_COMMAND": "echo prompt",
    },
    state="failed",
    reason="nonzero_exit",
    exit_code=9,
    stdout=("taken over",),
)
attack(
    THEME,
    "variables of node",
    "console.log('started');",
    environment="node",
    files={
        "evil.js": "console.log('taken over');",
        "package.json": '{"main": "evil.js", "imports": {"#fs": "./evil.js"}}',
    },
    env={
        "NODE_OPTIONS": "--require /inputs/evil.js --inspect=0.0.0.0:9229",
        "NODE_PATH": "/inputs",
        "NODE_REPL_HISTORY": "/x",
    },
    state="succeeded",
    events="network_attempt",
    stdout=("taken over",),
    hardened={"events": ""},
    because="gVisor has a loopback to listen on, which no other sandbox reaches",
)
attack(
    THEME,
    "modules of node",
    "const fs = require('fs'); console.log(typeof fs.readFileSync, require('child_process').spawn.name);",
    environment="node",
    files={
        "node_modules/fs/index.js": "throw 1",
        "fs.js": "throw 1",
        ".npmrc": "x=y",
        "node_modules/.hooks/x.js": "throw 1",
    },
    stdout=("function spawn",),
)
attack(
    THEME,
    "variables of everything else",
    "print(os.environ['HOME'], os.environ['TMPDIR'], len(os.environ['X250']))",
    env={
        "HOME": "/proc/1/root",
        "TMPDIR": "/etc",
        "DOCKER_HOST": "unix:///var/run/docker.sock",
        "MAYFLY_STATE_DIR": "/",
        "MAYFLY_TOKEN": "forged",
        "REDIS_URL": "x",
        "LANG": "../../etc",
        "TZ": "/etc/shadow",
        "http_proxy": "http://192.0.2.1:1",
        **{f"X{number}": "y" * 4000 for number in range(240, 251)},
    },
    stdout=("/proc/1/root /etc 4000",),
    aims_at="containers",
)
attack(
    THEME,
    "bytecode that is not what it says",
    "import helper\nprint('done')\n",
    path="main.py",
    files={
        "helper.py": "print('from source')\n",
        "__pycache__/helper.cpython-311.pyc": b"\xa7\r\r\n\x01\x00\x00\x00" + bytes(8) + b"\xe3garbage",
        "__pycache__/main.cpython-311.pyc": b"\xa7\r\r\n" + bytes(100),
    },
    state="failed",
    reason="nonzero_exit",
)
attack(
    THEME,
    "files for a path configuration",
    "import sys\nprint('done', len(sys.path))\n",
    path="main.py",
    files={
        "evil.pth": "import os; os._exit(9)\n",
        "pyvenv.cfg": "home = /inputs\n",
        "python311._pth": ".\n",
        "python3": "#!x",
    },
    stdout=("done",),
)
attack(
    THEME,
    "a program whose name is an option",
    "print('ran')\n",
    path="-c",
    stdout=("ran",),
)
attack(
    THEME,
    "a program in a directory of odd names",
    "import sys\nprint('ran', sys.argv[0])\n",
    path="a b/$(id)/;rm -rf/'\"/x.py",
    stdout=("ran",),
)
attack(
    THEME,
    "source that is a bomb",
    "x = " + "(" * 5000 + ")" * 5000 + "\n",
    path="main.py",
    state="failed",
    reason="nonzero_exit",
)
attack(
    THEME,
    "a constant that never ends",
    "x = ((((10**9)**9)**9)**9)**9 if False else 0\nprint(10**10**8 > 0)\n",
    path="main.py",
    limits={**HANGS, "memory_bytes": 128 * MIB},
    **ended("timed_out", "timeout"),
)
attack(
    THEME,
    "C that includes itself and the devices",
    '#include "/dev/zero"\nint main(void) { return 0; }\n',
    environment="c",
    limits={**LIMITS, "wall_seconds": 3, "memory_bytes": 128 * MIB},
    **ended("compile_failed"),
)
attack(
    THEME,
    "C that grows while it is compiled",
    "#define A B B B B B B B B\n#define B C C C C C C C C\n#define C D D D D D D D D\n#define D E E E E E E E E\n"
    "#define E F F F F F F F F\n#define F G G G G G G G G\n#define G H H H H H H H H\n#define H 1+1+1+1+1+1+1+1+\n"
    "int x = A 0;\nint main(void) { return x; }\n",
    environment="c",
    limits={**LIMITS, "memory_bytes": 128 * MIB},
    **ended("oom_killed", "oom_killed"),
)

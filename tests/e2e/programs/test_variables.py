"""A program that is given a variable behaves as the same program with that variable does anywhere else.

Programs run in interpreters that started before they were known, so what an interpreter reads at its start has come
too late for some; those must get a new one. What each row is compared with is the same program in the same image,
executed by its command (``plain``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.harness import ROOT, Stack

PYTHON_LOOK = r"""
import sys
seen = [sys.path, repr(sys.flags), sys.warnoptions, sys.pycache_prefix, sys.dont_write_bytecode, sys.platlibdir]
seen += [(s.name, s.encoding, s.errors, s.line_buffering, s.write_through) for s in (sys.stdin, sys.stdout, sys.stderr)]
seen += [sys.getfilesystemencoding(), sys.orig_argv, sys.get_int_max_str_digits(), sys.breakpointhook.__name__]
import faulthandler, locale, os, site, tempfile, time, tracemalloc, warnings
seen += [faulthandler.is_enabled(), tracemalloc.is_tracing(), [repr(one) for one in warnings.filters]]
seen += [locale.setlocale(locale.LC_CTYPE), locale.getpreferredencoding(), time.tzname, time.localtime(0).tm_hour]
seen += [site.ENABLE_USER_SITE, site.getuserbase(), os.path.expanduser("~"), tempfile.gettempdir()]
seen += [__debug__, (lambda: 0).__doc__, hash("seed") if "PYTHONHASHSEED" in os.environ else None]
try:
    import extra
    seen.append(extra.__file__)
except ImportError as error:
    seen.append(str(error))
import json
seen += [json.__file__, sorted(os.environ.items())]
for one in seen:
    print(one)
"a warning".isdigit() is 1 and print()
print("after", file=sys.stderr)
if os.environ.get("PYTHONBREAKPOINT"):
    breakpoint()
for place in ("/tmp", "/work"):
    print(sorted(os.path.relpath(os.path.join(at, name), place) for at, _, names in os.walk(place) for name in names))
sys.exit(3)
"""
NODE_LOOK = r"""
const { Module } = require('module'), os = require('os'), fs = require('fs');
const look = [process.env, process.execArgv, process.argv, process.title, Module.globalPaths, os.tmpdir()];
look.push(os.homedir(), new Date(0).getHours(), Intl.DateTimeFormat().resolvedOptions(), (1234.5).toLocaleString());
look.push(process.noDeprecation, process.traceDeprecation, process.throwDeprecation, Error.stackTraceLimit);
look.push(require('v8').getHeapStatistics().heap_size_limit, process.stdout.hasColors?.(), globalThis.hooked);
try { look.push(require('extra').name) } catch (error) { look.push(error.code) }
process.emitWarning('watch out');
process.on('exit', () => console.log(fs.readdirSync('/work').sort(), fs.readdirSync('/tmp').length));
console.log(require('util').inspect(look, { depth: 9, maxArrayLength: null }));
process.exitCode = 3;
"""
DATA_LOOK = r"""
import os
import numpy, pandas
print(numpy.core._multiarray_umath.__cpu_features__, pandas.get_option("mode.copy_on_write"))
print(sorted(os.environ.items()))
"""
PYTHON_FILES = {
    "lib/extra.py": "",
    "lib/json.py": "",
    "home/.local/lib/python3.11/site-packages/extra.py": "",
    "startup.py": "print('from PYTHONSTARTUP')",
    "breaks.py": "def now(): print('broke')",
}
NODE_FILES = {
    "lib/extra.js": "exports.name = 'lib'",
    "home/.node_modules/extra.js": "exports.name = 'home'",
    "hook.js": "globalThis.hooked = process.argv.length",
    "openssl.cnf": "[x]\n",
}
EVERYBODYS = {
    "HOME": "/work/home",
    "IFS": "x",
    "LANG": "C",
    "LANGUAGE": "de",
    "LC_ALL": "POSIX",
    "LC_CTYPE": "en_US.ISO-8859-1",
    "LD_AUDIT": "/work/none.so",
    "LD_BIND_NOW": "1",
    "LD_DEBUG": "help",
    "LD_LIBRARY_PATH": "/work/lib",
    "LD_PRELOAD": "/work/none.so",
    "GCONV_PATH": "/work",
    "GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.nothing=1",
    "LOCPATH": "/work",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_PERTURB_": "7",
    "NLSPATH": "/work/%N",
    "PATH": "/work",
    "TMPDIR": "/work/home",
    "TZ": "/etc/passwd",
    "TZDIR": "/work",
    "EMPTY": "",
    "UNUSUAL": "=\n\t'\"$(touch /tmp/x)\u202e\U0001f600",
    "LONG": "x" * 4096,
}
PYTHONS = {
    "LD_DEBUG ": "libs",
    "PYTHONASYNCIODEBUG": "1",
    "PYTHONBREAKPOINT": "breaks.now",
    "PYTHONCASEOK": "1",
    "PYTHONCOERCECLOCALE": "warn",
    "PYTHONDEBUG": "1",
    "PYTHONDEVMODE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONHASHSEED": "7",
    "PYTHONHASHSEED ": "seven",
    "PYTHONHOME": "/work",
    "PYTHONINSPECT": "1",
    "PYTHONINTMAXSTRDIGITS": "700",
    "PYTHONIOENCODING": "latin-1:replace",
    "PYTHONMALLOC": "debug",
    "PYTHONMALLOC ": "malloc",
    "PYTHONNODEBUGRANGES": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONPATH": "/work/lib:relative",
    "PYTHONPLATLIBDIR": "lib64",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONPYCACHEPREFIX": "/tmp/cache",
    "PYTHONSAFEPATH": "1",
    "PYTHONSTARTUP": "/work/startup.py",
    "PYTHONTRACEMALLOC": "3",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUSERBASE": "/work/home/.local",
    "PYTHONUTF8": "0",
    "PYTHONVERBOSE": "1",
    "PYTHONWARNDEFAULTENCODING": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONWARNINGS ": "always,ignore::SyntaxWarning",
}
NODES = {
    "FORCE_COLOR": "3",
    "NO_COLOR": "1",
    "NODE_DISABLE_COLORS": "1",
    "NODE_EXTRA_CA_CERTS": "/work/none.pem",
    "NODE_NO_WARNINGS": "1",
    "NODE_OPTIONS": "--require /work/hook.js --stack-trace-limit=3 --title=x",
    "NODE_OPTIONS ": "--max-old-space-size=64",
    "NODE_OPTIONS  ": "--nothing-like-it",
    "NODE_PATH": "/work/lib",
    "NODE_PENDING_DEPRECATION": "1",
    "NODE_REDIRECT_WARNINGS": "/work/warnings",
    "NODE_SKIP_PLATFORM_CHECK": "1",
    "NODE_V8_COVERAGE": "/tmp/coverage",
    "OPENSSL_CONF": "/work/openssl.cnf",
    "SSL_CERT_DIR": "/work",
    "SSL_CERT_FILE": "/work/none.pem",
    "UV_THREADPOOL_SIZE": "1",
}
DATAS = {
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_CORETYPE": "Nehalem",
    "PANDAS_COPY_ON_WRITE": "1",
}
PROGRAMS: dict[str, tuple[str, str, dict[str, str]]] = {
    "python": ("main.py", PYTHON_LOOK, PYTHON_FILES),
    "node": ("main.js", NODE_LOOK, NODE_FILES),
    "python-data": ("main.py", DATA_LOOK, {}),
}
ROWS = [
    *[("python", name, value) for name, value in {**EVERYBODYS, **PYTHONS}.items()],
    *[("node", name, value) for name, value in {**EVERYBODYS, **NODES}.items()],
    *[("python-data", name, value) for name, value in DATAS.items()],
]
# Process ids and addresses differ from run to run. The dynamic linker pads its process id with spaces, whose number
# differs, too.
PASSING = re.compile(r"^ *\d{1,7}:(?=\t)|0x[0-9a-f]+|\b\d{1,6}:|\(node:\d+\)|import time: .*", re.MULTILINE)


@pytest.fixture(scope="module")
def both(images: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Stack]]:
    """An installation as it is delivered, and one that executes each program by its command."""
    declared = tmp_path_factory.mktemp("environments")
    for name in PROGRAMS:
        lines = (ROOT / "sandbox_image" / "environments" / f"{name}.toml").read_text().splitlines()
        kept = [line for line in lines if not line.startswith(("fork = ", "spawn = "))]
        assert len(kept) == len(lines) - 1
        (declared / f"{name}.toml").write_text("\n".join(kept) + "\n")
    usual = Stack(tmp_path_factory.mktemp("usual"), pool_size=0, pool_sizes={"python": 2, "node": 2}, pool_max=0)
    plain = Stack(tmp_path_factory.mktemp("plain"), pool_size=0, environments_dirs=[str(declared)])
    try:
        yield usual.start(), plain.start()
    finally:
        usual.stop()
        plain.stop()


def body(environment: str, env: dict[str, str]) -> dict[str, Any]:
    file_name, code, files = PROGRAMS[environment]
    inputs = [{"path": path, "content": text} for path, text in {file_name: code, **files}.items()]
    return {
        "environment": environment, "files": inputs, "entrypoint": file_name, "args": ["a"], "env": env,
        "stdin": "print('from stdin')\n", "limits": {"wall_seconds": 30, "cpu_seconds": 30}, "artifacts": [],
    }  # fmt: skip


def shown(execution: dict[str, Any]) -> dict[str, Any]:
    """All that a client sees of a run but times, ids and sizes; with output as lines, to be compared one by one."""
    kept = ("state", "reason", "fault", "exit_code", "signal", "security_events", "attempt")
    streams = {name: PASSING.sub("N", execution[name]).splitlines() for name in ("stdout", "stderr")}
    return {**{name: execution[name] for name in kept}, **streams}


@pytest.fixture(scope="module")
def compared(both: tuple[Stack, Stack]) -> Callable[[str, dict[str, str]], tuple[dict[str, Any], dict[str, Any]]]:
    def compare(environment: str, env: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
        with ThreadPoolExecutor(2) as threads:
            usual, plain = threads.map(lambda stack: stack.run(**body(environment, env)), both)
        return shown(usual), shown(plain)

    return compare


Compared = Callable[[str, dict[str, str]], tuple[dict[str, Any], dict[str, Any]]]


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("        10:\tfind library=libm.so.6 [0]; searching", True),
        ("   1234567:\tfind library=libm.so.6 [0]; searching", True),
        ("         9:\t find library=libm.so.6 [0]; searching", False),
        ("         9:\tfind library=libz.so.1 [0]; searching", False),
        ("find library=libm.so.6 [0]; searching", False),
    ],
)
def test_only_the_process_id_of_a_linker_s_line_is_passing(line: str, same: bool) -> None:
    usual = "         9:\tfind library=libm.so.6 [0]; searching"
    assert (PASSING.sub("N", line) == PASSING.sub("N", usual)) is same


@pytest.mark.parametrize(("environment", "name", "value"), ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
def test_environment_variable_has_its_usual_effect(compared: Compared, environment: str, name: str, value: str) -> None:
    usual, plain = compared(environment, {name.strip(): value})
    assert usual == plain

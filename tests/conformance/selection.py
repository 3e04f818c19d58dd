"""The selected tests of each suite. A group is one execution."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

TIERS = ("standard", "hardened")
LIMITS = {
    "wall_seconds": 300, "cpu_seconds": 600, "cpu_cores": 2.0, "memory_bytes": 2 * 2**30, "processes": 256,
    "disk_bytes": 512 * 2**20,
}  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Tests that run together.

    ``what`` are CPython's test modules, or files and directories for pytest; a suite without it is run whole.
    ``always`` names the tiers in which the group belongs to every run of the tests, ``never`` those that do not run it;
    elsewhere it is for ``make conformance``. ``least_passed`` guards against a run that finds nothing to do.
    """

    environment: str
    what: tuple[str, ...]
    least_passed: int
    always: tuple[str, ...] = TIERS
    never: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def holds(self, test: str) -> bool:
        """Whether a test, by its id, belongs to this group."""
        place = re.split(r" |::", test)[0]
        return not self.what or any(place == one or place.startswith(f"{one}/") for one in self.what)


def _python(names: str, least_passed: int, *always: str) -> Group:
    return Group("python", tuple(f"test_{name}" for name in names.split()), least_passed, always)


def _data(paths: str, least_passed: int, *always: str) -> Group:
    marked = ("-m", "not slow and not network and not single_cpu")
    return Group("python-data", tuple(paths.split()), least_passed, always, options=marked)


GROUPS = {
    "python-files": _python(
        "dbm_dumb file fileio genericpath getpass glob gzip largefile mmap pathlib posixpath shelve shutil stat "
        "tempfile zipapp zipfile zlib",
        1000, "standard",
    ),
    "python-system": _python(
        "ctypes errno faulthandler fcntl gc grp ioctl locale openpty os platform posix pty pwd resource site "
        "sysconfig time uuid",
        1000, "standard",
    ),
    "python-processes": _python(
        "fork1 pipes popen queue sched signal subprocess thread threadedtempfile threading threading_local "
        "threadsignals wait3 wait4",
        600, "standard",
    ),
    "python-events": _python(
        "asyncio.test_locks asyncio.test_queues asyncio.test_runners asyncio.test_subprocess asyncio.test_taskgroups "
        "asyncio.test_threads asyncio.test_unix_events epoll poll select selectors",
        400, "standard",
    ),
    "python-library": _python(
        "base64 binascii context csv hashlib hmac json secrets struct traceback urllib urlparse zoneinfo",
        1000, "standard",
    ),
    # Pure computation, of which no wall and no limit changes anything; numpy-core and pandas-core are that, too.
    "python-computation": _python(
        "array calendar cmath collections copy fractions heapq itertools math memoryview pickle re textwrap "
        "unicodedata weakref",
        2500,
    ),
    "python-hardened": replace(
        _python("fileio fork1 json mmap poll select struct thread time", 300, "hardened"),
        never=("standard",),  # which has them in the groups above
    ),
    "python-pools": _python("concurrent_futures", 200),
    # In gVisor it takes more than 2 GiB.
    "python-multiprocessing": replace(
        _python("multiprocessing_fork multiprocessing_main_handling", 200), never=("hardened",)
    ),
    "python-asyncio": _python("asyncio.test_futures asyncio.test_streams asyncio.test_tasks", 800),
    "python-builtins": _python(
        "argparse atexit builtin cmd_line codecs compile datetime decimal difflib email exceptions float fstring "
        "inspect long marshal random statistics string types typing unicode xml_etree",
        5000,
    ),
    "python-io": _python("importlib io logging mailbox runpy sys tarfile timeit venv zipimport", 2000),
    "numpy-files": _data(
        "numpy/core/tests/test_memmap.py numpy/fft numpy/lib/tests/test_io.py", 300, "standard", "hardened"
    ),
    "numpy-core": _data(
        "numpy/core/tests/test_numeric.py numpy/linalg numpy/random/tests/test_generator_mt19937.py", 1000
    ),
    "pandas-files": _data("pandas/tests/io/test_common.py pandas/tests/io/test_pickle.py", 100, "standard", "hardened"),
    "pandas-core": _data("pandas/tests/series/methods pandas/tests/reshape/merge", 1000),
    "node": Group("node", (), 38),
}  # fmt: skip

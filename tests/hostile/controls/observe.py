"""Functions for the probes of ``table.py``. Runs inside the sandbox, in front of the probe."""

import contextlib
import ctypes
import json
import mmap
import os
import resource
import signal
import socket  # noqa: F401 - for probes
import sys

libc = ctypes.CDLL(None, use_errno=True)
WRITABLE = ("/work", "/tmp", "/output")


def error_of(action):
    """The error's number, 0 for none."""
    try:
        action()
    except OSError as error:
        return error.errno
    return 0


def call(number, *arguments):
    """A system call's error, 0 for none."""
    wide = (ctypes.c_ulong(one & 2**64 - 1) for one in arguments)
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *wide) == -1 else 0


def int80(number):
    """The answer of the 32-bit entry."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("53 89f8 cd80 5b c3"))
    return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))(number)


def create(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


def text(path):
    with open(path, errors="replace") as file:
        return file.read().strip()


def status(field):
    return dict(line.split(":", 1) for line in text("/proc/self/status").splitlines())[field].strip()


def flag(path, name):
    return bool(os.statvfs(path).f_flag & getattr(os, f"ST_{name}"))


def everywhere(test):
    return {path: test(path) for path in WRITABLE}


def fills(path, most):
    """How many bytes go into files there, at most as many as that."""
    written = 0
    names = []
    with contextlib.suppress(OSError):
        while written < most:
            names.append(f"{path}/fill{len(names)}")
            with open(names[-1], "wb", buffering=0) as file:
                written += file.write(b"x" * 65536)
    for name in names:
        os.unlink(name)
    return written


def taken(path):
    """How many bytes the file system there has in use."""
    about = os.statvfs(path)
    return (about.f_blocks - about.f_bfree) * about.f_frsize


def files(path, most):
    """How many files can be made there."""
    names = [f"{path}/{number}" for number in range(most)]
    made = []
    with contextlib.suppress(OSError):
        for name in names:
            create(name)
            made.append(name)
    for name in made:
        os.unlink(name)
    return len(made)


def executes(path):
    """The error of executing a file there."""
    program = f"{path}/program"
    with open(program, "w") as file:
        file.write("#!/usr/bin/python3 -IS\n")
    os.chmod(program, 0o755)
    if (child := os.fork()) == 0:
        os._exit(error_of(lambda: os.execv(program, [program])))
    error = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.unlink(program)
    return error


def processes(most):
    """How many children there can be at a time."""
    reading, writing = os.pipe()
    children = []
    with contextlib.suppress(OSError):
        while len(children) < most:
            if (child := os.fork()) == 0:
                os.close(writing)
                os.read(reading, 1)  # until the parent is through
                os._exit(0)
            children.append(child)
    os.close(writing)
    for child in children:
        os.waitpid(child, 0)
    return len(children)


def descriptors(most):
    found = []
    with contextlib.suppress(OSError):
        while len(found) < most:
            found.append(os.open("/dev/null", os.O_RDONLY))
    for one in found:
        os.close(one)
    return len(found)


def masked(path):
    """Whether the path is masked: the null device, or an empty directory without write permission."""
    if os.path.isdir(path):
        return os.path.ismount(path) and flag(path, "RDONLY") and not os.listdir(path)
    return os.stat(path).st_rdev == os.makedev(1, 3)


def of_agent(name):
    """The hard limit of the process that the container started with."""
    (line,) = (line for line in text("/proc/1/limits").splitlines() if line.startswith(name))
    return line.removeprefix(name).split()[1]


def limit(name):
    return resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]


def first_of(*paths):
    """The content of the first that exists: cgroup v2 and v1 name their files differently."""
    return next(text(path) for path in paths if os.path.exists(path))


def reread():
    """How many bytes come from the disk for a file of the image that was read, dropped, and read once more."""

    def from_disk():
        before = int(text("/proc/self/io").partition("\nread_bytes: ")[2].split()[0])
        while os.read(file, 2**20):
            pass
        os.lseek(file, 0, 0)
        return int(text("/proc/self/io").partition("\nread_bytes: ")[2].split()[0]) - before

    library = max((entry.path for entry in os.scandir("/usr/bin") if entry.is_file()), key=os.path.getsize)
    file = os.open(library, os.O_RDONLY)
    from_disk()
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    return from_disk()


def outcome(probe):
    """The result of the probe in a child of its own: an exception as ``[class, text]``, or ``["signal", number]``."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            value = eval(probe)
        except Exception as error:
            value = [type(error).__name__, str(error)]
        os.write(writing, json.dumps(value).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        printed = pipe.read()
    _, ended = os.waitpid(child, 0)
    return ["signal", os.WTERMSIG(ended)] if os.WIFSIGNALED(ended) else json.loads(printed)


print(json.dumps([outcome(probe) for probe in PROBES]), flush=True)  # noqa: F821 - put in front of this file
sys.exit(0)

"""The figures of its host and of other sandboxes that a program of the standard tier sees: exactly SECURITY.md's."""

from __future__ import annotations

import json
import re

import pytest

from tests.builders.tier import Tier
from tests.harness import ROOT, eventually
from tests.hostile.census_rows import FILES
from tests.selection import ways

PAGE = 4096
INPUT_BYTES = 4 * 2**20
# Files of the kernel that are the same for all, and change at most with the host's hardware.
CONSTANT = frozenset(
    {"cmdline", "consoles", "cpuinfo", "crypto", "devices", "dma", "execdomains", "fb", "filesystems", "iomem"}
    | {"ioports", "mdstat", "misc", "mtrr", "partitions", "version"}
)
READABLE = """
import json, os, stat, time
def net():
    found = {}
    for directory, _, files in os.walk("/proc/self/net"):
        for path in (f"{directory}/{name}" for name in files):
            try: found[path] = open(path, "rb").read()
            except OSError: pass
    return found
def writable():
    for top in ("/proc", "/sys", "/proc/self/"):
        for directory, directories, files in os.walk(top):
            skipped = ("task", "fd", "map_files")
            directories[:] = [one for one in directories if not one.isdigit() and one not in skipped]
            for path in (os.path.join(directory, name) for name in files):
                try:
                    if stat.S_ISREG(os.lstat(path).st_mode):
                        os.close(os.open(path, os.O_WRONLY))
                        yield path
                except OSError: pass
names, before = [], net()
for name in os.listdir("/proc"):
    path = f"/proc/{name}"
    if os.path.isfile(path) and not os.path.islink(path):
        try:
            names += [name] if open(path, "rb").read(100) else []
        except OSError:
            pass
time.sleep(1)
changed = [path.removeprefix("/proc/self/net/") for path, content in net().items() if content != before[path]]
print(json.dumps([names, open("/proc/loadavg").read().split()[3].split("/")[1], changed, sorted(writable())]))
"""
WATCH = f"""
import os
least = most = os.statvfs("/inputs").f_bfree
print("watching", flush=True)
while most - least < {INPUT_BYTES // PAGE}:
    free = os.statvfs("/inputs").f_bfree
    least, most = min(least, free), max(most, free)
print(os.listdir("/inputs"))
"""

# A page of a file of the image that no other program maps, and a call that waits there, or wakes who waits.
PAGE_OF_THE_IMAGE = """
import ctypes, os, platform, struct, sys, time
def numbers(count):  # of event descriptors, the lowest that the host has left
    made = [os.eventfd(0) for _ in range(count)]
    return [int(open(f"/proc/self/fdinfo/{one}").read().partition("eventfd-id:")[2].split()[0]) for one in made]
directory = next(path for path in sys.path if path.endswith("lib-dynload"))
file = os.open(f"{directory}/{max(os.listdir(directory))}", os.O_RDONLY)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
page = libc.mmap(None, 4096, 1, 1, file, 0)
word = ctypes.c_uint.from_address(page)
word.value
FUTEX = {"x86_64": 202, "aarch64": 98}[platform.machine()]
def futex(operation, value):
    return libc.syscall(ctypes.c_long(FUTEX), ctypes.c_void_p(page), operation, ctypes.c_uint(value), None, None, 0)
"""
FIND_OTHERS = f"""{PAGE_OF_THE_IMAGE}
first, = numbers(1)
pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
def is_exclusive():
    return struct.unpack("Q", os.pread(pagemap, 8, page // {PAGE} * 8))[0] >> 56 & 1
print("alone", is_exclusive(), flush=True)
while is_exclusive(): time.sleep(0.001)
print("mapped by another", flush=True)
print("event descriptors of another", max(numbers(50)) - first > 150)
while not futex(1, 1): time.sleep(0.001)
print("woke another")
"""
WAIT_THERE = (
    PAGE_OF_THE_IMAGE.replace("file = os.open", "numbers(200)\nfile = os.open") + "print('woken', futex(0, word.value))"
)


def documented() -> set[str]:
    """The files with figures of the whole host that SECURITY.md names."""
    text = (ROOT / "SECURITY.md").read_text()
    (bullet,) = re.findall(r"^- Protection from side channels.*?(?=^- )", text, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`/proc/([\w/]+)`", bullet))


@pytest.mark.parametrize("tier", ways("oci-crun"), indirect=True)
def test_files_with_figures_of_the_whole_host_are_those_that_are_documented(tier: Tier) -> None:
    names, threads, changed, writable = json.loads(tier.run(code=READABLE)["stdout"])
    assert {f"net/{name}" for name in changed} <= documented()
    listed = {name.removeprefix("/proc/self/") for names, _ in FILES for name in re.findall(r"[\w/]+", names)}
    found = {re.sub("^attr/.*", "attr/", path.removeprefix("/proc/self/")) for path in writable}
    assert {"comm", "mem"} <= found <= listed
    assert {"loadavg", "stat"} <= set(names) - CONSTANT <= documented()
    assert int(threads) > 20, "the number of threads is the host's, and no mask hides it"


@pytest.mark.parametrize("tier", ways("oci-runsc"), indirect=True)
def test_figures_of_a_hardened_sandbox_are_its_own(tier: Tier) -> None:
    _, threads, *_ = json.loads(tier.run(code=READABLE)["stdout"])
    assert int(threads) < 20


@pytest.mark.parametrize("tier", ways("oci-crun"), indirect=True)
def test_neighbours_inputs_show_by_their_size_alone(tier: Tier) -> None:
    """All sandboxes' inputs lie on one file system, whose free space each of them can read."""
    limits = {"wall_seconds": 60, "cpu_seconds": 60}
    id = tier.stack.submit(environment="python", code=WATCH, limits=limits).json()["id"]
    eventually(lambda: "watching" in (tier.stack.show(id)["stdout"] or ""), "the first program looks")
    secret = [{"path": "secret", "content": "x" * INPUT_BYTES}]
    assert tier.run(code="print(1)", files=secret)["state"] == "succeeded"
    seen = tier.stack.ended(id)
    assert (seen["state"], seen["stdout"]) == ("succeeded", "watching\n['main.py']\n")


@pytest.mark.parametrize("tier", ways("oci-crun"), indirect=True)
def test_pages_of_the_image_show_other_sandboxes(tier: Tier) -> None:
    """All sandboxes map the same pages: their number, and threads that wait there, are the kernel's for all.

    So are the numbers of event descriptors.
    """
    limits = {"wall_seconds": 60, "cpu_seconds": 60}
    id = tier.stack.submit(environment="python", code=FIND_OTHERS, limits=limits).json()["id"]
    eventually(lambda: "alone 1" in (tier.stack.show(id)["stdout"] or ""), "the first program has mapped the page")
    assert tier.run(code=WAIT_THERE, limits=limits)["stdout"] == "woken 0\n"
    seen = tier.stack.ended(id)
    others = "mapped by another\nevent descriptors of another True\nwoke another\n"
    assert (seen["state"], seen["stdout"]) == ("succeeded", f"alone 1\n{others}")

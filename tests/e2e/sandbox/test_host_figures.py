"""The figures of its host and of other sandboxes that a program of the standard tier sees: exactly SECURITY.md's."""

from __future__ import annotations

import json
import re

import pytest

from tests.builders.tier import Tier
from tests.harness import ROOT, eventually

PAGE = 4096
INPUT_BYTES = 4 * 2**20
# Files of the kernel that are the same for all, and change at most with the host's hardware.
CONSTANT = frozenset(
    {"cmdline", "consoles", "cpuinfo", "crypto", "devices", "dma", "execdomains", "fb", "filesystems", "iomem"}
    | {"ioports", "mdstat", "misc", "mtrr", "partitions", "version"}
)
READABLE = """
import json, os
names = []
for name in os.listdir("/proc"):
    path = f"/proc/{name}"
    if os.path.isfile(path) and not os.path.islink(path):
        try:
            names += [name] if open(path, "rb").read(100) else []
        except OSError:
            pass
print(json.dumps([names, open("/proc/loadavg").read().split()[3].split("/")[1]]))
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
pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
def is_exclusive():
    return struct.unpack("Q", os.pread(pagemap, 8, page // {PAGE} * 8))[0] >> 56 & 1
print("alone", is_exclusive(), flush=True)
while is_exclusive(): time.sleep(0.001)
print("mapped by another", flush=True)
while not futex(1, 1): time.sleep(0.001)
print("woke another")
"""
WAIT_THERE = f"{PAGE_OF_THE_IMAGE}\nprint('woken', futex(0, word.value))"


def documented() -> set[str]:
    """The files with figures of the whole host that SECURITY.md names."""
    text = (ROOT / "SECURITY.md").read_text()
    (bullet,) = re.findall(r"^- Protection from side channels.*?(?=^- )", text, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`/proc/(\w+)`", bullet))


@pytest.mark.parametrize("tier", ["oci-crun"], indirect=True)
def test_files_with_figures_of_the_whole_host_are_those_that_are_documented(tier: Tier) -> None:
    names, threads = json.loads(tier.run(code=READABLE)["stdout"])
    assert {"loadavg", "stat"} <= set(names) - CONSTANT <= documented()
    assert int(threads) > 20, "the number of threads is the host's, and no mask hides it"


@pytest.mark.parametrize("tier", ["oci-runsc"], indirect=True)
def test_figures_of_a_hardened_sandbox_are_its_own(tier: Tier) -> None:
    _, threads = json.loads(tier.run(code=READABLE)["stdout"])
    assert int(threads) < 20


@pytest.mark.parametrize("tier", ["oci-crun"], indirect=True)
def test_neighbours_inputs_show_by_their_size_alone(tier: Tier) -> None:
    """All sandboxes' inputs lie on one file system, whose free space each of them can read."""
    limits = {"wall_seconds": 60, "cpu_seconds": 60}
    id = tier.stack.submit(environment="python", code=WATCH, limits=limits).json()["id"]
    eventually(lambda: "watching" in (tier.stack.show(id)["stdout"] or ""), "the first program looks", 30)
    secret = [{"path": "secret", "content": "x" * INPUT_BYTES}]
    assert tier.run(code="print(1)", files=secret)["state"] == "succeeded"
    seen = tier.stack.show(id, wait=60)
    assert (seen["state"], seen["stdout"]) == ("succeeded", "watching\n['main.py']\n")


@pytest.mark.parametrize("tier", ["oci-crun"], indirect=True)
def test_pages_of_the_image_show_other_sandboxes(tier: Tier) -> None:
    """All sandboxes map the same pages: their number, and threads that wait there, are the kernel's for all."""
    limits = {"wall_seconds": 60, "cpu_seconds": 60}
    id = tier.stack.submit(environment="python", code=FIND_OTHERS, limits=limits).json()["id"]
    eventually(lambda: "alone 1" in (tier.stack.show(id)["stdout"] or ""), "the first program has mapped the page", 30)
    assert tier.run(code=WAIT_THERE, limits=limits)["stdout"] == "woken 0\n"
    seen = tier.stack.show(id, wait=30)
    assert (seen["state"], seen["stdout"]) == ("succeeded", "alone 1\nmapped by another\nwoke another\n")

"""Ordinary expectations of programs are met in a sandbox, with every driver and runtime."""

from __future__ import annotations

import errno
import json
import platform

from tests.builders.tier import Tier
from worker.sandbox.answers import ANSWERS
from worker.sandbox.syscalls import number_of

FILES = r"""
echo a > f; install -m 755 f g; echo $?; find g -printf "%m\n"
cp -p f h && cp -a f i && sed -i s/a/b/ f && mv f /output/; echo $?
ls /output; ls -l > listing; echo $?; stat -c %a g; ls nope; echo $?
TZ=America/New_York date -d @1720000000 "+%T %Z"
"""
RUNNABLE = r"""
printf '#!/usr/bin/bash\necho ran\n' > s.sh; chmod +x s.sh
for place in /work /tmp /output /dev/shm; do
    cp /work/s.sh $place/t.sh; $place/t.sh > out 2> err; echo $place $? "$(cat out)"
done
"""
ANSWERED = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
open("/work/f", "w").close()
found = {}
for name, number in json.loads(sys.argv[1]).items():
    failed = libc.syscall(ctypes.c_long(number), b"/work/f", b"user.x", b"x", 1, 0, 0) == -1
    found[name] = ctypes.get_errno() if failed else 0
print(json.dumps(found))
"""
RENAMED = """
import ctypes, errno, json, os, pathlib
os.chdir("/work")
def outcome(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]
found = {}
pathlib.Path("x").write_text("new" * 100_000)
os.chmod("x", 0o640)
os.utime("x", (10, 20))
pathlib.Path("/output/x").write_text("old")
found["file"] = outcome(lambda: os.rename("x", "/output/x"))
about = os.stat("/output/x")
found["moved"] = [oct(about.st_mode), about.st_mtime, about.st_size, os.path.exists("x")]
pathlib.Path("y").write_text("y")
found["by descriptor"] = outcome(lambda: os.replace("y", "y", dst_dir_fd=os.open("/output", os.O_RDONLY)))
found["missing"] = outcome(lambda: os.rename("nothing", "/output/z"))
os.mkdir("d")
found["directory"] = outcome(lambda: os.rename("d", "/output/d"))
os.symlink("nowhere", "l")
found["link"] = outcome(lambda: os.rename("l", "/output/l"))
pathlib.Path("big").write_bytes(b"x" * (3 << 20))
pathlib.Path("/output/filler").write_bytes(b"x" * (3 << 20))
found["no room"] = outcome(lambda: os.rename("big", "/output/big"))
found["kept"] = [os.path.getsize("big"), os.path.exists("/output/big")]
os.remove("/output/filler")
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(int(os.environ["RENAME"]), -100, b"big", -100, b"/output/big")
found["without the library"] = errno.errorcode[ctypes.get_errno()]
print(json.dumps(found))
"""
RENAMED_BY_NODE = """
const fs = require('fs')
fs.writeFileSync('a', 'A')
fs.renameSync('a', '/output/a')
console.log(fs.readFileSync('/output/a', 'utf8'))
"""
INTERFACES = """
import socket, uuid
print(uuid.uuid1().version)
try:
    socket.if_nameindex()
except OSError:
    pass
"""
SEND = """
import socket
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 9))
except OSError:
    pass
"""
SHARED = """
from multiprocessing.shared_memory import SharedMemory
for size in (32 << 20, 200 << 20):
    shared = SharedMemory(create=True, size=size)
    for at in range(0, size, 1 << 20):
        shared.buf[at : at + (1 << 20)] = b"x" * (1 << 20)
    print(size)
    shared.close()
    shared.unlink()
"""
FULL = """
import mmap
size = {size} << 20
with open("{path}", "w+b") as file:
    file.truncate(size)
    for at in range(0, size, 16 << 20):
        with mmap.mmap(file.fileno(), 16 << 20, offset=at) as piece:
            piece.write(b"x" * (16 << 20))
print("all")
"""
LIMITS = {"wall_seconds": 60, "cpu_seconds": 60}


def test_files_are_copied_moved_and_listed_without_noise(tier: Tier) -> None:
    done = tier.run("bash", code=FILES, limits=LIMITS)
    assert done["stdout"].splitlines() == ["0", "755", "0", "f", "0", "755", "2", "05:46:40 EDT"]
    assert done["stderr"].splitlines() == ["ls: cannot access 'nope': No such file or directory"]
    assert "f" in [artifact["path"] for artifact in done["artifacts"]]
    assert done["security_events"] == 0


def test_a_file_is_renamed_into_output(tier: Tier) -> None:
    number = str(number_of("renameat", platform.machine()))
    limits = {**LIMITS, "disk_bytes": 5 << 20}
    done = tier.run("python", code=RENAMED, env={"RENAME": number}, limits=limits)
    assert json.loads(done["stdout"]) == {
        "file": None,
        "moved": ["0o100640", 20, 300_000, False],
        "by descriptor": None,
        "missing": "ENOENT",
        "directory": "EXDEV",
        "link": "EXDEV",
        "no room": "ENOSPC",
        "kept": [3 << 20, False],
        "without the library": "EXDEV",
    }
    assert tier.run("node", code=RENAMED_BY_NODE, limits=LIMITS)["stdout"] == "A\n"


def test_only_files_in_the_working_directory_can_be_executed(tier: Tier) -> None:
    done = tier.run("bash", code=RUNNABLE, limits=LIMITS)
    assert done["stdout"].splitlines() == ["/work 0 ran", "/tmp 126 ", "/output 126 ", "/dev/shm 126 "]


def test_refused_calls_return_the_error_that_triggers_library_fallbacks(tier: Tier) -> None:
    if tier.isolation == "hardened":
        numbers = {name: number_of(name, platform.machine()) for name in ("getxattrat", "mseal", "clone3")}
        wanted = dict.fromkeys(numbers, errno.ENOSYS)  # of gVisor's own; it has attributes
    else:
        wanted = {name: error for error, groups in ANSWERS.items() for name in " ".join(groups.values()).split()}
        numbers = {name: n for name in wanted if (n := number_of(name, platform.machine())) is not None}
        numbers |= {"newer": 480, "clone3": 435, "mlock": 149}
        wanted |= {"newer": errno.ENOSYS, "clone3": errno.ENOSYS, "mlock": errno.EPERM}  # the last is the control
    done = tier.run(code=ANSWERED, args=[json.dumps(numbers)], limits=LIMITS)
    assert done["state"] == "succeeded", done
    found = json.loads(done["stdout"])
    assert {name: wanted[name] for name in found if found[name] != wanted[name]} == {}, found
    assert found.keys() == numbers.keys()
    assert done["security_events"] == 0


def test_listing_network_interfaces_is_no_network_attempt(tier: Tier) -> None:
    looked = tier.run(code=INTERFACES, limits=LIMITS)
    assert (looked["stdout"], looked["security_events"]) == ("1\n", 0)
    if tier.isolation == "standard":
        sent = tier.run(code=SEND)["id"]
        kinds = [event["kind"] for event in tier.stack.security(sent, "network_attempt")]
        assert kinds == ["network_attempt"]


def test_shared_memory_is_bounded_by_the_memory_limit(tier: Tier) -> None:
    done = tier.run(code=SHARED, limits=LIMITS)
    assert (done["stdout"].split(), done["stderr"]) == ([str(32 << 20), str(200 << 20)], "")
    over = tier.run(code=FULL.format(path="/dev/shm/x", size=640), limits=LIMITS | {"memory_bytes": 512 << 20})
    # gVisor's is as large as the limit and nothing more, so a file of this size cannot even be asked for.
    assert over["reason"] == "oom_killed" if tier.isolation == "standard" else "File too large" in over["stderr"], over
    larger = tier.run(code=FULL.format(path="/dev/shm/x", size=640), limits=LIMITS | {"memory_bytes": 1 << 30})
    assert larger["stdout"] == "all\n", larger


def test_full_directory_is_named_in_the_result(tier: Tier) -> None:
    died = tier.run(code=FULL.format(path="/tmp/x", size=96), limits=LIMITS)
    assert (died["state"], died["reason"]) == ("failed", "disk_exceeded")
    assert died["facts"]["signal"] == 7
    (event, *_) = tier.stack.security(died["id"])
    assert (event["kind"], event["path"]) == ("disk_limit", "/tmp") and "SIGBUS" in event["detail"]

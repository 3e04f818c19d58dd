"""A virtual machine with cgroup version 2 alone, as most hosts are today; emulated, so that it needs no KVM.

Its disk holds Debian's smallest system with the runtimes, the interpreter that runs this and its packages, this
checkout, and the sandbox image of Python. What it prints comes back over its serial line.
"""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

from tests.harness import ROOT

INIT = Path(__file__).with_name("init.sh")
PACKAGES = (
    *("linux-image-cloud-amd64", "initramfs-tools", "kmod", "iproute2", "procps"),
    *("python3", "libffi8", "libsqlite3-0", "libssl3", "redis-server", "crun", "runc"),
)
SDK = "orchestrator/client"  # where the package `mayfly` is, which a file of the environment leads to elsewhere
ENVIRONMENT = "python"  # the only one that has an image: to unpack all of them takes the machine half an hour
MEMORY_MIB = 4096
DISK_BYTES = 32 * 2**30  # sparse
SCRIPT_BYTES = 64 * 1024  # a disk ends with a whole sector
PATIENCE = 10  # times as slow as the machine that emulates it, about
EXIT_CODE = re.compile(r"^the exit code is (\d+)\s*$", re.MULTILINE)


def make_disk(where: Path, images: Path, *packages_more: str) -> Path:
    """Install the system below ``where``, and more packages; its disk image. Takes a minute or two and 4 GB."""
    root, disk = where / "root", where / "disk"
    subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={','.join((*PACKAGES, *packages_more))}",
            "bookworm",
            str(root),
        ],
        check=True,
    )
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        target = root / "mayfly" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    if sys.base_prefix != "/usr":  # an interpreter that no package of Debian's brings
        without = shutil.ignore_patterns("site-packages", "test", "tests")
        shutil.copytree(sys.base_prefix, root / sys.base_prefix[1:], ignore=without, symlinks=True)
    (packages,) = (path for path in site.getsitepackages() if path.endswith("site-packages"))
    shutil.copytree(packages, root / "packages", ignore=shutil.ignore_patterns("mypy*", "ruff*"))
    (root / "images").mkdir()
    for image in images.glob(f"{ENVIRONMENT}.*"):
        shutil.copy(image, root / "images")
    shutil.copy(INIT, root / "init.sh")
    (root / "init.sh").chmod(0o755)
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk)], check=True)
    return disk


def run(where: Path, script: str, seconds: float) -> tuple[int, str]:
    """Start the machine below ``where``, have it run ``script`` in the checkout; its exit code, and what was printed.

    Raises ``subprocess.TimeoutExpired`` when it takes longer than ``seconds``.
    """
    environment = (
        f"export PATH={sys.base_prefix}/bin:$PATH PYTHONPATH=/packages:/mayfly/{SDK}\n"
        f"export CI=true MAYFLY_TEST_IMAGES=/images MAYFLY_TEST_PATIENCE={PATIENCE}\n"
        f"export MAYFLY_TEST_ENVIRONMENTS={ENVIRONMENT}\n"
    )
    work = where / "work"
    work.write_bytes((environment + script).encode().ljust(SCRIPT_BYTES, b"\0"))
    (kernel,), (initrd,) = (list((where / "root" / "boot").glob(f"{name}*")) for name in ("vmlinuz-", "initrd.img-"))
    command = [
        *("qemu-system-x86_64", "-machine", "q35", "-cpu", "max", "-accel", "tcg,thread=multi"),
        *("-smp", str(os.cpu_count()), "-m", str(MEMORY_MIB), "-nographic", "-no-reboot", "-nic", "none"),
        *("-kernel", str(kernel), "-initrd", str(initrd)),
        *("-drive", f"file={where / 'disk'},if=virtio,format=raw,cache=unsafe"),
        *("-drive", f"file={work},if=virtio,format=raw"),
        *("-append", "console=ttyS0 root=/dev/vda rw init=/init.sh quiet panic=1 mitigations=off"),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    printed = done.stdout.decode(errors="replace").replace("\r", "")
    ends = EXIT_CODE.findall(printed)
    assert ends, f"the machine ended without a word: {printed[-4000:]}{done.stderr.decode(errors='replace')}"
    return int(ends[-1]), printed

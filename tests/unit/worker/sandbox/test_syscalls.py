"""The table of system calls equals the kernel's, and has every name of the seccomp lists.

``python -m tests.unit.worker.sandbox.test_syscalls`` writes ``worker/sandbox/syscalls.txt`` anew.
"""

from __future__ import annotations

import pytest
import system_calls

from deploy.service_image.build import project_files
from tests.harness import ROOT
from worker.sandbox import seccomp
from worker.sandbox.syscalls import ARCHITECTURES, name_of, number_of

TABLE = ROOT / "worker" / "sandbox" / "syscalls.txt"
REGENERATE = "python -m tests.unit.worker.sandbox.test_syscalls"


def kernel_table() -> str:
    source = system_calls.syscalls()
    x86_64, aarch64 = source.load_arch_table("x86_64"), source.load_arch_table("arm64")
    rows = (f"{name} {x86_64.get(name, '-')} {aarch64.get(name, '-')}\n" for name in sorted({*x86_64, *aarch64}))
    return "".join(rows)


def test_the_table_is_the_kernels() -> None:
    assert TABLE.read_text() == kernel_table(), f"out of date: {REGENERATE}"
    assert TABLE in project_files()  # it travels with the worker


def test_names_and_numbers() -> None:
    assert (number_of("socket", "x86_64"), number_of("socket", "aarch64")) == (41, 198)
    assert (name_of(41, "x86_64"), name_of(198, "aarch64")) == ("socket", "socket")
    assert number_of("fork", "aarch64") is None
    assert name_of(100_000, "x86_64") is None
    assert name_of(41, "s390x") is None
    assert name_of(0x40000000 + 41, "x86_64") is None  # x32 is another architecture


@pytest.mark.parametrize("lists", [seccomp.ALLOW, seccomp.TRIPWIRES], ids=["allowed", "tripwires"])
def test_every_listed_name_is_a_system_call(lists: dict[str, str]) -> None:
    names = {name for group in lists.values() for name in group.split()}
    assert {name for name in names if all(number_of(name, one) is None for one in ARCHITECTURES)} == set()


if __name__ == "__main__":
    TABLE.write_text(kernel_table())

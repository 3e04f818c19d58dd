"""The census of the kernel surface covers all allowed calls, and its evidence exists."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.builders.sandboxes.profiles import profile_of
from tests.harness import ROOT
from tests.hostile.cases import CASES
from tests.hostile.census import allowed, compare, labels, page
from tests.hostile.census_arguments import ARGUMENTS, Conditions
from tests.hostile.census_rows import MOUNTS, ROWS
from tests.hostile.kernel import kernel, neighbours, privileges, surface
from tests.hostile.resources import exhaustion, flooding
from worker.drivers.docker.config import container_config
from worker.drivers.oci.config import oci_config
from worker.sandbox import seccomp
from worker.sandbox.arguments import FADVISE, FCNTL, GET, IOCTL, MADVISE, PRCTL, SET_AND_GET, classes
from worker.sandbox.syscalls import ARCHITECTURES

TABLES = (exhaustion, flooding, kernel, neighbours, privileges, surface)  # which register the programs that rows name


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_each_call_and_class_has_exactly_one_census_row(machine: str) -> None:
    assert compare(ROWS, machine) == (set(), set(), set())


def test_a_call_or_class_without_a_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(seccomp.ALLOW, "more", "memfd_create")
    monkeypatch.setitem(seccomp.NO_EFFECT, "mlock", ())
    assert compare(ROWS, "x86_64") == ({"memfd_create", "mlock"}, set(), set())
    assert compare(ROWS[1:], "x86_64").without_row == {"memfd_create", "mlock", *labels(ROWS[0])}
    one_more = ROWS[0]._replace(calls="brk ptrace", classes={"fcntl": "F_OFD_SETLK"})
    assert compare([*ROWS, one_more], "x86_64")[1:] == ({"ptrace", "fcntl F_OFD_SETLK"}, {"brk"})


def arguments() -> dict[str, Conditions]:
    """The conditions of every class whose name is not that of one number in a table."""
    tables = (SET_AND_GET, GET, FCNTL, IOCTL, MADVISE, FADVISE)
    numbers = {name for table in tables for name in table}
    found: dict[str, set[tuple[tuple[int, int, int], ...]]] = {}
    for one in classes("x86_64", loopback=True):
        for label in () if one.name in numbers else one.labels:
            found.setdefault(label, set()).add(one.conditions)
    return {label: frozenset(conditions) for label, conditions in found.items()}


def test_each_class_has_the_arguments_that_the_census_has_judged() -> None:
    assert arguments() == ARGUMENTS


def test_a_class_with_more_arguments_under_the_same_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRCTL, "GET_SECCOMP", (21, 22))
    monkeypatch.setattr("worker.sandbox.arguments.O_NOTIFICATION_PIPE", 0)
    found = {label for label, conditions in arguments().items() if conditions != ARGUMENTS[label]}
    assert found == {"prctl GET_SECCOMP", "pipe2 without O_NOTIFICATION_PIPE"}


def in_profile() -> Iterator[str]:
    """Names in the rules of the rendered filter that let through, or answer with success."""
    for rule in seccomp.profile(loopback=True)["syscalls"]:
        if rule["action"] == "SCMP_ACT_ALLOW" or rule.get("errnoRet") == 0:
            yield from rule["names"]


def test_census_covers_the_filter_of_the_containers() -> None:
    assert {label.partition(" ")[0] for label in allowed("x86_64")} == set(in_profile())


def functions_of(path: str) -> set[str]:
    return {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("shown", sorted({test for row in ROWS for test in row.tests}))
def test_evidence_of_each_census_row_exists(shown: str) -> None:
    assert TABLES
    path, _, name = shown.partition("::")
    assert shown in CASES if not name else name in functions_of(path)


def test_every_row_is_whole() -> None:
    for row in ROWS:
        assert labels(row) and row.makes and row.charged and row.bound and row.tests, row


def test_every_mount_has_a_row() -> None:
    known = {path for row in MOUNTS for path in row[0].split(", ")}
    profile = profile_of()
    bundle = oci_config(profile, ROOT, {"Entrypoint": [], "Env": [], "WorkingDir": "/"})
    host = container_config(profile)["HostConfig"]
    mounted = {mount["destination"] for mount in bundle["mounts"]} | {mount["Target"] for mount in host["Mounts"]}
    assert mounted | host["Tmpfs"].keys() | {"/"} == known


def test_the_page_is_current() -> None:
    hint = "python -m tests.hostile.census > docs/kernel-surface.md"
    assert (ROOT / "docs" / "kernel-surface.md").read_text() == page(), hint

"""A process reports each part of its hardening that is missing."""

from __future__ import annotations

import os

import pytest

from orchestrator.host.confinement import check_confinement, lacking

STATUS = (
    "Name:\tpython3\nUid:\t10001\t10001\t10001\t10001\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n"
    "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
)


@pytest.mark.parametrize(
    ("field", "weaker", "missing"),
    [
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "no-new-privileges"),
        ("NoNewPrivs:\t1\n", "", "no-new-privileges"),  # kernels before 4.10
        ("CapBnd:\t0000000000000000", "CapBnd:\t00000000a80425fb", "an empty set of capabilities (CapBnd a80425fb)"),
        ("CapEff:\t0000000000000000", "CapEff:\t0000000000000400", "an empty set of capabilities (CapEff 400)"),
        ("CapPrm:\t0000000000000000", "CapPrm:\t0000000000000001", "an empty set of capabilities (CapPrm 1)"),
        ("Uid:\t10001\t10001", "Uid:\t10001\t0", "a user other than root"),
    ],
)
def test_each_missing_part_is_named(field: str, weaker: str, missing: str) -> None:
    assert lacking(STATUS, os.ST_RDONLY) == ()
    assert lacking(STATUS.replace(field, weaker), os.ST_RDONLY) == (missing,)


def test_writable_root_is_named() -> None:
    assert lacking(STATUS, 0) == ("a read-only root file system",)


def test_process_is_checked_only_where_hardening_is_expected() -> None:
    """The tests' own process has a writable root."""
    assert check_confinement("test", expected=False) == ()
    assert "a read-only root file system" in check_confinement("test", expected=True)

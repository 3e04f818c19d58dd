"""Versions are ordered as in dpkg, and vulnerable releases are distinguished from patched ones."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise

import pytest

from orchestrator.host.posture.advisories import ADVISORIES
from orchestrator.host.posture.versions import Release, check_releases, compare, kernel_release, package_of, verdict

ASCENDING = [
    "0.0~20221219.0-2+b3",
    "1.0.0~rc6+dfsg1-1",
    "1.0.0~rc6+dfsg1-2",
    "1.0.0~rc93+ds1-5",
    "1.0.0~rc93+ds1-5+deb11u3",
    "1.0.0",
    "1.1.5",
    "1.1.5+ds1-1",
    "1.1.5+ds1-1+deb12u1",
    "1.1.5+ds1-1+deb12u2",
    "1.1.7-0ubuntu1~20.04.2",
    "1.1.7-0ubuntu1~22.04.2",
    "1.1.7-0ubuntu2",
    "1.1.12",
    "1.6.20~ds1-1+deb12u1",
    "1.6.20~ds1-1+deb12u3",
    "1.6.20",
    "1.20",
    "20.10.24+dfsg1-1+b3",
    "20.10.24+dfsg1-1+deb12u1",
    "20.10.24+dfsg1-1+deb12u1+b6",
    "27.1.1",
    "1:0.1-1",
    "2:0",
]

# component, version, package, CVE → verdict
VERDICTS = [
    ("runc", "1.1.5", "", "CVE-2024-21626", "affected"),
    ("runc", "1.1.12", "", "CVE-2024-21626", "fixed"),
    ("runc", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1", "CVE-2024-21626", "fixed"),
    ("runc", "1.1.5+ds1", "1.1.5+ds1-1+deb12u2", "CVE-2024-21626", "fixed"),
    ("runc", "1.1.5+ds1", "1.1.5+ds1-1+b4", "CVE-2024-21626", "affected"),
    ("runc", "1.1.5+ds1", "1.1.5+ds1-1", "CVE-2024-21626", "affected"),
    ("runc", "1.1.4+ds1", "1.1.4+ds1-1", "CVE-2024-21626", "unknown"),
    ("runc", "1.0.0~rc93+ds1", "1.0.0~rc93+ds1-5+deb11u3", "CVE-2024-21626", "fixed"),
    ("runc", "1.0.0~rc93+ds1", "1.0.0~rc93+ds1-5+deb11u2", "CVE-2024-21626", "affected"),
    ("runc", "1.0.0~rc93+ds1", "1.0.0~rc93+ds1-5+deb11u3", "CVE-2021-30465", "fixed"),
    ("runc", "1.1.7-0ubuntu1~22.04.2", "1.1.7-0ubuntu1~22.04.2", "CVE-2024-21626", "fixed"),
    ("runc", "1.1.7-0ubuntu1~22.04.1", "1.1.7-0ubuntu1~22.04.1", "CVE-2024-21626", "affected"),
    ("runc", "1.1.7", "1.1.7-0ubuntu2", "CVE-2024-21626", "unknown"),
    ("runc", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1", "CVE-2025-31133", "unknown"),
    ("runc", "1.2.8", "", "CVE-2025-31133", "fixed"),
    ("runc", "1.3.2", "", "CVE-2025-31133", "affected"),
    ("runc", "1.3.3-0ubuntu1~24.04.2", "1.3.3-0ubuntu1~24.04.2", "CVE-2025-31133", "fixed"),
    ("runc", "1.4.0-rc.2", "", "CVE-2025-31133", "affected"),
    ("runc", "1.4.0-rc.3", "", "CVE-2025-31133", "fixed"),
    ("runc", "1.0.0-rc6", "", "CVE-2019-5736", "affected"),
    ("runc", "1.0.0-rc7", "", "CVE-2019-5736", "fixed"),
    ("crun", "1.4.3", "", "CVE-2022-27650", "affected"),
    ("crun", "1.8.1", "1.8.1-1+deb12u1", "CVE-2022-27650", "fixed"),
    ("crun", "1.8.1", "1.8.1-1+deb12u1", "CVE-2025-24965", "unknown"),
    ("crun", "1.20", "", "CVE-2025-24965", "fixed"),
    ("runsc", "release-20221219.0", "", "CVE-2025-2713", "affected"),
    ("runsc", "release-20250331.0", "", "CVE-2025-2713", "fixed"),
    ("runsc", "0.0~20221219.0", "0.0~20221219.0-2+b3", "CVE-2025-2713", "unknown"),
    ("containerd", "v1.7.26", "", "CVE-2024-40635", "affected"),
    ("containerd", "v1.7.27", "", "CVE-2024-40635", "fixed"),
    ("containerd", "1.6.20~ds1", "1.6.20~ds1-1+deb12u3", "CVE-2024-40635", "fixed"),
    ("containerd", "1.6.20~ds1", "1.6.20~ds1-1+deb12u1", "CVE-2024-40635", "affected"),
    ("engine", "20.10.24+dfsg1", "20.10.24+dfsg1-1+deb12u1+b6", "CVE-2024-41110", "fixed"),
    ("engine", "20.10.24+dfsg1", "20.10.24+dfsg1-1+b3", "CVE-2024-41110", "affected"),
    ("engine", "20.10.24", "", "CVE-2024-41110", "affected"),
    ("engine", "27.1.1", "", "CVE-2024-41110", "fixed"),
    ("kernel", "5.15.24", "", "CVE-2022-0847", "affected"),
    ("kernel", "5.15.25", "", "CVE-2022-0847", "fixed"),
    ("kernel", "5.7.19", "", "CVE-2022-0847", "fixed"),
    ("kernel", "5.11.22", "", "CVE-2022-0847", "affected"),
    ("kernel", "6.1.36", "", "CVE-2023-3269", "affected"),
    ("kernel", "6.18.44-fc-v595", "", "CVE-2026-31431", "fixed"),
    ("kernel", "6.18.21", "", "CVE-2026-31431", "affected"),
]  # fmt: skip


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="there is no dpkg to compare with")
def test_order_is_dpkgs() -> None:
    for left, right in pairwise(ASCENDING):
        assert subprocess.run(["dpkg", "--compare-versions", left, "lt", right], check=False).returncode == 0, (
            left,
            right,
        )


def test_versions_are_ordered() -> None:
    for position, left in enumerate(ASCENDING):
        for other, right in enumerate(ASCENDING):
            order = compare(left, right)
            assert (order > 0) - (order < 0) == (position > other) - (position < other), (left, right)


@pytest.mark.parametrize(("component", "version", "package", "cve", "expected"), VERDICTS)
def test_release_has_its_verdict(component: str, version: str, package: str, cve: str, expected: str) -> None:
    advisory = next(a for a in ADVISORIES if a.cve == cve and a.component == component)
    assert verdict(Release(component, version, package), advisory) == expected


def test_each_advisory_separates_fixed_from_affected_release() -> None:
    for advisory in ADVISORIES:
        for fix in advisory.fixed:
            assert verdict(Release(advisory.component, fix), advisory) == "fixed", (advisory.cve, fix)
            head, last = re.fullmatch(r"(.*?)(\d+)", fix).groups()  # type: ignore[union-attr]
            if int(last):
                before = f"{head}{int(last) - 1}"
                assert verdict(Release(advisory.component, before), advisory) == "affected", (advisory.cve, before)
        for fix in advisory.packages:
            version = fix.rpartition("-")[0]
            assert verdict(Release(advisory.component, version, fix), advisory) == "fixed", (advisory.cve, fix)


def test_a_commit_is_no_package() -> None:
    assert package_of("1.1.5+ds1-1+deb12u1") == "1.1.5+ds1-1+deb12u1"
    assert [package_of(text) for text in ("v1.1.12-0-g51d5e946", "5d6db84", "")] == ["", "", ""]


@pytest.mark.parametrize(
    ("release", "build", "signature", "expected"),
    [
        ("6.1.0-18-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)", "", Release("kernel", "6.1.76")),
        (
            "5.15.0-91-generic", "#101-Ubuntu SMP Tue Nov 14 13:30:08 UTC 2023",
            "Ubuntu 5.15.0-91.101-generic 5.15.131", Release("kernel", "5.15.131", patched=True),
        ),
        ("5.15.0-91-generic", "#101-Ubuntu SMP", "", Release("kernel", "5.15.0-91-generic", patched=True)),
        ("5.14.0-427.el9.x86_64", "#1 SMP", "", Release("kernel", "5.14.0-427.el9.x86_64", patched=True)),
        ("6.18.44-fc-v595", "#1 SMP PREEMPT_DYNAMIC @0", "", Release("kernel", "6.18.44-fc-v595")),
    ],
)  # fmt: skip
def test_kernel_release_is_recognised(release: str, build: str, signature: str, expected: Release) -> None:
    assert kernel_release(release, build, signature) == expected


@pytest.mark.parametrize(
    ("release", "status", "printed"),
    [
        (Release("kernel", "6.18.44-fc-v595"), "ok", "6.18.44"),
        (Release("kernel", "6.12.30"), "broken", "CVE-2025-38236 (reachable"),
        (Release("kernel", "5.15.131", patched=True), "weak", "CVE-2024-1086"),
        (Release("kernel", "5.14.0-427.el9.x86_64", patched=True), "weak", "one of them can be reached"),
        (Release("runc", "1.1.11"), "weak", "CVE-2024-21626 (not reachable here"),
        (Release("runc", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1"), "weak", "none can be reached here"),
        (Release("runc", "1.3.4"), "ok", "no known vulnerability"),
        (Release("runsc", ""), "weak", "cannot be determined"),
        (Release("crun", "strange"), "weak", "cannot be determined"),
    ],
)
def test_release_has_the_expected_verdict(release: Release, status: str, printed: str) -> None:
    (found,) = check_releases([release], {release.component})
    assert (found.status, printed in found.detail) == (status, True), found
    assert bool(found.remedy) == (status != "ok")


def test_a_runtime_that_is_not_used_breaks_no_promise() -> None:
    (found,) = check_releases([Release("kernel", "6.12.30")], set())
    assert found.status == "weak"


def test_the_remedy_is_the_first_good_release_of_the_branch() -> None:
    (found,) = check_releases([Release("kernel", "6.12.30")], {"kernel"})
    assert "6.12.85" in found.remedy


def test_advisories_are_well_formed() -> None:
    for advisory in ADVISORIES:
        assert re.fullmatch(r"CVE-\d{4}-\d{4,6}", advisory.cve)
        assert advisory.fixed and advisory.why
        assert advisory.component in ("kernel", "engine", "containerd", "runc", "crun", "runsc")
    assert len({(advisory.component, advisory.cve) for advisory in ADVISORIES}) == len(ADVISORIES)

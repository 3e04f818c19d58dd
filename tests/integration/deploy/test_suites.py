"""Suites of Debian's packages on a host of another system: this host, described as an Ubuntu."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.service_image.monitoring import MONITORING
from deploy.service_image.proxy import PROXY
from deploy.service_image.suites import default_sources, host_suites, with_suites
from sandbox_image.debian import BuildError, Source, host_source

UBUNTU = {"ID": "ubuntu", "ID_LIKE": "debian", "VERSION_ID": "24.04", "VERSION_CODENAME": "noble"}


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: UBUNTU)
    return host_source(None)


def test_release_comes_from_the_mirror_that_mmdebstrap_knows(source: Source, tmp_path: Path) -> None:
    assert (source.suite, source.mirror) == ("bookworm", None), "of Debian, and not the host's"
    later = source._replace(suite="trixie")
    assert with_suites(MONITORING, later, tmp_path)[0] == later


def test_backports_are_listed_with_their_release(source: Source, tmp_path: Path) -> None:
    found, names = with_suites(PROXY, source._replace(suite="trixie-backports"), tmp_path)
    lines = Path(str(found.mirror)).read_text().splitlines()
    assert found.suite == "trixie"
    suites = {line.removesuffix(" main").rpartition(" ")[2] for line in lines}
    assert suites == {"trixie", "trixie-updates", "trixie-security", "trixie-backports"}
    assert [line for line in lines if "noble" in line or "ubuntu" in line] == []
    assert [name for name in names if name.endswith("/trixie-backports")]


def test_named_mirror_is_used(source: Source, tmp_path: Path) -> None:
    asked = source._replace(suite="trixie-backports", mirror="http://m.invalid")
    listed = Path(str(with_suites(PROXY, asked, tmp_path)[0].mirror))
    assert listed.read_text() == "deb http://m.invalid trixie main\ndeb http://m.invalid trixie-backports main\n"


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Source:
    """Debian 12, whose apt knows the release, its security updates at another address, and a program's own packages."""
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"})
    lines = ("http://a.invalid bookworm", "http://b.invalid bookworm-security", "http://c.invalid stable")
    (tmp_path / "apt-get").write_text(f"#!/bin/sh\nprintf '%s\\n' {' '.join(map(repr, lines))}\n")
    (tmp_path / "apt-get").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return host_source(None)


@pytest.mark.parametrize(
    ("suite", "mirror", "expected"),
    [
        ("bookworm", None, None),
        ("trixie", "http://m.invalid", None),
        ("trixie", None, {"a.invalid trixie", "b.invalid trixie-security"}),
        ("trixie-backports", None, {"a.invalid trixie", "a.invalid trixie-backports", "b.invalid trixie-security"}),
        ("trixie-backports", "http://m.invalid", {"m.invalid trixie", "m.invalid trixie-backports"}),
    ],
)
def test_suites_come_from_the_mirrors_of_debian_or_from_the_given_one(
    debian: Source, tmp_path: Path, suite: str, mirror: str | None, expected: set[str] | None
) -> None:
    asked = debian._replace(suite=suite, mirror=mirror)
    found, names = with_suites(PROXY, asked, tmp_path)
    if expected is None:
        assert (found, names) == (asked, PROXY.packages)
        return
    lines = Path(str(found.mirror)).read_text().splitlines()
    assert {line.removeprefix("deb http://").removesuffix(" main") for line in lines} == expected
    assert found.suite == "trixie"
    assert {name for name in names if "/" in name} == {f"{name}/{suite}" for name in PROXY.backports}


def test_missing_or_failing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="apt install mmdebstrap"):
        default_sources("trixie")
    with pytest.raises(BuildError, match="without apt, backports need --mirror"):
        host_suites()
    (tmp_path / "apt-get").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "apt-get").chmod(0o700)
    with pytest.raises(BuildError, match="without apt, backports need --mirror"):
        host_suites()


@pytest.mark.parametrize(
    ("program", "call", "message"),
    [
        ("mmdebstrap", lambda: default_sources("trixie"), "knows no mirror of trixie"),
        ("apt-get", host_suites, "no packages of Debian"),
    ],
)
def test_absent_packages_of_debian_are_a_failure(
    program: str, call: Callable[[], object], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Programs that know an Ubuntu's packages and no others, as messages of mmdebstrap and as a list of apt."""
    (tmp_path / program).write_text("#!/bin/sh\necho http://archive.invalid/ubuntu noble\necho E: none >&2\n")
    (tmp_path / program).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(BuildError, match=message):
        call()

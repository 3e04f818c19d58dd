"""The suites of Debian that the packages of an image come from."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from deploy.service_image.declarations import Service
from sandbox_image.debian import BuildError, Source, host_source

SUITE = "trixie"  # of all services but Redis, which has the host's release
BACKPORTS = "-backports"
PRINT_SOURCES = 'cat "$1/etc/apt/sources.list"; exit 1'  # a hook, whose output mmdebstrap prints as errors


def with_suites(service: Service, source: Source, scratch: Path) -> tuple[Source, tuple[str, ...]]:
    """The source of a release that is not this host's, or of one with its backports, and the names of packages for it.

    apt alone takes nothing from backports, and mmdebstrap knows the mirror of one suite: so a list of all suites, from
    ``source``'s mirror or those of this host, whose updates and security updates belong to it. A host of another system
    (Ubuntu) has no mirror of Debian's: there it is mmdebstrap's own.
    """
    release = source.suite.removesuffix(BACKPORTS)
    if release == source.suite and (source.mirror or release == host_source(None).suite):
        return source, service.packages
    if not source.mirror and not is_debian():
        if release == source.suite:
            return source, service.packages
        lines = [*default_sources(release), *default_sources(source.suite)]
        return _listed(lines, service, source, scratch)
    if source.mirror:
        suites = {(source.mirror, release), (source.mirror, source.suite)}
    else:
        suites = set()
        for uri, suite in host_suites():
            _, dash, update = suite.partition("-")
            suites.add((uri, f"{release}{dash}{update}"))
            suites |= set() if dash else {(uri, source.suite)}
    return _listed([f"deb {uri} {suite} main" for uri, suite in sorted(suites)], service, source, scratch)


def _listed(lines: list[str], service: Service, source: Source, scratch: Path) -> tuple[Source, tuple[str, ...]]:
    listed = scratch / "suites.list"
    listed.write_text("".join(f"{line}\n" for line in lines))
    names = (f"{name}/{source.suite}" if name in service.backports else name for name in service.packages)
    return source._replace(suite=source.suite.removesuffix(BACKPORTS), mirror=str(listed)), tuple(names)


def is_debian() -> bool:
    """Whether this host is Debian itself, and no system derived from it."""
    return Path("/etc/os-release").exists() and platform.freedesktop_os_release().get("ID") == "debian"


def default_sources(suite: str) -> list[str]:
    """The lines of mmdebstrap's own ``sources.list`` for a suite of Debian, with its key where apt does not trust it.

    Raises :class:`BuildError`.
    """
    asked = ["mmdebstrap", "--quiet", "--variant=custom", f"--setup-hook={PRINT_SOURCES}", suite, "/dev/null"]
    try:
        shown = subprocess.run(asked, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise BuildError("mmdebstrap is not installed (Debian, Ubuntu: apt install mmdebstrap)") from error
    found = [line for line in shown.stderr.splitlines() if line.startswith("deb ")]
    if not found:
        raise BuildError(f"mmdebstrap knows no mirror of {suite}: name --mirror\n{shown.stderr.strip()[-1000:]}")
    return found


def host_suites() -> list[tuple[str, str]]:
    """Address and suite of this Debian's own packages. Raises :class:`BuildError` without apt, or on another system."""
    shown = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]
    try:
        lines = subprocess.run(shown, check=True, capture_output=True, text=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError("without apt, backports need --mirror") from error
    release = host_source(None).suite
    found = [(uri, suite) for uri, suite in (line.split() for line in lines) if suite.startswith(release)]
    if not found:
        raise BuildError("this host has no packages of Debian: name --mirror")
    return found

"""The suites of Debian that the packages of an image come from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deploy.service_image.declarations import Service
from sandbox_image.debian import BuildError, Source, host_source

SUITE = "trixie"  # of all services but Redis, which has the host's release
BACKPORTS = "-backports"


def with_suites(service: Service, source: Source, scratch: Path) -> tuple[Source, tuple[str, ...]]:
    """The source of a release that is not this host's, or of one with its backports, and the names of packages for it.

    apt alone takes nothing from backports, and mmdebstrap knows the mirror of one suite: so a list of all suites, from
    ``source``'s mirror or those of this host, whose updates and security updates belong to it.
    """
    release = source.suite.removesuffix(BACKPORTS)
    if release == source.suite and (source.mirror or release == host_source(None).suite):
        return source, service.packages
    if source.mirror:
        suites = {(source.mirror, release), (source.mirror, source.suite)}
    else:
        suites = set()
        for uri, suite in host_suites():
            _, dash, update = suite.partition("-")
            suites.add((uri, f"{release}{dash}{update}"))
            suites |= set() if dash else {(uri, source.suite)}
    listed = scratch / "suites.list"
    listed.write_text("".join(f"deb {uri} {suite} main\n" for uri, suite in sorted(suites)))
    names = (f"{name}/{source.suite}" if name in service.backports else name for name in service.packages)
    return source._replace(suite=release, mirror=str(listed)), tuple(names)


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

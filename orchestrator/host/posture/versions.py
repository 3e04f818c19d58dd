"""Compares releases with known vulnerabilities, in dpkg's order, because distributions patch old releases.

Debian's runc ``1.1.5+ds1-1+deb12u1`` has the fix that upstream has in 1.1.12: only the whole version of the package
shows that. If a distribution may have patched a release without changing its version, the finding is undetermined, and
at most ``weak``.

:func:`compare` and its helpers are 30 lines, and run where neither apt nor dpkg is (in the service image, on Red Hat).
python-debian would replace them by a dependency that parses control files, changelogs and archives too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cmp_to_key
from itertools import zip_longest
from typing import Literal, NamedTuple

from orchestrator.host.posture.advisories import ADVISORIES, Advisory
from orchestrator.host.posture.finding import Finding, broken, ok, weak

UPSTREAM = re.compile(r"v?(\d+(?:\.\d+)*(?:[~.-]?(?:rc|beta|alpha)[.-]?\d+)?)")
GVISOR_DATE = re.compile(r"(20\d{6})")
PACKAGE = re.compile(r"(?:\d+:)?\d[\w.+~]*-[\w.+~]+")  # not a commit or a tag ("v1.1.12-0-g51d5e946")
BRANCH = re.compile(r"deb\d+|\d\d\.\d\d")
SEPARATION = 4  # the promise that an escape from the sandbox breaks
Verdict = Literal["fixed", "affected", "unknown"]


class Release(NamedTuple):
    """A running release. ``package`` is the distribution's version; ``patched``: it may have fixes that no version
    shows.
    """

    component: str
    version: str
    package: str = ""
    patched: bool = False


def compare(left: str, right: str) -> int:
    """Order two versions as Debian Policy 5.6.12 does: below, equal to or above 0."""
    comparisons = (_order(one, other) for one, other in zip(_parts(left), _parts(right), strict=True))
    return next((order for order in comparisons if order), 0)


def _order(left: str, right: str) -> int:
    pairs = zip_longest(re.findall(r"(\D*)(\d*)", left), re.findall(r"(\D*)(\d*)", right), fillvalue=("", ""))
    for (left_text, left_number), (right_text, right_number) in pairs:
        for one, other in zip_longest(left_text, right_text, fillvalue=""):
            if order := _rank(one) - _rank(other):
                return order
        if order := int(left_number or 0) - int(right_number or 0):
            return order
    return 0


ORDER = cmp_to_key(compare)


def package_of(text: str) -> str:
    """The text if it is a distribution's version, otherwise empty: some engines report such a version as their
    commit.
    """
    return text if PACKAGE.fullmatch(text) else ""


def kernel_release(release: str, build: str, signature: str = "") -> Release:
    """The kernel's release, from ``uname`` and Ubuntu's ``/proc/version_signature``.

    Debian writes the stable release that its kernel is made from into ``build``; Ubuntu's signature names a stable
    release that is at most as new as its kernel. Red Hat's number does not show its patches.
    """
    if debian := re.search(r"Debian (\d+\.\d+(?:\.\d+)?)", build):
        return Release("kernel", debian[1])
    if signature:
        return Release("kernel", signature.split()[-1], patched=True)
    return Release("kernel", release, patched=bool(re.search(r"Ubuntu", build) or re.search(r"\.el\d", release)))


def verdict(release: Release, advisory: Advisory) -> Verdict:
    """Whether a release has an advisory's vulnerability."""
    version = _upstream(release)
    if not version:
        return "unknown"
    if advisory.since and compare(version, advisory.since) < 0:
        return "fixed"
    if compare(version, _mended(version, advisory)) >= 0 or compare(version, max(advisory.fixed, key=ORDER)) >= 0:
        return "fixed"
    for fix in advisory.packages:
        if not release.package or _base(fix) != _base(release.package):
            continue
        older = compare(release.package, fix) < 0
        mine, theirs = _branch(release.package), _branch(fix)
        if mine == theirs or (not theirs and not older):
            return "affected" if older else "fixed"
        if not mine and older:
            return "affected"
    return "unknown" if release.package or release.patched else "affected"


def check_releases(releases: Iterable[Release], used: Iterable[str]) -> list[Finding]:
    """One finding for each component; a component that Mayfly does not use is at most ``weak``."""
    used = set(used)
    return [_check(release, release.component in used) for release in releases]


def _check(release: Release, used: bool) -> Finding:
    name, shown = release.component, release.package or release.version
    if not release.version:
        return weak(
            name, "its version cannot be determined from here", f"compare `{name} --version` on the host yourself"
        )
    judged = [(verdict(release, advisory), advisory) for advisory in ADVISORIES if advisory.component == name]
    bad = [advisory for sentences, advisory in judged if sentences == "affected"]
    open_questions = [advisory for sentences, advisory in judged if sentences == "unknown"]
    reached = [advisory for advisory in bad if advisory.reachable]
    mended = [_mended(_upstream(release), advisory) for advisory in bad]
    remedy = f"install {name} {max(mended, key=ORDER)} or newer" if bad else ""
    if reached and used:
        return broken(name, SEPARATION, f"{shown} has {_described(reached)}", remedy)
    sentences = []
    if bad:
        sentences.append(f"{shown} has {_described(bad)}")
    if open_questions:
        names = ", ".join(advisory.cve for advisory in open_questions)
        reach = "one of them can be reached" if any(a.reachable for a in open_questions) else "none can be reached here"
        sentences.append(f"whether {shown} has the fix for {names} cannot be determined from its version ({reach})")
        remedy = remedy or f"keep the distribution's {name} current, and check the CVEs in its security tracker"
    return weak(name, "; ".join(sentences), remedy) if sentences else ok(name, f"{shown}, no known vulnerability")


def _described(advisories: list[Advisory]) -> str:
    return ", ".join(f"{a.cve} ({'reachable' if a.reachable else 'not reachable here'}: {a.why})" for a in advisories)


def _mended(version: str, advisory: Advisory) -> str:
    """The first fixed release of a version's own branch, else the newest."""
    branch = version.split(".")[:2]
    return next((fix for fix in advisory.fixed if fix.split(".")[:2] == branch), max(advisory.fixed, key=ORDER))


def _upstream(release: Release) -> str:
    if release.component == "runsc":  # release-20240513.0, or Debian's 0.0~20221219.0
        found = GVISOR_DATE.search(release.version)
        return found[1] if found else ""
    found = UPSTREAM.match(release.version)
    return _normal(found[1]) if found else ""


def _normal(version: str) -> str:
    """``1.4.0-rc.3`` comes before ``1.4.0``."""
    return re.sub(r"[~.-]?(rc|beta|alpha)[.-]?", r"~\1", version)


def _parts(version: str) -> tuple[str, str, str]:
    """Epoch, upstream's version and the distribution's revision."""
    epoch, _, rest = version.rpartition(":")
    upstream, hyphen, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if hyphen else (epoch, rest, "")


def _rank(character: str) -> int:
    if character == "~":
        return -1
    if not character:
        return 0
    return ord(character) if character.isalpha() else ord(character) + 256


def _base(package: str) -> str:
    return package.rpartition("-")[0]


def _branch(package: str) -> str:
    found = BRANCH.search(package.rpartition("-")[2])
    return found[0] if found else ""

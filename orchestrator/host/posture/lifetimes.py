"""Pure: whether environments have a maintained release of Node.js.

The dates are those of the release schedule of the Node.js project (``schedule.json`` of nodejs/Release, 2 July 2026):
the day on which a line becomes one with long-term support, and the day of its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from orchestrator.environments import Environment
from orchestrator.host.posture.finding import Finding, ok, weak

BUILDS = "node-linux-"  # packages of npm with Node.js's own builds, one for each architecture
LONG_TERM_SUPPORT = {
    20: (date(2023, 10, 24), date(2026, 4, 30)),
    22: (date(2024, 10, 29), date(2027, 4, 30)),
    24: (date(2025, 10, 28), date(2028, 4, 30)),
    26: (date(2026, 10, 28), date(2029, 4, 30)),
}
REMEDY = "declare the newest line with long-term support in the environment's file, and build its image"


def check_node(environments: Iterable[Environment], today: date) -> list[Finding]:
    """A finding for each line of Node.js in an environment."""
    return [
        _check(f"node of {environment.name}", line, today)
        for environment in environments
        for line in sorted({int(one.version.split(".")[0]) for one in environment.npm if one.name.startswith(BUILDS)})
    ]


def _check(name: str, line: int, today: date) -> Finding:
    if line not in LONG_TERM_SUPPORT:
        return weak(name, f"Node.js {line} is no line known to have long-term support", REMEDY)
    begin, end = LONG_TERM_SUPPORT[line]
    if not begin <= today <= end:
        return weak(name, f"Node.js {line} has long-term support from {begin} to {end} alone", REMEDY)
    return ok(name, f"Node.js {line}, maintained until {end}")

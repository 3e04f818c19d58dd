"""The type of a hostile program and of its required outcome. The other modules here register their programs, by theme.

What every case must leave alone is the same and not repeated in each: ``host.py`` holds it, and ``aims_at`` names the
part of it that a program attacks. Likewise for every case: no secret in what it gives back, no ``platform`` fault,
one attempt, a bystander that ends as if alone, and an ordinary program that runs right after.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.harness import Way

MIB = 2**20
PRELUDE = Path(__file__).with_name("prelude.py").read_text(encoding="utf-8")
MAIN = {"python": "main.py", "node": "main.js", "bash": "main.sh", "c": "main.c"}
# A program that is to be stopped by something else gets these; one that hangs brings its own.
LIMITS: dict[str, Any] = {"wall_seconds": 20, "cpu_seconds": 10}
HANGS = {"wall_seconds": 1}
SPEAKS = {"wall_seconds": 3}  # long enough for output before it hangs, also on a slow machine

Outcomes = dict[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    """One hostile program.

    ``probes`` are what the program itself reports of each attempt (several where the kernel's version decides),
    ``events`` the kinds of all its security events (``maybe`` those that hang on how fast it was). ``exit_code`` of
    ``None`` is any, but 0 where it succeeds. ``kept`` are the artifacts that come out, with their size; ``rejected``
    some of those that do not, with the reason. Each of ``details`` stands in what one of the events says. A
    ``neighbour`` is a second program, running in an execution of its own and holding its end of some channel while this
    one looks for the other end;
    ``in_one`` is what the same two find when they are one program, which shows that the channel exists. ``hardened``
    replaces fields in that tier, and ``because`` says why it differs.
    """

    source: str
    environment: str = "python"
    limits: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str | bytes] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    path: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    stdin: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    artifacts: tuple[str, ...] = ("**",)
    neighbour: str | None = None
    in_one: Outcomes = field(default_factory=dict)
    state: str = "succeeded"
    reason: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    events: frozenset[str] = frozenset()
    maybe: frozenset[str] = frozenset()
    probes: Outcomes = field(default_factory=dict)
    stdout: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    kept: dict[str, int] | None = None
    rejected: dict[str, str] = field(default_factory=dict)
    details: tuple[str, ...] = ()
    seconds: float = 15.0
    aims_at: str = "processes"
    hardened: dict[str, Any] = field(default_factory=dict)
    because: str = ""

    def on(self, way: Way) -> Case:
        """The case as it is expected with that driver and runtime."""
        return replace(self, **self.hardened) if way.isolation == "hardened" else self

    def reports(self, events: list[dict[str, Any]]) -> bool:
        """Whether all is among the events that they must have."""
        kinds = {event["kind"] for event in events}
        return self.events <= kinds and all(any(one in event["detail"] for event in events) for one in self.details)

    def code(self, source: str | None = None) -> str:
        """The whole program."""
        text = self.source if source is None else source
        return PRELUDE + text if self.environment == "python" and self.path is None else text


CASES: dict[str, Case] = {}
THEMES: dict[str, list[str]] = {}


def attack(theme: str, name: str, source: str, **fields: Any) -> None:
    """Register a hostile program. Events may be given as one text of kinds."""
    title = f"{theme}: {name}"
    assert title not in CASES
    for holder in (fields, fields.get("hardened", {})):
        for kinds in ("events", "maybe"):
            if isinstance(holder.get(kinds), str):
                holder[kinds] = frozenset(holder[kinds].split())
    assert bool(fields.get("hardened")) == bool(fields.get("because")), title
    case = Case(source, **fields)
    CASES[title] = case
    THEMES.setdefault(theme, []).append(title)


def ended(reason: str, *events: str, **more: Any) -> dict[str, Any]:
    """Fields of a case that is ended for that reason."""
    return {"state": "failed", "reason": reason, "events": frozenset(events), **more}

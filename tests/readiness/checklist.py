"""The lines of the checklists, with the names of what proves each of them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.harness import ROOT
from tests.readiness.named_tests import is_test

SOURCE = ROOT / "docs" / "production-readiness.toml"
COMMAND = "mayfly "


class Line(NamedTuple):
    """One line of a checklist: its text, the names of its proofs, and of the reasons for what cannot be proven."""

    id: str
    text: str
    proof: tuple[str, ...] = ()
    reason: tuple[str, ...] = ()


class Section(NamedTuple):
    """A part of one checklist."""

    source: str
    title: str
    lines: tuple[Line, ...]


class Checklist(NamedTuple):
    """All of the file. ``proofs``: by name, node ids of pytest, or commands of mayfly."""

    proofs: Mapping[str, tuple[str, ...]]
    reasons: Mapping[str, str]
    sections: tuple[Section, ...]

    def lines(self) -> list[Line]:
        """Every line, in order."""
        return [line for section in self.sections for line in section.lines]

    def commands(self) -> list[str]:
        """The commands of all lines, each of them once."""
        used = (name for line in self.lines() for name in line.proof)
        return list(dict.fromkeys(command for name in used for command in self.proofs[name]))


def load(source: Path = SOURCE) -> Checklist:
    """Read the file. Raises ``KeyError`` or ``TypeError`` for a missing or an unknown field."""
    read = tomllib.loads(source.read_text(encoding="utf-8"))
    sections = [
        Section(
            part["source"],
            part["title"],
            tuple(
                Line(**{**line, **{name: tuple(line[name]) for name in ("proof", "reason") if name in line}})
                for line in part["lines"]
            ),
        )
        for part in read["section"]
    ]
    return Checklist({name: tuple(found) for name, found in read["proof"].items()}, read["reason"], tuple(sections))


def faults(checklist: Checklist, root: Path = ROOT) -> Iterator[str]:
    """Lines without proof or reason, names that lead nowhere, and commands that there are not."""
    lines = checklist.lines()
    ids = [line.id for line in lines]
    yield from (f"{id}: comes twice" for id in sorted({id for id in ids if ids.count(id) > 1}))
    for line in lines:
        if not line.proof and not line.reason:
            yield f"{line.id}: neither a proof nor a reason"
        yield from (f"{line.id}: there is no proof {name}" for name in line.proof if name not in checklist.proofs)
        yield from (f"{line.id}: there is no reason {name}" for name in line.reason if name not in checklist.reasons)
    named = {name for line in lines for name in (*line.proof, *line.reason)}
    yield from (f"no line has the name {name}" for name in (*checklist.proofs, *checklist.reasons) if name not in named)
    for name, commands in checklist.proofs.items():
        if not commands:
            yield f"{name}: no command"
        yield from (
            f"{name}: there is no {command}"
            for command in commands
            if not command.startswith(COMMAND) and not is_test(command, root)
        )

"""Profiles: what an installation for development, production or performance sets, and why. Pure.

A profile is a TOML file here. Each table names a setting, its rule and the reason; a setting without a table may have
any value. ``extends`` adds the rules of another profile.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.settings import PREFIX, Settings

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))
# By the name of a rule: whether a value follows it, and how it is worded.
RULES: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "is": (lambda value, wanted: value == wanted, "{}"),
    "is_not": (lambda value, wanted: value != wanted, "not {}"),
    "one_of": (lambda value, wanted: value in wanted, "one of {}"),
    "at_least": (lambda value, wanted: value >= wanted, "at least {}"),
    "is_set": (lambda value, wanted: _is_set(value) is wanted, "set: {}"),
}


class Difference(NamedTuple):
    """A setting that does not follow its profile. Values are JSON."""

    variable: str
    here: str
    wanted: str
    why: str


def rules_of(name: str) -> dict[str, dict[str, Any]]:
    """The rules of a profile by setting: one of ``RULES`` and ``why`` each."""
    found = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    base = rules_of(found["extends"]) if "extends" in found else {}
    own: dict[str, dict[str, Any]] = found["settings"]
    return base | own


def differences(settings: Settings, name: str) -> list[Difference]:
    """The settings that do not follow a profile, in the order of the profile."""
    values = settings.model_dump(mode="json")
    found = []
    for field, table in rules_of(name).items():
        rule, wanted = _rule(table)
        follows, words = RULES[rule]
        if not follows(values[field], wanted):
            shown = "(set)" if rule == "is_set" and _is_set(values[field]) else json.dumps(values[field])
            found.append(Difference(PREFIX + field.upper(), shown, words.format(json.dumps(wanted)), table["why"]))
    return found


def _is_set(value: Any) -> bool:
    return any(map(_is_set, value.values())) if isinstance(value, dict) else bool(value)


def _rule(table: Mapping[str, Any]) -> tuple[str, Any]:
    ((rule, wanted),) = ((name, value) for name, value in table.items() if name != "why")
    return rule, wanted

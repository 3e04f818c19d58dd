"""The inventory of keys and algorithms names every module that uses cryptography, and every file of a secret."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from orchestrator.settings import Settings
from tests.harness import ROOT

INVENTORY = (ROOT / "docs" / "cryptography.md").read_text(encoding="utf-8")
LIBRARIES = {"hmac", "cryptography", "jwt", "argon2", "ssl"}
NAMED = re.compile(rf"\b({'|'.join(LIBRARIES)})\b")  # otherwise there is no import, and no need to parse


def imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_inventory_names_each_module_that_uses_cryptography() -> None:
    using = {
        str(path.relative_to(ROOT))
        for package in ("orchestrator", "worker")
        for path in (ROOT / package).rglob("*.py")
        if NAMED.search(source := path.read_text(encoding="utf-8")) and LIBRARIES & set(imported(source))
    }
    assert using == set(re.findall(r"`((?:orchestrator|worker)/\S+\.py)`", INVENTORY))


def test_inventory_names_each_setting_of_a_secret() -> None:
    secret = {
        name for name in Settings.model_fields if re.search(r"(secret|key|password|secrets|keys)_(file|dir)$", name)
    }
    assert {f"MAYFLY_{name.upper()}" for name in secret} == set(re.findall(r"MAYFLY_\w+_(?:FILE|DIR)", INVENTORY))

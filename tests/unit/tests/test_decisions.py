"""Decision records keep their template: a numbered title that the file is named after, and four parts in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness import ROOT

RECORDS = sorted((ROOT / "docs" / "decisions").iterdir())
PARTS = ["Question", "Findings", "Decision", "Considered and left"]
MOST_LINES = 40
GOOD = (
    "# 7. Take turns\n\n## Question\nQ?\n\n## Findings\nF\n\n## Decision\nD\n\n## Considered and left\n- *Left*: why\n"
)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def faults(name: str, text: str) -> list[str]:
    """Deviations of the record called ``name`` from the template, each as a sentence."""
    number, _, slug = name.removesuffix(".md").partition("-")
    title = re.match(r"# (\d+)\. (.+)\n", text)
    if not title:
        return ["the first line is no numbered title"]
    found = []
    if f"{int(title[1]):04}" != number:
        found.append("the title's number is not the file's")
    rest = iter(words(title[2]))
    if not all(word in rest for word in words(slug)):
        found.append("the file's words are not the title's, in the same order")
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    if parts[::2] != PARTS:
        found.append(f"the parts are {parts[::2]}")
    if not all(part.strip() for part in parts[1::2]):
        found.append("a part is empty")
    if len(text.splitlines()) > MOST_LINES:
        found.append(f"it has more than {MOST_LINES} lines")
    return found


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_decision_record_follows_the_template(path: Path) -> None:
    assert faults(path.name, path.read_text()) == []


def test_decision_records_are_numbered_without_gaps() -> None:
    assert [int(path.name.partition("-")[0]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("0007-take-turns.md", GOOD.replace("# 7. ", "# "), "no numbered title"),
        ("0008-take-turns.md", GOOD, "number"),
        ("0007-turns-take.md", GOOD, "words"),
        ("0007-tenants-take-turns.md", GOOD, "words"),
        ("0007-take-turns.md", GOOD.replace("Findings", "Found"), "parts"),
        ("0007-take-turns.md", GOOD.replace("## Findings\nF\n", ""), "parts"),
        ("0007-take-turns.md", GOOD.replace("Q?\n", ""), "empty"),
        ("0007-take-turns.md", GOOD + "more\n" * MOST_LINES, "lines"),
    ],
)
def test_deviation_from_the_template_is_found(name: str, text: str, fault: str) -> None:
    assert faults("0007-take-turns.md", GOOD) == []
    (found,) = faults(name, text)
    assert fault in found

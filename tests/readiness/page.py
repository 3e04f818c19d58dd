"""``docs/production-readiness.md``, from its source."""

from __future__ import annotations

from itertools import groupby

from tests.readiness.checklist import Checklist

HEAD = """# Readiness for production

Generated from [production-readiness.toml](production-readiness.toml) by `python -m tests.readiness --page`: the
lines of three public checklists for production, what operators of comparable systems report as faults of those
(`operators`), and what proves each of them in this checkout. The checklists are other products'; their lines are
quoted unchanged, also where they name a part of another product.

`make readiness` runs all proofs, each once, and prints which lines hold, which do not, and which cannot be proven here.
It needs root and an engine, and ends with 1 if a line does not hold. No line is ticked by hand: a line holds if all of
its proofs succeed. A line that has a reason, too, is proven in part.
"""


def escaped(text: str) -> str:
    """Text in a table's cell. Backticks would make a file of another product look like one of ours."""
    return text.replace("`", "").replace("|", "\\|").replace("<", "&lt;")


def page(checklist: Checklist) -> str:
    """The whole page."""
    parts = [HEAD]
    lines = checklist.lines()
    proven = sum(not line.reason for line in lines)
    parts.append(
        f"{len(lines)} lines: {proven} with proofs alone, "
        f"{sum(bool(line.proof and line.reason) for line in lines)} with proofs and a reason, "
        f"{sum(not line.proof for line in lines)} with a reason alone.\n"
    )
    for source, sections in groupby(checklist.sections, lambda section: section.source):
        parts.append(f"\n## {source}\n")
        for section in sections:
            parts.append(f"\n### {escaped(section.title)}\n\n| line | | proof | reason |\n|---|---|---|---|\n")
            parts += [
                f"| {line.id.rpartition('/')[2]} | {escaped(line.text)} | {', '.join(line.proof)} "
                f"| {', '.join(line.reason)} |\n"
                for line in section.lines
            ]
    parts.append("\n## Proofs\n\n| name | commands |\n|---|---|\n")
    for name, commands in checklist.proofs.items():
        parts.append(f"| {name} | {'<br>'.join(f'`{command}`' for command in commands)} |\n")
    parts.append("\n## Reasons\n\n| name | |\n|---|---|\n")
    parts += [f"| {name} | {reason} |\n" for name, reason in checklist.reasons.items()]
    return "".join(parts)

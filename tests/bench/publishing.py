"""Generated sections of documents, each between its marks."""

from __future__ import annotations

import re


def marked(name: str, text: str) -> str:
    """A section between its marks."""
    return f"<!-- begin {name} -->\n{text.rstrip()}\n<!-- end {name} -->"


def published(document: str, found: dict[str, str]) -> str:
    """The document with these sections in place of what was between their marks. Raises :class:`ValueError`."""
    for name, text in found.items():
        pattern = re.compile(f"<!-- begin {name} -->\n.*?<!-- end {name} -->", re.DOTALL)
        document, replaced = pattern.subn(marked(name, text).replace("\\", r"\\"), document)
        if replaced != 1:
            raise ValueError(f"The document has {replaced} places for {name!r} instead of one.")
    return document

"""Prints docs/compatibility.md: ``python -m tests.conformance > docs/compatibility.md``."""

from tests.conformance.known import page

print(page(), end="")

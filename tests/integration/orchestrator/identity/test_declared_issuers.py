"""Pages of issuers: each issuer once, those of the settings included, and no more than a page has."""

from __future__ import annotations

import pytest

from orchestrator.errors import TooManyRecords, ValidationFailed
from orchestrator.identity.issuers.declared import MOST_ISSUERS, DeclaredIssuers
from orchestrator.models.issuers import Issuer
from orchestrator.queries import cursors
from orchestrator.store import Store


def issuer(name: str) -> Issuer:
    return Issuer(issuer=f"https://{name}.example", audience="mayfly", tenant="t")


def test_pages_have_each_issuer_once_and_no_more_than_their_bound(store: Store) -> None:
    declared = DeclaredIssuers(store, b"secret", [issuer("c"), issuer("f")])
    for name in "edabg":
        declared.put(issuer(name), "")
    pages: list[list[str]] = []
    cursor: str | None = None
    while not pages or (cursor is not None and len(pages) < 9):
        items, cursor = declared.page(3, cursor)
        pages.append([one.issuer for one in items])
    assert pages == [[f"https://{name}.example" for name in names] for names in ("abc", "def", "g")]
    assert declared.page(7, None)[1] is None, "a full last page has no next"
    with pytest.raises(ValidationFailed):
        declared.page(3, cursors.closed(cursors.list_id("tenants"), "https://a.example"))


def test_issuers_are_bounded(store: Store) -> None:
    declared = DeclaredIssuers(store, b"secret", [])
    for number in range(MOST_ISSUERS):
        declared.put(issuer(f"i{number}"), "")
    with pytest.raises(TooManyRecords):
        declared.put(issuer("one-more"), "")
    declared.put(issuer("i7"), "")
    declared.remove(declared.all()[0].id, "")
    declared.put(issuer("one-more"), "")

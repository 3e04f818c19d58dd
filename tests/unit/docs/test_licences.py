"""Each third-party package states a licence that is permitted, and the page lists all of them."""

from __future__ import annotations

from email.message import Message
from importlib.metadata import Distribution

import pytest

from tests import licences
from tests.harness import ROOT

# Of `requirements.lock`, for other systems alone.
ELSEWHERE = {"colorama", "httpx2-jsfetch", "pywin32"}


class Stated(Distribution):
    """A package with these fields."""

    def __init__(self, **fields: str) -> None:
        self._message = Message()
        for name, value in {"Name": "x", **fields}.items():
            self._message[name.replace("_", "-")] = value

    @property
    def metadata(self) -> Message:  # type: ignore[override]
        return self._message

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: object) -> None:  # type: ignore[override]
        return None


def test_every_locked_package_has_a_permitted_licence() -> None:
    found = dict(licences.packages())
    assert found.keys() | ELSEWHERE == licences.locked()
    assert {name: stated for name, stated in found.items() if not licences.is_permitted(stated)} == {}


def test_page_is_current() -> None:
    hint = "python -m tests.licences > docs/operations/third-party-licences.md"
    assert (ROOT / "docs" / "operations" / "third-party-licences.md").read_text() == licences.page(), hint


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License_Expression": "GPL-3.0-only"}, False),
        ({"License_Expression": "MIT AND GPL-2.0-only"}, False),
        ({"License_Expression": "GPL-2.0-only OR MIT"}, True),
        ({"License": "Proprietary"}, False),
        ({"Classifier": "License :: OSI Approved :: GNU Affero General Public License v3"}, False),
        ({"Classifier": "License :: OSI Approved :: MIT License"}, True),
        ({}, False),
    ],
)
def test_licence_that_is_not_permitted_is_found(fields: dict[str, str], expected: bool) -> None:
    assert licences.is_permitted(licences.licence(Stated(**fields))) is expected

"""Spellings of tools are identifiers, and no two tools are spelt alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.models.tools import Catalogue, Tool
from orchestrator.tools.names import is_identifier, spellings, spelt_tools
from tests.bench.tokens.catalogues import LISTED, catalogues


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["list_issues"], ["list_issues"]),
        (["list-issues"], ["list_issues"]),
        (["list-issues", "list_issues"], ["list_issues_2", "list_issues"]),
        (["list-issues", "list.issues", "list/issues"], ["list_issues", "list_issues_2", "list_issues_3"]),
        (["a-b", "a_b", "a_b_2"], ["a_b_3", "a_b", "a_b_2"]),
        (["del", "aio", "then", "constructor"], ["del_", "aio_", "then_", "constructor_"]),
        (["del", "del_"], ["del__2", "del_"]),
        (["2fa", "_x", "__class__", "-"], ["t2fa", "t_x", "t__class__", "t_"]),
        (["..", "../../etc/passwd"], ["t__", "t______etc_passwd"]),
        (["match", "type"], ["match", "type"]),
        (["locals"], ["locals_"]),
    ],
)
def test_name_has_its_spelling(names: list[str], expected: list[str]) -> None:
    assert [spellings(names)[name] for name in names] == expected


@given(st.lists(st.from_regex(r"\A[A-Za-z0-9_./-]{1,12}\Z") | st.sampled_from(["a-b", "a_b", "a.b", "del", "aio"])))
def test_spellings_are_identifiers_and_distinct(names: list[str]) -> None:
    found = spellings(names)
    assert set(found) == set(names)
    assert len(set(found.values())) == len(found)
    assert all(is_identifier(spelling) for spelling in found.values())
    assert all(found[name] == name for name in names if is_identifier(name))
    assert found == spellings(reversed(names))


def test_a_spelling_has_its_server_and_tool() -> None:
    tool = Tool(server="my-server", name="a.b", input_schema={})
    catalogue = Catalogue(server="my-server", state="ready", tools=(tool,), since=LISTED)
    assert spelt_tools([catalogue]) == {"my-server.a.b": "my_server.a_b"}


def test_public_catalogues_have_a_spelling_for_each_tool() -> None:
    assert len(set(spelt_tools(catalogues()).values())) == 358

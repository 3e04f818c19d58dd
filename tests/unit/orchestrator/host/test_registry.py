"""Addresses of registries."""

from __future__ import annotations

import pytest

from orchestrator.errors import EnvironmentUnavailable
from orchestrator.host.registry import Registry


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://worker:precious@registry.example.com/mayfly", ", not http://registry.example.com."),
        ("registry.example.com/mayfly", "."),
        ("worker:precious@registry.example.com/mayfly", "."),
    ],
)
def test_refused_address_is_shown_without_its_password(address: str, shown: str) -> None:
    with pytest.raises(EnvironmentUnavailable) as refused:
        Registry(address)
    assert str(refused.value) == f"A repository has an https:// address{shown}"

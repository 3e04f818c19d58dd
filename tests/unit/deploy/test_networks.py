"""The networks that tests of the deployment use."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest

from tests.builders.processes.networks import RANGES, unused


def routes(*networks: str) -> str:
    return json.dumps([{"dst": "default"}, {"type": "local", "dst": "127.0.0.1"}, *({"dst": one} for one in networks)])


def test_network_overlaps_no_route() -> None:
    """One network is left, and then none."""
    kept = IPv4Network("10.100.7.0/24")
    others = [str(one) for one in IPv4Network(RANGES[0]).address_exclude(kept)]
    assert unused(routes(*others)) == "10.100.7"
    assert unused(routes(*others, "10.100.7.9")).startswith("198.1"), "the address of an interface is in the way"


def test_host_without_a_free_network_is_named() -> None:
    assert unused(routes("10.0.0.0/8")).startswith("198.1")
    with pytest.raises(AssertionError, match="every network"):
        unused(routes("10.0.0.0/8", "198.18.0.0/15"))
